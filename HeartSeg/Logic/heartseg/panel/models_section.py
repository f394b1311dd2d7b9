"""The section *Models*: list, install from a file or URL, map labels, remove, open the folder."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..anatomy import KEYS, STRUCTURES
from ..errors import HeartSegError
from ..models.download import Installed, forget, install_from, is_address
from ..models.install import remove_model, set_labels
from ..models.labels import Suggestion, suggest_labels
from ..models.store import StoredModel, list_models, user_folder
from ..models.summary import ModelSummary, size_text
from ..scene.language import in_language
from .names import structure_name
from .section import PanelApi, Section, State


class Models(Section):
    """Lists, installs, maps and removes models."""

    name = "Models"

    def __init__(self) -> None:
        super().__init__()
        self._models: tuple[StoredModel, ...] = ()
        self._rows: tuple[ModelSummary, ...] = ()
        self._labels: tuple[Suggestion, ...] = ()
        self._mapped = ""
        self._boxes: list[Any] = []
        self._state = State()

    def setup(self, panel: PanelApi) -> None:
        super().setup(panel)
        ui = self.ui
        for name, act in (
            ("installModelButton", self.install),
            ("forgetDownloadButton", self.forget),
            ("removeModelButton", self.remove),
            ("openModelFolderButton", self.open_folder),
            ("mapLabelsButton", self.show_labels),
            ("suggestLabelsButton", self.take_suggestions),
            ("keepLabelsButton", self.keep_labels),
            ("closeLabelsButton", self.close_labels),
            ("browseFileButton", self.browse_file),
            ("browseFolderButton", self.browse_folder),
        ):
            getattr(ui, name).connect("clicked()", act)
        ui.modelsTable.connect("itemSelectionChanged()", self._show_details)
        ui.sourceEdit.connect("textChanged(QString)", lambda text: self._enable())
        heads = [_("Name"), _("Version"), _("Structures"), _("Size"), _("Licence")]
        ui.modelsTable.columnCount = len(heads)
        ui.modelsTable.setHorizontalHeaderLabels(heads)
        ui.labelsTable.columnCount = 3
        ui.labelsTable.setHorizontalHeaderLabels([_("Label"), _("Name in the model"), _("Structure")])
        self._tips = {
            name: getattr(ui, name).toolTip
            for name in ("installModelButton", "removeModelButton", "mapLabelsButton", "forgetDownloadButton")
        }
        self.close_labels()
        self.reload()

    def update(self, state: State) -> None:
        self._state = state
        self._enable()

    def cleanup(self) -> None:
        self._boxes, self._state = [], State()

    # --- list --------------------------------------------------------------------------------------------------------

    def reload(self, choose: str = "") -> None:
        """Read the model folders again and select a model."""
        chosen = choose or (self.chosen.name if self.chosen is not None else "")
        self._models = list_models()
        self._rows = tuple(ModelSummary.of(m) for m in self._models)
        table = self.ui.modelsTable
        table.rowCount = len(self._rows)
        for row, model in enumerate(self._rows):
            texts = (model.name, model.version, ", ".join(model.structures), size_text(model.size_bytes), model.licence)
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text if not model.problem or column else f"✖ {text}")
                item.setToolTip(in_language(model.line))
                table.setItem(row, column, item)
        names = [m.name for m in self._rows]
        if names:
            table.selectRow(names.index(chosen) if chosen in names else 0)
        self._show_details()

    @property
    def chosen(self) -> ModelSummary | None:
        """Return the model of the selected row."""
        row = self.ui.modelsTable.currentRow()
        return self._rows[row] if 0 <= row < len(self._rows) else None

    def _show_details(self) -> None:
        model = self.chosen
        self.ui.modelDetailsLabel.text = details(model) if model is not None else _("No model is installed.")
        self._enable()

    def _enable(self) -> None:
        ui, model = self.ui, self.chosen
        busy = _("Not while a job runs.") if self._state.running else ""
        own = _("This model came with HeartSeg and stays.") if model is None or model.shipped else ""
        broken = _("This model cannot be opened.") if model is None or model.problem else ""
        source = "" if ui.sourceEdit.text.strip() else _("Say where from: an address, a .zip file or a folder.")
        part = "" if is_address(ui.sourceEdit.text.strip()) else _("Write the address of the download above.")
        for name, why in (
            ("installModelButton", busy or source),
            ("removeModelButton", busy or own),
            ("mapLabelsButton", busy or broken or own),
            ("forgetDownloadButton", busy or part),
        ):
            getattr(ui, name).enabled = not why
            getattr(ui, name).toolTip = why or self._tips[name]

    # --- installing and removing -------------------------------------------------------------------------------------

    def browse_file(self) -> None:
        """Let the user choose a zip file."""
        path = qt.QFileDialog.getOpenFileName(self.widget, _("Model"), "", _("Zip files (*.zip)"))
        self._take_path(path)

    def browse_folder(self) -> None:
        """Let the user choose a folder."""
        self._take_path(qt.QFileDialog.getExistingDirectory(self.widget, _("Model folder")))

    def _take_path(self, path: Any) -> None:
        text = path[0] if isinstance(path, tuple) else path  # PySide also returns the filter, PythonQt does not
        if text:
            self.ui.sourceEdit.text = text

    def install(self) -> None:
        """Install from the entered file, folder or URL, as a job with progress and cancel."""
        ui = self.ui
        source, name, sha256 = (e.text.strip() for e in (ui.sourceEdit, ui.modelNameEdit, ui.sha256Edit))
        if not source:
            return

        def done(installed: Installed) -> None:
            ui.sourceEdit.text = ui.modelNameEdit.text = ui.sha256Edit.text = ""
            self.reload(installed.model.path.name)
            self.panel.models_changed()
            self.panel.show_status(
                _("Installed {name}.").format(name=installed.model.path.name) + f" {in_language(installed.note)}"
            )

        def stopped() -> None:
            if is_address(source):
                self.panel.show_status(_("Stopped. Install again to resume the download."))

        self.panel.start(
            _("Install model"),
            lambda reporter: install_from(source, name or None, sha256=sha256 or None, reporter=reporter),
            done,
            stopped=stopped,
        )

    def forget(self) -> None:
        """Delete partial files of a stopped download."""
        there = forget(self.ui.sourceEdit.text.strip())
        self.panel.show_status(_("Deleted.") if there else _("Nothing of it is there."))

    def remove(self) -> None:
        """Delete the chosen model after a question."""
        model = self.chosen
        if model is None or model.shipped:
            return
        if not slicer.util.confirmOkCancelDisplay(
            _("Delete model {name} ({size})?").format(name=model.name, size=size_text(model.size_bytes)),
            windowTitle=_("HeartSeg"),
        ):
            return
        self._do(lambda: remove_model(model.name), _("Removed {name}.").format(name=model.name))

    def open_folder(self) -> None:
        """Show the user's model folder in the file manager."""
        folder = user_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.panel.show_error(
                _("folder '{folder}' cannot be made ({why}): choose another with the variable HEARTSEG_MODELS").format(
                    folder=folder, why=error.strerror
                )
            )
            return
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))

    def _do(self, act: Any, said: str) -> None:
        try:
            act()
        except HeartSegError as error:
            self.panel.show_error(str(error))
            return
        self.reload()
        self.panel.models_changed()
        self.panel.show_status(said)

    # --- labels ------------------------------------------------------------------------------------------------------

    def show_labels(self) -> None:
        """Open the label table of the chosen model."""
        model = self.chosen
        stored = next((m for m in self._models if model is not None and m.name == model.name), None)
        if stored is None or stored.folder is None:
            return
        self._mapped, self._labels = stored.name, suggest_labels(stored.folder.heads)
        table, self._boxes = self.ui.labelsTable, []
        table.rowCount = len(self._labels)
        for row, label in enumerate(self._labels):
            table.setItem(row, 0, qt.QTableWidgetItem(str(label.value)))
            table.setItem(row, 1, qt.QTableWidgetItem(label.name))
            box = qt.QComboBox()
            box.addItem(_("background"))
            for structure in STRUCTURES:
                box.addItem(f"{structure.key} – {structure_name(structure.key)}")
            box.toolTip = (
                _("Probably {key} ({why}).").format(key=label.key, why=in_language(label.why)) if label.key else ""
            )
            table.setCellWidget(row, 2, box)
            self._boxes.append(box)
        table.resizeColumnsToContents()
        self._fill(dict(stored.folder.structures))
        self.ui.labelsLabel.text = _("Which label of {name} is which structure?").format(name=stored.name)
        self.ui.labelsFrame.visible = True

    def take_suggestions(self) -> None:
        """Fill in the probable meaning of the labels; stored only by *Keep*."""
        self._fill({s.value: s.key for s in self._labels if s.key})

    def _fill(self, keys: dict[int, str]) -> None:
        for label, box in zip(self._labels, self._boxes, strict=True):
            key = keys.get(label.value)
            box.currentIndex = KEYS.index(key) + 1 if key else 0

    def keep_labels(self) -> None:
        """Write the label map to the card of the model."""
        chosen = {
            label.value: KEYS[box.currentIndex - 1]
            for label, box in zip(self._labels, self._boxes, strict=True)
            if box.currentIndex > 0
        }
        if not chosen:
            text = _("model '{name}' has no structure yet: choose one for at least one label")
            self.panel.show_error(text.format(name=self._mapped))
            return
        name = self._mapped
        self._do(lambda: set_labels(name, chosen), _("Labels of {name} are kept.").format(name=name))
        self.close_labels()

    def close_labels(self) -> None:
        """Close the label table."""
        self.ui.labelsFrame.visible = False


def details(model: ModelSummary) -> str:
    """Return the card of a model as lines."""
    if model.problem:
        return _("Cannot be used: {why}").format(why=in_language(model.problem))
    parts = [model.description or _("No card: it runs as nnU-Net itself would.")]
    parts += [_("Tested: {figure}").format(figure=figure) for figure in model.figures]
    parts += [_("Licence: {licence}").format(licence=model.licence or _("not stated"))]
    parts += [_("Known failure: {failure}").format(failure=failure) for failure in model.known_failures]
    return "\n".join(parts)
