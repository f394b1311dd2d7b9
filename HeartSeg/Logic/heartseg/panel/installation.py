"""The section *Installation*: installs packages after one question. Hidden if none is missing."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
from slicer.i18n import tr as _

from ..needs import LIGHT, RUNTIMES, Package, PackageNeeded, missing_runtimes, preferred_runtime
from ..scene.language import in_language
from ..wording import as_sentence
from .dependencies import (
    EXTENSION,
    InstallCancelled,
    Installer,
    InstallFailed,
    Missing,
    Outcome,
    Refused,
    choose_installer,
    explanation,
    install_missing,
    missing_packages,
    responsive,
)
from .section import PanelApi, Section, State


class Installation(Section):
    """The package that runs the network; *Segment heart* installs one first, if none is there.

    Also the packages of another function, when it asks for them: torch for a model or a heat map, those of a format.

    Attributes:
        missing: packages of which one is needed, each missing or unusable; empty if one is there.
        make_installer: returns the :class:`Installer` for this environment.
    """

    name = "Setup"

    def __init__(self) -> None:
        super().__init__()
        self.missing: tuple[Missing, ...] = ()
        self.make_installer = choose_installer
        self._unusable: dict[str, str] = {}
        self._wanted: tuple[Package, ...] = ()
        self._why = ""
        self._restart = ""
        self._installing = self._cancelled = False

    def setup(self, panel: PanelApi) -> None:
        super().setup(panel)
        ui = self.ui
        ui.installPackagesButton.connect("clicked(bool)", lambda checked=False: self.install_or_cancel())
        ui.restartButton.connect("clicked(bool)", lambda checked=False: self.restart())
        for widget in (ui.installProgressBar, ui.installLineLabel, ui.installLogText, ui.restartButton):
            widget.visible = False
        self._tip = ui.installPackagesButton.toolTip
        box = ui.runtimeComboBox
        for package in RUNTIMES:
            box.addItem(_("CPU, 30 MB") if package is LIGHT else _("GPU, torch"))
        box.currentIndex = RUNTIMES.index(preferred_runtime())
        box.connect("currentIndexChanged(int)", lambda index: self.look())
        self.look()

    @property
    def chosen(self) -> tuple[Missing, ...]:
        """The missing packages of a function, else the one that the user chose; empty if nothing is missing."""
        if self._wanted:
            return missing_packages(self._wanted, self._unusable)
        wanted = RUNTIMES[self.ui.runtimeComboBox.currentIndex]
        return tuple(m for m in self.missing if m.package is wanted)

    def look(self) -> None:
        """Update what is missing; reads only metadata."""
        self.missing = missing_runtimes(self._unusable)
        if self._wanted and not self.chosen:
            self._wanted, self._why = (), ""
        chosen = self.chosen
        ui, shown = self.ui, bool(chosen or self._restart)
        self.widget.visible = shown
        lines = map(in_language, filter(None, (self._why, explanation(chosen))))
        ui.needsLabel.text = in_language(self._restart) or "\n".join(lines)
        ui.installPackagesButton.visible = bool(chosen)
        ui.runtimeComboBox.visible = bool(self.missing and not self._wanted)
        ui.restartButton.visible = bool(self._restart)
        ui.setupSection.collapsed = not shown

    def update(self, state: State) -> None:
        button = self.ui.installPackagesButton
        button.text = _("Cancel") if self._installing else _("Install…")
        button.enabled = not state.running
        self.ui.runtimeComboBox.enabled = not (state.running or self._installing)
        button.toolTip = (
            _("Stop the installation.")
            if self._installing
            else _("Not while a job runs.")
            if state.running
            else self._tip
        )

    def obstacle(self, state: State) -> str:
        return self._restart or (_("Packages are being installed.") if self._installing else "")

    def before_run(self, state: State) -> bool:
        """Install a package that runs the network after one question, if none is there."""
        if not self.missing:
            return True
        self._want((), "")
        return self.install()

    def failed(self, error: BaseException) -> None:
        """Offer the package that was missing; one that cannot be imported counts as missing from now on."""
        if not isinstance(error, PackageNeeded):
            return
        if error.problem:
            self._unusable[error.name] = error.problem
        self.look()
        if not self.missing:  # one that runs the network is there, but it is not enough
            self._want([p for p in RUNTIMES if p.name == error.name], as_sentence(error.need))
            self.panel.show_error(in_language(error.need) + ": " + _("press Install… in the section Installation"))

    def wanted(self, packages: Sequence[Package], why: str) -> None:
        """Offer packages and ask for consent."""
        if not self._installing:
            self._want(packages, why)
            self.install()

    def _want(self, packages: Sequence[Package], why: str) -> None:
        self._wanted, self._why = tuple(packages), why
        self.look()

    # --- installing --------------------------------------------------------------------------------------------------

    def install_or_cancel(self) -> None:
        """Handle a click on the button of this section."""
        if self._installing:
            self._cancelled = True
        else:
            self.install()

    def install(self) -> bool:
        """Check for all obstacles, ask once, then install. Never raises.

        Returns:
            Whether a run can start now.
        """
        if not self.chosen or self._installing:
            return False
        installer: Installer = self.make_installer()
        if obstacle := installer.obstacle(self.chosen):
            self.panel.show_error(obstacle)
            return False
        if installer.lacks_extension(self.chosen):
            self._install_extension(installer)
            return False
        if not slicer.util.confirmOkCancelDisplay(self.ui.needsLabel.text, windowTitle=_("HeartSeg")):
            self.panel.show_status(_("Nothing was installed."))
            self._want((), "")
            return False
        return self._install(installer)

    def _install_extension(self, installer: Installer) -> None:
        question = _(
            "HeartSeg requires PyTorch, which Slicer provides through the extension {name}. Install the extension now? "
            "Slicer must be restarted afterwards; then press Segment heart again."
        ).format(name=EXTENSION)
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("HeartSeg")):
            self.panel.show_status(_("Nothing was installed."))
            return
        self.panel.show_status(_("Installing the extension {name}…").format(name=EXTENSION))
        slicer.app.processEvents()
        try:
            installer.install_extension()
        except InstallFailed as error:
            self.panel.show_error(str(error))
            return
        self._restart = _("Restart Slicer, then press Segment heart again: the extension {name} was installed.").format(
            name=EXTENSION
        )
        self.panel.show_status(self._restart)
        self.look()
        self.panel.refresh()

    def _install(self, installer: Installer) -> bool:
        self._begin()
        try:
            with responsive(slicer.app.processEvents, lambda: self._cancelled):
                outcome = install_missing(installer, self.chosen, self._step, self._line)
        except InstallCancelled:
            self.panel.show_status(_("The installation was cancelled."))
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
        return not self.missing and not self._restart

    def restart(self) -> None:
        """Restart Slicer after a question, because Slicer itself does not warn about unsaved data."""
        text = _("Slicer restarts now. Unsaved changes of the scene are lost.")
        if slicer.util.confirmOkCancelDisplay(text, windowTitle=_("HeartSeg")):
            slicer.util.restart()

    def _begin(self) -> None:
        self._installing, self._cancelled = True, False
        ui = self.ui
        ui.installLogText.visible = False
        ui.installProgressBar.visible = ui.installLineLabel.visible = True
        ui.installProgressBar.maximum = max(1, len(self.chosen))
        self.panel.refresh()
        slicer.app.processEvents()

    def _finished(self, outcome: Outcome) -> None:
        self._restart = outcome.restart
        self._unusable.clear()
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
