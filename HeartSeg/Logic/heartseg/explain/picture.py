"""Draw an explanation: three slices with the heat map and the contour of the structure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from ..measure.boxes import crop_labels
from ..report.figure import saved_figure
from ..report.slices import (
    BACKGROUND,
    MUTED,
    PIXEL_MM,
    PLANES,
    TEXT,
    Plane,
    annotate,
    panel,
    plane_points,
    sample_linear,
    vivid,
)
from ..volume.types import Volume
from .explaining import NOTICE, Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 150
WIDTH_IN, HEIGHT_IN = 2000.01 / DPI, 800.01 / DPI
COLORS = "inferno"
OPACITY = 0.65
"""Opacity of the heat map at high values; it decreases towards 0, so that the scan is visible at low values."""

_MARGIN_MM = 30.0


def write_picture(volume: Volume, explanation: Explanation, path: str | Path) -> None:
    """Write the picture (PNG, 2000 x 800 pixels).

    The picture shows axial, coronal and sagittal slices through the centre of the structure along the world axes, with
    the patient's right on the viewer's left. The heat map has warm colours, the contour the colour of the structure.

    Raises:
        DependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    with saved_figure(path, (WIDTH_IN, HEIGHT_IN), DPI, BACKGROUND, png=True) as figure:
        center, low, high = _place(explanation)
        window = _grey_window(volume, explanation)
        shown = None
        for k, plane in enumerate(PLANES):
            axes = panel(figure, (0.012 + 0.313 * k, 0.04, 0.305, 0.78))
            shown = _draw_slice(axes, plane, volume, explanation, center, low, high, window)
        _draw_scale(figure, shown)
        _write_title(figure, volume, explanation)


def _place(explanation: Explanation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the centre of the structure, and the world box of the whole heart with a margin, LPS mm."""
    structure = crop_labels(explanation.region.view(np.uint8), explanation.geometry)
    heart = crop_labels(explanation.labels, explanation.geometry)
    assert structure is not None and heart is not None  # an explained structure is never empty
    center = structure.geometry.index_to_world(np.array(ndimage.center_of_mass(structure.labels)))
    corners = heart.geometry.corners()
    return center, corners.min(0) - _MARGIN_MM, corners.max(0) + _MARGIN_MM


def _grey_window(volume: Volume, explanation: Explanation) -> tuple[float, float]:
    """Return the grey values of black and white: the 2nd and 98th percentile around the heart."""
    heart = crop_labels(explanation.labels, explanation.geometry)
    near = volume.array if heart is None else heart.take(volume.array)
    sample = near.reshape(-1)[:: max(1, near.size // 200_000)].astype(float)
    low, high = (float(v) for v in np.percentile(sample, (2, 98)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _draw_slice(
    axes: Axes,
    plane: Plane,
    volume: Volume,
    explanation: Explanation,
    center: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    window: tuple[float, float],
) -> Any:
    """Draw one world plane of scan, heat map and contour; returns the drawn heat map."""
    world = plane_points(axes, plane, center, low, high)
    index = np.moveaxis(explanation.geometry.world_to_index(world), -1, 0)
    grey = sample_linear(volume.array, index, outside=window[0])
    axes.imshow(grey, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear", aspect="equal")
    heat = sample_linear(explanation.heat, index, outside=0.0)
    shown = axes.imshow(heat, cmap=COLORS, vmin=0, vmax=1, alpha=OPACITY * np.clip(heat * 1.5, 0, 1), aspect="equal")
    mask = sample_linear(explanation.region, index, outside=0.0)
    mask = ndimage.gaussian_filter(mask, 0.6 * min(explanation.geometry.spacing) / PIXEL_MM)
    if mask.max() > 0.5:
        color = vivid(tuple(c / 255 for c in explanation.structure.color))
        axes.contour(mask, levels=[0.5], colors=[color], linewidths=1.6)
    annotate(axes, plane, center, world.shape[1], world.shape[0])
    return shown


def _draw_scale(figure: Any, shown: Any) -> None:
    """Draw the colour bar."""
    from matplotlib.cm import ScalarMappable

    axes = figure.add_axes((0.956, 0.12, 0.012, 0.62))
    scale = figure.colorbar(ScalarMappable(shown.norm, shown.cmap), cax=axes, ticks=[0, 0.5, 1])
    scale.ax.tick_params(colors=MUTED, labelsize=9)
    scale.outline.set_edgecolor("#2a313c")


def _write_title(figure: Any, volume: Volume, explanation: Explanation) -> None:
    structure, layer = explanation.structure, explanation.layer
    name = volume.name if len(volume.name) <= 60 else volume.name[:57] + "…"
    title = f"{name}: contributions to the {structure.name}"
    figure.text(0.012, 0.945, title, color=TEXT, fontsize=16, fontweight="bold", va="center", parse_math=False)
    model = explanation.details.get("model", {})
    where = "input" if layer.at_input else "output"
    size = " × ".join(str(n) for n in layer.shape[1:])
    parts = [
        "Grad-CAM",
        " ".join(str(model[k]) for k in ("name", "version") if model.get(k)) or "HeartSeg",
        f"{where} of {layer.name} ({layer.shape[0]} channels, {size} voxels per patch)",
        *explanation.notices,
    ]
    figure.text(0.012, 0.885, "  ·  ".join(parts), color=MUTED, fontsize=10.5, va="center", parse_math=False)
    figure.text(
        0.988,
        0.945,
        NOTICE.upper().rstrip("."),
        color="#ffc857",
        fontsize=11,
        fontweight="bold",
        ha="right",
        va="center",
    )
