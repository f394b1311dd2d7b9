"""The section *Before the run*: checks of the chosen scan, with a button for available fixes."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import HeartSegError
from ..findings import Finding, Severity
from ..preflight import (
    AS_CT,
    AS_MR,
    CHOICES,
    HARDEN,
    PICK_FRAME,
    RESAMPLE,
    RESAMPLED_MM,
    STATE_MODALITY,
    USE_CPU,
    check_chosen,
    look_for_heart,
)
from ..progress import Reporter
from ..scene.fixes import add_volume, chosen_facts, hardened_copy, one_component, say_modality
from ..scene.language import in_language
from ..scene.nodes import owned_volume
from ..volume.upright import resample_upright
from .checks import checks_of
from .device import installed_runtime
from .section import PanelApi, Section, State, busy

_MARKS = {Severity.ERROR: "✖", Severity.WARNING: "▲", Severity.INFO: "ℹ"}


class BeforeRun(Section):
    """Checks of the chosen scan, repeated whenever scan, model or settings change.

    Attributes:
        checks: the displayed checks, most serious first.
    """

    name = "Preflight"

    def __init__(self) -> None:
        super().__init__()
        self.checks: tuple[Finding, ...] = ()
        self._key: tuple[Any, ...] = ()
        self._heart: Any = None
        self._serious = False
        self._state = State()

    def setup(self, panel: PanelApi) -> None:
        super().setup(panel)
        ui = self.ui
        ui.checksTable.connect("itemSelectionChanged()", self._show_fix)
        ui.fixButton.connect("clicked(bool)", lambda checked=False: self.fix())
        ui.otherFixButton.connect("clicked(bool)", lambda checked=False: self.fix(1))
        ui.lookForHeartButton.connect("clicked(bool)", lambda checked=False: self.look())
        ui.checksTable.columnCount = 2
        ui.checksTable.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        ui.checksTable.setHorizontalHeaderLabels(["", _("What")])

    def update(self, state: State) -> None:
        self._state = state
        key = self._what_is_chosen(state)
        if key != self._key and not state.running:
            if key[:2] != self._key[:2]:
                self._heart = None
            self._key = key
            self._begin(state)
        self._show_fix()
        self.ui.lookForHeartButton.enabled = state.volume is not None and not state.running
        self.ui.lookForHeartButton.toolTip = (
            _("Choose a scan first.")
            if state.volume is None
            else busy()
            if state.running
            else _("Search for the whole heart with the coarse network.")
        )

    def cleanup(self) -> None:
        self._state, self._heart = State(), None

    def obstacle(self, state: State) -> str:
        """Return the message of the first error among the checks, which prevents a run."""
        error = next((c for c in self.checks if c.severity is Severity.ERROR and c.code != "packages-missing"), None)
        return (
            in_language(error.message) if error is not None and self._what_is_chosen(state)[:2] == self._key[:2] else ""
        )

    def _what_is_chosen(self, state: State) -> tuple[Any, ...]:
        node = state.volume
        if node is None:
            return (None, None)
        image = node.GetImageData()
        times = (image.GetMTime() if image is not None else 0, node.GetAttribute("DICOM.Modality") or "")
        p = self.panel.parameters
        wish = (p.device, p.accurate) if p is not None else ()
        return (node.GetID(), times, node.GetTransformNodeID() or "", state.model, wish, installed_runtime())

    # --- checks ------------------------------------------------------------------------------------------------------

    def _begin(self, state: State) -> None:
        """Show the checks that need no voxels, and check the voxels on the worker."""
        node = state.volume
        if node is None:
            self._show(())
            return
        chosen = chosen_facts(node)
        first = check_chosen(chosen)
        self._show(first)
        if any(c.severity is Severity.ERROR for c in first):
            return
        try:
            view = self.panel.scan_of(node)
        except HeartSegError as error:
            self._show((*first, Finding("scan-refused", Severity.ERROR, str(error))))
            return
        settings, model, heart, key = self.panel.settings(), state.model, self._heart, self._key

        def work(reporter: Reporter) -> tuple[Finding, ...]:
            return checks_of(view, model, settings, chosen, heart)

        def done(checks: tuple[Finding, ...]) -> None:
            if key == self._key:  # the choices have not changed in the meantime
                self._show(checks)
                self.panel.refresh()

        self.panel.start_quietly(work, done)

    def look(self) -> None:
        """Search for the heart with the coarse network, as a job."""
        node = self._state.volume
        if node is None:
            return
        try:
            view = self.panel.scan_of(node)
        except HeartSegError as error:
            self.panel.show_error(str(error))
            return
        settings, model = self.panel.settings(), self._state.model

        def work(reporter: Reporter) -> Any:
            from ..models.store import find_model

            return look_for_heart(owned_volume(view), find_model(model or None), settings, reporter)

        def done(heart: Any) -> None:
            self._heart, self._key = heart, ()
            self.panel.show_status(
                _("This model segments the whole scan and has no finder.")
                if heart is None
                else _("No heart was found.")
                if heart is False
                else _("The heart was found.")
            )

        self.panel.start(_("Look for the heart"), work, done)

    def _show(self, checks: tuple[Finding, ...]) -> None:
        self.checks = checks
        table = self.ui.checksTable
        table.rowCount = len(checks)
        for row, check in enumerate(checks):
            message = in_language(check.message)
            for column, text in enumerate((_MARKS[check.severity], message)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(message)
                table.setItem(row, column, item)
        table.resizeColumnToContents(0)
        table.visible = bool(checks)
        fixable = next((row for row, check in enumerate(checks) if check.fix), 0 if checks else -1)
        if fixable >= 0:
            table.selectRow(fixable)
        self.ui.preflightLabel.text = self._headline()
        serious = any(check.severity is not Severity.INFO for check in checks)
        if serious != self._serious:
            self._serious, self.ui.preflightSection.collapsed = serious, not serious
        self._show_fix()

    def _headline(self) -> str:
        if self._state.volume is None:
            return _("Choose a scan.")
        worst = {c.severity for c in self.checks}
        if Severity.ERROR in worst:
            return _("This scan cannot be segmented as it is.")
        if Severity.WARNING in worst:
            return _("Read these warnings before the run.")
        return _("No problem was found.")

    # --- fixes -------------------------------------------------------------------------------------------------------

    def _chosen_check(self) -> Finding | None:
        row = self.ui.checksTable.currentRow()
        return self.checks[row] if 0 <= row < len(self.checks) else None

    def _show_fix(self) -> None:
        check = self._chosen_check()
        fixes = _choices(check)
        self.ui.otherFixButton.visible = len(fixes) > 1
        for button, fix in zip((self.ui.fixButton, self.ui.otherFixButton), fixes, strict=False):
            button.text = button_text(fix)
            button.enabled = bool(fix) and not self._state.running
            button.toolTip = (
                in_language(check.message) if check is not None and fix else _("Choose a row that can be fixed.")
            )
            if fix and self._state.running:
                button.toolTip = busy()

    def fix(self, choice: int = 0) -> None:
        """Apply a fix of the selected row; if it changes the scan, make and choose a new volume."""
        check, node = self._chosen_check(), self._state.volume
        fixes = _choices(check)
        if choice >= len(fixes) or not fixes[choice] or node is None or self._state.running:
            return
        try:
            self._fix(fixes[choice], node)
        except HeartSegError as error:
            self.panel.show_error(str(error))

    def _fix(self, fix: str, node: Any) -> None:
        if fix in (AS_CT, AS_MR):
            say_modality(node, "CT" if fix == AS_CT else "MR")
            self.panel.refresh()
        elif fix == USE_CPU:
            self.panel.parameters.device = "cpu"
            self.panel.refresh()
        elif fix == HARDEN:
            self._choose(hardened_copy(node))
        elif fix == PICK_FRAME:
            self._choose(one_component(node, 0))
        elif fix == RESAMPLE:
            view, name = self.panel.scan_of(node), f"{node.GetName()} {RESAMPLED_MM:g} mm"
            self.panel.start(
                _("Resample"),
                lambda reporter: resample_upright(owned_volume(view), RESAMPLED_MM),
                lambda volume: self._choose(add_volume(volume, slicer.mrmlScene.GenerateUniqueName(name), node)),
            )

    def _choose(self, node: Any) -> None:
        self.panel.parameters.inputVolume = node
        self.panel.show_status(_("'{name}' was made and chosen.").format(name=node.GetName()))
        self.panel.refresh()


def _choices(check: Finding | None) -> tuple[str, ...]:
    """Return the fixes of a row, one per button; one empty fix if there is none."""
    fix = check.fix if check is not None else ""
    return CHOICES.get(fix, (fix,))


def button_text(fix: str) -> str:
    """Return the translated button text for a fix of :data:`heartseg.preflight.FIXES`, or for no fix."""
    return {
        PICK_FRAME: _("Take one frame"),
        RESAMPLE: _("Resample to 1.5 mm"),
        HARDEN: _("Apply the transform to a copy"),
        AS_CT: _("It is CT"),
        AS_MR: _("It is MR"),
        STATE_MODALITY: _("Say whether it is CT or MR"),
        USE_CPU: _("Use the processor"),
    }.get(fix, _("Nothing to fix"))
