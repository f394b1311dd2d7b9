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
from .export import formats as exported
from .export.formats import FILES, write_formats
from .export.subject import REPORT_FILE, subject_of
from .progress import Reporter
from .report import write_report
from .result import Result
from .volume.types import Volume
from .volume.writing import write_labels

CONFIDENCE, _CONFIDENCE_FILE = "confidence", "confidence.nii.gz"

FORMATS = {**exported.FORMATS, CONFIDENCE: f"{_CONFIDENCE_FILE}: confidence of the network per voxel, percent"}
"""Format -> description. :data:`CONFIDENCE` is available for runs only: it cannot be derived from a segmentation."""

DEFAULT_FORMATS = ("seg", "labels", "stl", "csv", "preview")
"""Formats written by default, in addition to ``report.json``, which is always written."""

RESULT_FOLDER = staging.FolderKind("a result of HeartSeg", (*FILES, _CONFIDENCE_FILE, REPORT_FILE), REPORT_FILE)

__all__ = [
    "CONFIDENCE",
    "DEFAULT_FORMATS",
    "FORMATS",
    "REPORT_FILE",
    "check_formats",
    "check_output_folder",
    "formats_in",
    "staged_folder",
    "write_result",
]


def check_formats(formats: Sequence[str] | None) -> None:
    """Check that the requested formats can be written, before a long computation.

    Raises:
        OutputError: a format is unknown.
        DependencyError: a requested format needs a package that is not installed.
    """
    unknown = [f for f in formats or () if f not in FORMATS]
    if unknown:
        raise OutputError(f"format {', '.join(unknown)} is unknown: choose from {', '.join(FORMATS)}")
    exported.check_formats([f for f in formats or () if f != CONFIDENCE])


def check_output_folder(folder: str | Path, overwrite: bool = False) -> Path:
    """Check that a result can be written to a folder, before a long computation.

    Raises:
        OutputError: the folder is a file, is not empty (without ``overwrite``), contains other files than a result,
            which overwriting would delete, or is not writable.
    """
    return staging.check_folder(folder, RESULT_FOLDER, overwrite)


def formats_in(folder: Path) -> tuple[str, ...]:
    """The formats of the files of a result folder."""
    return tuple(name for name, text in FORMATS.items() if any(folder.glob(text.partition(":")[0].rstrip("/"))))


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
            write_labels(confidence, result.geometry, stage / _CONFIDENCE_FILE)
        result = replace(result, findings=result.findings + written.findings)
        files = sorted(str(p.relative_to(stage).as_posix()) for p in stage.rglob("*") if p.is_file())
        seconds = {"write": round(time.perf_counter() - started, 3)}  # without the report itself
        output = {"files": [*files, REPORT_FILE], "skipped": written.skipped, "seconds": seconds}
        write_report(result, stage / REPORT_FILE, extra={**(extra or {}), "output": output})
    return output
