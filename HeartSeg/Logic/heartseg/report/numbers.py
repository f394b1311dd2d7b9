"""Measures of a study as the numbers of a report: names for people, decimals, order, findings beside them."""

from __future__ import annotations

from collections.abc import Sequence

from ..anatomy import KEYS, structure
from ..findings import Finding, sorted_findings
from ..measure import Comparison, implausible
from ..measure.grid import Unknown
from ..measure.names import SEGMENT, name_of
from ..measure.study import Study
from ..result import Measure, joined_notes
from .model import Interval, Number, NumberGroup

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
    segments = tuple(n for n in numbers if SEGMENT.fullmatch(n.quantity))
    groups = []
    for key in KEYS:
        own = tuple(n for n in numbers if n.structure == key and n not in segments)
        if own:
            groups.append(NumberGroup(structure(key).name.capitalize(), own))
    return (*groups, *([NumberGroup(SEGMENTS_TITLE, segments)] if segments else []))
