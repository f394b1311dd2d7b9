"""What the worker does for an export: the segments as they are now, measured, into a folder. No Qt, no MRML here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..anatomy import structure
from ..export import ExportOptions, Subject, write_export
from ..progress import Reporter
from ..provenance import Provenance
from ..result import Result
from ..volume.types import Volume
from .work import measure_again

if TYPE_CHECKING:
    from .record import RunRecord


@dataclass(frozen=True, eq=False)
class ExportRequest:
    """One export.

    Attributes:
        view: the scan; its array still belongs to the node.
        masks: of the segments, as :func:`heartseg.panel.results.masks_of` gives them.
        folder: where to.
        formats: keys of :data:`heartseg.export.FORMATS`.
        options: coordinates, smoothing, wall.
        overwrite: whether an earlier export in the folder is replaced.
        name: for titles.
        result: the run's own result, if it is still in memory: taken where the segments are still the same.
        record: what is kept of the run with the node; its provenance is handed on.
        made: files that somebody else has made, format -> file; they are copied in.
        notices: sentences for the reader.
    """

    view: Volume
    masks: dict[str, Any]
    folder: Path
    formats: tuple[str, ...]
    options: ExportOptions
    overwrite: bool
    name: str
    result: Result | None = None
    record: RunRecord | None = None
    made: Mapping[str, Path] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def do_export(request: ExportRequest, reporter: Reporter) -> dict[str, Any]:
    """Write the export; returns what ``export.json`` holds.

    Raises:
        HeartSegError: as :func:`heartseg.export.write_export`; nothing is left behind.
        Cancelled: the user asked to stop; nothing is left behind.
    """
    subject = subject_of_segments(request, reporter)
    return write_export(
        subject, request.folder, request.formats, request.options, request.overwrite, reporter, request.made
    )


def subject_of_segments(request: ExportRequest, reporter: Reporter) -> Subject:
    """The segments on the scan's grid; measured anew, unless they are still the run's."""
    labels, measures, findings = measure_again(request.view, request.masks, reporter)
    result, record = request.result, request.record
    if result is None or not np.array_equal(result.labels, labels):
        provenance = replace(record.provenance, edited=True) if record is not None else Provenance()
        present = tuple(structure(key) for key in request.masks)
        result = Result(labels, request.view.geometry, present, findings, measures, (), provenance)
    return Subject(result, request.view, request.name, request.notices)
