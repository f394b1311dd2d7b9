"""Worker processes: each reads and segments scans with its own warm model, and may die without harm to the rest."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, DependencyError, DeviceError, ModelError, SettingsError, one_line
from ..output import REPORT_FILE, write_result
from ..progress import ProgressCallback, ProgressEvent, Reporter
from ..settings import Settings
from .cases import Case
from .exits import stop_token, stopped_by_signals
from .finished import choices_of, finished_report, key_of
from .summary import SummaryRow

if TYPE_CHECKING:
    from ..pipeline import Segmenter

FATAL = (ModelError, SettingsError, DependencyError)
"""What would happen to every scan alike: it ends the batch."""
_STOP_SECONDS = 30.0
_POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """What every process needs to know.

    Attributes:
        output: folder of the results.
        model, model_hash: as the user named it, and the hash of its files.
        settings, formats: of the runs.
        overwrite, resume: what happens to earlier results.
        anonymize: whether to omit patient names and paths from the results.
        time_limit: seconds per scan, ``None`` for no limit.
    """

    output: Path
    model: str | None
    model_hash: str
    settings: Settings
    formats: tuple[str, ...] | None
    overwrite: bool
    resume: bool
    anonymize: bool = False
    time_limit: float | None = None


class Worker:
    """One process's share of the work, with its model kept warm."""

    def __init__(self, job: Job, progress: ProgressCallback | None = None) -> None:
        self.job = job
        self.progress = progress
        self._segmenter: Segmenter | None = None

    def run(self, case: Case) -> SummaryRow:
        """Segment one case; whatever goes wrong with it ends up in the row.

        Raises:
            ModelError, SettingsError, DependencyError: the next scan would fail in the same way.
            Cancelled: the user stopped the run.
        """
        started = time.perf_counter()
        try:
            status, report = self._segment(case)
            message = "" if report["heart_found"] else "no heart was found"
        except (Cancelled, *FATAL):
            raise
        except MemoryError:
            status, report, message = "failed", None, "out of memory: crop the scan around the heart"
        except Exception as error:  # one bad scan must not stop the rest; the row says what happened
            status, report, message = "failed", None, _message(error, self.job.anonymize)
        row = _row(case, self.job, status, time.perf_counter() - started, message)
        return row if report is None else row.with_report(report)

    def _segment(self, case: Case) -> tuple[str, dict[str, Any]]:
        from ..volume.reading import read_volume

        job, output = self.job, self.job.output / case.name
        choices = choices_of(case, job.settings, job.model_hash, job.formats, job.anonymize)
        earlier = finished_report(output, case, choices) if job.resume else None
        if earlier is not None:
            return "done before", earlier
        reporter = Reporter(self.progress, stop_token())
        with reporter.stage("read"):
            volume = read_volume(case.path, series=case.series, frame=case.frame, modality=case.modality)
            key = key_of(case, choices)
        volume = volume.anonymized() if job.anonymize else volume
        result = self._warm().segment(volume, reporter=reporter)
        extra = {"case": key.to_dict()}
        write_result(result, volume, output, job.formats, job.overwrite or job.resume, reporter, extra)
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


def _serve(connection: Connection, job: Job) -> None:
    """A worker process: takes cases until it gets ``None``; gives back events, and a row or the error for each case."""

    def tell(event: ProgressEvent) -> None:
        connection.send(event)

    worker = Worker(job, tell)
    try:
        with stopped_by_signals():
            while (case := connection.recv()) is not None:
                try:
                    connection.send(worker.run(case))
                except FATAL as error:
                    connection.send(error)
    except (EOFError, OSError, KeyboardInterrupt, Cancelled):  # the batch is over, or its process is gone
        return


class _Process:
    """A worker process and its current job."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self.process.start()
        theirs.close()
        self.case: Case | None = None
        self.stage = ""
        self._job = job
        self._started = 0.0

    def give(self, case: Case) -> None:
        """Start on a case; a process that died meanwhile shows when it is asked for the outcome."""
        self.case, self.stage, self._started = case, "", time.monotonic()
        with contextlib.suppress(OSError):
            self.connection.send(case)

    def hear(self, progress: ProgressCallback | None) -> SummaryRow | None:
        """The row of the case at hand, or ``None`` for an event on the way; raises what ends the batch."""
        try:
            found = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(_STOP_SECONDS)
            return self._failed(_death(self.process.exitcode, self.stage))
        if isinstance(found, ProgressEvent):
            if found.stage != self.stage and not self.stage:
                self._started = time.monotonic()  # what came before was the start of the process
            self.stage = found.stage
            if progress is not None:
                progress(found)
            return None
        self.case = None
        if isinstance(found, Exception):
            raise found
        return found

    def over_time(self) -> SummaryRow | None:
        """The row of a case that takes longer than it may; its process is ended."""
        limit = self._job.time_limit
        if limit is None or self.case is None or time.monotonic() - self._started < limit:
            return None
        self.process.kill()
        self.process.join()
        where = f" (in stage '{self.stage}')" if self.stage else ""
        return self._failed(
            f"stopped after {limit / 60:.3g} minutes{where}: raise --time-limit, or look at the scan by itself"
        )

    def _failed(self, message: str) -> SummaryRow:
        case, self.case = self.case, None
        assert case is not None
        return _row(case, self._job, "failed", time.monotonic() - self._started, message)

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


def _row(case: Case, job: Job, status: str, seconds: float, message: str) -> SummaryRow:
    return SummaryRow(case.name, status, seconds, message, "" if job.anonymize else str(case.path))


def _message(error: Exception, anonymize: bool) -> str:
    """Why a scan failed; errors name files and series, so that anonymised results hold the kind of error only."""
    return f"{type(error).__name__}: run heartseg check on this scan" if anonymize else one_line(error)


def _death(code: int | None, stage: str) -> str:
    """Why a process ended, as its exit code and last stage tell."""
    number = -code if code is not None and code < 0 else 0
    name = signal.Signals(number).name if number in {int(s) for s in signal.Signals} else f"exit code {code}"
    if number == getattr(signal, "SIGKILL", 9):
        return f"its process was killed ({name}), by the system if memory ran out: try fewer --jobs, or a smaller scan"
    if stage in ("", "read"):
        return f"its process crashed ({name}) while the scan was read: the file is damaged, export it again"
    return f"its process crashed ({name}) in stage '{stage}': try the scan by itself with heartseg -v"


def rows_from_processes(
    cases: list[Case], job: Job, count: int, progress: ProgressCallback | None = None
) -> Generator[SummaryRow, None, None]:
    """Rows from worker processes; a process that dies or takes too long costs its case, and is replaced.

    Args:
        cases: each gets one row, in the order in which they end.
        job: what to do with them.
        count: number of processes.
        progress: called with the events of all processes.
    """
    waiting = deque(cases)
    pool: list[_Process] = []
    try:
        for _ in range(min(count, len(cases))):
            pool.append(_Process(job))
            pool[-1].give(waiting.popleft())
        while busy := {w.connection: w for w in pool if w.case}:
            ready = wait(list(busy), timeout=_POLL_SECONDS if job.time_limit is None else min(1.0, _POLL_SECONDS))
            stop_token().check()
            for worker in list(busy.values()):
                row = worker.hear(progress) if worker.connection in ready else worker.over_time()
                if row is None:
                    continue
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
