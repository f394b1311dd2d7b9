"""Worker thread that owns torch and the model, so that the window stays responsive.

All jobs share one thread, because cuDNN keeps its plans per thread. A job is a function of a
:class:`~heartseg.progress.Reporter`. Its progress and outcome are events, which the main thread collects. The worker
makes no Qt and MRML calls.
"""

from __future__ import annotations

import logging
import queue
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import Cancelled
from ..progress import CancelToken, ProgressEvent, Reporter

logger = logging.getLogger(__name__)

Work = Callable[[Reporter], Any]
"""Function of a job, called on the worker thread with a reporter for progress and cancel; returns the value."""


@dataclass(frozen=True, eq=False)
class Job:
    """A job for the worker.

    Attributes:
        title: description for the user ("Segment the heart").
        work: the function.
        token: token that stops the work at its next check.
    """

    title: str
    work: Work
    token: CancelToken


@dataclass(frozen=True)
class Progressed:
    """A job reports progress."""

    job: Job
    event: ProgressEvent


@dataclass(frozen=True)
class Finished:
    """A job succeeded; ``value`` is the return value of its work."""

    job: Job
    value: Any


@dataclass(frozen=True)
class Stopped:
    """A job was cancelled."""

    job: Job


@dataclass(frozen=True)
class Failed:
    """A job raised ``error``; ``trace`` is the traceback as text."""

    job: Job
    error: BaseException
    trace: str


Event = Progressed | Finished | Stopped | Failed


class Worker:
    """Runs jobs in order on a persistent daemon thread, which the first job starts."""

    def __init__(self, name: str = "HeartSeg worker") -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._events: deque[Event] = deque()
        self._news = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, title: str, work: Work) -> Job:
        """Queue a job. Never blocks.

        Raises:
            RuntimeError: the worker was closed.
        """
        if self._closed:
            raise RuntimeError("the worker was closed: make a new one")
        job = Job(title, work, CancelToken())
        self._jobs.put(job)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return job

    def events(self) -> list[Event]:
        """Return the events since the last call, oldest first. Never blocks."""
        self._news.clear()
        collected = []
        while self._events:
            collected.append(self._events.popleft())
        return collected

    def wait(self, seconds: float) -> None:
        """Wait for the next event, at most ``seconds``; meanwhile the worker can hold the GIL."""
        self._news.wait(seconds)

    def close(self, seconds: float = 0.0) -> None:
        """End the thread after its current job; waits at most ``seconds``. Cancel the job first."""
        self._closed = True
        self._jobs.put(None)
        if self._thread is not None and seconds > 0:
            self._thread.join(seconds)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._tell(self._outcome(job))

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._news.set()

    def _outcome(self, job: Job) -> Event:
        """Run a job. Any exception, including ``SystemExit``, ends the job but not the thread."""
        reporter = Reporter(lambda event: self._tell(Progressed(job, event)), job.token)
        try:
            reporter.check()
            return Finished(job, job.work(reporter))
        except Cancelled:
            return Stopped(job)
        except BaseException as error:
            logger.debug("job %r failed", job.title, exc_info=True)
            trace = describe_failure(error)
            return Failed(job, _without_frames(error), trace)


def describe_failure(error: BaseException) -> str:
    """Return the traceback as text, for a report."""
    return "".join(traceback.format_exception(error)).rstrip()


def _without_frames(error: BaseException) -> BaseException:
    """Remove the traceback from an error, because its frames keep tensors and arrays in memory."""
    chained: BaseException | None = error
    while chained is not None:
        chained.__traceback__ = None
        chained = chained.__cause__ or chained.__context__
    return error
