"""The sections of the panel: each has a ``.ui`` file, and knows the panel only through what is written here.

To add a section, write ``Resources/UI/HeartSeg<Name>.ui`` (a ``qMRMLWidget`` that holds a ``ctkCollapsibleButton``),
a subclass of :class:`Section` with that name, and a line in ``SECTIONS`` of ``HeartSeg.py``::

    class Explain(Section):
        name = "Explain"

        def setup(self, panel):
            super().setup(panel)
            self.ui.explainButton.connect("clicked(bool)", self.on_explain)

        def update(self, state):
            self.ui.explainButton.enabled = state.record is not None and not state.running

        def on_explain(self, checked=False):
            volume = self.panel.scan_of(self.panel.state.volume)      # main thread: a view of the voxels
            self.panel.start("Explain", lambda reporter: heat_map(volume, reporter), self.show_map)

        def show_map(self, value):                                   # main thread again
            ...

Everything in a section runs on the main thread, but for the function handed to ``panel.start``: that runs on the worker
and makes no Qt and no MRML call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from ..result import Result
    from ..settings import Settings
    from ..volume.types import Volume
    from .record import RunRecord
    from .run import Entered
    from .worker import Job, Work


@dataclass(frozen=True)
class State:
    """What the panel is about at this moment.

    Attributes:
        volume: chosen ``vtkMRMLScalarVolumeNode``, or ``None``.
        segmentation: ``vtkMRMLSegmentationNode`` whose results are shown, or ``None``.
        record: measures, findings and provenance of that segmentation, also of a scene loaded from a file; or ``None``.
        result: the whole result with its label map, only while it is the one of the last run; or ``None``.
        model: name of the chosen model (a folder in the search folders), ``""`` for the default one.
        running: title of the job that runs, ``""`` for none.
    """

    volume: Any = None
    segmentation: Any = None
    record: RunRecord | None = None
    result: Result | None = None
    model: str = ""
    running: str = ""


def scan_of_segmentation(state: State) -> Any:
    """The scan that the shown segmentation belongs to: its own, else (loaded from a file alone) the chosen one."""
    node = state.segmentation
    if node is None:
        return None
    own = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    scan = own if own is not None else state.volume
    return scan if scan is not None and scan.GetImageData() is not None else None


def busy() -> str:
    """Why a control waits while a job runs."""
    return _("Not while a job runs: cancel it first.")


def no_scan() -> str:
    """Why a button waits where :func:`scan_of_segmentation` finds none."""
    return _("The scan of this segmentation is not in the scene: load it and choose it as the scan.")


def documentation(page: str) -> str:
    """Where a page of ``docs/`` is: beside the module in a clone, else on the project's site."""
    local = Path(__file__).resolve().parents[4] / "docs" / page
    return local.as_uri() if local.is_file() else f"https://github.com/HeartSeg/SlicerHeartSeg/blob/main/docs/{page}"


class PanelApi(Protocol):
    """What a section may use of the panel."""

    @property
    def state(self) -> State:
        """What the panel is about now."""

    @property
    def parameters(self) -> Any:
        """The parameter node wrapper that is shown, or ``None``."""

    @property
    def logic(self) -> Any:
        """The module's logic."""

    def settings(self) -> Settings:
        """How the next run would be made."""

    def scan_of(self, volume_node: Any) -> Volume:
        """The node's scan, its array a view; work on the worker takes a copy with ``scene.owned_volume`` first."""

    def segmenter(self, reporter: Any) -> Any:
        """The warm :class:`~heartseg.pipeline.Segmenter` of the chosen model. On the worker only."""

    def start(
        self,
        title: str,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None] | None = None,
        stopped: Callable[[], None] | None = None,
    ) -> Job | None:
        """Do ``work(reporter)`` on the worker, then ``done(value)`` on the main thread.

        The big button turns into *Cancel*, the bar shows the reporter's progress. A failure is shown with a report to
        copy, a cancel in the status line; ``failed`` and ``stopped`` are called in addition. Only one job at a time:
        returns ``None``, and does nothing, while another one runs.
        """

    def start_quietly(self, work: Work, done: Callable[[Any], None]) -> None:
        """A short job that nobody waits for: no bar, no cancel; a failure only enters the log."""

    def models_changed(self) -> None:
        """Models were installed, removed or mapped: list them anew, and forget the one in memory."""

    @property
    def last_run(self) -> Entered | None:
        """The last run of this session that ended well, with its result and what it replaced; or ``None``."""

    def forget_last_run(self) -> None:
        """There is nothing to undo any more."""

    def show_results_of(self, segmentation_node: Any) -> None:
        """Show another segmentation's results."""

    def cancel(self) -> None:
        """Stop what runs, at its next check."""

    def show_status(self, text: str) -> None:
        """One line under the bar."""

    def show_error(self, text: str, report: str = "") -> None:
        """One line in the error box; ``report`` is what *Copy report* copies."""

    def add_to_log(self, text: str) -> None:
        """A line in the log under *Advanced*."""

    def refresh(self) -> None:
        """Look at the state anew and let every section show it."""

    def resource(self, name: str) -> str:
        """Path of a file under ``Resources``."""


class Section:
    """Base of a section.

    Attributes:
        name: its file is ``Resources/UI/HeartSeg<name>.ui``.
        panel: what it may use, from :meth:`setup` on.
        widget: its top widget.
        ui: its named widgets.
    """

    name = ""

    def __init__(self) -> None:
        self.panel: PanelApi
        self.widget: Any = None
        self.ui: Any = None

    def setup(self, panel: PanelApi) -> None:
        """Load the ``.ui`` file and give its node selectors the scene. Extend it to connect signals."""
        import slicer

        self.panel = panel
        self.widget = slicer.util.loadUI(panel.resource(f"UI/HeartSeg{self.name}.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.widget.setMRMLScene(slicer.mrmlScene)

    def update(self, state: State) -> None:
        """Show the state; called after every change. A disabled control's tooltip says why it is disabled."""

    def obstacle(self, state: State) -> str:
        """Why a run cannot start whatever the user answers, one sentence with the way out; ``""`` if it can."""
        return ""

    def before_run(self, state: State) -> bool:
        """Called when *Segment heart* was pressed; may ask the user, and do what is missing. ``False``: no run."""
        return True

    def failed(self, error: BaseException) -> None:
        """A run ended with this error."""

    def cleanup(self) -> None:
        """Let go of observers and nodes: the panel is being deleted."""
