"""Two visits side by side: differences with intervals, warnings, and the same planes through both hearts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import writing
from ..findings import Finding
from ..measure.boxes import crop_labels
from ..measure.planes import ViewPlane
from ..measure.study import Study
from ..measure.visits import Alignment, Difference, align, differences, limitations
from ..result import Result, json_ready
from ..version import __version__
from ..volume.types import Volume
from .build import INTERVALS
from .model import USE, Picture
from .numbers import SEGMENTS_TITLE, groups_of, key_numbers, name_of, numbers_of
from .parts import asset, finding_lines, key
from .pictures import draw, frames_of
from .svg import picture_svg
from .window import display_window

_SHOWN = ("four_chamber", "short_axis", "axial", "coronal")


@dataclass(frozen=True, eq=False)
class Visit:
    """One of two visits: measures, labels, and the scan if it is available."""

    study: Study
    result: Result
    volume: Volume | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two visits of a patient.

    Attributes:
        key_differences: differences to read first.
        differences: all differences, except those of single segments.
        warnings: reasons why the visits may not be comparable.
        pictures: pairs of the same plane, earlier and later.
        alignment: from the earlier to the later visit.
        created: dates of both segmentations.
    """

    key_differences: tuple[Difference, ...]
    differences: tuple[Difference, ...]
    warnings: tuple[Finding, ...]
    pictures: tuple[tuple[Picture, Picture], ...]
    alignment: Alignment
    created: tuple[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary ready for JSON; mm, world LPS."""
        content = {
            "schema": {"name": "heartseg-comparison", "version": 1},
            "use": USE,
            "segmented": self.created,
            "warnings": [f.to_dict() for f in self.warnings],
            "alignment": {
                "rotation": self.alignment.rotation,
                "shift_mm": self.alignment.shift,
                "angle_deg": self.alignment.angle_deg,
                "dice": self.alignment.overlap,
            },
            "differences": [
                {**asdict(d), "difference": d.difference, "is_clear": d.is_clear} for d in self.differences
            ],
        }
        return dict(json_ready(content))


def compare_visits(before: Visit, after: Visit) -> Comparison:
    """Compare two visits.

    Raises:
        InputError: one of them has no heart.
    """
    found = align((before.result.labels, before.result.geometry), (after.result.labels, after.result.geometry))
    every = differences(before.study, after.study)
    numbers = numbers_of(after.study, ())
    first = [(n.structure, n.quantity) for n in key_numbers(numbers, after.study.function is not None)]
    single = {n.quantity for g in groups_of(numbers) if g.title == SEGMENTS_TITLE for n in g.numbers}
    by_name = {(d.structure, d.quantity): d for d in every}
    return Comparison(
        tuple(by_name[name] for name in first if name in by_name),
        tuple(d for d in every if d.quantity not in single),
        limitations(before.study, after.study, (before.result.geometry, after.result.geometry), found),
        _pictures(before, after, found),
        found,
        (before.result.provenance.created, after.result.provenance.created),
    )


def _pictures(before: Visit, after: Visit, alignment: Alignment) -> tuple[tuple[Picture, Picture], ...]:
    crops = [crop_labels(v.result.labels, v.result.geometry) for v in (before, after)]
    assert crops[0] is not None and crops[1] is not None
    scans = (before.volume, after.volume)
    windows = [None if v is None else display_window(v, c) for v, c in zip(scans, crops, strict=True)]
    planes = before.study.heart.planes if before.study.heart is not None else None
    pairs = []
    for frame in (f for f in frames_of(crops[0], planes) if f.key in _SHOWN):
        title = frame.title.partition(",")[0]  # the position is that in the earlier scan
        moved = replace(frame, title=title, plane=_moved(frame.plane, alignment))
        one = draw(frame, before.volume, windows[0], crops[0], before.result.structures)
        two = draw(moved, after.volume, windows[1], crops[1], after.result.structures)
        pairs.append((one, two))
    return tuple(pairs)


def _moved(plane: ViewPlane, alignment: Alignment) -> ViewPlane:
    """Return the plane in the world of the later visit."""
    parts = (
        alignment.apply(np.array(plane.center_lps_mm)),
        alignment.rotation @ np.array(plane.right_lps),
        alignment.rotation @ np.array(plane.up_lps),
    )
    center, right, up = ((float(x), float(y), float(z)) for x, y, z in parts)
    return ViewPlane(center, right, up)


def difference_text(d: Difference) -> str:
    """``"+12 mL (±6)"``, or why there is no difference."""
    decimals = name_of(d.structure, d.quantity)[1]
    change = d.difference
    if change is None:
        return d.why or "not measured"
    width = "" if d.half_width is None else f" (±{d.half_width:.{decimals}f})"
    return f"{change:+.{decimals}f} {d.unit}".strip() + width


def format_comparison(comparison: Comparison) -> str:
    """Text: warnings, then the key differences."""
    lines = [f"{f.severity.value}: {f.message} [{f.code}]" for f in comparison.warnings]
    width = max((len(name_of(d.structure, d.quantity)[0]) for d in comparison.key_differences), default=0)
    for d in comparison.key_differences:
        name, decimals = name_of(d.structure, d.quantity)
        values = [f"{v:.{decimals}f}" if v is not None else "-" for v in (d.before, d.after)]
        mark = "  larger than its interval" if d.is_clear else ""
        lines.append(f"{name:<{width}} {values[0]:>8} {values[1]:>8}  {difference_text(d)}{mark}")
    return "\n".join(lines)


def write_comparison_page(comparison: Comparison, path: str | Path) -> None:
    """Write the comparison as one HTML file that needs no network.

    Raises:
        OutputError: the file cannot be written.
    """
    drawn = [p for pair in comparison.pictures for p in pair]
    figures = "".join(
        f"<figure>{picture_svg(p)}<figcaption>{escape(p.title)}: {when}</figcaption></figure>"
        for pair in comparison.pictures
        for p, when in zip(pair, ("earlier", "later"), strict=True)
    )
    limits = (
        f"{INTERVALS} The interval of a difference treats the errors of both values as independent.",
        "The later heart is rigidly aligned with the earlier one by the labels; pictures show the same planes of both.",
    )
    dates = " and ".join(d[:10] for d in comparison.created)
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Two visits - HeartSeg</title>',
        f"<style>{asset('page.css')} .views {{ grid-template-columns: 1fr 1fr; max-width: 760px; }}</style></head>",
        "<body>",
        f'<header><h1>Two visits</h1><p class="sub">segmented {escape(dates)}'
        f'</p></header><p class="notice">{escape(USE)}</p><main><h2>Differences</h2>',
        finding_lines(comparison.warnings),
        _table(comparison.key_differences),
        f'<h2>Pictures</h2><div class="views">{figures}</div>{key(drawn)}',
        f"<details><summary>All differences ({len(comparison.differences)})</summary>",
        f"{_table(comparison.differences)}</details>",
        f"<h2>Limits</h2><ul>{''.join(f'<li>{escape(text)}</li>' for text in limits)}</ul></main>",
        f"<footer>HeartSeg {escape(__version__)} · {escape(USE)}</footer></body></html>",
    ]
    with writing(path):
        Path(path).write_text("\n".join(parts) + "\n", encoding="utf-8")


def _table(rows: tuple[Difference, ...]) -> str:
    body = []
    for d in rows:
        name, decimals = name_of(d.structure, d.quantity)
        values = [f"{v:.{decimals}f} {escape(d.unit)}" if v is not None else "–" for v in (d.before, d.after)]
        css, mark = (' class="outside"', " larger than its interval") if d.is_clear else ("", "")
        body.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="value">{values[0]}</td>'
            f'<td class="value">{values[1]}</td><td><span{css}>{escape(difference_text(d))}</span>'
            f'<span class="small">{mark}</span></td></tr>'
        )
    heads = "".join(f'<th scope="col">{h}</th>' for h in ("Measure", "Earlier", "Later", "Later minus earlier"))
    return f'<table class="numbers pair"><thead><tr>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table>'
