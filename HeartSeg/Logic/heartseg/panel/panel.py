"""The panel with its sections, jobs and runs. ``HeartSegWidget`` creates it and forwards Slicer's events."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..errors import HeartSegError
from ..needs import Package
from ..progress import ProgressEvent
from ..scene.frames import keep_frame, save_edits
from ..scene.language import in_language
from ..scene.nodes import loaded_scans
from ..settings import Settings
from ..volume.types import Volume
from .device import DeviceReport, installed_runtime, list_cards, look_at_device
from .event_loop import Handlers
from .frames import Frames
from .inputs import DeviceChooser, ModelChooser, StructureBoxes, device_line
from .jobs import JobRunner
from .outputs import output_for
from .pace import Pace, in_words
from .record import read_record
from .run import Entered, NodeWatch, enter_result, view_of
from .run_events import RunEvent
from .run_times import RunTimes, remember, times_of
from .section import Section, State, busy
from .work import ChosenModel, Request, do_run
from .worker import Job, Work

logger = logging.getLogger(__name__)

RUN_TITLE = _("Segment heart")


@dataclass(frozen=True, eq=False)
class Target:
    """A pending run.

    Attributes:
        volume: the ``vtkMRMLScalarVolumeNode``.
        frame: frame of a time series, from 0; ``None`` for the current voxels of the node.
    """

    volume: Any
    frame: int | None = None


class Panel(JobRunner):
    """The controls of ``HeartSeg.ui``, the sections below them, and the running job.

    Args:
        ui: named widgets of ``HeartSeg.ui``.
        logic: logic of the module; the worker uses its ``warm_model``.
        resource: returns the path of a file in ``Resources``.
        sections: sections in display order.
    """

    def __init__(self, ui: Any, logic: Any, resource: Callable[[str], str], sections: Sequence[Section]) -> None:
        super().__init__(ui, logic.warm_model)
        self.logic, self.resource = logic, resource
        self.parameters: Any = None
        self.state = State()
        self._watch = NodeWatch(self._node_lost)
        self._device: DeviceReport | None = None
        self._cards: tuple[str, ...] = ()
        self._device_asked: tuple[str, str] | None = None
        self._last_run: Entered | None = None
        self._waiting: list[Target] = []
        self._all_frames = False
        self._scan_seen: Any = None
        self._closed = False
        self.models = ModelChooser(ui)
        self._structures = StructureBoxes(ui)
        self._devices = DeviceChooser(ui)
        self._frames = Frames(ui)
        self._sections = list(sections)
        for section in self._sections:
            section.setup(self)
            ui.sectionsWidget.layout().addWidget(section.widget)
        self._connect()
        self.models.reload()

    def _connect(self) -> None:
        ui = self.ui
        ui.segmentButton.connect("clicked(bool)", lambda checked=False: self.segment_or_cancel())
        ui.copyReportButton.connect("clicked(bool)", lambda checked=False: self._copy(self._report))
        ui.copyLogButton.connect("clicked(bool)", lambda checked=False: self._copy(ui.logText.plainText))
        ui.closeErrorButton.connect("clicked(bool)", lambda checked=False: self.hide_error())
        ui.segmentAllButton.connect("clicked()", self.segment_all)
        ui.modelComboBox.connect("currentIndexChanged(int)", self._model_chosen)
        self._devices.connect(self._device_chosen)
        self._structures.connect(self._structures_chosen)
        self._frames.connect(self.refresh)
        ui.errorFrame.visible = False
        ui.progressBar.visible = False

    # --- interface for sections --------------------------------------------------------------------------------------

    def settings(self) -> Settings:
        """Return the settings of the next run."""
        p = self.parameters
        if p is None:
            return Settings()
        keys = tuple(key for key in p.structures.split(",") if key and key != "none")
        chosen = keys if p.structures else None
        return Settings(device=p.device, structures=chosen, accurate=p.accurate, clean_up=p.cleanUp)

    def scan_of(self, volume_node: Any) -> Volume:
        """Return the scan of a node; its array is a view of the voxels."""
        return view_of(volume_node)

    def chosen_model(self) -> ChosenModel:
        """Return the chosen model and settings for a job on the worker."""
        return ChosenModel(self.state.model, self.settings(), self.warm)

    def start(
        self,
        title: str,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None] | None = None,
        stopped: Callable[[], None] | None = None,
        nodes: Mapping[str, Any] | None = None,
    ) -> Job | None:
        """Run ``work(reporter)`` on the worker while ``nodes`` are in the scene; see :class:`~.section.PanelApi`."""
        job = super().start(title, work, done, failed, stopped)
        if job is not None and nodes:
            self._watch.start(nodes)
        return job

    def models_changed(self) -> None:
        """Update the list of models after a change, and release the model in memory."""
        self.start_quietly(lambda reporter: self.warm.forget(), lambda value: None)
        self.models.reload()
        self.refresh()

    def install(self, packages: Sequence[Package], why: str) -> None:
        """Install packages after one question; see :class:`~.section.PanelApi`."""
        for section in self._sections:
            section.wanted(packages, why)

    def refresh(self) -> None:
        """Update the state and all sections."""
        if self._closed:
            return
        p, old = self.parameters, self.state
        if p is not None and p.inputVolume is not self._scan_seen:
            self._scan_changed()
        if p is not None and self._device_asked != self._device_wish():
            self.look_at_device()
        segmentation = old.segmentation
        if segmentation is not None and segmentation.GetScene() is None:
            segmentation = None
        last = self._last_run
        result = last.outcome.result if last is not None and last.node is segmentation else None
        model = self.models.chosen
        self.state = State(
            volume=p.inputVolume if p is not None else None,
            segmentation=segmentation,
            record=read_record(segmentation),
            result=result,
            model=model.name if model is not None else "",
            running=self._job.title if self._job is not None else "",
        )
        self._show_inputs()
        self._show_button()
        for section in self._sections:
            section.update(self.state)

    @property
    def last_run(self) -> Entered | None:
        """The last successful run, for *Undo*."""
        return self._last_run

    def forget_last_run(self) -> None:
        """Forget the last run, so that it cannot be undone any more."""
        self._last_run = None

    def show_results_of(self, segmentation_node: Any) -> None:
        """Show the results of another segmentation."""
        if segmentation_node is not self.state.segmentation:
            self.state = replace(self.state, segmentation=segmentation_node)
            self.refresh()

    # --- events from HeartSegWidget ------------------------------------------------------------------------------

    def set_parameters(self, parameters: Any) -> None:
        """Show another parameter node, or none."""
        self.parameters = parameters
        if parameters is not None and not self._closed:
            self.models.show(parameters.model)
            self._device_asked = None
        self.refresh()

    def scene_closes(self) -> None:
        """Stop the run and release the results before the scene is closed."""
        self._waiting, self._all_frames, self._scan_seen = [], False, None
        self._node_lost("scene")
        self._last_run = None
        self.state = replace(self.state, segmentation=None, volume=None)
        self.parameters = None

    def close(self) -> None:
        """Stop the run without callbacks, because the panel is deleted or the module is reloaded."""
        self._closed = True
        self._watch.stop()
        self._loop.close()
        for section in self._sections:
            section.cleanup()

    # --- the run -------------------------------------------------------------------------------------------------

    def segment_or_cancel(self) -> None:
        """Handle a click on the main button."""
        if self._job is not None:
            self._waiting = []
            self.cancel()
            return
        p = self.parameters
        if p is not None and p.allFrames and self._frames.count > 1:
            self._all_frames = True
            self._waiting = [Target(p.inputVolume, frame) for frame in range(self._frames.count)]
            self._run_next()
        else:
            self.segment()

    def segment_all(self) -> None:
        """Segment all loaded scans one after the other; a failure does not stop the others."""
        if self._job is None and self.parameters is not None:
            self._waiting = [Target(volume) for volume in loaded_scans()]
            self._run_next()

    def _run_next(self) -> None:
        """Start the next pending run."""
        while self._waiting:
            target = self._waiting.pop(0)
            if self.parameters is None or target.volume.GetScene() is None:
                continue
            self.parameters.inputVolume = target.volume
            self.refresh()
            if target.frame is not None:
                self._frames.go_to(target.frame)
            if self.segment() is not None:
                return
            if target.frame is not None:
                self._waiting = []
        self._all_frames = False

    def obstacle(self) -> str:
        """Return why a run cannot start; ``""`` if it can."""
        if self.parameters is None or self.parameters.inputVolume is None:
            return _("Choose a scan first.")
        if self.models.chosen is None:
            return _("No model is installed.")
        if self.parameters.structures == "none":
            return _("Choose at least one structure under Advanced.")
        return next((why for s in self._sections if (why := s.obstacle(self.state))), "")

    def segment(self) -> Job | None:
        """Start a run with the current choices; if it cannot start, show the reason and return ``None``."""
        self.refresh()
        if self._job is not None:
            return None
        if why := self.obstacle():
            self.show_error(why)
            return None
        if not all(section.before_run(self.state) for section in self._sections):
            return None
        self.refresh()
        p = self.parameters
        volume, target = p.inputVolume, p.outputSegmentation
        self.hide_error()
        try:
            request = Request(view_of(volume), self.state.model, self.settings(), p.keepWarm, p.separateProcess)
        except HeartSegError as error:
            self.show_error(str(error))
            return None
        return self._start_run(request, volume, target)

    def _start_run(self, request: Request, volume: Any, target: Any) -> Job | None:
        self._watch.start({_("scan"): volume, _("segmentation"): target})
        warm, frame = self.warm, self._frames.index if self._frames.count > 1 else None
        save_edits(volume, target, False)

        def progressed(event: ProgressEvent) -> None:
            self._progressed(event)
            self.logic.runs.tell(RunEvent("progress", volume, event))

        def done(entered: Entered) -> None:
            self._run_done(entered, frame)
            self.logic.runs.tell(RunEvent("end", volume, None, entered.node, entered.outcome.result))
            self._run_next()

        def failed(error: BaseException) -> None:
            self.logic.runs.tell(RunEvent("end", volume, error=error))
            if self._all_frames:
                self._waiting = []
            self._run_next()

        def stopped() -> None:
            self.logic.runs.tell(RunEvent("end", volume))
            self._waiting, self._all_frames = [], False

        handlers = Handlers(
            progressed,
            lambda outcome: enter_result(outcome, request, volume, target, progressed),
            done,
            lambda error, trace: failed(error),
            stopped,
        )
        pace = Pace.of_run(request.settings.accurate, times_of(self._kind_of_run()).stages)
        self.logic.runs.tell(RunEvent("start", volume))
        return self._start(RUN_TITLE, lambda reporter: do_run(request, warm, reporter), handlers, pace)

    def _run_done(self, entered: Entered, frame: int | None) -> None:
        if frame:  # a later frame of a series: do not move the views
            entered = replace(entered, first=False)
        self._last_run = entered
        self.state = replace(self.state, segmentation=entered.node)
        if self.parameters is not None:
            self.parameters.outputSegmentation = entered.node  # the next run on this scan replaces it
        self._keep_frame(entered.node, frame)
        seconds = time.monotonic() - self._started
        remember(self._kind_of_run(), RunTimes(round(seconds, 1), dict(entered.record.provenance.seconds)))
        result = entered.outcome.result
        self.show_status(
            _("Done in {time}. Check the result before you use it.").format(
                time=in_language(in_words(seconds, about=False))
            )
            if result.heart_found
            else _("Done: no heart was found.")
        )
        worst = f", findings up to {result.worst.value}" if result.worst else ""
        self.add_to_log(f"done: {entered.node.GetName()}{worst}")

    def _keep_frame(self, segmentation: Any, frame: int | None) -> None:
        """Add the result of a frame to the sequence if all frames run or the segmentation belongs to a sequence."""
        browser = self._frames.browser
        if frame is not None and (self._all_frames or browser.GetSequenceNode(segmentation) is not None):
            keep_frame(browser, segmentation, frame)

    def facts(self) -> dict[str, Any]:
        """Return the user's choices for an error report."""
        p = self.parameters
        node = p.inputVolume if p is not None else None
        image = node.GetImageData() if node is not None else None
        size = "x".join(str(n) for n in image.GetDimensions()) if image is not None else "none"
        spacing = "x".join(f"{s:.3g}" for s in node.GetSpacing()) if node is not None else ""
        return {
            "scan": f"{size} voxels, {spacing} mm" if node is not None else "none",
            "model": self.state.model or "none",
            "device": self.ui.deviceLabel.text,
            "settings": json.dumps(self.settings().to_dict()),
            "separate process": p.separateProcess if p is not None else "",
        }

    def job_failed(self, error: BaseException) -> None:
        """Let the sections react to the error."""
        for section in self._sections:
            section.failed(error)

    def job_ended(self) -> None:
        """Stop watching the nodes of the run."""
        self._watch.stop()

    def _node_lost(self, what: str) -> None:
        if self._job is not None and not self._ended_by:
            self._ended_by = what
            self.cancel()

    # --- controls ------------------------------------------------------------------------------------------------

    def look_at_device(self) -> None:
        """Find the device of a run in the background."""
        self._device_asked = self._device_wish()
        wish = self._device_asked[0]

        def show(found: tuple[DeviceReport, tuple[str, ...]]) -> None:
            self._device, self._cards = found
            self._show_device()

        self.start_quietly(lambda reporter: (look_at_device(wish), list_cards()), show)

    def _device_wish(self) -> tuple[str, str]:
        """Return the chosen device and the package that runs the network, which may have changed."""
        wish = self.parameters.device if self.parameters is not None else "auto"
        return wish, installed_runtime()

    def _show_device(self) -> None:
        p = self.parameters
        if p is not None:
            self._devices.show(p.device, self._cards)
        if self._device is not None:
            seconds = times_of(self._kind_of_run()).total
            self.ui.deviceLabel.text = device_line(self._device, seconds, p is not None and p.accurate)

    def _show_inputs(self) -> None:
        ui, p, running = self.ui, self.parameters, self._job is not None
        for widget, tip in self._lockable():
            widget.enabled = not running and p is not None
            widget.toolTip = busy() if running else tip
        structures = p.structures if p is not None else ""
        self._structures.show(structures, self.models.known, not running and p is not None)
        self._frames.show(self.state.volume, not running)
        ui.progressBar.visible = running
        self._show_device()

    def _lockable(self) -> list[tuple[Any, str]]:
        """Controls to disable during a run, with their tooltips."""
        if not hasattr(self, "_tips"):
            names = (
                "inputSelector",
                "outputSelector",
                "modelComboBox",
                "parameterSetSelector",
                "accurateCheckBox",
                "cleanUpCheckBox",
                "deviceComboBox",
                "keepWarmCheckBox",
                "separateProcessCheckBox",
                "segmentAllButton",
            )
            self._tips = [(getattr(self.ui, name), getattr(self.ui, name).toolTip) for name in names]
        return self._tips

    def _show_button(self) -> None:
        button = self.ui.segmentButton
        if self._job is not None:
            stopping = self._job.token.cancelled
            button.text = _("Cancel")
            button.enabled = not stopping
            button.toolTip = (
                _("Stopping at the next tile.") if stopping else _("Stop at the next tile; nothing is changed.")
            )
            return
        why = self.obstacle()
        button.text = _("Segment heart")
        button.enabled = self.parameters is not None
        button.toolTip = why or _("Segment the heart in the chosen scan.")

    def _model_chosen(self, index: int) -> None:
        if self.parameters is not None and index >= 0:
            self.parameters.model = self.ui.modelComboBox.currentText
            self.models.show(self.parameters.model)
            self.refresh()

    def _device_chosen(self, device: str) -> None:
        if self.parameters is not None:
            self.parameters.device = device
            self.refresh()

    def _scan_changed(self) -> None:
        """Choose the output segmentation for a newly chosen scan."""
        p, before = self.parameters, self._scan_seen
        self._scan_seen = p.inputVolume
        if before is not None:
            p.outputSegmentation = output_for(p.inputVolume, p.outputSegmentation)

    def _structures_chosen(self) -> None:
        if self.parameters is not None:
            self.parameters.structures = self._structures.text(self.models.known)
            self.refresh()

    def _copy(self, text: str) -> None:
        slicer.app.clipboard().setText(text)

    def _kind_of_run(self) -> str:
        device = self._device.name if self._device is not None else ""
        accurate = self.parameters.accurate if self.parameters is not None else False
        model = self.models.chosen
        return "|".join([model.name if model is not None else "", device, "accurate" if accurate else "fast"])


def make_section(path: str) -> Section:
    """Create the section named ``"package.module:Class"``."""
    import importlib

    module, _colon, name = path.partition(":")
    return getattr(importlib.import_module(module), name)()
