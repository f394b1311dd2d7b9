"""Bull's-eye plots of wall thickness and thickening as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..measure.bullseye import (
    SCALES,
    THICKNESS,
    UNITS,
    color_of,
    drawn_quantities,
    ink_on,
    sectors,
    segment_values,
    text_of,
)
from ..result import Measure
from .figure import picture_path, saved_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {THICKNESS: "Wall thickness (mm)", "thickening": "Systolic thickening (%)"}
_SIDES = ((0.0, 1.1, "anterior"), (-1.1, 0.0, "septal"), (0.0, -1.1, "inferior"), (1.1, 0.0, "lateral"))


def write_bullseye(measures: Iterable[Measure], path: str | Path, title: str = "") -> None:
    """Write the bull's-eye plot: mean wall thickness, and beside it the thickening if two phases were measured.

    Args:
        measures: rows of the table of measures.
        path: ``.png``, ``.svg`` or ``.pdf``.
        title: line above the plots.

    Raises:
        InputError: no segment has a value; with the reason.
        DependencyError: matplotlib is not installed.
        OutputError: the suffix is unknown, or the file cannot be written.
    """
    path, rows = picture_path(path), tuple(measures)
    drawn = drawn_quantities(rows)
    if not drawn:
        why = next((m.note for m in rows if m.quantity == THICKNESS and m.value is None), "no rows of wall thickness")
        raise InputError(f"no segment of the wall has a value ({why}): there is nothing to draw")
    with saved_figure(path, (4.8 * len(drawn), 5.4)) as figure:
        for k, quantity in enumerate(drawn):
            axes = figure.add_axes(((k + 0.08) / len(drawn), 0.13, 0.84 / len(drawn), 0.73))
            _draw(axes, segment_values(rows, quantity), quantity)
            _draw_scale(figure.add_axes(((k + 0.25) / len(drawn), 0.075, 0.5 / len(drawn), 0.025)), quantity)
        if title:
            figure.text(0.5, 0.98, title, ha="center", va="top", fontsize=11)


def _draw(axes: Axes, values: Mapping[int, float | None], quantity: str) -> None:
    from matplotlib.patches import Wedge

    for sector in sectors():
        value = values.get(sector.segment)
        color = color_of(value, SCALES[quantity])
        style: dict[str, Any] = {"facecolor": color, "edgecolor": "white", "linewidth": 1.5}
        style["hatch"] = "//" if value is None else None
        width = sector.outer - sector.inner
        axes.add_patch(Wedge((0, 0), sector.outer, sector.start_deg, sector.stop_deg, width=width, **style))
        right, up = sector.middle
        axes.text(right, up, text_of(value, quantity), ha="center", va="center", fontsize=11, color=ink_on(color))
    for right, up, name in _SIDES:
        turn = 90 if name == "septal" else -90 if name == "lateral" else 0
        axes.text(right, up, name, ha="center", va="center", fontsize=9, rotation=turn)
    axes.set_title(TITLES[quantity], fontsize=11, pad=14)
    axes.set_xlim(-1.15, 1.15)
    axes.set_ylim(-1.15, 1.15)
    axes.set_aspect("equal")
    axes.axis("off")


def _draw_scale(axes: Axes, quantity: str) -> None:
    low, high = SCALES[quantity]
    steps = [low + (high - low) * k / 127 for k in range(128)]
    axes.imshow([[color_of(v, (low, high)) for v in steps]], aspect="auto", extent=(low, high, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([low, (low + high) / 2, high])
    axes.set_xticklabels([f"≤ {low:g}", f"{(low + high) / 2:g}", f"≥ {high:g} {UNITS[quantity]}"], fontsize=9)
