"""Makes the report of a heart from its labels, measures and scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..findings import sorted_findings
from ..measure.boxes import crop_labels
from ..measure.bullseye import drawn_quantities, segment_values
from ..measure.function import CardiacFunction
from ..measure.grid import Unknown
from ..measure.study import Study
from ..provenance import InputFacts, RunFacts
from ..result import Result
from ..version import __version__
from ..volume.geometry import Geometry
from ..volume.types import Volume
from ..wording import as_sentence
from .model import Course, Curve, Method, Picture, Report, Scene, SegmentMap, StudyFacts, Surface
from .numbers import groups_of, key_numbers, numbers_of
from .pictures import draw, frames_of
from .scene import scene_of
from .window import display_window

TITLE = "Heart report"
INTERVALS = (
    "Intervals hold 90 % of the true values on synthetic hearts that the model has not seen; on real scans they may be "
    "too small. A number without one has no known accuracy."
)
LIMITS = (
    INTERVALS,
    "A reference range is compared only if everything that it needs is known; a value within it does not prove health.",
    "Trained on synthetic images of healthy adult hearts: no children, no congenital defects, no prostheses.",
    "Areas of valves and diameters are not for sizing a device.",
)


@dataclass(frozen=True, eq=False)
class Material:
    """What a report is made from.

    Attributes:
        study: the measures and findings.
        result: labels and provenance; of a time series, those of the frame to show.
        volume: the scan of that result; ``None`` if it is not available.
        surfaces: for the interactive view.
        front: PNG of the surfaces from the front, or empty.
        title: heading; empty for one without a name.
        notices: remarks about the origin of the segmentation, one sentence each.
    """

    study: Study
    result: Result
    volume: Volume | None
    surfaces: tuple[Surface, ...] = ()
    front: bytes = b""
    title: str = ""
    notices: Sequence[str] = ()


def build_report(material: Material) -> Report:
    """Return the report: numbers with what belongs beside them, curves, pictures, method and limits."""
    study, result, volume = material.study, material.result, material.volume
    findings = sorted_findings(study.findings)
    numbers = numbers_of(study, findings)
    crop = crop_labels(result.labels, result.geometry)
    window = None if volume is None else display_window(volume, crop)
    pictures: tuple[Picture, ...] = ()
    scene: Scene | None = None
    if crop is not None:
        planes = study.heart.planes if study.heart is not None else None
        frames = frames_of(crop, planes)
        pictures = tuple(draw(f, volume, window, crop, result.structures) for f in frames)
        scene = scene_of(volume, window, crop, result.labels, result.geometry, material.surfaces)
    made = result.provenance
    return Report(
        material.title or TITLE,
        made.created,
        study.patient,
        _study_facts(material, window),
        key_numbers(numbers, study.function is not None),
        groups_of(numbers),
        _course(study),
        tuple(SegmentMap(q, _seventeen(study, q)) for q in drawn_quantities(study.measures)),
        pictures,
        material.front,
        scene,
        findings,
        _method(result, material.notices),
        LIMITS,
    )


def _seventeen(study: Study, quantity: str) -> tuple[float | None, ...]:
    values = segment_values(study.measures, quantity)
    return tuple(values.get(number) for number in range(1, 18))


def _course(study: Study) -> Course | None:
    function = study.function
    if function is None or isinstance(function, Unknown):
        return None
    curves = tuple(Curve(key, c.volume_ml, c.misfits) for key, c in function.curves.items() if not c.problem)
    return Course(curves, function.end_diastole, function.end_systole, function.notes)


def _study_facts(material: Material, window: tuple[float, float] | None) -> StudyFacts:
    study, source = material.study, material.result.provenance.input or InputFacts()
    function = study.function if isinstance(study.function, CardiacFunction) else None
    if function is not None:
        phase = f"pictures at end-diastole, frame {function.end_diastole}"
    else:
        phase = f"phase: {study.circumstances.phase}" if study.circumstances.phase else "phase unknown"
    modality = study.circumstances.modality
    sha256 = source.sha256 or (material.volume.source.sha256 if material.volume is not None else "")
    frames = None if function is None else function.frames
    return StudyFacts(modality, phase, frames, _grid_text(material.result.geometry), window, sha256)


def _grid_text(geometry: Geometry) -> str:
    size, steps = " × ".join(map(str, geometry.size)), " × ".join(f"{s:.2f}" for s in geometry.spacing)
    return f"{size} voxels of {steps} mm, {geometry.orientation}"


def _method(result: Result, notices: Sequence[str]) -> Method:
    made, run = result.provenance, result.provenance.run or RunFacts()
    facts = {
        "Segmented": made.created,
        "Software": f"HeartSeg {made.heartseg or __version__}",
        "Model": made.model_label,
        "Device": run.device,
        "Averaged predictions": "yes" if run.accurate else "",
        "Segmentation file": Path(made.segmentation).suffix and "opened from a file" if made.segmentation else "",
        "Edited by hand": "yes" if made.edited else "",
    }
    remarks = tuple(as_sentence(n) for n in notices)
    return Method(tuple((k, v) for k, v in facts.items() if v), remarks)
