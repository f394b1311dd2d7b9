"""What is exported: a segmentation with its measures and, where it is at hand, the scan it was drawn on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..anatomy import STRUCTURES, Structure
from ..errors import HeartSegError, InputError
from ..findings import sorted_findings
from ..measure import measure_structures
from ..provenance import InputFacts, Provenance
from ..quality import check_result
from ..result import Result
from ..volume.geometry import Geometry
from ..volume.label_maps import as_label_map, stem_of
from ..volume.reading import read_volume
from ..volume.types import Source, Volume

log = logging.getLogger(__name__)

REPORT_FILE = "report.json"
LABEL_FILES = ("labels.nii.gz", "segmentation.seg.nrrd")
"""Where a result folder keeps its labels, in the order in which they are looked for."""

_INTENSITIES = ("mean_intensity", "sd_intensity")


@dataclass(frozen=True, eq=False)
class Subject:
    """What is exported.

    Attributes:
        result: labels, measures, findings and provenance.
        volume: the scan on the same grid; ``None`` where it is not at hand.
        name: for titles and descriptions.
        notices: what a reader of the export should know about where it came from, a sentence each.
    """

    result: Result
    volume: Volume | None
    name: str
    notices: tuple[str, ...] = ()

    def scan(self) -> Volume:
        """The scan, or an even one (all voxels 0, no memory) on the labels' grid where there is none."""
        return self.volume or _even(self.result.geometry, self.name)


def open_subject(
    source: str | Path,
    scan: str | Path | None = None,
    *,
    series: str | int | None = None,
    frame: int | None = None,
    modality: str | None = None,
    labels: Mapping[int, str] | None = None,
) -> Subject:
    """Open a result folder, or a segmentation file as it is after edits.

    Of a result folder, measures, findings and provenance are those of its report. A segmentation file is measured and
    checked anew; without the scan, intensities are left out.

    Args:
        source: folder of ``heartseg segment``, or a label map (NIfTI, NRRD, MHA/MHD, Slicer's ``.seg.nrrd``).
        scan: the scan, file or DICOM folder. A result's report names its scan, which is used if it is still there and
            is still the same file.
        series, frame, modality: which part of ``scan``, as for :func:`heartseg.read_volume`.
        labels: label value -> structure key, for a label map with values of its own.

    Raises:
        InputError: nothing to export there; the scan has another grid than the labels; broken files.
        SettingsError: ``labels`` names an unknown structure.
    """
    source = Path(source)
    asked = None if scan is None else read_volume(scan, frame=frame, series=series, modality=modality)
    if source.is_dir():
        return _with_scan(_of_result_folder(source), asked, source)
    found = as_label_map(source, labels, "--labels")
    present = tuple(s for s in STRUCTURES if (found.labels == s.label).any())
    provenance = Provenance(segmentation=str(source))
    result = Result(found.labels, found.geometry, present or STRUCTURES, provenance=provenance)
    subject = Subject(result, None, stem_of(source), found.notices)
    return measured(_with_scan(subject, asked, source))


def measured(subject: Subject) -> Subject:
    """The subject with measures and findings made anew from its labels, for a segmentation that was edited."""
    result, volume = subject.result, subject.scan()
    measures = measure_structures(volume, result.labels, result.structures)
    if subject.volume is None:
        measures = tuple(m for m in measures if m.quantity not in _INTENSITIES)
    findings = (*volume.findings, *check_result(volume, result.labels, measures, (), result.structures))
    return replace(subject, result=replace(result, measures=measures, findings=sorted_findings(findings), removals=()))


def _even(geometry: Geometry, name: str) -> Volume:
    # MR: what its voxels hold is then not taken for Hounsfield units.
    return Volume(np.broadcast_to(np.int16(0), geometry.shape), geometry, name, "MR")


def _of_result_folder(folder: Path) -> Subject:
    path = folder / REPORT_FILE
    if not path.is_file():
        raise InputError(
            f"folder {str(folder)!r} holds no {REPORT_FILE}: give a folder that 'heartseg segment' wrote for one scan, "
            "or a segmentation file"
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        structures = tuple(s for s in STRUCTURES if s.key in {entry["key"] for entry in report["structures"]})
        result = Result.from_dict(report, *_labels_of(folder, structures))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{str(path)!r} is not a report that HeartSeg can read ({type(error).__name__}: {error}): segment the scan "
            "again"
        ) from error
    source = result.provenance.input
    return Subject(result, None, (source.name if source else "") or folder.resolve().name)


def _labels_of(folder: Path, structures: tuple[Structure, ...]) -> tuple[np.ndarray, Geometry]:
    for name in LABEL_FILES:
        if (folder / name).is_file():
            found = as_label_map(folder / name, None, "--labels")
            return found.labels, found.geometry
    raise InputError(
        f"folder {str(folder)!r} holds neither {' nor '.join(LABEL_FILES)}: segment the scan again with --format labels"
    )


def _with_scan(subject: Subject, asked: Volume | None, source: Path) -> Subject:
    """The subject with the scan that was asked for, or else the one that its report names."""
    volume, notice = (asked, "") if asked is not None else _named_scan(subject.result.provenance.input)
    if volume is not None and not volume.geometry.same_grid(subject.result.geometry, 0.01):
        grid, own = volume.geometry, subject.result.geometry
        raise InputError(
            f"scan {volume.name!r} ({grid.orientation} {grid.size}) is not on the grid of {source.name!r} "
            f"({own.orientation} {own.size}): give the scan that was segmented with --scan"
        )
    notices = subject.notices + ((notice,) if notice else ())
    return replace(subject, volume=volume, name=volume.name if volume else subject.name, notices=notices)


def _named_scan(said: InputFacts | None) -> tuple[Volume | None, str]:
    """The scan that a report names, if it is still there and the same; else why not."""
    if said is None or not said.path:
        return None, "the scan is not known: pictures show the labels alone; give it with --scan"
    try:
        volume = read_volume(
            said.path, frame=said.frame, series=said.series_uid or None, modality=said.modality or None
        )
    except HeartSegError as error:
        log.info("scan of the report: %s", error)
        return None, f"the scan is no longer at {said.path!r}: pictures show the labels alone; give it with --scan"
    if said.sha256 and volume.source.sha256 != said.sha256:
        return None, f"{said.path!r} is no longer the scan that was segmented: give the right one with --scan"
    return volume, ""


def subject_of(result: Result, volume: Volume) -> Subject:
    """A fresh result with its scan."""
    return Subject(result, volume, volume.name)


def source_of(subject: Subject) -> Source:
    """Where the scan came from; empty where it is not at hand."""
    return subject.volume.source if subject.volume is not None else Source()
