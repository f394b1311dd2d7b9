"""Reference ranges, limits of plausibility and rows of the table."""

from __future__ import annotations

import re

import pytest

from heartseg.anatomy import KEYS, structure
from heartseg.measure import (
    Circumstances,
    Comparison,
    Patient,
    Unknown,
    cardiac_function,
    compare,
    function_measures,
    heart_measures,
    implausible,
    index_measures,
    measure_heart,
)
from heartseg.measure.function import CardiacFunction
from heartseg.measure.norms import ANY, load_norms
from heartseg.result import Measure
from measured_hearts import LeftVentricle
from phantoms import heart_phantom

VOLUME = Measure("LV", "volume_index", 90.0, "mL/m²")


def test_every_range_has_a_source_and_a_meaning() -> None:
    norms, limits = load_norms()
    for norm in norms:
        assert re.fullmatch(r"10\.\d{4,}/\S+", norm.doi)
        assert norm.source and norm.basis
        assert norm.sex in ("M", "F", ANY)
        assert norm.phase in ("diastole", "cycle", ANY)
        assert norm.modality in ("CT", "MR")
        assert norm.low is not None or norm.high is not None
        assert norm.low is None or norm.high is None or norm.low < norm.high
    keys = [(n.structure, n.quantity, n.modality, n.phase, n.sex) for n in norms]
    assert len(set(keys)) == len(keys)
    assert len({(x.structure, x.quantity) for x in limits}) == len(limits)
    for norm in norms:  # no healthy value is implausible
        for x in limits:
            if (x.structure, x.quantity) == (norm.structure, norm.quantity):
                assert x.low <= (norm.low or x.low)
                assert (norm.high or x.high) <= x.high


def test_a_value_is_compared_with_the_range_of_its_sex_modality_and_phase() -> None:
    woman = compare(VOLUME, Circumstances("CT", "diastole", "F"))
    man = compare(VOLUME, Circumstances("CT", "diastole", "M"))
    assert isinstance(woman, Comparison) and isinstance(man, Comparison)
    assert (woman.position, woman.norm.high) == ("above", 83)
    assert (man.position, man.norm.high) == ("within", 97)
    low = compare(Measure("LV", "ejection_fraction", 35.0, "%"), Circumstances("MR", "cycle", "M"))
    assert isinstance(low, Comparison)
    assert low.position == "below"


@pytest.mark.parametrize(
    ("circumstances", "why"),
    [
        (Circumstances("", "diastole", "M"), "modality unknown"),
        (Circumstances("CT", "diastole", None), "sex unknown"),
        (Circumstances("CT", "", "M"), "reference range is for diastole, the phase is unknown"),
        (Circumstances("MR", "diastole", "M"), "no reference range for MR"),
    ],
)
def test_nothing_is_compared_when_something_is_unknown(circumstances: Circumstances, why: str) -> None:
    assert compare(VOLUME, circumstances) == Unknown(why)


def test_a_range_for_any_sex_needs_no_sex() -> None:
    assert isinstance(compare(Measure("PA", "pa_ao_ratio", 0.8, ""), Circumstances("CT")), Comparison)
    assert compare(Measure("PA", "pa_ao_ratio", None, "", "no PA"), Circumstances("CT")) == Unknown("no PA")
    assert compare(Measure("LV", "extent_x", 80.0, "mm"), Circumstances("CT")) == Unknown("no reference range")


def test_implausible_values_are_found() -> None:
    assert implausible(Measure("LV", "ejection_fraction", 97.0, "%")).high == 90
    assert implausible(Measure("LV", "ejection_fraction", 60.0, "%")) is None
    assert implausible(Measure("LV", "ejection_fraction", None, "%")) is None


@pytest.mark.parametrize("key", KEYS)
def test_limits_of_sizes_are_those_of_the_structure(key: str) -> None:
    low, high = structure(key).plausible
    unit = structure(key).plausible_unit.split()[0]
    size = {"mL": "volume", "g": "mass", "mm": "diameter"}[unit]
    assert implausible(Measure(key, size, high, unit)) is None
    for value in (low * 0.9, high * 1.1):
        found = implausible(Measure(key, size, value, unit))
        assert (found.low, found.high) == (low, high)
    assert not {"volume", "edv", "mass", "diameter"} & {x.quantity for x in load_norms()[1]}


def test_rows_of_a_phantom_have_values_or_reasons() -> None:
    labels, geometry, _ = heart_phantom()
    rows = heart_measures(measure_heart(labels, geometry))
    assert len({(m.structure, m.quantity) for m in rows}) == len(rows)
    for m in rows:
        assert m.value is not None or m.note, m
    found = {(m.structure, m.quantity): m.value for m in rows}
    assert found["MYO", "wall_thickness_mean"] == pytest.approx(9.0, abs=0.3)
    assert found["LV", "long_axis_length"] == pytest.approx(66.0, abs=1.5)
    assert sum(found["MYO", f"segment_mass_{k:02d}"] for k in range(1, 18)) == pytest.approx(
        (labels == 5).sum() * geometry.voxel_volume_ml * 1.05
    )
    labels[labels == 2] = 0
    by_name = {(m.structure, m.quantity): m for m in heart_measures(measure_heart(labels, geometry))}
    assert by_name["RV", "rv_lv_diameter_ratio"].value is None
    assert "right ventricle not found" in by_name["RV", "rv_lv_diameter_ratio"].note
    assert by_name["LV", "long_axis_length"].value is not None


def test_an_empty_label_map_has_no_measures() -> None:
    labels, geometry = LeftVentricle().labels((4.0, 4.0, 4.0))
    assert measure_heart(labels * 0, geometry) is None


def measured_function(curves: dict[str, list[float]], heart_rate: float | None = None) -> CardiacFunction:
    function = cardiac_function(curves, heart_rate)
    assert isinstance(function, CardiacFunction)
    return function


def test_function_rows_need_heart_rate_and_body_size() -> None:
    function = measured_function({"LV": [150.0, 60.0], "MYO": [100.0, 101.0], "LA": [40.0, 80.0]}, 70.0)
    rows = {(m.structure, m.quantity): m for m in function_measures(function, Patient("M", 180, 80, 70.0))}
    assert rows["LV", "cardiac_output"].value == pytest.approx(6.3)
    assert rows["LV", "cardiac_index"].value == pytest.approx(3.15)
    assert rows["LV", "edv_index"].value == pytest.approx(75.0)
    assert rows["MYO", "mass_ed"].value == pytest.approx(105.0)
    assert rows["LA", "emptying_fraction"].value == pytest.approx(50.0)
    assert rows["RV", "edv"].value is None
    function = measured_function({"LV": [150.0, 60.0]})
    rows = {(m.structure, m.quantity): m for m in function_measures(function, Patient())}
    assert (rows["LV", "cardiac_output"].value, rows["LV", "cardiac_output"].note) == (None, "heart rate unknown")
    assert (rows["LV", "edv_index"].value, rows["LV", "edv_index"].note) == (None, "height and weight unknown")
    assert index_measures([Measure("LV", "volume", 150.0, "mL")], Patient()) == ()
    (index,) = index_measures([Measure("LV", "volume", 150.0, "mL")], Patient(height_cm=180, weight_kg=80))
    assert (index.quantity, index.value) == ("volume_index", pytest.approx(75.0))
