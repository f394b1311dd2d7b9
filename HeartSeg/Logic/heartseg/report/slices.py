"""Slices of a scan on world planes in radiological convention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PIXEL_MM = 0.6
BACKGROUND, PANEL, TEXT, MUTED = "#0e1116", "#161b22", "#e8ecf1", "#8b96a5"


@dataclass(frozen=True)
class Plane:
    """An anatomical plane: name, LPS axes across and down the picture, sign of the latter, and edge letters."""

    name: str
    across: int
    down: int
    down_sign: int
    letters: tuple[str, str, str, str]  # left, right, top, bottom


# Radiological convention: the patient's right on the viewer's left; anterior on the left in sagittal views.
PLANES = (
    Plane("axial", 0, 1, 1, ("R", "L", "A", "P")),
    Plane("coronal", 0, 2, -1, ("R", "L", "S", "I")),
    Plane("sagittal", 1, 2, -1, ("A", "P", "S", "I")),
)


def panel(figure: Any, place: tuple[float, float, float, float]) -> Axes:
    """Add a black panel for a picture; ``place`` is in fractions of the figure."""
    axes = figure.add_axes(place)
    axes.set_facecolor("#000000")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#2a313c")
        spine.set_linewidth(0.8)
    return axes


def aspect_of(axes: Axes) -> float:
    """Aspect ratio (width / height) of a panel."""
    box, page = axes.get_position(original=True), axes.figure.bbox
    return float(box.width * page.width / (box.height * page.height))


def plane_points(axes: Axes, plane: Plane, center: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """LPS points ``(rows, columns, 3)`` of a plane through ``center``, spaced by :data:`PIXEL_MM`.

    The box from ``low`` to ``high`` (LPS, mm) is enlarged along its shorter side to fill the panel.
    """
    aspect = aspect_of(axes)
    middle = (low + high) / 2
    width, height = high[plane.across] - low[plane.across], high[plane.down] - low[plane.down]
    width, height = max(width, height * aspect), max(height, width / aspect)
    a = np.arange(-width / 2, width / 2, PIXEL_MM) + middle[plane.across]
    d = np.arange(-height / 2, height / 2, PIXEL_MM)[:: plane.down_sign] + middle[plane.down]
    world = np.empty((len(d), len(a), 3))
    world[:] = center
    world[..., plane.across], world[..., plane.down] = a[None, :], d[:, None]
    return world


def sample_linear(array: np.ndarray, index: np.ndarray, outside: float) -> np.ndarray:
    """Interpolate ``array`` linearly at fractional indices ``(3, rows, columns)``, reading only the needed part."""
    low = [int(np.clip(np.floor(i.min()), 0, n - 1)) for i, n in zip(index, array.shape, strict=True)]
    high = [int(np.clip(np.ceil(i.max()) + 1, 1, n)) for i, n in zip(index, array.shape, strict=True)]
    part = np.asarray(array[tuple(slice(a, max(a + 1, b)) for a, b in zip(low, high, strict=True))], np.float32)
    shifted = index - np.array(low)[:, None, None]
    return ndimage.map_coordinates(part, shifted, order=1, mode="constant", cval=outside, prefilter=False)


def vivid(color: Sequence[float]) -> tuple[float, float, float]:
    """Lighten a colour for contrast on dark grey."""
    r, g, b = color
    light = 0.3 * r + 0.59 * g + 0.11 * b
    lift = max(0.0, 0.5 - light)
    return tuple(min(1.0, c + lift * (1.0 - c)) for c in (r, g, b))  # type: ignore[return-value]


def annotate(axes: Axes, plane: Plane, center: np.ndarray, columns: int, rows: int) -> None:
    """Draw orientation letters, name and position of the plane, and a scale bar."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground="#000000")]  # legible on bone and contrast agent
    style: dict[str, Any] = {
        "color": TEXT,
        "fontsize": 12,
        "fontweight": "bold",
        "transform": axes.transAxes,
        "path_effects": halo,
    }
    left, right, top, bottom = plane.letters
    axes.text(0.015, 0.5, left, ha="left", va="center", **style)
    axes.text(0.985, 0.5, right, ha="right", va="center", **style)
    axes.text(0.5, 0.98, top, ha="center", va="top", **style)
    axes.text(0.5, 0.02, bottom, ha="center", va="bottom", **style)
    third = ({0, 1, 2} - {plane.across, plane.down}).pop()
    where = ("L", "P", "S")[third] if center[third] >= 0 else ("R", "A", "I")[third]
    axes.text(
        0.015,
        0.975,
        f"{plane.name}  {where} {abs(center[third]):.0f} mm",
        ha="left",
        va="top",
        color=MUTED,
        fontsize=9.5,
        transform=axes.transAxes,
        path_effects=halo,
    )
    bar_mm = 50.0 if columns * PIXEL_MM > 120 else 20.0
    x1, y = columns * 0.975, rows * 0.955
    axes.plot(
        [x1 - bar_mm / PIXEL_MM, x1],
        [y, y],
        color=TEXT,
        linewidth=2.2,
        solid_capstyle="butt",
        path_effects=[withStroke(linewidth=4.2, foreground="#000000")],
    )
    middle = x1 - bar_mm / PIXEL_MM / 2
    axes.text(
        middle,
        y - rows * 0.015,
        f"{bar_mm:.0f} mm",
        ha="center",
        va="bottom",
        color=TEXT,
        fontsize=9,
        path_effects=halo,
    )
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
