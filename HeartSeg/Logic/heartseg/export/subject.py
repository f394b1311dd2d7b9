"""Input of an export: a segmentation with its measures and, if available, its scan."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..anatomy import STRUCTURES
from ..errors import HeartSegError, InputError
from ..formats import LABEL_FILES, REPORT_FILE
from ..measure import MeasuredLabels
from ..provenance import InputFacts, Provenance
from ..quality import measured_and_checked
from ..result import Result
from ..volume.geometry import Geometry
from ..volume.headers import Spacing
from ..volume.label_maps import as_label_map, stem_of
from ..volume.reading import count_frames, read_volume
from ..volume.types import ANONYMOUS, Source, Volume, blank_volume
from ..wording import _

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Subject:
    """A segmentation to export.

    Attributes:
        result: labels, measures, findings and provenance.
        volume: the scan on the same grid, or ``None`` if it is not available.
        name: name for titles and descriptions.
        notices: remarks about the origin of the segmentation, one sentence each.
    """

    result: Result
    volume: Volume | None
    name: str
    notices: tuple[str, ...] = ()

    def scan(self) -> Volume:
        """The scan; without one, a volume of zeros on the grid of the labels, which takes no memory."""
        return self.volume or blank_volume(self.result.geometry, self.name)


def open_subject(
    source: str | Path,
    scan: str | Path | None = None,
    *,
    series: str | int | None = None,
    frame: int | None = None,
    modality: str | None = None,
    spacing: Spacing | None = None,
    labels: Mapping[int, str] | None = None,
    measure: bool = True,
) -> Subject:
    """Open a result folder or a segmentation file, e.g. an edited one.

    For a result folder, measures, findings and provenance are read from its report. A segmentation file is measured and
    checked again; without the scan, it has no intensity measures.

    Args:
        source: folder of ``heartseg segment``, or a label map (NIfTI, NRRD, MHA/MHD, Slicer's ``.seg.nrrd``).
        scan: the scan, file or DICOM folder. By default, the scan named in the report of a result folder is used if the
            file still exists and is unchanged.
        series, frame, modality, spacing: of ``scan``, as for :func:`heartseg.read_volume`; by default, those of the
            report of a result folder.
        labels: label value -> structure key, for a label map with other label values.
        measure: whether to measure and check a segmentation file; otherwise, its measures and findings are empty.

    Raises:
        InputError: the source contains no segmentation, the grids of scan and labels differ, or a file is broken.
        SettingsError: ``labels`` names an unknown structure.
    """
    source = Path(source)
    if source.is_dir():
        subject = _of_result_folder(source)
        requested = (
            None if scan is None else _requested_scan(Path(scan), subject.result, series, frame, modality, spacing)
        )
        return _with_scan(subject, requested, source)
    requested = (
        None if scan is None else read_volume(scan, frame=frame, series=series, modality=modality, spacing=spacing)
    )
    found = as_label_map(source, labels, "--labels")
    present = tuple(s for s in STRUCTURES if (found.labels == s.label).any())
    provenance = Provenance(segmentation=str(source))
    result = Result(found.labels, found.geometry, present or STRUCTURES, provenance=provenance)
    subject = Subject(result, None, stem_of(source), found.notices)
    subject = _with_scan(subject, requested, source)
    return measured(subject) if measure else subject


def measured(subject: Subject) -> Subject:
    """Recompute measures and findings from the labels, for an edited segmentation."""
    found = measured_labels(subject)
    return replace(subject, result=replace(subject.result, measures=found.measures, findings=found.findings))


def measured_labels(subject: Subject) -> MeasuredLabels:
    """Measure and check the labels of a subject; findings on its scan and its run are kept."""
    result = subject.result
    return measured_and_checked(
        result.labels,
        result.geometry,
        result.structures,
        subject.volume,
        spread=result.provenance.window_spread,
        findings=result.findings,
    )


def _of_result_folder(folder: Path) -> Subject:
    path = folder / REPORT_FILE
    if not path.is_file():
        raise InputError(
            _(
                "folder {folder!r} has no {file}: give a result folder of 'heartseg segment' for one "
                "scan, or a segmentation file"
            ).format(folder=str(folder), file=REPORT_FILE)
        )
    with _readable(path):
        report = json.loads(path.read_text(encoding="utf-8"))
        result = Result.from_dict(report, np.zeros((0, 0, 0), np.uint8), Geometry((0, 0, 0), (1.0, 1.0, 1.0)))
    labels, geometry = labels_of(folder)
    result = replace(result, labels=labels, geometry=geometry)
    known = result.provenance.input or InputFacts()
    return Subject(result, None, ANONYMOUS if known.anonymized else known.name or folder.resolve().name)


def provenance_of(folder: Path) -> Provenance:
    """Read from the report of a result folder how the result came about.

    Raises:
        InputError: the folder has no readable report.
    """
    path = folder / REPORT_FILE
    with _readable(path):
        return Provenance.from_dict(json.loads(path.read_text(encoding="utf-8"))["provenance"])


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            _("{path!r} is not a readable HeartSeg report ({name}: {error}): segment the scan again").format(
                path=str(path), name=type(error).__name__, error=error
            )
        ) from error


def labels_of(folder: Path) -> tuple[np.ndarray, Geometry]:
    """Read the label map of a result folder and its grid.

    Raises:
        InputError: the folder has no label map.
    """
    for name in LABEL_FILES:
        if (folder / name).is_file():
            found = as_label_map(folder / name, None, "--labels")
            return found.labels, found.geometry
    raise InputError(
        _("folder {folder!r} has neither {files}: segment the scan again with --format labels").format(
            folder=str(folder), files=" nor ".join(LABEL_FILES)
        )
    )


def _with_scan(subject: Subject, requested: Volume | None, source: Path) -> Subject:
    """Add the requested scan, or else the scan named in the report."""
    recorded = subject.result.provenance.input
    volume, notice = (requested, "") if requested is not None else _named_scan(subject.result)
    if volume is not None and recorded is not None and recorded.anonymized:
        volume = volume.anonymized()
    if volume is not None and not volume.geometry.same_grid(subject.result.geometry, 0.01):
        grid, own = volume.geometry, subject.result.geometry
        raise InputError(
            _(
                "the grid of scan {name!r} ({orientation} {size}) differs from that of {source_name!r} "
                "({own_orientation} {own_size}): give the scan that was segmented with --scan"
            ).format(
                name=volume.name,
                orientation=grid.orientation,
                size=grid.size,
                source_name=source.name,
                own_orientation=own.orientation,
                own_size=own.size,
            )
        )
    notices = subject.notices + ((notice,) if notice else ())
    return replace(subject, volume=volume, name=volume.name if volume else subject.name, notices=notices)


def _requested_scan(
    path: Path,
    result: Result,
    series: str | int | None,
    frame: int | None,
    modality: str | None,
    spacing: Spacing | None,
) -> Volume:
    """Read the scan that the user gives for a result; what is not given is taken from the report, by UID and number."""
    known = result.provenance.input or InputFacts()
    own = known.series_uid if path.is_dir() and series is None else ""

    def read(series: str | int | None) -> Volume:
        return read_volume(
            path,
            series=series,
            frame=known.frame if frame is None and count_frames(path, series=series) > 1 else frame,
            modality=modality or known.modality or None,
            spacing=result.geometry.spacing if spacing is None and known.spacing_given else spacing,
        )

    if own:
        with suppress(InputError):  # a copy of the series may have another UID
            return read(own)
    return read(series)


def _named_scan(result: Result) -> tuple[Volume | None, str]:
    """Read the scan named in a report; without it, return ``None`` and the reason."""
    recorded = result.provenance.input
    if recorded is None or not recorded.path:
        return None, "the scan is unknown, so pictures show the labels only: give it with --scan"
    try:
        volume = recorded.read_scan()
    except HeartSegError as error:
        log.info("scan of the report: %s", error)
        return (
            None,
            "the scan named in the report cannot be read, so pictures show the labels only: give it with --scan",
        )
    if not recorded.describes(volume):
        return (
            None,
            "the scan named in the report has changed since, so pictures show the labels only: give it with --scan",
        )
    return volume, ""


def subject_of(result: Result, volume: Volume) -> Subject:
    """Combine a result with its scan."""
    return Subject(result, volume, volume.name)


def source_of(subject: Subject) -> Source:
    """Source of the scan; empty if the scan is not available."""
    return subject.volume.source if subject.volume is not None else Source()
