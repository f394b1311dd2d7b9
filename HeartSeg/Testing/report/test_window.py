"""The display window shows the heart: from the levels of fat, muscle and blood in CT, never from those of the lungs."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.measure.boxes import LabelCrop, crop_labels
from heartseg.report.window import display_window
from heartseg.volume import Geometry, Volume


def chest(
    blood: float, wall: float, offset: float = 0.0, lung_share: float = 0.7, modality: str = "CT"
) -> tuple[Volume, LabelCrop | None]:
    """A heart of two boxes in fat and much lung, with noise; values plus an offset."""
    generator = np.random.default_rng(0)
    shape = (40, 40, 40)
    image = np.full(shape, -850.0)
    image[: int(40 * (1 - lung_share))] = -100.0
    labels = np.zeros(shape, np.uint8)
    labels[2:11, 5:35, 5:35], labels[2:11, 12:28, 12:28] = 5, 1
    image[labels == 5], image[labels == 1] = wall, blood
    image += generator.normal(0, 25, shape) + offset
    geometry = Geometry(shape, (2.0, 2.0, 2.0))
    return Volume(image.astype(np.int16), geometry, "chest", modality), crop_labels(labels, geometry)


@pytest.mark.parametrize(("blood", "wall"), [(45.0, 50.0), (350.0, 110.0), (600.0, 140.0)])
@pytest.mark.parametrize("lung_share", [0.3, 0.7])
def test_the_window_of_a_ct_holds_fat_muscle_and_blood_and_not_the_lungs(
    blood: float, wall: float, lung_share: float
) -> None:
    volume, crop = chest(blood, wall, lung_share=lung_share)
    low, high = display_window(volume, crop)
    assert -200 <= low <= -120
    assert max(blood, wall) + 100 < high < max(blood, wall) + 400
    shown = [(level - low) / (high - low) for level in (-100.0, wall, blood)]
    assert all(0.05 < s < 0.95 for s in shown)


def test_without_contrast_it_is_the_window_of_the_mediastinum() -> None:
    volume, crop = chest(45.0, 45.0)
    assert display_window(volume, crop) == pytest.approx((-160, 245), abs=5)


def test_labels_in_the_lung_do_not_move_it() -> None:
    volume, crop = chest(-850.0, -850.0)
    assert display_window(volume, crop) == display_window(volume, None) == (-160.0, 250.0)


def test_an_offset_moves_it() -> None:
    volume, crop = chest(45.0, 45.0, offset=1000.0, lung_share=0.0)
    assert volume.value_scale.value == "offset"
    assert display_window(volume, crop) == pytest.approx((840, 1245), abs=5)


def test_in_mr_it_depends_on_the_values_around_the_heart_only() -> None:
    volume, crop = chest(600.0, 200.0, offset=900.0, modality="MR")
    low, high = display_window(volume, crop)
    assert 600 < low < 1100 < 1500 < high < 2000
    far = volume.array.copy()
    far[30:] = 30000
    assert display_window(Volume(far, volume.geometry, "mr", "MR"), crop) == pytest.approx((low, high))


def test_the_window_of_a_constant_scan_is_not_empty() -> None:
    geometry = Geometry((4, 4, 4), (1.0, 1.0, 1.0))
    low, high = display_window(Volume(np.zeros((4, 4, 4), np.int16), geometry), None)
    assert low < high
