"""The section *Results*: table of measures, findings, comparison, editing, measuring again, undo."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..anatomy import STRUCTURES, Structure
from ..errors import HeartSegError
from ..findings import Finding, Severity, merged_findings, worst_severity
from ..scene.frames import browser_of, keep_frame, save_edits
from ..scene.language import in_language
from ..scene.masks import masks_of
from ..scene.segmentation import Replaced
from .names import structure_name
from .record import RunRecord, read_record, write_record
from .section import PanelApi, Section, State, busy, no_result, scan_of_segmentation, segmentation_obstacle
from .views import show_segmentation
from .work import measure_again

QUANTITIES = (("volume", _("Volume\n(mL)")), ("mass", _("Mass\n(g)")), ("diameter", _("Diameter\n(mm)")))
_MARKS = {Severity.ERROR: "✖", Severity.WARNING: "▲", Severity.INFO: "ℹ"}
"""Marks that differ in shape, because text colours come from the palette; suits dark themes and colour blindness."""


class Results(Section):
    """Segments, measures and findings of the segmentation chosen in this section."""

    name = "Results"

    def __init__(self) -> None:
        super().__init__()
        self._others: list[Any] = []
        self._state = State()
        self._undone: Replaced | None = None

    def setup(self, panel: PanelApi) -> None:
        super().setup(panel)
        ui = self.ui
        ui.shownSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_shown)
        ui.compareComboBox.connect("currentIndexChanged(int)", lambda index: self._fill_table())
        ui.measuresTable.connect("cellClicked(int,int)", lambda row, column: self._jump(row))
        for name, act in (
            ("showButton", self.show_heart),
            ("editButton", self.edit),
            ("recomputeButton", self.recompute),
            ("undoButton", self.undo),
        ):
            getattr(ui, name).connect("clicked()", act)
        names = ("showButton", "editButton", "recomputeButton", "undoButton", "compareComboBox", "show3DButton")
        self._tips = {name: getattr(ui, name).toolTip for name in names}

    def update(self, state: State) -> None:
        if self.panel.last_run is not None:
            self._undone = None
        new_result = state.result is not None and state.result is not self._state.result
        appeared = state.record is not None and self._state.record is None
        self._state = state
        ui = self.ui
        if appeared or new_result:
            ui.resultsSection.collapsed = False
        was = ui.shownSelector.blockSignals(True)
        ui.shownSelector.setCurrentNode(state.segmentation)
        ui.shownSelector.blockSignals(was)
        self._list_others()
        self._fill_table()
        ui.findingsLabel.text = findings_in_html(state.record) if state.record is not None else ""
        ui.findingsLabel.visible = state.record is not None
        ui.measuresTable.visible = state.record is not None
        for widget in (ui.segmentsTable, ui.show3DButton):
            widget.setSegmentationNode(state.segmentation)
        ui.segmentsTable.visible = state.segmentation is not None
        self._enable(state)
        if new_result and self.panel.last_run is not None and self.panel.last_run.first:
            self.show_heart()

    def cleanup(self) -> None:
        self._others, self._state, self._undone = [], State(), None

    # --- buttons -------------------------------------------------------------------------------------------------

    def show_heart(self) -> None:
        """Centre the views on the heart."""
        if self._state.segmentation is not None:
            show_segmentation(self._state.segmentation)

    def edit(self) -> None:
        """Open the segmentation and its scan in the Segment Editor."""
        node = self._state.segmentation
        save_edits(scan_of_segmentation(self._state), node, True)
        slicer.util.selectModule("SegmentEditor")
        editor = getattr(getattr(slicer.modules, "SegmentEditorWidget", None), "editor", None)
        if editor is not None:
            editor.setSegmentationNode(node)
            editor.setSourceVolumeNode(scan_of_segmentation(self._state))

    def recompute(self) -> None:
        """Measure and check the current segments."""
        node = self._state.segmentation
        scan = scan_of_segmentation(self._state)
        try:
            view, masks = self.panel.scan_of(scan), masks_of(node, scan)
        except HeartSegError as error:
            self.panel.show_error(str(error))
            return
        record = self._state.record or RunRecord(view.name)

        def keep(value: Any) -> None:
            _labels, measures, findings = value
            if node.GetScene() is not None:
                write_record(node, record.measured_again(measures, findings))
                browser = browser_of(scan)
                if browser is not None and browser.GetSequenceNode(node) is not None:
                    keep_frame(browser, node, browser.GetSelectedItemNumber())
                self.panel.show_status(_("Measured again, after edits."))

        self.panel.start(_("Measure again"), lambda reporter: measure_again(view, masks, record, reporter), keep)

    def undo(self) -> None:
        """Restore the content of the segmentation before the last run; a second call restores the current content."""
        earlier = self._earlier()
        if earlier is None:
            return
        self.panel.forget_last_run()
        self._undone = None
        now = Replaced.of(earlier.node)
        try:
            earlier.restore()
        except HeartSegError as error:
            self.panel.show_error(str(error))
        else:
            self._undone = now
            self.panel.show_status(_("The earlier segmentation is back. Press again to undo that."))
        self.panel.refresh()

    def _earlier(self) -> Replaced | None:
        """Return the content that *Undo* restores, or ``None``."""
        last = self.panel.last_run
        return last.replaced if last is not None else self._undone

    # --- display -------------------------------------------------------------------------------------------------

    def _on_shown(self, node: Any) -> None:
        self.panel.show_results_of(node)

    def _enable(self, state: State) -> None:
        node, earlier = state.segmentation, self._earlier()
        can_undo = earlier is not None and earlier.node is node
        unless_shown = "" if node is not None else no_result()
        unless_idle = busy() if state.running else ""
        for name, why in (
            ("showButton", unless_shown),
            ("editButton", unless_shown or unless_idle),
            ("recomputeButton", segmentation_obstacle(state)),
            ("undoButton", unless_idle if can_undo else _("The last run replaced nothing.")),
            ("compareComboBox", "" if self._others else _("There is no other run in this scene.")),
            ("show3DButton", unless_shown),
        ):
            widget = getattr(self.ui, name)
            widget.enabled = not why
            widget.toolTip = why or self._tips[name]

    def _list_others(self) -> None:
        """List the other segmentations in the scene that are results of runs."""
        box, shown = self.ui.compareComboBox, self._state.segmentation
        kept = self._others[box.currentIndex - 1] if 0 < box.currentIndex <= len(self._others) else None
        found = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        self._others = [n for n in found if n is not shown and read_record(n) is not None]
        was = box.blockSignals(True)
        box.clear()
        box.addItem(_("nothing"))
        for node in self._others:
            box.addItem(node.GetName())
        box.setCurrentIndex(self._others.index(kept) + 1 if kept in self._others else 0)
        box.blockSignals(was)

    def _fill_table(self) -> None:
        record, table = self._state.record, self.ui.measuresTable
        if record is None:
            table.rowCount = 0
            return
        index = self.ui.compareComboBox.currentIndex
        other = read_record(self._others[index - 1]) if 0 < index <= len(self._others) else None
        rows = rows_of(record, other)
        titles = [_("Structure")]
        for _quantity, title in QUANTITIES:
            titles += [title, "Δ"] if other is not None else [title]
        titles.append(_("Findings"))
        table.columnCount = len(titles)
        table.setHorizontalHeaderLabels(titles)
        table.rowCount = len(rows)
        for r, (structure, cells, findings) in enumerate(rows):
            table.setItem(r, 0, _named_cell(structure))
            for c, text in enumerate(cells, 1):
                cell = qt.QTableWidgetItem(text)
                cell.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(r, c, cell)
            table.setItem(r, len(titles) - 1, _findings_cell(findings))
        for column in range(len(titles) - 1):  # the last column takes the remaining width
            table.resizeColumnToContents(column)

    def _jump(self, row: int) -> None:
        rows = rows_of(self._state.record, None) if self._state.record is not None else []
        if row < len(rows) and self._state.segmentation is not None:
            structure = rows[row][0]
            if not show_segmentation(self._state.segmentation, structure.key):
                self.panel.show_status(_("There is no {name} to jump to.").format(name=structure_name(structure.key)))


def rows_of(record: RunRecord, other: RunRecord | None) -> list[tuple[Structure, list[str], list[Finding]]]:
    """Return the table rows: structure, cells (value, and difference from another record if given), findings."""
    measured = {m.structure for m in record.measures}
    rows = []
    for structure in (s for s in STRUCTURES if s.key in measured):
        cells = []
        for quantity, _title in QUANTITIES:
            value = record.value(structure.key, quantity)
            cells.append(f"{value:.1f}" if value is not None else "–" if quantity == "volume" else "")
            if other is not None:
                before = other.value(structure.key, quantity)
                cells.append(f"{value - before:+.1f}" if value is not None and before is not None else "")
        rows.append((structure, cells, [f for f in record.findings if f.structure == structure.key]))
    return rows


def findings_in_html(record: RunRecord) -> str:
    """Format the findings, most serious first, one per line with a mark."""
    lines = ["<i>" + _("Measured again after edits.") + "</i>"] if record.edited else []
    lines += [f"{_MARKS[f.severity]} {_escaped(in_language(f.message))}" for f in merged_findings(record.findings)]
    if not record.findings:
        lines.append(_("No finding. This does not prove that the result is correct: check it."))
    return "<br>".join(lines)


def _named_cell(structure: Structure) -> Any:
    full = structure_name(structure.key)
    name = full.replace("left ventricular", "LV").replace("ascending", "asc.").replace("pulmonary", "pulm.")
    cell = qt.QTableWidgetItem(name[0].upper() + name[1:])
    swatch = qt.QPixmap(12, 12)
    swatch.fill(qt.QColor(*structure.color))
    cell.setIcon(qt.QIcon(swatch))
    cell.setToolTip(_("Click to jump to the {name}.").format(name=full))
    return cell


def _findings_cell(findings: list[Finding]) -> Any:
    worst = worst_severity(findings)
    cell = qt.QTableWidgetItem("")
    if worst is not None:
        mark = _MARKS[worst]
        cell.setText(f"{mark} {len(findings)}" if len(findings) > 1 else f"{mark} {_in_short(findings[0])}")
        cell.setToolTip("\n".join(in_language(f.message) for f in findings))
    return cell


def _in_short(finding: Finding) -> str:
    """Return a finding on a structure in a few words, or its code."""
    return {
        "structure-missing": _("not found"),
        "several-components": _("pieces removed"),
        "cut-by-border": _("cut off"),
        "volume-implausible": _("unusual size"),
        "shape-implausible": _("unusual shape"),
        "not-enclosed": _("not enclosed"),
        "wrong-neighbours": _("wrong neighbours"),
        "sides-swapped": _("sides swapped"),
        "structure-doubtful": _("doubtful"),
    }.get(finding.code, finding.code)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
