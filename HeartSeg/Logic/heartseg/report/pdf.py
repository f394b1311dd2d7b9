"""The report as a PDF of two A4 pages with vector graphics, made with WeasyPrint from the parts of the page."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ..errors import DependencyError, writing
from ..formats import missing_package
from .model import Report
from .numbers import SEGMENTS_TITLE
from .parts import asset, charts, finding_lines, general_findings, header, key_table, method, views

PAGES = 2
FINDINGS_SHOWN = 6
_SCALES = (1.0, 0.92, 0.84, 0.76)
"""Sizes of the text, tried until the report has two pages: it is set on larger pages, which are then reduced to A4."""
_NOT_PRINTED = ("extent_", "sd_intensity", "mean_intensity")
"""Quantities that only the page shows: they help to check labels, not to read a heart."""
_FIRST_PAGE = ("four_chamber", "two_chamber", "three_chamber", "short_axis")


def write_pdf(report: Report, path: str | Path) -> None:
    """Write the PDF.

    Raises:
        DependencyError: WeasyPrint or Pango is not installed.
        OutputError: the file cannot be written.
    """
    if why := missing_package("pdf"):
        raise DependencyError(why)
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher

    fetcher = URLFetcher(allowed_protocols=["data"])
    for scale in _SCALES:
        document = HTML(string=print_text(report, scale), url_fetcher=fetcher).render()
        if len(document.pages) <= PAGES:
            break
    content = document.write_pdf(zoom=scale)
    with writing(path):
        Path(path).write_bytes(content)


def print_text(report: Report, scale: float = 1.0) -> str:
    """HTML text of the two pages: key numbers and views; curves, segments, all numbers, method and limits."""
    general = general_findings(report)
    more = len(general) - FINDINGS_SHOWN
    first = [p for key in _FIRST_PAGE for p in report.pictures if p.key == key]
    rest = [p for p in report.pictures if p not in first]
    parts = [
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(report.title)}</title>',
        f"<style>{asset('print.css')} @page {{ size: {210 / scale:.2f}mm {297 / scale:.2f}mm; }}</style></head><body>",
        header(report),
        "<h2>Key numbers</h2>",
        finding_lines(general[:FINDINGS_SHOWN]),
        f'<p class="small">and {more} more findings in report.html</p>' if more > 0 else "",
        key_table(report),
        f"<h2>Views</h2>{views(report, [*first, *rest])}" if report.pictures else "",
        f'<div class="second">{charts(report)}</div>',
        f'<h2>More numbers</h2><div class="columns">{_short_table(report)}</div>',
        f"<h2>Method</h2>{method(report)}",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _short_table(report: Report) -> str:
    """Numbers that are neither key numbers nor of single segments, without their notes."""
    tables = []
    for group in report.groups:
        rest = [n for n in group.numbers if n not in report.key_numbers and n.value is not None]
        rest = [n for n in rest if not n.quantity.startswith(_NOT_PRINTED)]
        if rest and group.title != SEGMENTS_TITLE:
            rows = "".join(
                f'<tr><td>{escape(n.name)}</td><td class="value">{n.value_text} {escape(n.unit)}</td>'
                f'<td class="interval small">{n.interval_text}</td></tr>'
                for n in rest
            )
            tables.append(f"<h3>{escape(group.title)}</h3><table><tbody>{rows}</tbody></table>")
    return "".join(tables)
