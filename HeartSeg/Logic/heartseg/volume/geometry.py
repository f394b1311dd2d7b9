"""Geometry of a volume: conversion between voxel indices and world coordinates.

Arrays are ``(z, y, x)``. Geometry follows ITK and DICOM: spacing, origin and direction are in ``(x, y, z)`` order,
millimetres, world axes LPS (to the patient's Left, Posterior, Superior). 3D Slicer's RAS appears in
:mod:`heartseg.scene` only, through :meth:`Geometry.affine_ras`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_AXIS_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))  # (negative, positive) direction of each LPS world axis
SIDES = (("right", "left"), ("anterior", "posterior"), ("inferior", "superior"))
"""Sides of a scan at the low and the high end of each LPS world axis."""


@dataclass(frozen=True)
class Geometry:
    """Grid of a volume.

    Attributes:
        shape: number of voxels ``(z, y, x)``.
        spacing: voxel size ``(x, y, z)`` in mm, all positive.
        origin: world position ``(x, y, z)`` LPS of the centre of voxel 0, mm.
        direction: 9 numbers, row-major 3x3; column ``k`` is the world direction of index axis ``k`` (x, y, z).
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @property
    def size(self) -> tuple[int, int, int]:
        """Number of voxels ``(x, y, z)``, ITK's order."""
        return self.shape[::-1]

    @property
    def direction_matrix(self) -> np.ndarray:
        """3x3 float64; column ``k`` is the world direction of index axis ``k`` (x, y, z)."""
        return np.asarray(self.direction, float).reshape(3, 3)

    @property
    def affine(self) -> np.ndarray:
        """4x4 float64 from index ``(x, y, z, 1)`` to world LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction_matrix * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def affine_ras(self) -> np.ndarray:
        """4x4 float64 from index ``(x, y, z, 1)`` to world RAS mm, as used by Slicer and NIfTI."""
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, mL."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Edge lengths ``(x, y, z)`` of the whole grid, mm."""
        x, y, z = (float(n * s) for n, s in zip(self.size, self.spacing, strict=True))
        return x, y, z

    @property
    def orientation(self) -> str:
        """Letters of the world directions nearest to the index axes x, y, z, for example ``"LPS"``."""
        axes, signs = self.nearest_axes()
        return "".join(_AXIS_LETTERS[a][int(s > 0)] for a, s in zip(axes, signs, strict=True))

    def nearest_axes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the LPS world axis nearest to each index axis x, y, z, each used once, and its sign (+1, -1)."""
        matrix = self.direction_matrix
        best, best_score = (0, 1, 2), -1.0
        for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
            score = sum(abs(matrix[order[k], k]) for k in range(3))
            if score > best_score + 1e-6:
                best, best_score = order, score
        return best, tuple(1 if matrix[best[k], k] >= 0 else -1 for k in range(3))

    def sides_reached(self, low: Sequence[float], high: Sequence[float], margin_mm: float = 0.0) -> tuple[str, ...]:
        """Return the sides of the grid (:data:`SIDES`) that a box reaches.

        Args:
            low, high: edges of the box ``(z, y, x)`` in voxels; the grid extends from 0 to :attr:`shape`.
            margin_mm: largest distance between the box and a border that it reaches.
        """
        axes, signs = self.nearest_axes()
        found = []
        for world, sides in enumerate(SIDES):
            axis = axes.index(world)
            gaps = (low[2 - axis], self.shape[2 - axis] - high[2 - axis])
            ordered = gaps if signs[axis] > 0 else gaps[::-1]
            found += [side for side, gap in zip(sides, ordered, strict=True) if gap * self.spacing[axis] <= margin_mm]
        return tuple(found)

    def step_across(self, side: str) -> float:
        """Return the distance between the voxels along the axis that ends at a side of :data:`SIDES`, mm."""
        world = next(k for k, sides in enumerate(SIDES) if side in sides)
        return self.spacing[self.nearest_axes()[0].index(world)]

    def index_to_world(self, index_zyx: npt.ArrayLike) -> np.ndarray:
        """Convert array indices ``(…, 3)``, z, y, x, possibly fractional, to world LPS ``(…, 3)``, x, y, z, mm."""
        index = np.asarray(index_zyx, float)[..., ::-1]
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def world_to_index(self, world_xyz: npt.ArrayLike) -> np.ndarray:
        """Convert world LPS points ``(…, 3)``, x, y, z, mm, to fractional array indices ``(…, 3)``, z, y, x."""
        inverse = np.linalg.inv(self.affine)
        index = np.asarray(world_xyz, float) @ inverse[:3, :3].T + inverse[:3, 3]
        return index[..., ::-1]

    def center(self) -> np.ndarray:
        """World LPS position (3,) of the centre of the grid, mm."""
        return self.index_to_world((np.asarray(self.shape) - 1) / 2)

    def corners(self) -> np.ndarray:
        """World LPS positions (8, 3) of the outer corners of the grid (voxel edges, not centres), mm."""
        low, high = np.full(3, -0.5), np.asarray(self.shape) - 0.5
        picks = np.array(np.meshgrid(*[(0, 1)] * 3, indexing="ij")).reshape(3, -1).T
        return self.index_to_world(np.where(picks == 0, low, high))

    def cropped(self, box: tuple[slice, slice, slice]) -> Geometry:
        """Geometry of ``array[box]`` for a box of slices ``(z, y, x)`` with plain starts and stops, step 1."""
        start = np.array([s.indices(n)[0] for s, n in zip(box, self.shape, strict=True)])
        stop = np.array([s.indices(n)[1] for s, n in zip(box, self.shape, strict=True)])
        z, y, x = (int(v) for v in np.maximum(0, stop - start))
        origin = self.index_to_world(start)
        return Geometry((z, y, x), self.spacing, (origin[0], origin[1], origin[2]), self.direction)

    def same_grid(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same shape and every corner agrees within ``tolerance_mm``."""
        return self.shape == other.shape and bool(np.abs(self.corners() - other.corners()).max() <= tolerance_mm)


@dataclass(frozen=True)
class AxisFlip:
    """A permutation and reversal of array axes, without interpolation.

    Made by :func:`to_nearest_lps`; :meth:`apply` and :meth:`undo` are exact inverses for any ``(z, y, x)`` array.
    """

    order: tuple[int, int, int]
    flipped: tuple[int, ...]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return a view of ``array`` with the new axes."""
        return np.flip(array.transpose(self.order), self.flipped)

    def undo(self, array: np.ndarray) -> np.ndarray:
        """Return a view of an array with the new axes in the stored axes."""
        return np.flip(array, self.flipped).transpose(np.argsort(self.order))


def to_nearest_lps(geometry: Geometry) -> tuple[AxisFlip, Geometry]:
    """Return the permutation and flips that bring index axes x, y, z nearest to L, P, S, and the resulting geometry.

    The new geometry is rounded to 1e-6 mm (direction: 1e-9), so that permuted and flipped copies of a scan get exactly
    the same grid and the same result.
    """
    axes, signs = geometry.nearest_axes()
    source_axis = [axes.index(world) for world in range(3)]  # index axis (x, y, z) that runs along each world axis
    order_xyz = source_axis
    order_zyx = tuple(2 - order_xyz[2 - k] for k in range(3))
    flipped_zyx = tuple(2 - world for world in range(3) if signs[source_axis[world]] < 0)
    direction = geometry.direction_matrix[:, order_xyz] * np.array([signs[k] for k in order_xyz])
    corner = np.zeros(3)
    for world in range(3):
        index_axis = source_axis[world]
        if signs[index_axis] < 0:
            corner[2 - index_axis] = geometry.shape[2 - index_axis] - 1
    origin = geometry.index_to_world(corner)
    z, y, x = (geometry.shape[k] for k in order_zyx)
    sx, sy, sz = (round(float(geometry.spacing[k]), 6) for k in order_xyz)
    ox, oy, oz = (round(float(v), 6) for v in origin)
    turned = Geometry((z, y, x), (sx, sy, sz), (ox, oy, oz), tuple(round(float(v), 9) + 0.0 for v in direction.ravel()))
    return AxisFlip((order_zyx[0], order_zyx[1], order_zyx[2]), tuple(sorted(flipped_zyx))), turned


def is_singular(steps: np.ndarray) -> bool:
    """Return whether the columns of a 3x3 matrix, of any length, are linearly dependent; also true for NaN."""
    lengths = np.linalg.norm(steps, axis=0)
    return not (np.isfinite(steps).all() and lengths.min() > 0 and abs(np.linalg.det(steps / lengths)) > 1e-6)
