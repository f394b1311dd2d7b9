"""Intervals of measures from the uncertainty of the borders.

The effect of a shift of all borders of a structure by half a voxel outwards or inwards follows from its level sets: a
volume changes by its surface times the shift, and a length between two borders by twice the shift. The voxel is that of
the grid on which the borders were found: the grid of the scan, but not finer than :data:`NETWORK_GRID_MM`.

The 90 % interval is the value plus or minus this effect times a factor, chosen for each measure on synthetic hearts of
subjects that the model has not seen (``uncertainty.json``: factor, number of values, share of intervals that hold the
truth). Ratios and differences combine the effects of their parts as independent errors. With ``accurate``, the spread
of the volumes over the shifted windows is added in the same way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources

import numpy as np

from ..anatomy import MYOCARDIAL_DENSITY_G_PER_ML, STRUCTURES
from ..quantities import general_quantity
from ..result import Measure
from ..volume.patient import Patient
from .function import CardiacFunction
from .grid import HeartGrid

NETWORK_GRID_MM = 1.5
"""Voxel of the default model. Borders in finer scans are not more accurate."""
FACES_PER_AREA = 1.5
"""Area of the voxel faces of a surface relative to its own, as mean over all directions."""
NORMAL_90 = 1.645
"""Standard deviations on either side of the mean that hold 90 % of a normal distribution."""

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
    """

    volume_ml: Mapping[str, tuple[float, float]]
    edge_mm: float
    plane_mm: float

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
        n: number of values from which it was chosen.
        coverage: share of these values in their interval.
    """

    factor: float
    n: int
    coverage: float


@dataclass(frozen=True)
class Doubts:
    """What keeps measures from having an interval, or widens it.

    Attributes:
        incomplete: keys of structures without intervals, because the border of the scan cuts them.
        spread: structure key -> relative standard deviation of its volume over shifted windows.
    """

    incomplete: Collection[str] = ()
    spread: Mapping[str, float] = field(default_factory=dict)


@lru_cache(maxsize=1)
def load_factors() -> dict[tuple[str, str], Factor]:
    """Return the factors by structure and quantity; segments are one quantity, without their number."""
    content = json.loads(resources.files(__package__).joinpath("uncertainty.json").read_text(encoding="utf-8"))
    return {
        (entry["structure"], entry["quantity"]): Factor(entry["factor"], entry["n"], entry["coverage"])
        for entry in content["factors"]
    }


def borders_of(grid: HeartGrid) -> Borders:
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
    return Borders(volumes, float(steps.prod() ** (1 / 3)), float(math.sqrt(small * middle)))


def with_intervals(rows: Iterable[Measure], borders: Borders, doubts: Doubts = Doubts()) -> tuple[Measure, ...]:
    """Return rows of one label map with their 90 % intervals; rows without a value or a factor stay as they are."""
    listed = tuple(rows)
    known = {(m.structure, m.quantity): m for m in listed}
    return tuple(_with_interval(m, half_width(m, known, borders, doubts)) for m in listed)


def half_width(
    measure: Measure, known: Mapping[tuple[str, str], Measure], borders: Borders, doubts: Doubts
) -> float | None:
    """Return half of the 90 % interval of a measure, in its unit; ``None`` if it has none."""
    if measure.value is None or measure.structure in doubts.incomplete:
        return None
    parts = RATIOS.get((measure.structure, measure.quantity))
    if parts is not None:
        return _of_ratio(measure.value, [known.get(p) for p in parts], known, borders, doubts)
    effect, factor = half_voxel_effect(measure, borders), factor_of(measure)
    if effect is None or factor is None:
        return None
    spread = doubts.spread.get(measure.structure, 0.0) * _power(measure)
    return math.hypot(effect * factor.factor, NORMAL_90 * spread * measure.value)


def factor_of(measure: Measure) -> Factor | None:
    """Return the factor of a measure; mass has that of the volume."""
    quantity = general_quantity(measure.quantity)
    quantity = "volume" if quantity == "mass" else quantity
    return load_factors().get((measure.structure, quantity))


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
    doubts: Doubts,
) -> float | None:
    relative = 0.0
    for part in parts:
        width = None if part is None else half_width(part, known, borders, doubts)
        if part is None or width is None or not part.value:
            return None
        relative = math.hypot(relative, width / part.value)
    return value * relative


def with_function_intervals(
    rows: Iterable[Measure], function: CardiacFunction, borders: Borders, doubts: Doubts, patient: Patient
) -> tuple[Measure, ...]:
    """Return the rows of the function with their intervals.

    The errors of two frames count as independent. They are in fact alike, so the intervals of stroke volume and
    fractions are rather too wide.

    Args:
        rows: of :func:`~heartseg.measure.function_table.function_measures`, and ``thickening_NN``.
        function: the function.
        borders: of the end-diastolic frame.
        doubts: what keeps measures from having an interval.
        patient: its heart rate scales the cardiac output.
    """
    listed = tuple(rows)
    widths = {(m.structure, m.quantity): _function_width(m, function, borders, doubts, patient) for m in listed}
    values = {(m.structure, m.quantity): m.value for m in listed}
    done = []
    for m in listed:
        width = widths[m.structure, m.quantity]
        if m.quantity.endswith("_index"):
            base = "cardiac_output" if m.quantity == "cardiac_index" else m.quantity.removesuffix("_index")
            whole, of_whole = values.get((m.structure, base)), widths.get((m.structure, base))
            width = None if not whole or of_whole is None or m.value is None else of_whole * m.value / whole
        done.append(_with_interval(m, width))
    return tuple(done)


def _function_width(
    m: Measure, function: CardiacFunction, borders: Borders, doubts: Doubts, patient: Patient
) -> float | None:
    factor = load_factors().get((m.structure, "volume"))
    if m.value is None or factor is None or m.structure in doubts.incomplete:
        return None

    def width_ml(volume_ml: float | None) -> float | None:
        change = None if volume_ml is None else borders.change_ml(m.structure, volume_ml)
        return None if change is None else factor.factor * change

    if m.quantity in ("edv", "esv", "max_volume", "min_volume"):
        return width_ml(m.value)
    if m.quantity in ("mass_ed", "mass_es"):
        width = width_ml(m.value / MYOCARDIAL_DENSITY_G_PER_ML)
        return None if width is None else width * MYOCARDIAL_DENSITY_G_PER_ML
    large, small = _extremes(m.structure, function)
    wide, narrow = width_ml(large), width_ml(small)
    if large is None or small is None or wide is None or narrow is None or not large:
        return None
    if m.quantity == "stroke_volume":
        return math.hypot(wide, narrow)
    if m.quantity == "cardiac_output" and patient.heart_rate_bpm is not None:
        return math.hypot(wide, narrow) * patient.heart_rate_bpm / 1000
    if m.quantity in ("ejection_fraction", "emptying_fraction"):
        return 100 * math.hypot(narrow, small * wide / large) / large
    return None


def _extremes(key: str, function: CardiacFunction) -> tuple[float | None, float | None]:
    """Return the large and the small volume between which a chamber works, mL."""
    if key in ("LV", "RV"):
        ventricle = function.left if key == "LV" else function.right
        return ventricle.edv_ml, ventricle.esv_ml
    atrium = function.left_atrium if key == "LA" else function.right_atrium
    return atrium.max_ml, atrium.min_ml


def thickening_width(thickening_percent: float, diastole_mm: float, borders: Borders) -> float | None:
    """Return half of the 90 % interval of a thickening, percent, from those of the thickness in both phases."""
    factor = load_factors().get(("MYO", "wall_thickness_mean"))
    if factor is None or diastole_mm <= 0:
        return None
    width, ratio = borders.plane_mm * factor.factor, 1 + thickening_percent / 100
    return 100 * math.hypot(width, ratio * width) / diastole_mm


def _with_interval(measure: Measure, width: float | None) -> Measure:
    if width is None or measure.value is None:
        return measure
    lowest = 0.0 if measure.value >= 0 and not measure.quantity.startswith("thickening") else -math.inf
    return replace(measure, low=max(lowest, measure.value - width), high=measure.value + width)
