"""The model card, ``heartseg.json``: purpose of a model, its requirements on a scan, and the hashes of its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..anatomy import KEYS
from ..errors import ModelError
from ..wording import _

CARD_NAME = "heartseg.json"
SCHEMA = "heartseg-model-1"
EXTENTS = ("scan", "crop")
ORIENTATIONS = ("LPS", None)
REQUIRED = ("schema", "name", "version", "labels", "orientation")


@dataclass(frozen=True)
class ModelCard:
    """Content of ``heartseg.json``.

    Attributes:
        name: short name that identifies the model, e.g. ``"HeartSeg-Default"``.
        version: version of the model.
        description: one or two sentences.
        modalities: modalities that the model supports: ``"CT"``, ``"MR"``.
        labels: label value in the model -> structure key; if empty, the label names in ``dataset.json`` decide.
        orientation: ``"LPS"``: scans are reoriented to the nearest LPS axes; ``None``: stored axes, as in nnU-Net.
        configuration: nnU-Net configuration, e.g. ``"3d_fullres"``; ``None``: derived from the folder.
        finder: folder of the coarse model that locates the heart, relative to the card; ``None`` if there is none.
        margin_mm: margin around the located heart, mm.
        normalization_extent: region for the intensity statistics: the whole ``"scan"`` or the ``"crop"``.
        upper_percentile: grey values above this percentile of that region are clipped before they are normalised.
        doubtful_below: structure key -> expected Dice below which the structure is reported as doubtful.
        trained_on: JSON-serializable description of the training data.
        tested_on: JSON-serializable results, one entry per test set.
        licence: SPDX identifier or a sentence.
        citation: references to cite.
        files: path relative to the card, with ``/`` -> SHA-256 as lower-case hex.
        known_failures: known failure modes, one sentence each.
        intended_use: intended use in one sentence.
        extra: unknown keys of the file, preserved when the card is written.
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
    upper_percentile: float = 100.0
    doubtful_below: dict[str, float] = field(default_factory=dict)
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
        """Read a card from a file, or from ``heartseg.json`` in a folder; ``ModelError`` names what is wrong in it."""
        path = Path(path)
        if path.is_dir():
            path = path / CARD_NAME
        return cls.from_dict(read_json(path), str(path))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = CARD_NAME) -> ModelCard:
        """Create a card from the content of a JSON file; error messages name ``source`` as the file."""
        for key in REQUIRED:
            if key not in content:
                raise ModelError(
                    _("'{source}' has no '{key}': a card needs {required}").format(
                        source=source, key=key, required=", ".join(REQUIRED)
                    )
                )
        values: dict[str, Any] = {}
        for key, (expected, parse) in _FIELDS.items():
            if key not in content:
                continue
            try:
                values[key] = parse(content[key])
            except (TypeError, ValueError, KeyError, AttributeError):
                raise ModelError(
                    _("'{key}' in '{source}' is {value}: it must be {expected}").format(
                        key=key, source=source, value=_short(content[key]), expected=expected
                    )
                ) from None
        values.pop("schema")
        extra = {k: v for k, v in content.items() if k not in _FIELDS}
        return cls(**values, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dictionary in the key order of the file; ``from_dict`` restores the card."""
        content = asdict(self)
        extra = content.pop("extra")
        content["labels"] = {str(value): key for value, key in self.labels.items()}
        return {"schema": SCHEMA, **content, **extra}

    def write(self, path: str | Path) -> Path:
        """Write the card to a file, or as ``heartseg.json`` into a folder; return the path of the file."""
        path = Path(path)
        if path.is_dir():
            path = path / CARD_NAME
        path.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        return path


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; ``ModelError`` names the file and the position of the error."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ModelError(
            _("'{path}' is not valid JSON (line {line}, column {column}: {reason}): copy the model again").format(
                path=path, line=error.lineno, column=error.colno, reason=error.msg
            )
        ) from None
    except (ValueError, RecursionError):
        raise ModelError(_("'{path}' is not a JSON file: copy the model again").format(path=path)) from None
    except OSError as error:
        raise ModelError(
            _("'{path}' cannot be read ({strerror}): check the file and its permissions").format(
                path=path, strerror=error.strerror
            )
        ) from None
    if not isinstance(content, dict):
        raise ModelError(
            _("'{path}' contains a JSON {name} instead of an object: copy the model again").format(
                path=path, name=type(content).__name__
            )
        )
    return content


def is_inside(relative: str) -> bool:
    """Whether a relative ``/``-separated path stays inside its base folder on every platform."""
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


def _percentile(value: Any) -> float:
    return float(value) if not isinstance(value, bool | str) and 50 <= float(value) <= 100 else _fail()


def _shares(value: Any) -> dict[str, float]:
    shares = {_text(k).upper(): v for k, v in _mapping(value).items()}
    good = all(k in KEYS and not isinstance(v, bool | str) and 0 <= float(v) <= 1 for k, v in shares.items())
    return {k: float(v) for k, v in shares.items()} if good else _fail()


def _hashes(value: Any) -> dict[str, str]:
    hashes = {k: _text(v).lower() for k, v in _mapping(value).items()}
    good = all(is_inside(k) and len(v) == 64 and not set(v) - set("0123456789abcdef") for k, v in hashes.items())
    return hashes if good else _fail()


_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "schema": (f"{SCHEMA!r}", _one_of((SCHEMA,))),
    "name": ("a non-empty string", _word),
    "version": ("a string such as '1.0'", _word),
    "labels": (f'an object such as {{"1": "LV"}} with keys from {", ".join(KEYS)}', _labels),
    "orientation": ("'LPS' or null", _one_of(ORIENTATIONS)),
    "description": ("a string", _text),
    "modalities": ("a list of 'CT' and 'MR'", lambda v: tuple(_one_of(("CT", "MR"))(m) for m in _texts(v))),
    "configuration": ("a string such as '3d_fullres', or null", lambda v: None if v is None else _word(v)),
    "finder": ("a subfolder of the model, such as 'finder', or null", _relative),
    "margin_mm": ("a distance in mm from 0 to 1000", _distance),
    "normalization_extent": ("'scan' or 'crop'", _one_of(EXTENTS)),
    "upper_percentile": ("a percentile from 50 to 100", _percentile),
    "doubtful_below": (f"an object with keys from {', '.join(KEYS)} and values from 0 to 1", _shares),
    "trained_on": ("an object", _mapping),
    "tested_on": ("a list", lambda v: tuple(v) if isinstance(v, list | tuple) else _fail()),
    "licence": ("a string", _text),
    "citation": ("a list of strings", _texts),
    "files": ("an object that maps paths in the model folder to SHA-256 in hex", _hashes),
    "known_failures": ("a list of strings", _texts),
    "intended_use": ("a string", _text),
}
