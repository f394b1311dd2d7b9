"""The section *Help*: check of the installation, and links to the documentation."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .section import PanelApi, Section, State, busy, documentation

PAGES = {
    "tutorialButton": "tutorial/in-slicer.md",
    "recipesButton": "how-to/use-from-python-in-slicer.md",
    "trainButton": "how-to/train-your-own.md",
    "translateButton": "how-to/translate-mr-to-ct.md",
}
"""Documentation page of each button."""


class Help(Section):
    """Links, and *Check my installation*."""

    name = "Help"

    def setup(self, panel: PanelApi) -> None:
        super().setup(panel)
        ui = self.ui
        for button, page in PAGES.items():
            getattr(ui, button).connect("clicked()", lambda page=page: self.open(page))
        ui.checkInstallationButton.connect("clicked(bool)", lambda checked=False: self.check())
        ui.copyInstallationButton.connect("clicked(bool)", lambda checked=False: self._copy())
        ui.installationText.visible = False
        self._tip = ui.checkInstallationButton.toolTip

    def update(self, state: State) -> None:
        ui, report = self.ui, self.ui.installationText.plainText
        ui.checkInstallationButton.enabled = not state.running
        ui.checkInstallationButton.toolTip = busy() if state.running else self._tip
        ui.copyInstallationButton.enabled = bool(report)
        ui.copyInstallationButton.toolTip = _("Copy the report.") if report else _("Press Check my installation first.")

    def open(self, page: str) -> None:
        """Open a page of the documentation in the web browser."""
        qt.QDesktopServices.openUrl(qt.QUrl(documentation(page)))

    def check(self) -> None:
        """Check this installation on the worker; the report appears in the section."""
        from ..doctor import check_installation

        def show(report: Any) -> None:
            self.ui.installationText.plainText = report.text
            self.ui.installationText.visible = True
            count = len(report.problems)
            self.panel.show_status(
                _("{count} problems were found: see the end of the report.").format(count=count)
                if count
                else _("No problem was found.")
            )
            self.ui.helpSection.collapsed = False

        self.panel.start(_("Check my installation"), check_installation, show)

    def _copy(self) -> None:
        slicer.app.clipboard().setText(self.ui.installationText.plainText)
        self.panel.show_status(_("The report is on the clipboard."))
