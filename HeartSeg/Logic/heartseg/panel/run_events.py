"""Events of runs for other modules and scripts: start, progress and end of runs from the panel or the logic."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..progress import ProgressEvent
    from ..result import Result

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RunEvent:
    """Event of a run, delivered on the main thread.

    Attributes:
        kind: ``"start"``, ``"progress"`` or ``"end"``; every start is followed by exactly one end.
        volume: the segmented ``vtkMRMLScalarVolumeNode``.
        progress: for ``"progress"``: stage, fraction and message.
        segmentation: for ``"end"``: the filled ``vtkMRMLSegmentationNode``; ``None`` after a failure or a cancel.
        result: for ``"end"`` of a successful run: labels, measures, findings, provenance.
        error: for ``"end"`` of a failed run; a cancelled run has neither result nor error.
    """

    kind: Literal["start", "progress", "end"]
    volume: Any
    progress: ProgressEvent | None = None
    segmentation: Any = None
    result: Result | None = None
    error: BaseException | None = None


class RunObservers:
    """Observers of runs. An exception in an observer is logged and affects neither the run nor other observers."""

    def __init__(self) -> None:
        self._observers: dict[int, Callable[[RunEvent], None]] = {}
        self._next = 1

    def add(self, observer: Callable[[RunEvent], None]) -> int:
        """Call ``observer(event)`` from now on; returns the tag for :meth:`remove`."""
        tag, self._next = self._next, self._next + 1
        self._observers[tag] = observer
        return tag

    def remove(self, tag: int) -> None:
        """Remove an observer; an unknown tag is ignored."""
        self._observers.pop(tag, None)

    def tell(self, event: RunEvent) -> None:
        """Call all observers in the order in which they were added."""
        for observer in list(self._observers.values()):
            try:
                observer(event)
            except Exception:
                logger.exception("an observer of HeartSeg's runs failed")
