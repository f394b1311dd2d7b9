"""Export on the worker thread: measure the current segments and write them to a folder; makes no Qt and MRML calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..anatomy import structure
from ..export import ExportOptions, Subject, write_export
from ..progress import Reporter
from ..result import Result
from ..volume.types import Volume
from .record import RunRecord
from .work import measure_again


@dataclass(frozen=True, eq=False)
class ExportRequest:
    """One export.

    Attributes:
        view: the scan; its array is a view of the node's voxels.
        masks: masks of the segments, from :func:`heartseg.scene.masks.masks_of`.
        folder: output folder.
        formats: keys of :data:`heartseg.export.FORMATS`.
        options: coordinates, smoothing, wall thickness.
        overwrite: whether to replace an earlier export in the folder.
        name: name for titles.
        result: result of the run, if it is still in memory; used if the segments have not changed.
        record: record of the run stored with the node, whose provenance is exported.
        made: existing files to copy, by format.
        notices: notices for the reader.
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
    """Write the export; returns the content of ``export.json``.

    Raises:
        HeartSegError: see :func:`heartseg.export.write_export`; no file remains.
        Cancelled: the user cancelled; no file remains.
    """
    subject = subject_of_segments(request, reporter)
    return write_export(
        subject, request.folder, request.formats, request.options, request.overwrite, reporter, request.made
    )


def subject_of_segments(request: ExportRequest, reporter: Reporter) -> Subject:
    """Return the segments on the grid of the scan; measures them again if they differ from the result of the run."""
    result, record = request.result, request.record or RunRecord(request.name)
    labels, measures, findings = measure_again(request.view, request.masks, record, reporter)
    if result is None or not np.array_equal(result.labels, labels):
        provenance = replace(record.provenance, edited=request.record is not None)
        present = tuple(structure(key) for key in request.masks)
        result = Result(labels, request.view.geometry, present, findings, measures, (), provenance)
    return Subject(result, request.view, request.name, request.notices)
