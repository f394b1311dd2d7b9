"""Alternatives to nnU-Net's augmentation: centred on the target, or only flips and brightness."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.spatial import (
    SpatialTransform,
    _convert_my_grid_to_grid_sample_grid,
    create_affine_matrix_2d,
    create_affine_matrix_3d,
)
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from .names import is_dotted, named_object

ROTATION_DEG, SHIFT_SHARE, SCALE = 30.0, 0.1, (0.8, 1.2)
"""Limits of the region-aware augmentation, from the documents."""

MIN_TARGET_VOXELS = 8
"""Minimum number of target voxels; patches with fewer are not transformed."""


class RegionAwareTransform(SpatialTransform):
    """Rotate, shift and scale patches about the centre of the target; patches without target are only cropped.

    Args:
        patch_size: size of the patch in voxels, (y, x) or (z, y, x).
    """

    def __init__(self, patch_size: tuple[int, ...]) -> None:
        super().__init__(
            patch_size,
            patch_center_dist_from_border=0,
            random_crop=False,
            border_mode_seg="constant",
            padding_value_seg=-1,
        )

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """Draw the transform; ``grid`` is ``None`` if the patch contains no target."""
        shape = data_dict["image"].shape[1:]
        plain = {
            "center_location_in_pixels": [n / 2 for n in shape],
            "grid": None,
            "affine": None,
            "elastic_offsets": None,
        }
        middle = self._target_middle(data_dict["segmentation"])
        if middle is None:
            return plain
        uniform = np.random.uniform  # nnU-Net's loaders also use NumPy's global generator
        angles = np.deg2rad(uniform(-ROTATION_DEG, ROTATION_DEG, len(shape)))
        scales = [1 / uniform(*SCALE)] * len(shape)  # scaling the grid by 1/s magnifies the image by s
        shift = uniform(-SHIFT_SHARE, SHIFT_SHARE, len(shape)) * np.array(self.patch_size)
        affine = (
            create_affine_matrix_3d(angles, scales) if len(shape) == 3 else create_affine_matrix_2d(angles[-1], scales)
        )
        offset = middle - affine @ (middle + shift)  # maps the point at middle + shift to the middle
        grid = torch.matmul(self._get_base_grid_clone(), torch.from_numpy(affine.T).float())
        grid += torch.from_numpy(offset).float()
        return {**plain, "grid": _convert_my_grid_to_grid_sample_grid(grid, shape), "affine": affine}

    def _target_middle(self, segmentation: torch.Tensor) -> np.ndarray | None:
        """Centre of the target in the central patch, in voxels from the image centre; ``None`` without target."""
        target = (segmentation > 0).any(0)
        starts = [max(0, (n - p) // 2) for n, p in zip(target.shape, self.patch_size, strict=True)]
        window = target[tuple(slice(s, s + p) for s, p in zip(starts, self.patch_size, strict=True))]
        points = torch.nonzero(window)
        if len(points) < MIN_TARGET_VOXELS:
            return None
        middle = points.double().mean(0).numpy() + np.array(starts)
        return middle - (np.array(target.shape) - 1) / 2


def adapted(transforms: ComposeTransforms, kind: str) -> ComposeTransforms:
    """Return nnU-Net's training transforms, changed to one of the kinds of :data:`~.presets.AUGMENTATIONS`.

    A dotted name refers to a function of the user that takes the transforms and returns their replacement. nnU-Net's
    blur benchmarks two implementations at run time; this benchmark is disabled to make runs exactly reproducible.

    Raises:
        SettingsError: the dotted name cannot be imported.
    """
    kept: list[BasicTransform] = []
    for transform in transforms.transforms:
        inner = transform.transform if isinstance(transform, RandomTransform) else transform
        if isinstance(inner, GaussianBlurTransform):
            inner.benchmark = False
        if isinstance(inner, SpatialTransform):
            if kind == "region-aware":
                transform = RegionAwareTransform(inner.patch_size)
            elif kind == "flips-brightness":
                inner.p_rotation = inner.p_scaling = 0.0
        is_intensity = isinstance(transform, RandomTransform)
        if kind == "flips-brightness" and is_intensity and not isinstance(inner, MultiplicativeBrightnessTransform):
            continue
        kept.append(transform)
    composed = ComposeTransforms(kept)
    return named_object(kind, "augmentation")(composed) if is_dotted(kind) else composed
