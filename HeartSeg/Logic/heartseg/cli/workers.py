"""Worker processes: each reads and segments scans with its own warm model, and may die without harm to the rest."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..devices import cpu_cores, cpu_threads
from ..errors import Cancelled, DependencyError, DeviceError, ModelError, SettingsError, one_line
from ..formats import REPORT_FILE
from ..progress import ProgressCallback, Reporter
from ..settings import Settings
from ..volume.checks import available_memory
from .cases import Case
from .exits import stop_token
from .finished import choices_of, finished_report, key_of, model_hash
from .processes import Answer, Child
from .summary import SummaryRow

if TYPE_CHECKING:
    from ..pipeline import Segmenter

FATAL = (ModelError, SettingsError, DependencyError)
"""What would happen to every scan alike: it ends the batch."""
MOST_PROCESSES = 4
"""Most processes by default. Two overlap reading, computing and writing; each has a model, also on a graphics card."""
PROCESS_BYTES = 2 * 2**30
"""Main memory of a process: for a scan of 512 x 512 x 300 voxels with all files 1.0 to 1.2 GB, for others up to 2."""
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


RowSource = Callable[[list[Case], Job], Generator[SummaryRow, None, None]]
"""Segments cases and yields their rows, one per case, in the order in which they end."""


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
        from ..output import write_result

        job, output = self.job, self.job.output / case.name
        choices = choices_of(case, job.settings, job.model_hash, job.formats, job.anonymize)
        earlier = finished_report(output, case, choices) if job.resume else None
        if earlier is not None:
            return "done before", earlier
        reporter = Reporter(self.progress, stop_token())
        with reporter.stage("read"):
            volume = case.read()
            key = key_of(case, choices)
        volume = volume.anonymized() if job.anonymize else volume
        result = self._warm().segment(volume, reporter=reporter)
        extra = {"case": key.to_dict()}
        write_result(result, volume, output, job.formats, job.overwrite or job.resume, reporter, extra)
        report = json.loads((output / REPORT_FILE).read_text(encoding="utf-8"))
        return ("done" if result.heart_found else "no heart"), report

    def _warm(self) -> Segmenter:
        if self._segmenter is None:
            from ..models.store import find_model
            from ..pipeline import Segmenter

            labels = self.job.settings.label_map
            folder = find_model(self.job.model, label_map=dict(labels) if labels else None)
            if model_hash(folder) != self.job.model_hash:  # on another machine, or replaced since the run began
                raise ModelError(f"model {folder.path} is not the one that the run began with: use the same everywhere")
            try:
                self._segmenter = Segmenter(folder, self.job.settings)
            except DeviceError as error:  # not a matter of this scan
                raise SettingsError(str(error)) from error
        return self._segmenter


def runs(job: Job, tell: ProgressCallback) -> Callable[[Case], SummaryRow]:
    """Return the function that a child process calls for each case."""
    return Worker(job, tell).run


def row_of(child: Child, case: Case, job: Job, answer: Answer) -> SummaryRow:
    """Return the row of a case; raises the error that ends the batch."""
    if answer.error is not None:
        raise answer.error
    if answer.end:
        return failed_row(case, job, time.monotonic() - child.started, answer.end)
    return answer.value


def failed_row(case: Case, job: Job, seconds: float, message: str) -> SummaryRow:
    """Return the row of a case without a result."""
    return _row(case, job, "failed", seconds, message)


def _row(case: Case, job: Job, status: str, seconds: float, message: str) -> SummaryRow:
    return SummaryRow(case.name, status, seconds, message, "" if job.anonymize else str(case.path))


def _message(error: Exception, anonymize: bool) -> str:
    """Why a scan failed; errors name files and series, so that anonymised results hold the kind of error only."""
    return f"{type(error).__name__}: run heartseg check on this scan" if anonymize else one_line(error)


def processes_for(scans: int) -> int:
    """Return how many processes segment this number of scans: what cores and free memory allow, and at least one."""
    free = available_memory()
    fitting = 2 if free is None else free // PROCESS_BYTES
    return max(1, min(MOST_PROCESSES, cpu_cores(), fitting, scans))


def with_shared_cores(settings: Settings, processes: int) -> Settings:
    """Return the settings of each of several processes: unless the user chose threads, they divide the cores."""
    if processes <= 1 or settings.threads:
        return settings
    return replace(settings, threads=max(1, cpu_threads() // processes))


def rows_from_processes(
    cases: list[Case], job: Job, count: int, progress: ProgressCallback | None = None
) -> Generator[SummaryRow, None, None]:
    """Rows from worker processes; a process that dies or takes too long costs its case, and is replaced.

    Args:
        cases: each gets one row, in the order in which they end.
        job: what to do with them.
        count: number of processes, which divide the cores among them.
        progress: called with the events of all processes.
    """
    waiting = deque(cases)
    count = min(count, len(cases))
    job = replace(job, settings=with_shared_cores(job.settings, count))
    pool: list[Child] = []
    poll = _POLL_SECONDS if job.time_limit is None else min(1.0, _POLL_SECONDS)
    try:
        for _ in range(count):
            pool.append(Child(partial(runs, job), job.time_limit))
            pool[-1].give(waiting.popleft())
        while busy := {child.connection: child for child in pool if child.task}:
            ready = wait(list(busy), timeout=poll)
            stop_token().check()
            for child in list(busy.values()):
                case = child.task
                answer = child.hear(progress) if child.connection in ready else child.over_time()
                if answer is None:
                    continue
                row = row_of(child, case, job, answer)
                if waiting:
                    if child.dead:
                        pool[pool.index(child)] = child = Child(partial(runs, job), job.time_limit)
                    child.give(waiting.popleft())
                yield row
    finally:
        for child in pool:
            child.stop()
        for child in pool:
            child.gone()
