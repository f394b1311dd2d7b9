"""Wall thickness in stacks of thick short-axis slices: Laplace's equation in the plane of each slice.

Slices of 8-10 mm do not resolve the wall along their normal. In a short-axis stack, however, the wall crosses the
slices nearly at right angles, and its thickness is measured within each slice, as in clinical practice. Only slices in
which myocardium surrounds the cavity, and which hold neither left atrium nor aorta, are used. Towards the apex the wall
becomes oblique to the slices and the thickness too large; the apex itself (segment 17) is not measured.

Thick slices in any other direction cut the wall obliquely. There is no thickness in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..anatomy import structure
from ..volume.geometry import SIDES
from ..wording import _
from .axes import HeartFrame, LongAxis, heart_frame
from .grid import CUT_OFF, HeartGrid, Unknown
from .segments17 import APEX_SHARE
from .valves import interface
from .wall import COARSE_VOXEL_MM, Wall, WallThickness, endocardial_points, lengths, surrounded, wall_levels

LARGEST_TILT_DEG = 25.0
"""Maximum angle between long axis and normal of the slices; at 25 degrees, a thickness is at most 10 % too large."""
SMALLEST_ELONGATION = 1.15
"""Minimum ratio of the cavity's extents along its first and second principal axis."""
FEWEST_SLICES = 3
SMALLEST_CAVITY_MM2 = 100.0
FEWEST_BASAL_VOXELS = 5
"""Number of voxels of left atrium or aorta from which a slice cuts the base of the ventricle and is left out."""


@dataclass(frozen=True)
class StackWall:
    """Wall of a stack of slices.

    Attributes:
        frame: directions around the axis through the centres of the cavity in the first and last slice.
        wall: thickness in the plane of the slices.
    """

    frame: HeartFrame
    wall: WallThickness


def wall_in_slices(grid: HeartGrid, contacts: Mapping[str, tuple[str, ...]]) -> StackWall | Unknown:
    """Measure the wall of the left ventricle in the plane of each slice of a short-axis stack.

    Args:
        grid: labels with slices thicker than :data:`~heartseg.measure.wall.COARSE_VOXEL_MM`.
        contacts: structure key -> sides of the scan that it reaches; a stack may end within the ventricle.
    """
    step = max(grid.geometry.spacing)
    way_out = _("slices of {step:.1f} mm do not resolve the wall: use slices of at most {coarse_voxel_mm:g} mm").format(
        step=step, coarse_voxel_mm=COARSE_VOXEL_MM
    )
    thick = int(np.argmax(np.asarray(grid.geometry.spacing)[::-1]))
    if sorted(grid.geometry.spacing)[1] > COARSE_VOXEL_MM:
        return Unknown(way_out)
    for key in ("LV", "MYO"):
        if not grid.has(key):
            return Unknown(_("{name} not found").format(name=structure(key).name))
        if any(side not in SIDES[2 - thick] for side in contacts.get(key, ())):
            return Unknown(_("{name} {cut_off}").format(name=structure(key).name, cut_off=CUT_OFF))
    axis = _axis(grid, thick)
    if isinstance(axis, Unknown):
        return Unknown(_("{why}; {way_out}, or a short-axis stack").format(why=axis.why, way_out=way_out))
    septum = interface(grid, (structure("RV").label,), (structure("MYO").label,))
    frame = heart_frame(
        axis, septum if septum is not None else Unknown(_("right ventricle and myocardium do not touch"))
    )
    if isinstance(frame, Unknown):
        return frame
    wall = _thickness(grid, frame, thick)
    return wall if isinstance(wall, Unknown) else StackWall(frame, wall)


def _axis(grid: HeartGrid, thick: int) -> LongAxis | Unknown:
    """Return the axis through the centres of the cavity, from the basal to the apical end of the stack."""
    label = structure("LV").label
    planes = np.moveaxis(grid.labels == label, thick, 0)
    pixel_mm2 = float(np.prod(grid.geometry.spacing)) / grid.geometry.spacing[2 - thick]
    areas = planes.sum(axis=(1, 2)) * pixel_mm2
    used = np.flatnonzero(areas >= SMALLEST_CAVITY_MM2)
    if len(used) < FEWEST_SLICES:
        return Unknown(_("the left ventricle is in {used} slices only").format(used=len(used)))
    points = grid.points("LV")
    spread, axes = np.linalg.eigh(np.cov(points.T))
    normal, elongation = grid.geometry.direction_matrix[:, 2 - thick], float(np.sqrt(spread[2] / spread[1]))
    if elongation < SMALLEST_ELONGATION:
        return Unknown(_("the left ventricle is not elongated, so its long axis is not known"))
    tilt = float(np.degrees(np.arccos(np.clip(abs(axes[:, 2] @ normal), 0.0, 1.0))))
    if tilt > LARGEST_TILT_DEG:
        return Unknown(_("the slices are tilted by {tilt:.0f} degrees against the short axis").format(tilt=tilt))
    ends = used[[-1, 0]] if _base_is_last(grid, thick, used, areas[used]) else used[[0, -1]]
    outwards = 0.5 * np.sign(ends[0] - ends[1])
    base, apex = (
        grid.geometry.index_to_world(_center(planes[k], k + shift, thick))
        for k, shift in zip(ends, (outwards, -outwards), strict=True)
    )
    (bx, by, bz), (ax, ay, az) = base.tolist(), apex.tolist()
    return LongAxis((bx, by, bz), (ax, ay, az), _("through the centres of the cavity in the slices"))


def _center(plane: np.ndarray, number: float, thick: int) -> np.ndarray:
    return np.insert(np.argwhere(plane).mean(axis=0), thick, number)


def _base_is_last(grid: HeartGrid, thick: int, used: np.ndarray, areas: np.ndarray) -> bool:
    """Return whether the base is at the last slice: where atria and aorta are, or else where the cavity is wider."""
    beyond = [structure(k).label for k in ("LA", "RA", "AO", "PA")]
    at = np.argwhere(np.isin(grid.labels, beyond))[:, thick]
    if len(at):
        return bool(at.mean() > used.mean())
    third = max(1, len(used) // 3)
    return bool(areas[-third:].mean() > areas[:third].mean())


def _thickness(grid: HeartGrid, frame: HeartFrame, thick: int) -> WallThickness | Unknown:
    plane = tuple(axis for axis in range(3) if axis != thick)
    levels, spacing = wall_levels(grid, plane), np.asarray(grid.geometry.spacing)[::-1]
    wall = Wall(levels.endo, levels.epi, levels.inside, ~levels.inside & levels.beyond, spacing, plane)
    starts = endocardial_points(wall)
    points = grid.geometry.index_to_world(starts / spacing + levels.low)
    height, angle = frame.height_and_angle(points)
    number = np.rint(starts[:, thick] / spacing[thick]).astype(int)
    beyond = np.flatnonzero(levels.beyond.sum(axis=plane) >= FEWEST_BASAL_VOXELS)
    closed = [
        k for k in np.unique(number) if k not in beyond and surrounded(_angles_about_center(points[number == k], frame))
    ]
    kept = np.isin(number, closed)
    if len(closed) < FEWEST_SLICES:
        return Unknown(
            _("the myocardium surrounds the left ventricle in {closed} slices only").format(closed=len(closed))
        )
    length = np.full(len(starts), np.nan)
    length[kept] = lengths(wall, starts[kept])
    found = np.isfinite(length)
    note = _("in the plane of short-axis slices of {spacing:.1f} mm, {closed} slices").format(
        spacing=spacing[thick], closed=len(closed)
    )
    above_apex = np.clip(height[found], 0.0, 1 - APEX_SHARE - 1e-6)
    return WallThickness(points[found], length[found], above_apex, angle[found], note)


def _angles_about_center(points: np.ndarray, frame: HeartFrame) -> np.ndarray:
    offset = points - points.mean(axis=0)
    return np.degrees(np.arctan2(offset @ frame.anterior, offset @ frame.septal))
