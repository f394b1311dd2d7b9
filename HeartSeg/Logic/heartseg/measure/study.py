"""Measures of a scan or of the frames of a time series, with reference ranges, as one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..anatomy import STRUCTURES
from ..provenance import NOTICE
from ..result import Measure, json_ready
from ..volume.geometry import Geometry
from .function import CardiacFunction, Patient, cardiac_function
from .function_table import function_measures, index_measures
from .grid import THICKEST_MM, Unknown, structures_at_border
from .heart import HeartMeasures, heart_measures, measure_heart
from .norms import Circumstances, Comparison, compare, implausible
from .segments17 import SegmentWall, thickening_percent

Labels = tuple[np.ndarray, Geometry]
"""Label map, uint8 ``(z, y, x)``, and its grid."""


@dataclass(frozen=True, eq=False)
class Study:
    """Measures of one scan or one time series.

    Attributes:
        measures: rows of the table.
        heart: geometric measures of the scan, or of the end-diastolic frame.
        function: function of a time series; ``None`` for a single scan.
        patient, circumstances: known properties for indices and comparisons.
    """

    measures: tuple[Measure, ...]
    heart: HeartMeasures | None
    function: CardiacFunction | Unknown | None
    patient: Patient
    circumstances: Circumstances

    def compared(self) -> tuple[tuple[Measure, Comparison | Unknown], ...]:
        """Return each row with its comparison, or the reason why there is none."""
        return tuple((m, compare(m, self.circumstances)) for m in self.measures)

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


def frame_volumes(labels: np.ndarray, geometry: Geometry) -> dict[str, float | None]:
    """Return structure key -> volume of a frame, mL; ``None`` if it is missing or cut off by the border of the scan.

    In stacks of slices thicker than :data:`~heartseg.measure.grid.THICKEST_MM`, the last slice is often the last of the
    structure; the structure does not count as cut off there.
    """
    counts = np.bincount(labels.reshape(-1), minlength=256)
    steps = geometry.spacing[::-1]
    cut = structures_at_border(labels, tuple(axis for axis in range(3) if steps[axis] <= THICKEST_MM))
    return {
        s.key: None if s.key in cut or not counts[s.label] else float(counts[s.label]) * geometry.voxel_volume_ml
        for s in STRUCTURES[:5]
    }


def scan_study(
    labels: Labels, structure_measures: Sequence[Measure], patient: Patient, circumstances: Circumstances
) -> Study:
    """Measure a single scan: its structures, values relative to body size, and geometric measures."""
    heart = measure_heart(*labels)
    known = {(m.structure, m.quantity) for m in structure_measures}
    more = (*index_measures(structure_measures, patient), *(heart_measures(heart) if heart else ()))
    rows = (*structure_measures, *(m for m in more if (m.structure, m.quantity) not in known))
    return Study(rows, heart, None, patient, circumstances)


def series_study(count: int, read: Callable[[int], Labels], patient: Patient, modality: str) -> Study:
    """Measure a time series: function, geometry at end-diastole, thickening to end-systole.

    Args:
        count: number of frames.
        read: returns the labels of a frame (from 0); called once for each frame and again for two of them.
        patient: known properties of the patient.
        modality: ``"CT"``, ``"MR"`` or ``""``.
    """
    volumes = [frame_volumes(*read(k)) for k in range(count)]
    curves = {s.key: [v[s.key] for v in volumes] for s in STRUCTURES[:5] if any(v[s.key] for v in volumes)}
    function = cardiac_function(curves, patient.heart_rate_bpm)
    circumstances = Circumstances(modality, "cycle", patient.sex)
    if isinstance(function, Unknown):
        row = Measure("LV", "ejection_fraction", None, "%", function.why)
        return Study((row,), None, function, patient, circumstances)
    diastole, systole = measure_heart(*read(function.end_diastole)), measure_heart(*read(function.end_systole))
    rows = function_measures(function, patient)
    if diastole is not None and systole is not None:
        rows += heart_measures(diastole) + thickening_measures(diastole.segments, systole.segments)
    return Study(rows, diastole, function, patient, circumstances)


def thickening_measures(diastole: Sequence[SegmentWall], systole: Sequence[SegmentWall]) -> tuple[Measure, ...]:
    """Return rows ``thickening_01`` to ``thickening_17``, percent; no rows without segments in both phases."""
    if len(diastole) != len(systole):
        return ()
    rows = []
    for before, after in zip(diastole, systole, strict=True):
        value = thickening_percent(before, after)
        note = before.name if value is not None else f"{before.name}: thickness unknown in one of the phases"
        rows.append(Measure("MYO", f"thickening_{before.segment:02d}", value, "%", note))
    return tuple(rows)
