"""A picture of an evaluation: Dice and HD95 per structure; bars for one case, boxes and points for many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..anatomy import KEYS, structure
from ..errors import DependencyError
from .scores import EXTRA, Evaluation
from .study import MEAN, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 150
INK, MUTED, GRID = "#1c232c", "#66717f", "#dfe4ea"
_PANELS = (("dice", "Dice"), ("hd95_mm", "HD95 (mm)"))


def check_matplotlib() -> None:
    """Check that a figure can be drawn, before anything is computed; raises ``DependencyError``."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            "the figure needs matplotlib, which is not installed: pip install 'heartseg[evaluate]'"
        ) from error


def write_figure(found: Evaluation | Study, path: Path) -> None:
    """Draw Dice (left) and HD95 (right) per structure, in the structures' colours, as PNG (1650 x 750 pixels).

    One case: bars, with their values. Several: a point per case over a box (quartiles, median; whiskers to the farthest
    case within 1.5 times the quartiles' distance), with the number of cases that have a value.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    study = found if isinstance(found, Study) else Study((found,), {})
    keys = [k for k in KEYS if any(c.has(k) and c.score(k).status != EXTRA for c in study.cases)]
    figure = Figure(figsize=(11.0, 5.0), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for axes, (metric, label) in zip(panels, _PANELS, strict=True):
        values = [study.values(k, metric) for k in keys]
        (_bars if len(study.cases) == 1 else _boxes)(axes, keys, values)
        _finish(axes, keys, values, label, len(study.cases))
        mean = study.spread(MEAN, metric)
        if mean is not None:
            digits = 3 if metric == "dice" else 2
            spread = f" ± {mean.sd:.{digits}f}" if mean.sd is not None else ""
            axes.set_title(f"{label}: mean {mean.mean:.{digits}f}{spread}", loc="left", color=INK, fontsize=12)
    inside = ", inside the mask" if any(c.mask for c in study.cases) else ""
    first = study.cases[0].name if len(study.cases) == 1 else f"{len(study.cases)} cases"
    figure.suptitle(f"{first if len(first) < 80 else first[:77] + '...'}{inside}", x=0.01, ha="left", color=INK)
    figure.savefig(path, format="png", dpi=DPI, facecolor="white")


def _color(key: str) -> tuple[float, float, float]:
    r, g, b = structure(key).color
    return r / 255, g / 255, b / 255


def _bars(axes: Axes, keys: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    for place, (key, found) in enumerate(zip(keys, values, strict=True)):
        if found:
            axes.bar(place, found[0], width=0.65, color=_color(key), zorder=2)
            text = f"{found[0]:.2f}" if max(map(max, filter(None, values))) <= 1 else f"{found[0]:.1f}"
            axes.annotate(text, (place, found[0]), (0, 3), textcoords="offset points", ha="center", color=INK)
        else:
            axes.annotate("none", (place, 0), (0, 3), textcoords="offset points", ha="center", color=MUTED)


def _boxes(axes: Axes, keys: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    rng = np.random.default_rng(0)  # sideways scatter of the points alone
    for place, (key, found) in enumerate(zip(keys, values, strict=True)):
        if not found:
            continue
        line = {"color": INK, "linewidth": 1.1}
        face = {"facecolor": (*_color(key), 0.35), "edgecolor": INK, "linewidth": 1.1}
        axes.boxplot(
            [found],
            positions=[place],
            widths=0.6,
            showfliers=False,
            patch_artist=True,
            boxprops=face,
            medianprops=line,
            whiskerprops=line,
            capprops=line,
            manage_ticks=False,
            zorder=2,
        )
        beside = place + rng.uniform(-0.18, 0.18, len(found))
        axes.scatter(beside, found, s=20, color=_color(key), edgecolor=INK, linewidth=0.6, zorder=3, clip_on=False)


def _finish(axes: Axes, keys: Sequence[str], values: Sequence[Sequence[float]], label: str, cases: int) -> None:
    names = [k if cases == 1 else f"{k}\nn={len(v)}" for k, v in zip(keys, values, strict=True)]
    axes.set_xticks(range(len(keys)), names)
    axes.set_xlim(-0.6, len(keys) - 0.4)
    axes.set_ylabel(label, color=INK)
    top = max((v for found in values for v in found), default=1.0)
    axes.set_ylim(0, 1.05 if label == "Dice" else max(1.0, 1.12 * top))
    axes.grid(axis="y", color=GRID, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
