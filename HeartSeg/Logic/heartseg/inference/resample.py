"""Resampling between grids: axis by axis where the axes are parallel, in rotated coordinates otherwise.

For downsampling, a new voxel is the average of the old voxels that it covers, weighted by overlap (area kernel), which
is what a scanner with larger voxels would measure. For upsampling, the same formula is linear interpolation. Labels are
found by comparing interpolated logits plane by plane, so that the logits of all classes are never kept at full size.

The matrices of weights are sparse, and multiplied along the first axis of an array, where SciPy adds whole rows. That
takes a fifth of the time of dense products, and no threads of a BLAS, which wait for each other on busy cores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..measure.boxes import Box
from ..volume.geometry import Geometry

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ..progress import Reporter

Reduction = Callable[[Callable[[int], np.ndarray], int], np.ndarray]
"""Takes ``channel`` and ``count``; reduces ``channel(0)`` to ``channel(count - 1)`` to one number per voxel, without
keeping more than one of them (see :func:`running_argmax`)."""

_ALIGNED_TOLERANCE = 1e-3  # largest entry by which a direction may differ from the identity: 0.06 degrees
_SLAB_VOXELS = 4_000_000  # voxels converted to float32 at a time: 16 MB


def is_aligned(geometry: Geometry) -> bool:
    """Whether index axes x, y, z run along world L, P, S."""
    return bool(np.abs(geometry.direction_matrix - np.eye(3)).max() < _ALIGNED_TOLERANCE)


Vector = tuple[float, float, float]


def world_grid(geometry: Geometry, spacing: Vector) -> Geometry:
    """The LPS-aligned grid that covers a scan.

    Its voxel centres lie on multiples of ``spacing`` in world coordinates, so that copies of a scan in other
    orientations are sampled at the same points.

    Args:
        geometry: grid of the scan.
        spacing: voxel size ``(x, y, z)``, mm.
    """
    corners, step = geometry.corners(), np.asarray(spacing)
    low = np.ceil(corners.min(0) / step - 1e-6).astype(int)
    high = np.maximum(low, np.floor(corners.max(0) / step + 1e-6).astype(int))
    return _grid(low, high - low + 1, spacing)


def window_grid(low_mm: np.ndarray, high_mm: np.ndarray, spacing: Vector, minimum: tuple[int, int, int]) -> Geometry:
    """The LPS-aligned grid for a world box, centred on it, at least ``minimum`` voxels ``(z, y, x)`` along each axis.

    Args:
        low_mm, high_mm: corners ``(x, y, z)`` of the box, LPS mm.
        spacing: voxel size ``(x, y, z)``, mm; voxel centres lie on its multiples.
        minimum: the network's patch.
    """
    step = np.asarray(spacing)
    size = np.maximum(np.ceil((high_mm - low_mm) / step - 1e-6).astype(int), np.asarray(minimum[::-1]))
    first = np.rint((low_mm + high_mm) / 2 / step - (size - 1) / 2).astype(int)
    return _grid(first, size, spacing)


def _grid(first: np.ndarray, size: np.ndarray, spacing: Vector) -> Geometry:
    """LPS-aligned grid whose first voxel lies at ``first * spacing``."""
    x, y, z = (int(v) for v in size)
    ox, oy, oz = (float(v) for v in first * np.asarray(spacing))
    return Geometry((z, y, x), spacing, (ox, oy, oz))


def area_weights(positions: np.ndarray, width: float, count: int) -> np.ndarray:
    """Weights of ``count`` old samples for new samples along one axis.

    Args:
        positions: (n,) centres of the new samples in units of old indices.
        width: extent of a new sample in old samples; below 1 it becomes 1, which makes this linear interpolation.
        count: number of old samples; positions beyond the ends take the end sample.

    Returns:
        float32 ``(n, count)``, rows sum to 1.
    """
    width = max(1.0, width)
    centre = np.clip(positions, 0, count - 1)[:, None]
    index = np.arange(count)[None]
    overlap = np.minimum(centre + width / 2, index + 0.5) - np.maximum(centre - width / 2, index - 0.5)
    weights = np.clip(overlap, 0, 1)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def nearest_index(positions: np.ndarray, count: int) -> np.ndarray:
    """Index of the nearest of ``count`` samples; halves are rounded up, as in SciPy's spline of order 0."""
    return np.clip(np.floor(positions + 0.5), 0, count - 1).astype(int)


def nearest_weights(positions: np.ndarray, count: int) -> np.ndarray:
    """As :func:`area_weights`, with the nearest old sample for each new one."""
    weights = np.zeros((len(positions), count), np.float32)
    weights[np.arange(len(positions)), nearest_index(positions, count)] = 1
    return weights


def apply_weights(
    array: np.ndarray, weights: tuple[np.ndarray, np.ndarray, np.ndarray], reporter: Reporter | None = None
) -> np.ndarray:
    """Resample ``(z, y, x)`` with one weight matrix per axis ``(z, y, x)``; float32, memory bounded by slabs.

    Only the old voxels that carry weight are read.
    """
    from scipy.sparse import csr_array

    box = _used(weights)
    wz, wy, wx = (csr_array(w[:, b]) for w, b in zip(weights, box, strict=True))
    part = array[box]
    planes = max(1, _SLAB_VOXELS // max(1, part.shape[1] * part.shape[2]))
    reduced = np.empty((part.shape[0], wx.shape[0], wy.shape[0]), np.float32)
    for start in range(0, part.shape[0], planes):
        if reporter:
            reporter.check()
        slab = np.ascontiguousarray(part[start : start + planes], np.float32)
        for z, plane in enumerate(slab, start):
            reduced[z] = wx @ (wy @ plane).T
    image = (wz @ reduced.reshape(len(reduced), -1)).reshape(wz.shape[0], *reduced.shape[1:])
    return np.ascontiguousarray(image.transpose(0, 2, 1))


def _used(weights: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Box:
    """The box of old voxels that carry weight in matrices of the axes ``(z, y, x)``."""
    used = [np.flatnonzero(w.any(0)) for w in weights]
    z, y, x = (slice(int(u[0]), int(u[-1]) + 1) for u in used)
    return z, y, x


def _axis_positions(target: Geometry, source: Geometry, axis: int) -> np.ndarray:
    """Centres of the target's samples along array axis ``axis`` in the source's indices; both grids aligned."""
    k = 2 - axis
    world = target.origin[k] + np.arange(target.shape[axis]) * target.spacing[k]
    return (world - source.origin[k]) / source.spacing[k]


@dataclass(frozen=True)
class Sampled:
    """A scan on a network's grid.

    Attributes:
        image: float32 ``(z, y, x)``; voxels outside the scan hold the smallest value inside.
        inside: bool ``(z, y, x)``, True where the scan has voxels.
        geometry: the grid.
    """

    image: np.ndarray
    inside: np.ndarray
    geometry: Geometry


def sample_image(array: np.ndarray, geometry: Geometry, target: Geometry, reporter: Reporter | None = None) -> Sampled:
    """Resample a scan onto an LPS-aligned grid, anti-aliased.

    Args:
        array: ``(z, y, x)`` voxels, any real dtype; axes nearest to S, P, L (see ``to_nearest_lps``).
        geometry: its grid.
        target: the wanted grid, LPS-aligned.
    """
    if is_aligned(geometry):
        image, inside = _sample_aligned(array, geometry, target, reporter)
    else:
        image, inside = _sample_rotated(array, geometry, target, reporter)
    low = image[inside].min() if inside.any() else np.float32(0)
    return Sampled(np.where(inside, image, low), inside, target)


def _sample_aligned(
    array: np.ndarray, geometry: Geometry, target: Geometry, reporter: Reporter | None
) -> tuple[np.ndarray, np.ndarray]:
    weights, covered = [], []
    for axis in range(3):
        position = _axis_positions(target, geometry, axis)
        width = target.spacing[2 - axis] / geometry.spacing[2 - axis]
        weights.append(area_weights(position, width, geometry.shape[axis]))
        covered.append((position >= -0.5) & (position <= geometry.shape[axis] - 0.5))
    image = apply_weights(array, (weights[0], weights[1], weights[2]), reporter)
    return image, covered[0][:, None, None] & covered[1][None, :, None] & covered[2][None, None]


def _sample_rotated(
    array: np.ndarray, geometry: Geometry, target: Geometry, reporter: Reporter | None
) -> tuple[np.ndarray, np.ndarray]:
    """Average along the scan's own axes to half the target's spacing, then interpolate in the rotated frame."""
    box = _index_box(geometry, target, margin_mm=2 * max(target.spacing))
    part = geometry.cropped(box)
    if min(part.shape) == 0:
        return np.zeros(target.shape, np.float32), np.zeros(target.shape, bool)
    weights, shape, spacing = [], [], []
    for axis in range(3):
        old, new = part.spacing[2 - axis], target.spacing[2 - axis]
        count = max(1, min(part.shape[axis], round(part.shape[axis] * old / (new / 2))))
        position = (np.arange(count) + 0.5) * part.shape[axis] / count - 0.5
        weights.append(area_weights(position, new / old, part.shape[axis]))
        shape.append(count)
        spacing.append(part.shape[axis] * old / count)
    middle = apply_weights(array[box], (weights[0], weights[1], weights[2]), reporter)
    first = part.index_to_world(np.array([(part.shape[a] / shape[a] - 1) / 2 for a in range(3)]))
    between = Geometry(
        (shape[0], shape[1], shape[2]), (spacing[2], spacing[1], spacing[0]), tuple(first), geometry.direction
    )
    image = np.empty(target.shape, np.float32)
    for slab, index in _slab_indices(target, between):
        image[slab] = interpolate(middle, index)
    inside = np.empty(target.shape, bool)
    limit = np.asarray(geometry.shape) - 0.5
    for slab, index in _slab_indices(target, geometry):
        inside[slab] = ((index >= -0.5) & (index <= limit)).all(-1)
    return image, inside


def _index_box(source: Geometry, target: Geometry, margin_mm: float) -> Box:
    """The smallest box of the source's array that contains the target's world box and a margin."""
    index = source.world_to_index(target.corners())
    margin = margin_mm / np.asarray(source.spacing)[::-1]
    low = np.maximum(0, np.floor(index.min(0) - margin)).astype(int)
    high = np.minimum(source.shape, np.ceil(index.max(0) + margin) + 1).astype(int)
    z, y, x = (slice(int(a), max(int(a), int(b))) for a, b in zip(low, high, strict=True))
    return z, y, x


def _slab_indices(at: Geometry, into: Geometry) -> Iterator[tuple[slice, np.ndarray]]:
    """For slabs of the grid ``at``: the slab's slice and the float32 indices (z, y, x) of its voxels in ``into``."""
    matrix = np.linalg.inv(into.affine) @ at.affine  # index xyz -> index xyz
    matrix = matrix[np.ix_([2, 1, 0, 3], [2, 1, 0, 3])]  # zyx -> zyx
    turn, shift = matrix[:3, :3], matrix[:3, 3]
    y, x = np.arange(at.shape[1], dtype=float), np.arange(at.shape[2], dtype=float)
    plane = y[:, None, None] * turn[:, 1] + x[None, :, None] * turn[:, 2] + shift
    step = max(1, 2_000_000 // (at.shape[1] * at.shape[2]))
    for start in range(0, at.shape[0], step):
        z = np.arange(start, min(start + step, at.shape[0]), dtype=float)
        yield slice(start, start + len(z)), (plane[None] + z[:, None, None, None] * turn[:, 0]).astype(np.float32)


def interpolate(image: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Trilinear float32 values of ``(z, y, x)`` at indices ``(…, 3)`` as z, y, x; the ends are extended.

    By torch where a run has imported it, which takes two thirds of SciPy's time and less on several cores.
    """
    if torch := sys.modules.get("torch"):
        shape = np.asarray(image.shape, np.float32)
        grid = torch.from_numpy((index + np.float32(0.5)) / shape * 2 - 1).flip(-1)
        sample = torch.nn.functional.grid_sample
        return sample(torch.from_numpy(image)[None, None], grid[None], "bilinear", "border", False)[0, 0].numpy()
    from scipy.ndimage import map_coordinates

    at = np.moveaxis(index, -1, 0)
    return map_coordinates(image, at, np.float32, order=1, mode="nearest", prefilter=False)


def reduced_on_grid(
    channels: np.ndarray,
    source: Geometry,
    target: Geometry,
    reduction: Reduction,
    reporter: Reporter | None = None,
    dtype: DTypeLike = np.uint8,
    within: Box | None = None,
) -> tuple[np.ndarray, Box]:
    """Channels interpolated at every voxel of ``target`` and reduced to one number there, slab by slab.

    Args:
        channels: float32 ``(c, z, y, x)`` on the LPS-aligned grid ``source``, CPU.
        target: grid of the scan (axes nearest to LPS, may be oblique).
        reduction: how the channels of a voxel are reduced.
        dtype: of the result.
        within: part of the source outside of which the result is known to be 0; ``None`` for all of it.

    Returns:
        A box of the target's array, and that box ``(z, y, x)``; voxels beyond the source are 0 in it and around it.
    """
    box = _index_box(target, source if within is None else source.cropped(within), margin_mm=0)
    part = target.cropped(box)
    if min(part.shape) == 0:
        return np.zeros(part.shape, dtype), box
    if is_aligned(target):
        weights = []
        outside = []
        for axis in range(3):
            position = _axis_positions(part, source, axis)
            weights.append(area_weights(position, 1.0, source.shape[axis]))
            outside.append((position < -0.5) | (position > source.shape[axis] - 0.5))
        reduced = reduced_separable(channels, (weights[0], weights[1], weights[2]), reduction, reporter, dtype)
        for axis in range(3):
            reduced[(slice(None),) * axis + (outside[axis],)] = 0
        return reduced, box
    reduced = np.empty(part.shape, dtype)
    limit = np.asarray(source.shape) - 0.5
    for slab, index in _slab_indices(part, source):
        if reporter:
            reporter.check()
        values = reduction(partial(_channel_at, channels, index), len(channels))
        reduced[slab] = values * ((index >= -0.5) & (index <= limit)).all(-1)
    return reduced, box


def reduced_separable(
    channels: np.ndarray,
    weights: tuple[np.ndarray, np.ndarray, np.ndarray],
    reduction: Reduction,
    reporter: Reporter | None = None,
    dtype: DTypeLike = np.uint8,
) -> np.ndarray:
    """Resample channels ``(c, z, y, x)`` with one matrix per axis and reduce them: ``(z, y, x)`` of ``dtype``."""
    from scipy.sparse import csr_array

    box = _used(weights)
    wz = weights[0][:, box[0]]
    wy, wx = (csr_array(w[:, b]) for w, b in zip(weights[1:], box[1:], strict=True))
    part = channels[:, box[0], box[1], box[2]]
    count = len(part)
    reduced = np.empty((len(wz), wy.shape[0], wx.shape[0]), dtype)
    for z, row in enumerate(wz):
        if reporter:
            reporter.check()
        plane = sum(row[k] * part[:, k] for k in np.flatnonzero(row))
        columns = wx @ plane.transpose(2, 0, 1).reshape(plane.shape[2], -1)  # x, then channel and y
        columns = columns.reshape(wx.shape[0], count, -1).transpose(2, 1, 0)
        values = (wy @ columns.reshape(len(columns), -1)).reshape(wy.shape[0], count, -1)
        reduced[z] = reduction(partial(_channel_of, values), count)
    return reduced


def _channel_at(logits: np.ndarray, index: np.ndarray, c: int) -> np.ndarray:
    return interpolate(logits[c], index)


def _channel_of(values: np.ndarray, c: int) -> np.ndarray:
    return values[:, c]


def running_argmax(channel: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """uint8 index of the largest of ``channel(0) … channel(count - 1)``; ties go to the smaller index."""
    best = channel(0)
    winner = np.zeros(best.shape, np.uint8)
    for c in range(1, count):
        value = channel(c)
        np.maximum(winner, (value > best).view(np.uint8) * np.uint8(c), out=winner)  # c exceeds all before it
        np.maximum(best, value, out=best)
    return winner


def likeliest(logits: np.ndarray) -> np.ndarray:
    """uint8 ``(z, y, x)``: the channel with the largest of logits ``(c, z, y, x)``; ties go to the smaller index.

    Much faster than ``argmax`` along the first axis, which reads memory with a large stride.
    """
    return running_argmax(lambda c: logits[c].copy() if c == 0 else logits[c], logits.shape[0])


def running_percent(channel: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """uint8 percent: the softmax of the largest of ``channel(0) … channel(count - 1)``; few maps are kept in memory."""
    best = channel(0)
    total = np.ones_like(best)  # sum of exponentials so far, relative to that of the largest
    for c in range(1, count):
        value = channel(c)
        larger = np.maximum(best, value)
        total *= np.exp(best - larger)
        total += np.exp(value - larger)
        best = larger
    return np.rint(100 / total).astype(np.uint8)


def only_channel(channel: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """The only channel, for maps that are interpolated without reduction."""
    return channel(0)
