"""Small numeric tools shared by the generator: smooth random fields, rotations, blurring, distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.ndimage as ndi
import torch
import torch.nn.functional as nnf


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], scale: float) -> np.ndarray:
    """Smooth noise of zero mean and unit standard deviation.

    Args:
        rng: source of randomness.
        shape: (z, y, x).
        scale: distance between the random nodes, in voxels; values between them are interpolated linearly.

    Returns:
        float32 array of ``shape``.
    """
    nodes = [max(3, int(np.ceil(n / scale)) + 2) for n in shape]
    coarse = torch.from_numpy(rng.standard_normal(nodes).astype(np.float32))[None, None]
    field = nnf.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0].numpy()
    return (field - field.mean()) / (field.std() + 1e-6)


def rotation_matrix(angles: Sequence[float] | np.ndarray) -> np.ndarray:
    """3x3 rotation, the product of turns about axis 0, 1 and 2 by ``angles`` (radians)."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        cos, sin = np.cos(angle), np.sin(angle)
        j, k = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[j, j], turn[j, k], turn[k, j], turn[k, k] = cos, -sin, sin, cos
        result = result @ turn
    return result


def gaussian_blur(image: torch.Tensor, sigma: Sequence[float]) -> torch.Tensor:
    """Separable Gaussian blur of a (z, y, x) float tensor; ``sigma`` in voxels per axis, below 0.2 is left alone."""
    result = image[None, None]
    for axis, s in enumerate(sigma):
        if s < 0.2:
            continue
        radius = int(max(1, np.ceil(3 * s)))
        x = torch.arange(-radius, radius + 1, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (x / s) ** 2)
        kernel /= kernel.sum()
        view, pad = [1, 1, 1, 1, 1], [0] * 6
        view[2 + axis] = -1
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = radius
        result = nnf.conv3d(nnf.pad(result, pad, mode="replicate"), kernel.view(view))
    return result[0, 0]


def coarse_distance(mask: np.ndarray, step: int = 2) -> np.ndarray:
    """Distance (in voxels) from each voxel of a mask to its outside, computed on every ``step``-th voxel for speed."""
    distance = ndi.distance_transform_edt(mask[::step, ::step, ::step]).astype(np.float32) * step
    for axis in range(3):
        distance = distance.repeat(step, axis)
    return distance[tuple(slice(n) for n in mask.shape)]


def resample_nearest(volume: np.ndarray, points: Sequence[torch.Tensor], outside: int = 0) -> np.ndarray:
    """Value of a uint8 volume at continuous index coordinates, nearest neighbour.

    Args:
        volume: (z, y, x) uint8.
        points: three float tensors of one broadcast shape, index coordinates along z, y, x.
        outside: value beyond the volume.
    """
    index, inside = nearest_index(points, volume.shape)
    return take(volume, index, inside, outside)


def nearest_index(points: Sequence[torch.Tensor], shape: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat index of the voxel nearest to each point, and whether the point lies inside an array of ``shape``."""
    index, inside = torch.zeros((), dtype=torch.int32), torch.ones((), dtype=torch.bool)
    for p, n in zip(points, shape, strict=True):
        i = torch.floor(p + 0.5).to(torch.int32)
        inside = inside & (i >= 0) & (i < n)
        index = index * n + i.clamp_(0, n - 1)
    return index, inside


def take(volume: np.ndarray, index: torch.Tensor, inside: torch.Tensor, outside: int) -> np.ndarray:
    """Values of a uint8 volume at flat indices, ``outside`` where a point is not inside."""
    flat = torch.from_numpy(np.array(volume, order="C").reshape(-1))
    values = flat[index.reshape(-1)].reshape(index.shape)
    values[~inside] = outside
    return values.numpy()
