"""Progress and cancellation of a run.

A run has one :class:`Reporter`, which is passed to each step. Steps open a stage and advance it, which also checks for
cancellation. There is no global state, and nothing is printed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .errors import Cancelled

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProgressEvent:
    """A progress report.

    Attributes:
        stage: name of the stage, e.g. ``"predict"``; stages follow the order of :data:`STAGES`.
        done: finished work units of this stage.
        total: work units of this stage, at least 1.
        seconds_left: estimated time left in this stage; ``None`` until one unit is done.
        message: announcement for the user, e.g. "out of GPU memory: continuing on the CPU"; else empty.
    """

    stage: str
    done: int
    total: int
    seconds_left: float | None = None
    message: str = ""

    @property
    def fraction(self) -> float:
        """Finished fraction of the stage, 0 to 1."""
        return min(1.0, self.done / max(1, self.total))


STAGES: tuple[str, ...] = (
    "read",
    "load model",
    "sample scan",
    "locate",
    "preprocess",
    "predict",
    "average",
    "resample",
    "clean up",
    "measure",
    "explain",
    "write",
)
"""All stages in order, for programs that draw a single progress bar; a run has some of them."""

ProgressCallback = Callable[[ProgressEvent], None]


class CancelToken:
    """A thread-safe flag that requests cancellation; runs check it between tiles."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Request cancellation at the next check."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for a number of seconds or until cancellation; return whether it was cancelled."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raise :class:`~heartseg.errors.Cancelled` after a cancellation request."""
        if self._event.is_set():
            raise Cancelled("cancelled by the user")


class Reporter:
    """Reports progress, checks for cancellation and records the time of each stage.

    Args:
        callback: called with a :class:`ProgressEvent` on the thread of the run.
        cancel: token to check; by default a new one.
    """

    def __init__(self, callback: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        self._callback = callback
        self.cancel = cancel or CancelToken()
        self.seconds: dict[str, float] = {}
        self.announcements: list[str] = []
        self._stage, self._total, self._done, self._started = "", 1, 0, 0.0

    @contextmanager
    def stage(self, name: str, total: int = 1) -> Iterator[Reporter]:
        """Open a stage of ``total`` units and add its wall time to ``seconds[name]``; stages can be nested."""
        outer = (self._stage, self._total, self._done, self._started)
        self._stage, self._total, self._done, self._started = name, max(1, total), 0, time.perf_counter()
        self.advance(0)
        try:
            yield self
            self.advance(self._total)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - self._started
            self._stage, self._total, self._done, self._started = outer

    def advance(self, done: int) -> None:
        """Report that ``done`` units of the current stage are finished; raise ``Cancelled`` after a request."""
        self.cancel.check()
        self._done = done
        if self._callback is None:
            return
        elapsed = time.perf_counter() - self._started
        left = elapsed / done * (self._total - done) if done else None
        self._callback(ProgressEvent(self._stage, done, self._total, left))

    def step(self, count: int = 1) -> None:
        """Report that ``count`` more units of the current stage are finished; raises as :meth:`advance`."""
        self.advance(self._done + count)

    def relay(self, event: ProgressEvent) -> None:
        """Forward an event from a run in another process; raise ``Cancelled`` after a request."""
        self.cancel.check()
        if event.message:
            self.announcements.append(event.message)
        if self._callback is not None:
            self._callback(event)

    def check(self) -> None:
        """Raise ``Cancelled`` after a request, without reporting progress."""
        self.cancel.check()

    def announce(self, message: str) -> None:
        """Announce a change of the result or the duration to the user; it is also added to the report."""
        logger.warning(message)
        self.announcements.append(message)
        if self._callback is not None:
            self._callback(ProgressEvent(self._stage, 0, self._total, None, message))
