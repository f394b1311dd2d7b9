"""Progress and remaining time of a run over all stages, from the usual durations of the stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..progress import ProgressEvent
from ..wording import Wording, _

TYPICAL_SECONDS: Mapping[str, float] = {
    "read": 0.2,
    "load model": 0.6,
    "sample scan": 0.4,
    "locate": 0.5,
    "preprocess": 0.5,
    "predict": 2.5,
    "average": 17.0,
    "resample": 1.0,
    "clean up": 0.6,
    "measure": 0.6,
    "surfaces": 1.0,
    "scene": 0.4,
}
"""Seconds with the default model, a chest CT and two CPU cores; only their proportions matter. The durations of the
last run replace them."""

WORDS: Mapping[str, str] = {
    "read": _("copying the scan"),
    "load model": _("loading the model"),
    "sample scan": _("sampling the scan"),
    "locate": _("searching for the heart"),
    "preprocess": _("preparing the scan"),
    "predict": _("segmenting"),
    "average": _("averaging predictions"),
    "resample": _("resampling the labels to the scan"),
    "clean up": _("cleaning up the labels"),
    "measure": _("measuring"),
    "surfaces": _("making surfaces"),
    "scene": _("adding the result to the scene"),
}
"""Description of each stage for the user."""


class Pace:
    """Converts the events of a run to a completed fraction, which never decreases, and a remaining time.

    Args:
        seconds: expected seconds of each stage, in the order of :data:`TYPICAL_SECONDS`; other stages are not expected.
        clock: monotonic clock, in seconds.
    """

    def __init__(self, seconds: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._expected = {stage: seconds[stage] for stage in TYPICAL_SECONDS if stage in seconds}
        self._total = sum(self._expected.values()) or 1.0
        self._clock, self._started = clock, clock()
        self.fraction = 0.0
        self.stage = ""

    @classmethod
    def of_run(cls, accurate: bool, last: Mapping[str, float] | None = None) -> Pace:
        """Return the expected pace of a run: that of the last run of this kind, else the typical pace."""
        seconds = {s: v for s, v in TYPICAL_SECONDS.items() if s != "average" or accurate}
        seconds.update({s: v for s, v in (last or {}).items() if s in seconds})
        return cls(seconds)

    def take(self, event: ProgressEvent) -> float | None:
        """Process an event; returns the remaining seconds, or ``None`` while they are unknown."""
        self.stage = event.stage
        stages = list(self._expected)
        if event.stage not in stages or event.message:
            return None
        before = sum(self._expected[s] for s in stages[: stages.index(event.stage)])
        reached = before + event.fraction * self._expected[event.stage]
        self.fraction = max(self.fraction, min(1.0, reached / self._total))
        elapsed = self._clock() - self._started
        if elapsed < 1.0 or self.fraction < 0.05:
            return None
        return elapsed * (1 - self.fraction) / self.fraction


def in_words(seconds: float, about: bool = True) -> Wording:
    """Format a duration, such as ``"about 20 s"`` or ``"about 3 min"``; without ``about``, ``"20 s"``."""
    if seconds < 90:
        count = max(1, round(seconds)) if seconds < 10 else round(seconds / 5) * 5
        return (_("about {count} s") if about else _("{count} s")).format(count=count)
    return (_("about {count} min") if about else _("{count} min")).format(count=round(seconds / 60))
