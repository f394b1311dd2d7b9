"""The section *Export*: write the current segmentation in formats of other programs to a new folder."""

from __future__ import annotations

import html
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import HeartSegError, OutputError, one_line
from ..export import FORMATS, ExportOptions, check_export, missing_package
from ..formats import PACKAGES
from ..needs import Missing, missing_packages
from ..scene.dicom_export import dicom_source, export_dicom_seg, has_dicom_exporter
from ..scene.language import in_language
from ..scene.masks import masks_of
from .export_work import ExportRequest, do_export
from .section import PanelApi, Section, State, busy, scan_of_segmentation, segmentation_obstacle

_FOLDER_KEY, _FORMATS_KEY = "HeartSeg/ExportFolder", "HeartSeg/ExportFormats"
_TIPS = (
    _("Write the segmentation as it is now into the folder above."),
    _("Open a page with numbers, findings, pictures and an interactive view of the segmentation as it is now."),
)
_UNSAFE = r'[<>:"/\\|?*\x00-\x1f]+'  # characters that some file systems do not allow in names


class Export(Section):
    """Check boxes for formats, a folder and a button."""

    name = "Export"

    def __init__(self) -> None:
        super().__init__()
        self._written: Path | None = None
        self._reasons: dict[str, str] = {}

    def setup(self, panel: PanelApi) -> None:
        super().setup(panel)
        self.boxes: dict[str, Any] = {name: getattr(self.ui, box_name(name)) for name in FORMATS}
        self._tips = {name: box.toolTip for name, box in self.boxes.items()}
        self._plain_tips = [(w, w.toolTip) for w in (self.ui.wallSpinBox, self.ui.exportFolderButton)]
        chosen = str(slicer.app.userSettings().value(_FORMATS_KEY, "seg,stl,csv,html")).split(",")
        for name, box in self.boxes.items():
            box.checked = name in chosen
            box.connect("toggled(bool)", lambda checked: self.panel.refresh())
        self.ui.exportFolderButton.directory = str(slicer.app.userSettings().value(_FOLDER_KEY, str(Path.home())))
        self.ui.exportFolderButton.connect("directoryChanged(QString)", lambda folder: self.panel.refresh())
        self.ui.lackingLabel.visible = False
        self.ui.lackingLabel.connect("linkActivated(QString)", self.install)
        self.ui.exportButton.connect("clicked()", self.export)
        self.ui.reportButton.connect("clicked()", self.report)
        self.ui.openFolderButton.connect("clicked()", self.open_folder)

    def _tip(self, name: str) -> str:
        if name == "dicom-seg" and has_dicom_exporter():
            return _("Written by Slicer's own exporter, which also adds the file to Slicer's DICOM database.")
        return str(self._tips[name])

    @property
    def formats(self) -> tuple[str, ...]:
        """Checked formats that are available here."""
        return tuple(name for name, box in self.boxes.items() if box.checked and box.enabled)

    def target(self, state: State) -> Path:
        """Folder of this export, inside the chosen folder and named after the segmentation."""
        name = state.segmentation.GetName() if state.segmentation is not None else "heart"
        plain = re.sub(_UNSAFE, "_", name).strip(" .") or "heart"
        return Path(self.ui.exportFolderButton.directory) / f"{plain} export"

    def update(self, state: State) -> None:
        self._look_for_packages()
        self.ui.lackingLabel.enabled = not state.running
        for name, box in self.boxes.items():
            why = self._reasons.get(name, "")
            box.enabled = not why and not state.running
            box.toolTip = why or (busy() if state.running else self._tip(name))
        ui, node = self.ui, state.segmentation
        ui.wallSpinBox.enabled = self.boxes["print"].checked and not state.running
        ui.exportFolderButton.enabled = not state.running
        for widget, tip in self._plain_tips:
            widget.toolTip = busy() if state.running else tip
        if not self.boxes["print"].checked and not state.running:
            ui.wallSpinBox.toolTip = _("Only for the 3D-print set: check it first.")
        ui.targetLabel.text = str(self.target(state)) if node is not None else ""
        obstacle = segmentation_obstacle(state)
        for button, why, tip in (
            (ui.exportButton, obstacle or ("" if self.formats else _("Check at least one format.")), _TIPS[0]),
            (ui.reportButton, obstacle or self._reasons.get("html", ""), _TIPS[1]),
        ):
            button.enabled = not why
            button.toolTip = why or tip
        ui.openFolderButton.enabled = self._written is not None
        ui.openFolderButton.toolTip = (
            str(self._written) if self._written is not None else _("Nothing was exported yet.")
        )

    def _look_for_packages(self) -> None:
        """Say below the formats what the unavailable ones need, with a link where it can be installed."""
        names = [name for name in self.boxes if unavailable(name)]
        if names == list(self._reasons):
            return
        groups: dict[tuple[Missing, ...], list[str]] = {}
        for name in names:
            groups.setdefault(missing_packages(PACKAGES.get(name, ())), []).append(name)
        lines = []
        for missing, group in groups.items():
            problem = next((m.problem for m in missing if m.problem), "") if missing else unavailable(group[0])
            why = in_language(problem) or _("needs {package}").format(package=missing[0].package.name)
            link = "" if problem else f' – <a href="{group[0]}">' + _("Install…") + "</a>"
            lines.append(f"{', '.join(self.boxes[name].text for name in group)}: {html.escape(why)}{link}")
            self._reasons.update(dict.fromkeys(group, why))
        self._reasons = {name: self._reasons[name] for name in names}
        self.ui.lackingLabel.text = "<br>".join(lines)
        self.ui.lackingLabel.visible = bool(lines)

    def install(self, name: str) -> None:
        """Install the packages of a format after a question; then its box is enabled."""
        self.panel.install(PACKAGES[name], _("For the format {name}.").format(name=self.boxes[name].text))

    def export(self) -> None:
        """Write the checked formats on the worker; after a failure no file remains."""
        state, folder = self.panel.state, self.target(self.panel.state)
        try:
            overwrite = self._may_write(folder)
            if overwrite is None:
                return
            request = self._request(state, folder, overwrite, self.formats)
        except HeartSegError as error:
            self.panel.show_error(str(error))
            return
        settings = slicer.app.userSettings()
        settings.setValue(_FOLDER_KEY, self.ui.exportFolderButton.directory)
        settings.setValue(_FORMATS_KEY, ",".join(self.formats))

        def forget_made() -> None:
            for path in request.made.values():
                shutil.rmtree(path.parent, ignore_errors=True)

        def done(content: dict[str, Any]) -> None:
            forget_made()
            self._written = folder
            self.panel.show_status(_("Exported to {folder}").format(folder=folder))
            self.panel.add_to_log(f"exported: {', '.join(content['files'])}")

        job = self.panel.start(
            _("Export"), lambda reporter: do_export(request, reporter), done, lambda error: forget_made(), forget_made
        )
        if job is None:
            forget_made()

    def _may_write(self, folder: Path) -> bool | None:
        """Return whether to replace an earlier export; ``None`` if the user declines.

        Raises:
            OutputError: the folder is unusable.
        """
        chosen = tuple(name for name in self.formats if name != "dicom-seg" or not has_dicom_exporter())
        try:
            check_export(folder, chosen or None)
        except OutputError:
            check_export(folder, chosen or None, overwrite=True)
            question = _("{folder} holds an earlier export. Replace it?").format(folder=folder)
            return True if slicer.util.confirmOkCancelDisplay(question, windowTitle=_("HeartSeg")) else None
        return False

    def report(self) -> None:
        """Write the report page of the current segments to a temporary folder and open it."""
        folder = Path(tempfile.mkdtemp(prefix="heartseg-report-"))
        try:
            request = self._request(self.panel.state, folder, True, ("html",))
        except HeartSegError as error:
            shutil.rmtree(folder, ignore_errors=True)
            self.panel.show_error(str(error))
            return

        def done(content: dict[str, Any]) -> None:
            self._written = folder
            self.panel.show_status(_("The report is open; its file is in {folder}").format(folder=folder))
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder / "report.html")))

        def forget() -> None:
            shutil.rmtree(folder, ignore_errors=True)

        job = self.panel.start(
            _("Report"), lambda reporter: do_export(request, reporter), done, lambda error: forget(), forget
        )
        if job is None:
            forget()

    def _request(self, state: State, folder: Path, overwrite: bool, formats: tuple[str, ...]) -> ExportRequest:
        node = state.segmentation
        scan = scan_of_segmentation(state)
        view, masks = self.panel.scan_of(scan), masks_of(node, scan)
        view = replace(view, source=dicom_source(scan) or view.source)
        options = ExportOptions(wall_mm=self.ui.wallSpinBox.value).check()
        made: dict[str, Path] = {}
        if "dicom-seg" in formats and has_dicom_exporter():
            try:
                made["dicom-seg"] = _dicom_seg(node)
            except HeartSegError:
                raise
            except Exception as error:  # Slicer's plugin may raise any exception
                raise OutputError(
                    _("Slicer's DICOM SEG exporter failed ({error}): see Slicer's log").format(
                        error=in_language(one_line(error))
                    )
                ) from error
        notices: tuple[str, ...] = ()
        if node.GetParentTransformNode() is not None:
            notices = ("the transform of the scan in the scene is not applied: exported files match the scan's file",)
        return ExportRequest(
            view,
            masks,
            folder,
            formats,
            options,
            overwrite,
            node.GetName(),
            state.result,
            state.record,
            made,
            notices,
        )

    def open_folder(self) -> None:
        """Show the last export in the file manager."""
        if self._written is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._written)))


def _dicom_seg(node: Any) -> Path:
    """Write Slicer's DICOM SEG of a segmentation to a new temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="heartseg-dicom-"))
    try:
        return export_dicom_seg(node, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def box_name(name: str) -> str:
    """Name of the check box of a format in the ``.ui`` file, such as ``dicomSegBox``."""
    first, *more = name.split("-")
    return first + "".join(part.capitalize() for part in more) + "Box"


def unavailable(name: str) -> str:
    """Return why a format is unavailable; ``""`` if it is available."""
    if name == "dicom-seg" and has_dicom_exporter():
        return ""
    return missing_package(name)
