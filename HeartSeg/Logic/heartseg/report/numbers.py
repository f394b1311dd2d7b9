"""Measures of a study as the numbers of a report: names for people, decimals, order, findings beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..anatomy import KEYS, structure
from ..findings import Finding, sorted_findings
from ..measure import Comparison, implausible
from ..measure.grid import Unknown
from ..measure.segments17 import NAMES
from ..measure.study import Study
from ..result import Measure, joined_notes
from .model import Interval, Number, NumberGroup

_NAMES: dict[str, tuple[str, int]] = {
    "volume": ("volume", 0),
    "volume_index": ("volume per body surface", 0),
    "mass": ("mass", 0),
    "mass_index": ("mass per body surface", 0),
    "diameter": ("diameter", 1),
    "mean_intensity": ("mean grey value", 0),
    "sd_intensity": ("SD of the grey values", 0),
    "extent_x": ("extent left-right", 0),
    "extent_y": ("extent front-back", 0),
    "extent_z": ("extent head-foot", 0),
    "edv": ("end-diastolic volume", 0),
    "esv": ("end-systolic volume", 0),
    "stroke_volume": ("stroke volume", 0),
    "ejection_fraction": ("ejection fraction", 0),
    "cardiac_output": ("cardiac output", 1),
    "cardiac_index": ("cardiac index", 1),
    "max_volume": ("largest volume", 0),
    "min_volume": ("smallest volume", 0),
    "emptying_fraction": ("emptying fraction", 0),
    "mass_ed": ("mass at end-diastole", 0),
    "mass_es": ("mass at end-systole", 0),
    "mitral_valve_area": ("mitral annulus, area", 1),
    "tricuspid_valve_area": ("tricuspid annulus, area", 1),
    "aortic_valve_area": ("aortic annulus, area", 1),
    "pulmonary_valve_area": ("pulmonary annulus, area", 1),
    "long_axis_length": ("long axis", 0),
    "sphericity": ("sphericity", 2),
    "width_4ch": ("width, four-chamber view", 0),
    "length_4ch": ("length, four-chamber view", 0),
    "rv_lv_diameter_ratio": ("RV/LV diameter", 2),
    "septal_angle": ("septal angle", 0),
    "wall_thickness_mean": ("wall thickness, mean", 1),
    "wall_thickness_largest_segment": ("wall thickness, thickest segment", 1),
    "root_diameter": ("root diameter", 1),
    "sinotubular_diameter": ("sinotubular diameter", 1),
    "maximum_diameter": ("largest diameter", 1),
    "pa_ao_ratio": ("PA/AO diameter", 2),
}
"""Quantity -> name and decimal places."""
_SEGMENT = re.compile(r"(wall_thickness_mean|wall_thickness_min|wall_thickness_max|segment_mass|thickening)_(\d\d)")
_SEGMENT_NAMES = {
    "wall_thickness_mean": ("thickness", 1),
    "wall_thickness_min": ("least thickness", 1),
    "wall_thickness_max": ("greatest thickness", 1),
    "segment_mass": ("mass", 1),
    "thickening": ("thickening", 0),
}
KEY_OF_A_SCAN = (
    *((key, q) for key in ("LV", "RV", "LA", "RA") for q in ("volume", "volume_index")),
    ("MYO", "mass"),
    ("MYO", "mass_index"),
    ("MYO", "wall_thickness_largest_segment"),
    ("AO", "diameter"),
    ("PA", "diameter"),
    ("PA", "pa_ao_ratio"),
    ("RV", "rv_lv_diameter_ratio"),
)
_KEY_OF_A_SERIES = (
    *(("LV", q) for q in ("ejection_fraction", "edv", "edv_index", "esv", "stroke_volume", "cardiac_output")),
    *(("RV", q) for q in ("ejection_fraction", "edv", "edv_index", "esv")),
    ("MYO", "mass_ed"),
    ("MYO", "mass_ed_index"),
    ("LA", "max_volume"),
    ("RA", "max_volume"),
    ("MYO", "wall_thickness_largest_segment"),
)
SEGMENTS_TITLE = "Wall, 17 segments"


def name_of(key: str, quantity: str) -> tuple[str, int]:
    """Return the name of a measure for people and its decimal places."""
    short = "LV myocardium" if key == "MYO" else key
    if match := _SEGMENT.fullmatch(quantity):
        name, decimals = _SEGMENT_NAMES[match[1]]
        return f"{NAMES[int(match[2])]}, {name}", decimals
    if quantity in _NAMES:
        name, decimals = _NAMES[quantity]
    elif quantity.endswith("_index") and quantity[:-6] in _NAMES:
        name, decimals = f"{_NAMES[quantity[:-6]][0]} per body surface", 0
    else:
        name, decimals = quantity.replace("_", " "), 2
    return (name if key in name.split("/")[0].split() or "/" in name else f"{short} {name}"), decimals


def numbers_of(study: Study, findings: Sequence[Finding]) -> tuple[Number, ...]:
    """Return all numbers of a study, in the order of its table."""
    return tuple(_number(m, found, study, findings) for m, found in study.compared())


def _number(measure: Measure, found: Comparison | Unknown, study: Study, findings: Sequence[Finding]) -> Number:
    name, decimals = name_of(measure.structure, measure.quantity)
    limits, known = implausible(measure), isinstance(found, Comparison)
    note = joined_notes(measure.note, found.norm.note if isinstance(found, Comparison) else "")
    return Number(
        measure.structure,
        measure.quantity,
        name,
        measure.value,
        measure.unit,
        decimals,
        None if measure.low is None or measure.high is None else Interval(measure.low, measure.high),
        found.norm if isinstance(found, Comparison) else None,
        found.position if isinstance(found, Comparison) else "",
        "" if known or not isinstance(found, Unknown) else found.why,
        None if limits is None else (limits.low, limits.high),
        note,
        tuple(f for f in sorted_findings(findings) if f.structure == measure.structure),
    )


def key_numbers(numbers: Sequence[Number], series: bool) -> tuple[Number, ...]:
    """Return the numbers to read first: function of a time series, sizes of a single scan."""
    by_name = {(n.structure, n.quantity): n for n in numbers}
    return tuple(by_name[key] for key in (_KEY_OF_A_SERIES if series else KEY_OF_A_SCAN) if key in by_name)


def groups_of(numbers: Sequence[Number]) -> tuple[NumberGroup, ...]:
    """Return the numbers by structure, and those of the 17 segments."""
    segments = tuple(n for n in numbers if _SEGMENT.fullmatch(n.quantity))
    groups = []
    for key in KEYS:
        own = tuple(n for n in numbers if n.structure == key and n not in segments)
        if own:
            groups.append(NumberGroup(structure(key).name.capitalize(), own))
    return (*groups, *([NumberGroup(SEGMENTS_TITLE, segments)] if segments else []))
