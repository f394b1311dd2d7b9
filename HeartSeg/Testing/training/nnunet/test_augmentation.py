"""Region-aware augmentation respects the limits of the documents and moves nothing without target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("batchgeneratorsv2", reason="pip install 'heartseg[train]'")

from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from heartseg.training.nnunet.augmentation import RegionAwareTransform, adapted

SIZE, PATCH = 128, 96


def patch_with_bar(y: int = 64, x: int = 64, half: tuple[int, int] = (20, 5)) -> dict[str, torch.Tensor]:
    """Return a bright bar on a (1, 128, 128) image, and its label."""
    label = torch.zeros(1, SIZE, SIZE, dtype=torch.int16)
    label[0, y - half[0] : y + half[0] + 1, x - half[1] : x + half[1] + 1] = 1
    return {"image": label.float() * 100, "segmentation": label}


def moments(label: torch.Tensor) -> tuple[np.ndarray, float, float]:
    """Return centroid (y, x), area, and angle of the long axis against y in degrees, -90 to 90."""
    points = torch.nonzero(label[0] == 1).double().numpy()
    values, vectors = np.linalg.eigh(np.cov(points.T))
    long = vectors[:, int(values.argmax())]
    angle = math.degrees(math.atan2(long[1], long[0]))
    return points.mean(0), float(len(points)), (angle + 90) % 180 - 90


def test_rotation_shift_and_scale_use_the_whole_range_and_stay_within_it() -> None:
    np.random.seed(4)  # noqa: NPY002 (batchgenerators draws from numpy's global generator)
    transform, angles, scales, shifts = RegionAwareTransform((PATCH, PATCH)), [], [], []
    area = moments(patch_with_bar()["segmentation"])[1]
    for _ in range(200):
        found = transform(**patch_with_bar())
        assert found["segmentation"].shape == (1, PATCH, PATCH)
        middle, size, angle = moments(found["segmentation"])
        angles.append(angle)
        scales.append(math.sqrt(size / area))
        shifts.append(middle - (64 - (SIZE - PATCH) / 2))
    limit, tolerance = 0.1 * PATCH, 1.0  # in voxels: labels are integers
    assert np.abs(shifts).max() <= limit + tolerance and np.abs(shifts).max() > 0.8 * limit
    assert np.abs(angles).max() <= 31.5 and np.abs(angles).max() > 24
    assert 0.77 <= min(scales) < 0.85 and 1.15 < max(scales) <= 1.23
    assert abs(float(np.mean(angles))) < 4 and np.abs(np.mean(shifts, 0)).max() < 1.5


def test_the_rotation_is_about_the_centre_of_the_target() -> None:
    np.random.seed(1)  # noqa: NPY002
    transform = RegionAwareTransform((PATCH, PATCH))
    start = np.array([40, 85]) - (SIZE - PATCH) / 2
    middles = [moments(transform(**patch_with_bar(40, 85, (8, 5)))["segmentation"])[0] for _ in range(100)]
    assert np.abs(np.array(middles) - start).max() <= 0.1 * PATCH + 1


def test_image_and_label_get_the_same_transform() -> None:
    np.random.seed(2)  # noqa: NPY002
    found = RegionAwareTransform((PATCH, PATCH))(**patch_with_bar())
    both = ((found["image"][0] > 50) & (found["segmentation"][0] == 1)).sum()
    assert 2 * both / ((found["image"][0] > 50).sum() + (found["segmentation"][0] == 1).sum()) > 0.97


def test_a_patch_without_target_is_only_cropped() -> None:
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(1, SIZE, SIZE, generator=rng)
    found = RegionAwareTransform((PATCH, PATCH))(image=image, segmentation=torch.zeros(1, SIZE, SIZE).short())
    start = (SIZE - PATCH) // 2
    assert torch.equal(found["image"], image[:, start : start + PATCH, start : start + PATCH])


def test_a_3d_patch_is_transformed_too() -> None:
    np.random.seed(3)  # noqa: NPY002
    label = torch.zeros(1, 40, 40, 40, dtype=torch.int16)
    label[0, 15:25, 12:28, 15:25] = 2
    found = RegionAwareTransform((32, 32, 32))(image=label.float(), segmentation=label)
    assert found["segmentation"].shape == (1, 32, 32, 32)
    assert 0.4 < (found["segmentation"] == 2).sum() / (label == 2).sum() < 2.0  # 0.8**3 to 1.2**3, whole voxels


def stock_transforms() -> Any:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    return nnUNetTrainer.get_training_transforms((32, 32), (-0.5, 0.5), None, (0, 1), False, use_mask_for_norm=[False])


def names(transforms: Any) -> list[str]:
    inner = [t.transform if isinstance(t, RandomTransform) else t for t in transforms.transforms]
    return [type(t).__name__ for t in inner]


def test_every_augmentation_has_its_transforms() -> None:
    stock = names(stock_transforms())
    assert names(adapted(stock_transforms(), "nnunet")) == stock
    aware = names(adapted(stock_transforms(), "region-aware"))
    assert aware == ["RegionAwareTransform" if n == "SpatialTransform" else n for n in stock]
    assert names(adapted(stock_transforms(), "flips-brightness")) == [
        "SpatialTransform",
        "MultiplicativeBrightnessTransform",
        "MirrorTransform",
        "RemoveLabelTransform",
    ]


def test_blurs_are_not_benchmarked() -> None:
    kept = adapted(stock_transforms(), "nnunet").transforms
    blurs = [
        t.transform for t in kept if isinstance(t, RandomTransform) and isinstance(t.transform, GaussianBlurTransform)
    ]
    assert blurs and not any(b.benchmark for b in blurs)
