"""Batch segmentation in worker processes; an unreadable scan or a crashed process does not stop the others."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from ..errors import OutputError
from ..settings import Settings
from .cases import SUMMARY_FILE, Case
from .exits import EXIT_FAILED, EXIT_NO_HEART, EXIT_OK, stop_token, warn
from .finished import model_hash
from .progress import ProgressBar
from .summary import SummaryRow, write_summary
from .workers import Job, rows_from_processes


def run_batch(
    cases: list[Case],
    args: argparse.Namespace,
    settings: Settings,
    formats: tuple[str, ...] | None,
    time_limit: float | None,
) -> int:
    """Segment all cases into ``OUT/<name>/`` and write ``OUT/summary.csv``; returns the exit code.

    Raises:
        OutputError: the output folder is unusable.
        ModelError, SettingsError, DependencyError: an error that would affect every scan.
    """
    _check_batch_output(args.output, args.resume or args.overwrite)
    job = _job(args, settings, formats, time_limit)  # fails before the first scan
    made = [p for p in (job.output, *job.output.parents) if not p.exists()]
    _make(job.output)
    try:
        rows = _all_rows(cases, job, args.jobs)
    except BaseException:
        for folder in made:  # rmdir removes only empty folders
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    if args.json:
        print(json.dumps([rows[c.name].cells() for c in cases], indent=2))
    else:
        print(f"{len(cases)} scan(s), summary in {job.output / SUMMARY_FILE}")
    return _exit_code([rows[c.name] for c in cases])


def _job(
    args: argparse.Namespace, settings: Settings, formats: tuple[str, ...] | None, time_limit: float | None
) -> Job:
    from ..models.store import find_model

    model = find_model(args.model, label_map=dict(settings.label_map) if settings.label_map else None)
    return Job(
        output=args.output,
        model=args.model,
        model_hash=model_hash(model),
        settings=settings,
        formats=formats,
        overwrite=args.overwrite,
        resume=args.resume,
        anonymize=args.anonymize,
        time_limit=time_limit,
    )


def _all_rows(cases: list[Case], job: Job, jobs: int) -> dict[str, SummaryRow]:
    """Process all cases and update the summary after each; returns one row per case, by name."""
    rows: dict[str, SummaryRow] = {}
    with ProgressBar() as bar:
        progress = bar if jobs == 1 and sys.stderr.isatty() else None
        with contextlib.closing(rows_from_processes(cases, job, jobs, progress)) as coming:
            for row in coming:
                stop_token().check()
                rows[row.case] = row
                write_summary(job.output, cases, rows)
                text = f"[{len(rows)}/{len(cases)}] {row.case}: {row.status}"
                warn(f"{text} - {row.message}" if row.message else text)
    return rows


def _exit_code(rows: list[SummaryRow]) -> int:
    if any(row.status == "failed" for row in rows):
        return EXIT_FAILED
    return EXIT_NO_HEART if all("no-heart" in row.errors for row in rows) else EXIT_OK


def _check_batch_output(folder: Path, go_on: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"output {folder} is a file: choose a folder")
    if folder.is_dir() and any(folder.iterdir()) and not go_on:
        raise OutputError(
            f"output folder {folder} is not empty: add --resume to continue, or --overwrite to replace it"
        )


def _make(folder: Path) -> None:
    """Create the folder and check that it is writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"output folder {folder} is not writable ({error.strerror}): choose another") from error
