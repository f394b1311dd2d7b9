"""Geometry, values and colours of the bull's-eye plot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heartseg.measure.bullseye import (
    SCALES,
    THICKENING,
    THICKNESS,
    UNKNOWN_COLOR,
    color_of,
    drawn_quantities,
    ink_on,
    sectors,
    segment_values,
)
from heartseg.measure.segments17 import segments
from heartseg.result import Measure


def rows(quantity: Any, values: Any) -> Any:
    return [Measure("MYO", f"{quantity}_{n:02d}", v, "mm") for n, v in values.items()]


def test_the_sectors_tile_the_disc() -> None:
    area = sum((s.outer**2 - s.inner**2) * (s.stop_deg - s.start_deg) / 360 for s in sectors())
    assert area == pytest.approx(1.0)
    assert [s.segment for s in sectors()] == list(range(1, 18))


def test_a_sector_lies_where_its_segment_lies_about_the_axis() -> None:
    """The angle about the axis is 0 at the septum and 90 at the anterior wall; the septum is at the left."""
    for s in sectors()[:16]:
        right, up = s.middle
        angle = np.degrees(np.arctan2(up, -right))
        height = {1.0: 0.1, 0.75: 0.5, 0.5: 0.9}[s.outer]
        assert int(segments(np.array(height), np.array(angle))) == s.segment


def test_values_come_from_the_rows_of_their_quantity() -> None:
    table = rows(THICKNESS, {1: 9.0, 17: None}) + rows("wall_thickness_max", {1: 12.0})
    assert segment_values(table, THICKNESS) == {1: 9.0, 17: None}
    assert drawn_quantities(table) == (THICKNESS,)
    assert drawn_quantities(table + rows(THICKENING, {1: 40.0})) == (THICKNESS, THICKENING)
    assert drawn_quantities(rows(THICKNESS, {1: None})) == ()


def test_colours_are_ordered_by_lightness_and_values_are_readable() -> None:
    scale = SCALES[THICKNESS]
    colors = np.array([color_of(v, scale) for v in np.linspace(*scale, 50)])
    light = colors @ (0.299, 0.587, 0.114)
    assert (np.diff(light) > 0).all()
    assert color_of(-100.0, scale) == color_of(scale[0], scale)
    assert color_of(100.0, scale) == color_of(scale[1], scale)
    assert color_of(None, scale) == UNKNOWN_COLOR
    for color, dark in zip(colors, light, strict=True):
        assert abs(ink_on(tuple(color))[0] - dark) > 0.4
