"""How far a run is, and how long it still takes: one bar for all stages, from the seconds that stages usually take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..progress import ProgressEvent

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
"""Default model, chest CT, two CPU cores; only the proportions matter. The last run's own seconds replace them."""

WORDS: Mapping[str, str] = {
    "read": "copying the scan",
    "load model": "loading the model",
    "sample scan": "sampling the scan",
    "locate": "looking for the heart",
    "preprocess": "preparing the scan",
    "predict": "segmenting",
    "average": "looking again, several times",
    "resample": "bringing the labels back to the scan",
    "clean up": "keeping what anatomy allows",
    "measure": "measuring",
    "surfaces": "making surfaces",
    "scene": "entering the result",
}
"""Stage -> what a person is told."""


class Pace:
    """Turns the events of one run into a share of the whole and a time left; the share never goes back.

    Args:
        seconds: stage -> expected seconds, in the order of :data:`TYPICAL_SECONDS`; what is left out will not come.
        clock: monotonic seconds.
    """

    def __init__(self, seconds: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._expected = {stage: seconds[stage] for stage in TYPICAL_SECONDS if stage in seconds}
        self._total = sum(self._expected.values()) or 1.0
        self._clock, self._started = clock, clock()
        self.fraction = 0.0
        self.stage = ""

    @classmethod
    def of_run(cls, accurate: bool, last: Mapping[str, float] | None = None) -> Pace:
        """The pace of a run: as the last one of its kind where there was one, else as is typical."""
        seconds = {s: v for s, v in TYPICAL_SECONDS.items() if s != "average" or accurate}
        seconds.update({s: v for s, v in (last or {}).items() if s in seconds})
        return cls(seconds)

    def take(self, event: ProgressEvent) -> float | None:
        """Note an event; returns the seconds left, or ``None`` while nothing is known about this machine's speed."""
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


def in_words(seconds: float) -> str:
    """A duration as a person says it: ``"about 20 s"``, ``"about 3 min"``."""
    if seconds < 10:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90:
        return f"about {round(seconds / 5) * 5} s"
    return f"about {round(seconds / 60)} min"
