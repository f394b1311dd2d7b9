"""The section *Mend*: marks in the slice views correct the segments in place, with undo and redo."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..anatomy import STRUCTURES
from ..errors import HeartSegError, InputError
from ..marks import BACKGROUND
from ..provenance import Provenance
from ..scene.frames import save_edits
from ..scene.language import in_language
from ..scene.masks import masks_of, overlapping_structures
from ..scene.mending import (
    POINTS,
    STROKE,
    PlacedMark,
    SceneMender,
    check_segments,
    forget_marks_node,
    is_stroke,
    is_unfinished,
    marks_nodes,
    node_for_marks,
    remove_unfinished,
    scan_state_of,
    show_surfaces,
    state_of,
)
from .mend_work import Opened, measure_mended, open_session
from .names import structure_name
from .record import RunRecord, read_record, write_record
from .run import NodeWatch
from .section import PanelApi, Section, State, scan_of_segmentation, segmentation_obstacle

KEYS = (BACKGROUND, *(s.key for s in STRUCTURES))
"""Structure of each number key, 0 to 7."""
STROKE_KEY = "9"
"""Key that switches between points and strokes."""


class Mend(Section):
    """Marks on the displayed segmentation."""

    name = "Mend"

    def __init__(self) -> None:
        super().__init__()
        self._state = State()
        self._opened: Opened | None = None
        self._mender: SceneMender | None = None
        self._observed: list[tuple[Any, int]] = []
        self._taken_back: list[tuple[str, str, list[list[float]]]] = []
        self._refused: tuple[str, ...] = ()
        self._placed_in = ""
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
        ui.strokeCheckBox.connect("toggled(bool)", lambda on: self._choose())
        for name, act in (
            ("mendButton", self.start_or_stop),
            ("undoMarkButton", self.undo),
            ("redoMarkButton", self.redo),
        ):
            getattr(ui, name).connect("clicked()", act)
        self._tips = {name: getattr(ui, name).toolTip for name in ("mendButton", "undoMarkButton", "redoMarkButton")}
        for number in range(len(KEYS)):
            self._add_shortcut(str(number), lambda index=number: self._choose(index))
        self._add_shortcut(STROKE_KEY, ui.strokeCheckBox.toggle)

    def _add_shortcut(self, key: str, act: Any) -> None:
        shortcut = qt.QShortcut(qt.QKeySequence(key), self.widget)
        shortcut.context = qt.Qt.ApplicationShortcut
        shortcut.enabled = False
        shortcut.connect("activated()", act)
        self._shortcuts.append(shortcut)

    def update(self, state: State) -> None:
        self._state = state
        if self._mender is not None and not self._is_current(state):
            self.stop()
        self._enable()

    def before_run(self, state: State) -> bool:
        self.stop()
        return True

    def cleanup(self) -> None:
        self.stop()
        self._state = State()

    def _is_current(self, state: State) -> bool:
        """Whether the displayed result is still the one that is mended, not another run or an earlier one."""
        assert self._mender is not None and self._opened is not None
        made = state.record.provenance if state.record is not None else Provenance()
        mended = self._opened.before.provenance
        is_same = (made.created, made.seconds) == (mended.created, mended.seconds)  # two runs may end in one second
        return self._mender.alive and state.segmentation is self._mender.segmentation and is_same

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
        save_edits(scan, node, True)
        record, before = self._state.record, (state_of(node), scan_state_of(scan))
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
            lambda opened: self._begin(opened, SceneMender(opened.session, node, scan, *before)),
            nodes={_("segmentation"): node, _("scan"): scan},
        )

    def undo(self) -> None:
        """Take back the last mark: its point or stroke is removed, and the segments follow."""
        last = self._mender.last_mark() if self._mender is not None else None
        if last is None:
            return
        indices = range(last.node.GetNumberOfControlPoints()) if is_stroke(last.node) else [last.index]
        positions = [[0.0, 0.0, 0.0] for _ in indices]
        for index, position in zip(indices, positions, strict=True):
            last.node.GetNthControlPointPositionWorld(index, position)
        label = last.node.GetNthControlPointLabel(last.index)
        self._taken_back.append((STROKE if is_stroke(last.node) else POINTS, label, positions))
        self._change(last.remove)

    def redo(self) -> None:
        """Bring back the mark that was taken back last."""
        if self._mender is None or not self._taken_back:
            return
        kind, label, positions = self._taken_back.pop()

        def add() -> None:
            node = self._node_for(kind)
            for position in positions:
                node.SetNthControlPointLabel(node.AddControlPointWorld(*position), label)

        self._change(add)

    # --- marks ---------------------------------------------------------------------------------------------------

    def _begin(self, opened: Opened, mender: SceneMender) -> None:
        """Listen to the marks of the segmentation, and obey those that are there."""
        if mender.segmentation is not self._state.segmentation:
            return  # another one was chosen meanwhile
        self._opened, self._mender = opened, mender
        self._taken_back, self._refused = [], ()
        interaction = _interaction_node()
        tag = interaction.AddObserver(interaction.EndPlacementEvent, lambda caller, event: self._placement_ended())
        self._observed.append((interaction, tag))
        for shortcut in self._shortcuts:
            shortcut.enabled = True
        self._observe()
        self._place()
        self._follow()

    def _observe(self) -> None:
        """Listen to all nodes of marks."""
        assert self._mender is not None
        known = [node for node, _tag in self._observed]
        nodes = marks_nodes(self._mender.segmentation)
        for node in (n for n in nodes if n not in known):
            for event in (node.PointPositionDefinedEvent, node.PointRemovedEvent, node.PointEndInteractionEvent):
                self._observed.append((node, node.AddObserver(event, lambda caller, event: self._points_changed())))
        named = {"segmentation": self._mender.segmentation, "scan": self._mender.volume}
        self._watch.start({**named, **{node.GetID(): node for node in nodes}})

    def _node_for(self, kind: str) -> Any:
        """The node that takes the next marks; the removal of an unfinished stroke is not the user's."""
        assert self._mender is not None
        was, self._busy = self._busy, True
        try:
            node = node_for_marks(self._mender.segmentation, kind)
        finally:
            self._busy = was
        self._observe()
        return node

    def _place(self) -> None:
        """Let the next clicks place marks of the chosen structure and kind."""
        kind = STROKE if self.ui.strokeCheckBox.checked else POINTS
        node = self._node_for(kind)
        index = self.ui.markStructureComboBox.currentIndex
        text = f"-{KEYS[index]}" if index > 0 and self.ui.notCheckBox.checked else KEYS[index]
        node.SetControlPointLabelFormat(text)
        for i in range(node.GetNumberOfControlPoints()):  # the point below the pointer was named when it appeared
            if is_unfinished(node) or node.GetNthControlPointPositionStatus(i) == node.PositionPreview:
                node.SetNthControlPointLabel(i, text)
        self._placed_in = node.GetID()
        slicer.modules.markups.logic().SetActiveList(node)
        interaction = _interaction_node()
        interaction.SetPlaceModePersistence(int(kind == POINTS))
        interaction.SetCurrentInteractionMode(interaction.Place)

    def _placement_ended(self) -> None:
        """After a stroke comes the next one. A click with the right button ends placing; a number key resumes it."""
        selection = slicer.mrmlScene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
        placed = slicer.mrmlScene.GetNodeByID(self._placed_in)
        is_ours = placed is not None and selection.GetActivePlaceNodeID() == self._placed_in
        if self._mender is None or self._busy or not is_ours or not is_stroke(placed):
            return
        if not is_unfinished(placed):
            self._place()
        else:
            self._busy = True
            remove_unfinished(self._mender.segmentation)
            self._busy = False

    def _points_changed(self) -> None:
        """A mark was placed, moved or removed by the user; a preview, removed when the pointer leaves, is no mark."""
        if self._mender is not None and not self._busy and self._follow():
            self._taken_back = []
            self._enable()

    def _change(self, act: Any) -> None:
        """Change the marks from here, then follow them."""
        interaction = _interaction_node()
        is_placing = interaction.GetCurrentInteractionMode() == interaction.Place
        self._busy = True
        try:
            act()
        finally:
            self._busy = False
        self._follow()
        if is_placing and self._mender is not None:
            self._place()

    def _follow(self) -> bool:
        """Make the segments obey the marks, and return whether they changed; measures and surfaces follow."""
        assert self._mender is not None
        self._busy = True  # a point outside of the scan is removed
        try:
            synced = self._mender.sync()
            for placed in reversed([one for one in synced.outside if not is_stroke(one.node)]):
                placed.remove()
        except InputError as error:
            self.panel.show_error(str(error))
            self.stop()
            self._enable()
            return False
        finally:
            self._busy = False
        if synced.refused and synced.refused != self._refused:
            self.panel.show_error(" ".join(map(in_language, synced.refused)))
        self._refused = synced.refused
        strokes = [one for one in synced.outside if is_stroke(one.node)]
        if strokes:  # Slicer may be placing the last one at this moment
            qt.QTimer.singleShot(0, lambda: self._remove(strokes))
        if synced.changed:
            self._measure()
        self._enable()
        return synced.changed

    def _remove(self, strokes: list[PlacedMark]) -> None:
        """Remove strokes that lie outside of the scan."""
        self._busy = True
        for placed in (one for one in strokes if one.node.GetScene() is not None):
            placed.remove()
        self._busy = False

    def _measure(self) -> None:
        assert self._mender is not None and self._opened is not None
        self._serial += 1
        serial, opened, mender, node = self._serial, self._opened, self._mender, self._mender.segmentation
        labels, mend, state = opened.session.mender.labels.copy(), opened.session.mend, mender.state
        name = self._state.record.scan if self._state.record is not None else opened.volume.name
        is_edited = opened.session.edited or (self._state.record is not None and self._state.record.edited)

        def work(reporter: Any) -> Any:
            return measure_mended(opened, labels, mend, lambda: serial == self._serial, reporter)

        def keep(made: Any) -> None:
            if made is None or serial != self._serial or node.GetScene() is None:
                return
            result, prepared = made
            if state_of(node) == state:
                show_surfaces(node, prepared)
                write_record(node, replace(RunRecord.of(result, name), edited=is_edited))
            elif self._mender is mender:  # edited meanwhile
                self._follow()
                return
            else:
                write_record(node, replace(read_record(node) or RunRecord(name), provenance=result.provenance))
            self.panel.refresh()

        self.panel.start_quietly(work, keep)

    def stop(self) -> None:
        """Stop listening; the segments stay as they are, and the marks stay in the scene."""
        if self._mender is None:
            return
        node, self._mender = self._mender.segmentation, None
        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._watch.stop()
        for shortcut in self._shortcuts:
            shortcut.enabled = False
        interaction = _interaction_node()
        if interaction is not None:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        if node.GetScene() is not None and not node.GetScene().IsClosing():
            remove_unfinished(node)
        self._opened, self._observed, self._taken_back = None, [], []

    def _lost(self, what: str) -> None:
        """A node of the session leaves the scene: a stroke is taken back, anything else ends the session.

        Segments that stay are still measured, on the copy of the scan.
        """
        node = slicer.mrmlScene.GetNodeByID(what)  # of marks, else None
        if self._mender is None or self._busy:
            return
        if node is not None and is_stroke(node) and not slicer.mrmlScene.IsClosing():
            forget_marks_node(self._mender.segmentation, node)
            self._points_changed()
            return
        self.stop()
        self._enable()

    def _choose(self, index: int | None = None) -> None:
        """Name the next marks after the structure of a number key, or the chosen one, and place them."""
        if index is not None:
            was = self.ui.markStructureComboBox.blockSignals(True)
            self.ui.markStructureComboBox.setCurrentIndex(index)
            self.ui.markStructureComboBox.blockSignals(was)
        self.ui.notCheckBox.enabled = self.ui.markStructureComboBox.currentIndex > 0
        if self._mender is not None:
            self._place()

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
        text = _(
            "Click in a slice view to mark a place, twice for a stroke. Keys: 0 to 7, structure; 9, points or strokes."
        )
        text += " " + _("Marks: {count}.")
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


def _interaction_node() -> Any:
    """The node that says what clicks in the views do."""
    return slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
