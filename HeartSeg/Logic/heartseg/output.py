"""Atomic output of a run into a result folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import staging
from .errors import OutputError
from .export.formats import write_formats
from .export.subject import subject_of
from .formats import (
    CONFIDENCE,
    CONFIDENCE_FILE,
    DEFAULT_FORMATS,
    FORMATS,
    REPORT_FILE,
    RESULT_FOLDER,
    check_formats,
    check_output_folder,
)
from .progress import Reporter
from .report import write_report
from .result import Result
from .volume.types import Volume
from .volume.writing import write_labels

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


def staged_folder(folder: Path, overwrite: bool = False) -> AbstractContextManager[Path]:
    """Return a context manager of a temporary folder that replaces ``folder`` on success and is deleted on failure."""
    return staging.staged_folder(folder, RESULT_FOLDER, overwrite)


def write_result(
    result: Result,
    volume: Volume,
    folder: str | Path,
    formats: Sequence[str] | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the files of a result into a new folder.

    Args:
        result: return value of :func:`heartseg.segment`.
        volume: the scan that was segmented.
        folder: folder to create; must be empty or missing unless ``overwrite``.
        formats: keys of :data:`FORMATS`; ``None`` selects those of :data:`DEFAULT_FORMATS` whose packages are
            installed, and the confidence map if the result has one; skipped formats are noted in the report.
        reporter: progress and cancellation.
        extra: further fields of ``report.json``, JSON-ready.

    Returns:
        ``"files"``: written files, relative to the folder; ``"skipped"``: format -> reason; ``"seconds"``: duration.

    Raises:
        OutputError: the folder cannot be used, the disk is full, or the result lacks a requested confidence map. No
            files are left behind, and an earlier result is kept.
        DependencyError: a requested format needs a package that is not installed.
    """
    check_formats(formats)
    wanted = DEFAULT_FORMATS if formats is None else tuple(formats)
    confidence = result.confidence_map if formats is None or CONFIDENCE in wanted else None
    if CONFIDENCE in wanted and confidence is None:
        raise OutputError("the result has no confidence map: segment the scan again with the setting confidence_map")
    started = time.perf_counter()
    with staged_folder(Path(folder), overwrite) as stage:
        written = write_formats(
            subject_of(result, volume), stage, wanted, strict=formats is not None, reporter=reporter
        )
        if confidence is not None:
            write_labels(confidence, result.geometry, stage / CONFIDENCE_FILE)
        result = replace(result, findings=result.findings + written.findings)
        files = sorted(str(p.relative_to(stage).as_posix()) for p in stage.rglob("*") if p.is_file())
        seconds = {"write": round(time.perf_counter() - started, 3)}  # without the report itself
        output = {"files": [*files, REPORT_FILE], "skipped": written.skipped, "seconds": seconds}
        write_report(result, stage / REPORT_FILE, extra={**(extra or {}), "output": output})
    return output
