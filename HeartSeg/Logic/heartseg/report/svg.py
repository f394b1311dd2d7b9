"""Vector pictures of a report as SVG text: volume curves, bull's-eye plots, planes with contours.

Structures differ by colour, by dashes and by their names, so that the pictures can be read without colours.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np

from ..anatomy import structure
from ..measure.bullseye import SCALES, UNITS, color_of, ink_on, sectors, text_of
from .bullseye import TITLES
from .model import Course, Curve, Picture, SegmentMap
from .slices import vivid

DASHES = {"LV": "", "RV": "7 3", "LA": "2 2", "RA": "7 2 2 2", "MYO": "", "AO": "4 2", "PA": "1 2"}
_CURVE_SIZE = (640, 300)
_PLOT = (52.0, 14.0, 560.0, 252.0)  # left, top, right, bottom


def hexadecimal(color: Sequence[float]) -> str:
    """``#rrggbb`` of a colour with parts from 0 to 1."""
    return "#" + "".join(f"{round(255 * c):02x}" for c in color)


def color_of_structure(key: str, on_black: bool = False) -> str:
    """Colour of a structure, lightened on black and darkened on white until it can be read."""
    color = tuple(c / 255 for c in structure(key).color)
    if on_black:
        return hexadecimal(vivid(color))
    light = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]
    return hexadecimal([c * min(1.0, 0.45 / light) for c in color])


def picture_svg(picture: Picture) -> str:
    """The plane with contours, names of the structures, letters at the edges and a scale bar."""
    rows, columns = picture.grey.shape
    said = ", ".join(structure(key).name for key in picture.contours) or "no structure"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns} {rows}" role="img" '
        f'aria-label="{escape(picture.title)}: {escape(said)}">',
        f'<image width="{columns}" height="{rows}" href="data:image/png;base64,{_png(picture.grey)}"/>',
    ]
    for key, lines in picture.contours.items():
        path = "".join(_path(line) for line in lines)
        dash = f' stroke-dasharray="{DASHES[key]}"' if DASHES[key] else ""
        color = color_of_structure(key, on_black=True)
        parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.3"{dash}/>')
    for key, (x, y) in picture.names.items():
        parts.append(_halo(x, y + 3, key, 9.5, color_of_structure(key, on_black=True)))
    left, right, top, bottom = picture.letters
    for x, y, text in (
        (8, rows / 2, left),
        (columns - 8, rows / 2, right),
        (columns / 2, 12, top),
        (columns / 2, rows - 5, bottom),
    ):
        if text:
            parts.append(_halo(x, y, text, 11, "#ffffff"))
    bar = 50 / picture.pixel_mm
    parts.append(f'<path d="M{columns - 10 - bar:.1f} {rows - 9}h{bar:.1f}" stroke="#fff" stroke-width="2.5"/>')
    parts.append(_halo(columns - 10 - bar / 2, rows - 13, "50 mm", 8, "#ffffff"))
    return "".join(parts) + "</svg>"


def _path(line: np.ndarray) -> str:
    first, *more = (f"{x + 0.5:.1f} {y + 0.5:.1f}" for x, y in line)
    return f"M{first}L{' '.join(more)}"


def _halo(x: float, y: float, text: str, size: float, color: str) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="{size}"'
    outline = (
        f'<text {where} fill="none" stroke="#000" stroke-width="2.2" stroke-linejoin="round">{escape(text)}</text>'
    )
    return f'{outline}<text {where} fill="{color}">{escape(text)}</text>'


def _png(grey: np.ndarray) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def curves_svg(course: Course) -> str:
    """Volumes over the frames, with end-diastole and end-systole; frames that were left out are crossed."""
    width, height = _CURVE_SIZE
    left, top, right, bottom = _PLOT
    shown = [c for c in course.curves if c.structure != "MYO"]
    known = [v for c in shown for v in c.volumes_ml if v is not None]
    most = _round_up(max(known, default=100.0))
    frames = max((len(c.volumes_ml) for c in shown), default=2)

    def at(frame: float, volume: float) -> tuple[float, float]:
        return left + (right - left) * frame / max(1, frames - 1), bottom - (bottom - top) * volume / most

    label = f"Volumes of {', '.join(structure(c.structure).name for c in shown)} over {frames} frames"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}" '
        'font-size="11">'
    ]
    for k in range(5):
        x, y = at(0, most * k / 4)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{most * k / 4:g}</text>')
    parts.append(f'<text x="{left - 44}" y="{top - 2}">mL</text>')
    for name, frame in (("ED", course.end_diastole), ("ES", course.end_systole)):
        x, _ = at(frame, 0)
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="#57606a" stroke-dasharray="2 3"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 28}" text-anchor="middle" font-weight="bold">{name}</text>')
    for frame in range(0, frames, max(1, frames // 10)):
        x, _ = at(frame, 0)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{frame}</text>')
    parts.append(f'<text x="{left - 44}" y="{bottom + 14}">frame</text>')
    ends = _apart([(c, at(0, _last(c))[1]) for c in shown if _last(c) > 0])
    for curve in shown:
        parts += _curve(curve, [None if v is None else at(k, v) for k, v in enumerate(curve.volumes_ml)])
        if curve.structure in ends:
            color = color_of_structure(curve.structure)
            place = f'x="{right + 8}" y="{ends[curve.structure] + 4:.1f}"'
            parts.append(f'<text {place} fill="{color}" font-weight="bold">{curve.structure}</text>')
    return "".join(parts) + "</svg>"


def _curve(curve: Curve, points: list[tuple[float, float] | None]) -> list[str]:
    color, dash = color_of_structure(curve.structure), DASHES[curve.structure]
    used = [p for k, p in enumerate(points) if p is not None and k not in curve.left_out]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in used)
    style = f'fill="none" stroke="{color}" stroke-width="2.2"' + (f' stroke-dasharray="{dash}"' if dash else "")
    crosses = [points[k] for k in curve.left_out]
    marks = [
        f'<path d="M{p[0] - 4:.1f} {p[1] - 4:.1f}l8 8m0-8l-8 8" stroke="{color}"/>' for p in crosses if p is not None
    ]
    return [f'<polyline points="{line}" {style}/>', *marks]


def _last(curve: Curve) -> float:
    return next((v for v in reversed(curve.volumes_ml) if v is not None), 0.0)


def _apart(ends: list[tuple[Curve, float]], least: float = 13.0) -> dict[str, float]:
    """Return structure -> height of its name, moved down where names would overlap."""
    placed: dict[str, float] = {}
    floor = -1e9
    for curve, y in sorted(ends, key=lambda pair: pair[1]):
        floor = max(y, floor + least)
        placed[curve.structure] = floor
    return placed


def _round_up(value: float) -> float:
    step = 10.0 ** np.floor(np.log10(max(value, 1.0)))
    return float(next(step * k for k in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * k >= value))


def bullseye_svg(segments: SegmentMap) -> str:
    """The 17 AHA segments with their values, and the colour scale; see :mod:`heartseg.measure.bullseye`."""
    scale, title = SCALES[segments.quantity], TITLES[segments.quantity]
    said = ", ".join(f"{n} {text_of(v, segments.quantity)}" for n, v in enumerate(segments.values, 1))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-122 -134 244 290" role="img" '
        f'aria-label="{escape(title)} by segment: {escape(said)}" font-size="11">',
        f'<text y="-122" text-anchor="middle" font-weight="bold">{escape(title)}</text>',
    ]
    for sector in sectors():
        value = segments.values[sector.segment - 1]
        color = color_of(value, scale)
        shape = _ring(100 * sector.inner, 100 * sector.outer, sector.start_deg, sector.stop_deg)
        parts.append(
            f'<path d="{shape}" fill="{hexadecimal(color)}" stroke="#fff" stroke-width="1.5" fill-rule="evenodd"/>'
        )
        right, up = sector.middle
        place = f'x="{100 * right:.1f}" y="{4 - 100 * up:.1f}" text-anchor="middle"'
        parts.append(f'<text {place} fill="{hexadecimal(ink_on(color))}">{text_of(value, segments.quantity)}</text>')
    for x, y, turn, text in (
        (0, -106, 0, "anterior"),
        (0, 114, 0, "inferior"),
        (-107, 0, -90, "septal"),
        (114, 0, -90, "lateral"),
    ):
        parts.append(
            f'<text transform="translate({x} {y}) rotate({turn})" text-anchor="middle" fill="#57606a">{text}</text>'
        )
    low, high = scale
    for k in range(40):
        fill = hexadecimal(color_of(low + (high - low) * k / 39, scale))
        parts.append(f'<rect x="{-60 + 3 * k}" y="124" width="3.2" height="9" fill="{fill}"/>')
    for x, text in ((-60, f"≤ {low:g}"), (60, f"≥ {high:g} {UNITS[segments.quantity]}")):
        parts.append(f'<text x="{x}" y="147" text-anchor="middle">{text}</text>')
    return "".join(parts) + "</svg>"


def _ring(inner: float, outer: float, start_deg: float, stop_deg: float) -> str:
    """Path of a sector of a ring, or of a whole disc; angles anticlockwise from the right."""
    if stop_deg - start_deg >= 360:
        return f"M{outer} 0A{outer} {outer} 0 1 0 {-outer} 0A{outer} {outer} 0 1 0 {outer} 0Z"
    (ax, ay), (bx, by) = ((float(np.cos(np.radians(d))), -float(np.sin(np.radians(d)))) for d in (start_deg, stop_deg))
    return (
        f"M{outer * ax:.2f} {outer * ay:.2f}A{outer} {outer} 0 0 0 {outer * bx:.2f} {outer * by:.2f}"
        f"L{inner * bx:.2f} {inner * by:.2f}A{inner} {inner} 0 0 1 {inner * ax:.2f} {inner * ay:.2f}Z"
    )
