"""The model card, ``heartseg.json``: what a model is for, what it expects of a scan, and the hashes of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..anatomy import KEYS
from ..errors import ModelError

CARD_NAME = "heartseg.json"
SCHEMA = "heartseg-model-1"
EXTENTS = ("scan", "crop")
ORIENTATIONS = ("LPS", None)
REQUIRED = ("schema", "name", "version", "labels", "orientation")


@dataclass(frozen=True)
class ModelCard:
    """What ``heartseg.json`` says about a model.

    Attributes:
        name: short name under which the model is found, e.g. ``"HeartSeg-Default"``.
        version: the model's own version.
        description: one or two sentences for people.
        modalities: ``"CT"``, ``"MR"``: what the model was made for.
        labels: label value in the model -> structure key; empty leaves it to the label names in ``dataset.json``.
        orientation: ``"LPS"``: scans are brought to the nearest LPS axes first; ``None``: stored axes, as nnU-Net does.
        configuration: the nnU-Net configuration in ``plans.json`` (``"3d_fullres"``); ``None``: the folder tells.
        finder: folder, relative to the card, of the coarse model that finds the heart; ``None`` if there is none.
        margin_mm: how far the window around the found heart reaches beyond it, mm.
        normalization_extent: intensity statistics are taken over the whole ``"scan"`` or over the ``"crop"``.
        trained_on: JSON-ready facts about the training data.
        tested_on: JSON-ready facts, one entry per test set.
        licence: SPDX identifier or a sentence.
        citation: what to cite.
        files: path relative to the card, with ``/`` -> SHA-256, lower-case hex.
        known_failures: sentences.
        intended_use: a sentence.
        extra: keys of the file that this version does not know; kept when the card is written again.
    """

    name: str
    version: str
    labels: dict[int, str] = field(default_factory=dict)
    orientation: str | None = None
    description: str = ""
    modalities: tuple[str, ...] = ()
    configuration: str | None = None
    finder: str | None = None
    margin_mm: float = 15.0
    normalization_extent: str = "scan"
    trained_on: dict[str, Any] = field(default_factory=dict)
    tested_on: tuple[Any, ...] = ()
    licence: str = ""
    citation: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    known_failures: tuple[str, ...] = ()
    intended_use: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> ModelCard:
        """The card in this file, or in this folder's ``heartseg.json``; ``ModelError`` names what is wrong in it."""
        path = Path(path)
        if path.is_dir():
            path = path / CARD_NAME
        return cls.from_dict(read_json(path), str(path))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = CARD_NAME) -> ModelCard:
        """The card with this content; ``source`` names the file in errors."""
        for key in REQUIRED:
            if key not in content:
                raise ModelError(f"'{source}' has no '{key}': a card needs {', '.join(REQUIRED)}")
        values: dict[str, Any] = {}
        for key, (right, accept) in _FIELDS.items():
            if key not in content:
                continue
            try:
                values[key] = accept(content[key])
            except (TypeError, ValueError, KeyError, AttributeError):
                raise ModelError(f"'{key}' in '{source}' is {_short(content[key])}: it must be {right}") from None
        values.pop("schema")
        extra = {k: v for k, v in content.items() if k not in _FIELDS}
        return cls(**values, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary, in the order of the file; ``from_dict`` gives the same card back."""
        content = asdict(self)
        extra = content.pop("extra")
        content["labels"] = {str(value): key for value, key in self.labels.items()}
        return {"schema": SCHEMA, **content, **extra}

    def write(self, path: str | Path) -> Path:
        """Write the card to this file, or into this folder as ``heartseg.json``; returns the file."""
        path = Path(path)
        if path.is_dir():
            path = path / CARD_NAME
        path.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        return path


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ``ModelError`` says what is wrong with the file and where."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ModelError(
            f"'{path}' is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg}): copy the model again"
        ) from None
    except (ValueError, RecursionError):
        raise ModelError(f"'{path}' is not a JSON text file: copy the model again") from None
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read ({error.strerror}): check the file and its permissions") from None
    if not isinstance(content, dict):
        raise ModelError(f"'{path}' holds a JSON {type(content).__name__}, not an object: copy the model again")
    return content


def sha256_of(path: Path, tick: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file as lower-case hex, read in pieces; ``tick`` is called with the size of each."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
            if tick is not None:
                tick(len(piece))
    return digest.hexdigest()


def is_inside(relative: str) -> bool:
    """Whether a ``/``-separated path stays inside the folder it is relative to, on every platform."""
    path = PurePosixPath(relative)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not set("\\:\0") & set(relative)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fail() -> Any:
    raise ValueError


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _fail()


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value.strip() else _fail()


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(v) for v in value) if isinstance(value, list | tuple) else _fail()


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else _fail()


def _labels(value: Any) -> dict[int, str]:
    labels = {int(k): _text(v).upper() for k, v in _mapping(value).items()}
    return labels if all(k > 0 and v in KEYS for k, v in labels.items()) else _fail()


def _one_of(choices: tuple[Any, ...]) -> Callable[[Any], Any]:
    return lambda value: value if value in choices else _fail()


def _relative(value: Any) -> str | None:
    return value if value is None or is_inside(_text(value)) else _fail()


def _distance(value: Any) -> float:
    return float(value) if not isinstance(value, bool | str) and 0 <= float(value) < 1000 else _fail()


def _hashes(value: Any) -> dict[str, str]:
    hashes = {k: _text(v).lower() for k, v in _mapping(value).items()}
    good = all(is_inside(k) and len(v) == 64 and not set(v) - set("0123456789abcdef") for k, v in hashes.items())
    return hashes if good else _fail()


_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "schema": (f"{SCHEMA!r}", _one_of((SCHEMA,))),
    "name": ("a text that is not empty", _word),
    "version": ("a text such as '1.0'", _word),
    "labels": (f'an object such as {{"1": "LV"}} with keys from {", ".join(KEYS)}', _labels),
    "orientation": ("'LPS' or null", _one_of(ORIENTATIONS)),
    "description": ("a text", _text),
    "modalities": ("a list of 'CT' and 'MR'", lambda v: tuple(_one_of(("CT", "MR"))(m) for m in _texts(v))),
    "configuration": ("a text such as '3d_fullres', or null", lambda v: None if v is None else _word(v)),
    "finder": ("a folder inside the model's, such as 'finder', or null", _relative),
    "margin_mm": ("a distance in mm from 0 to 1000", _distance),
    "normalization_extent": ("'scan' or 'crop'", _one_of(EXTENTS)),
    "trained_on": ("an object", _mapping),
    "tested_on": ("a list", lambda v: tuple(v) if isinstance(v, list | tuple) else _fail()),
    "licence": ("a text", _text),
    "citation": ("a list of texts", _texts),
    "files": ("an object: path inside the model's folder -> SHA-256 in hex", _hashes),
    "known_failures": ("a list of texts", _texts),
    "intended_use": ("a text", _text),
}
