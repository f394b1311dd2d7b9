"""Intervals of measures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.findings import Finding, Severity
from heartseg.measure import Circumstances, Patient, measure_labels
from heartseg.measure.uncertainty import borders_of, half_voxel_effect, load_factors, without_intervals
from heartseg.quality import measured_and_checked
from heartseg.result import Measure
from heartseg.volume.geometry import Geometry
from heartseg.volume.types import Volume
from measured_hearts import LeftVentricle, heart_grid, study_of_frames
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
    found = measured_and_checked(cut, grid, STRUCTURES)
    known = {(m.structure, m.quantity): m for m in found.measures}
    for m in found.measures:
        assert (m.structure == "RV") <= (m.low is None), m
    assert known["LV", "volume"].low is not None
    assert "no interval" in known["RV", "volume"].note
    assert {(f.structure, f.values.get("other")) for f in found.findings if f.severity is not Severity.INFO} >= {
        ("RV", None)
    }


def test_a_ratio_has_no_interval_if_either_part_is_in_doubt() -> None:
    aorta = Measure("AO", "diameter", 30.0, "mm", "", 28.0, 32.0)
    ventricle = Measure("LV", "volume", 90.0, "mL", "", 80.0, 100.0)
    ratio = Measure("PA", "pa_ao_ratio", 0.9, "", "inner", 0.8, 1.0)
    diameter, volume, doubted = without_intervals((aorta, ventricle, ratio), {"AO": "cut"})
    assert (diameter.low, diameter.note) == (None, "no interval: cut")
    assert volume == ventricle
    assert (doubted.low, doubted.note) == (None, "inner; no interval: cut")


def test_findings_on_the_run_are_kept_and_those_on_the_labels_are_made_again() -> None:
    labels, geometry, image = heart_phantom((2.0, 2.0, 2.0))
    labels[labels == 7] = 0
    run = Finding("second-candidate", Severity.WARNING, "A second region looks like a heart.")
    stale = Finding("structure-missing", Severity.ERROR, "The left atrium was not found.", "LA")
    grey = Finding("contrast-doubtful", Severity.WARNING, "Blood is hardly brighter.")
    removed = Finding("several-components", Severity.WARNING, "Half of the label was separate.", "RA")
    blind = measured_and_checked(labels, geometry, STRUCTURES, findings=(run, stale, grey, removed))
    assert [f for f in blind.findings if f.code == removed.code] == [removed]
    assert {m.low for m in blind.measures if m.structure == "RA"} == {None}
    assert run in blind.findings
    assert grey in blind.findings
    missing = [f.structure for f in blind.findings if f.code == "structure-missing"]
    assert missing == ["PA"]
    assert all(m.value is None and m.note for m in blind.measures if m.structure == "PA")
    assert not [m for m in blind.measures if m.quantity == "mean_intensity"]
    seeing = measured_and_checked(
        labels, geometry, STRUCTURES, Volume(image, geometry, modality="CT"), findings=(run, grey)
    )
    assert [f.code for f in seeing.findings if f in (run, grey)] == ["second-candidate"]


def test_a_finding_on_either_end_of_the_cycle_is_in_the_study_and_takes_the_intervals() -> None:
    frames = [LeftVentricle().shrunk(f).labels((2.0, 2.0, 2.0)) for f in (1.0, 0.8, 0.7, 0.85)]
    whole = study_of_frames(frames, Patient("F", 165.0, 60.0, 60.0), Circumstances("MR", "cycle"))
    systole = frames[2][0]
    doubted = np.argwhere(systole == 1)
    systole[tuple(doubted[doubted[:, 2] < np.median(doubted[:, 2]) - 6].T)] = 2  # RV in the cavity of the LV
    study = study_of_frames(frames, Patient("F", 165.0, 60.0, 60.0), Circumstances("MR", "cycle"))
    before = {(m.structure, m.quantity): m for m in whole.measures}
    after = {(m.structure, m.quantity): m for m in study.measures}
    found = [f for f in study.findings if f.values.get("frame") == 2 and f.severity is not Severity.INFO]
    assert "LV" in {f.structure for f in found} | {f.values.get("other") for f in found}
    for quantity in ("edv", "ejection_fraction", "edv_index", "cardiac_index"):
        assert before["LV", quantity].low is not None, quantity
        assert after["LV", quantity].low is None, quantity
        assert "no interval" in after["LV", quantity].note


def test_the_function_has_intervals_from_both_volumes() -> None:
    frames = [LeftVentricle().shrunk(f).labels((2.0, 2.0, 2.0)) for f in (1.0, 0.8, 0.7, 0.85)]
    study = study_of_frames(frames, Patient("F", 165.0, 60.0, 60.0), Circumstances("MR", "cycle"))
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
    unsteady = study_of_frames(frames, Patient("F", 165.0, 60.0, 60.0, 6.0), Circumstances("MR", "cycle"))
    output = next(m for m in unsteady.measures if m.quantity == "cardiac_output")
    part = rows["LV", "stroke_volume"].value * 0.006
    assert output.high - output.value == pytest.approx(math.hypot(half["stroke_volume"] * 0.06, part))
    assert "60 ± 6/min" in output.note


def test_every_factor_was_chosen_on_enough_hearts_and_holds_its_share() -> None:
    for key, factors in load_factors().items():
        for factor in factors.values():
            assert factor.hearts >= 10, key
            assert 0.85 <= factor.coverage <= 0.96, key


def test_the_interval_is_that_of_the_modality_and_the_wider_one_if_it_is_unknown() -> None:
    labels, geometry = ball(30.0, (1.5, 1.5, 1.5))
    widths = {}
    for modality in ("CT", "MR", ""):
        rows = measure_labels(Volume(labels, geometry, modality=modality), labels, STRUCTURES).measures
        volume = next(m for m in rows if (m.structure, m.quantity) == ("LV", "volume"))
        widths[modality] = volume.high - volume.value
        factors = load_factors()["LV", "volume"]
        change = borders_of(heart_grid(labels, geometry)).volume_ml["LV"][1]
        assert widths[modality] == pytest.approx(change * max(f.factor for k, f in factors.items() if modality in k))
    assert widths[""] == max(widths["CT"], widths["MR"])
