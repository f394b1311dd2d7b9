"""Measures of a scan or of the frames of a time series, with reference ranges, as one value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..anatomy import STRUCTURES
from ..findings import Finding, sorted_findings
from ..provenance import NOTICE
from ..result import Measure, json_ready
from ..volume.geometry import Geometry
from ..volume.patient import Patient
from ..wording import _
from .boxes import border_contacts, crop_labels, only_open_above
from .function import CardiacFunction, cardiac_function
from .function_table import function_rows, index_measures, with_indices
from .grid import CUT_OFF, SMALLEST_ML, THICKEST_MM, Unknown, grid_of_crop
from .heart import HeartMeasures, MeasuredLabels, heart_measures
from .norms import Circumstances, Comparison, compare, implausible
from .segments17 import SegmentWall, thickening_percent
from .uncertainty import Borders, borders_of, thickening_width, with_function_intervals, without_intervals

Labels = tuple[np.ndarray, Geometry]
"""Label map, uint8 ``(z, y, x)``, and its grid."""
MEASURES_FILE = "measures.json"
NO_CYCLE = _("the scan does not say that its frames cover one cardiac cycle; without that, the function has no meaning")


@dataclass(frozen=True, eq=False)
class Study:
    """Measures of one scan or one time series.

    Attributes:
        measures: rows of the table.
        heart: geometric measures of the scan, or of the end-diastolic frame.
        function: function of a time series; ``None`` for a single scan.
        patient, circumstances: known properties for indices and comparisons.
        findings: findings on the labels.
        incomplete: key of a structure that is not whole in the scan -> the reason, as a phrase; of its measures, only
            fractions are compared.
        cut: keys of all structures that reach the border of the scan, also of arteries that leave it above.
    """

    measures: tuple[Measure, ...]
    heart: HeartMeasures | None
    function: CardiacFunction | Unknown | None
    patient: Patient
    circumstances: Circumstances
    findings: tuple[Finding, ...] = ()
    incomplete: Mapping[str, str] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()

    @property
    def shown_frame(self) -> int | None:
        """Frame to show in pictures: end-diastole; ``None`` without a function."""
        return self.function.end_diastole if isinstance(self.function, CardiacFunction) else None

    def compared(self) -> tuple[tuple[Measure, Comparison | Unknown], ...]:
        """Return each row with its comparison, or the reason why there is none."""
        return tuple((m, self._compared(m)) for m in self.measures)

    def _compared(self, measure: Measure) -> Comparison | Unknown:
        if measure.value is not None and measure.unit != "%" and measure.structure in self.incomplete:
            return Unknown(self.incomplete[measure.structure])
        return compare(measure, self.circumstances)

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary ready for JSON; lengths in mm, volumes in mL, world LPS."""
        function = self.function if isinstance(self.function, CardiacFunction) else None
        return dict(
            json_ready(
                {
                    "schema": {"name": "heartseg-measures", "version": 1},
                    "use": NOTICE,
                    "patient": {**asdict(self.patient), "bsa_m2": self.patient.bsa_m2},
                    "modality": self.circumstances.modality or None,
                    "phase": self.circumstances.phase or None,
                    "findings": [f.to_dict() for f in self.findings],
                    "function": None if function is None else _function_dict(function),
                    "valves": {} if self.heart is None else {k: _or_why(v) for k, v in self.heart.valves.items()},
                    "long_axis": None if self.heart is None else _or_why(self.heart.axis),
                    "planes": {}
                    if self.heart is None
                    else {k: _or_why(getattr(self.heart.planes, k)) for k in self.heart.planes.__dataclass_fields__},
                    "measures": [_measure_dict(m, c) for m, c in self.compared()],
                }
            )
        )

    def to_json(self) -> str:
        """Return :meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)


def write_measures(study: Study, path: Path) -> None:
    """Write :meth:`Study.to_json`, UTF-8; raises ``OSError``."""
    path.write_text(study.to_json() + "\n", encoding="utf-8")


def _or_why(value: Any) -> dict[str, Any]:
    return {"unknown": value.why} if isinstance(value, Unknown) else asdict(value)


def _function_dict(function: CardiacFunction) -> dict[str, Any]:
    return {
        "frames": function.frames,
        "end_diastole": function.end_diastole,
        "end_systole": function.end_systole,
        "curves": {k: {"volume_ml": c.volume_ml, "misfits": c.misfits} for k, c in function.curves.items()},
        "notes": function.notes,
    }


def _measure_dict(measure: Measure, found: Comparison | Unknown) -> dict[str, Any]:
    limits = implausible(measure)
    known = isinstance(found, Comparison)
    return {
        **measure.to_dict(),
        "range": asdict(found.norm) if isinstance(found, Comparison) else None,
        "position": found.position if isinstance(found, Comparison) else None,
        "not_compared": None if known or not isinstance(found, Unknown) else found.why,
        "implausible": None if limits is None else [limits.low, limits.high],
    }


@dataclass(frozen=True)
class FrameVolume:
    """Volume of a structure in a frame.

    Attributes:
        volume_ml: the volume; ``None`` if the structure is missing or cut off by the border of the scan.
        open_ended: whether a slice thicker than :data:`~heartseg.measure.grid.THICKEST_MM` at the border of the scan
            still holds the structure. It often is the last of the structure, but part of it may be outside.
    """

    volume_ml: float | None
    open_ended: bool = False


def frame_volumes(labels: np.ndarray, geometry: Geometry) -> dict[str, FrameVolume]:
    """Return structure key -> volume in a frame, for the chambers and the myocardium."""
    counts = np.bincount(labels.reshape(-1), minlength=256)
    contacts = border_contacts(labels, geometry)
    volumes = {}
    for s in STRUCTURES[:5]:
        ml = float(counts[s.label]) * geometry.voxel_volume_ml
        in_thick_slices = [geometry.step_across(side) > THICKEST_MM for side in contacts.get(s.key, ())]
        known = ml >= SMALLEST_ML and all(in_thick_slices)
        volumes[s.key] = FrameVolume(ml, bool(in_thick_slices)) if known else FrameVolume(None)
    return volumes


def scan_study(
    labels: Labels,
    measured: MeasuredLabels,
    patient: Patient,
    circumstances: Circumstances,
) -> Study:
    """Complete the measures of a single scan by values relative to body size and comparisons.

    Args:
        labels: the labels.
        measured: their measures and findings.
        patient, circumstances: known properties of patient and scan.
    """
    contacts = border_contacts(*labels)
    incomplete: dict[str, str] = {key: CUT_OFF for key, sides in contacts.items() if not only_open_above(key, sides)}
    for m in measured.measures:
        if m.quantity == "volume" and m.value is not None and m.value < SMALLEST_ML:
            incomplete[m.structure] = _("a remnant of less than {volume:g} mL").format(volume=SMALLEST_ML)
    rows = (*measured.measures, *index_measures(measured.measures, patient, incomplete))
    cut = frozenset(contacts)
    return Study(rows, measured.heart, None, patient, circumstances, measured.findings, incomplete, cut)


def series_study(
    count: int,
    read: Callable[[int], Labels],
    measure: Callable[[int], MeasuredLabels],
    patient: Patient,
    circumstances: Circumstances,
) -> Study:
    """Measure a time series: function, geometry at end-diastole, thickening to end-systole.

    The findings are those of these two frames.

    Args:
        count: number of frames.
        read: returns the labels of a frame (from 0); called once for each frame, and again for end-diastole.
        measure: returns the measures and findings of a frame; called for end-diastole and end-systole.
        patient: known properties of the patient.
        circumstances: known properties of the scan; phase ``"cycle"`` if the frames are known to cover a cardiac cycle.
    """
    volumes = [frame_volumes(*read(k)) for k in range(count)]
    known = [s.key for s in STRUCTURES[:5] if any(v[s.key].volume_ml is not None for v in volumes)]
    curves = {key: [v[key].volume_ml for v in volumes] for key in known}
    open_ended = [key for key in known if any(v[key].open_ended for v in volumes)]
    function = cardiac_function(curves, patient.heart_rate_bpm, open_ended)
    if isinstance(function, Unknown):
        row = Measure("LV", "ejection_fraction", None, "%", function.why)
        return Study((row,), None, function, patient, circumstances)
    if circumstances.phase != "cycle":
        function = replace(function, notes=(*function.notes, NO_CYCLE))
    diastole, systole = measure(function.end_diastole), measure(function.end_systole)
    incomplete = dict.fromkeys(open_ended, _("the last slice still holds the structure"))
    doubts = {**systole.doubts, **diastole.doubts, **incomplete}
    crop = crop_labels(*read(function.end_diastole))
    assert crop is not None  # the left ventricle is there
    borders, cut = borders_of(grid_of_crop(crop), circumstances.modality), frozenset(crop.border_contacts)
    of_function = function_rows(function, patient)
    of_function = with_function_intervals(of_function, function, borders, patient)
    rows = with_indices(without_intervals(of_function, doubts), patient)
    if diastole.heart is not None and systole.heart is not None:
        geometric = {(m.structure, m.quantity) for m in heart_measures(diastole.heart)}
        rows += tuple(m for m in diastole.measures if (m.structure, m.quantity) in geometric)
        thickening = thickening_measures(diastole.heart.segments, systole.heart.segments, borders)
        rows += without_intervals(thickening, doubts)
    findings = _findings_of_ends(function, diastole, systole)
    return Study(rows, diastole.heart, function, patient, circumstances, findings, incomplete, cut)


def _findings_of_ends(
    function: CardiacFunction, diastole: MeasuredLabels, systole: MeasuredLabels
) -> tuple[Finding, ...]:
    """Return the findings of end-diastole and end-systole; those that differ name their frame."""
    found = [f for f in diastole.findings if f in systole.findings]
    common = tuple(found)
    ends = (("End-diastole", function.end_diastole, diastole), ("End-systole", function.end_systole, systole))
    for name, frame, measured in ends:
        found += [
            replace(
                f,
                message=_("{name}, frame {frame}: {message}").format(name=name, frame=frame, message=f.message),
                values={**f.values, "frame": frame},
            )
            for f in measured.findings
            if f not in common
        ]
    return sorted_findings(found)


def thickening_measures(
    diastole: Sequence[SegmentWall], systole: Sequence[SegmentWall], borders: Borders
) -> tuple[Measure, ...]:
    """Return rows ``thickening_01`` to ``thickening_17``, percent; no rows without segments in both phases."""
    if len(diastole) != len(systole):
        return ()
    rows = []
    for before, after in zip(diastole, systole, strict=True):
        value = thickening_percent(before, after)
        note = before.name if value is not None else f"{before.name}: thickness unknown in one of the phases"
        width = None if value is None or not before.mean_mm else thickening_width(value, before.mean_mm, borders)
        low, high = (None, None) if value is None or width is None else (value - width, value + width)
        rows.append(Measure("MYO", f"thickening_{before.segment:02d}", value, "%", note, low, high))
    return tuple(rows)
