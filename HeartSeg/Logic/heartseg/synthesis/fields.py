"""Numerical helpers of the generator: smooth random fields, rotations, blurring, distances."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.ndimage as ndi
import torch
import torch.nn.functional as nnf


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], scale: float) -> np.ndarray:
    """Smooth noise of zero mean and unit standard deviation.

    Args:
        rng: source of randomness.
        shape: (z, y, x).
        scale: distance between the random nodes, in voxels; values in between are interpolated linearly.

    Returns:
        float32 array of ``shape``.
    """
    return smooth_field(rng, shape, scale, "cpu").numpy()


def smooth_field(
    rng: np.random.Generator, shape: Sequence[int], scale: float, device: torch.device | str
) -> torch.Tensor:
    """:func:`smooth_noise` as a tensor on a device; the nodes are drawn on the CPU, so all devices agree."""
    nodes = [max(3, int(np.ceil(n / scale)) + 2) for n in shape]
    coarse = torch.from_numpy(rng.standard_normal(nodes).astype(np.float32))[None, None].to(device)
    field = nnf.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]
    return (field - field.mean()) / (field.std(correction=0) + 1e-6)


def rotation_matrix(angles: Sequence[float] | np.ndarray) -> np.ndarray:
    """3x3 rotation matrix: the product of rotations about axes 0, 1 and 2 by ``angles`` (radians)."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        cos, sin = np.cos(angle), np.sin(angle)
        j, k = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[j, j], turn[j, k], turn[k, j], turn[k, k] = cos, -sin, sin, cos
        result = result @ turn
    return result


def gaussian_matrix(n: int, sigma: float) -> np.ndarray:
    """(n, n) float64 matrix that blurs a line of ``n`` voxels; ``sigma`` in voxels, edge values are replicated."""
    return line_matrix(n, lambda d: np.exp(-0.5 * (d / sigma) ** 2), int(max(1, np.ceil(3 * sigma))))


def line_matrix(n: int, kernel: Callable[[np.ndarray], np.ndarray], radius: int) -> np.ndarray:
    """(n, n) float64 matrix of a convolution along a line with replicated edge values.

    Args:
        n: number of voxels on the line.
        kernel: weight as a function of the signed distance (output minus input) in voxels; normalised to sum 1.
        radius: radius of the kernel, in voxels.
    """
    offsets = np.arange(-radius, radius + 1)
    weights = kernel(offsets.astype(float))
    weights = weights / weights.sum()
    rows = np.arange(n)
    matrix = np.zeros((n, n))
    for offset, weight in zip(offsets, weights, strict=True):
        np.add.at(matrix, (rows, np.clip(rows - offset, 0, n - 1)), weight)
    return matrix


def shift_matrix(n: int, shift: float) -> np.ndarray:
    """(n, n) float64 matrix that shifts a line by ``shift`` voxels towards its end; linear, edge values replicated."""
    whole = int(np.floor(shift))
    part, rows, matrix = shift - whole, np.arange(n), np.zeros((n, n))
    np.add.at(matrix, (rows, np.clip(rows - whole, 0, n - 1)), 1 - part)
    np.add.at(matrix, (rows, np.clip(rows - whole - 1, 0, n - 1)), part)
    return matrix


def apply_lines(image: torch.Tensor, matrices: Sequence[np.ndarray | None]) -> torch.Tensor:
    """Multiply the lines of a (z, y, x) float tensor along each axis by a matrix; None skips an axis."""
    for axis, matrix in enumerate(matrices):
        if matrix is None:
            continue
        m = torch.from_numpy(matrix.astype(np.float32)).to(image.device)
        if axis == 0:
            image = (m @ image.reshape(image.shape[0], -1)).reshape(m.shape[0], *image.shape[1:])
        elif axis == 1:
            image = torch.matmul(m, image)
        else:
            image = torch.matmul(image, m.T)
    return image


def gaussian_blur(image: torch.Tensor, sigma: Sequence[float]) -> torch.Tensor:
    """Separable Gaussian blur of a (z, y, x) float tensor; ``sigma`` in voxels, axes with less than 0.2 are skipped."""
    return apply_lines(
        image, [gaussian_matrix(n, s) if s >= 0.2 else None for n, s in zip(image.shape, sigma, strict=True)]
    )


def coarse_distance(mask: np.ndarray, step: int = 2) -> np.ndarray:
    """Distance (voxels) from each voxel of a mask to the background, computed on every ``step``-th voxel for speed."""
    distance = ndi.distance_transform_edt(mask[::step, ::step, ::step]).astype(np.float32) * step
    for axis in range(3):
        distance = distance.repeat(step, axis)
    return distance[tuple(slice(n) for n in mask.shape)]


def resample_nearest(volume: np.ndarray, points: Sequence[torch.Tensor], outside: int = 0) -> np.ndarray:
    """Sample a uint8 volume at continuous index coordinates, nearest neighbour.

    Args:
        volume: (z, y, x) uint8.
        points: three float tensors that broadcast to one shape, index coordinates along z, y and x.
        outside: value outside the volume.
    """
    index, inside = nearest_index(points, volume.shape)
    return take(volume, index, inside, outside)


def nearest_index(points: Sequence[torch.Tensor], shape: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the flat index of the voxel nearest to each point, and whether the point is inside ``shape``."""
    index, inside = torch.zeros((), dtype=torch.int32), torch.ones((), dtype=torch.bool)
    for p, n in zip(points, shape, strict=True):
        i = torch.floor(p + 0.5).to(torch.int32)
        inside = inside & (i >= 0) & (i < n)
        index = index * n + i.clamp_(0, n - 1)
    return index, inside


def take(volume: np.ndarray, index: torch.Tensor, inside: torch.Tensor, outside: int) -> np.ndarray:
    """Return the values of a uint8 volume at flat indices, and ``outside`` where ``inside`` is False."""
    flat = torch.from_numpy(np.array(volume, order="C").reshape(-1))
    values = flat[index.reshape(-1)].reshape(index.shape)
    values[~inside] = outside
    return values.numpy()
