"""Intervals of measures from the uncertainty of the borders.

The effect of a shift of all borders of a structure by half a voxel outwards or inwards follows from its level sets: a
volume changes by its surface times the shift, and a length between two borders by twice the shift. The voxel is that of
the grid on which the borders were found: the grid of the scan, but not finer than :data:`NETWORK_GRID_MM`.

The 90 % interval is the value plus or minus this effect times a factor, chosen for each measure and modality on
synthetic hearts of subjects that the model has not seen (``uncertainty.json``: factor, number of hearts, share of
intervals that hold the truth). Ratios and differences combine the effects of their parts as independent errors. With
``accurate``, the spread of the volumes over the shifted windows is added in the same way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib import resources

import numpy as np

from ..anatomy import MYOCARDIAL_DENSITY_G_PER_ML, STRUCTURES
from ..quantities import general_quantity
from ..result import Measure, joined_notes
from ..volume.patient import Patient
from ..wording import _, joined
from .function import CardiacFunction
from .grid import HeartGrid

NETWORK_GRID_MM = 1.5
"""Voxel of the default model. Borders in finer scans are not more accurate."""
FACES_PER_AREA = 1.5
"""Area of the voxel faces of a surface relative to its own, as mean over all directions."""
NORMAL_90 = 1.645
"""Standard deviations on either side of the mean that hold 90 % of a normal distribution."""
SYSTEMATIC = 0.7
"""Mean error, relative to its root mean square, from which the error of a measure counts as systematic."""
COVERAGE = (0.85, 0.95)
"""Share of the true values that a 90 % interval must hold when its factor comes from other hearts."""

SEPTAL_HALF_CHORD_MM = 30.0
"""Half the distance between the insertions of the right ventricle."""

RATIOS = {("RV", "rv_lv_diameter_ratio"): (("RV", "width_4ch"), ("LV", "width_4ch"))}
RATIOS[("PA", "pa_ao_ratio")] = (("PA", "diameter"), ("AO", "diameter"))


@dataclass(frozen=True)
class Borders:
    """Effect of borders that are shifted by half a voxel.

    Attributes:
        volume_ml: structure key -> volume and its change.
        edge_mm: edge of a voxel, by which a length changes.
        plane_mm: edge of a voxel in the plane of the slices.
        modality: ``"CT"`` or ``"MR"``; empty if unknown: the wider of both intervals.
    """

    volume_ml: Mapping[str, tuple[float, float]]
    edge_mm: float
    plane_mm: float
    modality: str = ""

    def factor(self, key: str, quantity: str) -> Factor | None:
        """Return the factor of a measure; mass has that of the volume, and each segment that of all."""
        general = general_quantity(quantity)
        known = load_factors().get((key, "volume" if general == "mass" else general), {})
        if self.modality in known:
            return known[self.modality]
        return max(known.values(), key=lambda f: f.factor, default=None)

    def change_ml(self, key: str, volume_ml: float) -> float | None:
        """Return the change of a structure of this volume; surfaces of similar bodies grow with V^(2/3)."""
        if key not in self.volume_ml or volume_ml < 0:
            return None
        own, change = self.volume_ml[key]
        return change * (volume_ml / own) ** (2 / 3)


@dataclass(frozen=True)
class Factor:
    """Factor of the interval of a measure.

    Attributes:
        factor: half of the interval, in units of the effect of half a voxel.
        hearts: number of hearts from which it was chosen.
        coverage: share of their values in the interval.
        crossed: the same with the factor from the other half of the hearts.
        systematic: mean error relative to its root mean square, -1 to 1.
    """

    factor: float
    hearts: int
    coverage: float
    crossed: float
    systematic: float


@lru_cache(maxsize=1)
def load_factors() -> dict[tuple[str, str], dict[str, Factor]]:
    """Return the factors by structure and quantity, then by modality; segments are one quantity, without number."""
    content = json.loads(resources.files(__package__).joinpath("uncertainty.json").read_text(encoding="utf-8"))
    factors: dict[tuple[str, str], dict[str, Factor]] = {}
    for entry in content["factors"]:
        factor = Factor(**{f.name: entry[f.name] for f in fields(Factor)})
        factors.setdefault((entry["structure"], entry["quantity"]), {})[entry["modality"]] = factor
    return factors


def borders_of(grid: HeartGrid, modality: str = "") -> Borders:
    """Return the effect of a shift by half a voxel on the structures of a grid."""
    spacing = np.asarray(grid.geometry.spacing)[::-1]
    steps = np.maximum(spacing, NETWORK_GRID_MM)
    volumes = {}
    for s in STRUCTURES:
        box = grid.boxes.get(s.label)
        if box is None:
            continue
        mask = np.pad(grid.labels[box] == s.label, 1)
        change = 0.0
        for axis in range(3):
            faces = np.count_nonzero(np.diff(mask.view(np.int8), axis=axis))
            change += faces * float(spacing.prod() / spacing[axis]) * float(steps[axis]) / 2
        count = int(np.count_nonzero(mask))
        volumes[s.key] = (count * grid.geometry.voxel_volume_ml, change / FACES_PER_AREA / 1000)
    small, middle, _large = sorted(steps)
    return Borders(volumes, float(steps.prod() ** (1 / 3)), float(math.sqrt(small * middle)), modality)


def with_intervals(
    rows: Iterable[Measure], borders: Borders, spread: Mapping[str, float] | None = None
) -> tuple[Measure, ...]:
    """Return rows of one label map with their 90 % intervals; rows without a value or a factor stay as they are.

    Args:
        rows: the rows.
        borders: of the label map.
        spread: structure key -> relative standard deviation of its volume over shifted windows, if known.
    """
    listed = tuple(rows)
    known = {(m.structure, m.quantity): m for m in listed}
    done = (_with_interval(m, half_width(m, known, borders, spread or {})) for m in listed)
    return tuple(m if m.low is None else replace(m, note=joined_notes(m.note, limits_of(m, borders))) for m in done)


def without_intervals(rows: Iterable[Measure], doubts: Mapping[str, str]) -> tuple[Measure, ...]:
    """Return the rows without the intervals of structures in doubt; their notes state the reason.

    An interval describes the accuracy of borders that were found. It says nothing about a structure that the border of
    the scan cuts, or that was confused with another one.

    Args:
        rows: the rows.
        doubts: structure key -> reason. A ratio of two structures has no interval if either is in doubt.
    """
    done = []
    for m in rows:
        parts = RATIOS.get((m.structure, m.quantity), ())
        reasons = [doubts[key] for key in (m.structure, *(key for key, _ in parts)) if key in doubts]
        if reasons and m.low is not None:
            why = _("no interval") if reasons[0] in m.note else _("no interval: {reason}").format(reason=reasons[0])
            m = replace(m, low=None, high=None, note=joined_notes(m.note, why))
        done.append(m)
    return tuple(done)


def half_width(
    measure: Measure, known: Mapping[tuple[str, str], Measure], borders: Borders, spread: Mapping[str, float]
) -> float | None:
    """Return half of the 90 % interval of a measure, in its unit; ``None`` if it has none."""
    if measure.value is None:
        return None
    parts = RATIOS.get((measure.structure, measure.quantity))
    if parts is not None:
        return _of_ratio(measure.value, [known.get(p) for p in parts], known, borders, spread)
    effect, factor = half_voxel_effect(measure, borders), borders.factor(measure.structure, measure.quantity)
    if effect is None or factor is None:
        return None
    deviation = spread.get(measure.structure, 0.0) * _power(measure) * measure.value
    return math.hypot(effect * factor.factor, NORMAL_90 * deviation)


def limits_of(measure: Measure, borders: Borders) -> str:
    """Return what a reader must know about the interval of a measure; empty if it is as good as it should be."""
    factor = borders.factor(measure.structure, measure.quantity)
    if factor is None:
        return ""
    said = []
    if abs(factor.systematic) >= SYSTEMATIC:
        large = _("mostly too large in synthetic scans")
        said.append(large if factor.systematic > 0 else _("mostly too small in synthetic scans"))
    if not COVERAGE[0] <= factor.crossed <= COVERAGE[1]:
        held = _("interval held the truth in {percent:.0f} % of other synthetic hearts")
        said.append(held.format(percent=100 * factor.crossed))
    return joined(", ", said)


def half_voxel_effect(measure: Measure, borders: Borders) -> float | None:
    """Return by how much a measure changes if the borders are shifted by half a voxel, in its unit."""
    value, quantity = measure.value, general_quantity(measure.quantity)
    if value is None:
        return None
    if quantity in ("volume", "mass", "segment_mass", "sphericity"):
        volume = borders.volume_ml.get(measure.structure)
        if volume is None:
            return None
        own, change = volume
        if quantity == "volume":
            return change
        if quantity == "mass":
            return change * MYOCARDIAL_DENSITY_G_PER_ML
        return value * change / own  # a share of the mass; sphericity with the volume
    if quantity.endswith("_valve_area"):
        radius_mm = math.sqrt(max(value, 0.0) * 100 / math.pi)
        return 2 * math.pi * radius_mm * borders.edge_mm / 2 / 100
    if quantity == "septal_angle":
        return math.degrees(borders.edge_mm / 2 / SEPTAL_HALF_CHORD_MM)
    if measure.unit == "mm":
        return borders.plane_mm if quantity.startswith("wall_thickness") else borders.edge_mm
    return None


def _power(measure: Measure) -> float:
    """Return by which power of the volume a measure grows with the size of its structure."""
    return {"mL": 1.0, "g": 1.0, "cm²": 2 / 3, "mm": 1 / 3}.get(measure.unit, 0.0)


def _of_ratio(
    value: float,
    parts: list[Measure | None],
    known: Mapping[tuple[str, str], Measure],
    borders: Borders,
    spread: Mapping[str, float],
) -> float | None:
    relative = 0.0
    for part in parts:
        width = None if part is None else half_width(part, known, borders, spread)
        if part is None or width is None or not part.value:
            return None
        relative = math.hypot(relative, width / part.value)
    return value * relative


def with_function_intervals(
    rows: Iterable[Measure], function: CardiacFunction, borders: Borders, patient: Patient
) -> tuple[Measure, ...]:
    """Return the rows of the function with their intervals.

    The errors of two frames count as independent. They are in fact alike, so the intervals of stroke volume and
    fractions tend to be too wide.

    Args:
        rows: of :func:`~heartseg.measure.function_table.function_rows`.
        function: the function.
        borders: of the end-diastolic frame.
        patient: its heart rate scales the cardiac output, and the spread of the heart rate widens its interval.
    """
    return tuple(_with_interval(m, _function_width(m, function, borders, patient)) for m in rows)


def _function_width(m: Measure, function: CardiacFunction, borders: Borders, patient: Patient) -> float | None:
    factor = borders.factor(m.structure, "volume")
    if m.value is None or factor is None:
        return None

    def width_ml(volume_ml: float | None) -> float | None:
        change = None if volume_ml is None else borders.change_ml(m.structure, volume_ml)
        return None if change is None else factor.factor * change

    if m.unit == "mL" and m.quantity != "stroke_volume":
        return width_ml(m.value)
    if m.structure == "MYO":
        width = width_ml(m.value / MYOCARDIAL_DENSITY_G_PER_ML)
        return None if width is None else width * MYOCARDIAL_DENSITY_G_PER_ML
    large, small = _extremes(m.structure, function)
    wide, narrow = width_ml(large), width_ml(small)
    if not large or small is None or wide is None or narrow is None:
        return None
    if m.unit == "%":
        return 100 * math.hypot(narrow, small * wide / large) / large
    if m.quantity != "cardiac_output":
        return math.hypot(wide, narrow)
    rate, spread = patient.heart_rate_bpm or 0.0, patient.heart_rate_spread_bpm
    return math.hypot(math.hypot(wide, narrow) * rate, (large - small) * spread) / 1000


def _extremes(chamber: str, function: CardiacFunction) -> tuple[float | None, float | None]:
    """Return the large and the small volume between which a chamber works, mL."""
    if chamber in ("LV", "RV"):
        ventricle = function.left if chamber == "LV" else function.right
        return ventricle.edv_ml, ventricle.esv_ml
    atrium = function.left_atrium if chamber == "LA" else function.right_atrium
    return atrium.max_ml, atrium.min_ml


def thickening_width(thickening_percent: float, diastole_mm: float, borders: Borders) -> float | None:
    """Return half of the 90 % interval of a thickening, percent, from those of the thickness in both phases."""
    factor = borders.factor("MYO", "wall_thickness_mean")
    if factor is None or diastole_mm <= 0:
        return None
    width, ratio = borders.plane_mm * factor.factor, 1 + thickening_percent / 100
    return 100 * math.hypot(width, ratio * width) / diastole_mm


def _with_interval(measure: Measure, width: float | None) -> Measure:
    if width is None or measure.value is None:
        return measure
    lowest = 0.0 if measure.value >= 0 else -math.inf
    return replace(measure, low=max(lowest, measure.value - width), high=measure.value + width)
