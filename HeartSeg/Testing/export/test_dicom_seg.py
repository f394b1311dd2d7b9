"""DICOM SEG: highdicom and pydicom read every voxel at its position, and every segment with its meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg import __version__
from heartseg.anatomy import STRUCTURES
from heartseg.errors import OutputError
from heartseg.export import Subject, subject_of
from heartseg.export.dicom_seg import write_dicom_seg
from heartseg.provenance import ModelFacts, Provenance
from heartseg.result import Result
from heartseg.volume import Volume, read_volume
from volume.conftest import dicom_series as _dicom_series

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom", reason='needs highdicom: pip install "heartseg[dicom]"')

dicom_series = _dicom_series
MODEL = Provenance(model=ModelFacts(name="made up", version="1.2"))


def boxes(shape: tuple[int, int, int]) -> np.ndarray:
    """Return unequal boxes of four structures without symmetry; the last slice and one in the middle are empty."""
    labels = np.zeros(shape, np.uint8)
    labels[2:9, 3:12, 5:20] = 1
    labels[4:12, 14:22, 6:15] = 5
    labels[6:8, 24:30, 22:41] = 3
    labels[15:20, 3:5, 30:33] = 7
    return labels


def segmented(volume: Volume) -> Subject:
    return subject_of(Result(boxes(volume.geometry.shape), volume.geometry, provenance=MODEL), volume)


def read_back(path: Path, subject: Subject) -> np.ndarray:
    """Read HeartSeg's labels from the frames of the file: each frame is placed by its own position and orientation."""
    file = pydicom.dcmread(path)
    geometry = subject.result.geometry
    code = {s.snomed_code: s.label for s in STRUCTURES}
    label = {s.SegmentNumber: code[s.SegmentedPropertyTypeCodeSequence[0].CodeValue] for s in file.SegmentSequence}
    labels = np.zeros(geometry.shape, np.uint8)
    shared = file.SharedFunctionalGroupsSequence[0]
    for pixels, frame in zip(file.pixel_array, file.PerFrameFunctionalGroupsSequence, strict=True):
        own = shared if "PlaneOrientationSequence" in shared else frame
        direction = np.array(own.PlaneOrientationSequence[0].ImageOrientationPatient, float)
        assert np.allclose(direction, geometry.direction_matrix[:, :2].T.ravel(), atol=1e-6)
        index = geometry.world_to_index(np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float))
        assert np.allclose(index, np.rint(index), atol=1e-3)
        assert np.rint(index[1:]).tolist() == [0, 0]
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        labels[int(np.rint(index[0]))][pixels > 0] = label[number]
    return labels


OBLIQUE = {
    "ImageOrientationPatient": [0.8, 0.6, 0.0, 0.0, 0.0, -1.0],
    "per_slice": lambda k: {"ImagePositionPatient": [10.0 - 0.6 * 3 * k, 20.0 + 0.8 * 3 * k, 30.0]},
}


@pytest.mark.parametrize("tags", [{}, OBLIQUE], ids=["axial", "oblique"])
def test_every_voxel_comes_back(dicom_series: Callable[..., Path], tmp_path: Path, tags: dict[str, Any]) -> None:
    subject = segmented(read_volume(dicom_series(**tags)))
    path = write_dicom_seg(subject, tmp_path / "out.dcm")
    assert np.array_equal(read_back(path, subject), subject.result.labels)


def test_highdicom_puts_it_on_the_same_grid(dicom_series: Callable[..., Path], tmp_path: Path) -> None:
    subject = segmented(read_volume(dicom_series(**OBLIQUE)))
    grid = hd.seg.segread(write_dicom_seg(subject, tmp_path / "out.dcm")).get_volume(combine_segments=True)
    numbers = np.array([0, 1, 0, 2, 0, 3, 0, 4])  # segments are numbered without gaps, in label order
    for index in np.argwhere(grid.array)[::97]:
        world = (grid.affine @ [*index, 1.0])[:3]
        z, y, x = np.rint(subject.result.geometry.world_to_index(world)).astype(int)
        assert numbers[subject.result.labels[z, y, x]] == grid.array[tuple(index)]
    assert np.count_nonzero(grid.array) == np.count_nonzero(subject.result.labels)


def test_segments_say_what_they_are_and_who_made_them(dicom_series: Callable[..., Path], tmp_path: Path) -> None:
    file = hd.seg.segread(write_dicom_seg(segmented(read_volume(dicom_series())), tmp_path / "out.dcm"))
    present = [s for s in STRUCTURES if s.key in ("LV", "LA", "MYO", "PA")]
    assert file.number_of_segments == len(present)
    for number, expected in enumerate(present, 1):
        segment = file.get_segment_description(number)
        assert segment.segment_label == expected.name
        assert segment.segmented_property_type.value == expected.snomed_code
        assert segment.segmented_property_type.scheme_designator == "SCT"
        assert segment.segmented_property_category.value == "123037004"
        assert segment.algorithm_type.value == "AUTOMATIC"
        algorithm = segment.algorithm_identification
        assert (algorithm.name, algorithm.version) == ("HeartSeg", __version__)
        assert algorithm.parameters == {"model name": "made up", "model version": "1.2"}
        color = hd.color.CIELabColor(*_cielab(segment.RecommendedDisplayCIELabValue))
        assert np.allclose(color.to_rgb(), expected.color, atol=2)


def _cielab(stored: list[int]) -> tuple[float, float, float]:
    """Convert unsigned 16-bit numbers of DICOM PS3.3 C.10.7.1.1 to L*, a*, b*."""
    light, a, b = (v / 65535 for v in stored)
    return 100 * light, 255 * a - 128, 255 * b - 128


def test_it_belongs_to_the_patient_and_study_and_names_its_images(
    dicom_series: Callable[..., Path], tmp_path: Path
) -> None:
    folder = dicom_series()
    file = pydicom.dcmread(write_dicom_seg(segmented(read_volume(folder)), tmp_path / "out.dcm"))
    sources = [pydicom.dcmread(p) for p in folder.iterdir()]
    assert (file.PatientID, str(file.PatientName)) == ("T", "Test")
    assert file.StudyInstanceUID == sources[0].StudyInstanceUID
    assert file.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    assert file.SeriesInstanceUID != sources[0].SeriesInstanceUID
    assert (file.Modality, file.SegmentationType) == ("SEG", "BINARY")
    named = {r.ReferencedSOPInstanceUID for s in file.ReferencedSeriesSequence for r in s.ReferencedInstanceSequence}
    assert named == {s.SOPInstanceUID for s in sources}
    assert "research use only" in file.SeriesDescription


def test_slices_at_uneven_distances_keep_their_own_places(dicom_series: Callable[..., Path], tmp_path: Path) -> None:
    heights = [3.0 * k for k in range(30) if k != 12]
    subject = segmented(read_volume(dicom_series(positions=heights)))
    file = pydicom.dcmread(write_dicom_seg(subject, tmp_path / "out.dcm"))
    for frame, pixels in zip(file.PerFrameFunctionalGroupsSequence, file.pixel_array, strict=True):
        height = frame.PlanePositionSequence[0].ImagePositionPatient[2]
        assert height in heights
        slice_index = round(height / 3.0)  # the scan was resampled onto an even grid of 3 mm
        label = {1: 1, 2: 3, 3: 5, 4: 7}[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        assert np.array_equal(pixels > 0, subject.result.labels[slice_index] == label)


def test_two_series_that_were_joined_are_both_named(dicom_series: Callable[..., Path], tmp_path: Path) -> None:
    away = {3, 4, 5, 11, 12, 20, 21, 22}
    dicom_series(number=2, positions=[3.0 * k for k in range(30) if k not in away])
    folder = dicom_series(number=3, positions=[3.0 * k for k in sorted(away)])
    subject = segmented(read_volume(folder))
    path = write_dicom_seg(subject, tmp_path / "out.dcm")
    assert np.array_equal(read_back(path, subject), subject.result.labels)
    named = {s.SeriesInstanceUID for s in pydicom.dcmread(path).ReferencedSeriesSequence}
    assert named == {pydicom.dcmread(p).SeriesInstanceUID for p in folder.iterdir()}


def test_a_frame_of_a_time_series_names_its_own_images(dicom_series: Callable[..., Path], tmp_path: Path) -> None:
    folder = dicom_series(
        positions=[3.0 * (k % 30) for k in range(90)], per_slice=lambda k: {"TemporalPositionIdentifier": k // 30}
    )
    subject = segmented(read_volume(folder, frame=1))
    path = write_dicom_seg(subject, tmp_path / "out.dcm")
    assert np.array_equal(read_back(path, subject), subject.result.labels)
    named = {
        r.ReferencedSOPInstanceUID
        for s in pydicom.dcmread(path).ReferencedSeriesSequence
        for r in s.ReferencedInstanceSequence
    }
    own = {d.SOPInstanceUID for p in folder.iterdir() if (d := pydicom.dcmread(p)).TemporalPositionIdentifier == 1}
    assert named == own


# --- missing parts ----------------------------------------------------------------------------------------------------


def test_what_is_missing_is_said(dicom_series: Callable[..., Path], tmp_path: Path, subject: Subject) -> None:
    dicom = segmented(read_volume(dicom_series()))
    empty = replace(dicom, result=replace(dicom.result, labels=np.zeros_like(dicom.result.labels)))
    for lacking, words in (
        (replace(dicom, volume=None), "--scan"),
        (subject, "--scan"),
        (empty, "dicom-seg"),
    ):
        with pytest.raises(OutputError, match=words) as caught:
            write_dicom_seg(lacking, tmp_path / "out.dcm")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.dcm").exists()


def test_a_series_without_a_frame_of_reference_is_refused(dicom_series: Callable[..., Path], tmp_path: Path) -> None:
    folder = dicom_series()
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        del data.FrameOfReferenceUID
        data.save_as(path)
    with pytest.raises(OutputError, match="FrameOfReferenceUID"):
        write_dicom_seg(segmented(read_volume(folder)), tmp_path / "out.dcm")


@pytest.mark.shared
def test_a_real_series_from_a_scanner(shared_data: Path, tmp_path: Path) -> None:
    volume = read_volume(shared_data / "dicom" / "lung-dx-a0002")
    labels = np.zeros(volume.geometry.shape, np.uint8)
    labels[5:20, 100:200, 150:250], labels[8, 300:310, 10:90] = 1, 7
    subject = subject_of(Result(labels, volume.geometry), volume)
    assert np.array_equal(read_back(write_dicom_seg(subject, tmp_path / "out.dcm"), subject), labels)
