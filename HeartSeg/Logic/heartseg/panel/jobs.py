"""Runs one job at a time with progress bar, cancel and error report; base of :class:`~.panel.Panel`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from slicer.i18n import tr as _

from ..errors import HeartSegError, one_line
from ..progress import ProgressEvent
from ..scene.language import in_language
from .event_loop import EventLoop, Handlers
from .pace import WORDS, Pace, in_words
from .report import failure_report
from .work import WarmModel
from .worker import Job, Work, Worker, describe_failure

logger = logging.getLogger(__name__)


class JobRunner:
    """Runs a job and shows it in progress bar, status line, error box and log.

    Args:
        ui: named widgets of ``HeartSeg.ui``.
        warm: the model in memory, which is released after an unexpected failure.
    """

    def __init__(self, ui: Any, warm: WarmModel) -> None:
        self.ui, self.warm = ui, warm
        self._loop = EventLoop(Worker())
        self._job: Job | None = None
        self._pace: Pace | None = None
        self._ended_by = ""
        self._report = ""
        self._started = 0.0

    def refresh(self) -> None:
        """Update the state; called whenever a job starts or ends."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return the user's choices for an error report."""
        raise NotImplementedError

    def job_failed(self, error: BaseException) -> None:
        """Called when a job has failed, after its error was shown."""

    def job_ended(self) -> None:
        """Called when a job has finished, failed or stopped."""

    def start(
        self,
        title: str,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None] | None = None,
        stopped: Callable[[], None] | None = None,
    ) -> Job | None:
        """Run ``work(reporter)`` on the worker, then ``done(value)`` here; see :class:`~.section.PanelApi`."""
        handlers = Handlers(
            self._progressed,
            lambda value: value,
            done,
            lambda error, trace: failed(error) if failed is not None else None,
            lambda: stopped() if stopped is not None else None,
        )
        return self._start(title, work, handlers)

    def start_quietly(self, work: Work, done: Callable[[Any], None]) -> None:
        """Run a short background job without progress bar and cancel; a failure is only logged."""
        self._loop.submit(
            "in the background",
            work,
            Handlers(
                lambda event: None,
                lambda value: value,
                done,
                lambda error, trace: self.add_to_log(f"in the background: {one_line(error)}"),
                lambda: None,
            ),
        )

    def cancel(self) -> None:
        """Stop the running job at its next check."""
        if self._job is None or self._job.token.cancelled:
            return
        self._job.token.cancel()
        self.ui.segmentButton.enabled = False
        self.ui.segmentButton.toolTip = _("Stopping at the next tile.")
        self.show_status(_("Stopping…"))

    def show_status(self, text: str) -> None:
        """Show a line below the progress bar."""
        self.ui.statusLabel.text = in_language(text)

    def show_error(self, text: str, report: str = "") -> None:
        """Show a line in the error box, with a report to copy."""
        self._report = report or text
        shown = in_language(text)
        self.ui.errorLabel.text = shown[:1].upper() + shown[1:]
        self.ui.errorFrame.visible = True
        self.add_to_log(f"error: {text}")

    def hide_error(self) -> None:
        """Hide the error box."""
        self.ui.errorFrame.visible = False

    def add_to_log(self, text: str) -> None:
        """Append a line to the log."""
        self.ui.logText.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")

    def _start(self, title: str, work: Work, handlers: Handlers, pace: Pace | None = None) -> Job | None:
        """Submit a job to the worker; the panel shows its end before it calls ``handlers``."""
        if self._job is not None:
            return None
        self._pace, self._ended_by, self._started = pace, "", time.monotonic()

        def done(value: Any) -> None:
            self._end_job()
            try:
                handlers.done(value)
            except Exception as error:
                self._show_failure(title, error, describe_failure(error))
            self.refresh()

        def failed(error: BaseException, trace: str) -> None:
            self._end_job()
            self._show_failure(title, error, trace)
            self.job_failed(error)
            handlers.failed(error, trace)
            self.refresh()

        def stopped() -> None:
            why = self._ended_by
            self._end_job()
            self.show_status(self._stopped_text(why))
            self.add_to_log(f"stopped: {title}" + (f" ({why} was removed)" if why else ""))
            handlers.stopped()
            self.refresh()

        shown = replace(handlers, done=done, failed=failed, stopped=stopped)
        self._job = self._loop.submit(title, work, shown)
        self.add_to_log(f"started: {title}")
        self.ui.progressBar.value = 0
        self.ui.progressBar.format = title
        self.show_status("")
        self.refresh()
        return self._job

    def _end_job(self) -> None:
        self._job, self._pace = None, None
        self.job_ended()

    @staticmethod
    def _stopped_text(why: str) -> str:
        if why == "scene":
            return _("The scene was closed: the run was stopped.")
        if why:
            return _("The {what} was deleted: the run was stopped, nothing was changed.").format(what=why)
        return _("Stopped. Nothing was changed.")

    def _show_failure(self, title: str, error: BaseException, trace: str) -> None:
        expected = isinstance(error, HeartSegError)
        text = (
            str(error)
            if expected
            else _("{title} failed unexpectedly ({error}): try again, and report it if it happens again.").format(
                title=title, error=in_language(one_line(error))
            )
        )
        if not expected:
            logger.error("%s failed:\n%s", title, trace)
            self.warm.forget()
        self.show_status(_("Failed. Nothing was changed."))
        self.show_error(text, failure_report(title, error, trace, self.facts()))

    def _progressed(self, event: ProgressEvent) -> None:
        if event.message:
            self.show_status(event.message)
            self.add_to_log(event.message)
            return
        bar = self.ui.progressBar
        words = in_language(WORDS.get(event.stage, event.stage))
        if self._pace is None:
            bar.value = round(1000 * event.fraction)
            left = event.seconds_left
        else:
            if event.stage != self._pace.stage:
                self.add_to_log(words)
            left = self._pace.take(event)
            bar.value = round(1000 * self._pace.fraction)
        percent = round(bar.value / 10)
        time_left = ", " + _("{time} left").format(time=in_language(in_words(left))) if left else ""
        bar.format = f"{words} – {percent} %{time_left}"
