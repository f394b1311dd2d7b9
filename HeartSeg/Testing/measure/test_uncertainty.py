"""Intervals of measures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.findings import Finding, Severity
from heartseg.measure import Circumstances, Patient, measure_labels
from heartseg.measure.study import series_study
from heartseg.measure.uncertainty import borders_of, half_voxel_effect, load_factors
from heartseg.quality import without_doubtful_intervals
from heartseg.result import Measure
from heartseg.volume.geometry import Geometry
from heartseg.volume.types import Volume
from measured_hearts import LeftVentricle, heart_grid
from phantoms import heart_phantom


def ball(radius_mm: Any, spacing: Any) -> Any:
    half = np.ceil(radius_mm / np.array(spacing[::-1])) + 3
    index = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"), -1) * np.array(spacing[::-1])
    labels = ((index**2).sum(-1) <= radius_mm**2).astype(np.uint8)
    return labels, Geometry(labels.shape, spacing, (0.0, 0.0, 0.0))


@pytest.mark.parametrize(("spacing", "voxel"), [((2.0, 2.0, 2.0), 2.0), ((0.8, 0.8, 0.8), 1.5), ((1.5, 1.5, 1.5), 1.5)])
def test_half_a_voxel_changes_a_ball_by_its_shell(spacing: Any, voxel: Any) -> None:
    """A level set at half a voxel: the shell between radius r and r + h / 2; never finer than the network's grid."""
    borders = borders_of(heart_grid(*ball(30.0, spacing)))
    volume, change = borders.volume_ml["LV"]
    shell = 4 / 3 * math.pi * ((30 + voxel / 2) ** 3 - 30**3) / 1000
    assert volume == pytest.approx(4 / 3 * math.pi * 27, rel=0.01)
    assert change == pytest.approx(shell, rel=0.06)
    assert half_voxel_effect(Measure("LV", "volume", volume, "mL"), borders) == change
    assert half_voxel_effect(Measure("LV", "long_axis_length", 60.0, "mm"), borders) == pytest.approx(voxel)
    assert borders.change_ml("LV", 8 * volume) == pytest.approx(4 * change)


def test_thick_slices_widen_the_interval() -> None:
    thin, thick = (borders_of(heart_grid(*ball(30.0, (1.5, 1.5, z)))).volume_ml["LV"][1] for z in (1.5, 8.0))
    assert 1.8 < thick / thin < 4.0


def test_most_measures_have_an_interval_around_their_value() -> None:
    labels, geometry, _ = heart_phantom((1.5, 1.5, 1.5))
    rows = measure_labels(Volume(labels, geometry, modality="CT"), labels, STRUCTURES).measures
    known = {(m.structure, m.quantity): m for m in rows}
    for key in (("LV", "volume"), ("MYO", "mass"), ("AO", "diameter"), ("PA", "pa_ao_ratio"), ("LV", "sphericity")):
        m = known[key]
        assert m.low is not None and m.low < m.value < m.high, key
    assert known["LV", "mean_intensity"].low is None
    assert known["LV", "extent_x"].low is None
    wide = measure_labels(Volume(labels, geometry, modality="CT"), labels, STRUCTURES, {"LV": 0.2}).measures
    (spread,) = [m for m in wide if (m.structure, m.quantity) == ("LV", "volume")]
    half = math.hypot(known["LV", "volume"].high - spread.value, 1.645 * 0.2 * spread.value)
    assert spread.high - spread.value == pytest.approx(half)


def test_what_is_cut_off_or_doubtful_has_no_interval() -> None:
    labels, geometry, _ = heart_phantom((2.0, 2.0, 2.0))
    right = int(np.argwhere(labels == 2)[:, 2].min()) + 8
    cut, grid = (
        np.ascontiguousarray(labels[..., right:]),
        geometry.cropped((slice(None), slice(None), slice(right, None))),
    )
    rows = measure_labels(Volume(cut, grid, modality="CT"), cut, STRUCTURES).measures
    known = {(m.structure, m.quantity): m for m in rows}
    assert known["RV", "volume"].low is None
    assert known["LV", "volume"].low is not None
    warning = Finding("shape-implausible", Severity.WARNING, "The left ventricle is odd.", "LV")
    info = Finding("several-components", Severity.INFO, "Pieces were removed.", "AO")
    doubted = {(m.structure, m.quantity): m for m in without_doubtful_intervals(rows, (warning, info))}
    assert doubted["LV", "volume"].low is None and "shape-implausible" in doubted["LV", "volume"].note
    assert doubted["AO", "volume"].low is not None


def test_the_function_has_intervals_from_both_volumes() -> None:
    frames = [LeftVentricle().shrunk(f).labels((2.0, 2.0, 2.0)) for f in (1.0, 0.8, 0.7, 0.85)]
    study = series_study(4, lambda k: frames[k], Patient("F", 165.0, 60.0, 60.0), Circumstances("MR", "cycle"))
    rows = {(m.structure, m.quantity): m for m in study.measures}
    half = {q: rows["LV", q].high - rows["LV", q].value for q in ("edv", "esv", "stroke_volume", "ejection_fraction")}
    assert half["stroke_volume"] == pytest.approx(math.hypot(half["edv"], half["esv"]))
    edv, esv = rows["LV", "edv"].value, rows["LV", "esv"].value
    assert half["ejection_fraction"] == pytest.approx(100 / edv * math.hypot(half["esv"], esv / edv * half["edv"]))
    index = rows["LV", "edv_index"]
    assert (index.high - index.value) / index.value == pytest.approx(half["edv"] / edv)
    assert rows["LV", "cardiac_output"].high - rows["LV", "cardiac_output"].value == pytest.approx(
        half["stroke_volume"] * 0.06
    )
    assert rows["MYO", "thickening_08"].low < rows["MYO", "thickening_08"].value


def test_every_factor_was_chosen_on_enough_hearts_and_holds_its_share() -> None:
    for key, factor in load_factors().items():
        assert factor.n >= 10, key
        assert 0.85 <= factor.coverage <= 0.96, key
