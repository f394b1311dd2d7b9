"""Which of a model's labels is which structure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..anatomy import KEYS, match_name, structure
from ..errors import ModelError, SettingsError

LABELS_SYNTAX = '--labels "1=LV,2=MYO"'
LabelMap = Mapping[int, str] | Iterable[tuple[int, str]]


@dataclass(frozen=True)
class OutputHeads:
    """What the network's output channels mean.

    Attributes:
        names: label names in channel order; begins with ``"background"`` unless the model was trained on regions.
        values: the label value of each in ``dataset.json`` (for regions: the value nnU-Net writes for it).
        ignore: value of the ignore label, which has no channel, or ``None``.
        regions: whether the model was trained on (overlapping) regions.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignore: int | None
    regions: bool

    @classmethod
    def of(cls, dataset: Mapping[str, Any], source: str) -> OutputHeads:
        """Read the labels of a ``dataset.json`` as nnU-Net's label manager does."""
        labels = dataset.get("labels")
        if not isinstance(labels, dict) or labels.get("background") not in (0, "0"):
            raise ModelError(
                f"'labels' in '{source}' is {labels!r:.80}: nnU-Net v2 writes {{\"background\": 0, \"name\": 1, ...}}"
            )
        try:
            ignore = None if labels.get("ignore") is None else int(labels["ignore"])
            named = {name: value for name, value in labels.items() if name != "ignore"}
            if any(isinstance(v, list) and len(v) > 1 for v in named.values()):
                return cls._of_regions(named, dataset.get("regions_class_order"), ignore, source)
            plain = {name: int(v[0] if isinstance(v, list) else v) for name, v in named.items()}
        except (TypeError, ValueError, IndexError):
            raise ModelError(f"'labels' in '{source}' holds a value that is no whole number: {labels!r:.80}") from None
        by_value: dict[int, str] = {}
        for name, value in plain.items():
            by_value.setdefault(value, name)
        values = tuple(sorted(by_value))
        if len(values) < 2:
            raise ModelError(f"'labels' in '{source}' names no structure: nothing but background can come out")
        return cls(tuple(by_value[v] for v in values), values, ignore, regions=False)

    @classmethod
    def _of_regions(cls, named: dict[str, Any], order: Any, ignore: int | None, source: str) -> OutputHeads:
        names = tuple(name for name, value in named.items() if value not in (0, "0", [0]))
        if not isinstance(order, list) or len(order) != len(names):
            raise ModelError(f"'regions_class_order' in '{source}' is {order!r}: it needs {len(names)} label values")
        return cls(names, tuple(int(v) for v in order), ignore, regions=True)

    @property
    def written(self) -> tuple[int, ...]:
        """The value each channel gets in nnU-Net's label map: its index, or for regions the class order's value."""
        return self.values if self.regions else tuple(range(len(self.names)))

    def foreground(self) -> dict[int, str]:
        """Label value -> name, background left out."""
        return {v: n for v, n in zip(self.values, self.names, strict=True) if v != 0}


MMWHS_VALUES = {500: "LV", 600: "RV", 420: "LA", 550: "RA", 205: "MYO", 820: "AO", 850: "PA"}
"""Label values of the MM-WHS challenge (Zhuang and Shen, Med Image Anal 2016;31:77-87), widely copied since."""

_SIDES = {"left": "L", "l": "L", "right": "R", "r": "R"}
_PARTS = {"ventricle": "V", "ventricular": "V", "atrium": "A", "atrial": "A"}
_NOT_A_CHAMBER = {"vein", "veins", "appendage", "scar", "infarct", "fat", "epicardium", "valve", "wall", "septum"}


@dataclass(frozen=True)
class Suggestion:
    """What a label of a model probably means.

    Attributes:
        value: label value in the model.
        name: its name there.
        key: structure key, or ``None`` where nothing fits.
        why: ``"name"``, ``"MM-WHS value"``, ``"words in the name"``, or ``""``.
    """

    value: int
    name: str
    key: str | None
    why: str


def suggest_labels(heads: OutputHeads) -> tuple[Suggestion, ...]:
    """A guess per label, for a person to confirm: by its whole name, by MM-WHS values, by words in its name.

    Only the first is applied without asking (:func:`assign_structures`). No structure is suggested twice, the surer
    reason wins, and a label called "myocardium" of the right side, a vein or an appendage gets none.
    """
    known = heads.foreground()
    guesses: list[tuple[int, int, str, str]] = []
    for value, name in known.items():
        for rank, (key, why) in enumerate(
            ((_by_name(name), "name"), (_by_mmwhs(value, name), "MM-WHS value"), (_by_words(name), "words in the name"))
        ):
            if key is not None:
                guesses.append((rank, value, key, why))
                break
    chosen: dict[int, tuple[str, str]] = {}
    for _, value, key, why in sorted(guesses):
        if key not in {k for k, _ in chosen.values()}:
            chosen[value] = (key, why)
    return tuple(Suggestion(value, name, *chosen.get(value, (None, ""))) for value, name in known.items())


def suggested_map(heads: OutputHeads) -> dict[int, str]:
    """The suggestions as a label map; empty if nothing fits."""
    return {s.value: s.key for s in suggest_labels(heads) if s.key is not None}


def map_text(labels: Mapping[int, str]) -> str:
    """A label map as the command line takes it: ``"1=LV,2=MYO"``."""
    return ",".join(f"{value}={key}" for value, key in labels.items())


def _by_name(name: str) -> str | None:
    found = match_name(name)
    return found.key if found else None


def _by_mmwhs(value: int, name: str) -> str | None:
    numbers = {int(n) for n in re.findall(r"\d+", name)} | {value}
    keys = {MMWHS_VALUES[n] for n in numbers if n in MMWHS_VALUES}
    return keys.pop() if len(keys) == 1 else None


def _by_words(name: str) -> str | None:
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))
    if words & _NOT_A_CHAMBER:
        return None
    sides = {_SIDES[w] for w in words if w in _SIDES}
    if words & {"myocardium", "myocardial", "myo"}:
        return None if sides == {"R"} or "rv" in words else "MYO"
    if "pulmonary" in words and words & {"artery", "trunk", "arteries"}:
        return "PA"
    if "aorta" in words or "aortic" in words:
        return None if "descending" in words or "arch" in words else "AO"
    parts = {_PARTS[w] for w in words if w in _PARTS}
    if len(sides) == 1 and len(parts) == 1:
        return sides.pop() + parts.pop()
    short = words & {"lv", "rv", "la", "ra"}
    return short.pop().upper() if len(short) == 1 else None


def assign_structures(heads: OutputHeads, given: Mapping[int, str] | None, source: str) -> dict[int, str]:
    """Label value -> structure key: as ``given``, else by name; labels that mean no known structure are left out.

    Raises:
        ModelError: ``given`` names a label that the model lacks or a structure that is unknown.
    """
    known = heads.foreground()
    if not given:
        matched = {value: match_name(name) for value, name in known.items()}
        return {value: found.key for value, found in matched.items() if found is not None}
    keys: dict[int, str] = {}
    for value, key in given.items():
        if value not in known:
            raise ModelError(f"label {value} is not among those of '{source}' ({_listed(known)}): use {LABELS_SYNTAX}")
        if key.upper() not in KEYS:
            raise ModelError(f"structure {key!r} for label {value} is unknown: choose from {', '.join(KEYS)}")
        keys[value] = key.upper()
    return keys


def build_lut(heads: OutputHeads, keys: Mapping[int, str], source: str) -> np.ndarray:
    """uint8 table: value in the model's label map (argmax channel, or region value) -> HeartSeg's label, else 0.

    Raises:
        ModelError: no label means a structure; lists the model's labels and shows how to name them.
    """
    if not keys:
        raise ModelError(
            f"no label of '{source}' means a structure that HeartSeg knows (its labels: {_listed(heads.foreground())}):"
            f" say which is which with {_syntax_for(heads)}, from {', '.join(KEYS)}"
        )
    lut = np.zeros(max(heads.written) + 1, dtype=np.uint8)
    for written, value in zip(heads.written, heads.values, strict=True):
        if value in keys:
            lut[written] = structure(keys[value]).label
    return lut


def _syntax_for(heads: OutputHeads) -> str:
    """The option with what the labels probably mean, else with an example."""
    guess = suggested_map(heads)
    return f'--labels "{map_text(guess)}" (a guess: check it)' if guess else LABELS_SYNTAX


def parse_label_map(text: str) -> dict[int, str]:
    """``"1=LV,2=MYO"`` as ``{1: "LV", 2: "MYO"}``; ``SettingsError`` shows the syntax."""
    labels: dict[int, str] = {}
    for part in text.replace(";", ",").split(","):
        value, _, key = (p.strip() for p in part.partition("="))
        if not value.isdecimal() or int(value) == 0 or key.upper() not in KEYS:
            raise SettingsError(
                f"label map entry {part.strip()!r} is not LABEL=STRUCTURE with a label from 1 and a "
                f"structure of {', '.join(KEYS)}: write {LABELS_SYNTAX}"
            )
        if int(value) in labels:
            raise SettingsError(f"label {value} occurs twice in the label map {text!r}: give each label once")
        labels[int(value)] = key.upper()
    return labels


def _listed(labels: Mapping[int, str], at_most: int = 30) -> str:
    shown = [f"{value}={name}" for value, name in list(labels.items())[:at_most]]
    more = len(labels) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
