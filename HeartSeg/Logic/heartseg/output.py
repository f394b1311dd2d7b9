"""One result, one folder: everything a run writes appears at once, or not at all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import staging
from .errors import OutputError
from .export import formats as exported
from .export.formats import FILES, write_formats
from .export.subject import REPORT_FILE, subject_of
from .progress import Reporter
from .report import write_report
from .result import Result
from .volume.types import Volume
from .volume.writing import write_labels

CONFIDENCE, _CONFIDENCE_FILE = "confidence", "confidence.nii.gz"

FORMATS = {**exported.FORMATS, CONFIDENCE: f"{_CONFIDENCE_FILE}: how sure the network was at each voxel, percent"}
"""Format -> what it writes. :data:`CONFIDENCE` is there for runs alone: a segmentation does not tell it afterwards."""

DEFAULT_FORMATS = ("seg", "labels", "stl", "csv", "preview")
"""What a run writes if nothing is asked for by name, besides ``report.json``, which always is."""

RESULT_FOLDER = staging.FolderKind("a result of HeartSeg", (*FILES, _CONFIDENCE_FILE, REPORT_FILE), REPORT_FILE)

__all__ = [
    "CONFIDENCE",
    "DEFAULT_FORMATS",
    "FORMATS",
    "REPORT_FILE",
    "check_formats",
    "check_output_folder",
    "staged_folder",
    "write_result",
]


def check_formats(formats: Sequence[str] | None) -> None:
    """Make sure that what was asked for by name can be written, before an hour is spent on it.

    Raises:
        OutputError: a format is unknown.
        DependencyError: a format that was asked for needs a package that is not installed.
    """
    unknown = [f for f in formats or () if f not in FORMATS]
    if unknown:
        raise OutputError(f"format {', '.join(unknown)} is unknown: choose from {', '.join(FORMATS)}")
    exported.check_formats([f for f in formats or () if f != CONFIDENCE])


def check_output_folder(folder: str | Path, overwrite: bool = False) -> Path:
    """Make sure that a result could be written there, before an hour is spent on it.

    Raises:
        OutputError: the folder is a file, is not empty (and ``overwrite`` is off), holds other things than a result
            (which overwriting would delete), or cannot be written to.
    """
    return staging.check_folder(folder, RESULT_FOLDER, overwrite)


def staged_folder(folder: Path, overwrite: bool = False) -> AbstractContextManager[Path]:
    """A temporary folder that takes the result folder's place when the block ends well, and vanishes otherwise."""
    return staging.staged_folder(folder, RESULT_FOLDER, overwrite)


def write_result(
    result: Result,
    volume: Volume,
    folder: str | Path,
    formats: Sequence[str] | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write a result's files into a new folder.

    Args:
        result: what :func:`heartseg.segment` returned.
        volume: the scan it was made from.
        folder: created; must be empty or absent unless ``overwrite``.
        formats: keys of :data:`FORMATS`; ``None`` takes :data:`DEFAULT_FORMATS`, as far as the installed packages
            allow, and notes the rest in the report, and the confidence map if the result has one.
        reporter: progress and cancel.

    Returns:
        ``"files"``: names written, relative to the folder; ``"skipped"``: formats that could not be, and why;
        ``"seconds"``: what writing took.

    Raises:
        OutputError: the folder cannot be used, the disk is full, or a confidence map is asked for that was not made;
            nothing is left behind and an earlier result stays.
        DependencyError: a format that was asked for needs a package that is not installed.
    """
    check_formats(formats)
    wanted = DEFAULT_FORMATS if formats is None else tuple(formats)
    confidence = result.confidence_map if formats is None or CONFIDENCE in wanted else None
    if CONFIDENCE in wanted and confidence is None:
        raise OutputError("this result has no confidence map: run it again with the setting confidence_map")
    started = time.perf_counter()
    with staged_folder(Path(folder), overwrite) as stage:
        written = write_formats(
            subject_of(result, volume), stage, wanted, strict=formats is not None, reporter=reporter
        )
        if confidence is not None:
            write_labels(confidence, result.geometry, stage / _CONFIDENCE_FILE)
        result = replace(result, findings=result.findings + written.findings)
        files = sorted(str(p.relative_to(stage).as_posix()) for p in stage.rglob("*") if p.is_file())
        seconds = {"write": round(time.perf_counter() - started, 3)}  # all but the report itself
        output = {"files": [*files, REPORT_FILE], "skipped": written.skipped, "seconds": seconds}
        write_report(result, stage / REPORT_FILE, extra={"output": output})
    return output
