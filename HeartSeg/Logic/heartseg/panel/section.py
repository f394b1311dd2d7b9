"""Sections of the panel: each has a ``.ui`` file and uses the panel only through the interface in this module.

To add a section, write ``Resources/UI/HeartSeg<Name>.ui`` (a ``qMRMLWidget`` with a ``ctkCollapsibleButton``), a
subclass of :class:`Section` with that name, and a line in ``SECTIONS`` of ``HeartSeg.py``::

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

Everything in a section runs on the main thread, except the function passed to ``panel.start``, which runs on the worker
and must not make Qt or MRML calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from ..needs import Package
    from ..result import Result
    from ..settings import Settings
    from ..volume.types import Volume
    from .record import RunRecord
    from .run import Entered
    from .work import ChosenModel
    from .worker import Job, Work


@dataclass(frozen=True)
class State:
    """Current state of the panel.

    Attributes:
        volume: chosen ``vtkMRMLScalarVolumeNode``, or ``None``.
        segmentation: ``vtkMRMLSegmentationNode`` whose results are displayed, or ``None``.
        record: measures, findings and provenance of that segmentation, also after loading a scene; or ``None``.
        result: full result with its label map if the segmentation is from the last run; or ``None``.
        model: name of the chosen model (a folder in the search folders); ``""`` for the default model.
        running: title of the running job; ``""`` for none.
    """

    volume: Any = None
    segmentation: Any = None
    record: RunRecord | None = None
    result: Result | None = None
    model: str = ""
    running: str = ""


def scan_of_segmentation(state: State) -> Any:
    """Return the scan of the displayed segmentation; if it refers to none (loaded from a file), the chosen scan."""
    node = state.segmentation
    if node is None:
        return None
    own = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    scan = own if own is not None else state.volume
    return scan if scan is not None and scan.GetImageData() is not None else None


def busy() -> str:
    """Return why a control is disabled while a job runs."""
    return _("Not while a job runs: cancel it first.")


def no_result() -> str:
    """Return why a control is disabled if no segmentation is displayed."""
    return _("There is no result yet: segment a scan first, or choose one under Results.")


def segmentation_obstacle(state: State) -> str:
    """Return why nothing can be done with the displayed segmentation and its scan; ``""`` if it can."""
    if state.segmentation is None:
        return no_result()
    if scan_of_segmentation(state) is None:
        return _("The scan of this segmentation is not in the scene: load it and choose it as the scan.")
    return busy() if state.running else ""


def documentation(page: str) -> str:
    """Return the address of a page of ``docs/``: the file in a clone, else the page on the project's site."""
    local = Path(__file__).resolve().parents[4] / "docs" / page
    return local.as_uri() if local.is_file() else f"https://github.com/HeartSeg/SlicerHeartSeg/blob/main/docs/{page}"


class PanelApi(Protocol):
    """Interface of the panel for sections."""

    @property
    def state(self) -> State:
        """Current state of the panel."""

    @property
    def parameters(self) -> Any:
        """The displayed parameter node wrapper, or ``None``."""

    @property
    def logic(self) -> Any:
        """The logic of the module."""

    def settings(self) -> Settings:
        """Return the settings of the next run."""

    def scan_of(self, volume_node: Any) -> Volume:
        """Return the scan of a node, its array being a view; the worker must copy it with ``scene.owned_volume``."""

    def chosen_model(self) -> ChosenModel:
        """Return the chosen model and settings, whose segmenter a job on the worker takes."""

    def start(
        self,
        title: str,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None] | None = None,
        stopped: Callable[[], None] | None = None,
        nodes: Mapping[str, Any] | None = None,
    ) -> Job | None:
        """Run ``work(reporter)`` on the worker, then ``done(value)`` on the main thread.

        The main button becomes *Cancel*, and the progress bar shows the progress. The panel shows a failure with a
        report to copy, and a cancel in the status line; then it calls ``failed`` or ``stopped``. The job is cancelled
        when one of ``nodes`` (description -> node) leaves the scene. While another job runs, this method does nothing
        and returns ``None``.
        """

    def start_quietly(self, work: Work, done: Callable[[Any], None]) -> None:
        """Run a short background job without progress bar and cancel; a failure is only logged."""

    def models_changed(self) -> None:
        """Update the list of models after a change, and release the model in memory."""

    @property
    def last_run(self) -> Entered | None:
        """The last successful run of this session, with its result and what it replaced; or ``None``."""

    def forget_last_run(self) -> None:
        """Forget the last run, so that it cannot be undone any more."""

    def show_results_of(self, segmentation_node: Any) -> None:
        """Show the results of another segmentation."""

    def cancel(self) -> None:
        """Stop the running job at its next check."""

    def show_status(self, text: str) -> None:
        """Show a line below the progress bar."""

    def show_error(self, text: str, report: str = "") -> None:
        """Show a line in the error box; ``report`` is the text for *Copy report*."""

    def add_to_log(self, text: str) -> None:
        """Append a line to the log under *Advanced*."""

    def install(self, packages: Sequence[Package], why: str) -> None:
        """Install packages after one question that names them and their sizes; ``why`` is a sentence for the user.

        Without consent nothing changes, and no network is used. The sections are updated afterwards.
        """

    def refresh(self) -> None:
        """Update the state and all sections."""

    def resource(self, name: str) -> str:
        """Return the path of a file in ``Resources``."""


class Section:
    """Base class of the sections.

    Attributes:
        name: name in ``Resources/UI/HeartSeg<name>.ui``.
        panel: interface of the panel, available from :meth:`setup` on.
        widget: top-level widget of the section.
        ui: named widgets of the section.
    """

    name = ""

    def __init__(self) -> None:
        self.panel: PanelApi
        self.widget: Any = None
        self.ui: Any = None

    def setup(self, panel: PanelApi) -> None:
        """Load the ``.ui`` file and set the scene of its node selectors. Subclasses extend it to connect signals."""
        import slicer

        self.panel = panel
        self.widget = slicer.util.loadUI(panel.resource(f"UI/HeartSeg{self.name}.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.widget.setMRMLScene(slicer.mrmlScene)

    def update(self, state: State) -> None:
        """Show the state; called after every change. The tooltip of a disabled control gives the reason."""

    def obstacle(self, state: State) -> str:
        """Return why a run cannot start, one sentence with the solution; ``""`` if it can."""
        return ""

    def before_run(self, state: State) -> bool:
        """Prepare a run, possibly after a question to the user; return ``False`` to prevent the run."""
        return True

    def failed(self, error: BaseException) -> None:
        """Called when a job has failed with this error."""

    def wanted(self, packages: Sequence[Package], why: str) -> None:
        """Called when a section asks for packages with :meth:`PanelApi.install`."""

    def cleanup(self) -> None:
        """Release observers and nodes before the panel is deleted."""
