"""The upper part of the panel: model with its card, device, frames, structures; what connectGui cannot bind."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from ..anatomy import KEYS, STRUCTURES
from ..models.store import DEFAULT_MODEL, StoredModel, list_models
from .device import REFERENCE_SECONDS, DeviceReport
from .pace import TYPICAL_SECONDS, in_words
from .section import busy

if TYPE_CHECKING:
    from ..models.card import ModelCard


def card_line(card: ModelCard | None) -> str:
    """A model's card in one line: what for, and under which licence."""
    if card is None:
        return _("No card: run as nnU-Net itself would, in stored axes over the whole scan.")
    first = re.split(r"[.:] ", card.description, maxsplit=1)[0].rstrip(".")
    kinds = " and ".join(card.modalities) or "CT or MR"
    return f"{card.version} · {kinds} · {first}."


def card_in_full(card: ModelCard | None) -> str:
    """The tooltip of the card line."""
    if card is None:
        return _("This folder has no heartseg.json; write one to tell what the model is for.")
    licence = _("Licence: {licence}").format(licence=card.licence) if card.licence else ""
    parts = [card.description, licence, card.intended_use]
    parts += [_("Known failure: {failure}").format(failure=failure) for failure in card.known_failures]
    return "\n\n".join(part for part in parts if part)


def device_line(report: DeviceReport, seconds: float | None = None, accurate: bool = False) -> str:
    """What the device line says.

    Args:
        report: where a run would be computed.
        seconds: what the last run of this kind took there, or ``None``.
        accurate: whether several looks will be averaged.
    """
    if not report.kind:
        return _("Not yet: {why}.").format(why=report.why)
    if report.kind == "cuda":
        if report.free_bytes is None:
            return _("GPU: {name}").format(name=report.name)
        return _("GPU: {name}, {free} GB free").format(name=report.name, free=f"{report.free_bytes / 2**30:.1f}")
    if report.kind == "mps":
        return _("GPU: {name}").format(name=report.name)
    longer = sum(TYPICAL_SECONDS.values()) / sum(v for s, v in TYPICAL_SECONDS.items() if s != "average")
    first_guess = REFERENCE_SECONDS * (report.cpu_factor or 1.0) * (longer if accurate else 1.0)
    expected = seconds if seconds is not None else first_guess
    why = f" ({report.why})" if report.why else ""
    return _("Running on CPU, {time}").format(time=in_words(expected)) + why


class ModelChooser:
    """The model combo box and the line under it. The box shows the models there are; a name that is gone is told."""

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
        """Make a model current; ``""`` is the default one."""
        self.wanted = name
        index = self._box.findText(name or DEFAULT_MODEL)
        was = self._box.blockSignals(True)
        self._box.setCurrentIndex(max(0, index) if self._box.count else -1)
        self._box.blockSignals(was)
        chosen = self.chosen
        if chosen is None:
            self._line.text = _("No model is installed: install one below, or put a folder into the user's models.")
            return
        card = chosen.folder.card if chosen.folder is not None else None
        gone = _("Model {name} is not here; this one is taken.").format(name=name) + " " if name and index < 0 else ""
        self._line.text = gone + card_line(card)
        self._line.toolTip = card_in_full(card)

    @property
    def chosen(self) -> StoredModel | None:
        """The model that a run would take."""
        name = self._box.currentText
        return next((m for m in self._models if m.name == name and m.problem is None), None)

    @property
    def known(self) -> tuple[str, ...]:
        """Keys of the structures that the chosen model knows."""
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
        """Call ``changed(device)`` when the user chooses another one."""
        self._box.connect(
            "currentIndexChanged(int)", lambda index: changed(self._values[index]) if index >= 0 else None
        )

    def show(self, device: str, cards: Sequence[str]) -> None:
        """List what there is and make one current; a device that is not there is listed as it is written.

        Args:
            device: as in :class:`~heartseg.settings.Settings`.
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
    """One check box per structure, kept as text in the parameter node: ``""`` is all, ``"LV,MYO"`` are two."""

    def __init__(self, ui: Any) -> None:
        self._boxes = {key: getattr(ui, f"structure{key}CheckBox") for key in KEYS}

    def connect(self, changed: Any) -> None:
        """Call ``changed()`` when the user ticks."""
        for box in self._boxes.values():
            box.connect("clicked()", changed)

    def show(self, text: str, known: tuple[str, ...], enabled: bool) -> None:
        """Tick what is wanted; what the model does not know cannot be ticked, and says so."""
        wanted = [key for key in text.split(",") if key] or list(KEYS)
        for structure in STRUCTURES:
            box = self._boxes[structure.key]
            box.checked = structure.key in wanted and structure.key in known
            box.enabled = enabled and structure.key in known
            if structure.key in known and not enabled:
                box.toolTip = busy()
            elif structure.key in known:
                box.toolTip = _("Keep the {name} in the result.").format(name=structure.name)
            else:
                box.toolTip = _("The chosen model does not know the {name}.").format(name=structure.name)

    def text(self, known: tuple[str, ...]) -> str:
        """What is ticked, as the parameter node keeps it."""
        ticked = [key for key in KEYS if self._boxes[key].checked]
        return "" if set(ticked) == set(known) else ",".join(ticked) or "none"
