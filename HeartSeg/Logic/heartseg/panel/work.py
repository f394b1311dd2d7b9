"""What the worker does in a run: the scan's own copy, the model, labels, surfaces. No Qt, no MRML here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..progress import Reporter
from ..result import Result
from ..scene.nodes import owned_volume
from ..scene.prepared import PreparedSegments, prepare_segments
from ..settings import Settings
from ..volume.types import Volume
from .process import segment_in_process
from .segmenter import make_segmenter

if TYPE_CHECKING:
    from ..pipeline import Segmenter


@dataclass(frozen=True, eq=False)
class Request:
    """One run.

    Attributes:
        view: the scan; its array still belongs to the node.
        model: name of the model; ``""`` for the default one.
        settings: how to run.
        keep_warm: leave the model in memory for the next run.
        separate: run in a process of its own.
    """

    view: Volume
    model: str = ""
    settings: Settings = field(default_factory=Settings)
    keep_warm: bool = True
    separate: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run hands to the main thread."""

    result: Result
    prepared: PreparedSegments


class WarmModel:
    """The model of the last run, kept while model and settings stay the same. Belongs to the worker."""

    def __init__(self, make: Callable[[str, Settings], Segmenter] | None = None) -> None:
        self._make = make or make_segmenter
        self._key: tuple[str, Settings] | None = None
        self._segmenter: Segmenter | None = None

    def get(self, model: str, settings: Settings) -> Segmenter:
        """The segmenter for these; loaded if it is not the one in memory.

        Raises:
            HeartSegError: as :class:`~heartseg.pipeline.Segmenter`; a missing package too.
        """
        if self._segmenter is None or self._key != (model, settings):
            self.forget()
            self._segmenter = self._make(model, settings)
            self._key = (model, settings)
        return self._segmenter

    def forget(self) -> None:
        """Give the memory back, on the graphics card too."""
        import sys

        had_one, self._segmenter, self._key = self._segmenter is not None, None, None
        torch = sys.modules.get("torch")
        if had_one and torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def do_run(request: Request, warm: WarmModel, reporter: Reporter) -> Outcome:
    """Segment the scan and prepare what the scene needs.

    Raises:
        HeartSegError, Cancelled: as :meth:`~heartseg.pipeline.Segmenter.segment`.
    """
    with reporter.stage("read"):
        volume = owned_volume(request.view)
    try:
        result = _segment(request, volume, warm, reporter)
        return Outcome(result, prepare_segments(result, reporter))
    finally:
        if not request.keep_warm:
            warm.forget()


def _segment(request: Request, volume: Volume, warm: WarmModel, reporter: Reporter) -> Result:
    if request.separate:
        warm.forget()
        return segment_in_process(volume, request.model, request.settings, reporter)
    return warm.get(request.model, request.settings).segment(volume, reporter=reporter)


def measure_again(view: Volume, masks: dict[str, Any], reporter: Reporter) -> tuple[Any, Any, Any]:
    """Measures and findings of segments that were edited.

    Args:
        view: the scan.
        masks: structure key -> (uint8 array ``(z, y, x)``, label value in it, index ``(z, y, x)`` of its first voxel).
        reporter: progress and cancel.

    Returns:
        The label map uint8 ``(z, y, x)`` on the scan's grid, measures, findings. Where segments overlap, the later
        structure wins, as in Slicer's export.
    """
    import numpy as np

    from ..anatomy import structure
    from ..measure import measure_structures
    from ..quality import check_result

    volume = owned_volume(view)
    labels = np.zeros(volume.geometry.shape, np.uint8)
    with reporter.stage("measure", len(masks) + 2):
        for done, (key, (array, value, start)) in enumerate(masks.items()):
            reporter.advance(done)
            paste_label(labels, array == value, start, structure(key).label)
        structures = tuple(structure(key) for key in masks)
        measures = measure_structures(volume, labels, structures)
        reporter.advance(len(masks) + 1)
        findings = check_result(volume, labels, measures, (), structures)
    return labels, tuple(measures), volume.findings + tuple(findings)


def paste_label(labels: Any, mask: Any, start: tuple[int, int, int], label: int) -> None:
    """Write ``label`` where ``mask`` holds; what lies outside of the scan is cut off."""
    target, source = [], []
    for first, size, limit in zip(start, mask.shape, labels.shape, strict=True):
        low, high = max(0, first), min(limit, first + size)
        if low >= high:
            return
        target.append(slice(low, high))
        source.append(slice(low - first, high - first))
    labels[tuple(target)][mask[tuple(source)]] = label
