"""Measures of the current segments for tables, views and the wall map; makes no Qt and MRML calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..anatomy import structure
from ..export.wall_surface import wall_surface
from ..measure import Circumstances, HeartMeasures, Unknown, measure_heart
from ..measure.study import Labels, Study, scan_study, series_study
from ..progress import Reporter
from ..provenance import InputFacts
from ..quality import measured_and_checked
from ..scene.masks import Masks, labels_of
from ..scene.nodes import owned_volume
from ..scene.wall_model import prepare_wall
from ..volume.types import Volume
from .record import RunRecord


@dataclass(frozen=True, eq=False)
class MeasureRequest:
    """Request for the measures of a segmentation.

    Attributes:
        view: the scan; its array is a view of the node's voxels.
        masks: the displayed segments.
        frames: segments of all frames of a time series; empty for a single scan.
        record: record of the run; states the patient, if known.
    """

    view: Volume
    masks: Masks
    frames: Sequence[Masks] = ()
    record: RunRecord = field(default_factory=lambda: RunRecord(""))


@dataclass(frozen=True, eq=False)
class Measured:
    """Measures for the main thread.

    Attributes:
        study: rows of the tables and the function; for a time series, planes and wall are of end-diastole.
        heart: planes and wall of the displayed segments; ``None`` without labels.
        wall: ``vtkPolyData`` of the wall map of the displayed segments, or the reason why there is none.
    """

    study: Study
    heart: HeartMeasures | None
    wall: Any


def measure_request(request: MeasureRequest, reporter: Reporter) -> Measured:
    """Measure the segments of a scan or of a time series."""
    with reporter.stage("measure", 3):
        volume = owned_volume(request.view)
        geometry = volume.geometry
        labels = labels_of(request.masks, geometry.shape)
        record, made = request.record, request.record.provenance
        facts, structures = made.input or InputFacts(), tuple(structure(key) for key in request.masks)
        patient = facts.patient
        if request.frames:

            def read(k: int) -> Labels:
                return labels_of(request.frames[k], geometry.shape), geometry

            heart = measure_heart(labels, geometry)
            reporter.advance(1)
            study = series_study(
                len(request.frames),
                read,
                lambda k: measured_and_checked(
                    *read(k), structures, spread=made.window_spread, findings=volume.findings
                ),
                patient,
                Circumstances(volume.modality, "", patient.sex),
            )
        else:
            spread, findings = made.window_spread, record.findings
            found = measured_and_checked(labels, geometry, structures, volume, spread=spread, findings=findings)
            reporter.advance(1)
            circumstances = Circumstances(volume.modality, facts.phase, patient.sex)
            heart, study = found.heart, scan_study((labels, geometry), found, patient, circumstances)
        reporter.advance(2)
        wall: Any = Unknown("no segment has voxels") if heart is None else heart.wall
        if heart is not None and not isinstance(wall, Unknown):
            wall = prepare_wall(wall_surface(labels, geometry, heart.wall))
    return Measured(study, heart, wall)
