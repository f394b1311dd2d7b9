"""The report as a self-contained HTML page, printable on A4.

Pictures are embedded as data URIs, all external text is escaped, and a content security policy blocks network access.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..anatomy import structure
from ..errors import OutputError
from ..findings import Finding, sorted_findings
from ..provenance import InputFacts, RunFacts
from ..result import Result
from ..version import __version__
from ..volume.types import Volume
from .measurements import MeasurementRow, measurements_table
from .preview import view_pictures

_IN_TABLE = ("volume", "mass", "diameter")
"""Quantities of the page's table, whose notes it shows."""
_NOTICE = "Research use only, not a medical device. Check the segmentation before you use these measures."
_CAPTIONS = {
    "axial": "Axial slice through the centre of the heart",
    "coronal": "Coronal slice through the centre of the heart",
    "sagittal": "Sagittal slice through the centre of the heart",
    "front": "The heart from the front; the patient's right is on the left",
}

_STYLE = """
@page { size: A4; margin: 14mm 15mm; }
* { box-sizing: border-box; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
html { background: #fff; }
body { font: 10pt/1.4 "Segoe UI", "Helvetica Neue", Helvetica, Arial, "DejaVu Sans", sans-serif; color: #1b1f24;
  max-width: 180mm; margin: 0 auto; padding: 8mm 4mm; }
@media print { body { padding: 0; max-width: none; } .views { width: 88%; margin: 0 auto; } }
header { border-bottom: 2px solid #1b1f24; padding-bottom: 2mm; }
h1 { font-size: 17pt; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 11.5pt; margin: 6mm 0 2mm; break-after: avoid; }
.sub { color: #57606a; margin: 1mm 0 0; overflow-wrap: anywhere; }
.notice { border: 1.5px solid #9a6700; background: #fff8e5; color: #6b4700; font-weight: 600; padding: 1.5mm 3mm;
  margin: 4mm 0; }
.views { display: grid; grid-template-columns: 1fr 1fr; gap: 3mm; }
figure { margin: 0; break-inside: avoid; }
figure img { display: block; width: 100%; border: 0.5px solid #b7bdc5; }
figcaption { color: #57606a; font-size: 8.5pt; margin-top: 0.8mm; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
thead { display: table-header-group; }
tr { break-inside: avoid; }
th, td { text-align: right; padding: 1.1mm 2mm; border-bottom: 0.5px solid #d0d7de; vertical-align: baseline; }
th { font-size: 8.5pt; color: #57606a; font-weight: 600; border-bottom: 1px solid #57606a; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.swatch { display: inline-block; width: 3.2mm; height: 3.2mm; border: 0.5px solid #57606a; margin-right: 2mm;
  vertical-align: -0.4mm; }
.out { font-weight: 700; color: #a40e26; }
.none { color: #8b949e; }
ul.findings { list-style: none; margin: 0; padding: 0; }
ul.findings li { border-left: 3px solid; padding: 0.6mm 0 0.6mm 3mm; margin: 0 0 1.8mm; break-inside: avoid; }
.error { border-color: #cf222e; } .warning { border-color: #bf8700; } .info { border-color: #0969da; }
.severity { font-size: 8pt; font-weight: 700; text-transform: uppercase; letter-spacing: 0.04em; margin-right: 1.5mm; }
.error .severity { color: #a40e26; } .warning .severity { color: #7d4e00; } .info .severity { color: #0550ae; }
.code, .small { color: #57606a; font-size: 8.5pt; }
.how td:first-child { width: 42mm; color: #57606a; } .how td { text-align: left; overflow-wrap: anywhere; }
footer { margin-top: 6mm; border-top: 0.5px solid #b7bdc5; padding-top: 1.5mm; color: #57606a; font-size: 8.5pt; }
"""


def write_page(
    volume: Volume,
    result: Result,
    surfaces: Sequence[tuple[Any, str | Path]],
    path: str | Path,
    title: str = "",
    notices: Sequence[str] = (),
) -> None:
    """Write the report page.

    Args:
        volume: the scan, for the pictures.
        result: measures, findings and provenance.
        surfaces: structures and their STL files, LPS, mm, for the frontal view; if empty, the labels are shaded.
        path: HTML file to write.
        title: title of the page; by default the name of the scan.
        notices: remarks about the origin of the segmentation, one sentence each.

    Raises:
        DependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    pictures = view_pictures(volume, result, surfaces)
    text = page_text(result, pictures, title or volume.name, volume, notices)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


def page_text(
    result: Result, pictures: Mapping[str, bytes], title: str, volume: Volume, notices: Sequence[str] = ()
) -> str:
    """HTML text of the page; ``pictures``: view -> PNG data."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)} - HeartSeg report</title><style>{_STYLE}</style></head><body>",
        f'<header><h1>{escape(title)}</h1><p class="sub">{escape(_subtitle(result, volume))}</p></header>',
        f'<p class="notice">{_NOTICE}</p>',
        _views(pictures),
        "<h2>Measures</h2>",
        _measures(result),
        "<h2>Findings</h2>",
        _findings(result.findings),
        *([f'<p class="small">{escape(_sentence(n))}</p>' for n in notices]),
        "<h2>Provenance</h2>",
        _provenance(result, volume),
        f"<footer>HeartSeg {escape(__version__)} · {_NOTICE}</footer>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _sentence(text: str) -> str:
    sentence = text[:1].upper() + text[1:]
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _subtitle(result: Result, volume: Volume) -> str:
    x, y, z = result.geometry.spacing
    parts = (
        "Whole-heart segmentation",
        result.provenance.model_label and f"model {result.provenance.model_label}",
        volume.modality if volume.source.path else "",
        f"{x:.2f} × {y:.2f} × {z:.2f} mm",
        result.provenance.created[:10],
    )
    return " · ".join(part for part in parts if part)


def _views(pictures: Mapping[str, bytes]) -> str:
    figures = []
    for name, content in pictures.items():
        data = base64.b64encode(content).decode("ascii")
        caption = escape(_CAPTIONS.get(name, name))
        image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
        figures.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="views">{"".join(figures)}</div>'


def _measures(result: Result) -> str:
    rows = measurements_table(result)
    unit = next((r.intensity_unit for r in rows if r.intensity_unit), "")
    intensity = any(r.mean_intensity is not None for r in rows)
    heads = ["Structure", "Volume<br>mL", "Mass<br>g", "Diameter<br>mm"]
    heads += [f"Intensity, mean ± SD<br>{escape(unit) or 'no unit'}"] if intensity else []
    heads += ["Plausible<br>in adults"]
    body = "".join(f"<tr>{_cells(row, intensity)}</tr>" for row in rows)
    shown = [m for m in result.measures if m.quantity in _IN_TABLE and m.note and m.value is not None]
    notes = [f"{structure(m.structure).name}: {m.note}" for m in shown]
    return (
        f"<table><thead><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr></thead><tbody>{body}</tbody></table>"
        '<p class="small">The last column is the plausible range in adults. It is not a normal range: a value within '
        f"it does not indicate a healthy heart. {escape(' '.join(_sentence(n) for n in notes))}</p>"
    )


def _cells(row: MeasurementRow, intensity: bool) -> str:
    known = structure(row.key)
    low, high = known.plausible
    unit = known.plausible_unit.split()[0]
    r, g, b = row.color
    name = row.name[:1].upper() + row.name[1:]
    cells = [f'<td><span class="swatch" style="background:rgb({r},{g},{b})"></span>{escape(name)}</td>']
    for value, its_unit in ((row.volume_ml, "mL"), (row.mass_g, "g"), (row.diameter_mm, "mm")):
        applies = its_unit == "mL" or value is not None
        outside = value is not None and its_unit == unit and not low <= value <= high
        text = f"{value:.1f}" if value is not None else "not found" if applies else "–"
        style = ' class="out"' if outside else ' class="none"' if value is None else ""
        cells.append(f"<td{style}>{text}{' ⚠' if outside else ''}</td>")
    if intensity:
        spread = row.mean_intensity is not None and row.sd_intensity is not None
        cells.append(f"<td>{row.mean_intensity:.0f} ± {row.sd_intensity:.0f}</td>" if spread else "<td>–</td>")
    cells.append(f"<td>{low:g}–{high:g} {escape(unit)}</td>")
    return "".join(cells)


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>No findings. This does not prove that the segmentation is correct: check it.</p>"
    lines = [
        f'<li class="{f.severity.value}"><span class="severity">{f.severity.value}</span>{escape(f.message)} '
        f'<span class="code">{escape(f.code)}</span></li>'
        for f in sorted_findings(findings)
    ]
    return f'<ul class="findings">{"".join(lines)}</ul>'


def _provenance(result: Result, volume: Volume) -> str:
    made, geometry = result.provenance, result.geometry
    source, run = made.input or InputFacts(), made.run or RunFacts()
    total = sum(made.seconds.values())
    entries = {
        "Scan": source.name or (volume.name if volume.source.path else ""),
        "Segmentation": Path(made.segmentation).name,
        "SHA-256 of the scan": source.sha256 or volume.source.sha256,
        "Grid": f"{' × '.join(map(str, geometry.size))} voxels, {geometry.orientation}",
        "Model": made.model_label,
        "Device": run.device,
        "Averaged predictions": "yes" if run.accurate else "",
        "Segmented": made.created,
        "Seconds": f"{total:.1f}" if total else "",
        "Software": f"HeartSeg {made.heartseg or __version__}",
    }
    rows = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in entries.items() if v)
    return f'<table class="how"><tbody>{rows}</tbody></table>'
