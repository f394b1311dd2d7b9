"""Standard planes of the heart: two-, three- and four-chamber view and short axis.

All long-axis planes contain the long axis of the left ventricle. The four-chamber plane passes through the centre of
the tricuspid valve, the three-chamber plane through that of the aortic valve; the two-chamber plane is perpendicular to
the septal direction, so that it cuts the middle of the anterior and inferior walls. The short axis is perpendicular to
the long axis, half-way between mitral plane and apex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..wording import _
from .axes import HeartFrame, LongAxis
from .grid import Unknown
from .valves import ValvePlane

SMALLEST_OFFSET_MM = 8.0
"""Minimum distance of a valve from the long axis; a closer valve does not define a plane."""


@dataclass(frozen=True)
class ViewPlane:
    """A plane with the usual orientation of its picture.

    Attributes:
        center_lps_mm: a point in the plane, centre of the image, world LPS.
        right_lps, up_lps: unit vectors to the right and to the top of the image. In the long-axis planes, the apex is
            at the top, and the lateral wall (four-chamber), the anterior wall (two-chamber) or the aorta
            (three-chamber) is at the right. In the short axis, the anterior wall is at the top and the septum at the
            left.
    """

    center_lps_mm: tuple[float, float, float]
    right_lps: tuple[float, float, float]
    up_lps: tuple[float, float, float]

    @property
    def normal(self) -> np.ndarray:
        """Unit normal, towards the viewer."""
        return np.cross(self.right_lps, self.up_lps)


@dataclass(frozen=True)
class StandardPlanes:
    """The standard planes; :class:`~heartseg.measure.grid.Unknown` with the reason where one is not defined."""

    two_chamber: ViewPlane | Unknown
    three_chamber: ViewPlane | Unknown
    four_chamber: ViewPlane | Unknown
    short_axis: ViewPlane | Unknown


def standard_planes(
    axis: LongAxis | Unknown,
    frame: HeartFrame | Unknown,
    tricuspid: ValvePlane | Unknown,
    aortic: ValvePlane | Unknown,
) -> StandardPlanes:
    """Determine the standard planes from the long axis, the septum and two valves."""
    four = _through(axis, tricuspid, "tricuspid")
    if isinstance(four, ViewPlane):  # the right ventricle is at the left of the image
        x, y, z = four.right_lps
        four = ViewPlane(four.center_lps_mm, (-x, -y, -z), four.up_lps)
    three = _through(axis, aortic, "aortic")
    if isinstance(frame, Unknown):
        return StandardPlanes(frame, three, four, frame)
    up, middle = frame.axis.direction, frame.axis.base + frame.axis.direction * frame.axis.length_mm / 2
    two = _view(middle, frame.anterior, up)
    return StandardPlanes(two, three, four, _view(middle, -frame.septal, frame.anterior))


def _through(axis: LongAxis | Unknown, valve: ValvePlane | Unknown, name: str) -> ViewPlane | Unknown:
    """Return the plane through the long axis and a valve, with the valve at the right of the image."""
    if isinstance(axis, Unknown):
        return axis
    if isinstance(valve, Unknown):
        return Unknown(_("no {name} valve: {why}").format(name=name, why=valve.why))
    offset = valve.center - axis.base
    right = offset - (offset @ axis.direction) * axis.direction
    distance = float(np.linalg.norm(right))
    if distance < SMALLEST_OFFSET_MM:
        return Unknown(
            _("the {name} valve is {distance:.0f} mm from the long axis, too near to define a plane").format(
                name=name, distance=distance
            )
        )
    return _view(axis.base + axis.direction * axis.length_mm / 2, right / distance, axis.direction)


def _view(center: np.ndarray, right: np.ndarray, up: np.ndarray) -> ViewPlane:
    (cx, cy, cz), (rx, ry, rz), (ux, uy, uz) = center.tolist(), right.tolist(), up.tolist()
    return ViewPlane((cx, cy, cz), (rx, ry, rz), (ux, uy, uz))
