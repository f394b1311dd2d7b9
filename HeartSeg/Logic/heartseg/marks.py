"""Marks of a user, "this is RA" or "this is not RA", and their files: 3D Slicer's markups (``.mrk.json``).

https://github.com/Slicer/Slicer/tree/main/Modules/Loadable/Markups/Resources/Schema
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .anatomy import KEYS, match_name, structure
from .errors import InputError, write_error

BACKGROUND = "BACKGROUND"
"""Key of a mark on none of the structures."""
MARKUPS_SUFFIX = ".mrk.json"
_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_POINTS, _STROKES = "Fiducial", ("Curve", "Line")
_SIGNS = {"LPS": (1, 1, 1), "RAS": (-1, -1, 1), "0": (-1, -1, 1), "1": (1, 1, 1)}  # numbers: Slicer before 4.11
_MAX_BYTES, _MAX_POINTS = 10_000_000, 10_000
_TEXT = re.compile(r"\s*(?P<no>-|not\s+|no\s+)?\s*(?P<name>[A-Za-z][A-Za-z_ ]*?)\s*([-_ ]\d+)?\s*", re.IGNORECASE)
_BACKGROUND_NAMES = ("background", "bg", "none", "other")

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Mark:
    """A place where the user knows the structure.

    Attributes:
        structure: key of a structure, or :data:`BACKGROUND`.
        points: world LPS positions ``(x, y, z)``, mm; two or more are a stroke of straight lines.
        positive: whether the place belongs to the structure; ``False`` says only that it does not.
    """

    structure: str
    points: tuple[Point, ...]
    positive: bool = True

    @property
    def label(self) -> int:
        """Value of the structure in label maps; 0 for the background."""
        return 0 if self.structure == BACKGROUND else structure(self.structure).label

    @property
    def text(self) -> str:
        """``"RA"`` or ``"-RA"``, as in a file of marks."""
        return self.structure if self.positive else f"-{self.structure}"

    @classmethod
    def of_text(cls, text: str, points: Iterable[Sequence[float]]) -> Mark:
        """The mark that a label means: ``"RA"``, ``"right atrium"``, ``"RA-3"`` (Slicer numbers points), ``"-RA"``.

        Raises:
            InputError: the text names no structure, or a point is not three finite numbers.
        """
        match = _TEXT.fullmatch(text)
        name = match["name"] if match else ""
        found = match_name(name)
        key = found.key if found else BACKGROUND if name.lower() in _BACKGROUND_NAMES else ""
        if match is None or not key or (key == BACKGROUND and match["no"]):
            raise InputError(
                f"label {text[:40]!r} of a mark names no structure: use {', '.join(KEYS)} or background, with a minus "
                "sign for 'not this structure'"
            )
        return cls(key, tuple(_point(p) for p in points), not match["no"])

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Mark:
        """The mark of the dictionary of its fields.

        Raises:
            InputError, KeyError, TypeError: the dictionary is no mark.
        """
        mark = cls.of_text(str(content["structure"]), content["points"])
        return replace(mark, positive=bool(content["positive"]))


def read_marks(path: str | Path) -> tuple[Mark, ...]:
    """Read the marks of a markups file of 3D Slicer, in the file's order.

    Each point of a point list is a mark; a curve or line is one stroke. The label of a point, or of a stroke's first
    point, names the structure, see :meth:`Mark.of_text`. Points without a position are omitted.

    Raises:
        InputError: the file is missing, no markups file, or holds no marks, an unknown label or no finite position.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise InputError(
                f"{str(path)!r} has {size / 1e6:.0f} MB: a file of marks has at most {_MAX_BYTES // 10**6}"
            )
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"marks {str(path)!r} cannot be read ({error.strerror or error}): save them in Slicer as {MARKUPS_SUFFIX}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{str(path)!r} is not JSON ({error}): save the marks in Slicer as {MARKUPS_SUFFIX}"
        ) from error
    try:
        return marks_from_dict(content)
    except InputError as error:
        raise InputError(f"{path.name!r}: {error}") from error


def marks_from_dict(content: Any) -> tuple[Mark, ...]:
    """The marks of the content of a markups file; see :func:`read_marks`."""
    lists = content.get("markups") if isinstance(content, dict) else None
    if not isinstance(lists, list):
        raise InputError(f"it has no list 'markups': give a markups file of 3D Slicer ({MARKUPS_SUFFIX})")
    marks = [mark for markup in lists for mark in _marks_of(markup)]
    if not marks:
        raise InputError("it holds no marks: place points or curves on the scan first")
    if sum(len(m.points) for m in marks) > _MAX_POINTS:
        raise InputError(f"it holds more than {_MAX_POINTS} points: mark fewer places")
    return tuple(marks)


def _marks_of(markup: Any) -> list[Mark]:
    if not isinstance(markup, dict):
        raise InputError("an entry of 'markups' is not an object: save the marks in Slicer again")
    system = str(markup.get("coordinateSystem", "LPS")).upper()
    if system not in _SIGNS:
        raise InputError(f"coordinate system {system[:20]!r} is unknown: use LPS or RAS")
    units = markup.get("coordinateUnits", "mm")
    if set(units if isinstance(units, list) else [units]) - {"mm"}:
        raise InputError(f"coordinate units {str(units)[:20]!r} are unknown: use mm")
    kind, points = markup.get("type", _POINTS), markup.get("controlPoints")
    if kind not in (_POINTS, *_STROKES):
        raise InputError(f"markups of type {str(kind)[:20]!r} are no marks: use points, lines or open curves")
    if not isinstance(points, list) or not all(isinstance(p, dict) for p in points):
        raise InputError("a markup has no list 'controlPoints': save the marks in Slicer again")
    placed = [p for p in points if p.get("positionStatus", "defined") == "defined"]
    positions = [tuple(s * v for s, v in zip(_SIGNS[system], _point(p.get("position")), strict=True)) for p in placed]
    labels = [str(p.get("label", "")) for p in placed]
    if kind == _POINTS:
        return [Mark.of_text(text, [p]) for text, p in zip(labels, positions, strict=True)]
    return [Mark.of_text(labels[0], positions)] if placed else []


def _point(value: Any) -> Point:
    """Three finite numbers."""
    try:
        x, y, z = (float(v) for v in value)
    except (TypeError, ValueError):
        raise InputError(f"position {str(value)[:40]} of a mark is not three numbers, mm") from None
    if not all(math.isfinite(v) for v in (x, y, z)):
        raise InputError(f"position ({x}, {y}, {z}) of a mark is not finite")
    return x, y, z


def marks_to_dict(marks: Iterable[Mark]) -> dict[str, Any]:
    """Content of a markups file: a point list per run of points, a curve per stroke; their order is kept."""
    lists: list[dict[str, Any]] = []
    for number, mark in enumerate(marks):
        kind = _POINTS if len(mark.points) == 1 else _STROKES[0]
        if kind != _POINTS or not lists or lists[-1]["type"] != _POINTS:
            lists.append({"type": kind, "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": []})
        lists[-1]["controlPoints"] += [
            {"id": f"{number}-{k}", "label": mark.text, "position": list(p), "positionStatus": "defined"}
            for k, p in enumerate(mark.points)
        ]
    return {"@schema": _SCHEMA, "markups": lists}


def write_marks(marks: Iterable[Mark], path: str | Path) -> Path:
    """Write marks as a markups file that 3D Slicer opens and :func:`read_marks` reads.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        part.write_text(json.dumps(marks_to_dict(marks), indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise write_error(error, path) from error
    return path
