"""Function from curves with known extremes, from moving phantoms, and from reference contours and fits."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.measure.function import CardiacFunction, cardiac_function, volume_curve
from heartseg.measure.function_table import function_measures
from heartseg.measure.grid import Unknown
from heartseg.volume.patient import Patient
from measured_hearts import LeftVentricle


def cycle(edv: float, esv: float, frames: int, systole: float = 0.35, first: float = 0.0) -> Any:
    """Return a ventricular volume curve: smooth ejection to ``esv`` at ``systole`` of the cycle, then filling."""
    t = np.mod(np.arange(frames) / frames + first, 1.0)
    filling = np.where(t < systole, 0.5 + 0.5 * np.cos(np.pi * t / systole), 0.0)
    filling = np.where(t >= systole, 0.5 - 0.5 * np.cos(np.pi * (t - systole) / (1 - systole)), filling)
    return esv + (edv - esv) * filling


def test_extremes_of_the_left_ventricle_are_end_diastole_and_end_systole_wherever_the_scan_starts() -> None:
    left = cycle(150.0, 60.0, 20, first=0.5)
    right = left * 1.2 + 3
    found = cardiac_function({"LV": left, "RV": right, "LA": 130 - left * 0.5, "MYO": [100.0] * 20}, 60.0)
    assert (found.end_diastole, found.end_systole) == (10, 17)
    assert found.left.edv_ml == pytest.approx(150.0)
    assert found.left.esv_ml == pytest.approx(60.0, abs=0.01)
    assert found.left.ejection_fraction_percent == pytest.approx(60.0, abs=0.1)
    assert found.left.stroke_volume_ml == pytest.approx(90.0, abs=0.01)
    assert found.right.edv_ml == pytest.approx(183.0)
    assert found.right.ejection_fraction_percent == pytest.approx(100 * 108 / 183, abs=0.1)
    assert found.left_atrium.emptying_fraction_percent == pytest.approx(45.0, abs=0.1)
    assert found.myocardium_ed_ml == 100.0
    assert found.right_atrium.max_ml is None
    assert found.cardiac_output_l_min == pytest.approx(5.4, abs=0.01)
    assert found.notes == ()
    assert cardiac_function({"LV": left}).cardiac_output_l_min is None


@pytest.mark.parametrize("frames", [10, 20, 25, 30])
@pytest.mark.parametrize("noise_ml", [0.0, 1.0])
def test_a_smooth_curve_has_no_misfits(frames: int, noise_ml: float) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        values = cycle(150.0, 60.0, frames, rng.uniform(0.3, 0.4), rng.uniform()) + rng.normal(0, noise_ml, frames)
        assert volume_curve("LV", values).misfits == ()


@pytest.mark.parametrize("frames", [10, 20, 25])
def test_a_frame_that_failed_is_found_and_left_out(frames: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        values = cycle(150.0, 60.0, frames, 0.35, rng.uniform()) + rng.normal(0, 1.0, frames)
        bad = int(rng.integers(frames))
        wrong = values.copy()
        wrong[bad] += rng.choice([-1, 1]) * rng.uniform(45, 60)
        found = cardiac_function({"LV": wrong})
        assert found.curves["LV"].misfits == (bad,)
        assert any(f"frame {bad} " in note for note in found.notes)
        kept = np.delete(values, bad)
        assert found.left.edv_ml == pytest.approx(kept.max())
        assert found.left.esv_ml == pytest.approx(kept.min())


def test_two_failed_frames_are_found() -> None:
    values = cycle(150.0, 60.0, 25)
    values[3], values[14] = 30.0, 190.0
    assert volume_curve("LV", values).misfits == (3, 14)


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_with_many_failed_frames_has_no_extremes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = cycle(150.0, 60.0, 20)
    values[rng.choice(20, 6, replace=False)] += rng.choice([-1, 1], 6) * rng.uniform(45, 60, 6)
    curve = volume_curve("LV", values)
    assert curve.checked and curve.problem and not curve.used
    assert isinstance(cardiac_function({"LV": values}), Unknown)
    found = cardiac_function({"LV": cycle(150.0, 60.0, 20), "RV": values, "LA": values, "MYO": values})
    assert isinstance(found, CardiacFunction)
    assert found.left.ejection_fraction_percent == pytest.approx(60.0, abs=0.1)
    assert (found.right.edv_ml, found.left_atrium.max_ml, found.myocardium_ed_ml) == (None, None, None)
    for key in ("RV", "LA", "MYO"):
        assert any(note.startswith(f"{key}: ") for note in found.notes)
    rows = {(m.structure, m.quantity): m for m in function_measures(found, Patient())}
    assert curve.problem in rows["RV", "ejection_fraction"].note
    assert curve.problem not in rows["LV", "ejection_fraction"].note


def test_a_curve_without_many_of_its_frames_has_no_extremes() -> None:
    values: list[float | None] = list(cycle(150.0, 60.0, 20))
    for k in (0, 1, 2, 18, 19):  # the largest, cut off by the border of the scan
        values[k] = None
    assert isinstance(cardiac_function({"LV": values}), Unknown)


def test_few_frames_are_not_judged_and_the_notes_say_so() -> None:
    found = cardiac_function({"LV": [150.0, 60.0]})
    assert found.left.ejection_fraction_percent == pytest.approx(60.0)
    assert "too few frames" in found.notes[0]


def test_a_missing_ventricle_has_no_numbers() -> None:
    assert isinstance(cardiac_function({"LV": [None, 80.0, None], "RV": [90.0, 80.0, 70.0]}), Unknown)
    values = list(cycle(150.0, 60.0, 10))
    values[4] = None
    right: list[float | None] = list(cycle(180.0, 90.0, 10))
    right[0] = None
    found = cardiac_function({"LV": values, "RV": right})
    assert found.right.edv_ml is None
    assert found.right.ejection_fraction_percent is None
    assert "LV: no volume in frame 4" in found.notes
    with pytest.raises(ValueError, match="frames"):
        cardiac_function({"LV": [1.0, 2.0], "RV": [1.0]})


def test_the_ejection_fraction_of_a_moving_phantom_is_within_one_point() -> None:
    hearts = [LeftVentricle().shrunk(f) for f in (1.0, 0.9, 0.75, 0.7, 0.85)]
    volumes = []
    for heart in hearts:
        labels, geometry = heart.labels((1.0, 1.0, 1.5))
        volumes.append(np.count_nonzero(labels == 1) * geometry.voxel_volume_ml)
        assert volumes[-1] == pytest.approx(heart.volume_ml, rel=0.01)
    found = cardiac_function({"LV": volumes})
    expected = 100 * (1 - hearts[3].volume_ml / hearts[0].volume_ml)
    assert (found.end_diastole, found.end_systole) == (0, 3)
    assert found.left.ejection_fraction_percent == pytest.approx(expected, abs=1.0)


def test_body_surface_area_after_mosteller() -> None:
    assert Patient(height_cm=180, weight_kg=80).bsa_m2 == pytest.approx(2.0)
    assert Patient(height_cm=180).bsa_m2 is None


def test_function_of_the_biv_me_fit(shared_data: Path) -> None:
    """The authors' fitted model: EDV 179, ESV 72 mL, EF 60 %."""
    path = shared_data / "dicom" / "bivme-patient1-sax" / "volumes_of_the_fit.csv"
    with path.open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    found = cardiac_function(
        {"LV": [float(r["LV_endocardium_mL"]) for r in rows], "RV": [float(r["RV_endocardium_mL"]) for r in rows]}
    )
    assert all(curve.misfits == () for curve in found.curves.values())
    assert found.left.edv_ml == pytest.approx(179, abs=1)
    assert found.left.esv_ml == pytest.approx(72, abs=1)
    assert found.left.ejection_fraction_percent == pytest.approx(60, abs=1)


def test_ejection_fractions_of_the_sunnybrook_contours_follow_the_diagnosis(shared_data: Path) -> None:
    """Failing hearts (HF) below 45 %, normal (N) and hypertrophic ones (HYP) above 50 %."""
    from hearts import read

    folder = shared_data / "scans" / "mr_sunnybrook_ed_es"
    found = sorted(folder.glob("SC-*_ED_LVendo.nii.gz"))
    assert len(found) == 8, f"contours of 8 hearts are expected in {folder}"
    for path in found:
        volumes = []
        for phase in ("ED", "ES"):
            labels, geometry = read(path.with_name(path.name.replace("_ED_", f"_{phase}_")))
            volumes.append(np.count_nonzero(labels) * geometry.voxel_volume_ml)
        fraction = cardiac_function({"LV": volumes}).left.ejection_fraction_percent
        assert fraction < 45 if "-HF-" in path.name else fraction > 50
