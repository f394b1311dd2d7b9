"""Pictures of the standard views of the heart: two-, three- and four-chamber plane and short axis."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ..anatomy import STRUCTURES
from ..errors import DependencyError, InputError, OutputError
from ..measure.boxes import crop_labels
from ..measure.grid import Unknown
from ..measure.planes import StandardPlanes, ViewPlane
from ..volume.geometry import Geometry
from ..volume.types import Volume
from .slices import BACKGROUND, MUTED, PIXEL_MM, TEXT, panel, sample_linear, vivid
from .window import display_window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")
TITLES = {
    "two_chamber": "two-chamber view",
    "three_chamber": "three-chamber view",
    "four_chamber": "four-chamber view",
    "short_axis": "short axis",
}
HALF_MM = 90.0
"""Half the size of a picture: it holds a heart with a long axis of 110 mm and its atria."""


def write_views(
    volume: Volume | None, labels: np.ndarray, geometry: Geometry, planes: StandardPlanes, path: str | Path
) -> None:
    """Write the four standard views with contours of the structures.

    Args:
        volume: the scan; without it, the views show the labels only.
        labels: uint8 ``(z, y, x)``.
        geometry: grid of the labels and of the scan.
        planes: the planes; one that is unknown shows the reason.
        path: ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        InputError: no plane is known.
        DependencyError: matplotlib is not installed.
        OutputError: the suffix is unknown, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"file {str(path)!r} is no picture: give a name with {', '.join(SUFFIXES)}")
    found = {f.name: getattr(planes, f.name) for f in fields(planes)}
    if all(isinstance(p, Unknown) for p in found.values()):
        raise InputError(f"no standard plane is known ({found['short_axis'].why}): there is nothing to draw")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError("the views need matplotlib: pip install 'heartseg[app]'") from error
    figure = Figure(figsize=(9.0, 9.0), dpi=150, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    window = None if volume is None else display_window(volume, crop_labels(labels, geometry))
    for k, (name, plane) in enumerate(found.items()):
        axes = panel(figure, (0.01 + 0.495 * (k % 2), 0.505 - 0.495 * (k // 2), 0.485, 0.485))
        if isinstance(plane, Unknown):
            axes.text(0.5, 0.5, plane.why, ha="center", va="center", color=MUTED, wrap=True, transform=axes.transAxes)
        else:
            _draw(axes, plane, volume, labels, geometry, window)
        axes.text(0.02, 0.975, TITLES[name], ha="left", va="top", color=TEXT, fontsize=11, transform=axes.transAxes)
    try:
        figure.savefig(path, facecolor=BACKGROUND)
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


def plane_index(plane: ViewPlane, geometry: Geometry, half_mm: float = HALF_MM) -> np.ndarray:
    """Return the index coordinates ``(3, rows, columns)``, z, y, x, of the pixels of a view, :data:`PIXEL_MM` apart."""
    offsets = np.arange(-half_mm, half_mm + 1e-6, PIXEL_MM)
    right, up = np.array(plane.right_lps), np.array(plane.up_lps)
    points = np.array(plane.center_lps_mm) - offsets[:, None, None] * up + offsets[None, :, None] * right
    return np.moveaxis(geometry.world_to_index(points), -1, 0)


def _draw(
    axes: Axes,
    plane: ViewPlane,
    volume: Volume | None,
    labels: np.ndarray,
    geometry: Geometry,
    window: tuple[float, float] | None,
) -> None:
    index = plane_index(plane, geometry)
    if volume is not None and window is not None:
        picture = sample_linear(volume.array, index, window[0])
        axes.imshow(picture, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear")
    else:
        axes.imshow(np.zeros(index.shape[1:]), cmap="gray", vmin=0, vmax=1)
    for s in STRUCTURES:
        inside = _share(labels == s.label, index)
        if inside.max() > 0.5:
            color = vivid([c / 255 for c in s.color])
            axes.contour(inside, levels=[0.5], colors=[color], linewidths=1.4)
            rows, columns = np.nonzero(inside > 0.5)
            if len(rows) * PIXEL_MM**2 > 150.0 and s.key != "MYO":
                axes.text(columns.mean(), rows.mean(), s.key, color=color, ha="center", va="center", fontsize=9)
    rows, columns = index.shape[1:]
    axes.plot([columns - 12 - 50 / PIXEL_MM, columns - 12], [rows - 12] * 2, color=TEXT, linewidth=2)
    axes.text(columns - 12 - 25 / PIXEL_MM, rows - 18, "50 mm", color=TEXT, ha="center", va="bottom", fontsize=8)


def _share(mask: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the interpolated mask at index coordinates, smoothed by half a pixel against its staircase."""
    return ndimage.gaussian_filter(sample_linear(mask, index, 0.0), 0.8)
