"""The 17 segments of the left ventricular myocardium.

Basal, mid and apical third of the cavity along the long axis; six sectors of 60 degrees in the basal and mid third and
four of 90 degrees in the apical third, seen from the long axis and symmetric about the middle of the septum; segment 17
is the myocardium beyond the end of the cavity (Cerqueira et al., Circulation 2002;105:539). Myocardium above the mitral
plane belongs to the basal segments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..wording import _
from .axes import HeartFrame
from .grid import HeartGrid, Unknown
from .wall import WallThickness

FEWEST_POINTS = 10
APEX_SHARE = 0.05

NAMES = {
    1: _("basal anterior"),
    2: _("basal anteroseptal"),
    3: _("basal inferoseptal"),
    4: _("basal inferior"),
    5: _("basal inferolateral"),
    6: _("basal anterolateral"),
    7: _("mid anterior"),
    8: _("mid anteroseptal"),
    9: _("mid inferoseptal"),
    10: _("mid inferior"),
    11: _("mid inferolateral"),
    12: _("mid anterolateral"),
    13: _("apical anterior"),
    14: _("apical septal"),
    15: _("apical inferior"),
    16: _("apical lateral"),
    17: _("apex"),
}
"""Number -> name of a segment."""

_SIXTHS = np.array([2, 1, 6, 5, 4, 3], np.uint8)  # from the middle of the septum towards the anterior wall, 60° each
_QUARTERS = np.array([14, 13, 16, 15], np.uint8)  # from -45°, 90° each


def segments(height: np.ndarray, angle_deg: np.ndarray) -> np.ndarray:
    """Return the segment (1-17, uint8) of points.

    Args:
        height: position along the long axis, 0 at the mitral plane, 1 at the endocardial apex; any shape.
        angle_deg: angle about the long axis, 0 at the middle of the septum, 90 towards the anterior wall; the same
            shape.
    """
    sixth = _SIXTHS[np.floor(np.mod(angle_deg, 360.0) / 60.0).astype(int) % 6]
    quarter = _QUARTERS[np.floor(np.mod(np.add(angle_deg, 45.0), 360.0) / 90.0).astype(int) % 4]
    bands = [np.less(height, 1 / 3), np.less(height, 2 / 3), np.less(height, 1.0)]
    return np.select(bands, [sixth, sixth + 6, quarter], np.uint8(17)).astype(np.uint8)


@dataclass(frozen=True)
class SegmentWall:
    """Wall of one segment.

    Attributes:
        segment, name: number and name, see :data:`NAMES`.
        mean_mm, min_mm, max_mm: thickness over its endocardium; ``None`` with fewer than :data:`FEWEST_POINTS` points.
            Segment 17 has no endocardium of its own: its thickness is that at the endocardial apex, over the last
            :data:`APEX_SHARE` of the axis.
        mass_share: fraction of the mass of the myocardium, 0-1.
    """

    segment: int
    name: str
    mean_mm: float | None
    min_mm: float | None
    max_mm: float | None
    mass_share: float


def segment_walls(grid: HeartGrid, frame: HeartFrame, wall: WallThickness | Unknown) -> tuple[SegmentWall, ...]:
    """Return thickness and mass fraction of the 17 segments."""
    counts = np.bincount(segments(*frame.height_and_angle(grid.points("MYO"))), minlength=18)
    walls = []
    for number, name in NAMES.items():
        values = np.empty(0) if isinstance(wall, Unknown) else wall.thickness_mm[_in_segment(wall, number)]
        mean, low, high = (
            (float(values.mean()), float(values.min()), float(values.max()))
            if len(values) >= FEWEST_POINTS
            else (None, None, None)
        )
        walls.append(SegmentWall(number, name, mean, low, high, float(counts[number] / counts.sum())))
    return tuple(walls)


def _in_segment(wall: WallThickness, number: int) -> np.ndarray:
    if number == 17:
        return np.asarray(wall.height >= 1 - APEX_SHARE)
    return segments(np.minimum(wall.height, 1 - 1e-9), wall.angle_deg) == number


def thickening_percent(diastole: SegmentWall, systole: SegmentWall) -> float | None:
    """Return the systolic thickening of a segment: (systole - diastole) / diastole of the mean thickness, percent."""
    if diastole.mean_mm is None or systole.mean_mm is None:
        return None
    return 100.0 * (systole.mean_mm - diastole.mean_mm) / diastole.mean_mm
