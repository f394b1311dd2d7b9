"""The section *Mend*: marks in the slice views correct the segments in place, with undo and redo."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..anatomy import STRUCTURES
from ..errors import HeartSegError
from ..marks import BACKGROUND
from ..provenance import Provenance
from ..scene.language import in_language
from ..scene.mending import SceneMender, check_segments, marks_node_of, show_surfaces
from .mend_work import Opened, measure_mended, open_session, overlapping_structures
from .names import structure_name
from .record import RunRecord, write_record
from .results import masks_of
from .run import NodeWatch
from .section import PanelApi, Section, State, scan_of_segmentation, segmentation_obstacle

KEYS = (BACKGROUND, *(s.key for s in STRUCTURES))
"""Structure of each number key, 0 to 7."""


class Mend(Section):
    """Marks on the displayed segmentation."""

    name = "Mend"

    def __init__(self) -> None:
        super().__init__()
        self._state = State()
        self._opened: Opened | None = None
        self._mender: SceneMender | None = None
        self._tags: list[int] = []
        self._taken_back: list[tuple[str, list[float]]] = []
        self._refused: tuple[str, ...] = ()
        self._busy = False
        self._serial = 0
        self._shortcuts: list[Any] = []
        self._watch = NodeWatch(self._lost)

    def setup(self, panel: PanelApi) -> None:
        super().setup(panel)
        ui = self.ui
        ui.markStructureComboBox.addItem(_("0  none of these (background)"))
        for s in STRUCTURES:
            ui.markStructureComboBox.addItem(f"{s.label}  {s.key}: {structure_name(s.key)}")
        ui.markStructureComboBox.setCurrentIndex(1)
        ui.markStructureComboBox.connect("currentIndexChanged(int)", lambda index: self._choose())
        ui.notCheckBox.connect("toggled(bool)", lambda on: self._choose())
        for name, act in (
            ("mendButton", self.start_or_stop),
            ("undoMarkButton", self.undo),
            ("redoMarkButton", self.redo),
        ):
            getattr(ui, name).connect("clicked()", act)
        self._tips = {name: getattr(ui, name).toolTip for name in ("mendButton", "undoMarkButton", "redoMarkButton")}
        for number in range(len(KEYS)):
            shortcut = qt.QShortcut(qt.QKeySequence(str(number)), self.widget)
            shortcut.context = qt.Qt.ApplicationShortcut
            shortcut.enabled = False
            shortcut.connect("activated()", lambda index=number: ui.markStructureComboBox.setCurrentIndex(index))
            self._shortcuts.append(shortcut)

    def update(self, state: State) -> None:
        self._state = state
        if self._mender is not None and (not self._mender.alive or state.segmentation is not self._mender.segmentation):
            self.stop()
        self._enable()

    def before_run(self, state: State) -> bool:
        self.stop()
        return True

    def cleanup(self) -> None:
        self.stop()
        self._state = State()

    @property
    def is_mending(self) -> bool:
        """Whether the section is listening to marks."""
        return self._mender is not None

    # --- buttons -------------------------------------------------------------------------------------------------

    def start_or_stop(self) -> None:
        """Prepare for marks, or stop listening to them."""
        if self.is_mending:
            self.stop()
            self._enable()
            return
        node, scan = self._state.segmentation, scan_of_segmentation(self._state)
        record = self._state.record
        try:
            elsewhere = check_segments(node, scan)
            view, masks = self.panel.scan_of(scan), masks_of(node, scan)
        except HeartSegError as error:
            self.panel.show_error(str(error))
            return
        binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
        has_layers = node.GetSegmentation().GetNumberOfLayers(binary) > 1  # segments of one layer do not overlap
        if not _may_merge(elsewhere, overlapping_structures(masks, view.geometry.shape) if has_layers else []):
            return
        provenance = record.provenance if record is not None else Provenance()
        chosen = self.panel.chosen_model()
        self.panel.start(
            _("Prepare mending"),
            lambda reporter: open_session(view, masks, provenance, chosen, reporter),
            lambda opened: self._begin(opened, node, scan),
            nodes={_("segmentation"): node, _("scan"): scan},
        )

    def undo(self) -> None:
        """Take back the last mark: its point is removed, and the segments follow."""
        last = self._mender.last_point() if self._mender is not None else None
        if self._mender is None or last is None:
            return
        node, position = self._mender.marks_node, [0.0, 0.0, 0.0]
        node.GetNthControlPointPositionWorld(last, position)
        self._taken_back.append((node.GetNthControlPointLabel(last), position))
        self._change(lambda: node.RemoveNthControlPoint(last))

    def redo(self) -> None:
        """Bring back the mark that was taken back last."""
        if self._mender is None or not self._taken_back:
            return
        node = self._mender.marks_node
        label, position = self._taken_back.pop()

        def add() -> None:
            node.SetNthControlPointLabel(node.AddControlPointWorld(*position), label)

        self._change(add)

    # --- marks ---------------------------------------------------------------------------------------------------

    def _begin(self, opened: Opened, node: Any, scan: Any) -> None:
        """Listen to the points of the segmentation's marks, and obey those that are there."""
        if node is not self._state.segmentation:
            return  # another one was chosen meanwhile
        marks_node = marks_node_of(node)
        self._opened, self._mender = opened, SceneMender(opened.session, node, scan, marks_node)
        self._taken_back, self._refused = [], ()
        for event in ("PointPositionDefinedEvent", "PointRemovedEvent", "PointEndInteractionEvent"):
            number = getattr(slicer.vtkMRMLMarkupsNode, event)
            self._tags.append(marks_node.AddObserver(number, lambda caller, event: self._points_changed()))
        self._watch.start({"segmentation": node, "scan": scan, "marks": marks_node})
        for shortcut in self._shortcuts:
            shortcut.enabled = True
        self._choose()
        logic = slicer.modules.markups.logic()
        logic.SetActiveList(marks_node)
        logic.StartPlaceMode(1)
        self._follow()

    def _points_changed(self) -> None:
        """A point was placed, moved or removed by the user; a preview, removed when the pointer leaves, is no mark."""
        if self._mender is not None and not self._busy and self._follow():
            self._taken_back = []
            self._enable()

    def _change(self, act: Any) -> None:
        """Change the points from here, then follow them."""
        self._busy = True
        try:
            act()
        finally:
            self._busy = False
        self._follow()

    def _follow(self) -> bool:
        """Make the segments obey the points, and return whether they changed; measures and surfaces follow."""
        assert self._mender is not None
        self._busy = True  # a point outside of the scan is removed
        try:
            synced = self._mender.sync()
        finally:
            self._busy = False
        if synced.refused and synced.refused != self._refused:
            self.panel.show_error(" ".join(map(in_language, synced.refused)))
        self._refused = synced.refused
        if synced.changed:
            self._measure()
        self._enable()
        return synced.changed

    def _measure(self) -> None:
        assert self._mender is not None and self._opened is not None
        self._serial += 1
        serial, opened, node = self._serial, self._opened, self._mender.segmentation
        labels, mend = opened.session.mender.labels.copy(), opened.session.mend
        name = self._state.record.scan if self._state.record is not None else opened.volume.name

        def work(reporter: Any) -> Any:
            return measure_mended(opened, labels, mend, lambda: serial == self._serial, reporter)

        def keep(made: Any) -> None:
            if made is None or serial != self._serial or node.GetScene() is None:
                return
            result, prepared = made
            show_surfaces(node, prepared)
            write_record(node, RunRecord.of(result, name))
            self.panel.refresh()

        self.panel.start_quietly(work, keep)

    def stop(self) -> None:
        """Stop listening; the segments stay as they are, and the marks stay in the scene."""
        if self._mender is None:
            return
        for tag in self._tags:
            self._mender.marks_node.RemoveObserver(tag)
        self._watch.stop()
        for shortcut in self._shortcuts:
            shortcut.enabled = False
        interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        if interaction is not None:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        self._mender, self._opened, self._tags, self._taken_back = None, None, [], []

    def _lost(self, what: str) -> None:
        """A node of the session leaves the scene; segments that stay are still measured, on the copy of the scan."""
        self.stop()
        self._enable()

    def _choose(self) -> None:
        """Name the next points after the chosen structure."""
        index = self.ui.markStructureComboBox.currentIndex
        self.ui.notCheckBox.enabled = index > 0
        denied = index > 0 and self.ui.notCheckBox.checked
        if self._mender is not None:
            self._mender.marks_node.SetControlPointLabelFormat(f"-{KEYS[index]}" if denied else KEYS[index])

    # --- display -------------------------------------------------------------------------------------------------

    def _enable(self) -> None:
        ui = self.ui
        marks = self._mender.session.mender.marks if self._mender is not None else ()
        nothing = _("There is no mark to take back.")
        for name, reason in (
            ("mendButton", "" if self.is_mending else segmentation_obstacle(self._state)),
            ("undoMarkButton", "" if marks else nothing),
            ("redoMarkButton", "" if self._taken_back else _("No mark was taken back.")),
        ):
            widget = getattr(ui, name)
            widget.enabled = not reason
            widget.toolTip = reason or self._tips[name]
        ui.mendButton.text = _("Stop mending") if self.is_mending else _("Start mending")
        ui.mendLabel.text = self._told(len(marks)) if self.is_mending else ""

    def _told(self, marks: int) -> str:
        assert self._mender is not None
        text = _("Click in a slice view to mark a place; number keys choose the structure. Marks: {count}.")
        lines = [text.format(count=marks)]
        if not self._mender.session.prior.source:
            lines.append(_("There are no probabilities of a network: only the segments guide the change."))
        return " ".join(lines)


def _may_merge(resampled: list[str], overlapping: list[str]) -> bool:
    """Ask whether the first mark may put all structures on the scan's voxels, if that loses anything."""
    lost = []
    if resampled:
        lost.append(_("{names}: resampled to the voxels of the scan").format(names=", ".join(resampled)))
    if overlapping:
        lost.append(_("{names}: cut where another structure overlaps").format(names=", ".join(overlapping)))
    question = _("The first mark changes segments for good. {what}. Go on?").format(what="; ".join(lost))
    return not lost or bool(slicer.util.confirmOkCancelDisplay(question, windowTitle=_("HeartSeg")))
