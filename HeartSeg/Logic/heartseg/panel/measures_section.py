"""The section *Measures*: standard views, wall map, tables and curves, bull's-eye plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..errors import HeartSegError, InputError
from ..measure import CardiacFunction, Unknown
from ..measure.bullseye import THICKENING, THICKNESS, drawn_quantities, segment_values
from ..result import Measure
from ..scene.frames import browser_of
from ..scene.language import in_language
from ..scene.masks import masks_of
from ..scene.study_tables import fill_curves, fill_study_tables
from ..scene.view_planes import ViewsBefore, orient_views
from ..scene.wall_model import remove_wall, show_wall
from .bullseye import bullseye_pixmap
from .measuring import Measured, MeasureRequest, measure_request
from .record import RunRecord
from .section import PanelApi, Section, State, scan_of_segmentation, segmentation_obstacle


def plane_names() -> dict[str, str]:
    """Return the names of the standard planes for messages."""
    return {
        "two_chamber": _("two-chamber"),
        "three_chamber": _("three-chamber"),
        "four_chamber": _("four-chamber"),
        "short_axis": _("short axis"),
    }


class Measures(Section):
    """Planes, wall and function of the displayed segmentation."""

    name = "Measures"

    def __init__(self) -> None:
        super().__init__()
        self._state = State()
        self._before: ViewsBefore | None = None
        self._measured: tuple[Any, tuple[int, int], Measured] | None = None

    def setup(self, panel: PanelApi) -> None:
        super().setup(panel)
        ui = self.ui
        actions = {
            "viewsButton": self.show_views,
            "undoViewsButton": self.undo_views,
            "wallButton": self.show_wall,
            "removeWallButton": self.remove_wall,
            "tablesButton": self.fill_tables,
            "copyBullseyeButton": self.copy_bullseye,
        }
        for name, act in actions.items():
            getattr(ui, name).connect("clicked()", act)
        ui.bullseyeComboBox.connect("currentIndexChanged(int)", lambda index: self._draw())
        self._tips = {name: getattr(ui, name).toolTip for name in actions}
        self._drawn: tuple[str, ...] = ()

    def update(self, state: State) -> None:
        if state.segmentation is not self._state.segmentation:
            self.ui.measuresLabel.text = ""
        self._state = state
        self._list_quantities()
        self._draw()
        self._enable()

    def cleanup(self) -> None:
        self._state, self._before, self._measured = State(), None, None

    # --- buttons -------------------------------------------------------------------------------------------------

    def show_views(self) -> None:
        """Orient the slice views along the standard planes."""
        self._with_measures(self._orient)

    def undo_views(self) -> None:
        """Restore the slice views and the layout."""
        if self._before is not None:
            self._before.restore()
        self._before = None
        self.ui.measuresLabel.text = ""
        self._enable()

    def show_wall(self) -> None:
        """Show the wall thickness on the endocardial surface."""
        self._with_measures(self._show_wall)

    def remove_wall(self) -> None:
        """Remove the surface with the wall thickness."""
        if self._state.segmentation is not None and not remove_wall(self._state.segmentation):
            self.ui.measuresLabel.text = _("There is no wall map.")

    def fill_tables(self) -> None:
        """Fill tables with all measures; for a time series, plot the volumes too."""
        self._with_measures(self._fill_tables)

    def copy_bullseye(self) -> None:
        """Copy the bull's-eye plot to the clipboard."""
        if self._drawn:
            slicer.app.clipboard().setPixmap(self.ui.bullseyeLabel.pixmap)

    # --- measuring -----------------------------------------------------------------------------------------------

    def _with_measures(self, then: Callable[[Measured], None]) -> None:
        """Measure the segments on the worker, unless they are measured already, and call ``then``."""
        node, scan = self._state.segmentation, scan_of_segmentation(self._state)
        known, times = self._known(), _times(node, scan)
        if known is not None:
            then(known)
            return
        try:
            request = self._request(node, scan)
        except HeartSegError as error:
            self.panel.show_error(str(error))
            return

        def done(measured: Measured) -> None:
            self._measured = (node, times, measured)
            if node is self._state.segmentation:
                then(measured)
                self.update(self._state)
            else:
                text = _("{name} was measured: choose it again to show its measures.")
                self.panel.show_status(text.format(name=node.GetName()))

        nodes = {_("segmentation"): node, _("scan"): scan}
        self.panel.start(_("Measure"), lambda reporter: measure_request(request, reporter), done, nodes=nodes)

    def _known(self) -> Measured | None:
        """Return the measures of the displayed segments, if they have not changed since."""
        node, scan = self._state.segmentation, scan_of_segmentation(self._state)
        if self._measured is None or scan is None or self._measured[:2] != (node, _times(node, scan)):
            return None
        return self._measured[2]

    def _request(self, node: Any, scan: Any) -> MeasureRequest:
        record = self._state.record
        frames = [_masks_or_none(n, scan) for n in _frame_nodes(node, scan)]
        several = sum(bool(f) for f in frames) >= 2
        return MeasureRequest(
            self.panel.scan_of(scan),
            masks_of(node, scan),
            frames if several else (),
            record if record is not None else RunRecord(""),
        )

    def _orient(self, measured: Measured) -> None:
        node, scan = self._state.segmentation, scan_of_segmentation(self._state)
        if measured.heart is None:
            self.ui.measuresLabel.text = _("The segments have no voxels.")
            return
        planes, names = measured.heart.planes, plane_names()
        reasons = [plane.why for f in fields(planes) if isinstance(plane := getattr(planes, f.name), Unknown)]
        if len(reasons) == len(fields(planes)):
            self.ui.measuresLabel.text = _("No standard plane: {why}.").format(
                why="; ".join(map(in_language, dict.fromkeys(reasons)))
            )
            return
        before, missing = orient_views(planes, scan if scan is not None else node)
        self._before = self._before or before
        lines = [
            _("Not shown: {plane} ({why}).").format(plane=names[k], why=in_language(why)) for k, why in missing.items()
        ]
        self.ui.measuresLabel.text = " ".join(lines)
        self._enable()

    def _show_wall(self, measured: Measured) -> None:
        if isinstance(measured.wall, Unknown):
            self.ui.measuresLabel.text = _("No wall map: {why}.").format(why=in_language(measured.wall.why))
            return
        show_wall(measured.wall, self._state.segmentation)
        self.ui.measuresLabel.text = _("Wall thickness at the endocardium by Laplace's equation.")

    def _fill_tables(self, measured: Measured) -> None:
        node, scan = self._state.segmentation, scan_of_segmentation(self._state)
        tables = [t.GetName() for t in fill_study_tables(measured.study, node)]
        function = measured.study.function
        said = _("Tables: {names}.").format(names=", ".join(tables))
        if isinstance(function, CardiacFunction):
            times, axis = frame_times(browser_of(scan), function.frames)
            said += " " + _("Plot: {name}.").format(name=fill_curves(function, node, times, axis).GetName())
        elif isinstance(function, Unknown):
            said += " " + _("No function: {why}.").format(why=in_language(function.why))
        self.ui.measuresLabel.text = said

    # --- display -------------------------------------------------------------------------------------------------

    def _rows(self) -> tuple[Measure, ...]:
        """Return the latest rows of measures of the displayed segmentation."""
        known, record = self._known(), self._state.record
        if known is not None:
            return known.study.measures
        return record.measures if record is not None else ()

    def _list_quantities(self) -> None:
        drawn = drawn_quantities(self._rows())
        if drawn == self._drawn:
            return
        self._drawn = drawn
        box = self.ui.bullseyeComboBox
        names = {THICKNESS: _("Wall thickness (mm)"), THICKENING: _("Systolic thickening (%)")}
        was = box.blockSignals(True)
        box.clear()
        for quantity in drawn:
            box.addItem(names[quantity])
        box.blockSignals(was)

    def _draw(self) -> None:
        """Draw the bull's-eye plot, or hide it if no segment has a value."""
        ui = self.ui
        for widget in (ui.bullseyeLabel, ui.bullseyeComboBox, ui.copyBullseyeButton):
            widget.visible = bool(self._drawn)
        if self._drawn:
            quantity = self._drawn[max(0, ui.bullseyeComboBox.currentIndex)]
            ui.bullseyeLabel.pixmap = bullseye_pixmap(segment_values(self._rows(), quantity), quantity)

    def _enable(self) -> None:
        why = segmentation_obstacle(self._state)
        oriented = "" if self._before is not None else _("The views were not changed.")
        reasons = dict.fromkeys(("viewsButton", "wallButton", "removeWallButton", "tablesButton"), why)
        reasons |= {"undoViewsButton": oriented, "copyBullseyeButton": ""}
        for name, reason in reasons.items():
            widget = getattr(self.ui, name)
            widget.enabled = not reason
            widget.toolTip = reason or self._tips[name]


def frame_times(browser: Any, count: int) -> tuple[list[float], str]:
    """Return the position of each frame and the title of the axis: times of the sequence, or numbers from 1."""
    sequence = browser.GetMasterSequenceNode() if browser is not None else None
    unit = (sequence.GetIndexUnit() or "") if sequence is not None else ""
    if sequence is not None and unit:
        try:
            times = [float(sequence.GetNthIndexValue(k)) for k in range(count)]
        except ValueError:
            pass
        else:
            return times, f"{sequence.GetIndexName() or 'time'} ({unit})"
    return [float(k + 1) for k in range(count)], "frame"


def _frame_nodes(node: Any, scan: Any) -> list[Any]:
    """Return the segmentation of every frame of a time series; none if the segmentation is not part of a sequence."""
    browser = browser_of(scan)
    sequence = browser.GetSequenceNode(node) if browser is not None else None
    if sequence is None:
        return []
    master = browser.GetMasterSequenceNode()
    values = [master.GetNthIndexValue(k) for k in range(master.GetNumberOfDataNodes())]
    return [sequence.GetDataNodeAtValue(value) for value in values]


def _masks_or_none(node: Any, scan: Any) -> dict[str, Any]:
    """Return the masks of a frame; none if it was not segmented."""
    if node is None:
        return {}
    try:
        return masks_of(node, scan)
    except InputError:
        return {}


def _times(node: Any, scan: Any) -> tuple[int, int]:
    """Return when segments and scan changed last; any edit makes a new value."""
    return int(node.GetSegmentation().GetMTime()), int(scan.GetImageData().GetMTime())
