"""A progress bar on standard error: uses rich on a terminal if it is installed, else plain lines."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from ..progress import ProgressEvent


class ProgressBar:
    """Context manager that is callable with :class:`ProgressEvent` and restores the terminal on exit."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._rich: Any = None
        self._task: Any = None
        self._stage = ""

    def __enter__(self) -> ProgressBar:
        if sys.stderr.isatty():
            try:
                from rich.console import Console
                from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
            except ImportError:
                return self
            console = Console(stderr=True)
            columns = (TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
            self._rich = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
            self._rich.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._rich is not None:
            self._rich.stop()

    def __call__(self, event: ProgressEvent) -> None:
        if event.message:
            self._say(event.message)
            return
        if self._rich is None:
            if event.stage != self._stage:
                self._say(f"{event.stage} ...")
            self._stage = event.stage
            return
        if event.stage != self._stage:
            if self._task is not None:
                self._rich.remove_task(self._task)
            self._task = self._rich.add_task(event.stage, total=event.total)
            self._stage = event.stage
        self._rich.update(self._task, completed=event.done, total=event.total)

    def _say(self, text: str) -> None:
        line = f"{self._prefix}{text}"
        if self._rich is not None:
            self._rich.console.print(line)
        else:
            print(line, file=sys.stderr, flush=True)
