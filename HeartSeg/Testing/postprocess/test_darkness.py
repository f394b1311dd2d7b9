"""Removal of labels from dark regions, in HU and windowed images, but not in MR."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.postprocess.darkness import TISSUE_HU, TOO_DARK, darkest_tissue, remove_dark
from heartseg.volume.geometry import Geometry
from heartseg.volume.types import Volume

MYO = next(s.label for s in STRUCTURES if s.key == "MYO")
SHAPE = (40, 44, 48)


def scene(fat: float, muscle: float, air: float, modality: str = "CT") -> tuple[Volume, np.ndarray, np.ndarray]:
    """Return a box of myocardium in fat and air, its labels two voxels too thick on every side, and the true labels."""
    image = np.full(SHAPE, air, np.float32)
    image[4:36, 4:40, 4:44] = fat
    true = np.zeros(SHAPE, np.uint8)
    true[10:30, 10:34, 10:38] = MYO
    image[true > 0] = muscle
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:32, 8:36, 8:40] = MYO
    noise = np.random.default_rng(0).normal(0, 8, SHAPE) if air < 0 else 0.0
    volume = Volume(np.asarray(image + noise, np.float32), Geometry(SHAPE, (1.0, 1.0, 1.0)), modality=modality)
    return volume, labels, true


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float(((a > 0) & (b > 0)).sum()) / float((a > 0).sum() + (b > 0).sum())


@pytest.mark.parametrize(("fat", "muscle", "air"), [(-100.0, 100.0, -1000.0), (0.0, 60.0, 0.0)], ids=["HU", "windowed"])
def test_labels_in_dark_regions_are_removed_and_tissue_is_kept(fat: float, muscle: float, air: float) -> None:
    volume, labels, true = scene(fat, muscle, air)
    cleaned, removals = remove_dark(labels, volume)
    assert dice(labels, true) < 0.8
    assert dice(cleaned, true) > (0.93 if air < 0 else 0.85)
    assert cleaned[(true > 0)].mean() > 0.97 * MYO
    (removal,) = removals
    assert (removal.structure, removal.reason) == ("MYO", TOO_DARK)
    assert removal.voxels == int((labels > 0).sum() - (cleaned > 0).sum())


@pytest.mark.parametrize(("hu", "kept"), [(0.0, True), (-70.0, False)], ids=["unenhanced blood", "mostly fat"])
def test_the_limit_in_hu_lies_between_fat_and_unenhanced_blood(hu: float, kept: bool) -> None:
    volume, _, true = scene(-100.0, 100.0, -1000.0)
    image = volume.array.copy()
    image[14:26, 14:30, 14:30] = hu
    cleaned, _ = remove_dark(true, replace(volume, array=image))
    assert bool(cleaned[20, 22, 22]) == kept


def test_mr_is_not_changed() -> None:
    volume, labels, _ = scene(0.0, 60.0, 0.0, "MR")
    assert darkest_tissue(volume) is None
    cleaned, removals = remove_dark(labels, volume)
    assert cleaned is labels
    assert removals == ()


def test_a_scan_without_black_and_without_hu_has_no_limit() -> None:
    rng = np.random.default_rng(1)
    volume = Volume(rng.uniform(50, 90, SHAPE).astype(np.float32), Geometry(SHAPE, (1.0, 1.0, 1.0)))
    assert darkest_tissue(volume) is None


def test_hu_is_recognized_by_air() -> None:
    volume, _, _ = scene(-100.0, 100.0, -1000.0, "")
    assert darkest_tissue(volume) == TISSUE_HU


def test_a_structure_that_is_black_in_a_window_is_kept() -> None:
    volume, labels, _ = scene(0.0, 0.0, 0.0)
    bright = volume.array.copy()
    bright[0:3] = 200
    windowed = Volume(bright, volume.geometry, modality="CT")
    cleaned, removals = remove_dark(labels, windowed)
    assert np.array_equal(cleaned, labels)
    assert removals == ()


def test_the_input_is_not_modified_and_may_be_empty() -> None:
    volume, labels, _ = scene(-100.0, 100.0, -1000.0)
    before = labels.copy()
    remove_dark(labels, volume)
    assert np.array_equal(labels, before)
    empty = np.zeros(SHAPE, np.uint8)
    assert remove_dark(empty, volume) == (empty, ())
