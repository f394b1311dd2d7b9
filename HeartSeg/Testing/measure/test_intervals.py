"""Intervals: what half a voxel changes, against spheres whose surface is moved."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.measure.intervals import border_shift, function_intervals, scan_intervals
from heartseg.result import Measure
from measured_hearts import grid


def sphere(radius: float, spacing: tuple[float, float, float]):
    geometry, world = grid(radius + 6, spacing)
    return ((world**2).sum(-1) < radius**2).astype(np.uint8), geometry


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 0.7), (2.0, 2.0, 2.0)])
@pytest.mark.parametrize("radius", [15.0, 30.0])
def test_half_a_voxel_of_a_sphere(radius: float, spacing: tuple[float, float, float]) -> None:
    labels, geometry = sphere(radius, spacing)
    moved = 4 * np.pi * radius**2 * spacing[0] / 2 / 1000
    assert border_shift(labels, geometry).volume_ml["LV"] == pytest.approx(moved, rel=0.04)


def test_values_get_the_interval_of_their_kind() -> None:
    labels, geometry = sphere(20.0, (1.0, 1.0, 1.0))
    shift = border_shift(labels, geometry)
    rows = (
        Measure("LV", "volume", 33.5, "mL"),
        Measure("LV", "volume_index", 16.75, "mL/m²"),
        Measure("AO", "diameter", 30.0, "mm"),
        Measure("PA", "diameter", 24.0, "mm"),
        Measure("PA", "pa_ao_ratio", 0.8, ""),
        Measure("LV", "mean_intensity", 300.0, "HU"),
        Measure("LV", "edv", None, "mL"),
    )
    found = scan_intervals(rows, shift, 2.0)
    assert found["LV", "volume"].half_width == pytest.approx(shift.volume_ml["LV"])
    assert found["LV", "volume_index"].half_width == pytest.approx(shift.volume_ml["LV"] / 2)
    assert found["AO", "diameter"].half_width == pytest.approx(1.0)
    assert found["PA", "pa_ao_ratio"].half_width == pytest.approx(0.8 * np.hypot(1 / 30, 1 / 24))
    assert set(found) == {(m.structure, m.quantity) for m in rows[:5]}


def test_function_moves_both_phases_together() -> None:
    rows = (
        Measure("LV", "edv", 150.0, "mL"),
        Measure("LV", "esv", 60.0, "mL"),
        Measure("LV", "ejection_fraction", 60.0, "%"),
        Measure("LV", "cardiac_output", 5.4, "L/min"),
    )
    found = function_intervals(rows, {"LV": 15.0}, {"LV": 8.0}, (60.0, None))
    assert (found["LV", "edv"].low, found["LV", "edv"].high) == (135.0, 165.0)
    assert (found["LV", "stroke_volume"].low, found["LV", "stroke_volume"].high) == (83.0, 97.0)
    ends = sorted((100 * 83 / 135, 100 * 97 / 165))
    assert (found["LV", "ejection_fraction"].low, found["LV", "ejection_fraction"].high) == pytest.approx(ends)
    assert found["LV", "cardiac_output"].high == pytest.approx(97 * 0.06)
