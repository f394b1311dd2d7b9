"""Measures of scans and of time series that hold a part of the heart only."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.measure import Circumstances, Comparison, Patient, Unknown, measure_labels
from heartseg.measure.study import FrameVolume, Study, frame_volumes, scan_study
from heartseg.result import Measure
from heartseg.volume.geometry import Geometry
from heartseg.volume.types import Volume
from measured_hearts import LeftVentricle, study_of_frames
from phantoms import heart_phantom

Frame = tuple[np.ndarray, Geometry]
WOMAN = Patient("F", 165.0, 60.0, 60.0)
CYCLE = Circumstances("MR", "cycle", "F")
FACTORS = (1.0, 0.97, 0.9, 0.8, 0.72, 0.7, 0.75, 0.85, 0.93, 0.98)


def rows_of(study: Study) -> dict[tuple[str, str], tuple[Measure, Comparison | Unknown]]:
    return {(m.structure, m.quantity): (m, found) for m, found in study.compared()}


def series(frames: list[Frame], circumstances: Circumstances = CYCLE, patient: Patient = WOMAN) -> Study:
    return study_of_frames(frames, patient, circumstances)


def beating(spacing: tuple[float, float, float], factors: tuple[float, ...] = FACTORS) -> list[Frame]:
    return [LeftVentricle().shrunk(f).labels(spacing) for f in factors]


def lower_part(frame: Frame, slices: int) -> Frame:
    labels, geometry = frame
    part = (slice(0, slices), slice(None), slice(None))
    return np.ascontiguousarray(labels[part]), geometry.cropped(part)


def study_of(labels: np.ndarray, geometry: Geometry) -> Study:
    measured = measure_labels(Volume(labels, geometry, modality="CT"), labels, STRUCTURES)
    return scan_study((labels, geometry), measured, WOMAN, Circumstances("CT", "diastole", "F"))


def test_a_structure_that_is_cut_off_has_no_index_and_no_comparison() -> None:
    labels, geometry, _ = heart_phantom((2.0, 2.0, 2.0))
    assert isinstance(rows_of(study_of(labels, geometry))["LV", "volume_index"][1], Comparison)
    at = np.argwhere(labels == 1)[:, 2]
    part = (slice(None), slice(None), slice(0, int(at.max()) - 5))
    rows = rows_of(study_of(np.ascontiguousarray(labels[part]), geometry.cropped(part)))
    assert ("LV", "volume_index") not in rows
    assert ("MYO", "mass_index") not in rows
    assert isinstance(rows["RA", "volume_index"][1], Comparison)
    measure, found = rows["LV", "volume"]
    assert measure.value is not None
    assert found == Unknown("cut off by the border of the scan")


def test_an_artery_that_leaves_the_scan_above_is_compared_but_one_cut_elsewhere_is_not() -> None:
    labels, geometry, _ = heart_phantom((2.0, 2.0, 2.0))
    at = np.argwhere(labels == 6)
    above = (slice(0, int(at[:, 0].max()) - 5), slice(None), slice(None))
    rows = rows_of(study_of(np.ascontiguousarray(labels[above]), geometry.cropped(above)))
    assert isinstance(rows["AO", "diameter"][1], Comparison)
    beside = (slice(None), slice(None), slice(int(at[:, 2].min()) + 1, None))
    study = study_of(np.ascontiguousarray(labels[beside]), geometry.cropped(beside))
    assert not any(isinstance(found, Comparison) for m, found in study.compared() if m.structure == "AO")


def test_a_remnant_is_neither_indexed_nor_compared() -> None:
    labels, geometry, _ = heart_phantom((2.0, 2.0, 2.0))
    voxels = np.argwhere(labels == 1)[:50]
    labels[labels == 1] = 0
    labels[tuple(voxels.T)] = 1
    rows = rows_of(study_of(labels, geometry))
    assert ("LV", "volume_index") not in rows
    assert isinstance(rows["LV", "volume"][1], Unknown)


def test_a_remnant_is_no_volume_of_a_frame() -> None:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[2:7, 2:7, 2:7] = 1
    labels[8, 2:5, 2:5] = 2
    volumes = frame_volumes(labels, Geometry(labels.shape, (4.0, 4.0, 2.0)))
    assert (volumes["LV"].volume_ml, volumes["LV"].open_ended) == (pytest.approx(125 * 0.032), False)
    assert volumes["RV"] == FrameVolume(None)  # 0.3 mL
    frames = beating((2.0, 2.0, 2.0))
    labels = frames[5][0]
    labels[labels == 1] = 0
    labels[tuple(np.argwhere(labels == 5)[:3].T)] = 1
    study = series(frames)
    fraction = rows_of(study)["LV", "ejection_fraction"][0]
    kept = [LeftVentricle().shrunk(f).volume_ml for f in FACTORS if f != 0.7]
    assert fraction.value == pytest.approx(100 * (1 - min(kept) / max(kept)), abs=1.0)
    assert "frame 5" in fraction.note


def test_a_frame_that_is_cut_off_has_no_volume() -> None:
    labels, geometry = LeftVentricle().labels((2.0, 2.0, 2.0))
    at = np.argwhere(labels == 1)[:, 0]
    cut = lower_part((labels, geometry), int(np.median(at)))
    assert frame_volumes(*cut)["LV"] == FrameVolume(None)


def test_a_thick_stack_that_ends_in_the_ventricle_is_measured_with_a_note_and_not_compared() -> None:
    whole = beating((2.0, 2.0, 8.0))
    complete = rows_of(series(whole))
    assert isinstance(complete["LV", "edv_index"][1], Comparison)
    at = np.argwhere(whole[0][0] == 1)[:, 0]
    cut = [lower_part(frame, int(np.median(at))) for frame in whole]
    rows = rows_of(series(cut))
    volume = np.count_nonzero(cut[0][0] == 1) * whole[0][1].voxel_volume_ml
    assert rows["LV", "edv"][0].value == pytest.approx(volume)
    assert volume < 0.7 * complete["LV", "edv"][0].value
    for quantity in ("edv_index", "esv_index", "stroke_volume_index"):
        assert isinstance(complete["LV", quantity][1], Comparison)
        assert isinstance(rows["LV", quantity][1], Unknown)
        assert "last slice" in rows["LV", quantity][0].note
    assert rows["LV", "ejection_fraction"][0].value is not None
    assert "last slice" in rows["LV", "ejection_fraction"][0].note
    assert "last slice" not in complete["LV", "ejection_fraction"][0].note
    assert any("last slice" in note for note in series(cut).function.notes)


def test_ranges_of_a_cycle_need_a_series_that_is_one() -> None:
    frames = beating((3.0, 3.0, 3.0))
    known, unknown = series(frames), series(frames, Circumstances("MR", "", "F"))
    assert isinstance(rows_of(known)["LV", "ejection_fraction"][1], Comparison)
    assert isinstance(rows_of(unknown)["LV", "ejection_fraction"][1], Unknown)
    assert len(unknown.function.notes) == len(known.function.notes) + 1


def test_a_heart_that_does_not_move_has_one_frame_for_both_ends() -> None:
    still = beating((3.0, 3.0, 3.0), (1.0, 1.0, 1.0))
    study = series(still)
    assert (study.function.end_diastole, study.function.end_systole) == (0, 0)
    assert rows_of(study)["LV", "ejection_fraction"][0].value == 0.0
    assert all("frame" not in f.values for f in study.findings)
