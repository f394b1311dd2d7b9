"""The labelled part of a grid, cropped and reoriented to the nearest LPS axes.

All steps after the network use this crop. The heart fills about a tenth of a chest scan, and permuted or flipped copies
of a label map give the same crop, so the steps are independent of the storage order of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..volume.geometry import AxisFlip, Geometry, to_nearest_lps

Box = tuple[slice, slice, slice]


def bounding_box(labels: np.ndarray) -> Box | None:
    """Return the bounding box of the non-zero voxels as slices ``(z, y, x)``; ``None`` if all are zero."""
    if labels.size == 0:
        return None
    # Reduce along the slowest axis in memory first, so that memory is read once and sequentially.
    order = tuple(int(k) for k in np.argsort([-abs(s) for s in labels.strides], kind="stable"))
    stored = labels.transpose(order)
    first = _span(stored.max(axis=(1, 2)))
    if first is None:
        return None
    plane = stored[first].max(axis=0)
    second, third = _span(plane.max(axis=1)), _span(plane.max(axis=0))
    assert second is not None and third is not None
    spans = (first, second, third)
    a, b, c = (spans[order.index(axis)] for axis in range(3))
    return a, b, c


def _span(profile: np.ndarray) -> slice | None:
    hits = np.flatnonzero(profile)
    return slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else None


@dataclass(frozen=True, eq=False)
class LabelCrop:
    """The bounding box of the labels in nearest LPS axes.

    Attributes:
        labels: contiguous uint8 ``(z, y, x)``, axes nearest to S, P, L; read-only, may share memory with the input.
        geometry: grid of the crop.
        box: position in the stored array, slices ``(z, y, x)``.
        flip: reorients ``array[box]`` to the axes of ``labels``.
    """

    labels: np.ndarray
    geometry: Geometry
    box: Box
    flip: AxisFlip

    def take(self, array: np.ndarray) -> np.ndarray:
        """Crop and reorient another array on the stored grid; returns a view."""
        return self.flip.apply(array[self.box])

    def put(self, cropped: np.ndarray, into: np.ndarray) -> None:
        """Write an array in the axes of the crop back into an array on the stored grid."""
        into[self.box] = self.flip.undo(cropped)

    def structure_boxes(self) -> dict[int, Box]:
        """Label -> bounding box within the crop, for all labels present."""
        found = ndimage.find_objects(self.labels)
        return {k + 1: (b[0], b[1], b[2]) for k, b in enumerate(found) if b is not None}


def crop_labels(labels: np.ndarray, geometry: Geometry) -> LabelCrop | None:
    """Crop ``labels`` (uint8 ``(z, y, x)`` on ``geometry``) to the labelled voxels; ``None`` if there are none.

    Raises:
        ValueError: the shapes differ.
    """
    if tuple(labels.shape) != tuple(geometry.shape):
        raise ValueError(f"label map has shape {labels.shape}, but its grid {geometry.shape}: use equal shapes")
    box = bounding_box(labels)
    if box is None:
        return None
    flip, turned = to_nearest_lps(geometry.cropped(box))
    return LabelCrop(np.ascontiguousarray(flip.apply(labels[box]), dtype=np.uint8), turned, box, flip)
