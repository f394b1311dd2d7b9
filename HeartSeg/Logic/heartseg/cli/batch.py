"""Batch segmentation in worker processes; an unreadable scan or a crashed process does not stop the others."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from ..errors import DependencyError, OutputError, writing
from ..formats import SUMMARY_FILE, is_installed
from ..settings import Settings
from .cases import Case, Part
from .exits import EXIT_FAILED, EXIT_NO_HEART, EXIT_OK, stop_token, warn
from .finished import model_hash
from .progress import ProgressBar
from .summary import Summary, SummaryRow
from .workers import Job, RowSource, processes_for, rows_from_processes


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
    _check_batch_output(args.output, args.resume or args.overwrite, args.part)
    job = _job(args, settings, formats, time_limit)  # fails before the first scan
    bar = ProgressBar()
    cases = cases if args.part is None else args.part.of(cases)
    source = _source(args, settings, bar, len(cases))
    summary = Summary(job.output / (SUMMARY_FILE if args.part is None else args.part.summary_file), cases)
    made = [p for p in (job.output, *job.output.parents) if not p.exists()]
    _make(job.output)
    try:
        with bar:
            rows = _all_rows(cases, job, source, summary)
    except BaseException:
        for folder in made:  # rmdir removes only empty folders
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    if args.json:
        print(json.dumps([rows[c.name].cells() for c in cases], indent=2))
    else:
        print(f"{len(cases)} scan(s), summary in {summary.path}")
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


def _source(args: argparse.Namespace, settings: Settings, bar: ProgressBar, scans: int) -> RowSource:
    """Where the scans are segmented: in processes of this machine, or on a cluster."""
    if args.scheduler is None and args.slurm is None:
        count = args.jobs or processes_for(scans)
        progress = bar if count == 1 and sys.stderr.isatty() else None
        return partial(rows_from_processes, count=count, progress=progress)
    needed = ("distributed",) if args.slurm is None else ("distributed", "dask_jobqueue", "cryptography")
    if missing := [name for name in needed if not is_installed(name)]:
        raise DependencyError(f"{', '.join(missing)} is not installed: pip install 'heartseg[cluster]'")
    from .cluster import Running, Slurm, rows_from_cluster

    if args.slurm is None:
        return partial(rows_from_cluster, place=Running(args.scheduler))
    return partial(rows_from_cluster, place=Slurm(args.slurm, settings.threads or 1, tuple(args.slurm_option)))


def _all_rows(cases: list[Case], job: Job, source: RowSource, summary: Summary) -> dict[str, SummaryRow]:
    """Process all cases and keep the summary up to date; returns one row per case, by name."""
    try:
        with contextlib.closing(source(cases, job)) as coming:
            for row in coming:
                stop_token().check()
                summary.add(row)
                text = f"[{len(summary.rows)}/{len(cases)}] {row.case}: {row.status}"
                warn(f"{text} - {row.message}" if row.message else text)
    finally:
        summary.write()
    return summary.rows


def _exit_code(rows: list[SummaryRow]) -> int:
    if any(row.status == "failed" for row in rows):
        return EXIT_FAILED
    return EXIT_NO_HEART if rows and all("no-heart" in row.errors for row in rows) else EXIT_OK


def _check_batch_output(folder: Path, go_on: bool, part: Part | None) -> None:
    """Check that no earlier results are in the way; other parts of a cohort may write to the same folder."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"output {folder} is a file: choose a folder")
    if go_on or not folder.is_dir():
        return
    if any(folder.iterdir()) if part is None else (folder / part.summary_file).exists():
        raise OutputError(
            f"output folder {folder} is not empty: add --resume to continue, or --overwrite to replace it"
        )


def _make(folder: Path) -> None:
    """Create the folder and check that it is writable."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
