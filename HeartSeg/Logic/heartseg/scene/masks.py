"""Voxels of the segments of a node, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..anatomy import KEYS, STRUCTURES, structure
from ..errors import InputError
from ..wording import _
from .nodes import have_same_transform

Mask = tuple[Any, int, tuple[int, int, int]]
"""Array ``(z, y, x)``, label value in it, index ``(z, y, x)`` of its first voxel."""
Masks = Mapping[str, Mask]
"""Mask of each structure key."""


def masks_of(segmentation_node: Any, scan_node: Any) -> dict[str, Mask]:
    """Return (array ``(z, y, x)``, label value, index of its first voxel) of each segment, by structure key.

    The arrays are views of the voxels of the segments, so the main thread spends no time. Slicer resamples a segment
    whose grid differs from that of the scan (after an edit, or under another transform).

    Raises:
        InputError: no segment has the key of a structure.
    """
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    segmentation = segmentation_node.GetSegmentation()
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    wanted, have, masks = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4(), {}
    scan_node.GetIJKToRASMatrix(wanted)
    together = have_same_transform(segmentation_node, scan_node)
    for key in (k for k in KEYS if segmentation.GetSegment(k) is not None):
        segment = segmentation.GetSegment(key)
        image = segment.GetRepresentation(binary)
        if image is None or image.GetPointData().GetScalars() is None:
            continue
        image.GetImageToWorldMatrix(have)
        apart = max(abs(wanted.GetElement(i, j) - have.GetElement(i, j)) for i in range(4) for j in range(4))
        if together and apart < 1e-4:
            x0, x1, y0, y1, z0, z1 = image.GetExtent()
            array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(z1 - z0 + 1, y1 - y0 + 1, x1 - x0 + 1)
            masks[key] = (array, segment.GetLabelValue(), (z0, y0, x0))
        else:
            array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation_node, key, scan_node)
            masks[key] = (array, 1, (0, 0, 0))
    if not masks:
        name = segmentation_node.GetName()
        raise InputError(
            _("'{name}' has no segment named by a structure's key ({keys}): choose another one").format(
                name=name, keys=KEYS
            )
        )
    return masks


def labels_of(masks: Masks, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the label map uint8 ``(z, y, x)`` of masks; where they overlap, the later structure wins."""
    labels = np.zeros(shape, np.uint8)
    for key, (array, value, start) in masks.items():
        paste_label(labels, array == value, start, structure(key).label)
    return labels


def paste_label(labels: Any, mask: Any, start: tuple[int, int, int], label: int) -> None:
    """Write ``label`` where ``mask`` is True; ignores voxels outside the scan."""
    target, source = [], []
    for first, size, limit in zip(start, mask.shape, labels.shape, strict=True):
        low, high = max(0, first), min(limit, first + size)
        if low >= high:
            return
        target.append(slice(low, high))
        source.append(slice(low - first, high - first))
    labels[tuple(target)][mask[tuple(source)]] = label


def overlapping_structures(masks: Masks, shape: tuple[int, int, int]) -> list[str]:
    """Return the keys of the structures that lose voxels in one label map, because a later one has them too.

    Args:
        masks: see :func:`masks_of`; no voxel lies outside of the scan.
        shape: of the scan, ``(z, y, x)``.
    """
    counts = np.bincount(labels_of(masks, shape).ravel(), minlength=len(STRUCTURES) + 1)
    return [
        key for key, (array, value, _start) in masks.items() if (array == value).sum() > counts[structure(key).label]
    ]
