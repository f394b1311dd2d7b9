"""Pictures of a comparison: a box plot of all cases, and one slice as every configuration sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...anatomy import STRUCTURES, structure
from ...errors import DependencyError
from .ablation_table import Trial, case_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
EXPLAINED = ("AO", "LV")
"""Structures whose heat map is shown: the first that the reference holds; the documents show the aorta."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A configuration in the comparison.

    Attributes:
        name: of the configuration.
        labels: (y, x), HeartSeg's label values.
        heat: (y, x), 0 to 1, or None where the prediction holds nothing to explain.
    """

    name: str
    labels: np.ndarray
    heat: np.ndarray | None


def choose_slice(labels: np.ndarray) -> tuple[str, int]:
    """Return the structure to explain and the slice of a reference (z, y, x) that holds most of it.

    Of the slices with at least half as many of its voxels as the fullest, it is the one with the most structures.

    Raises:
        ValueError: the reference is empty.
    """
    there = [s.key for s in STRUCTURES if (labels == s.label).any()]
    if not there:
        raise ValueError("the reference holds no structure: choose another case")
    key = next((k for k in EXPLAINED if k in there), there[0])
    areas = (labels == structure(key).label).sum((1, 2))
    kinds = np.array([len(np.unique(plane)) for plane in labels])
    fitting = np.flatnonzero(areas >= areas.max() / 2)
    return key, int(max(fitting, key=lambda z: (kinds[z], areas[z])))


def write_comparison(image: np.ndarray, reference: np.ndarray, shown: Sequence[Shown], key: str, path: Path) -> None:
    """Draw the documents' comparison: image, reference, each configuration's labels, and its heat map below.

    Args:
        image, reference: (y, x) grey values and labels of the slice.
        shown: the configurations, in order.
        key: the structure that the heat maps explain.
        path: PNG to write.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    figure = _figure(2.2 * (2 + len(shown)), 4.9)
    panels = figure.subplots(2, 2 + len(shown), squeeze=False)
    low, high = np.percentile(image, (2, 98))
    window = (float(low), float(max(high, low + 1e-6)))
    for axes in panels.flat:
        axes.set_axis_off()
    _draw(panels[0, 0], image, window, "image")
    _draw(panels[0, 1], image, window, "reference", reference)
    for column, one in enumerate(shown, start=2):
        _draw(panels[0, column], image, window, one.name, one.labels)
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


def write_box_plot(trials: Sequence[Trial], path: Path) -> None:
    """Draw Dice, HD95 and ASSD of every case as boxes and points, one box a configuration.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    names = list(dict.fromkeys(t.configuration for t in trials))
    figure = _figure(12.0, 4.5)
    panels = zip(
        figure.subplots(1, 3), {"dice": "Dice, %", "hd95_mm": "HD95, mm", "assd_mm": "ASSD, mm"}.items(), strict=True
    )
    for axes, (metric, heading) in panels:
        values = [list(case_values([t for t in trials if t.configuration == n], metric).values()) for n in names]
        axes.boxplot(values, positions=range(len(names)), widths=0.6, showfliers=False, manage_ticks=False)
        for place, found in enumerate(values):
            axes.plot([place] * len(found), found, "o", markersize=4, alpha=0.7)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_title(f"{heading}, a point per case", fontsize=10)
        axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, format="png", dpi=DPI, facecolor="white")


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError("the pictures need matplotlib: pip install 'heartseg[evaluate]'") from error
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure
