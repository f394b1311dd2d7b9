"""Charts of a cohort as SVG text: histograms with reference ranges, and bars of findings.

Colours differ for colour-blind readers (Okabe and Ito), and no meaning rests on colour alone: outliers are hatched.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..findings import Severity
from ..measure.norms import Norm
from ..report.numbers import name_of
from .judging import Distribution

BLUE, VERMILLION = "#0072b2", "#d55e00"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM = 330, 128, 10, 320, 96
_ROW = 20
_BINS = 31
_WIDEST = 8.0
"""Histograms end at this modified z-score; the last bar contains all values beyond it."""


def limits_of(distribution: Distribution) -> tuple[float, float]:
    """Return the ends of the axis of a histogram."""
    low, high = distribution.values[0], distribution.values[-1]
    if distribution.spread > 0:
        low, high = max(low, distribution.at_score(-_WIDEST)), min(high, distribution.at_score(_WIDEST))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def histogram_svg(distribution: Distribution, number: int) -> str:
    """Return a histogram with reference ranges below it, and a hidden mark that a script moves to the case shown.

    Args:
        distribution: at least one value.
        number: place in the list of distributions, by which the script finds it.
    """
    title, decimals = title_of(distribution)
    low, high = limits_of(distribution)
    counts, odd = [0] * _BINS, [0] * _BINS
    for value in distribution.values:
        k = min(_BINS - 1, max(0, int((value - low) / (high - low) * _BINS)))
        counts[k] += 1
        odd[k] += distribution.is_outlier(value)

    def at(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(1.0, max(0.0, (value - low) / (high - low)))

    most, step = max(counts), (_RIGHT - _LEFT) / _BINS
    said = f"{title}: {len(distribution.values)} values, median {distribution.median:.{decimals}f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT + _ROW * len(distribution.norms)}" '
        f'role="img" aria-label="{escape(said)}" font-size="11" data-number="{number}" data-low="{low}" '
        f'data-high="{high}" data-left="{_LEFT}" data-right="{_RIGHT}">'
    ]
    for k, (count, strange) in enumerate(zip(counts, odd, strict=True)):
        for size, fill in ((count - strange, BLUE), (strange, "url(#odd)")):
            if size:
                tall = 80 * size / most
                base = _BOTTOM - (80 * (count - strange) / most if fill != BLUE else 0)
                place = f'x="{_LEFT + k * step:.1f}" y="{base - tall:.1f}" width="{step - 1:.1f}" height="{tall:.1f}"'
                parts.append(f'<rect {place} fill="{fill}"/>')
    parts.append(f'<path d="M{_LEFT} {_BOTTOM}H{_RIGHT}" stroke="#57606a"/>')
    middle = at(distribution.median)
    parts.append(f'<path d="M{middle:.1f} {_BOTTOM - 86}V{_BOTTOM}" stroke="#1b1f24" stroke-dasharray="3 2"/>')
    beyond = "≤ " * (distribution.values[0] < low), "≥ " * (distribution.values[-1] > high)
    for value, anchor, sign in ((low, "start", beyond[0]), (high, "end", beyond[1])):
        text = f"{sign}{value:.{decimals}f}"
        parts.append(f'<text x="{at(value):.1f}" y="{_BOTTOM + 14}" text-anchor="{anchor}">{text}</text>')
    parts.append('<path class="mark" d="" fill="#1b1f24"/>')
    for k, norm in enumerate(distribution.norms):
        y = _HEIGHT + _ROW * k
        left = _LEFT if norm.low is None else at(norm.low)
        right = _RIGHT if norm.high is None else at(norm.high)
        parts.append(f'<path d="M{left:.1f} {y - 8}H{right:.1f}" stroke="{VERMILLION}" stroke-width="3"/>')
        parts.append(f'<text x="{_LEFT}" y="{y + 5}" fill="#57606a">{escape(norm_text(norm))}</text>')
    return "".join(parts) + "</svg>"


def norm_text(norm: Norm) -> str:
    """Return a range with the people it is for, such as ``"men, diastole: up to 97 mL/m²"``."""
    sex = {"M": "men", "F": "women"}.get(norm.sex, "adults")
    phase = "" if norm.phase == "any" else f", {norm.phase}"
    return f"{sex}{phase}: {norm.text}"


def title_of(distribution: Distribution) -> tuple[str, int]:
    """Return the title of a distribution and its decimal places."""
    name = distribution.name
    title, decimals = name_of(name.structure, name.quantity)
    unit = f" ({name.unit})" if name.unit else ""
    return f"{title}{unit}{', ' if name.modality else ''}{name.modality}", decimals


HATCHING = (
    '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>'
    '<pattern id="odd" width="4" height="4" '
    f'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="4" height="4" fill="{VERMILLION}"/>'
    '<path d="M0 0V4" stroke="#fff" stroke-width="1.4"/></pattern></defs></svg>'
)
"""Definition of the pattern of outliers, once in a page."""


def finding_bars(codes: Sequence[tuple[Severity, str, int]], cases: int) -> str:
    """Return a bar for each finding, a button that shows its cases."""
    rows = []
    for severity, code, count in codes:
        share = 100 * count / max(1, cases)
        rows.append(
            f'<li><button type="button" data-filter="{escape(code)}"><span class="finding {severity.value}">'
            f'<span class="severity">{severity.value}</span>{escape(code)}</span>'
            f'<span class="bar" aria-hidden="true"><span style="width:{share:.1f}%"></span></span>'
            f"<span>{count} ({share:.0f} %)</span></button></li>"
        )
    return f'<ul class="bars">{"".join(rows)}</ul>' if rows else "<p>No findings.</p>"
