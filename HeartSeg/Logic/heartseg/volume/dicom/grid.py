"""Grid of the planes of one stack: used as it is if even, resampled from the true positions, or refused.

Position and orientation follow DICOM PS3.3 C.7.6.2.1.1: the first voxel of a plane lies at Image Position (Patient),
and rows and columns run along the two vectors of Image Orientation (Patient). Slices are ordered along the normal. The
planes form a grid if each lies where an even stack would place it; the largest distance from that place is the
*position error*.

highdicom's ``spatial.get_volume_positions`` determines whether planes are evenly spaced, but provides neither the
position error nor resampling, and both are needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry import Geometry
from .frames import Plane

SAME_POSITION_MM = 0.05
"""Planes closer than this along the normal are images of the same position, because positions are often rounded."""

EVEN_MM = 0.1
EVEN_SHARE = 0.02
"""A position error up to the larger of 0.1 mm and 2 % of the slice distance is attributed to rounding, and the planes
are not changed; planes with a larger error are resampled."""

GAP_LIMIT = 2.5
"""One missing slice causes a gap of twice the usual distance and is interpolated; wider gaps are refused."""

BRIDGE_MM = 25.0
"""Maximum width of a gap for interpolation."""

CROWDED = 0.4
"""Two planes closer than this fraction of the usual distance are regarded as slices of two scans."""

TILT_DEG = 0.5


@dataclass(frozen=True, eq=False)
class Grid:
    """Even grid, and the positions of the planes relative to it.

    Attributes:
        geometry: geometry of the volume to read.
        depths: ``(n,)`` positions of the planes along the normal, from the first plane, mm.
        shifts: ``(n, 2)`` displacement of the planes along their rows and columns relative to the first plane, mm.
        error_mm: position error: largest distance of a plane from its place in an even, straight stack.
        resample: whether the planes must be resampled onto the grid.
        low: first voxel ``(x, y)`` of the grid in the first plane, if planes are displaced; else ``None``.
        usual_mm, widest_mm, uneven: usual and widest slice distance, number of distances that differ from the usual
            one.
        tilt_deg: angle between the stack and its normal.
    """

    geometry: Geometry
    depths: np.ndarray
    shifts: np.ndarray
    error_mm: float = 0.0
    resample: bool = False
    low: np.ndarray | None = None
    usual_mm: float = 0.0
    widest_mm: float = 0.0
    uneven: int = 0
    tilt_deg: float = 0.0


def axes_of(plane: Plane) -> np.ndarray:
    """Return 3x3, rows: unit vectors along the plane's rows, its columns and its normal (LPS)."""
    row, column = np.array(plane.orientation, float).reshape(2, 3)
    normal = np.cross(row, column)
    return np.stack([row, column, normal / (np.linalg.norm(normal) or 1.0)])


def depths_of(planes: Sequence[Plane]) -> np.ndarray:
    """Return positions ``(n,)`` along the normal of the first plane, mm."""
    normal = axes_of(planes[0])[2]
    return np.array([plane.position for plane in planes], float) @ normal


def places_of(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Group planes by position along the normal, ascending; images that share a position form one group."""
    depths = depths_of(planes)
    places: list[list[Plane]] = []
    last = -np.inf
    for k in np.argsort(depths, kind="stable"):
        if depths[k] - last > SAME_POSITION_MM:
            places.append([])
            last = depths[k]
        places[-1].append(planes[int(k)])
    return places


def geometry_problem(planes: Sequence[Plane]) -> str:
    """Return why these planes cannot be placed in space, or ``""``."""
    missing = sum(plane.position is None or plane.orientation is None for plane in planes)
    if missing:
        count = "its images have" if missing == len(planes) else f"{missing} of its {len(planes)} images have"
        return f"{count} no position in the patient (Image Position or Orientation is missing)"
    if any(plane.spacing is None for plane in planes):
        return "its Pixel Spacing is missing, empty or not positive (give it with --spacing X,Y,Z, in mm)"
    row, column = np.array(planes[0].orientation, float).reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(lengths[0] - 1) > 0.02 or abs(lengths[1] - 1) > 0.02 or abs(float(row @ column)) > 0.02:
        return "its Image Orientation is not two perpendicular unit vectors"
    return ""


def grid_of(planes: Sequence[Plane]) -> tuple[Grid | None, str]:
    """Return the grid of planes in slice order, one per position, or why there is none.

    Args:
        planes: planes sorted along the normal, at different positions, all with position, orientation and spacing.

    Returns:
        The grid and ``""``, or ``None`` and the problem.
    """
    axes = axes_of(planes[0])
    along = (np.array([plane.position for plane in planes], float) - np.array(planes[0].position)) @ axes.T
    shifts, depths = along[:, :2], along[:, 2] - along[0, 2]
    spacing = planes[0].spacing
    assert spacing is not None
    if len(planes) == 1:
        return Grid(_geometry(planes[0], axes, (1, 1.0), None, planes[0].file.size), depths, shifts), ""
    gaps = np.diff(depths)
    usual, widest = float(np.median(gaps)), float(gaps.max())
    if problem := _gap_problem(gaps, usual):
        return None, problem
    even = np.linspace(0.0, depths[-1], depths.size)
    along_error, across_error = np.abs(depths - even), np.linalg.norm(shifts, axis=1)
    error = float(np.hypot(along_error, across_error).max())
    limit = max(EVEN_MM, EVEN_SHARE * usual)
    uneven = int(np.count_nonzero(np.abs(gaps - usual) > limit)) if along_error.max() > limit else 0
    resample = error > limit
    count = max(2, round(depths[-1] / usual) + 1) if uneven else depths.size
    low, size = None, planes[0].file.size
    if across_error.max() > limit:
        low, size = _frame_for(shifts / np.array(spacing), size)
        if max(size) > 2 * max(planes[0].file.size):
            return None, f"its slices are displaced against each other by up to {across_error.max():.3g} mm"
    geometry = _geometry(planes[0], axes, (count, depths[-1] / (count - 1)), low, size)
    return Grid(geometry, depths, shifts, error, resample, low, usual, widest, uneven, _tilt(depths, shifts)), ""


def _gap_problem(gaps: np.ndarray, usual: float) -> str:
    widest, narrowest = float(gaps.max()), float(gaps.min())
    if widest > GAP_LIMIT * usual or (widest > BRIDGE_MM and widest > 1.1 * usual):
        return f"slices are missing: its widest gap is {widest:.3g} mm where {usual:.3g} mm are usual"
    if narrowest < CROWDED * usual:
        return (
            f"slices lie {narrowest:.3g} mm apart where {usual:.3g} mm are usual: it seems to hold more than one scan"
        )
    return ""


def _frame_for(shifts: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Return first voxel ``(x, y)`` and size of the frame that contains all planes; shifts in voxels."""
    low, high = np.floor(shifts.min(0) + 1e-6), np.ceil(shifts.max(0) - 1e-6)
    x, y = (int(n + h - lo) for n, lo, h in zip(size, low, high, strict=True))
    return low, (x, y)


def _geometry(
    first: Plane, axes: np.ndarray, slices: tuple[int, float], low: np.ndarray | None, size: tuple[int, int]
) -> Geometry:
    """Return the geometry of ``slices`` (count, distance) from the first plane, framed from voxel ``low`` on."""
    assert first.position is not None and first.spacing is not None
    sx, sy = first.spacing
    start = np.array(first.position)
    if low is not None:
        start = start + low[0] * sx * axes[0] + low[1] * sy * axes[1]
    ox, oy, oz = (float(v) for v in start)
    direction = tuple(float(v) for v in axes.T.ravel())
    return Geometry((slices[0], size[1], size[0]), (sx, sy, float(slices[1])), (ox, oy, oz), direction)


def _tilt(depths: np.ndarray, shifts: np.ndarray) -> float:
    """Return the angle between the stack and its normal, degrees, if the planes are displaced evenly; else 0."""
    slope = depths @ shifts / (depths @ depths)
    straight = np.abs(shifts - np.outer(depths, slope)).max()
    angle = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    return angle if angle >= TILT_DEG and straight <= EVEN_MM * 5 else 0.0


def resampled(stack: np.ndarray, grid: Grid) -> np.ndarray:
    """Interpolate the planes of a stack linearly onto its grid.

    Args:
        stack: ``(n, rows, columns)``, one plane per entry of ``grid.depths``.
        grid: grid with the true positions of the planes.

    Returns:
        Array ``(z, y, x)`` of the same dtype; voxels outside all planes have the lowest value of the stack.
    """
    geometry = grid.geometry
    out = np.empty(geometry.shape, stack.dtype)
    wanted = np.arange(geometry.shape[0]) * geometry.spacing[2]
    below = np.clip(np.searchsorted(grid.depths, wanted + 1e-6, side="right") - 1, 0, len(grid.depths) - 2)
    weights = (wanted - grid.depths[below]) / (grid.depths[below + 1] - grid.depths[below])
    placed = _Placed(stack, grid)
    whole = stack.dtype.kind in "iu"
    for k, (lower, weight) in enumerate(zip(below, np.clip(weights, 0.0, 1.0), strict=True)):
        values = placed[int(lower) + int(weight > 0.5)] if min(weight, 1 - weight) < 1e-3 else None
        if values is None:
            values = (1 - weight) * placed[int(lower)] + weight * placed[int(lower) + 1]
        out[k] = np.rint(values) if whole else values
    return out


class _Placed:
    """Shift planes to their place on the grid, float64 ``(y, x)``; the last two are cached."""

    def __init__(self, stack: np.ndarray, grid: Grid) -> None:
        self._stack, self._size = stack, grid.geometry.shape[1:]
        self._low, self._shifts = grid.low, grid.shifts / np.array(grid.geometry.spacing[:2])
        self._lowest = 0.0 if grid.low is None else float(stack.min())
        self._kept: dict[int, np.ndarray] = {}

    def __getitem__(self, k: int) -> np.ndarray:
        if k not in self._kept:
            self._kept = {j: plane for j, plane in self._kept.items() if j == k - 1}
            self._kept[k] = self._moved(k)
        return self._kept[k]

    def _moved(self, k: int) -> np.ndarray:
        from scipy.ndimage import affine_transform

        plane = self._stack[k].astype(float)
        if self._low is None:
            return plane
        dx, dy = self._low - self._shifts[k]
        return affine_transform(plane, np.ones(2), (dy, dx), self._size, order=1, mode="constant", cval=self._lowest)
