"""Ascending aorta along its centreline: root, sinotubular junction, maximum of the tubular part.

The diameters are those of circles with the area of double-oblique cross-sections, from the aortic valve to the arch
(:mod:`heartseg.measure.vessels`). The root is the widest section within :data:`ROOT_MM` of the valve; the sinotubular
junction is the narrowest section between the root and the widest section of the tubular part. If the root is not wider
than the sections beyond it, the labels show no sinotubular junction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..wording import _
from .grid import Unknown
from .vessels import GreatVessels, VesselProfile

ROOT_MM = 25.0
"""Distance of the root's end from the valve: a root is 20-25 mm high from the annulus to the sinotubular junction."""
WAIST_MM = 1.0
"""Minimum difference between root and junction, twice the repeatability of a diameter."""
SHORTEST_MM = 10.0
"""Minimum length of the tubular part beyond the root; a shorter one is not measured."""
END_MM = 10.0
"""Sections closer to the end of the centreline are omitted: they may leave through the cut end of the label, or cut the
beginning of the arch obliquely."""


@dataclass(frozen=True)
class AscendingAorta:
    """Inner diameters of the ascending aorta, mm, each with its distance from the aortic valve along the centreline.

    Attributes:
        root_mm, root_at_mm: widest section of the root.
        junction_mm, junction_at_mm: sinotubular junction.
        maximum_mm, maximum_at_mm: widest section of the tubular part.
        length_mm: length of the centreline.
        cut_above: whether the upper border of the scan cuts the aorta, so that a wider part may be outside.
    """

    root_mm: float
    root_at_mm: float
    junction_mm: float | Unknown
    junction_at_mm: float | None
    maximum_mm: float | Unknown
    maximum_at_mm: float | None
    length_mm: float
    cut_above: bool


def ascending_aorta(vessels: GreatVessels) -> AscendingAorta | Unknown:
    """Measure the diameters along the ascending aorta of a label map."""
    profile = vessels.aortic_profile
    if isinstance(profile, Unknown):
        return profile
    if not profile.at_valve:
        return Unknown(_("the aorta does not reach the left ventricle, so its root is not known"))
    return levels_of(profile)


def levels_of(profile: VesselProfile) -> AscendingAorta | Unknown:
    """Find root, junction and maximum in a profile of diameters."""
    known = np.isfinite(profile.diameter_mm)
    at, diameter = profile.along_mm[known], profile.diameter_mm[known]
    if len(at) < 5:
        return Unknown(_("too few cross-sections of the ascending aorta"))
    smooth = ndimage.median_filter(diameter, 3, mode="nearest")
    in_root = at <= ROOT_MM
    if not in_root.any():
        return Unknown(_("no cross-section of the aortic root"))
    root = int(np.flatnonzero(in_root)[smooth[in_root].argmax()])
    end = profile.along_mm[-1] - END_MM
    tubular = np.flatnonzero((at > max(at[root] + SHORTEST_MM / 2, ROOT_MM * 0.8)) & (at <= end))
    length = float(profile.along_mm[-1])
    short = Unknown(_("the ascending aorta is cut off above its root"))
    if not len(tubular) or end - at[root] < SHORTEST_MM:
        return AscendingAorta(float(smooth[root]), float(at[root]), short, None, short, None, length, profile.cut_above)
    widest = int(tubular[smooth[tubular].argmax()])
    between = np.arange(root, widest + 1)
    waist = int(between[smooth[between].argmin()])
    is_waist = smooth[waist] < smooth[root] - WAIST_MM and waist > root
    return AscendingAorta(
        float(smooth[root]),
        float(at[root]),
        float(smooth[waist]) if is_waist else Unknown(_("no waist between root and tubular part")),
        float(at[waist]) if is_waist else None,
        float(smooth[widest]),
        float(at[widest]),
        length,
        profile.cut_above,
    )
