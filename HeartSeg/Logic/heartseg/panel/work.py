"""A run on the worker thread: copy of the scan, model, labels and surfaces; makes no Qt and MRML calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..progress import Reporter
from ..provenance import Provenance
from ..result import Result
from ..scene.masks import Masks, labels_of
from ..scene.nodes import owned_volume
from ..scene.prepared import PreparedSegments, prepare_segments
from ..settings import Settings
from ..volume.types import Volume
from .process import segment_in_process
from .record import RunRecord
from .segmenter import make_segmenter

if TYPE_CHECKING:
    from ..pipeline import Segmenter


@dataclass(frozen=True, eq=False)
class Request:
    """Request for a run.

    Attributes:
        view: the scan; its array is a view of the node's voxels.
        model: name of the model; ``""`` for the default model.
        settings: settings of the run.
        keep_warm: whether to keep the model in memory for the next run.
        separate: whether to run in a separate process.
    """

    view: Volume
    model: str = ""
    settings: Settings = field(default_factory=Settings)
    keep_warm: bool = True
    separate: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """Outcome of a run for the main thread."""

    result: Result
    prepared: PreparedSegments


class WarmModel:
    """Keeps the model of the last run in memory while model and settings stay the same. Worker thread only."""

    def __init__(self, make: Callable[[str, Settings], Segmenter] | None = None) -> None:
        self._make = make or make_segmenter
        self._key: tuple[str, Settings] | None = None
        self._segmenter: Segmenter | None = None

    def get(self, model: str, settings: Settings) -> Segmenter:
        """Return the segmenter for a model and settings; loads it if it is not in memory.

        Raises:
            HeartSegError: see :class:`~heartseg.pipeline.Segmenter`; also if a package is missing.
        """
        if self._segmenter is None or self._key != (model, settings):
            self.forget()
            self._segmenter = self._make(model, settings)
            self._key = (model, settings)
        return self._segmenter

    def forget(self) -> None:
        """Release the memory, also that of the graphics card."""
        import sys

        had_one, self._segmenter, self._key = self._segmenter is not None, None, None
        torch = sys.modules.get("torch")
        if had_one and torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True, eq=False)
class ChosenModel:
    """The chosen model and settings, read on the main thread, for jobs on the worker.

    Attributes:
        model: name of the model; ``""`` for the default model.
        settings: settings of the next run.
        warm: the model in memory.
    """

    model: str
    settings: Settings
    warm: WarmModel

    def segmenter(self, reporter: Reporter) -> Segmenter:
        """Return the segmenter of the chosen model, kept in memory. Worker thread only.

        Raises:
            HeartSegError, Cancelled: see :meth:`WarmModel.get`.
        """
        reporter.check()
        return self.warm.get(self.model, self.settings)

    def segmenter_of(self, provenance: Provenance, reporter: Reporter) -> Segmenter | None:
        """Return the segmenter of the model that made a result; ``None`` if that cannot be used any more.

        For a segmentation that no model of HeartSeg has made, it is the chosen one. Worker thread only.

        Raises:
            HeartSegError, Cancelled: see :meth:`WarmModel.get`.
        """
        from ..models.store import find_model
        from ..pipeline import model_of

        try:
            maker = model_of(provenance)
            if maker is None or maker.path == find_model(self.model or None).path:
                return self.segmenter(reporter)
            return self.warm.get(str(maker.path), self.settings)
        except ModelError:
            return None


def do_run(request: Request, warm: WarmModel, reporter: Reporter) -> Outcome:
    """Segment the scan and prepare the segments for the scene.

    Raises:
        HeartSegError, Cancelled: see :meth:`~heartseg.pipeline.Segmenter.segment`.
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


def measure_again(view: Volume, masks: Masks, record: RunRecord, reporter: Reporter) -> tuple[Any, Any, Any]:
    """Measure and check edited segments.

    Args:
        view: the scan.
        masks: structure key -> (uint8 array ``(z, y, x)``, label value in it, index ``(z, y, x)`` of its first voxel).
        record: record of the run; its findings on the scan and the run are kept.
        reporter: progress and cancel.

    Returns:
        The label map uint8 ``(z, y, x)`` on the scan's grid, measures, findings. Where segments overlap, the later
        structure wins, as in Slicer's export.
    """
    from ..anatomy import structure
    from ..quality import measured_and_checked

    volume = owned_volume(view)
    with reporter.stage("measure", 2):
        labels = labels_of(masks, volume.geometry.shape)
        reporter.advance(1)
        structures = tuple(structure(key) for key in masks)
        found = measured_and_checked(
            labels,
            volume.geometry,
            structures,
            volume,
            spread=record.provenance.window_spread,
            findings=record.findings,
        )
    return labels, found.measures, found.findings
