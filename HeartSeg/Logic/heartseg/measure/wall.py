"""Wall thickness of the left ventricle by Laplace's equation.

Laplace's equation is solved in the myocardium with 0 on the endocardium and 1 on the epicardium. Its field lines
connect both surfaces without crossing each other; the thickness at an endocardial point is the length of the field line
that starts there (Jones et al., Hum Brain Mapp 2000;11:12; Yezzi and Prince, IEEE Trans Med Imaging 2003;22:1332).

Both surfaces are the 0.5 level of slightly smoothed labels, placed between voxels by linear interpolation, and enter
the equation at their distance from the voxel (Gibou et al., J Comput Phys 2002;176:205). No flux passes where the
myocardium borders on an atrium, the aorta or the space above the mitral plane, and at its basal rim.

Arrays are ``(z, y, x)``; positions within the grid are in mm along its axes, in this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from ..anatomy import structure
from ..wording import _
from .axes import HeartFrame
from .grid import HeartGrid, Unknown

SMOOTHING_VOXELS = 0.75
"""Standard deviation s of the Gaussian that smooths the staircase of the labels. It moves a surface of radius R by s² /
R: by 0.03 mm at 20 mm, with voxels of 1 mm."""
SMALLEST_FRACTION = 0.1
"""Minimum distance of a surface from a voxel, in voxels, which keeps the equations well-conditioned."""
STEP_MM, LONGEST_MM = 0.5, 40.0
"""Step along a field line, and its maximum length, which exceeds the thickness of any wall."""
COARSE_VOXEL_MM = 3.0
"""Longest voxel edge that resolves the wall: a normal wall of 9 mm has three voxels of it."""
BASE_MARGIN_MM = 3.0
"""The wall starts this far below the level from which the myocardium surrounds the cavity. Above this level it ends in
a thin edge at the annulus and the outflow tract, which does not represent the thickness of the wall."""
ANGLE_BINS = 24
RIM_HEIGHT, RIM_COSINE = 1 / 3, 0.7
"""In the basal third, outer surfaces that face the base within 45 degrees are the rim of the wall at the valves."""
TOLERANCE = 1e-4
"""Relative residual of the solution; 1e-6 changes the thickness of walls of 9 and 14 mm by at most 0.01 mm."""


@dataclass(frozen=True, eq=False)
class WallThickness:
    """Wall thickness of the left ventricle at its endocardium.

    Attributes:
        points_lps_mm: endocardial points, world LPS ``(n, 3)``.
        thickness_mm: wall thickness ``(n,)``.
        height: position along the long axis ``(n,)``, 0 mitral plane, 1 endocardial apex.
        angle_deg: angle about the axis ``(n,)``, 0 septal, 90 anterior.
        note: how it was measured, if not in three dimensions.
    """

    points_lps_mm: np.ndarray
    thickness_mm: np.ndarray
    height: np.ndarray
    angle_deg: np.ndarray
    note: str = ""


@dataclass(frozen=True, eq=False)
class Wall:
    """Myocardium on a grid.

    Attributes:
        endo, epi: levels of the two surfaces, positive on the side of the wall.
        inside: voxels of the wall.
        insulating: voxels without flux.
        spacing: mm ``(z, y, x)``.
        axes: axes along which the equation is solved: all, or the two of a slice.
    """

    endo: np.ndarray
    epi: np.ndarray
    inside: np.ndarray
    insulating: np.ndarray
    spacing: np.ndarray
    axes: tuple[int, ...] = (0, 1, 2)

    @cached_property
    def neighbours(self) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Axis and sign -> result of :func:`_neighbours`."""
        return {(axis, sign): _neighbours(self, axis, sign) for axis in self.axes for sign in (1, -1)}


def wall_thickness(grid: HeartGrid, frame: HeartFrame | Unknown) -> WallThickness | Unknown:
    """Measure the left ventricular wall at every endocardial point between mitral plane and apex."""
    problem = grid.problem("LV", "MYO")
    if problem is not None:
        return problem
    if isinstance(frame, Unknown):
        return frame
    if max(grid.geometry.spacing) > COARSE_VOXEL_MM:
        return Unknown(
            _("slices of {spacing:.1f} mm do not resolve the wall").format(spacing=max(grid.geometry.spacing))
        )
    wall, low = _wall(grid, frame)
    starts = endocardial_points(wall)
    points = grid.geometry.index_to_world(starts / wall.spacing + low)
    height, angle = frame.height_and_angle(points)
    below = height > _closed_from(height, angle) + BASE_MARGIN_MM / frame.axis.length_mm
    length = np.full(len(starts), np.nan)
    length[below] = lengths(wall, starts[below])
    found = np.isfinite(length)
    if not found.any():
        return Unknown(_("no line crosses the myocardium from the endocardium to the epicardium"))
    return WallThickness(points[found], length[found], height[found], angle[found])


def lengths(wall: Wall, starts: np.ndarray) -> np.ndarray:
    """Return the length of the field line from each endocardial point ``(n, 3)`` to the epicardium, mm; NaN if none."""
    return _trace(wall, _direction(wall, _potential(wall)), starts)


def surrounded(angle_deg: np.ndarray) -> bool:
    """Return whether points at these angles about the axis lie in every direction."""
    sector = np.floor(np.mod(angle_deg, 360.0) / (360.0 / ANGLE_BINS)).astype(int) % ANGLE_BINS
    return len(np.unique(sector)) == ANGLE_BINS


def _closed_from(height: np.ndarray, angle: np.ndarray) -> float:
    """Return the height on the axis from which endocardium lies in every direction, for at least 1 / 40 of the axis."""
    for level in np.arange(0.0, 0.6, 1 / 40):
        if surrounded(angle[(height >= level) & (height < level + 1 / 40)]):
            return float(level)
    return 0.6


@dataclass(frozen=True, eq=False)
class Levels:
    """Surfaces of the wall on the smallest part of the grid that contains it.

    Attributes:
        low: index of the first voxel of that part, ``(z, y, x)``.
        endo, epi: levels of the two surfaces, positive on the side of the wall.
        beyond: voxels of left atrium and aorta.
    """

    low: np.ndarray
    endo: np.ndarray
    epi: np.ndarray
    beyond: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Voxels of the wall."""
        return np.asarray((self.endo > 0) & (self.epi > 0))


def wall_levels(grid: HeartGrid, axes: tuple[int, ...] = (0, 1, 2)) -> Levels:
    """Return the surfaces of the wall, from labels that are smoothed along ``axes``."""
    box = grid.boxes[structure("MYO").label]
    low = np.array([b.start for b in box]) - 1
    labels = grid.labels[tuple(slice(a, b.stop + 1) for a, b in zip(low, box, strict=True))]
    beyond = np.isin(labels, [structure(k).label for k in ("LA", "AO")])
    # For the smoothing, the atrium and the aorta extend the cavity, so that its surface is not rounded at the base.
    blood = beyond | (labels == structure("LV").label)
    sigma = [SMOOTHING_VOXELS if axis in axes else 0.0 for axis in range(3)]
    cavity, heart = (
        ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=3.0)
        for mask in (blood, blood | (labels == structure("MYO").label))
    )
    return Levels(low, 0.5 - cavity, heart - 0.5, beyond)


def _wall(grid: HeartGrid, frame: HeartFrame) -> tuple[Wall, np.ndarray]:
    """Return the wall, and the position of its part of the grid."""
    levels = wall_levels(grid)
    inside, height = levels.inside, _height(grid, frame, levels.low, levels.endo.shape)
    above = height < 0
    rim = (height < frame.axis.length_mm * RIM_HEIGHT) & _faces_base(grid, frame, levels.epi)
    insulating = ~inside & (above | rim | levels.beyond)
    spacing = np.asarray(grid.geometry.spacing)[::-1]
    return Wall(levels.endo, levels.epi, inside & ~above, insulating | (inside & above), spacing), levels.low


def _faces_base(grid: HeartGrid, frame: HeartFrame, epi: np.ndarray) -> np.ndarray:
    """Return where the outer surface of the heart, given by its level, faces the base rather than the side."""
    steps = np.asarray(grid.geometry.spacing)[::-1]
    slopes = np.stack(np.gradient(epi, *steps.tolist()))
    towards_apex = np.tensordot((grid.geometry.direction_matrix.T @ frame.axis.direction)[::-1], slopes, 1)
    return np.asarray(towards_apex > RIM_COSINE * np.linalg.norm(slopes, axis=0))


def _height(grid: HeartGrid, frame: HeartFrame, low: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the position along the long axis of each voxel of a part of the grid, mm; 0 at the mitral plane."""
    axis = frame.axis
    steps = (grid.geometry.affine[:3, :3].T @ axis.direction)[::-1]
    start = float((grid.geometry.index_to_world(low) - axis.base) @ axis.direction)
    z, y, x = (np.arange(n) * s for n, s in zip(shape, steps, strict=True))
    return np.asarray(start + z[:, None, None] + y[:, None] + x)


def _neighbours(wall: Wall, axis: int, sign: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return kind, distance (voxels) and value of the surface between each wall voxel and its neighbour along ``axis``.

    Kind 0: wall, 1: a surface lies between, 2: insulating.
    """

    def ahead(array: np.ndarray) -> np.ndarray:
        return np.roll(array, -sign, axis)[wall.inside]

    kind = np.where(ahead(wall.inside), 0, np.where(ahead(wall.insulating), 2, 1))
    fractions = []
    for level in (wall.endo, wall.epi):
        here, there = level[wall.inside], ahead(level)
        fractions.append(np.where(there < 0, here / np.maximum(here - there, 1e-6), np.inf))
    fraction = np.clip(np.minimum(*fractions), SMALLEST_FRACTION, 1.0)
    return kind, fraction, (fractions[1] < fractions[0]).astype(float)


def _potential(wall: Wall) -> np.ndarray:
    """Solve Laplace's equation at the voxels of the wall, in the order of ``array[wall.inside]``."""
    count = int(wall.inside.sum())
    number = np.full(wall.inside.shape, -1, np.int32)
    number[wall.inside] = np.arange(count)
    diagonal, right = np.zeros(count), np.zeros(count)
    rows, columns, weights = [], [], []
    for axis in wall.axes:
        weight = 1 / wall.spacing[axis] ** 2
        for sign in (1, -1):
            kind, fraction, value = wall.neighbours[axis, sign]
            linked, surface = kind == 0, kind == 1
            diagonal += weight * (linked + surface / fraction)
            right += weight * surface * value / fraction
            rows.append(np.flatnonzero(linked))
            columns.append(np.roll(number, -sign, axis)[wall.inside][linked])
            weights.append(np.full(int(linked.sum()), -weight))
    diagonal = np.maximum(diagonal, 1e-9)  # a voxel without neighbours keeps 0
    off = sparse.csr_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), (count, count))
    scale = 1 / np.sqrt(diagonal)
    system = sparse.diags(scale) @ off @ sparse.diags(scale) + sparse.identity(count)
    solution, _info = cg(system.tocsr(), right * scale, x0=0.5 / scale, rtol=TOLERANCE, maxiter=2000)
    return np.asarray(solution * scale)


def _direction(wall: Wall, potential: np.ndarray) -> np.ndarray:
    """Return unit directions of the field lines, endo- to epicardium, ``(3, z, y, x)``, also just outside the wall."""
    field = np.zeros(wall.inside.shape)
    field[wall.inside] = potential
    gradient = np.zeros((3, *wall.inside.shape), np.float32)
    for axis in wall.axes:
        slopes, shares = [], []
        for sign in (1, -1):
            kind, fraction, value = wall.neighbours[axis, sign]
            there = np.where(kind == 0, np.roll(field, -sign, axis)[wall.inside], value)
            reach = np.where(kind == 0, 1.0, fraction) * wall.spacing[axis]
            slopes.append(np.where(kind == 2, 0.0, sign * (there - potential) / reach))
            shares.append(np.where(kind == 2, 0.0, 1 / reach))
        total = np.maximum(shares[0] + shares[1], 1e-9)
        gradient[axis][wall.inside] = (slopes[0] * shares[0] + slopes[1] * shares[1]) / total
    reach = [5 if axis in wall.axes else 1 for axis in range(3)]
    cross = ndimage.generate_binary_structure(3, 1) & (np.indices((3, 3, 3)) == 1)[
        [axis for axis in range(3) if axis not in wall.axes]
    ].all(axis=0)
    near = ndimage.binary_dilation(wall.inside, cross, iterations=2) & ~wall.inside
    weight = ndimage.uniform_filter(wall.inside.astype(np.float32), reach)[near]
    for axis in wall.axes:
        gradient[axis][near] = ndimage.uniform_filter(gradient[axis], reach)[near] / np.maximum(weight, 1e-6)
    return gradient / np.maximum(np.linalg.norm(gradient, axis=0), 1e-9)


def endocardial_points(wall: Wall) -> np.ndarray:
    """Return the points where the endocardium crosses the lines between voxels of wall and cavity, mm ``(n, 3)``."""
    found = []
    index = np.argwhere(wall.inside)
    for axis in wall.axes:
        for sign in (1, -1):
            kind, fraction, value = wall.neighbours[axis, sign]
            here = (kind == 1) & (value == 0)
            points = index[here].astype(float)
            points[:, axis] += sign * fraction[here]
            found.append(points * wall.spacing)
    return np.concatenate(found)


def _trace(wall: Wall, direction: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the length of the field line from each start to the epicardium, mm; NaN if it does not reach it."""
    length, active = np.full(len(starts), np.nan), np.arange(len(starts))
    position, level = starts.copy(), np.full(len(starts), np.inf)
    walked = np.zeros(len(starts))
    for _step in range(int(LONGEST_MM / STEP_MM)):
        middle = position + STEP_MM / 2 * _at(direction, position, wall.spacing)
        step = _at(direction, middle, wall.spacing)
        moved = position + STEP_MM * step
        now = _at(wall.epi[None], moved, wall.spacing)[:, 0]
        out = now < 0
        before = np.where(np.isfinite(level), level, 0.5)
        length[active[out]] = (walked + STEP_MM * before / np.maximum(before - now, 1e-6))[out]
        stuck = np.linalg.norm(step, axis=1) < 0.5  # left the field sideways at the base
        keep = ~out & ~stuck
        active, position, level, walked = active[keep], moved[keep], now[keep], walked[keep] + STEP_MM
        if not len(active):
            break
    return length


def _at(field: np.ndarray, position: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Interpolate a field ``(c, z, y, x)`` linearly at positions in mm, ``(n, c)``."""
    index = (position / spacing).T
    return np.stack([ndimage.map_coordinates(f, index, order=1, mode="nearest", prefilter=False) for f in field], -1)
