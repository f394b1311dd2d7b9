"""Read and segment in child processes, so that a crash, a hang or a lack of memory becomes a message of one line.

ITK, GDCM and the libraries below them can end a process on a damaged file. The commands ``segment``, ``check``,
``explain`` and ``refine`` therefore read scans in a child process; the others and the Python API read in their own.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from ..errors import Cancelled, HeartSegError, InputError, one_line
from ..progress import ProgressCallback, ProgressEvent, Reporter
from .exits import EXIT_FAILED, stop_token, stopped_by_signals

T = TypeVar("T")

_SIGKILL = int(getattr(signal, "SIGKILL", 9))
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")
"""Signals that a fault of the process itself raises."""
_STOP_SECONDS = 30.0
_TERMINATE_SECONDS = 5.0
_POLL_SECONDS = 1.0


class ProcessError(HeartSegError):
    """A child process ended without a result: stopped, out of memory, over its time limit, or crashed."""

    exit_code = EXIT_FAILED


@dataclass(frozen=True)
class Answer:
    """Outcome of one task.

    Attributes:
        value: what the task returned.
        error: the exception that it raised, or ``None``.
        end: why the process ended before it answered, else ``""``.
        damaged: whether it crashed while the scan was read, so that the scan is to blame.
        late: whether it was over its time limit.
    """

    value: Any = None
    error: Exception | None = None
    end: str = ""
    damaged: bool = False
    late: bool = False


class Child:
    """A child process that works on one task after the other.

    Args:
        make: called in the child with a function that reports progress; returns the function that does a task.
        limit: seconds for a task, ``None`` for no limit. The start of the process does not count.
    """

    def __init__(self, make: Callable[[ProgressCallback], Callable[[Any], Any]], limit: float | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        verbose = logging.getLogger().isEnabledFor(logging.INFO)
        self.process = context.Process(target=_serve, args=(theirs, make, verbose), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Any = None
        self.stage = ""
        self.started = time.monotonic()
        self._limit = limit

    def give(self, task: Any) -> None:
        """Start on a task; if the process has died, :meth:`hear` says so."""
        self.task, self.stage, self.started = task, "", time.monotonic()
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def hear(self, progress: ProgressCallback | None) -> Answer | None:
        """Receive one message: the answer, or ``None`` for a progress event."""
        try:
            found = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(_STOP_SECONDS)
            self.task = None
            return _why_ended(self.process.exitcode, self.stage)
        if isinstance(found, ProgressEvent):
            if found.stage != self.stage and not self.stage:
                self.started = time.monotonic()  # the process has started
            self.stage = found.stage
            if progress is not None:
                progress(found)
            return None
        self.task = None
        return found

    def over_time(self) -> Answer | None:
        """End the process if its task takes longer than allowed."""
        if self._limit is None or self.task is None or time.monotonic() - self.started < self._limit:
            return None
        self.process.terminate()  # removes its temporary files, unless it hangs inside a library
        self.process.join(_TERMINATE_SECONDS)
        self.process.kill()
        self.process.join()
        where = f" (in stage '{self.stage}')" if self.stage else ""
        self.task = None
        return Answer(
            end=f"stopped after {self._limit / 60:.3g} minutes{where}: raise --time-limit, or check the scan with "
            "heartseg check",
            late=True,
        )

    def ask(self, task: Any, progress: ProgressCallback | None = None) -> Answer:
        """Give a task and wait for its answer; raises ``Cancelled``."""
        self.give(task)
        answer = None
        while answer is None:
            ready = wait([self.connection], timeout=_POLL_SECONDS)
            stop_token().check()
            answer = self.hear(progress) if ready else self.over_time()
        return answer

    @property
    def dead(self) -> bool:
        return not self.process.is_alive()

    def stop(self) -> None:
        """Ask the process to end: politely when idle, as Ctrl-C would when busy."""
        if self.task is not None:
            self.process.terminate()
        else:
            with contextlib.suppress(OSError):
                self.connection.send(None)

    def gone(self) -> None:
        """Wait until the process has cleaned up and ended; kill it after 30 s."""
        self.process.join(_STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def in_child(work: Callable[[Reporter], T], progress: ProgressCallback | None, limit: float | None = None) -> T:
    """Call a function in a child process and return its value.

    Args:
        work: picklable function (of a module, or ``functools.partial``); its value must be picklable too.
        progress: called here with the events that the function reports.
        limit: seconds, ``None`` for no limit.

    Raises:
        InputError: the process crashed while the scan was read.
        ProcessError: it crashed before or later, was stopped, ran out of memory, or over its time limit.
        Exception: whatever the function raised.
    """
    with contextlib.closing(answers([work], progress, limit)) as coming:
        return value_of(next(coming))


def answers(
    works: Iterable[Callable[[Reporter], Any]], progress: ProgressCallback | None = None, limit: float | None = None
) -> Generator[Answer, None, None]:
    """Call functions one after the other in a child process, which is replaced if it dies; yield an answer for each.

    Args:
        works, progress, limit: as for :func:`in_child`.
    """
    child: Child | None = None
    try:
        for work in works:
            if child is None or child.dead:
                child = Child(_one_task, limit)
            yield child.ask(work, progress)
    finally:
        if child is not None:
            child.stop()
            child.gone()


def value_of(answer: Answer) -> Any:
    """Return the value of an answer; raises as :func:`in_child`."""
    if answer.error is not None:
        raise answer.error
    if answer.end:
        raise InputError(answer.end) if answer.damaged else ProcessError(answer.end)
    return answer.value


def _one_task(tell: ProgressCallback) -> Callable[[Callable[[Reporter], Any]], Any]:
    return lambda work: work(Reporter(tell, stop_token()))


def _serve(
    connection: Connection, make: Callable[[ProgressCallback], Callable[[Any], Any]], verbose: bool = False
) -> None:
    """Run in the child: take tasks until ``None``; send back progress events, and an :class:`Answer` for each task."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s")
    logging.captureWarnings(True)
    try:
        with stopped_by_signals():
            threading.Thread(target=_end_with_parent, daemon=True).start()
            do = make(connection.send)
            while (task := connection.recv()) is not None:
                connection.send(_answer(do, task, verbose))
    except (EOFError, OSError, KeyboardInterrupt, Cancelled):  # stopped, or the parent has ended
        return


def _answer(do: Callable[[Any], Any], task: Any, verbose: bool) -> Answer:
    try:
        return Answer(do(task))
    except Cancelled:
        raise
    except Exception as error:
        if verbose and not isinstance(error, HeartSegError):
            logging.exception("details")
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - bytes of the line itself
        except Exception:  # an exception of a library with arguments of its own
            return Answer(error=RuntimeError(one_line(error)))
        return Answer(error=error)


def _end_with_parent() -> None:
    """Stop this process as Ctrl-C would when its parent has ended, e.g. by kill -9."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        signal.raise_signal(signal.SIGTERM)


def _why_ended(code: int | None, stage: str) -> Answer:
    """Say why a process ended without an answer, from its exit code and last stage."""
    number = -code if code is not None and code < 0 else 0
    name = signal.Signals(number).name if number in {int(s) for s in signal.Signals} else f"exit code {code}"
    where = f" in stage '{stage}'" if stage else " before the scan was read"
    if code is None:
        return Answer(end=f"its process stopped answering{where}: try the scan by itself with heartseg -v")
    if number == _SIGKILL:
        return Answer(
            end=f"its process was killed ({name}){where}, by the system if memory ran out: close other programs, try "
            "fewer --jobs, or crop the scan around the heart"
        )
    if code == 0 or (number and name not in _CRASHES):  # it ends with 0 after SIGTERM and SIGINT
        by = f" ({name})" if number else ""
        return Answer(end=f"its process was stopped from outside{by}{where}: run the command again")
    if stage == "read":
        end = f"its process crashed ({name}) while the scan was read: the file is damaged, export it again"
        return Answer(end=end, damaged=True)
    advice = "try the scan by itself with heartseg -v" if stage else "check the installation with heartseg doctor"
    return Answer(end=f"its process crashed ({name}){where}: {advice}")
