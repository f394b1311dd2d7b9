"""The section *Installation*: what is missing, installed after one question; and a report on this installation."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from .dependencies import (
    Installer,
    InstallFailed,
    Missing,
    Outcome,
    Refused,
    choose_installer,
    explanation,
    install_missing,
    missing_packages,
)
from .section import PanelApi, Section, State


class Installation(Section):
    """The first-use bar and *Check my installation*.

    Attributes:
        missing: packages that are not there; a run waits for them.
        make_installer: gives the :class:`Installer` of this application.
    """

    name = "Setup"

    def __init__(self) -> None:
        super().__init__()
        self.missing: tuple[Missing, ...] = ()
        self.make_installer = choose_installer
        self._restart = ""
        self._installing = False

    def setup(self, panel: PanelApi) -> None:
        super().setup(panel)
        ui = self.ui
        ui.installPackagesButton.connect("clicked(bool)", lambda checked=False: self.install())
        ui.restartButton.connect("clicked(bool)", lambda checked=False: self.restart())
        ui.checkInstallationButton.connect("clicked(bool)", lambda checked=False: self.check())
        ui.copyInstallationButton.connect("clicked(bool)", lambda checked=False: self._copy())
        for widget in (
            ui.installProgressBar,
            ui.installLineLabel,
            ui.installLogText,
            ui.restartButton,
            ui.installationText,
        ):
            widget.visible = False
        self._tip = ui.installPackagesButton.toolTip
        self.look()

    def look(self) -> None:
        """Look anew at what is missing; reads metadata only."""
        self.missing = missing_packages()
        ui = self.ui
        ui.needsFrame.visible = bool(self.missing or self._restart)
        ui.needsLabel.text = self._restart or explanation(self.missing)
        ui.installPackagesButton.visible = bool(self.missing)
        ui.restartButton.visible = bool(self._restart)
        ui.setupSection.collapsed = not (self.missing or self._restart)

    def update(self, state: State) -> None:
        busy = bool(state.running) or self._installing
        ui = self.ui
        ui.installPackagesButton.enabled = ui.checkInstallationButton.enabled = not busy
        ui.installPackagesButton.toolTip = _("Not while a job runs.") if busy else self._tip
        ui.copyInstallationButton.enabled = bool(ui.installationText.plainText)
        ui.copyInstallationButton.toolTip = (
            _("Copy the report.") if ui.installationText.plainText else _("Press Check my installation first.")
        )

    def obstacle(self, state: State) -> str:
        if self._restart:
            return self._restart
        if self._installing:
            return _("Packages are being installed.")
        if self.missing:
            names = ", ".join(m.package.name for m in self.missing)
            return _("Packages are missing ({names}): install them under Installation.").format(names=names)
        return ""

    # --- installing --------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Ask once, then install; whatever happens is shown in this section and nothing is raised."""
        if not self.missing or self._installing:
            return
        installer: Installer = self.make_installer()
        if not slicer.util.confirmOkCancelDisplay(explanation(self.missing), windowTitle=_("HeartSeg")):
            self.panel.show_status(_("Nothing was installed."))
            return
        self._begin()
        try:
            outcome = install_missing(installer, self.missing, self._step, self._line)
        except Refused:
            self.panel.show_status(_("Nothing more was installed."))
        except InstallFailed as error:
            self.ui.installLogText.plainText = error.log
            self.ui.installLogText.visible = bool(error.log)
            self.panel.show_error(str(error), f"{error}\n\n{error.log}")
        else:
            self._finished(outcome)
        finally:
            self._installing = False
            self.ui.installProgressBar.visible = self.ui.installLineLabel.visible = False
            self.look()
            self.panel.refresh()

    def restart(self) -> None:
        """Ask before, as Slicer's own restart does not: what is not saved is lost."""
        text = _("Slicer restarts now. What is not saved in the scene is lost.")
        if slicer.util.confirmOkCancelDisplay(text, windowTitle=_("HeartSeg")):
            slicer.util.restart()

    def _begin(self) -> None:
        self._installing = True
        ui = self.ui
        ui.installLogText.visible = False
        ui.installProgressBar.visible = ui.installLineLabel.visible = True
        ui.installProgressBar.maximum = max(1, len(self.missing))
        self.panel.refresh()
        slicer.app.processEvents()

    def _finished(self, outcome: Outcome) -> None:
        self._restart = outcome.restart
        done = _("Installed: {names}.").format(names=", ".join(outcome.installed))
        self.panel.show_status(outcome.restart or done)
        self.panel.add_to_log(done)

    def _step(self, done: int, total: int, text: str) -> None:
        self.ui.installProgressBar.maximum, self.ui.installProgressBar.value = total, done
        self.panel.show_status(text)
        slicer.app.processEvents()

    def _line(self, line: str) -> None:
        self.ui.installLineLabel.text = line[:160]
        self.panel.add_to_log(line)
        slicer.app.processEvents()

    # --- the report --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Look at this installation on the worker; the report appears in the section."""
        from ..doctor import check_installation

        def show(report: Any) -> None:
            self.ui.installationText.plainText = report.text
            self.ui.installationText.visible = True
            count = len(report.problems)
            self.panel.show_status(
                _("Nothing to mend.")
                if not count
                else _("{count} to mend: see the end of the report.").format(count=count)
            )
            self.look()
            self.ui.setupSection.collapsed = False

        self.panel.start(_("Check my installation"), check_installation, show)

    def _copy(self) -> None:
        slicer.app.clipboard().setText(self.ui.installationText.plainText)
        self.panel.show_status(_("The report is on the clipboard."))
