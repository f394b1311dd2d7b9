"""A picture of one slice: image, reference and results, side by side, with heat maps below where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..anatomy import STRUCTURES, structure
from ..errors import DependencyError, InputError
from ..volume.geometry import to_nearest_lps
from ..volume.label_maps import LabelMap
from ..volume.reading import read_volume
from .grids import bring_together

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
FIRST = ("AO", "LV")
"""Structures that decide on the slice: the first that the reference holds; the documents show the aorta."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A result in the picture.

    Attributes:
        name: heading.
        labels: (y, x), HeartSeg's label values.
        heat: (y, x), 0 to 1, or None where there is nothing to explain.
    """

    name: str
    labels: np.ndarray
    heat: np.ndarray | None = None


def choose_slice(labels: np.ndarray) -> tuple[str, int]:
    """Return the structure of interest and the slice of a reference (z, y, x) to show.

    Of the slices with at least half as many of the structure's voxels as the fullest, it is the one with the most
    structures.

    Raises:
        ValueError: the reference is empty.
    """
    there = [s.key for s in STRUCTURES if (labels == s.label).any()]
    if not there:
        raise ValueError("the reference holds no structure: choose another case")
    key = next((k for k in FIRST if k in there), there[0])
    areas = (labels == structure(key).label).sum((1, 2))
    kinds = np.array([len(np.unique(plane)) for plane in labels])
    fitting = np.flatnonzero(areas >= areas.max() / 2)
    return key, int(max(fitting, key=lambda z: (kinds[z], areas[z])))


def write_slices(image: Path, pred: LabelMap, truth: LabelMap, path: Path) -> None:
    """Draw image, reference and prediction of one axial slice, as PNG.

    Args:
        image: the scan, on the reference's grid.
        pred, truth: prediction and reference; another grid than the reference's is resampled.
        path: file to write.

    Raises:
        InputError: the scan cannot be read or lies on another grid.
        DependencyError: matplotlib is not installed.
    """
    volume = read_volume(image)
    if not volume.geometry.same_grid(truth.geometry, 0.01 * min(truth.geometry.spacing)):
        raise InputError(f"{volume.name!r} does not lie on the reference's grid: give the scan that was labelled")
    grid = bring_together(pred, truth, None)
    flip, _ = to_nearest_lps(volume.geometry)
    _, place = choose_slice(grid.truth)
    write_comparison(
        flip.apply(volume.array)[place], grid.truth[place], [Shown("prediction", grid.pred[place])], None, path
    )


def write_comparison(
    image: np.ndarray, reference: np.ndarray, shown: Sequence[Shown], key: str | None, path: Path
) -> None:
    """Draw the documents' comparison: image, reference, and each result; with a structure, heat maps below.

    Args:
        image, reference: (y, x) grey values and labels of the slice.
        shown: the results, in order.
        key: the structure that the heat maps explain; None for no second row.
        path: PNG to write.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    rows = 1 if key is None else 2
    figure = new_figure(2.2 * (2 + len(shown)), 2.45 * rows)
    panels = figure.subplots(rows, 2 + len(shown), squeeze=False)
    low, high = np.percentile(image, (2, 98))
    window = (float(low), float(max(high, low + 1e-6)))
    for axes in panels.flat:
        axes.set_axis_off()
    _draw(panels[0, 0], image, window, "image")
    _draw(panels[0, 1], image, window, "reference", reference)
    for column, one in enumerate(shown, start=2):
        _draw(panels[0, column], image, window, one.name, one.labels)
        if key is not None:
            title = f"Grad-CAM, {key}" if one.heat is not None else f"no {key} found"
            _draw(panels[1, column], image, window, title, heat=one.heat)
    figure.savefig(path, format="png", dpi=DPI, facecolor="white")


def _draw(
    axes: Any,
    image: np.ndarray,
    window: tuple[float, float],
    title: str,
    labels: np.ndarray | None = None,
    heat: np.ndarray | None = None,
) -> None:
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1])
    if labels is not None:
        axes.imshow(colored(labels), interpolation="nearest")
    if heat is not None:
        axes.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.65 * np.clip(1.5 * heat, 0, 1))
    axes.set_title(title, fontsize=9)


def colored(labels: np.ndarray) -> np.ndarray:
    """Return labels as RGBA in the structures' colours, (y, x, 4) from 0 to 1; the background is transparent."""
    table = np.zeros((256, 4))
    for s in STRUCTURES:
        table[s.label] = (*(c / 255 for c in s.color), 0.6)
    return table[labels]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError("the pictures need matplotlib: pip install 'heartseg[evaluate]'") from error
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure
