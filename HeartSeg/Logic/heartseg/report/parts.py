"""Parts of a report as HTML text, shared by the page and the PDF. All text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from ..anatomy import STRUCTURES
from ..findings import Finding
from .model import Number, Picture, Report
from .svg import DASHES, bullseye_svg, color_of_structure, curves_svg, picture_svg


def asset(name: str) -> str:
    """Text of a file of the package's folder ``assets``."""
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def header(report: Report) -> str:
    """Title, what is known of patient and scan, and the notice."""
    return (
        f'<header><h1>{escape(report.title)}</h1><p class="sub">{escape(" · ".join(_context(report)))}</p></header>'
        f'<p class="notice">{escape(report.use)}</p>'
    )


def _context(report: Report) -> list[str]:
    patient, study = report.patient, report.study
    sex = {"M": "male", "F": "female"}.get(patient.sex or "", "")
    rows = (
        (patient.height_cm, "{:.0f} cm"),
        (patient.weight_kg, "{:.0f} kg"),
        (patient.bsa_m2, "{:.2f} m² body surface"),
        (patient.heart_rate_text or None, "{}"),
    )
    known = [text.format(value) for value, text in rows if value is not None]
    frames = f"{study.frames} frames" if study.frames is not None else ""
    parts = [study.modality, study.phase, frames, sex, *known, report.created[:10]]
    return [part for part in parts if part]


def key_table(report: Report) -> str:
    """The key numbers."""
    return number_table(report.key_numbers, "Value, interval, reference range with its source, and findings")


def number_table(numbers: Sequence[Number], caption: str, css: str = "", with_findings: bool = True) -> str:
    """A table of numbers; the findings of a structure stand beside its first number."""
    heads = ("Measure", "Value", "Interval", "Reference range", "Findings" if with_findings else "Method")
    shown: set[str] = set()
    rows = []
    for number in numbers:
        first = number.structure not in shown
        shown.add(number.structure)
        last = finding_lines(number.findings) if with_findings and first else "" if with_findings else _note(number)
        rows.append(_row(number, last))
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    return (
        f'<table class="numbers {css}"><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _row(number: Number, last: str) -> str:
    known = number.value is not None
    value = f"<b>{number.value_text}</b> {escape(number.unit)}" if known else '<b class="muted">–</b>'
    return (
        f'<tr><th scope="row">{escape(number.name)}</th><td class="value">{value}</td>'
        f'<td class="interval">{number.interval_text}</td><td>{_range(number)}</td><td>{last}</td></tr>'
    )


def _range(number: Number) -> str:
    parts = []
    if number.limits is not None:
        low, high = number.limits
        parts.append(f'<span class="outside">⚠ implausible (limits {low:g} to {high:g}): check the segmentation</span>')
    if number.norm is not None:
        mark = {"below": "↓ below", "above": "↑ above"}.get(number.position, "within")
        css = ' class="outside"' if number.position != "within" else ""
        parts.append(
            f"<span{css}>{mark}</span> {escape(number.norm.text)} "
            f'<span class="small">{escape(number.norm.basis)}; {escape(number.norm.source)}</span>'
        )
    elif number.reason:
        parts.append(f'<span class="small">{escape(number.reason)}</span>')
    return " ".join(parts)


def _note(number: Number) -> str:
    return f'<span class="small">{escape(number.note)}</span>'


def finding_lines(findings: Iterable[Finding]) -> str:
    """Findings, one per line with the severity in words."""
    return "".join(
        f'<span class="finding {f.severity.value}"><span class="severity">{f.severity.value}</span>'
        f'{escape(f.message)} <span class="small">{escape(f.code)}</span></span>'
        for f in findings
    )


def general_findings(report: Report) -> tuple[Finding, ...]:
    """Findings that stand beside no key number."""
    beside = {n.structure for n in report.key_numbers}
    return tuple(f for f in report.findings if f.structure not in beside)


def charts(report: Report) -> str:
    """Curves and bull's-eye plots; empty without both."""
    figures = []
    if report.course is not None:
        notes = "; ".join(report.course.notes)
        figures.append(
            f'<figure class="wide">{curves_svg(report.course)}'
            f"<figcaption>Volumes over the heart beat. {escape(notes)}</figcaption></figure>"
        )
    figures += [
        f"<figure>{bullseye_svg(m)}<figcaption>AHA segments, seen from the apex</figcaption></figure>"
        for m in report.segment_maps
    ]
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def views(report: Report, pictures: Sequence[Picture]) -> str:
    """Planes with contours, the heart from the front, and the key of the lines."""
    figures = [f"<figure>{picture_svg(p)}<figcaption>{escape(p.title)}</figcaption></figure>" for p in pictures]
    if report.front:
        data = base64.b64encode(report.front).decode("ascii")
        caption = "From the front; the patient's right is on the left"
        figures.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    window = report.study.window
    text = (
        ""
        if window is None
        else f'<p class="small">Grey values {window[0]:.0f} (black) to {window[1]:.0f} (white).</p>'
    )
    return f'<div class="views">{"".join(figures)}</div>{key(pictures)}{text}'


def key(pictures: Sequence[Picture]) -> str:
    """Which line is which structure."""
    drawn = {name for p in pictures for name in p.contours}
    items = []
    for s in STRUCTURES:
        if s.key in drawn:
            dash = f' stroke-dasharray="{DASHES[s.key]}"' if DASHES[s.key] else ""
            stroke = f'stroke="{color_of_structure(s.key)}" stroke-width="3"{dash}'
            line = f'<svg viewBox="0 0 30 10" aria-hidden="true"><path d="M0 5H30" {stroke}/></svg>'
            items.append(f"<li>{line}{s.key} {escape(s.name)}</li>")
    return f'<ul class="key">{"".join(items)}</ul>' if items else ""


def method(report: Report) -> str:
    """Scan, method, remarks and limits."""
    facts = (("Scan", report.study.grid), ("SHA-256 of the scan", report.study.sha256), *report.method.facts)
    rows = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in facts if v)
    remarks = "".join(f"<li>{escape(text)}</li>" for text in (*report.method.remarks, *report.limits))
    return f'<table class="how"><tbody>{rows}</tbody></table><h2>Limits</h2><ul>{remarks}</ul>'
