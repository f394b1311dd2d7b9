"""Pictures of the standard views of the heart: two-, three- and four-chamber plane and short axis."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..anatomy import STRUCTURES, structure
from ..errors import InputError
from ..measure.boxes import crop_labels
from ..measure.grid import Unknown
from ..measure.planes import StandardPlanes
from ..volume.geometry import Geometry
from ..volume.types import Volume
from .figure import picture_path, saved_figure
from .model import Picture
from .pictures import TITLES, draw, standard_frame
from .slices import BACKGROUND, MUTED, TEXT, panel, vivid
from .window import display_window

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    path = picture_path(path)
    found = {f.name: getattr(planes, f.name) for f in fields(planes)}
    crop = crop_labels(labels, geometry)
    if crop is None or all(isinstance(p, Unknown) for p in found.values()):
        raise InputError(f"no standard plane is known ({found['short_axis'].why}): there is nothing to draw")
    window = None if volume is None else display_window(volume, crop)
    with saved_figure(path, (9.0, 9.0), facecolor=BACKGROUND) as figure:
        for k, (name, plane) in enumerate(found.items()):
            axes = panel(figure, (0.01 + 0.495 * (k % 2), 0.505 - 0.495 * (k // 2), 0.485, 0.485))
            place = axes.transAxes
            if isinstance(plane, Unknown):
                axes.text(0.5, 0.5, plane.why, ha="center", va="center", color=MUTED, wrap=True, transform=place)
            else:
                _show(axes, draw(standard_frame(name, plane), volume, window, crop, STRUCTURES))
            axes.text(0.02, 0.975, TITLES[name], ha="left", va="top", color=TEXT, fontsize=11, transform=place)


def _show(axes: Axes, picture: Picture) -> None:
    """Show a picture with its contours, names and a scale bar."""
    axes.imshow(picture.grey, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    for key, lines in picture.contours.items():
        color = vivid([c / 255 for c in structure(key).color])
        for line in lines:
            axes.plot(*line.T, color=color, linewidth=1.4)
        if key in picture.names:
            axes.text(*picture.names[key], key, color=color, ha="center", va="center", fontsize=9)
    rows, columns = picture.grey.shape
    bar = 50 / picture.pixel_mm
    axes.plot([columns - 10 - bar, columns - 10], [rows - 10] * 2, color=TEXT, linewidth=2)
    axes.text(columns - 10 - bar / 2, rows - 15, "50 mm", color=TEXT, ha="center", va="bottom", fontsize=8)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
