"""Read label maps from files or arrays and convert their values to HeartSeg's labels 1-7."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..anatomy import KEYS, MMWHS_LABELS, STRUCTURES, Structure, match_name, structure
from ..errors import InputError, SettingsError
from . import itk
from .checks import SHEAR_LIMIT_DEG, check_path, check_spacing, shear_degrees
from .geometry import Geometry
from .headers import FORMATS, Header, image_suffix, stem
from .image_header import read_header
from .stored import check_data
from .types import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

LABEL_SETS: dict[str, dict[int, str]] = {
    "heartseg": {s.label: s.key for s in STRUCTURES},
    "mmwhs": MMWHS_LABELS,
}
"""Named sets of label values: label value -> structure key."""

MAX_VALUES = 256
"""A file with more distinct values than this is an image: large atlases of the trunk have about 120 structures."""


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map in HeartSeg's labels.

    Attributes:
        labels: uint8 ``(z, y, x)``, 0 background, 1-7 as in :mod:`heartseg.anatomy`.
        geometry: grid of the labels.
        name: name for messages.
        path: file that was read; empty for an array.
        notices: omitted labels, one sentence each.
    """

    labels: np.ndarray
    geometry: Geometry
    name: str
    path: str = ""
    notices: tuple[str, ...] = ()


def as_label_map(source: str | Path | Volume, labels: Mapping[int, str] | None, option: str) -> LabelMap:
    """Read a label map from a file or an array.

    Args:
        source: NIfTI, NRRD (also Slicer's ``.seg.nrrd``) or MetaImage file, or a volume of integers.
        labels: label value -> structure key. ``None`` uses the segment names of a ``.seg.nrrd``, else HeartSeg's
            labels.
        option: command line option that sets ``labels``, for messages.

    Raises:
        InputError: the file is missing, damaged, not 3D or not a label map, or no label in it is known.
        SettingsError: ``labels`` contains an unknown structure.
    """
    if labels is not None:
        labels = _checked(labels)
    if isinstance(source, Volume):
        return _mapped(source.array, source.geometry, source.name, "", labels or LABEL_SETS["heartseg"], option)
    path = Path(source)
    array, geometry, segments = read_whole_numbers(path)
    chosen = labels or segments or LABEL_SETS["heartseg"]
    return _mapped(array, geometry, path.name, str(path), chosen, option)


def read_whole_numbers(path: Path) -> tuple[np.ndarray, Geometry, dict[int, str]]:
    """Read the voxels of a 3D file as stored ``(z, y, x)``, its grid, and the structures named by a ``.seg.nrrd``.

    Raises:
        InputError: the file is missing, damaged, not a single 3D volume, or has an unusable grid.
    """
    check_path(path)
    if path.is_dir() or not image_suffix(path):
        raise InputError(f"{str(path)!r} is not a label map that can be read: give a file in {', '.join(FORMATS)}")
    try:
        header = read_header(path)
        _check_header(header)
        if check_data(header)[0] is not None:
            raise InputError(f"{path.name!r} holds NaN or infinite voxels: a label map holds whole numbers only")
        image, segments = _read(header)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    geometry = itk.geometry_of(image)
    angle = shear_degrees(geometry.direction_matrix)
    if angle > SHEAR_LIMIT_DEG:
        raise InputError(f"axes of {path.name!r} are sheared by {angle:.1f}°: resample it onto a rectangular grid")
    return itk.array_of(image), geometry, segments


def _check_header(header: Header) -> None:
    name = header.path.name
    if header.frames > 1 or header.components > 1:
        count = max(header.frames, header.components)
        way = (
            "its segments overlap; export it from Slicer as a label map"
            if name.lower().endswith(".seg.nrrd")
            else "give one 3D label map, a value a voxel"
        )
        raise InputError(f"{name!r} is not one 3D volume but {count} of them (4D, or several values a voxel): {way}")
    if len(header.size) < 3:
        raise InputError(f"{name!r} is a 2D image ({'x'.join(map(str, header.size))}): a 3D label map is needed")
    check_spacing(header.spacing, name)
    if header.steps is not None:
        raise InputError(f"axes of {name!r} are sheared or singular: resample it onto a rectangular grid")


def _read(header: Header) -> tuple[sitk.Image, dict[int, str]]:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(header.path))
    try:
        with itk.quiet():
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{header.path.name!r} cannot be read: {itk.reason(error)}; export it again") from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{header.path.name!r} is not a plain 3D volume: export it as one")
    return image, _segments({k: reader.GetMetaData(k) for k in reader.GetMetaDataKeys() if k.startswith("Segment")})


def _segments(fields: Mapping[str, str]) -> dict[int, str]:
    """Map label values to structure keys by the name, identifier or SNOMED CT code of the segments in Slicer files."""
    found: dict[int, str] = {}
    for field, value in fields.items():
        mark = re.fullmatch(r"(Segment\d+)_LabelValue", field)
        if not mark or not value.isdecimal():
            continue
        if known := structure_of_segment(fields, mark[1]):
            found[int(value)] = known.key
    return found


def structure_of_segment(fields: Mapping[str, str], segment: str) -> Structure | None:
    """Return the structure of a segment (``"Segment0"``), by its name, identifier or SNOMED CT code."""
    named = (match_name(fields.get(f"{segment}_{field}", "")) for field in ("Name", "ID"))
    tags = fields.get(f"{segment}_Tags", "")
    coded = (s for s in STRUCTURES if f"SCT^{s.snomed_code}^" in tags)
    return next((s for s in (*named, *coded) if s is not None), None)


def _checked(labels: Mapping[int, str]) -> dict[int, str]:
    for value, key in labels.items():
        if value < 1 or key.upper() not in KEYS:
            raise SettingsError(f"label {value}={key} is not a label from 1 and a structure of {', '.join(KEYS)}")
    return {value: key.upper() for value, key in labels.items()}


def _mapped(
    array: np.ndarray, geometry: Geometry, name: str, path: str, chosen: Mapping[int, str], option: str
) -> LabelMap:
    """Convert an array to HeartSeg's labels; unknown labels become background, with a notice."""
    if array.ndim != 3:
        raise InputError(f"{name!r} is an array of {array.ndim} dimensions: a label map has three (z, y, x)")
    values = _values(array, name)
    known = {v: structure(chosen[v]).label for v in values if v in chosen}
    ignored = [v for v in values if v and v not in chosen]
    if ignored and not known:
        fits = next((known for known, values in LABEL_SETS.items() if values.keys() >= set(ignored)), "")
        raise InputError(
            f"labels of {name!r} are {_listed(ignored)}, and {', '.join(f'{v}={k}' for v, k in chosen.items())} are "
            f"expected: give {option} "
            + (fits or f'"{",".join(f"{v}={k}" for v, k in zip(ignored, KEYS, strict=False))}", with their structures')
        )
    out = np.zeros(array.shape, np.uint8)
    for slab, target in zip(array, out, strict=True):
        for value, label in known.items():
            target[slab == value] = label
    notices = (f"labels {_listed(ignored)} of {name!r} mean no structure and count as background",) if ignored else ()
    return LabelMap(out, geometry, name, path, notices)


def _values(array: np.ndarray, name: str) -> list[int]:
    """Return the distinct values, sorted; works slice by slice to keep temporary arrays small."""
    if array.dtype.kind not in "iufb":
        raise InputError(f"{name!r} holds {array.dtype}: a label map holds whole numbers")
    found: set[float] = set()
    for values in _slices_values(array):
        wrong = values[~np.isfinite(values) | (values < 0) | (values != np.round(values))]
        if wrong.size:
            raise InputError(
                f"{name!r} is not a label map: it holds {float(wrong[0]):g}, and labels are whole numbers from 0; give "
                "the segmentation, not the image or a probability map"
            )
        found |= set(values.tolist())
        if len(found) > MAX_VALUES:
            raise InputError(
                f"{name!r} is not a label map: it holds more than {MAX_VALUES} different values; give the "
                "segmentation, not the image"
            )
    return sorted(int(v) for v in found)


def _slices_values(array: np.ndarray) -> Iterator[np.ndarray]:
    for slab in array:
        yield np.unique(slab)


def _listed(values: list[int], at_most: int = 12) -> str:
    more = len(values) - at_most
    return ", ".join(map(str, values[:at_most])) + (f" and {more} more" if more > 0 else "")


def stem_of(path: Path) -> str:
    """Return the file name without its image suffix (also ``.seg.nrrd``)."""
    return re.sub(r"\.seg$", "", stem(path), flags=re.IGNORECASE)
