"""The labelled part of a grid, cropped and reoriented to the nearest LPS axes.

All steps after the network use this crop. The heart fills about a tenth of a chest scan, and permuted or flipped copies
of a label map give the same crop, so the steps are independent of the storage order of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from ..anatomy import STRUCTURES
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


def label_boxes(labels: np.ndarray) -> dict[int, Box]:
    """Return label -> bounding box, for all labels present."""
    found = ndimage.find_objects(labels)
    return {k + 1: (b[0], b[1], b[2]) for k, b in enumerate(found) if b is not None}


def edges(box: Box) -> tuple[list[int], list[int]]:
    """Return the low and the high edges of a box, ``(z, y, x)`` each, in voxels."""
    return [b.start for b in box], [b.stop for b in box]


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
        at_border: sides (:data:`~heartseg.volume.geometry.SIDES`) at which the crop ends at the border of the scan.
    """

    labels: np.ndarray
    geometry: Geometry
    box: Box
    flip: AxisFlip
    at_border: frozenset[str]

    def take(self, array: np.ndarray) -> np.ndarray:
        """Crop and reorient another array on the stored grid; returns a view."""
        return self.flip.apply(array[self.box])

    def put(self, cropped: np.ndarray, into: np.ndarray) -> None:
        """Write an array in the axes of the crop back into an array on the stored grid."""
        into[self.box] = self.flip.undo(cropped)

    @cached_property
    def boxes(self) -> Mapping[int, Box]:
        """Label -> bounding box within the crop, for all labels present."""
        return label_boxes(self.labels)

    @cached_property
    def border_contacts(self) -> Mapping[str, tuple[str, ...]]:
        """Structure key -> sides of the scan that it reaches, for the structures that reach any; see :data:`SIDES`."""
        boxes = self.boxes if self.at_border else {}
        contacts = {}
        for s in (s for s in STRUCTURES if s.label in boxes):
            reached = self.geometry.sides_reached(*edges(boxes[s.label]))
            if sides := tuple(side for side in reached if side in self.at_border):
                contacts[s.key] = sides
        return contacts


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
    at_border = frozenset(geometry.sides_reached(*edges(box)))
    return LabelCrop(np.ascontiguousarray(flip.apply(labels[box]), dtype=np.uint8), turned, box, flip, at_border)


def border_contacts(labels: np.ndarray, geometry: Geometry) -> Mapping[str, tuple[str, ...]]:
    """Return the sides of the scan that each structure of a label map reaches: :attr:`LabelCrop.border_contacts`."""
    crop = crop_labels(labels, geometry)
    return {} if crop is None else crop.border_contacts


def only_open_above(key: str, sides: tuple[str, ...]) -> bool:
    """Return whether a structure is an artery that reaches only the upper border, as in many cardiac scans."""
    return key in ("AO", "PA") and sides == ("superior",)
