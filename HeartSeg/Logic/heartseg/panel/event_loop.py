"""Event loop between worker and window: a timer that performs one short step at a time on the main thread."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import qt

from ..errors import Cancelled
from .worker import Failed, Finished, Job, Progressed, Stopped, Work, Worker, describe_failure

INTERVAL_MS = 5
"""Pause between two turns, during which the application draws and handles input."""
WAIT_SECONDS = 0.02
"""Time that a turn waits for events of the worker. Slicer's main thread holds the GIL in the application's event loop,
so the worker can run Python code only during these waits and in operations that release the GIL."""
LAST_WAIT_SECONDS = 2.0
"""Time that a closing panel waits for a cancelled job; a thread that still runs when Python exits may crash it."""

Steps = Generator[Any, None, Any]


@dataclass(frozen=True)
class Handlers:
    """Callbacks of a job on the main thread; exactly one of the last three is called, once.

    Attributes:
        progressed: called with a :class:`~heartseg.progress.ProgressEvent`.
        finished: called with the result of the work. If it returns a generator, the loop takes one step per turn and
            calls ``done`` with the value of the generator.
        done: called with the final value.
        failed: called with the error and its traceback as text.
        stopped: called after a cancel.
    """

    progressed: Callable[[Any], None]
    finished: Callable[[Any], Any]
    done: Callable[[Any], None]
    failed: Callable[[BaseException, str], None]
    stopped: Callable[[], None]


class _Collector:
    """Restricts Python's garbage collector to the main thread while the worker runs.

    The collector runs on any thread that allocates memory. On the worker it would delete widgets and MRML nodes, which
    belong to the main thread.
    """

    def __init__(self) -> None:
        self._held, self._turns = False, 0

    def hold(self) -> None:
        """Run the collector only in :meth:`collect` from now on; no effect if it is already disabled."""
        if not self._held and gc.isenabled():
            gc.disable()
            self._held = True

    def collect(self) -> None:
        """Collect the young generation (at most a millisecond), and sometimes an older one."""
        self._turns += 1
        if self._held:
            gc.collect(1 if self._turns % 30 == 0 else 0)

    def release(self) -> None:
        """Enable automatic collection again."""
        if self._held:
            gc.enable()
            self._held = False


class EventLoop:
    """Runs jobs for the window: collects events of the worker and performs steps on the main thread.

    Turns never nest: a turn triggered inside another one (by an observer that calls ``processEvents``) does nothing.
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
        """Submit a job to the worker."""
        self._collector.hold()
        job = self._worker.submit(title, work)
        self._handlers[job] = handlers
        self._timer.start()
        return job

    def close(self) -> None:
        """Cancel all jobs and make no more callbacks; closing an unfinished generator undoes its steps."""
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
        """Handle the events of the worker, then take one step."""
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
        """Run a function for a job on this thread; an exception ends the job like an exception on the worker."""
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
