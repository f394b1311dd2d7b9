"""Read reference label maps in any format as HeartSeg labels 1-7, with strict checks for training data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...anatomy import structure
from ...errors import InputError
from ...volume import itk
from ...volume.checks import check_path
from ...volume.geometry import Geometry
from ...volume.image_header import read_header
from ...volume.label_maps import LABEL_SETS, LabelMap, as_label_map, read_whole_numbers, structure_of_segment

KNOWN_SETS: tuple[Mapping[int, str], ...] = (LABEL_SETS["heartseg"], LABEL_SETS["mmwhs"])


def read_reference(path: str | Path, labels: Mapping[int, str] | None = None) -> LabelMap:
    """Return a reference in labels 1-7.

    Args:
        path: label map in NIfTI, NRRD or MetaImage; a Slicer segmentation (``.seg.nrrd``) may have several layers.
        labels: label value -> structure key; other values become background. ``None`` uses the segment names of a
            segmentation, else the values of HeartSeg (1-7) or MM-WHS; any other value raises an error.

    Raises:
        InputError: the file is missing or damaged, is not a label map, or contains a value that denotes no structure.
    """
    path = Path(path)
    check_path(path)
    if path.name.lower().endswith(".seg.nrrd") and labels is None:
        return _segmentation(path)
    array, geometry, _ = read_whole_numbers(path)
    from ...volume.types import Volume

    volume = Volume(array, geometry, path.name)
    found = as_label_map(volume, labels or _known_set(array, path), "--labels")
    return replace(found, path=str(path))


def _known_set(array: np.ndarray, path: Path) -> Mapping[int, str]:
    """Return the label set that contains every value of the map."""
    values = set(np.unique(array).tolist()) - {0}
    for known in KNOWN_SETS:
        if values <= set(known):
            return known
    if any(v != int(v) or v < 0 for v in values) or len(values) > 64:
        raise InputError(
            f"{path.name!r} is not a label map: it holds {len(values)} values from {min(values):g} to "
            f"{max(values):g}; give the segmentation, not the image"
        )
    strange = sorted(int(v) for v in values - set().union(*KNOWN_SETS))
    shown = ", ".join(map(str, strange[:8])) if strange else "of both 1-7 and MM-WHS"
    raise InputError(
        f"labels {shown} of {path.name!r} mean no structure (known are 1-7 and MM-WHS's "
        f'{", ".join(map(str, LABEL_SETS["mmwhs"]))}): say which is which with --labels "1=LV,2=MYO", which makes the '
        "others background"
    )


def _segmentation(path: Path) -> LabelMap:
    """Read a Slicer segmentation with one or more layers; where structures overlap, the later segment wins."""
    import SimpleITK as sitk

    read_header(path)  # rejects damaged files
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with itk.quiet():
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{path.name!r} cannot be read: {itk.reason(error)}; export it again") from error
    layers = sitk.GetArrayFromImage(image)
    if image.GetDimension() != 3:
        raise InputError(f"{path.name!r} has {image.GetDimension()} dimensions: a segmentation has three")
    layers = layers[..., None] if layers.ndim == 3 else layers
    fields = {k: reader.GetMetaData(k) for k in reader.GetMetaDataKeys() if k.startswith("Segment")}
    labels, notices = _merged(layers, fields, path)
    x, y, z = image.GetSize()
    geometry = Geometry((z, y, x), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return LabelMap(labels, geometry, path.name, str(path), notices)


def _merged(layers: np.ndarray, fields: Mapping[str, str], path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels (uint8) from layers ``(z, y, x, n)``, using the segments that match a structure."""
    labels, overlap, ignored, known = np.zeros(layers.shape[:3], np.uint8), 0, [], []
    segments = sorted({int(m[1]) for f in fields if (m := re.match(r"Segment(\d+)_", f))})
    for number in segments:
        segment = f"Segment{number}"
        meaning = structure_of_segment(fields, segment)
        if meaning is None:
            ignored.append(fields.get(f"{segment}_Name", segment))
            continue
        layer, value = (int(fields.get(f"{segment}_{f}", d)) for f, d in (("Layer", 0), ("LabelValue", number + 1)))
        mask = layers[..., layer] == value
        overlap += int(np.count_nonzero(labels[mask]))
        labels[mask] = structure(meaning.key).label
        known.append(meaning.key)
    if not known:
        raise InputError(
            f"segments of {path.name!r} ({', '.join(ignored[:8]) or 'none'}) name no structure: call them as in "
            "Slicer's terminology (left ventricle, LV, myocardium, ...)"
        )
    notices = [f"segments {', '.join(ignored)} of {path.name!r} mean no structure: background"] if ignored else []
    if overlap:
        notices.append(f"structures of {path.name!r} overlap in {overlap} voxels: the later segment was taken")
    return labels, tuple(notices)
