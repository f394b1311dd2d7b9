"""Long axis of the left ventricle, and the directions around it: septal, anterior.

The axis runs from the centre of the mitral valve to the endocardial apex. The septal direction is perpendicular to it
and points to the middle of the septum, half-way between the two insertions of the right ventricle (Cerqueira et al.,
Circulation 2002;105:539: the insertions separate the septum from the anterior and inferior walls).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..anatomy import structure
from ..wording import _
from .grid import CUT_OFF, HeartGrid, Unknown
from .valves import Interface, ValvePlane, interface, plane_of

APEX_SHARE = 0.02
"""Fraction of the ventricle's voxels, farthest from the mitral valve, whose centroid gives the direction of the apex;
the single farthest voxel depends on the position of the grid."""
SEPTUM_LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Borders of the slabs along the axis (0 mitral plane, 1 apex) that are searched for the insertions."""
INSERTION_QUANTILE = 0.01
SMALLEST_SEPTUM_MM2 = 500.0
"""Minimum contact area of right ventricle and myocardium that forms a septum; normal is 3000-5000 mm²."""


@dataclass(frozen=True)
class LongAxis:
    """Long axis of the left ventricle.

    Attributes:
        base_lps_mm: centre of the mitral valve, world LPS.
        apex_lps_mm: point where the axis leaves the cavity at the apex.
        note: how the base was determined, if not from the mitral valve.
    """

    base_lps_mm: tuple[float, float, float]
    apex_lps_mm: tuple[float, float, float]
    note: str = ""

    @property
    def base(self) -> np.ndarray:
        return np.array(self.base_lps_mm)

    @property
    def length_mm(self) -> float:
        return float(np.linalg.norm(np.subtract(self.apex_lps_mm, self.base_lps_mm)))

    @property
    def direction(self) -> np.ndarray:
        """Unit vector from base to apex, LPS."""
        return np.subtract(self.apex_lps_mm, self.base_lps_mm) / self.length_mm


@dataclass(frozen=True)
class HeartFrame:
    """Directions and angles around the long axis.

    Attributes:
        axis: the long axis.
        septal_lps: unit vector perpendicular to the axis, towards the middle of the septum.
        half_septum_deg: half the angle between the insertions of the right ventricle, seen from the axis.
    """

    axis: LongAxis
    septal_lps: tuple[float, float, float]
    half_septum_deg: float

    @property
    def septal(self) -> np.ndarray:
        return np.array(self.septal_lps)

    @property
    def anterior(self) -> np.ndarray:
        """Unit vector perpendicular to axis and septal direction, towards the anterior wall."""
        return np.cross(self.septal, self.axis.direction)

    def height_and_angle(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return position along the axis (0 mitral plane, 1 apex) and angle (degrees, 0 septal, 90 anterior) of points.

        ``points``: world LPS ``(n, 3)``, mm.
        """
        offset = points - self.axis.base
        angle = np.degrees(np.arctan2(offset @ self.anterior, offset @ self.septal))
        return offset @ self.axis.direction / self.axis.length_mm, angle


def long_axis(grid: HeartGrid, mitral: ValvePlane | Unknown) -> LongAxis | Unknown:
    """Determine the long axis of the left ventricle.

    Without a mitral valve, the base is the middle of the largest part of the ventricle's surface that is covered by
    neither myocardium nor aorta.
    """
    problem = grid.too_coarse or grid.problem("LV")
    if problem is not None:
        return problem
    note = ""
    if isinstance(mitral, Unknown):
        if not grid.has("MYO"):
            return Unknown(_("no base: {why}, {name} not found").format(why=mitral.why, name=structure("MYO").name))
        bare = interface(grid, (structure("LV").label,), (0, *(structure(k).label for k in ("RV", "LA", "RA", "PA"))))
        if bare is None or bare.cut or np.linalg.norm(bare.vector) < 100.0:
            return Unknown(_("no base: {why}").format(why=mitral.why))
        mitral, note = plane_of(bare, "mitral"), "base: where no myocardium covers the ventricle"
    points, base = grid.points("LV"), mitral.center
    distance = np.linalg.norm(points - base, axis=1)
    far = distance >= np.quantile(distance, 1 - APEX_SHARE)
    direction = points[far].mean(axis=0) - base
    direction /= np.linalg.norm(direction)
    length = _exit(grid, base, direction, float(distance.max()) + 5.0)
    if length is None:
        return Unknown(_("the axis from the base leaves the left ventricle at once"))
    bx, by, bz = base.tolist()
    ax, ay, az = (base + length * direction).tolist()
    return LongAxis((bx, by, bz), (ax, ay, az), note)


def _exit(grid: HeartGrid, start: np.ndarray, direction: np.ndarray, reach_mm: float) -> float | None:
    """Return the distance at which a ray finally leaves the left ventricle, mm."""
    along = np.arange(0.0, reach_mm, 0.1)
    inside = grid.share_along(("LV",), start + along[:, None] * direction) >= 0.5
    return float(along[np.flatnonzero(inside)[-1]]) + 0.05 if inside.any() else None


def septum_surface(grid: HeartGrid) -> Interface | Unknown:
    """Return the interface of right ventricle and left ventricular myocardium: the right side of the septum."""
    for key in ("RV", "MYO"):
        if not grid.has(key):
            return Unknown(_("{name} not found").format(name=structure(key).name))
    found = interface(grid, (structure("RV").label,), (structure("MYO").label,))
    if found is None or found.area_mm2 < SMALLEST_SEPTUM_MM2:
        return Unknown(_("right ventricle and myocardium hardly touch, so the septum is not known"))
    return Unknown(_("septum {cut_off}").format(cut_off=CUT_OFF)) if found.cut else found


def heart_frame(axis: LongAxis | Unknown, septum: Interface | Unknown) -> HeartFrame | Unknown:
    """Determine the directions around the axis from the insertions of the right ventricle, as medians over slabs."""
    if isinstance(axis, Unknown):
        return axis
    if isinstance(septum, Unknown):
        return septum
    offset = septum.centers - axis.base
    height = offset @ axis.direction / axis.length_mm
    used = (height >= SEPTUM_LEVELS[0]) & (height < SEPTUM_LEVELS[-1])
    radial = offset - np.outer(offset @ axis.direction, axis.direction)
    towards = radial[used].mean(axis=0) if used.any() else np.zeros(3)
    if np.linalg.norm(towards) < 1.0:
        return Unknown(_("the septum is not at the level of the left ventricle"))
    septal = towards / np.linalg.norm(towards)
    angle = np.degrees(np.arctan2(offset @ np.cross(septal, axis.direction), offset @ septal))
    ends = [
        np.quantile(angle[slab], (INSERTION_QUANTILE, 1 - INSERTION_QUANTILE))
        for low, high in pairwise(SEPTUM_LEVELS)
        if np.count_nonzero(slab := (height >= low) & (height < high)) >= 10
    ]
    if not ends:
        return Unknown(_("the septum has too few voxels"))
    inferior, anterior = np.median(ends, axis=0)
    turn = np.radians((inferior + anterior) / 2)
    x, y, z = (np.cos(turn) * septal + np.sin(turn) * np.cross(septal, axis.direction)).tolist()
    return HeartFrame(axis, (x, y, z), float(anterior - inferior) / 2)
