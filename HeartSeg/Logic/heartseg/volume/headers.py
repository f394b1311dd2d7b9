"""Content of the header of an image file, read before any voxel.

SimpleITK reads the voxels. It repairs some invalid headers silently (a NIfTI spacing of 0 becomes 1, a truncated NIfTI
is filled with zeros). Therefore HeartSeg reads the header itself, as stored, and :mod:`.checks` judges it.

Formats: NIfTI-1 and -2 (:mod:`.nifti`), NRRD (:mod:`.nrrd`) and MetaImage (:mod:`.metaimage`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

FORMATS = {
    ".nii.gz": "NIfTI",
    ".nii": "NIfTI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
Spacing = tuple[float, float, float]
"""Voxel size (x, y, z), mm."""

READABLE = "a file in .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .dcm or a folder of DICOM files"


@dataclass(frozen=True)
class DataBlock:
    """Location of the voxels.

    Attributes:
        path: the file.
        start: position of the first byte; negative if the data end with the file.
        promised: number of bytes after decoding, from ``start`` on.
        coding: ``raw``, ``gzip`` or ``zlib``.
        stored: number of bytes before decoding according to the header, ``None`` if the header does not state it.
        skip: for NIfTI, number of bytes before the first voxel.
        floats: for floating-point NIfTI, the voxel type (``"<f4"``).
        voxels: the voxel type (``"<i2"``) of a compressed file whose decoded bytes are the values of one volume.
    """

    path: Path
    start: int
    promised: int
    coding: str
    stored: int | None = None
    skip: int = 0
    floats: str = ""
    voxels: str = ""


@dataclass(frozen=True, eq=False)
class Header:
    """Header of an image file, without repairs.

    Attributes:
        path: the file.
        format: ``"NIfTI"``, ``"NRRD"`` or ``"MetaImage"``.
        size: spatial size in stored order, ``(x, y, z)``; two entries for a 2D image.
        frames: number of frames of a time series, else 1.
        frames_inside: whether the frames of a voxel are stored consecutively (NRRD sequences).
        pixel: name of the voxel type, for messages.
        components: values per voxel (3 for RGB and vector fields), not counting frames.
        spacing: voxel size (x, y, z) as stored; may be zero, negative or NaN.
        unit_mm: millimetres per unit, for a geometry that SimpleITK does not convert (NRRD).
        bytes_per_value: bytes of the voxel type, 0 if unknown.
        steps: 3x3, column ``k`` is the step in LPS mm along index axis ``k``; set only for a sheared or singular grid,
            which SimpleITK refuses, else ``None``.
        origin: origin in LPS mm, used together with ``steps``.
        forms: qform and sform of a NIfTI file that contains both, each 3x4, index ``(x, y, z, 1)`` to LPS mm.
        oriented: whether the file states the orientation of the patient.
        disagreement: one sentence if two parts of the header contradict each other.
        data: location of the voxels; ``None`` if only SimpleITK knows the layout.
        parts: files that contain the voxels, if there are several.
        recode: reason why SimpleITK cannot read the file as it is: ``"nifti-2"``, ``"packed"`` (gzip in a ``.nii``),
            ``"unscaled"`` (NIfTI whose slope is 0), ``"4d"`` (NRRD with another axis of time), or ``""``.
        sized: whether the file states a voxel size.
    """

    path: Path
    format: str
    size: tuple[int, ...]
    frames: int
    pixel: str
    components: int
    spacing: tuple[float, ...]
    frames_inside: bool = False
    unit_mm: float = 1.0
    bytes_per_value: int = 0
    steps: np.ndarray | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    forms: tuple[np.ndarray, np.ndarray] | None = None
    oriented: bool = True
    disagreement: str = ""
    data: DataBlock | None = None
    parts: tuple[Path, ...] = ()
    recode: str = ""
    sized: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the image, header first."""
        data = () if self.data is None or self.data.path == self.path else (self.data.path,)
        return (self.path, *data, *self.parts)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame in memory."""
        return int(np.prod(self.size, dtype=object)) * self.components * max(1, self.bytes_per_value)


def image_suffix(path: Path) -> str:
    """Return the suffix of an image file if it is known (``".nii.gz"``), else ``""``."""
    return next((suffix for suffix in FORMATS if path.name.lower().endswith(suffix)), "")


def stem(path: Path) -> str:
    """Return the file name without its image suffix; other dots stay."""
    suffix = image_suffix(path) or (path.suffix if path.suffix.lower() in (".dcm", ".ima") else "")
    return path.name[: len(path.name) - len(suffix)] or path.name


def is_text(path: Path) -> bool:
    """Return whether a path is valid text; file systems also accept bytes that are not, but ITK does not."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_dicom(path: Path) -> bool:
    """Return whether a file has DICOM's prefix or suffix, or begins like a data set without a preamble."""
    if not path.is_file():  # a pipe or device would block
        return False
    with path.open("rb") as stream:
        start = stream.read(132)
    if start[128:] == b"DICM":
        return True
    return path.suffix.lower() in (".dcm", ".ima") or _begins_like_data_set(start)


def _begins_like_data_set(start: bytes) -> bool:
    """Return whether the first bytes are an element of group 2 or 8 (DICOM PS3.5, 7.1), in either byte order."""
    if len(start) < 16 or start[:2] not in (b"\2\0", b"\x08\0", b"\0\x08"):
        return False
    if start[4:6].isalpha() and start[4:6].isupper():
        return True
    element, length = int.from_bytes(start[2:4], "little"), int.from_bytes(start[4:8], "little")
    return start[0] != 0 and element < 0x1200 and length < 1024  # implicit value representation


def mm(values: np.ndarray | tuple[float, ...]) -> str:
    """Format numbers briefly in brackets: ``(0.7, 0.7, 1.25)``."""
    return "(" + ", ".join(f"{float(v):.4g}" for v in values) + ")"


def numbered_files(folder: Path, pattern: str) -> tuple[Path, ...]:
    """Return the files of a pattern such as ``slice%03d.raw 1 30 1`` (first, last, step; NRRD and MetaImage).

    Raises:
        ValueError: the pattern contains anything but one number; such a text would crash the library that reads it.
    """
    import re

    name, *numbers = pattern.split()
    if not re.fullmatch(r"[^%]*%0?\d{0,2}d[^%]*", name):
        raise ValueError(f"{name!r} is not a pattern of file names")
    first, last, step = (int(v) for v in (*numbers, *("1", "1", "1")[len(numbers) :])[:3])
    if step < 1 or not 0 <= last - first < 100_000:
        raise ValueError(f"{pattern!r} is not a range of files")
    return tuple(folder / (name % k) for k in range(first, last + 1, step))
