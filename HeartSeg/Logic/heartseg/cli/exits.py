"""How a run ends: exit codes, errors in one line, and SIGTERM as orderly as Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import HeartSegError
from ..progress import CancelToken

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NO_HEART, EXIT_CANCELLED = 0, 1, 2, 3, 130

EXIT_CODES = """\
exit codes:
  0    done
  1    some scans of a batch failed (summary.csv says which)
  2    bad input or setting; one line on standard error says which, and nothing was written
  3    no heart was found (files are written all the same)
  130  stopped with Ctrl-C or SIGTERM; nothing half-written is left"""


_stop = CancelToken()


def stop_token() -> CancelToken:
    """What this process's run checks between its steps: set by Ctrl-C and SIGTERM."""
    return _stop


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block with ``KeyboardInterrupt``, so that temporary files are removed.

    Python drops an exception that is raised in a destructor or a callback from C, as large libraries have many; so the
    signal also sets the token, and the run stops at its next step.
    """
    global _stop
    _stop = CancelToken()

    def interrupt(signum: int, frame: object) -> None:
        _stop.cancel()
        raise KeyboardInterrupt

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:  # as for a job in the background: the shell wants it so
            continue
        with suppress(ValueError):  # not on the main thread: the embedding program handles signals
            before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def one_line(error: BaseException) -> str:
    """An error for a summary: HeartSeg's own as they are, others with their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, HeartSegError) else f"{type(error).__name__}: {text}"


def warn(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)
