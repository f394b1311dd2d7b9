"""NIfTI-1 and -2 headers (https://nifti.nimh.nih.gov), including what SimpleITK does not report or cannot read."""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import InputError
from ..findings import Finding, Severity
from ..wording import _
from .geometry import Geometry
from .headers import DataBlock, Header, mm

FORMS_APART_MM = 0.1
"""Minimum distance between the grids of qform and sform that cannot be explained by rounding, mm."""

_TYPES = {
    2: ("uint8", 1),
    4: ("int16", 2),
    8: ("int32", 4),
    16: ("float32", 4),
    32: ("complex64", 8),
    64: ("float64", 8),
    128: ("RGB", 3),
    256: ("int8", 1),
    512: ("uint16", 2),
    768: ("uint32", 4),
    1024: ("int64", 8),
    1280: ("uint64", 8),
    1536: ("float128", 16),
    1792: ("complex128", 16),
    2304: ("RGBA", 4),
}
_VALUES = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
_NIFTI_1 = {
    "magic": (344, "4s"),
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "offset": (108, "f"),
    "slope": (112, "f"),
    "inter": (116, "f"),
    "units": (123, "b"),
    "qcode": (252, "h"),
    "scode": (254, "h"),
    "quatern": (256, "6f"),
    "srow": (280, "12f"),
}
_NIFTI_2 = {
    "magic": (4, "8s"),
    "dim": (16, "8q"),
    "datatype": (12, "h"),
    "bitpix": (14, "h"),
    "pixdim": (104, "8d"),
    "offset": (168, "q"),
    "slope": (176, "d"),
    "inter": (184, "d"),
    "units": (500, "i"),
    "qcode": (344, "i"),
    "scode": (348, "i"),
    "quatern": (352, "6d"),
    "srow": (400, "12d"),
}
"""Field -> offset and :mod:`struct` format."""


def read(path: Path) -> Header:
    """Read the header of a NIfTI file; errors are converted to messages by :func:`.image_header.read_header`."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        raw = stream.read(544)
    order = next((o for o in "<>" if len(raw) >= 4 and struct.unpack(o + "i", raw[:4])[0] in (348, 540)), "")
    if not order:
        raise ValueError("neither NIfTI-1 nor NIfTI-2")
    second = struct.unpack(order + "i", raw[:4])[0] == 540
    fields = _fields(raw, order, _NIFTI_2 if second else _NIFTI_1)
    _check_start(fields, second)
    dim, rank = fields["dim"], fields["dim"][0]
    _check_quaternion(fields)
    if not 1 <= rank <= 7 or min(dim[1 : 1 + rank]) < 1:
        raise ValueError(f"dimensions {dim}")
    pixel, width = _TYPES.get(fields["datatype"], (f"NIfTI type {fields['datatype']}", 0))
    steps, origin = _shear(fields)
    recode = _recode(path, fields, second, packed)
    return Header(
        path,
        "NIfTI",
        tuple(dim[1 : 1 + min(rank, 3)]),
        dim[4] if rank >= 4 else 1,
        pixel,
        {"RGB": 3, "RGBA": 4}.get(pixel, 1) * int(np.prod([n for n in dim[5 : 1 + rank] if n > 0] or [1])),
        _spacing(fields),
        bytes_per_value=width,
        steps=steps,
        origin=origin,
        forms=_forms(fields),
        oriented=fields["qcode"] > 0 or fields["scode"] > 0,
        disagreement=_disagreement(fields),
        data=_data(path, fields, order, packed, recode) if width else None,
        recode=recode,
    )


def _fields(raw: bytes, order: str, places: dict[str, tuple[int, str]]) -> dict[str, Any]:
    if len(raw) < (540 if places is _NIFTI_2 else 348):
        raise EOFError
    fields: dict[str, Any] = {}
    for name, (start, code) in places.items():
        values = struct.unpack_from(order + code, raw, start)
        fields[name] = values if len(values) > 1 else values[0]
    return fields


def _check_start(fields: dict[str, Any], second: bool) -> None:
    """Refuse a wrong magic string, and voxels that begin inside the header."""
    magic, offset = fields["magic"], float(fields["offset"])
    right = b"n+2\0\r\n\x1a\n" if second else b"n+1\0"
    if magic != right:
        what = ", which is Analyze 7.5" if not magic.strip(b"\0") else ""
        if magic == b"ni1\0":
            what = ", whose voxels are in another file (.img)"
        raise ValueError(f"its magic is {magic!r}{what} instead of {right!r}")
    least = 544 if second else 352
    if not math.isfinite(offset) or offset < least or offset > 2**40:
        raise ValueError(f"its vox_offset is {offset:g}: voxels begin at byte {least} or later")


def _recode(path: Path, fields: dict[str, Any], second: bool, packed: bool) -> str:
    if second:
        return "nifti-2"
    if fields["slope"] == 0 and fields["inter"] != 0:
        return "unscaled"
    return "packed" if packed and not path.name.lower().endswith(".gz") else ""


def _check_quaternion(fields: dict[str, Any]) -> None:
    """Refuse a qform that is not a rotation if it is the only orientation; libraries silently replace it by another."""
    b, c, d = fields["quatern"][:3]
    length = b * b + c * c + d * d
    if fields["qcode"] > 0 and fields["scode"] <= 0 and not length <= 1.001:
        raise ValueError(f"its quaternion ({b:g}, {c:g}, {d:g}) is no rotation")


def _data(path: Path, fields: dict[str, Any], order: str, packed: bool, recode: str) -> DataBlock:
    dim, offset = fields["dim"], int(fields["offset"])
    pixel, width = _TYPES[fields["datatype"]]
    count = int(np.prod([int(n) for n in dim[1 : 1 + dim[0]]], dtype=object))
    floats = {"float32": order + "f4", "float64": order + "f8"}.get(pixel, "")
    plain = dim[0] == 3 and fields["inter"] == 0 and fields["slope"] in (0, 1) and pixel in _VALUES
    voxels = f"{order}{np.dtype(pixel).str[1:]}" if packed and plain and not recode else ""
    return DataBlock(path, 0, offset + count * width, "gzip" if packed else "raw", None, offset, floats, voxels)


# --- orientation ------------------------------------------------------------------------------------------------------

_LPS = np.diag([-1.0, -1.0, 1.0])


def _sform(fields: dict[str, Any]) -> np.ndarray:
    """Return the sform, 3x4, index to LPS mm."""
    return _LPS @ np.asarray(fields["srow"], float).reshape(3, 4)


def _qform(fields: dict[str, Any]) -> np.ndarray:
    """Return the qform from the quaternion, 3x4, index to LPS mm (nifti1.h, method 2)."""
    b, c, d, x, y, z = (float(v) for v in fields["quatern"])
    a = math.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    pixdim = np.asarray(fields["pixdim"], float)
    steps = turn * pixdim[1:4] * np.array([1.0, 1.0, -1.0 if pixdim[0] < 0 else 1.0])
    return _LPS @ np.column_stack([steps, [x, y, z]])


def _forms(fields: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    if fields["qcode"] <= 0 or fields["scode"] <= 0:
        return None
    unit = {1: 1000.0, 3: 0.001}.get(int(fields["units"]) & 7, 1.0)
    q, s = unit * _qform(fields), unit * _sform(fields)
    return (q, s) if np.isfinite(q).all() and np.isfinite(s).all() else None


def form_findings(header: Header, geometry: Geometry) -> tuple[Finding, ...]:
    """Report a qform and sform that contradict each other, and which of them was used for the geometry.

    Raises:
        InputError: one is the mirror image of the other, so that left and right are ambiguous.
    """
    if header.forms is None:
        return ()
    q, s = header.forms
    if np.linalg.det(q[:, :3]) * np.linalg.det(s[:, :3]) < 0:
        raise InputError(
            f"qform and sform of {header.path.name!r} are mirror images of each other, so that left and right cannot "
            "be told: convert the scan again from DICOM"
        )
    places = [_corners(form, header.size) for form in (q, s)]
    apart = float(np.linalg.norm(places[0] - places[1], axis=1).max())
    if apart <= FORMS_APART_MM:
        return ()
    taken = _corners(geometry.affine[:3], header.size)
    used = "sform" if np.abs(taken - places[1]).max() <= np.abs(taken - places[0]).max() else "qform"
    text = _(
        "qform and sform of the file place the scan up to {apart:.1f} mm apart; the {used} was used: check where the "
        "scan lies"
    ).format(apart=apart, used=used)
    return (Finding("forms-disagree", Severity.WARNING, text, values={"apart_mm": round(apart, 2), "used": used}),)


def _corners(form: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return the positions ``(8, 3)`` of the corner voxels, mm."""
    x, y, z = ((0, n - 1) for n in size[:3])
    index = np.array([(i, j, k, 1) for i in x for j in y for k in z], float)
    return index @ form.T


def _shear(fields: dict[str, Any]) -> tuple[np.ndarray | None, tuple[float, float, float]]:
    """Return steps and origin of an sform without a qform that ITK refuses (sheared, singular) or ignores in part.

    Of an sform whose voxel size differs from pixdim, ITK takes the directions only; by the standard, it is the only
    valid grid then (nifti1.h, method 3).
    """
    nowhere = (0.0, 0.0, 0.0)
    if fields["scode"] <= 0 or fields["qcode"] > 0:
        return None, nowhere
    matrix = _sform(fields)
    steps = matrix[:, :3]
    norms = np.linalg.norm(steps, axis=0)
    if np.isfinite(matrix).all() and norms.min() > 0:
        unit = steps / norms
        if np.abs(unit.T @ unit - np.eye(3)).max() < 1e-4 and not _other_size(fields):
            return None, nowhere
    unit_mm = {1: 1000.0, 3: 0.001}.get(int(fields["units"]) & 7, 1.0)
    x, y, z = (unit_mm * float(v) for v in matrix[:, 3])
    return unit_mm * steps, (x, y, z)


def _spacing(fields: dict[str, Any]) -> tuple[float, ...]:
    """Return the voxel size: pixdim, or that of the sform if the sform is the only form and the two differ."""
    if fields["qcode"] <= 0 and _other_size(fields):
        return tuple(float(v) for v in np.linalg.norm(_sform(fields)[:, :3], axis=0))
    return tuple(float(v) for v in fields["pixdim"][1:4])


def _other_size(fields: dict[str, Any]) -> bool:
    """Return whether the voxel size of a sound sform differs from pixdim by more than 1 %."""
    if fields["scode"] <= 0:
        return False
    norms, pixdim = np.linalg.norm(_sform(fields)[:, :3], axis=0), np.asarray(fields["pixdim"][1:4], float)
    if not np.isfinite(norms).all() or norms.min() <= 0:
        return False
    return not bool(np.abs(pixdim / norms - 1).max() < 0.01)


def _disagreement(fields: dict[str, Any]) -> str:
    if fields["scode"] <= 0:
        return ""
    pixdim = np.abs(np.asarray(fields["pixdim"][1:4], float))
    norms = np.linalg.norm(_sform(fields)[:, :3], axis=0)
    if not np.isfinite(norms).all() or not np.isfinite(pixdim).all() or min(pixdim.min(), norms.min()) <= 0:
        return ""
    if np.abs(norms / pixdim - 1).max() < 0.01:
        return ""
    used = ", which was used" if fields["qcode"] <= 0 else ""
    return f"pixdim says a spacing of {mm(pixdim)} mm, the sform {mm(norms)} mm{used}"


# --- files that SimpleITK cannot read ---------------------------------------------------------------------------------


@contextmanager
def readable_copy(header: Header) -> Iterator[Path]:
    """Yield a path that SimpleITK can read: the file, or a temporary one for NIfTI-2 and for gzip in a ``.nii``."""
    if not header.recode:
        yield header.path
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "scan.nii")
        with header.path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        with gzip.open(header.path, "rb") if packed else header.path.open("rb") as source, target.open("wb") as out:
            if header.recode == "nifti-2":
                _write_as_nifti_1(source, out)
            elif header.recode == "unscaled":
                out.write(_without_scaling(source.read(348)))
            shutil.copyfileobj(source, out, 1 << 22)
        yield target


def _without_scaling(raw: bytes) -> bytes:
    """Return a header without intercept: a slope of 0 means no scaling (nifti1.h), but ITK adds the intercept."""
    header = bytearray(raw)
    struct.pack_into("<f", header, _NIFTI_1["inter"][0], 0.0)
    return bytes(header)


def _write_as_nifti_1(source: BinaryIO | gzip.GzipFile, out: BinaryIO) -> None:
    """Write the header of a NIfTI-2 file as NIfTI-1, and leave ``source`` at the first voxel."""
    raw = source.read(540)
    order = "<" if struct.unpack("<i", raw[:4])[0] == 540 else ">"
    fields = _fields(raw, order, _NIFTI_2)
    if max(fields["dim"]) > 32767:
        raise InputError(f"a NIfTI-2 file of {'x'.join(map(str, fields['dim'][1:4]))} voxels is too long for ITK")
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    fields |= {"magic": b"n+1\0", "offset": 352.0}
    for name, (start, code) in _NIFTI_1.items():
        value = fields[name]
        struct.pack_into(order + code, header, start, *(value if isinstance(value, tuple) else (value,)))
    source.read(int(_fields(raw, order, _NIFTI_2)["offset"]) - 540)
    out.write(header)
