"""The default model on real scans: the heart is found, left is left, and doubts are reported.

The scans are in ``../shared/data`` and not part of the repository. The chest CT with reference labels is the
development case: the limits below guard against regressions and do not claim accuracy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from heartseg import STRUCTURES, Segmenter, Severity, Volume, read_volume
from heartseg.result import Result

CENTER_LIMIT_MM = 30.0


@pytest.fixture(scope="module")
def chest(shared_data: Path) -> tuple[Volume, np.ndarray]:
    """The chest CT, its reference labels, and the result of the model."""
    path = shared_data / "scans" / "ct_chest_arterial_windowed_uint8.nii.gz"
    return read_volume(path), sitk.GetArrayFromImage(sitk.ReadImage(str(path).replace(".nii.gz", "_reference.nii.gz")))


@pytest.fixture(scope="module")
def chest_result(chest: tuple[Volume, np.ndarray], segmenter: Segmenter) -> Result:
    return segmenter.segment(chest[0])


def center(labels: np.ndarray, volume: Volume, *values: int) -> np.ndarray:
    return volume.geometry.index_to_world(np.argwhere(np.isin(labels, values)).mean(0))


def crop(volume: Volume, z: slice, y: slice = slice(None), x: slice = slice(None)) -> Volume:
    return Volume(volume.array[z, y, x], volume.geometry.cropped((z, y, x)), "part", volume.modality)


def test_the_heart_of_an_uncropped_chest_is_found_where_it_is(
    chest: tuple[Volume, np.ndarray], chest_result: Result
) -> None:
    volume, truth = chest
    found = center(chest_result.labels, volume, *range(1, 8))
    assert np.linalg.norm(found - center(truth, volume, *range(1, 8))) < CENTER_LIMIT_MM


def test_left_and_right_are_in_their_places(chest: tuple[Volume, np.ndarray], chest_result: Result) -> None:
    volume, _ = chest
    side = {s.key: center(chest_result.labels, volume, s.label)[0] for s in STRUCTURES[:4]}  # x: towards the left
    assert side["LV"] > side["RV"]
    assert side["LA"] > side["RA"]
    assert side["LV"] > side["RA"]


def test_every_structure_of_the_chest_overlaps_its_reference(
    chest: tuple[Volume, np.ndarray], chest_result: Result
) -> None:
    _, truth = chest
    dice = {}
    for s in STRUCTURES:
        a, b = chest_result.labels == s.label, truth == s.label
        dice[s.key] = 2 * float((a & b).sum()) / float(a.sum() + b.sum())
    assert np.mean(list(dice.values())) > 0.6, dice
    assert min(dice.values()) > 0.3, dice


@pytest.mark.parametrize("name", ["weak contrast CT", "DICOM series"])
def test_a_doubtful_scan_is_right_or_says_what_is_doubtful(name: str, shared_data: Path, segmenter: Segmenter) -> None:
    path = {
        "weak contrast CT": shared_data / "scans" / "ct_chest_weak_contrast_3mm.nii.gz",
        "DICOM series": shared_data / "dicom" / "lung-dx-a0002",
    }[name]
    volume = read_volume(path)
    result = segmenter.segment(volume)
    assert result.heart_found
    warned = [f for f in result.findings if f.severity is not Severity.INFO]
    assert warned, "no reference exists for this scan: without a single warning the result claims too much"
    if all((result.labels == k).any() for k in (1, 2)):
        assert center(result.labels, volume, 1)[0] > center(result.labels, volume, 2)[0]


@pytest.mark.parametrize("part", ["above the heart", "below the heart", "one lung"])
def test_a_heart_free_part_of_a_real_chest_has_no_heart(
    part: str, chest: tuple[Volume, np.ndarray], segmenter: Segmenter
) -> None:
    volume, truth = chest
    z = np.flatnonzero((truth > 0).any((1, 2)))
    x = np.flatnonzero((truth > 0).any((0, 1)))
    piece = {
        "above the heart": crop(volume, slice(int(z[-1]) + 6, None)),
        "below the heart": crop(volume, slice(0, int(z[0]) - 6)),
        "one lung": crop(volume, slice(None), slice(None), slice(0, int(x[0]) - 6)),
    }[part]
    result = segmenter.segment(piece)
    assert not result.heart_found
    assert not result.labels.any()
    assert result.findings[0].code == "no-heart"
