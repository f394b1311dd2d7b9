"""Measures of the current segments for tables, views and the wall map; makes no Qt and MRML calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..anatomy import structure
from ..export.wall_surface import wall_surface
from ..measure import Circumstances, HeartMeasures, Patient, Unknown, measure_heart, measure_labels
from ..measure.study import Study, scan_study, series_study
from ..progress import Reporter
from ..scene.nodes import owned_volume
from ..scene.wall_model import prepare_wall
from ..volume.types import Volume
from .work import Masks, labels_of


@dataclass(frozen=True, eq=False)
class MeasureRequest:
    """Request for the measures of a segmentation.

    Attributes:
        view: the scan; its array is a view of the node's voxels.
        masks: the displayed segments.
        frames: segments of all frames of a time series; empty for a single scan.
        patient: properties of the patient, if known.
    """

    view: Volume
    masks: Masks
    frames: Sequence[Masks] = ()
    patient: Patient = field(default_factory=Patient)


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
        circumstances = Circumstances(volume.modality, "", request.patient.sex)
        if request.frames:
            heart = measure_heart(labels, geometry)
            reporter.advance(1)
            frames = request.frames
            study = series_study(
                len(frames),
                lambda k: (labels_of(frames[k], geometry.shape), geometry),
                request.patient,
                circumstances,
            )
        else:
            found = measure_labels(volume, labels, tuple(structure(key) for key in request.masks))
            reporter.advance(1)
            heart, study = found.heart, scan_study((labels, geometry), found, request.patient, circumstances)
        reporter.advance(2)
        wall: Any = Unknown("no segment has voxels") if heart is None else heart.wall
        if heart is not None and not isinstance(wall, Unknown):
            wall = prepare_wall(wall_surface(labels, geometry, heart.wall))
    return Measured(study, heart, wall)
