"""What an image file says about itself, read from its first bytes before any voxel.

SimpleITK reads the voxels. It repairs some broken headers silently (a NIfTI spacing of 0 becomes 1, a truncated NIfTI
is filled with zeros), so the header is read here as it is stored, and :mod:`.checks` judges it.

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
READABLE = ".nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .dcm or a folder of DICOM files"


@dataclass(frozen=True)
class DataBlock:
    """Where the voxels are stored.

    Attributes:
        path: the file.
        start: first byte; negative: the data end with the file.
        promised: bytes after decoding, from ``start`` on.
        coding: ``raw``, ``gzip`` or ``zlib``.
        stored: bytes before decoding that the header states, ``None`` if it states none.
        skip: for fractions in NIfTI, the first byte that belongs to a voxel.
        floats: for fractions in NIfTI, the voxel type (``"<f4"``).
    """

    path: Path
    start: int
    promised: int
    coding: str
    stored: int | None = None
    skip: int = 0
    floats: str = ""


@dataclass(frozen=True, eq=False)
class Header:
    """An image file's claims, unrepaired.

    Attributes:
        path: the file.
        format: ``"NIfTI"``, ``"NRRD"`` or ``"MetaImage"``.
        size: spatial size in stored order, ``(x, y, z)``; two entries for a 2D image.
        frames: number of frames of a time series, else 1.
        frames_inside: whether the frames of a voxel are stored side by side (NRRD sequences).
        pixel: name of the voxel type, for messages.
        components: values per voxel (3 for RGB and vector fields), frames apart.
        spacing: voxel size (x, y, z) as stored: may be zero, negative or NaN.
        unit_mm: millimetres per unit of a geometry that SimpleITK does not convert (NRRD).
        bytes_per_value: of the voxel type, 0 if unknown.
        steps: 3x3, column ``k`` is the step in LPS mm along index axis ``k``, where the file is sheared or singular so
            that SimpleITK refuses it; else ``None``.
        origin: LPS mm, belongs to ``steps``.
        forms: qform and sform of a NIfTI file that has both, each 3x4, index ``(x, y, z, 1)`` to LPS mm.
        oriented: whether the file says how the patient lies in it.
        disagreement: a sentence where two parts of the header contradict each other.
        data: where the voxels are; ``None`` if only SimpleITK knows the layout.
        parts: the files that hold the voxels, where there are several.
        recode: what keeps SimpleITK from reading the file: ``"nifti-2"``, ``"packed"`` (gzip in a ``.nii``), or ``""``.
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

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the image consists of, header first."""
        data = () if self.data is None or self.data.path == self.path else (self.data.path,)
        return (self.path, *data, *self.parts)

    @property
    def frame_bytes(self) -> int:
        """Memory of one frame."""
        return int(np.prod(self.size, dtype=object)) * self.components * max(1, self.bytes_per_value)


def image_suffix(path: Path) -> str:
    """The known suffix of an image file (``".nii.gz"``), or ``""``."""
    return next((suffix for suffix in FORMATS if path.name.lower().endswith(suffix)), "")


def stem(path: Path) -> str:
    """File name without its image suffix; other dots stay."""
    suffix = image_suffix(path) or (path.suffix if path.suffix.lower() in (".dcm", ".ima") else "")
    return path.name[: len(path.name) - len(suffix)] or path.name


def is_text(path: Path) -> bool:
    """Whether a path is made of characters: file systems also accept bytes that are not, and ITK does not."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark or suffix, or begins like a data set without a preamble."""
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


def is_singular(steps: np.ndarray) -> bool:
    """Whether the columns of a 3x3 matrix do not span space; also for zeros and NaN."""
    lengths = np.linalg.norm(steps, axis=0)
    return not (np.isfinite(steps).all() and lengths.min() > 0 and abs(np.linalg.det(steps / lengths)) > 1e-6)


def mm(values: np.ndarray | tuple[float, ...]) -> str:
    """Numbers in brackets, short: ``(0.7, 0.7, 1.25)``."""
    return "(" + ", ".join(f"{float(v):.4g}" for v in values) + ")"


def numbered_files(folder: Path, pattern: str) -> tuple[Path, ...]:
    """The files of a pattern such as ``slice%03d.raw 1 30 1`` (first, last, step), as NRRD and MetaImage write it.

    Raises:
        ValueError: the pattern holds anything but one number: such a text would crash the library that reads it.
    """
    import re

    name, *numbers = pattern.split()
    if not re.fullmatch(r"[^%]*%0?\d{0,2}d[^%]*", name):
        raise ValueError(f"{name!r} is not a pattern of file names")
    first, last, step = (int(v) for v in (*numbers, *("1", "1", "1")[len(numbers) :])[:3])
    if step < 1 or not 0 <= last - first < 100_000:
        raise ValueError(f"{pattern!r} is not a range of files")
    return tuple(folder / (name % k) for k in range(first, last + 1, step))
