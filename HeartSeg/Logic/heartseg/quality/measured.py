"""Measures of a label map with the findings on it: intervals of structures that a finding doubts are left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..anatomy import Structure
from ..findings import Finding, Severity, sorted_findings
from ..measure import MeasuredLabels
from ..measure.boxes import crop_labels
from ..measure.heart import measure_crop
from ..measure.structures import INTENSITIES
from ..measure.uncertainty import without_intervals
from ..result import Removal
from ..volume.geometry import Geometry
from ..volume.types import Volume, blank_volume
from .checks import CLEAN_UP_CODES, CODES, SCAN_CODES, check_crop


def measured_and_checked(
    labels: np.ndarray,
    geometry: Geometry,
    structures: Sequence[Structure],
    volume: Volume | None = None,
    *,
    removals: Sequence[Removal] = (),
    spread: Mapping[str, float] | None = None,
    findings: Iterable[Finding] = (),
) -> MeasuredLabels:
    """Measure and check labels; every result, edited segmentation and frame of a time series is measured by this.

    Args:
        labels: uint8 ``(z, y, x)``.
        geometry: their grid.
        structures: structures that are measured and may be missing.
        volume: the scan on that grid; without it, there are no intensities.
        removals: what clean-up removed, after a run.
        spread: structure key -> relative standard deviation of its volume over shifted windows, if known.
        findings: earlier findings on the scan, the run and its clean-up; those that are checked again are replaced.

    Returns:
        Measures, and all findings, most serious first. The note of a measure without an interval of a structure that
        the border of the scan cuts, or that has a warning or an error, states the reason.
    """
    scan = blank_volume(geometry) if volume is None else volume
    crop = crop_labels(labels, geometry)
    found = measure_crop(scan, crop, structures, spread)
    measures = tuple(m for m in found.measures if volume is not None or m.quantity not in INTENSITIES)
    replaced = CODES - (CLEAN_UP_CODES if not removals else set()) - (SCAN_CODES if volume is None else set())
    earlier = [f for f in findings if f.code not in replaced and f not in scan.findings]
    checks = check_crop(scan, crop, measures, removals, structures)
    every = sorted_findings((*scan.findings, *earlier, *checks))
    doubts = {**found.doubts, **_doubted(every)}
    return replace(found, measures=without_intervals(measures, doubts), doubts=doubts, findings=every)


def _doubted(findings: Iterable[Finding]) -> dict[str, str]:
    """Return the structures with a warning or an error, with the code of the most serious finding."""
    doubted: dict[str, str] = {}
    for f in findings:
        if f.severity is not Severity.INFO:
            for key in {f.structure, f.values.get("other")} - {None}:
                doubted.setdefault(str(key), f.code)
    return doubted
