"""Shapes of the chambers in the standard planes: sphericity, ventricular widths, septal angle, atrial diameters.

Widths are measured in a plane sampled every 0.5 mm, on lines of that plane; each is a mean over 5 mm, which reduces the
influence of single ragged rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..anatomy import structure
from ..wording import _
from .axes import HeartFrame, LongAxis
from .grid import HeartGrid, Unknown
from .planes import ViewPlane
from .valves import Interface, ValvePlane

PIXEL_MM, HALF_MM = 0.5, 110.0
SMOOTHED_ROWS = 11
"""Number of rows over which a width is averaged: 5 mm."""
SEPTUM_RANGE = (0.15, 0.7)
"""Part of the long axis in which the septum is nearly straight."""
MID_SEPTUM = (0.4, 0.6)
"""Slab of the long axis in which the septal angle is measured."""


@dataclass(frozen=True)
class VentricularWidths:
    """Largest widths perpendicular to the septum in the four-chamber plane, mm."""

    rv_mm: float
    lv_mm: float

    @property
    def ratio(self) -> float:
        return self.rv_mm / self.lv_mm


@dataclass(frozen=True)
class AtrialDiameters:
    """Diameters of an atrium in the four-chamber plane, mm.

    Attributes:
        length_mm: from the middle of the valve to the roof, perpendicular to the valve.
        width_mm: largest width parallel to the valve.
    """

    length_mm: float
    width_mm: float


def sphericity(volume_ml: float, axis: LongAxis) -> float:
    """Return the volume of the left ventricle relative to a sphere whose diameter is the long axis, 6 V / (pi L³)."""
    return 6000.0 * volume_ml / (math.pi * axis.length_mm**3)


def ventricular_widths(
    grid: HeartGrid, plane: ViewPlane | Unknown, axis: LongAxis | Unknown, septum: Interface | Unknown
) -> VentricularWidths | Unknown:
    """Measure both ventricles in the four-chamber plane; the line of the septum is fitted to its right side."""
    for needed in (plane, axis, septum):
        if isinstance(needed, Unknown):
            return needed
    problem = grid.problem("LV", "RV")
    if problem is not None:
        return problem
    assert isinstance(plane, ViewPlane) and isinstance(axis, LongAxis) and isinstance(septum, Interface)
    height = (septum.centers - axis.base) @ axis.direction / axis.length_mm
    near = np.abs((septum.centers - plane.center_lps_mm) @ plane.normal) < 2 * max(grid.geometry.spacing)
    line = septum.centers[near & (height > SEPTUM_RANGE[0]) & (height < SEPTUM_RANGE[1])]
    if len(line) < 10:
        return Unknown(_("the septum is not in the four-chamber plane"))
    flat = (line - plane.center_lps_mm) @ np.stack([plane.right_lps, plane.up_lps], axis=1)
    axes = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2]
    along = axes[0][0] * np.array(plane.right_lps) + axes[0][1] * np.array(plane.up_lps)
    across = np.cross(plane.normal, along)
    center = np.asarray(plane.center_lps_mm)
    widths = [_largest_width(_section(grid, key, center, across, along)) for key in ("RV", "LV")]
    if min(widths) <= 0:
        return Unknown(_("a ventricle is not in the four-chamber plane"))
    return VentricularWidths(widths[0], widths[1])


def atrial_diameters(
    grid: HeartGrid, key: str, plane: ViewPlane | Unknown, valve: ValvePlane | Unknown
) -> AtrialDiameters | Unknown:
    """Measure the left (``LA``) or right (``RA``) atrium in the four-chamber plane."""
    for needed in (plane, valve):
        if isinstance(needed, Unknown):
            return needed
    problem = grid.problem(key)
    if problem is not None:
        return problem
    assert isinstance(plane, ViewPlane) and isinstance(valve, ValvePlane)
    up = -(valve.normal - (valve.normal @ plane.normal) * plane.normal)  # from the valve to the roof, in the plane
    up /= np.linalg.norm(up)
    center = valve.center - ((valve.center - plane.center_lps_mm) @ plane.normal) * plane.normal
    section = _section(grid, key, center, np.cross(plane.normal, up), up)
    middle = section.shape[1] // 2
    column = section[:, middle - SMOOTHED_ROWS // 2 : middle + SMOOTHED_ROWS // 2 + 1]
    roof = [np.flatnonzero(c)[-1] for c in column.T if c.any()]
    if not roof:
        return Unknown(_("{name} not in the four-chamber plane").format(name=structure(key).name))
    return AtrialDiameters((float(np.mean(roof)) - section.shape[0] // 2) * PIXEL_MM, _largest_width(section))


def septal_angle_deg(grid: HeartGrid, frame: HeartFrame | Unknown, septum: Interface | Unknown) -> float | Unknown:
    """Return the angle at the middle of the septum between the lines to both insertions of the right ventricle.

    The angle is in degrees; a flat septum has 180. It is measured on the right side of the septum, in a slab about the
    middle of the long axis.
    """
    for needed in (frame, septum):
        if isinstance(needed, Unknown):
            return needed
    assert isinstance(frame, HeartFrame) and isinstance(septum, Interface)
    height, angle = frame.height_and_angle(septum.centers)
    slab = (height > MID_SEPTUM[0]) & (height < MID_SEPTUM[1])
    if slab.sum() < 30:
        return Unknown(_("the septum has too few voxels at the middle of the ventricle"))
    offset = septum.centers[slab] - frame.axis.base
    flat = np.column_stack([offset @ frame.septal, offset @ frame.anterior])
    low, middle, high = np.quantile(angle[slab], (0.02, 0.5, 0.98))
    ends = [flat[np.abs(angle[slab] - a) <= 4.0].mean(axis=0) for a in (low, middle, high)]
    first, second = ends[0] - ends[1], ends[2] - ends[1]
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    value = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    bulges_left = ends[1][0] < (ends[0][0] + ends[2][0]) / 2
    return 360.0 - value if bulges_left else value


def _section(grid: HeartGrid, key: str, center: np.ndarray, right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return the largest component of a structure in a plane, boolean; rows along ``up``, columns along ``right``."""
    offsets = np.arange(-HALF_MM, HALF_MM + 1e-6, PIXEL_MM)
    corners = grid.geometry.cropped(grid.boxes[structure(key).label]).corners() - center
    rows, columns = (_within(offsets, corners @ direction) for direction in (up, right))
    plane = center + offsets[rows, None, None] * up + offsets[None, columns, None] * right
    inside = np.zeros((len(offsets), len(offsets)), bool)
    if plane.size:
        inside[rows, columns] = grid.share_along((key,), plane) >= 0.5
    pieces, count = ndimage.label(inside)
    return np.asarray(pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())) if count else inside


def _within(offsets: np.ndarray, ends: np.ndarray) -> slice:
    """Return the part of sorted offsets between the least and the greatest of ``ends``."""
    first, last = np.searchsorted(offsets, (ends.min(), ends.max()))
    return slice(int(first), int(last))


def _largest_width(section: np.ndarray) -> float:
    """Return the largest length of a row, as mean over :data:`SMOOTHED_ROWS`, mm."""
    widths = section.sum(axis=1) * PIXEL_MM
    return float(ndimage.uniform_filter1d(widths, SMOOTHED_ROWS, mode="constant").max())
