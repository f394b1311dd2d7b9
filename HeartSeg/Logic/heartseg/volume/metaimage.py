"""MetaImage headers (https://itk.org/Wiki/ITK/MetaIO/Documentation)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from .headers import DataBlock, Header, numbered_files

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_TEXT_LINE = 1 << 16


def read(path: Path) -> Header:
    """Read the header of a MetaImage file; errors are converted to messages by :func:`.image_header.read_header`."""
    fields, start, listed = _fields(path)
    sizes = [int(v) for v in fields["DimSize"].split()]
    if not 1 <= len(sizes) <= 10 or min(sizes) < 1 or int(fields.get("NDims", len(sizes))) != len(sizes):
        raise ValueError(f"NDims {fields.get('NDims', '?')[:20]}, DimSize {fields['DimSize'][:60]}")
    spacing = tuple(float(v) for v in fields.get("ElementSpacing", fields.get("ElementSize", "1 1 1")).split())[:3]
    if len(spacing) < min(3, len(sizes)):
        raise ValueError(f"ElementSpacing {spacing} for {len(sizes)} axes")
    pixel = fields.get("ElementType", "?")
    components = int(fields.get("ElementNumberOfChannels", "1"))
    kind = _TYPES.get(pixel.removesuffix("_ARRAY"), "")
    width = np.dtype(kind).itemsize if kind else 0
    promised = int(np.prod(sizes, dtype=object)) * components * width
    data, parts = _data(path, fields, start, promised, listed)
    scaled = {"ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"} & set(fields)
    if data is not None and data.coding == "zlib" and len(sizes) == 3 and components == 1 and kind and not scaled:
        big = _is_true(fields, "BinaryDataByteOrderMSB") or _is_true(fields, "ElementByteOrderMSB")
        data = replace(data, voxels=f"{'>' if big else '<'}{kind}")
    elif data is not None and data.coding == "zlib" and data.stored is None:  # ITK returns arbitrary values
        raise InputError(f"{path.name!r} does not state its CompressedDataSize: save it again, or uncompressed")
    return Header(
        path,
        "MetaImage",
        tuple(sizes[:3]),
        int(np.prod(sizes[3:] or [1])),
        pixel,
        components,
        spacing,
        bytes_per_value=width,
        oriented=any(name in fields for name in ("TransformMatrix", "Rotation", "Orientation")),
        data=data if width else None,
        parts=parts,
        sized="ElementSpacing" in fields or "ElementSize" in fields,
    )


def _fields(path: Path) -> tuple[dict[str, str], int, tuple[str, ...]]:
    """Return the fields, the position after the header, and the lines after ``ElementDataFile = LIST``."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        while line := stream.readline(_TEXT_LINE):
            name, mark, value = line.decode("utf-8", "replace").partition("=")
            if not mark:
                raise ValueError("no field")
            fields[name.strip()] = value.strip()
            if name.strip() == "ElementDataFile":
                break
        if not fields.get("ElementDataFile"):
            raise KeyError("ElementDataFile")
        if fields["ElementDataFile"].upper().startswith("LIST"):
            rest = stream.read(1 << 24).decode("utf-8", "replace").splitlines()
            return fields, 0, tuple(name.strip() for name in rest if name.strip())
        return fields, stream.tell(), ()


def _data(
    path: Path, fields: dict[str, str], start: int, promised: int, listed: tuple[str, ...]
) -> tuple[DataBlock | None, tuple[Path, ...]]:
    """Return the block of voxels, or the files that contain them."""
    if fields.get("BinaryData", "True").lower() == "false":
        raise ValueError("its voxels are stored as text, which cannot be read: save them as binary")
    where = fields["ElementDataFile"]
    header = int(fields.get("HeaderSize", "0"))
    packed = _is_true(fields, "CompressedData")
    if where.upper().startswith("LIST"):
        if not listed:
            raise ValueError("ElementDataFile is LIST, and no file is listed")
        return None, tuple(path.parent / name for name in listed)
    if "%" in where:
        return None, numbered_files(path.parent, where)
    attached = where.upper() == "LOCAL"
    target = path if attached else path.parent / where
    begin = (start if attached else 0) + max(0, header)
    if packed:
        size = int(fields["CompressedDataSize"]) if "CompressedDataSize" in fields else None
        if size is not None and size < 0:
            raise ValueError(f"CompressedDataSize {size}")
        return DataBlock(target, begin, promised, "zlib", size), ()
    return DataBlock(target, -1 if header < 0 else begin, promised, "raw"), ()


def _is_true(fields: dict[str, str], name: str) -> bool:
    return fields.get(name, "False").lower() == "true"
