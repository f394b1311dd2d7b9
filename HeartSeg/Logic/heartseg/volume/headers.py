"""What an image file says about itself, read from its first bytes, before any voxel is.

SimpleITK reads the voxels. It repairs some broken headers without a word (a NIfTI spacing of 0 becomes 1, a truncated
NIfTI is filled up with zeros), so the claims are read here, as they are stored, for :mod:`.checks` to judge.

Formats: NIfTI-1 and -2 (https://nifti.nimh.nih.gov), NRRD (https://teem.sourceforge.net/nrrd/format.html) and MetaImage
(https://itk.org/Wiki/ITK/MetaIO/Documentation).
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError

FORMATS = {
    ".nii.gz": "NIfTI",
    ".nii": "NIfTI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
READABLE = ".nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .dcm or a folder of DICOM files"
_CHUNK = 1 << 22

_NIFTI_TYPES = {
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
_NRRD_BYTES = {
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
_META_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 8,
    "MET_ULONG": 8,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}


@dataclass(frozen=True)
class DataBlock:
    """Where the voxels lie: the bytes ``promised`` after decoding (``raw``, ``gzip`` or ``zlib``) from ``start`` on.

    For NIfTI with fractions also which of these bytes are voxels (from ``skip`` on) and their type (``"<f4"``).
    """

    path: Path
    start: int
    promised: int
    coding: str
    skip: int = 0
    floats: str = ""


@dataclass(frozen=True, eq=False)
class Header:
    """An image file's claims, unrepaired.

    Attributes:
        path: the file.
        format: ``"NIfTI"``, ``"NRRD"`` or ``"MetaImage"``.
        size: spatial size in the order stored, ``(x, y, z)``; two entries for a 2D image.
        frames: number of frames of a time series, 1 if it is none.
        frames_inside: whether the frames are stored voxel by voxel (NRRD sequences) rather than one after the other.
        pixel: name of the voxel type, for messages.
        components: values a voxel holds (3 for RGB and vector fields), frames apart.
        spacing: voxel size (x, y, z) in mm as stored: may be zero, negative or NaN.
        steps: 3x3, column ``k`` is the step in LPS mm along index axis ``k``, where the file is sheared or singular so
            that SimpleITK refuses it; else ``None``.
        origin: LPS mm, belongs to ``steps``.
        oriented: whether the file says how the patient lies in it.
        disagreement: a sentence where two parts of the header contradict each other.
        data: where the voxels lie; ``None`` if the layout is one that only SimpleITK knows.
    """

    path: Path
    format: str
    size: tuple[int, ...]
    frames: int
    pixel: str
    components: int
    spacing: tuple[float, ...]
    frames_inside: bool = False
    steps: np.ndarray | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    oriented: bool = True
    disagreement: str = ""
    data: DataBlock | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file the image consists of, header first."""
        if self.data is None or self.data.path == self.path:
            return (self.path,)
        return self.path, self.data.path


def image_suffix(path: Path) -> str:
    """The known suffix of an image file (``".nii.gz"``), or ``""``."""
    return next((suffix for suffix in FORMATS if path.name.lower().endswith(suffix)), "")


def stem(path: Path) -> str:
    """File name without its image suffix; dots inside the name stay."""
    suffix = image_suffix(path) or (path.suffix if path.suffix.lower() in (".dcm", ".ima") else "")
    return path.name[: len(path.name) - len(suffix)] or path.name


def is_text(path: Path) -> bool:
    """Whether a path is made of characters: file systems also take bytes that are none, and ITK does not."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_dicom(path: Path) -> bool:
    """Whether a file carries DICOM's mark or suffix, or begins like a data set without a preamble."""
    if not path.is_file():  # a pipe or device would block
        return False
    with path.open("rb") as stream:
        start = stream.read(132)
    if start[128:] == b"DICM":
        return True
    return path.suffix.lower() in (".dcm", ".ima") or _begins_like_data_set(start)


def _begins_like_data_set(start: bytes) -> bool:
    """Whether the first bytes are an element of group 2 or 8 (DICOM PS3.5, 7.1), in either byte order."""
    if len(start) < 16 or start[:2] not in (b"\2\0", b"\x08\0", b"\0\x08"):
        return False
    if start[4:6].isalpha() and start[4:6].isupper():
        return True
    element, length = int.from_bytes(start[2:4], "little"), int.from_bytes(start[4:8], "little")
    return start[0] != 0 and element < 0x1200 and length < 1024  # implicit value representation


def read_header(path: Path) -> Header:
    """Claims of a NIfTI, NRRD or MetaImage file.

    Raises:
        InputError: the suffix is unknown, or the file is not what its suffix says.
    """
    kind = FORMATS.get(image_suffix(path))
    if kind is None:
        raise InputError(f"{path.name!r} is not an image file that HeartSeg reads: use {READABLE}")
    read = {"NIfTI": _read_nifti, "NRRD": _read_nrrd, "MetaImage": _read_meta}[kind]
    try:
        return read(path)
    except (struct.error, ValueError, KeyError, IndexError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = "cut short or damaged" if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile) else "broken"
        raise InputError(
            f"{path.name!r} is not a readable {kind} file, its header is {reason}: export or copy it again"
        ) from error


def check_data(header: Header) -> np.ndarray | None:
    """Refuse a file that holds fewer voxels than its header promises, or whose compressed data are damaged.

    Decodes the whole stream once (about 1 s for a 512x512x600 scan) in pieces, without keeping it.

    Returns:
        Flat bool mask of the NaN and infinite voxels of a NIfTI file, in file order, if there are any; else ``None``.
        (The NIfTI library that SimpleITK is built on turns them into zeros.)
    """
    block = header.data
    if block is None:
        return None
    name = block.path.name
    try:
        found, undefined = (block.path.stat().st_size - block.start, None)
        if block.coding != "raw" or block.floats:
            found, undefined = _decoded(block)
    except EOFError as error:
        raise InputError(
            f"{name!r} is cut short: its compressed data end before the {block.promised} bytes that its header "
            "promises; copy or export it again"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{header.path.name!r} keeps its voxels in {name!r}, which is not there") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"compressed data of {name!r} are damaged: copy or export it again") from error
    if found < block.promised:
        raise InputError(
            f"{name!r} is cut short: its header promises {block.promised} bytes and {found} are there; "
            "copy or export it again"
        )
    return undefined


def _decoded(block: DataBlock) -> tuple[int, np.ndarray | None]:
    """Number of bytes after decoding, and the mask of undefined voxels."""
    total = 0
    undefined = _Undefined(block) if block.floats else None
    with block.path.open("rb") as stream:
        stream.seek(block.start)
        decoded: gzip.GzipFile | _ZlibStream | BinaryIO = stream
        if block.coding == "gzip":
            decoded = gzip.GzipFile(fileobj=stream)
        elif block.coding == "zlib":
            decoded = _ZlibStream(stream)
        while piece := decoded.read(_CHUNK):
            total += len(piece)
            if undefined is not None:
                undefined.look_at(piece)
    return total, undefined.mask if undefined else None


class _Undefined:
    """Marks the NaN and infinite voxels in a stream of pieces."""

    def __init__(self, block: DataBlock) -> None:
        self.mask: np.ndarray | None = None
        self._dtype = np.dtype(block.floats)
        self._count = (block.promised - block.skip) // self._dtype.itemsize
        self._skip, self._rest, self._done = block.skip, b"", 0

    def look_at(self, piece: bytes) -> None:
        if self._skip:
            piece, self._skip = piece[self._skip :], max(0, self._skip - len(piece))
        data = self._rest + piece
        whole = len(data) // self._dtype.itemsize
        values = np.frombuffer(data, self._dtype, whole)[: max(0, self._count - self._done)]
        bad = ~np.isfinite(values)
        if bad.any():
            if self.mask is None:
                self.mask = np.zeros(self._count, bool)
            self.mask[self._done : self._done + values.size] = bad
        self._done += whole
        self._rest = data[whole * self._dtype.itemsize :]


class _ZlibStream:
    """Reads a zlib stream (MetaImage) in pieces; raises ``EOFError`` when it stops too early."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._decoder = stream, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        while not self._decoder.eof:
            chunk = self._decoder.unconsumed_tail or self._stream.read(1 << 20)
            if not chunk:
                raise EOFError
            if piece := self._decoder.decompress(chunk, size):
                return piece
        return b""


# --- NIfTI ------------------------------------------------------------------------------------------------------------


def _read_nifti(path: Path) -> Header:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        raw = stream.read(540)
    order = next((o for o in "<>" if len(raw) >= 4 and struct.unpack(o + "i", raw[:4])[0] in (348, 540)), "")
    if not order:
        raise ValueError("neither NIfTI-1 nor NIfTI-2")
    fields = _nifti_fields(raw, order)
    dim, pixdim = fields["dim"], fields["pixdim"]
    pixel, width = _NIFTI_TYPES.get(fields["datatype"], (f"NIfTI type {fields['datatype']}", 0))
    rank = dim[0]
    size = tuple(dim[1 : 1 + min(rank, 3)])
    frames = dim[4] if rank >= 4 else 1
    components = {"RGB": 3, "RGBA": 4}.get(pixel, 1) * int(np.prod([n for n in dim[5 : 1 + rank] if n > 0] or [1]))
    if not 1 <= rank <= 7 or min(dim[1 : 1 + rank]) < 1:
        raise ValueError(f"dimensions {dim}")
    count = int(np.prod([int(n) for n in dim[1 : 1 + rank]], dtype=object))
    promised = int(fields["offset"]) + count * width
    steps, origin = _nifti_shear(fields)
    floats = {"float32": order + "f4", "float64": order + "f8"}.get(pixel, "")
    coding = "gzip" if packed else "raw"
    return Header(
        path,
        "NIfTI",
        size,
        frames,
        pixel,
        components,
        tuple(float(v) for v in pixdim[1:4]),
        steps=steps,
        origin=origin,
        oriented=fields["qcode"] > 0 or fields["scode"] > 0,
        disagreement=_nifti_disagreement(fields),
        data=DataBlock(path, 0, promised, coding, int(fields["offset"]), floats) if width else None,
    )


def _nifti_fields(raw: bytes, order: str) -> dict:
    version_1 = struct.unpack(order + "i", raw[:4])[0] == 348
    places = (
        {
            "dim": (40, "8h"),
            "datatype": (70, "h"),
            "pixdim": (76, "8f"),
            "offset": (108, "f"),
            "qcode": (252, "h"),
            "scode": (254, "h"),
            "srow": (280, "12f"),
        }
        if version_1
        else {
            "dim": (16, "8q"),
            "datatype": (12, "h"),
            "pixdim": (104, "8d"),
            "offset": (168, "q"),
            "qcode": (344, "i"),
            "scode": (348, "i"),
            "srow": (400, "12d"),
        }
    )
    fields: dict = {}
    for name, (start, code) in places.items():
        values = struct.unpack_from(order + code, raw, start)
        fields[name] = values if len(values) > 1 else values[0]
    if len(raw) < (348 if version_1 else 540):
        raise EOFError
    return fields


def _nifti_matrix(fields: dict) -> np.ndarray:
    """4x4 (upper 3 rows) LPS mm of the sform."""
    return np.diag([-1.0, -1.0, 1.0]) @ np.asarray(fields["srow"], float).reshape(3, 4)


def _nifti_shear(fields: dict) -> tuple[np.ndarray | None, tuple[float, float, float]]:
    """Steps and origin of a sheared or singular sform that stands alone: ITK refuses such a file as a whole."""
    nowhere = (0.0, 0.0, 0.0)
    if fields["scode"] <= 0 or fields["qcode"] > 0:
        return None, nowhere
    matrix = _nifti_matrix(fields)
    steps = matrix[:, :3]
    norms = np.linalg.norm(steps, axis=0)
    if np.isfinite(matrix).all() and norms.min() > 0:
        unit = steps / norms
        if np.abs(unit.T @ unit - np.eye(3)).max() < 1e-4:
            return None, nowhere
    x, y, z = (float(v) for v in matrix[:, 3])
    return steps, (x, y, z)


def _nifti_disagreement(fields: dict) -> str:
    if fields["scode"] <= 0:
        return ""
    pixdim = np.abs(np.asarray(fields["pixdim"][1:4], float))
    norms = np.linalg.norm(_nifti_matrix(fields)[:, :3], axis=0)
    if not np.isfinite(norms).all() or not np.isfinite(pixdim).all() or min(pixdim.min(), norms.min()) <= 0:
        return ""
    if np.abs(norms / pixdim - 1).max() < 0.01:
        return ""
    return f"pixdim says a spacing of {mm(pixdim)} mm, the sform {mm(norms)} mm"


def is_singular(steps: np.ndarray) -> bool:
    """Whether the columns of a 3x3 matrix do not span space; also for zeros and NaN."""
    lengths = np.linalg.norm(steps, axis=0)
    return not (np.isfinite(steps).all() and lengths.min() > 0 and abs(np.linalg.det(steps / lengths)) > 1e-6)


def mm(values: np.ndarray | tuple[float, ...]) -> str:
    """Numbers in brackets, short: ``(0.7, 0.7, 1.25)``."""
    return "(" + ", ".join(f"{float(v):.4g}" for v in values) + ")"


# --- NRRD -------------------------------------------------------------------------------------------------------------


def _read_nrrd(path: Path) -> Header:
    fields, start = _nrrd_fields(path)
    sizes = [int(v) for v in fields["sizes"].split()]
    kinds = fields.get("kinds", "").split() or ["domain"] * len(sizes)
    steps = _nrrd_steps(fields, len(sizes))
    inside = [k for k in range(len(sizes)) if _nrrd_not_space(k, kinds, steps)]
    times = [k for k in inside if kinds[k] in ("list", "time")]
    space = [k for k in range(len(sizes)) if k not in inside]
    if len(space) == 4 and not times:
        times, space = [space[3]], space[:3]
    frames = sizes[times[0]] if times else 1
    components = int(np.prod([sizes[k] for k in inside if k not in times] or [1]))
    spacing = tuple(_length(steps[k]) for k in space)
    pixel = fields.get("type", "?")
    width = next((n for n, names in _NRRD_BYTES.items() if pixel.lower() in names), 0)
    promised = int(np.prod(sizes, dtype=object)) * width
    vectors = [steps[k] for k in space]
    singular = None
    if len(vectors) == 3 and all(v is not None and v.size == 3 for v in vectors):
        matrix = np.stack(vectors, axis=1)  # type: ignore[arg-type]
        singular = matrix if is_singular(matrix) else None
    return Header(
        path,
        "NRRD",
        tuple(sizes[k] for k in space),
        frames,
        pixel,
        components,
        spacing,
        steps=singular,
        frames_inside=bool(times) and times[0] < min(space, default=0),
        oriented="space" in fields,
        data=_nrrd_data(path, fields, start, promised) if width else None,
    )


def _nrrd_fields(path: Path) -> tuple[dict[str, str], int]:
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        if not stream.readline(64).startswith(b"NRRD"):
            raise ValueError("no NRRD mark")
        while line := stream.readline(1 << 16):
            text = line.decode("utf-8", "replace").strip()
            if not text:
                break
            if not text.startswith("#") and ":" in text and ":=" not in text:
                name, value = text.split(":", 1)
                fields[name.strip().lower()] = value.strip()
        return fields, stream.tell()


def _nrrd_steps(fields: dict[str, str], rank: int) -> list[np.ndarray | None]:
    """Step along every axis; ``None`` for an axis that is not in space."""
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
    """Length of a step in mm; a lone number keeps its sign."""
    if step is None:
        return float("nan")
    return float(step[0]) if step.size == 1 else float(np.linalg.norm(step))


def _nrrd_not_space(axis: int, kinds: list[str], steps: list[np.ndarray | None]) -> bool:
    return steps[axis] is None or kinds[axis].lower() not in ("domain", "space", "???", "none")


def _nrrd_data(path: Path, fields: dict[str, str], start: int, promised: int) -> DataBlock | None:
    coding = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}.get(fields.get("encoding", "").lower())
    detached = fields.get("data file", fields.get("datafile", ""))
    skips = {"line skip", "lineskip", "byte skip", "byteskip"} & set(fields)
    if coding is None or skips or detached.upper().startswith("LIST") or "%" in detached:
        return None
    return DataBlock(path.parent / detached if detached else path, 0 if detached else start, promised, coding)


# --- MetaImage --------------------------------------------------------------------------------------------------------


def _read_meta(path: Path) -> Header:
    fields, start = _meta_fields(path)
    sizes = [int(v) for v in fields["DimSize"].split()]
    spacing = tuple(float(v) for v in fields.get("ElementSpacing", fields.get("ElementSize", "1 1 1")).split())[:3]
    pixel = fields.get("ElementType", "?")
    components = int(fields.get("ElementNumberOfChannels", "1"))
    width = _META_BYTES.get(pixel.removesuffix("_ARRAY"), 0)
    promised = int(np.prod(sizes, dtype=object)) * components * width
    where = fields.get("ElementDataFile", "")
    plain = where and not where.startswith("LIST") and "%" not in where
    packed = fields.get("CompressedData", "False").lower() == "true"
    attached = where.upper() == "LOCAL"
    data = DataBlock(
        path if attached else path.parent / where, start if attached else 0, promised, "zlib" if packed else "raw"
    )
    oriented = any(name in fields for name in ("TransformMatrix", "Rotation", "Orientation"))
    frames = int(np.prod(sizes[3:] or [1]))
    return Header(
        path,
        "MetaImage",
        tuple(sizes[:3]),
        frames,
        pixel,
        components,
        spacing,
        oriented=oriented,
        data=data if plain and width and "HeaderSize" not in fields else None,
    )


def _meta_fields(path: Path) -> tuple[dict[str, str], int]:
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        while line := stream.readline(1 << 16):
            name, mark, value = line.decode("utf-8", "replace").partition("=")
            if not mark:
                raise ValueError("no field")
            fields[name.strip()] = value.strip()
            if name.strip() == "ElementDataFile":
                break
        return fields, stream.tell()
