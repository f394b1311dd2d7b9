"""Label maps ready for surfaces: thick slices interpolated, and no two voxels that touch along an edge only."""

from __future__ import annotations

import numpy as np

FINEST_MM = 1.0
"""Slices are not interpolated finer than this, whatever the pixel size."""

_ROUNDS = 20


def finer_labels(labels: np.ndarray, spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The label map with thick slices divided, by shape-based interpolation (Raya and Udupa, IEEE TMI 1990).

    The signed distance to each label is interpolated linearly between the slices, and each new voxel gets the label
    whose distance is the smallest. At the centres of the old slices this is the old label.

    Args:
        labels: uint8 ``(z, y, x)``.
        spacing: mm, ``(z, y, x)``.

    Returns:
        The finer label map, and by how much each axis was divided, int ``(3,)``; 1 where the spacing is even.
    """
    target = max(min(spacing), FINEST_MM)
    factors = np.array([max(1, round(step / target)) for step in spacing])
    if (factors == 1).all():
        return labels, factors
    nearest = np.full(np.multiply(labels.shape, factors), np.inf, np.float32)
    finer = np.zeros(nearest.shape, np.uint8)
    for label in np.unique(labels):
        distance = _between(_signed_distance(labels == label, spacing), factors)
        closer = distance < nearest
        np.copyto(nearest, distance, where=closer)
        finer[closer] = label
    return finer, factors


def _signed_distance(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Distance to the mask's border in mm, negative inside."""
    from scipy.ndimage import distance_transform_edt

    outside = distance_transform_edt(~mask, spacing).astype(np.float32)
    return outside - distance_transform_edt(mask, spacing).astype(np.float32)


def _between(field: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Linear interpolation onto a grid whose voxels divide the old ones evenly."""
    for axis, factor in enumerate(factors):
        if factor == 1:
            continue
        place = np.clip((np.arange(field.shape[axis] * factor) + 0.5) / factor - 0.5, 0, field.shape[axis] - 1)
        low = np.minimum(place.astype(int), field.shape[axis] - 2)
        share = (place - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
        field = field.take(low, axis) * (1 - share) + field.take(low + 1, axis) * share
    return field


def separated(labels: np.ndarray) -> np.ndarray:
    """The label map without voxels of one label that touch along an edge only.

    There a surface would run four triangles through one edge, and would be no solid to a slicer program. One voxel of
    each such place changes its label: the one with the fewest neighbours of its own label.

    Args:
        labels: uint8 ``(z, y, x)`` with a rim of zeros.
    """
    labels = labels.copy()
    for _ in range(_ROUNDS):
        places = [(axes, place) for axes in ((0, 1), (0, 2), (1, 2)) for place in _diagonals(labels, axes)]
        for axes, place in places:
            _separate(labels, axes, tuple(int(v) for v in place))
        if not places:
            break
    return labels


def _square(labels: np.ndarray, axes: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """The four corners of every 2 x 2 square in a plane, as views: two of one diagonal, two of the other."""
    views = []
    for first, second in ((0, 0), (1, 1), (0, 1), (1, 0)):
        cut = [slice(None)] * 3
        for axis, start in zip(axes, (first, second), strict=True):
            cut[axis] = slice(start, labels.shape[axis] - 1 + start)
        views.append(labels[tuple(cut)])
    return tuple(views)


def _diagonals(labels: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
    """Lowest corners ``(n, 3)`` of the squares in which a label fills one diagonal and nothing else."""
    a, b, c, d = _square(labels, axes)
    one = (a == b) & (a > 0) & (c != a) & (d != a)
    other = (c == d) & (c > 0) & (a != c) & (b != c)
    return np.argwhere(one | other)


def _separate(labels: np.ndarray, axes: tuple[int, int], low: tuple[int, ...]) -> None:
    step = np.zeros((2, 3), int)
    step[0, axes[0]] = step[1, axes[1]] = 1
    corner = np.array(low)
    corners = [tuple(corner), tuple(corner + step.sum(0)), tuple(corner + step[0]), tuple(corner + step[1])]
    values = [int(labels[c]) for c in corners]
    one = values[0] == values[1] > 0 and values[0] not in values[2:]
    other = values[2] == values[3] > 0 and values[2] not in values[:2]
    if not one and not other:  # settled by an earlier change
        return
    weakest = min((c for c in corners if _inside(labels, c)), key=lambda c: _support(labels, c), default=None)
    if weakest is not None:
        labels[weakest] = values[2] if corners.index(weakest) < 2 else values[0]


def _inside(labels: np.ndarray, place: tuple[int, ...]) -> bool:
    """Whether a voxel is not on the rim, which stays empty."""
    return all(0 < v < n - 1 for v, n in zip(place, labels.shape, strict=True))


def _support(labels: np.ndarray, place: tuple[int, ...]) -> int:
    """How many of the six neighbours have the voxel's own label."""
    z, y, x = place
    neighbours = (
        labels[z - 1, y, x],
        labels[z + 1, y, x],
        labels[z, y - 1, x],
        labels[z, y + 1, x],
        labels[z, y, x - 1],
        labels[z, y, x + 1],
    )
    return sum(int(value == labels[place]) for value in neighbours)
