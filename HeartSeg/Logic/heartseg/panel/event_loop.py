"""Between the worker and the window: a timer that takes one small turn at a time on the main thread."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import qt

from ..errors import Cancelled
from .worker import Failed, Finished, Job, Progressed, Stopped, Work, Worker, describe_failure

INTERVAL_MS = 5
"""Pause between two turns, in which the application draws and takes clicks."""
WAIT_SECONDS = 0.02
"""How long a turn waits for news from the worker. Slicer's main thread keeps Python's lock while it is in the
application's event loop, so that the worker computes in these waits and in what gives the lock away by itself."""
LAST_WAIT_SECONDS = 2.0
"""How long a panel that is closed waits for a cancelled job: a thread that lives on when Python ends may crash it."""

Steps = Generator[Any, None, Any]


@dataclass(frozen=True)
class Handlers:
    """What is called on the main thread as a job goes on; exactly one of the last three is called, once.

    Attributes:
        progressed: with a :class:`~heartseg.progress.ProgressEvent`.
        finished: with what the work returned. It may be a generator function's generator: the loop then takes one
            step per turn, and calls ``done`` with the generator's value.
        done: with the value, when all is over.
        failed: with the error and its traceback as text.
        stopped: after a cancel.
    """

    progressed: Callable[[Any], None]
    finished: Callable[[Any], Any]
    done: Callable[[Any], None]
    failed: Callable[[BaseException, str], None]
    stopped: Callable[[], None]


class _Collector:
    """Keeps Python's garbage collector on the main thread while the worker works.

    It runs on whatever thread happens to allocate, and then deletes what it finds there: widgets and MRML nodes too,
    which belong to the main thread.
    """

    def __init__(self) -> None:
        self._held, self._turns = False, 0

    def hold(self) -> None:
        """From now on it runs in :meth:`collect` only; nothing happens where somebody else has switched it off."""
        if not self._held and gc.isenabled():
            gc.disable()
            self._held = True

    def collect(self) -> None:
        """Take away what is young: a millisecond at most; now and then what is older."""
        self._turns += 1
        if self._held:
            gc.collect(1 if self._turns % 30 == 0 else 0)

    def release(self) -> None:
        """Leave it to itself again."""
        if self._held:
            gc.enable()
            self._held = False


class EventLoop:
    """Runs jobs for the window: collects the worker's events, and steps through what must be done on this thread.

    A turn that causes another one (an observer that calls ``processEvents``) does nothing: turns never nest.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._handlers: dict[Job, Handlers] = {}
        self._steps: list[tuple[Job, Steps]] = []
        self._turning = False
        self._collector = _Collector()
        self._timer = qt.QTimer()
        self._timer.interval = INTERVAL_MS
        self._timer.connect("timeout()", self.turn)

    def submit(self, title: str, work: Work, handlers: Handlers) -> Job:
        """Hand a job to the worker."""
        self._collector.hold()
        job = self._worker.submit(title, work)
        self._handlers[job] = handlers
        self._timer.start()
        return job

    def close(self) -> None:
        """Cancel everything and call nobody any more; half-done steps are closed, which undoes them."""
        self._timer.stop()
        for job in self._handlers:
            job.token.cancel()
        for _, steps in self._steps:
            steps.close()
        self._handlers.clear()
        self._steps.clear()
        self._collector.release()
        self._worker.close(LAST_WAIT_SECONDS)

    def turn(self) -> None:
        """One turn: what the worker tells, then one step."""
        if self._turning:
            return
        self._turning = True
        try:
            for event in self._worker.events():
                self._dispatch(event)
            if self._steps:
                self._step(*self._steps[0])
        finally:
            self._turning = False
        if self._handlers:
            self._collector.collect()
            if not self._steps:
                self._worker.wait(WAIT_SECONDS)
        else:
            self._timer.stop()
            self._collector.release()

    def _dispatch(self, event: Any) -> None:
        handlers = self._handlers.get(event.job)
        if handlers is None:
            return
        if isinstance(event, Progressed):
            handlers.progressed(event.event)
        elif isinstance(event, Failed):
            self._end(event.job).failed(event.error, event.trace)
        elif isinstance(event, Stopped) or event.job.token.cancelled:
            self._end(event.job).stopped()
        elif isinstance(event, Finished):
            self._guarded(event.job, lambda: self._finish(event.job, handlers, event.value))

    def _finish(self, job: Job, handlers: Handlers, value: Any) -> None:
        outcome = handlers.finished(value)
        if isinstance(outcome, Generator):
            self._steps.append((job, outcome))
        else:
            self._end(job).done(outcome)

    def _step(self, job: Job, steps: Steps) -> None:
        def take() -> None:
            job.token.check()
            try:
                next(steps)
            except StopIteration as end:
                self._steps.remove((job, steps))
                self._end(job).done(end.value)

        self._guarded(job, take)

    def _guarded(self, job: Job, act: Callable[[], None]) -> None:
        """Do something for a job on this thread; what it raises ends the job as if the worker had raised it."""
        try:
            act()
        except Cancelled:
            self._drop_steps(job)
            if job in self._handlers:
                self._end(job).stopped()
        except Exception as error:
            self._drop_steps(job)
            if job not in self._handlers:
                raise
            self._end(job).failed(error, describe_failure(error))

    def _drop_steps(self, job: Job) -> None:
        for entry in [e for e in self._steps if e[0] is job]:
            self._steps.remove(entry)
            entry[1].close()

    def _end(self, job: Job) -> Handlers:
        return self._handlers.pop(job)
