"""Exit codes, one-line errors, and handling of Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ..progress import CancelToken

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NO_HEART, EXIT_CANCELLED = 0, 1, 2, 3, 130

EXIT_CODES = """\
exit codes:
  0    done
  1    some scans of a batch failed (listed in summary.csv)
  2    invalid input or setting, reported in one line on standard error; nothing was written
  3    no heart was found (files are written nevertheless)
  130  stopped with Ctrl-C or SIGTERM; no partial output is left"""

NOTHING_LEFT, CONTINUES = "no partial output was left", "the same command continues"
"""What a stopped command leaves; a command that continues sets ``after_stop`` in its parser's defaults."""

_stop = CancelToken()
_AGAIN_SECONDS = 0.05
"""A signal that comes during an import is repeated until the import is over."""


def stop_token() -> CancelToken:
    """Cancellation token of this process, set by Ctrl-C and SIGTERM."""
    return _stop


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` in the block on Ctrl-C and SIGTERM, so that temporary files are removed.

    Python ignores exceptions raised in destructors and in callbacks from C, which large libraries use. The signal
    therefore also sets the cancellation token, and the run stops at its next check.
    """
    global _stop
    _stop = CancelToken()
    before: dict[int, Any] = {}
    restoring = threading.Lock()

    def repeat(signum: int) -> None:
        with restoring:  # once the block has ended, the signal would meet the handlers of before, and end the process
            if before:
                signal.raise_signal(signum)

    def interrupt(signum: int, frame: FrameType | None) -> None:
        _stop.cancel()
        if _is_importing(frame):  # an extension module that is half loaded crashes when the interpreter ends
            timer = threading.Timer(_AGAIN_SECONDS, repeat, (signum,))
            timer.daemon = True
            timer.start()
            return
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:  # ignored by the shell, e.g. for background jobs
            continue
        with suppress(ValueError):  # not on the main thread: the calling program handles signals
            before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        with restoring:
            while before:
                signal.signal(*before.popitem())


def _is_importing(frame: FrameType | None) -> bool:
    """Whether the interrupted code is part of an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def warn(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)
