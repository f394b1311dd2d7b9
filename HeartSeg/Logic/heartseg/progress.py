"""Progress and cancellation: one small object that travels down through every step.

A run owns one :class:`Reporter`. Steps open a stage, advance it, and by doing so also give the user the chance to
cancel. Nothing here is global, and nothing prints.
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
    """One sign of life.

    Attributes:
        stage: name of the step, e.g. ``"predict"``; the steps of a run come in the order of :data:`STAGES`.
        done: work units finished in this stage.
        total: work units of this stage, at least 1.
        seconds_left: estimate for this stage, from its own pace; ``None`` until one unit is done.
        message: an announcement for the user ("out of GPU memory: continuing on the CPU"); empty otherwise.
    """

    stage: str
    done: int
    total: int
    seconds_left: float | None = None
    message: str = ""

    @property
    def fraction(self) -> float:
        """Share of the stage that is done, 0 to 1."""
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
"""Stages of a run in order, for programs that draw one bar for all of them; no run has all of them."""

ProgressCallback = Callable[[ProgressEvent], None]


class CancelToken:
    """A flag that any thread may raise; work checks it between tiles."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the run to stop at its next check."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep so long, or until the user asks to stop; returns whether they did."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raise :class:`~heartseg.errors.Cancelled` if the user has asked to stop."""
        if self._event.is_set():
            raise Cancelled("cancelled by the user")


class Reporter:
    """Carries progress up and cancellation down, and keeps the time of every stage.

    Args:
        callback: called with a :class:`ProgressEvent`, on the thread that does the work.
        cancel: token to check; a fresh one is made when omitted.
    """

    def __init__(self, callback: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        self._callback = callback
        self.cancel = cancel or CancelToken()
        self.seconds: dict[str, float] = {}
        self.announcements: list[str] = []
        self._stage, self._total, self._done, self._started = "", 1, 0, 0.0

    @contextmanager
    def stage(self, name: str, total: int = 1) -> Iterator[Reporter]:
        """Open a stage of ``total`` units; its wall time is added to ``seconds[name]``. Stages may nest."""
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
        """Report that ``done`` units of the open stage are finished; raises ``Cancelled`` if the user asked to stop."""
        self.cancel.check()
        self._done = done
        if self._callback is None:
            return
        elapsed = time.perf_counter() - self._started
        left = elapsed / done * (self._total - done) if done else None
        self._callback(ProgressEvent(self._stage, done, self._total, left))

    def step(self, count: int = 1) -> None:
        """Report that ``count`` more units of the open stage are finished; raises ``Cancelled`` as :meth:`advance`."""
        self.advance(self._done + count)

    def relay(self, event: ProgressEvent) -> None:
        """Pass on an event of a run elsewhere (another process); raises ``Cancelled`` if the user asked to stop."""
        self.cancel.check()
        if event.message:
            self.announcements.append(event.message)
        if self._callback is not None:
            self._callback(event)

    def check(self) -> None:
        """Raise ``Cancelled`` if the user asked to stop, without reporting progress."""
        self.cancel.check()

    def announce(self, message: str) -> None:
        """Tell the user something that changes what they get or how long it takes; it also enters the report."""
        logger.warning(message)
        self.announcements.append(message)
        if self._callback is not None:
            self._callback(ProgressEvent(self._stage, 0, self._total, None, message))
