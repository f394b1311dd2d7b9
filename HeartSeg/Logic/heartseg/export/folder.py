"""Atomic export of all requested formats into a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..formats import FILES, check_formats, missing_package
from ..progress import Reporter
from ..staging import FolderKind, check_folder, staged_folder
from ..version import __version__
from ..wording import _
from .formats import FORMATS, ExportOptions, Written, write_formats
from .subject import Subject

EXPORT_FILE = "export.json"
EXPORT_FOLDER = FolderKind("an export of HeartSeg", (*FILES, EXPORT_FILE), EXPORT_FILE)

DEFAULT_FORMATS = ("seg", "labels", "stl", "csv", "html")
"""Formats exported by default: widely supported and fast to write."""


def check_export(folder: str | Path, formats: Sequence[str] | None, overwrite: bool = False) -> Path:
    """Check the formats and the folder of an export before reading input.

    Raises:
        OutputError: a format is unknown, or the folder cannot be used (see :func:`heartseg.staging.check_folder`).
        DependencyError: a requested format needs a package that is not installed.
    """
    if formats is not None and not formats:
        raise OutputError(_("no format is given: choose from {formats}").format(formats=", ".join(FORMATS)))
    check_formats(formats, tuple(FORMATS))
    return check_folder(folder, EXPORT_FOLDER, overwrite)


def write_export(
    subject: Subject,
    folder: str | Path,
    formats: Sequence[str] | None = None,
    options: ExportOptions | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    made: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Export a segmentation into a new folder.

    Args:
        subject: from :func:`open_subject` or :func:`subject_of`.
        folder: folder to create; must be empty or missing unless ``overwrite``, which replaces an earlier export.
        formats: keys of :data:`~heartseg.export.FORMATS`; ``None`` selects :data:`DEFAULT_FORMATS`, except formats
            whose package is missing.
        options: coordinates, smoothing, wall thickness of the print models.
        reporter: progress and cancellation.
        made: format -> existing file, for single-file formats that are copied instead of written.

    Returns:
        The content of ``export.json``: files, skipped formats, options, surface statistics, provenance.

    Raises:
        OutputError: the folder cannot be used, the disk is full, or the input of a format is missing. No files are
            left behind, and an earlier export is kept.
        DependencyError: a requested format needs a package that is not installed.
        SettingsError: an option is outside its limits.
        Cancelled: the user cancelled; no files are left behind.
    """
    options = (options or ExportOptions()).check()
    made = made or {}
    chosen = tuple(name for name in (DEFAULT_FORMATS if formats is None else formats) if name not in made)
    folder = check_export(folder, formats if not made else chosen or None, overwrite)
    with staged_folder(folder, EXPORT_FOLDER, overwrite) as stage:
        for name, file in made.items():  # before the others: a DICOM SR refers to the DICOM SEG
            shutil.copyfile(file, stage / FORMATS[name].partition(":")[0])
        written = write_formats(subject, stage, chosen, options, strict=formats is not None, reporter=reporter)
        content = _content(subject, stage, options, written)
        text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
        (stage / EXPORT_FILE).write_text(text + "\n", encoding="utf-8")
    return content


def _content(subject: Subject, stage: Path, options: ExportOptions, written: Written) -> dict[str, Any]:
    result = subject.result
    files = sorted(p.relative_to(stage).as_posix() for p in stage.rglob("*") if p.is_file())
    return {
        "schema": {"name": "heartseg-export", "version": 1},
        "use": "research only; not a medical device",
        "heartseg": __version__,
        "exported": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "name": subject.name,
        "files": [*files, EXPORT_FILE],
        "skipped": written.skipped,
        "coordinates": options.coordinates.upper(),
        "notices": list(subject.notices),
        "structures": [s.key for s in result.structures],
        "surfaces": written.facts.get("surfaces"),
        "print": written.facts.get("print"),
        "provenance": result.provenance.to_dict(),
    }


def possible_formats() -> tuple[str, ...]:
    """Formats whose packages are installed."""
    return tuple(name for name in FORMATS if not missing_package(name))
