"""Box plot of a comparison, with every case of every configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...evaluation.slices import DPI, new_figure
from .ablation_table import Trial, case_values


def write_box_plot(trials: Sequence[Trial], path: Path) -> None:
    """Draw Dice, HD95 and ASSD of every case as points, with one box per configuration.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    names = list(dict.fromkeys(t.configuration for t in trials))
    figure = new_figure(12.0, 4.5)
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
