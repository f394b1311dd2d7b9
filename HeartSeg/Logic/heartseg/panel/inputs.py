"""Inputs of the panel that ``connectGui`` cannot bind: model with its card, device, structures."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from ..anatomy import KEYS, STRUCTURES
from ..models.store import DEFAULT_MODEL, StoredModel, list_models
from ..scene.language import in_language
from ..wording import listed
from .device import REFERENCE_SECONDS, DeviceReport
from .names import structure_name
from .pace import TYPICAL_SECONDS, in_words
from .section import busy

if TYPE_CHECKING:
    from ..models.card import ModelCard


def card_line(card: ModelCard | None) -> str:
    """Summarise a model card in one line: version, modalities and description."""
    if card is None:
        return _("No card: runs like nnU-Net, in stored axes over the whole scan.")
    first = re.split(r"[.:] ", card.description, maxsplit=1)[0].rstrip(".")
    kinds = in_language(listed(card.modalities)) if card.modalities else _("CT or MR")
    return f"{card.version} · {kinds} · {first}."


def card_in_full(card: ModelCard | None) -> str:
    """Return the tooltip of the card line."""
    if card is None:
        return _("This folder has no heartseg.json: write one to describe the model.")
    licence = _("Licence: {licence}").format(licence=card.licence) if card.licence else ""
    parts = [card.description, licence, card.intended_use]
    parts += [_("Known failure: {failure}").format(failure=failure) for failure in card.known_failures]
    return "\n\n".join(part for part in parts if part)


def device_line(report: DeviceReport, seconds: float | None = None, accurate: bool = False) -> str:
    """Return the text of the device line.

    Args:
        report: device of a run.
        seconds: duration of the last run of this kind, or ``None``.
        accurate: whether several predictions are averaged.
    """
    if not report.kind:
        return _("Not yet: {why}.").format(why=in_language(report.why))
    if report.kind == "cuda":
        if report.free_bytes is None:
            return _("GPU: {name}").format(name=report.name)
        return _("GPU: {name}, {free} GB free").format(name=report.name, free=f"{report.free_bytes / 2**30:.1f}")
    if report.kind == "mps":
        return _("GPU: {name}").format(name=report.name)
    longer = sum(TYPICAL_SECONDS.values()) / sum(v for s, v in TYPICAL_SECONDS.items() if s != "average")
    first_guess = REFERENCE_SECONDS * (report.cpu_factor or 1.0) * (longer if accurate else 1.0)
    expected = seconds if seconds is not None else first_guess
    why = f" ({in_language(report.why)})" if report.why else ""
    return _("Running on CPU, {time}").format(time=in_language(in_words(expected))) + why


class ModelChooser:
    """The model combo box, which lists the installed models, and the line below it, which reports a missing model."""

    def __init__(self, ui: Any) -> None:
        self._box, self._line = ui.modelComboBox, ui.modelCardLabel
        self._models: tuple[StoredModel, ...] = ()
        self.wanted = ""

    def reload(self) -> None:
        """Read the search folders again."""
        self._models = list_models()
        usable = [m for m in self._models if m.problem is None]
        usable.sort(key=lambda m: m.name != DEFAULT_MODEL)
        was = self._box.blockSignals(True)
        self._box.clear()
        for model in usable:
            self._box.addItem(model.name)
        self._box.blockSignals(was)
        self.show(self.wanted)

    def show(self, name: str) -> None:
        """Select a model; ``""`` is the default model."""
        self.wanted = name
        index = self._box.findText(name or DEFAULT_MODEL)
        was = self._box.blockSignals(True)
        self._box.setCurrentIndex(max(0, index) if self._box.count else -1)
        self._box.blockSignals(was)
        chosen = self.chosen
        if chosen is None:
            self._line.text = _("No model is installed: install one below, or copy a folder to the user's models.")
            return
        card = chosen.folder.card if chosen.folder is not None else None
        missing = _("Model {name} was not found; this one is used instead.").format(name=name) + " "
        gone = missing if name and index < 0 else ""
        self._line.text = gone + card_line(card)
        self._line.toolTip = card_in_full(card)

    @property
    def chosen(self) -> StoredModel | None:
        """The model for the next run."""
        name = self._box.currentText
        return next((m for m in self._models if m.name == name and m.problem is None), None)

    @property
    def known(self) -> tuple[str, ...]:
        """Keys of the structures that the chosen model segments."""
        import numpy as np

        folder = self.chosen.folder if self.chosen is not None else None
        if folder is None:
            return KEYS
        labels = set(np.unique(folder.structure_lut()).tolist())
        return tuple(s.key for s in STRUCTURES if s.label in labels)


class DeviceChooser:
    """The combo box of devices: automatic, every graphics card by name, the processor."""

    def __init__(self, ui: Any) -> None:
        self._box = ui.deviceComboBox
        self._values: list[str] = []

    def connect(self, changed: Callable[[str], None]) -> None:
        """Call ``changed(device)`` when the user chooses another device."""
        self._box.connect(
            "currentIndexChanged(int)", lambda index: changed(self._values[index]) if index >= 0 else None
        )

    def show(self, device: str, cards: Sequence[str]) -> None:
        """List the available devices and select one; an unavailable selected device is listed by its value.

        Args:
            device: see :class:`~heartseg.settings.Settings`.
            cards: names of the graphics cards.
        """
        choices = {"auto": _("Automatic")}
        choices |= {f"cuda:{k}": _("GPU {number}: {name}").format(number=k, name=name) for k, name in enumerate(cards)}
        if device == "cuda" and cards:
            device = "cuda:0"
        if sys.platform == "darwin":
            choices["mps"] = _("Apple GPU")
        choices["cpu"] = _("Processor (CPU)")
        choices.setdefault(device, device)
        was = self._box.blockSignals(True)
        if list(choices) != self._values:
            self._box.clear()
            for text in choices.values():
                self._box.addItem(text)
            self._values = list(choices)
        self._box.setCurrentIndex(self._values.index(device))
        self._box.blockSignals(was)


class StructureBoxes:
    """One check box per structure, stored as text in the parameter node: ``""`` for all, ``"LV,MYO"`` for two."""

    def __init__(self, ui: Any) -> None:
        self._boxes = {key: getattr(ui, f"structure{key}CheckBox") for key in KEYS}

    def connect(self, changed: Any) -> None:
        """Call ``changed()`` when the user checks or unchecks a box."""
        for box in self._boxes.values():
            box.connect("clicked()", changed)

    def show(self, text: str, known: tuple[str, ...], enabled: bool) -> None:
        """Check the requested structures; disable those that the model does not segment."""
        wanted = [key for key in text.split(",") if key] or list(KEYS)
        for structure in STRUCTURES:
            box = self._boxes[structure.key]
            box.checked = structure.key in wanted and structure.key in known
            box.enabled = enabled and structure.key in known
            if structure.key in known and not enabled:
                box.toolTip = busy()
            elif structure.key in known:
                box.toolTip = _("Keep the {name} in the result.").format(name=structure_name(structure.key))
            else:
                box.toolTip = _("The chosen model does not segment the {name}.").format(
                    name=structure_name(structure.key)
                )

    def text(self, known: tuple[str, ...]) -> str:
        """Return the checked structures in the format of the parameter node."""
        ticked = [key for key in KEYS if self._boxes[key].checked]
        return "" if set(ticked) == set(known) else ",".join(ticked) or "none"
