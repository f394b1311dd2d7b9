"""Many scans: one warm model per process; a bad scan, or a process that dies, never stops the rest."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..anatomy import KEYS
from ..errors import Cancelled, DependencyError, DeviceError, ModelError, OutputError, SettingsError
from ..output import REPORT_FILE, write_result
from ..progress import ProgressCallback, Reporter
from ..settings import Settings
from .cases import SUMMARY_FILE, Case
from .exits import EXIT_FAILED, EXIT_NO_HEART, EXIT_OK, one_line, stop_token, stopped_by_signals, warn
from .progress import ProgressBar

if TYPE_CHECKING:
    from ..pipeline import Segmenter

_COLUMNS = [
    "case",
    "status",
    "seconds (s)",
    "message",
    *(f"{k} volume (mL)" for k in KEYS),
    "MYO mass (g)",
    "AO diameter (mm)",
    "PA diameter (mm)",
    "errors",
    "warnings",
    "path",
]
_FATAL = (ModelError, SettingsError, DependencyError)
"""What would befall every scan alike: it ends the batch."""
_SHAPING = ("structures", "locate", "reorient", "clean_up", "accurate", "tile_step", "label_map")
"""Settings that change what comes out; the others change how long it takes."""
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Job:
    """What every process needs to know."""

    output: Path
    model: str | None
    model_path: Path
    settings: Settings
    formats: tuple[str, ...] | None
    overwrite: bool
    resume: bool


def run_batch(cases: list[Case], args: argparse.Namespace, settings: Settings, formats: tuple[str, ...] | None) -> int:
    """Segment all cases into ``OUT/<name>/`` and write ``OUT/summary.csv``; returns the exit code."""
    from ..models.store import find_model

    _check_batch_output(args.output, args.resume or args.overwrite)
    label_map = dict(settings.label_map) if settings.label_map else None
    model_path = find_model(args.model, label_map=label_map).path  # fail before the first scan
    job = Job(args.output, args.model, model_path, settings, formats, args.overwrite, args.resume)
    made = [p for p in (job.output, *job.output.parents) if not p.exists()]
    _make(job.output)
    rows: dict[str, dict[str, Any]] = {}
    try:
        with contextlib.closing(_rows(cases, job, args.jobs)) as coming:
            for row in coming:
                stop_token().check()
                rows[row["case"]] = row
                _write_summary(job.output, cases, rows)
                text = f"[{len(rows)}/{len(cases)}] {row['case']}: {row['status']}"
                warn(f"{text} - {row['message']}" if row["message"] else text)
    except BaseException:
        for folder in made:  # only those that are empty
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    if args.json:
        print(json.dumps([rows[c.name] for c in cases], indent=2))
    else:
        print(f"{len(cases)} scan(s), summary in {job.output / SUMMARY_FILE}")
    return _exit_code([rows[c.name] for c in cases])


def _exit_code(rows: list[dict[str, Any]]) -> int:
    if any(row["status"] == "failed" for row in rows):
        return EXIT_FAILED
    return EXIT_NO_HEART if all("no-heart" in row["errors"].split() for row in rows) else EXIT_OK


def _check_batch_output(folder: Path, go_on: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"output {folder} is a file: choose a folder")
    if folder.is_dir() and any(folder.iterdir()) and not go_on:
        raise OutputError(f"output folder {folder} is not empty: add --resume to go on, or --overwrite to start anew")


def _make(folder: Path) -> None:
    """Make the folder and see that something can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"output folder {folder} cannot be written to ({error.strerror}): choose another") from error


def _rows(cases: list[Case], job: Job, jobs: int) -> Generator[dict[str, Any], None, None]:
    """Summary rows as they come."""
    if jobs > 1 and len(cases) > 1:
        yield from _in_processes(cases, job, min(jobs, len(cases)))
        return
    with ProgressBar() as bar:
        worker = Worker(job, bar if sys.stderr.isatty() else None)
        for case in cases:
            yield worker.run(case)


class Worker:
    """One process's share of the work, with its model kept warm."""

    def __init__(self, job: Job, progress: ProgressCallback | None = None) -> None:
        self.job = job
        self.progress = progress
        self._segmenter: Segmenter | None = None

    def run(self, case: Case) -> dict[str, Any]:
        """Segment one case; whatever goes wrong with it ends up in the row.

        Raises:
            ModelError, SettingsError, DependencyError: the next scan would fail in the same way.
            Cancelled: the user stopped the run.
        """
        started = time.perf_counter()
        try:
            status, report = self._segment(case)
            message = "" if report["heart_found"] else "no heart was found"
        except (Cancelled, *_FATAL):
            raise
        except Exception as error:  # one bad scan must not stop the rest; the row says what happened
            status, report, message = "failed", None, one_line(error)
        return summary_row(case, status, time.perf_counter() - started, message, report)

    def _segment(self, case: Case) -> tuple[str, dict]:
        from ..volume.reading import read_volume

        output = self.job.output / case.name
        earlier = finished_report(output, case) if self.job.resume else None
        if earlier is not None and _made_alike(earlier, self.job):
            return "done before", earlier
        reporter = Reporter(self.progress, stop_token())
        with reporter.stage("read"):
            volume = read_volume(case.path, series=case.series, frame=case.frame, modality=case.modality)
        result = self._warm().segment(volume, reporter=reporter)
        overwrite = self.job.overwrite or self.job.resume
        write_result(result, volume, output, self.job.formats, overwrite, reporter)
        report = json.loads((output / REPORT_FILE).read_text(encoding="utf-8"))
        return ("done" if result.heart_found else "no heart"), report

    def _warm(self) -> Segmenter:
        if self._segmenter is None:
            from ..pipeline import Segmenter

            try:
                self._segmenter = Segmenter(self.job.model, self.job.settings)
            except DeviceError as error:  # not a matter of this scan
                raise SettingsError(str(error)) from error
        return self._segmenter


def finished_report(folder: Path, case: Case) -> dict | None:
    """The report of a finished run of this very scan, or ``None``: folders appear whole or not at all."""
    try:
        report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        source = report["provenance"]["input"]
        same = Path(source["path"]).resolve() == case.path.resolve() and source["frame"] == case.frame
        _ = report["findings"], report["measures"], report["heart_found"], report["provenance"]["model"]["path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if same else None


def _made_alike(report: dict, job: Job) -> bool:
    """Whether an earlier result came from the same model with settings that would give the same now."""
    provenance = report["provenance"]
    now = json.loads(json.dumps(job.settings.to_dict()))
    before = provenance.get("settings", {})
    same_model = Path(provenance["model"]["path"]) == job.model_path
    return same_model and all(before.get(name) == now[name] for name in _SHAPING)


def summary_row(case: Case, status: str, seconds: float, message: str, report: dict | None) -> dict[str, Any]:
    """One line of ``summary.csv``."""
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, "")
    row.update(
        {
            "case": case.name,
            "status": status,
            "seconds (s)": round(seconds, 2),
            "message": message,
            "path": str(case.path),
        }
    )
    if report is None:
        return row
    columns = {("volume", k): f"{k} volume (mL)" for k in KEYS}
    columns |= {
        ("mass", "MYO"): "MYO mass (g)",
        ("diameter", "AO"): "AO diameter (mm)",
        ("diameter", "PA"): "PA diameter (mm)",
    }
    for m in report["measures"]:
        name = columns.get((m["quantity"], m["structure"]))
        if name and m["value"] is not None:
            row[name] = round(m["value"], 2)
    for severity in ("error", "warning"):
        codes = [
            f["code"] + (f":{f['structure']}" if f.get("structure") else "")
            for f in report["findings"]
            if f["severity"] == severity
        ]
        row[f"{severity}s"] = " ".join(codes)
    return row


def _write_summary(folder: Path, cases: list[Case], rows: dict[str, dict]) -> None:
    """Rewrite the summary whole, so that a kill leaves a complete one."""
    temporary = folder / f".{SUMMARY_FILE}-{os.getpid()}"
    try:
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(rows[c.name] for c in cases if c.name in rows)
        temporary.replace(folder / SUMMARY_FILE)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {folder / SUMMARY_FILE} ({error.strerror}): free some space, then add --resume"
        ) from error


def _serve(connection: Connection, job: Job) -> None:
    """A worker process: takes cases until it gets ``None``; gives back rows, or the error that ends the batch."""
    worker = Worker(job)
    try:
        with stopped_by_signals():
            while (case := connection.recv()) is not None:
                try:
                    connection.send(worker.run(case))
                except _FATAL as error:
                    connection.send(error)
    except (EOFError, OSError, KeyboardInterrupt, Cancelled):  # the batch is over, or its process is gone
        return


class _Process:
    """One worker process and what it is doing."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self.process.start()
        theirs.close()
        self.case: Case | None = None
        self._started = 0.0

    def give(self, case: Case) -> None:
        """Start on a case; a process that died meanwhile shows when it is asked for the outcome."""
        self.case, self._started = case, time.perf_counter()
        with contextlib.suppress(OSError):
            self.connection.send(case)

    def outcome(self) -> dict[str, Any]:
        """The row of the case at hand; raises what ends the batch."""
        case, self.case = self.case, None
        assert case is not None
        try:
            found = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            text = f"its process died (exit code {self.process.exitcode}; out of memory?): try again with fewer --jobs"
            return summary_row(case, "failed", time.perf_counter() - self._started, text, None)
        if isinstance(found, Exception):
            raise found
        return found

    @property
    def dead(self) -> bool:
        return not self.process.is_alive()

    def stop(self) -> None:
        """Ask the process to end: politely when idle, as Ctrl-C would when busy."""
        if self.case is not None:
            self.process.terminate()
        else:
            with contextlib.suppress(OSError):
                self.connection.send(None)

    def gone(self) -> None:
        """Wait until it has cleaned up and ended; not for ever."""
        self.process.join(_STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _in_processes(cases: list[Case], job: Job, count: int) -> Iterator[dict[str, Any]]:
    """Rows from worker processes; a process that dies costs its case, and is replaced."""
    waiting = deque(cases)
    pool: list[_Process] = []
    try:
        for _ in range(count):
            pool.append(_Process(job))
            pool[-1].give(waiting.popleft())
        while busy := {w.connection: w for w in pool if w.case}:
            for ready in wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                row = worker.outcome()
                if waiting:
                    if worker.dead:
                        pool[pool.index(worker)] = worker = _Process(job)
                    worker.give(waiting.popleft())
                yield row
    finally:
        for worker in pool:
            worker.stop()
        for worker in pool:
            worker.gone()
