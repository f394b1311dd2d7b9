"""Geometry, values and colours of the bull's-eye plot of the 17 AHA segments, for every program that draws one.

The apex is in the middle, the anterior wall at the top and the septum at the left (Cerqueira et al., Circulation
2002;105:539). The colour scale (viridis) is ordered by lightness, visible to the colour-blind too; every segment shows
its value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..result import Measure

THICKNESS, THICKENING = "wall_thickness_mean", "thickening"
"""Quantities that can be drawn; a row of the table of measures is ``<quantity>_<segment>``."""
SCALES = {THICKNESS: (4.0, 16.0), THICKENING: (0.0, 100.0)}
"""Quantity -> values at the ends of the colour scale, mm and percent; fixed, so that pictures can be compared."""
UNITS = {THICKNESS: "mm", THICKENING: "%"}
UNKNOWN_COLOR = (0.62, 0.62, 0.62)

_VIRIDIS = np.array(
    [
        (0.267, 0.005, 0.329),
        (0.279, 0.175, 0.483),
        (0.230, 0.322, 0.546),
        (0.173, 0.449, 0.558),
        (0.128, 0.567, 0.551),
        (0.158, 0.684, 0.502),
        (0.369, 0.789, 0.383),
        (0.678, 0.864, 0.190),
        (0.993, 0.906, 0.144),
    ]
)


@dataclass(frozen=True)
class Sector:
    """Area of a segment in a unit disc.

    Attributes:
        segment: 1 to 17.
        inner, outer: radii, 0 to 1.
        start_deg, stop_deg: angles, anticlockwise from the right.
    """

    segment: int
    inner: float
    outer: float
    start_deg: float
    stop_deg: float

    @property
    def middle(self) -> tuple[float, float]:
        """Position of the value, ``(right, up)``."""
        if self.inner == 0:
            return 0.0, 0.0
        radius, angle = (self.inner + self.outer) / 2, np.radians((self.start_deg + self.stop_deg) / 2)
        return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def sectors() -> tuple[Sector, ...]:
    """Return the sectors of segments 1 to 17."""
    sixths = [(60.0 + 60.0 * k, 120.0 + 60.0 * k) for k in range(6)]
    quarters = [(45.0 + 90.0 * k, 135.0 + 90.0 * k) for k in range(4)]
    rings = ((1, 0.75, 1.0, sixths), (7, 0.5, 0.75, sixths), (13, 0.25, 0.5, quarters), (17, 0.0, 0.25, [(0.0, 360.0)]))
    return tuple(
        Sector(first + k, inner, outer, start, stop)
        for first, inner, outer, angles in rings
        for k, (start, stop) in enumerate(angles)
    )


def segment_values(measures: Iterable[Measure], quantity: str) -> dict[int, float | None]:
    """Return segment -> value from the rows of the table of measures; empty if the table has no such rows."""
    rows = {m.quantity: m.value for m in measures if m.structure == "MYO"}
    found = {number: f"{quantity}_{number:02d}" for number in range(1, 18)}
    return {number: rows[name] for number, name in found.items() if name in rows}


def drawn_quantities(measures: Iterable[Measure]) -> tuple[str, ...]:
    """Return the quantities that have a value in at least one segment, in the order of the pictures."""
    rows = tuple(measures)
    return tuple(q for q in SCALES if any(v is not None for v in segment_values(rows, q).values()))


def color_of(value: float | None, scale: tuple[float, float]) -> tuple[float, float, float]:
    """Return red, green and blue (0-1) of a value; values outside the scale have the colour of its end."""
    if value is None:
        return UNKNOWN_COLOR
    share = float(np.clip((value - scale[0]) / (scale[1] - scale[0]), 0.0, 1.0))
    red, green, blue = (float(np.interp(share, np.linspace(0, 1, len(_VIRIDIS)), c)) for c in _VIRIDIS.T)
    return red, green, blue


def ink_on(color: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return black or white, whichever is easier to read on a colour."""
    light = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0.0, 0.0, 0.0) if light > 0.5 else (1.0, 1.0, 1.0)


def text_of(value: float | None, quantity: str) -> str:
    """Return the text in a segment: one decimal for a thickness, none for a percentage."""
    if value is None:
        return "–"
    return f"{value:.1f}" if quantity == THICKNESS else f"{value:.0f}"
