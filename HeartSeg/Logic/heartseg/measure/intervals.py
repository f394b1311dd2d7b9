"""Intervals of measures: how much a number changes if the border of its structure moves by half a voxel.

A border between voxels is known to about half a voxel, so this is the resolution of the labels. The interval does not
contain errors of the segmentation itself: a structure that leaks into its neighbour has the interval of a correct one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..anatomy import MYOCARDIAL_DENSITY_G_PER_ML, STRUCTURES
from ..result import Measure
from ..volume.geometry import Geometry
from .boxes import crop_labels

METHOD = "border of the structure moved by half a voxel outwards and inwards; errors of the segmentation not included"
_FACES_PER_AREA = 1.5
"""Mean area of the voxel faces of a surface relative to its area, over all directions."""
_LENGTHS = ("diameter", "length", "width", "wall_thickness")
_PAIRS = {"edv": "esv", "max_volume": "min_volume"}
"""Volumes of the largest and the smallest phase."""


@dataclass(frozen=True)
class Interval:
    """Limits of a measure, in its unit."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the width, for ``value ± half width``."""
        return (self.high - self.low) / 2


Intervals = Mapping[tuple[str, str], Interval]
"""Structure key and quantity -> interval."""


@dataclass(frozen=True)
class BorderShift:
    """Effect of a shift of half a voxel in one label map.

    Attributes:
        volume_ml: structure key -> change of its volume.
        length_mm: change of a length with two ends.
    """

    volume_ml: Mapping[str, float]
    length_mm: float


def border_shift(labels: np.ndarray, geometry: Geometry) -> BorderShift:
    """Return what half a voxel means in a label map (uint8 ``(z, y, x)``).

    The change of a volume is the area of the surface times half a voxel along its normal, from the voxel faces.
    """
    crop = crop_labels(labels, geometry)
    length = float(np.prod(geometry.spacing)) ** (1 / 3)
    if crop is None:
        return BorderShift({}, length)
    faces = np.zeros(256)
    padded = np.pad(crop.labels, 1)
    for axis in range(3):
        one, other = np.moveaxis(padded, axis, 0)[:-1], np.moveaxis(padded, axis, 0)[1:]
        differ = one != other
        faces += np.bincount(one[differ], minlength=256) + np.bincount(other[differ], minlength=256)
    per_face = geometry.voxel_volume_ml / 2 / _FACES_PER_AREA
    return BorderShift({s.key: float(faces[s.label]) * per_face for s in STRUCTURES if faces[s.label]}, length)


def scan_intervals(
    measures: tuple[Measure, ...], shift: BorderShift, bsa_m2: float | None
) -> dict[tuple[str, str], Interval]:
    """Return the intervals of the measures of one label map; both lengths of a ratio move independently."""
    found: dict[tuple[str, str], Interval] = {}
    values = {(m.structure, m.quantity): m.value for m in measures if m.value is not None}
    for (key, quantity), value in values.items():
        change = _change(key, quantity, shift, bsa_m2)
        if change is not None:
            found[key, quantity] = Interval(max(0.0, value - change), value + change)
    for (key, quantity), parts in _RATIOS.items():
        ratio, lengths = values.get((key, quantity)), [values.get(part) for part in parts]
        if ratio is not None and all(lengths):
            change = ratio * math.hypot(*(shift.length_mm / length for length in lengths if length))
            found[key, quantity] = Interval(max(0.0, ratio - change), ratio + change)
    return found


_RATIOS = {
    ("PA", "pa_ao_ratio"): (("PA", "diameter"), ("AO", "diameter")),
    ("RV", "rv_lv_diameter_ratio"): (("RV", "width_4ch"), ("LV", "width_4ch")),
}


def _change(key: str, quantity: str, shift: BorderShift, bsa_m2: float | None) -> float | None:
    volume = shift.volume_ml.get(key)
    if volume is not None and quantity == "volume":
        return volume
    if volume is not None and quantity == "volume_index" and bsa_m2:
        return volume / bsa_m2
    if volume is not None and quantity in ("mass", "mass_index"):
        return volume * MYOCARDIAL_DENSITY_G_PER_ML / (bsa_m2 or 1.0 if quantity == "mass_index" else 1.0)
    if any(word in quantity for word in _LENGTHS) and "ratio" not in quantity:
        return shift.length_mm
    return None


def function_intervals(
    measures: tuple[Measure, ...],
    large: Mapping[str, float],
    small: Mapping[str, float],
    patient_factors: tuple[float | None, float | None],
) -> dict[tuple[str, str], Interval]:
    """Return the intervals of the function of a time series.

    Both phases move together, as they are segmented in the same way.

    Args:
        measures: rows of the table.
        large, small: structure key -> change of its largest and smallest volume for half a voxel, mL; of the myocardium
            at end-diastole and end-systole.
        patient_factors: heart rate (1/min) and body surface area (m²), if known.
    """
    rate, bsa = patient_factors
    values = {(m.structure, m.quantity): m.value for m in measures if m.value is not None}
    found: dict[tuple[str, str], Interval] = {}
    for first, second in _PAIRS.items():
        for key in {k for k, q in values if q == first}:
            high, low = values.get((key, first)), values.get((key, second))
            if high is None or low is None or key not in large or key not in small:
                continue
            ends = [(high + sign * large[key], max(0.0, low + sign * small[key])) for sign in (-1, 1)]
            found[key, first] = Interval(ends[0][0], ends[1][0])
            found[key, second] = Interval(ends[0][1], ends[1][1])
            strokes = sorted([a - b for a, b in ends])
            fractions = sorted([100 * (a - b) / a for a, b in ends if a > 0])
            name = "ejection_fraction" if first == "edv" else "emptying_fraction"
            if fractions:
                found[key, name] = Interval(fractions[0], fractions[-1])
            if first == "edv":
                found[key, "stroke_volume"] = Interval(strokes[0], strokes[-1])
    stroke = found.get(("LV", "stroke_volume"))
    if stroke is not None and rate is not None:
        found["LV", "cardiac_output"] = Interval(stroke.low * rate / 1000, stroke.high * rate / 1000)
    for phase, change in (("mass_ed", large.get("MYO")), ("mass_es", small.get("MYO"))):
        mass = values.get(("MYO", phase))
        if mass is not None and change is not None:
            step = change * MYOCARDIAL_DENSITY_G_PER_ML
            found["MYO", phase] = Interval(max(0.0, mass - step), mass + step)
    if bsa:
        for key, quantity in list(found):
            index = "cardiac_index" if quantity == "cardiac_output" else f"{quantity}_index"
            if (key, index) in values:
                both = found[key, quantity]
                found[key, index] = Interval(both.low / bsa, both.high / bsa)
    return found
