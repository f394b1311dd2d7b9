"""Mapping of model labels to structures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..anatomy import KEYS, MMWHS_LABELS, match_name, structure
from ..errors import ModelError, SettingsError
from ..wording import _

LABELS_SYNTAX = '--labels "1=LV,2=MYO"'
LabelMap = Mapping[int, str] | Iterable[tuple[int, str]]


@dataclass(frozen=True)
class OutputHeads:
    """Meaning of the output channels of a network.

    Attributes:
        names: label names in channel order; begins with ``"background"`` unless the model was trained on regions.
        values: label value of each channel in ``dataset.json`` (for regions: the value that nnU-Net writes).
        ignore: value of the ignore label, which has no channel, or ``None``.
        regions: whether the model was trained on (overlapping) regions.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignore: int | None
    regions: bool

    @classmethod
    def of(cls, dataset: Mapping[str, Any], source: str) -> OutputHeads:
        """Read the labels of a ``dataset.json`` like the label manager of nnU-Net."""
        labels = dataset.get("labels")
        if not isinstance(labels, dict) or labels.get("background") not in (0, "0"):
            raise ModelError(
                _(
                    "'labels' in '{source}' is {labels:.80}: it must be like {{\"background\": 0, \"name\": 1, ...}}"
                ).format(source=source, labels=repr(labels))
            )
        try:
            ignore = None if labels.get("ignore") is None else int(labels["ignore"])
            named = {name: value for name, value in labels.items() if name != "ignore"}
            if any(isinstance(v, list) and len(v) > 1 for v in named.values()):
                return cls._of_regions(named, dataset.get("regions_class_order"), ignore, source)
            plain = {name: int(v[0] if isinstance(v, list) else v) for name, v in named.items()}
        except (TypeError, ValueError, IndexError):
            raise ModelError(
                _("'labels' in '{source}' is {labels:.80}: values must be integers").format(
                    source=source, labels=repr(labels)
                )
            ) from None
        by_value: dict[int, str] = {}
        for name, value in plain.items():
            by_value.setdefault(value, name)
        values = tuple(sorted(by_value))
        if len(values) < 2:
            raise ModelError(
                _("'labels' in '{source}' contains background only: copy dataset.json again").format(source=source)
            )
        return cls(tuple(by_value[v] for v in values), values, ignore, regions=False)

    @classmethod
    def _of_regions(cls, named: dict[str, Any], order: Any, ignore: int | None, source: str) -> OutputHeads:
        names = tuple(name for name, value in named.items() if value not in (0, "0", [0]))
        if not isinstance(order, list) or len(order) != len(names):
            raise ModelError(
                _("'regions_class_order' in '{source}' is {order}: it must have {count} label values").format(
                    source=source, order=repr(order), count=len(names)
                )
            )
        return cls(names, tuple(int(v) for v in order), ignore, regions=True)

    @property
    def written(self) -> tuple[int, ...]:
        """Value of each channel in nnU-Net's label map: its index, or its entry in the class order of the regions."""
        return self.values if self.regions else tuple(range(len(self.names)))

    def foreground(self) -> dict[int, str]:
        """Label value -> name, without background."""
        return {v: n for v, n in zip(self.values, self.names, strict=True) if v != 0}


_SIDES = {"left": "L", "l": "L", "right": "R", "r": "R"}
_PARTS = {"ventricle": "V", "ventricular": "V", "atrium": "A", "atrial": "A"}
_NOT_A_CHAMBER = {"vein", "veins", "appendage", "scar", "infarct", "fat", "epicardium", "valve", "wall", "septum"}


@dataclass(frozen=True)
class Suggestion:
    """Suggested structure for a label of a model.

    Attributes:
        value: label value in the model.
        name: label name in the model.
        key: structure key, or ``None`` without a suggestion.
        why: reason: ``"name"``, ``"MM-WHS value"``, ``"words in the name"``, or ``""``.
    """

    value: int
    name: str
    key: str | None
    why: str


def suggest_labels(heads: OutputHeads) -> tuple[Suggestion, ...]:
    """Suggest a structure for each label by its full name, its MM-WHS value, or words in its name, in this order.

    Only a match by full name is applied without confirmation (:func:`assign_structures`). Each structure is suggested
    once, for the most reliable match. Labels of right myocardium, veins and appendages get no suggestion.
    """
    known = heads.foreground()
    guesses: list[tuple[int, int, str, str]] = []
    for value, name in known.items():
        for rank, (key, how) in enumerate(
            (
                (_by_name(name), _("name")),
                (_by_mmwhs(value, name), _("MM-WHS value")),
                (_by_words(name), _("words in the name")),
            )
        ):
            if key is not None:
                guesses.append((rank, value, key, how))
                break
    chosen: dict[int, tuple[str, str]] = {}
    for _rank, value, key, why in sorted(guesses):
        if key not in {k for k, _ in chosen.values()}:
            chosen[value] = (key, why)
    return tuple(Suggestion(value, name, *chosen.get(value, (None, ""))) for value, name in known.items())


def suggested_map(heads: OutputHeads) -> dict[int, str]:
    """The suggestions as a label map; may be empty."""
    return {s.value: s.key for s in suggest_labels(heads) if s.key is not None}


def map_text(labels: Mapping[int, str]) -> str:
    """Format a label map for the command line: ``"1=LV,2=MYO"``."""
    return ",".join(f"{value}={key}" for value, key in labels.items())


def _by_name(name: str) -> str | None:
    found = match_name(name)
    return found.key if found else None


def _by_mmwhs(value: int, name: str) -> str | None:
    numbers = {int(n) for n in re.findall(r"\d+", name)} | {value}
    keys = {MMWHS_LABELS[n] for n in numbers if n in MMWHS_LABELS}
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
    """Label value -> structure key, as ``given`` or else by name, without labels that match no known structure.

    Raises:
        ModelError: ``given`` contains a label that the model lacks, or an unknown structure.
    """
    known = heads.foreground()
    if not given:
        matched = {value: match_name(name) for value, name in known.items()}
        return {value: found.key for value, found in matched.items() if found is not None}
    keys: dict[int, str] = {}
    for value, key in given.items():
        if value not in known:
            raise ModelError(
                _("label {value} does not exist in '{source}': choose from {listed}, as in {syntax}").format(
                    value=value, source=source, listed=_listed(known), syntax=LABELS_SYNTAX
                )
            )
        if key.upper() not in KEYS:
            raise ModelError(
                _("structure {key!r} for label {value} is unknown: choose from {keys}").format(
                    key=key, value=value, keys=", ".join(KEYS)
                )
            )
        keys[value] = key.upper()
    return keys


def build_lut(heads: OutputHeads, keys: Mapping[int, str], source: str) -> np.ndarray:
    """Return a uint8 table: value in the model's label map (argmax channel or region value) -> HeartSeg label, else 0.

    Raises:
        ModelError: no label matches a known structure; the message lists the labels and shows how to map them.
    """
    if not keys:
        raise ModelError(
            _(
                "no label of '{source}' matches a known structure (its labels: {listed}): map the labels to "
                "{keys} with {example}"
            ).format(
                source=source, listed=_listed(heads.foreground()), keys=", ".join(KEYS), example=_syntax_for(heads)
            )
        )
    lut = np.zeros(max(heads.written) + 1, dtype=np.uint8)
    for written, value in zip(heads.written, heads.values, strict=True):
        if value in keys:
            lut[written] = structure(keys[value]).label
    return lut


def _syntax_for(heads: OutputHeads) -> str:
    """The option with the suggested label map, else with an example."""
    guess = suggested_map(heads)
    return f'--labels "{map_text(guess)}" (a suggestion: check it)' if guess else LABELS_SYNTAX


def parse_label_map(text: str) -> dict[int, str]:
    """Parse ``"1=LV,2=MYO"`` into ``{1: "LV", 2: "MYO"}``; ``SettingsError`` shows the syntax."""
    labels: dict[int, str] = {}
    for part in text.replace(";", ",").split(","):
        value, _sign, key = (p.strip() for p in part.partition("="))
        if not value.isdecimal() or int(value) == 0 or key.upper() not in KEYS:
            raise SettingsError(
                _("label map entry {part!r} is not a positive label and a structure of {keys}: write {syntax}").format(
                    part=part.strip(), keys=", ".join(KEYS), syntax=LABELS_SYNTAX
                )
            )
        if int(value) in labels:
            raise SettingsError(
                _("label {value} occurs twice in the label map {text!r}: use each label once").format(
                    value=value, text=text
                )
            )
        labels[int(value)] = key.upper()
    return labels


def _listed(labels: Mapping[int, str], at_most: int = 30) -> str:
    shown = [f"{value}={name}" for value, name in list(labels.items())[:at_most]]
    more = len(labels) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
