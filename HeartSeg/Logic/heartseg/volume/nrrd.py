"""NRRD headers (https://teem.sourceforge.net/nrrd/format.html)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from .geometry import is_singular
from .headers import DataBlock, Header, numbered_files

_BYTES = {
    1: {"signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"},
    2: {
        "short",
        "short int",
        "signed short",
        "signed short int",
        "int16",
        "int16_t",
        "ushort",
        "unsigned short",
        "unsigned short int",
        "uint16",
        "uint16_t",
    },
    4: {"int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"},
    8: {
        "longlong",
        "long long",
        "long long int",
        "signed long long",
        "int64",
        "int64_t",
        "ulonglong",
        "unsigned long long",
        "uint64",
        "uint64_t",
        "double",
    },
}
_UNITS_MM = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "µm": 0.001, "μm": 0.001}
_CODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
_TEXT_LINE = 1 << 16


def read(path: Path) -> Header:
    """Read the header of an NRRD file; errors are converted to messages by :func:`.image_header.read_header`."""
    fields, start, listed = _fields(path)
    if fields.get("encoding", "").lower() in ("bzip2", "bz2"):
        raise InputError(
            f"voxels of {path.name!r} are packed with bzip2, which SimpleITK cannot read: save it with gzip"
        )
    sizes = [int(v) for v in fields["sizes"].split()]
    if not 1 <= len(sizes) <= 16 or min(sizes) < 1 or int(fields.get("dimension", len(sizes))) != len(sizes):
        raise ValueError(f"sizes {fields['sizes'][:60]}")
    kinds = fields.get("kinds", "").split() or ["domain"] * len(sizes)
    steps = _steps(fields, len(sizes))
    inside = [k for k in range(len(sizes)) if _not_space(k, kinds, steps)]
    times = [k for k in inside if kinds[k].lower() in ("list", "time")]
    if not times and inside == [len(sizes) - 1] and "kinds" not in fields:
        times = inside  # volumes one after the other
    space = [k for k in range(len(sizes)) if k not in inside]
    if len(space) == 4 and not times:
        times, space = [space[3]], space[:3]
    if times and min(space) < times[0] < max(space):
        raise InputError(f"axis of time of {path.name!r} lies between those of space: save it with time last")
    pixel = fields.get("type", "?")
    width = next((n for n, names in _BYTES.items() if pixel.lower() in names), 0)
    if width > 1 and "endian" not in fields and fields.get("encoding", "").lower() not in ("ascii", "text", "txt"):
        raise KeyError("endian")
    data, parts = _data(path, fields, start, int(np.prod(sizes, dtype=object)) * width, listed)
    if data is not None and data.coding == "gzip" and len(space) == 3 == len(sizes) and width:
        kind = "u" if pixel.lower().startswith("u") else "f" if pixel.lower() in ("float", "double") else "i"
        order = ">" if fields.get("endian", "").lower() == "big" else "<"
        data = replace(data, voxels=f"{order}{kind}{width}")
    odd = bool(times) and steps[times[0]] is None and (times[0], kinds[times[0]].lower()) != (0, "list")
    return Header(
        path,
        "NRRD",
        tuple(sizes[k] for k in space),
        sizes[times[0]] if times else 1,
        pixel,
        int(np.prod([sizes[k] for k in inside if k not in times] or [1])),
        tuple(_length(steps[k]) for k in space),
        frames_inside=bool(times) and times[0] < min(space, default=0),
        unit_mm=_unit(fields, path),
        bytes_per_value=width,
        steps=_singular([steps[k] for k in space]),
        oriented="space" in fields,
        sized="space directions" in fields or "spacings" in fields,
        data=data if width else None,
        parts=parts,
        recode="4d" if data is not None and odd else "",
    )


def _fields(path: Path) -> tuple[dict[str, str], int, tuple[str, ...]]:
    """Return the fields, the position of the first byte after the header, and the lines after ``data file: LIST``."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        if not stream.readline(64).startswith(b"NRRD"):
            raise ValueError("no NRRD mark")
        while line := stream.readline(_TEXT_LINE):
            text = line.decode("utf-8", "replace").strip()
            if not text:
                break
            if not text.startswith("#") and ":" in text and ":=" not in text:
                name, value = text.split(":", 1)
                fields[name.strip().lower().replace("datafile", "data file")] = value.strip()
                if name.strip().lower() in ("data file", "datafile") and value.strip().upper().startswith("LIST"):
                    rest = stream.read(1 << 24).decode("utf-8", "replace").splitlines()
                    return fields, 0, tuple(name.strip() for name in rest if name.strip())
        return fields, stream.tell(), ()


@contextmanager
def frame_copy(header: Header, frame: int) -> Iterator[Path]:
    """Yield a header file of one frame of a time series whose axis of time is last, or first but of kind ``time``.

    ITK reads only an axis of kind ``list`` beside the axes of space, and only as the first. The temporary header names
    the voxels of the file.
    """
    lines = _header_lines(header.path)
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    text = [line for line in lines if line.partition(":")[0].strip().lower() not in _OF_AXES]
    assert header.data is not None
    text.append(f"data file: {header.data.path.resolve()}")
    if header.data.path == header.path:
        text.append(f"line skip: {len(lines) + 1}")
    last = not header.frames_inside
    sizes, directions = fields["sizes"].split(), re.findall(r"none|\([^)]*\)", fields["space directions"])
    keep = slice(0, 3) if last else slice(0, 4)
    text += [f"dimension: {3 if last else 4}", f"sizes: {' '.join(sizes[keep])}"]
    text += [f"space directions: {' '.join(directions[keep])}"]
    text += ["kinds: domain domain domain" if last else "kinds: list domain domain domain"]
    if last:
        text.append(f"byte skip: {frame * header.frame_bytes}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frame.nhdr")
        path.write_text("\n".join(text) + "\n\n", encoding="utf-8")
        yield path


def _header_lines(path: Path) -> list[str]:
    with path.open("rb") as stream:
        return list(iter(lambda: stream.readline(_TEXT_LINE).decode("utf-8", "replace").rstrip("\r\n"), ""))


_OF_AXES = (
    *("dimension", "sizes", "space directions", "kinds", "units", "labels", "centers", "centerings", "thicknesses"),
    *("data file", "datafile"),
)
"""Fields of all axes or of the place of the voxels, which the header of a frame states anew or leaves out."""


def _unit(fields: dict[str, str], path: Path) -> float:
    """Return the millimetres per unit."""
    text = fields.get("space units", fields.get("units", ""))
    units = {u.strip().lower().rstrip("s") for u in re.findall(r'"([^"]*)"', text)} - {"???", "s", "ms"}
    factors = {_UNITS_MM.get(unit) for unit in units} or {1.0}
    if len(factors) > 1 or None in factors:
        raise InputError(f"units of {path.name!r} are {text}: HeartSeg reads mm, cm, m and um, the same for all axes")
    return float(factors.pop() or 1.0)


def _singular(vectors: list[np.ndarray | None]) -> np.ndarray | None:
    if len(vectors) != 3 or any(v is None or v.size != 3 for v in vectors):
        return None
    matrix = np.stack(vectors, axis=1)  # type: ignore[arg-type]
    return matrix if is_singular(matrix) else None


def _steps(fields: dict[str, str], rank: int) -> list[np.ndarray | None]:
    """Return the step along every axis; ``None`` for a non-spatial axis."""
    if "space directions" in fields:
        entries = re.findall(r"none|\([^)]*\)", fields["space directions"])
        steps = [None if e == "none" else np.array([float(v) for v in e.strip("()").split(",")]) for e in entries]
        if len(steps) != rank:
            raise ValueError("space directions")
        return steps
    if "spacings" in fields:
        return [np.array([float(v)]) for v in fields["spacings"].split()]
    return [np.array([1.0])] * rank


def _length(step: np.ndarray | None) -> float:
    """Return the length of a step; a single number keeps its sign."""
    if step is None:
        return float("nan")
    return float(step[0]) if step.size == 1 else float(np.linalg.norm(step))


def _not_space(axis: int, kinds: list[str], steps: list[np.ndarray | None]) -> bool:
    return steps[axis] is None or kinds[axis].lower() not in ("domain", "space", "???", "none")


def _data(
    path: Path, fields: dict[str, str], start: int, promised: int, listed: tuple[str, ...]
) -> tuple[DataBlock | None, tuple[Path, ...]]:
    """Return the block of voxels, or the files that contain them."""
    where = fields.get("data file", "")
    if listed or where.upper().startswith("LIST"):
        return None, tuple(path.parent / name for name in listed)
    if "%" in where:
        return None, numbered_files(path.parent, where)
    coding = _CODINGS.get(fields.get("encoding", "").lower())
    data = path.parent / where if where else path
    skips = {"line skip", "lineskip", "byte skip", "byteskip"} & set(fields)
    if coding is None or skips:
        return None, (data,) if where else ()
    return DataBlock(data, 0 if where else start, promised, coding), ()
