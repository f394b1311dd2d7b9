"""The labelled part of a grid, cut out and turned to the nearest LPS axes.

Every step after the network works on this crop: a heart fills a tenth of a chest scan, and permuted or flipped copies
of a label map end in the very same array, so that nothing downstream depends on how the file was stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..volume.geometry import AxisFlip, Geometry, to_nearest_lps

Box = tuple[slice, slice, slice]


def bounding_box(labels: np.ndarray) -> Box | None:
    """Smallest box of slices ``(z, y, x)`` that holds every non-zero voxel of ``labels``; ``None`` if all are zero."""
    if labels.size == 0:
        return None
    # Reduce along the slowest stored axis first: memory is walked once, in its own order, whatever the view's axes.
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
    """The labelled box of a grid in nearest-LPS axes.

    Attributes:
        labels: contiguous uint8 ``(z, y, x)``, axes nearest to S, P, L; read only, it may share the input's memory.
        geometry: its grid.
        box: where it lay in the stored array, slices ``(z, y, x)``.
        flip: turns ``array[box]`` into the axes of ``labels``.
    """

    labels: np.ndarray
    geometry: Geometry
    box: Box
    flip: AxisFlip

    def take(self, array: np.ndarray) -> np.ndarray:
        """The same part, in the same axes, of another array on the stored grid (a view)."""
        return self.flip.apply(array[self.box])

    def put(self, cropped: np.ndarray, into: np.ndarray) -> None:
        """Write an array in the crop's axes back to where the crop came from."""
        into[self.box] = self.flip.undo(cropped)

    def structure_boxes(self) -> dict[int, Box]:
        """Bounding box, within the crop, of every label that is present."""
        found = ndimage.find_objects(self.labels)
        return {k + 1: (b[0], b[1], b[2]) for k, b in enumerate(found) if b is not None}


def crop_labels(labels: np.ndarray, geometry: Geometry) -> LabelCrop | None:
    """Cut the labelled box out of ``labels`` (uint8 ``(z, y, x)`` on ``geometry``); ``None`` if nothing is labelled.

    Raises:
        ValueError: the shapes differ.
    """
    if tuple(labels.shape) != tuple(geometry.shape):
        raise ValueError(f"label map of shape {labels.shape} on a grid of shape {geometry.shape}: they must be equal")
    box = bounding_box(labels)
    if box is None:
        return None
    flip, turned = to_nearest_lps(geometry.cropped(box))
    return LabelCrop(np.ascontiguousarray(flip.apply(labels[box]), dtype=np.uint8), turned, box, flip)
