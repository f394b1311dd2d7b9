"""Contact areas between structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ..anatomy import STRUCTURES, structure
from ..measure.boxes import Box, LabelCrop
from ..volume.geometry import SIDES

_N = max(s.label for s in STRUCTURES) + 1


@dataclass(frozen=True, eq=False)
class Contacts:
    """Area of the faces between labels, ``(n, n)``, mm²; 0 is background. Faces at the scan border are excluded."""

    area_mm2: np.ndarray

    def surface(self, key: str) -> float:
        """Area of all faces of a structure, mm²."""
        return float(self.area_mm2[structure(key).label].sum())

    def area(self, key: str, other: str) -> float:
        """Area of the faces between two structures, mm²."""
        return float(self.area_mm2[structure(key).label, structure(other).label])

    def share(self, key: str, *others: str) -> float:
        """Share of the surface of a structure that touches any of the others, 0-1; 0 without a surface."""
        surface = self.surface(key)
        return sum(self.area(key, other) for other in others) / surface if surface else 0.0

    def open_share(self, key: str, *covers: str) -> float:
        """Share of the surface of a structure that touches none of ``covers``."""
        return 1.0 - self.share(key, *covers) if self.surface(key) else 0.0


def find_contacts(crop: LabelCrop) -> Contacts:
    """Sum the areas of the faces between different labels along the three axes of the crop.

    Faces where the crop ends at the border of the scan are excluded.
    """
    labels, spacing = crop.labels, np.asarray(crop.geometry.spacing)[::-1]
    area = np.zeros((_N, _N))
    for axis in range(3):
        turned = np.moveaxis(labels, axis, 0)
        low, high = turned[:-1], turned[1:]
        differ = low != high
        pairs = np.bincount(low[differ].astype(np.intp) * _N + high[differ], minlength=_N * _N).reshape(_N, _N)
        area += (pairs + pairs.T) * (spacing.prod() / spacing[axis])
        for end, side in zip((turned[0], turned[-1]), SIDES[2 - axis], strict=True):
            if side not in crop.at_border:
                faces = np.bincount(end.reshape(-1), minlength=_N) * (spacing.prod() / spacing[axis])
                faces[0] = 0.0
                area[0] += faces
                area[:, 0] += faces
    return Contacts(area)


def gap_mm(crop: LabelCrop, boxes: Mapping[int, Box], key: str, other: str) -> float:
    """Smallest distance between voxel centres of two structures, mm; infinite if one is missing."""
    clouds = []
    for label in (structure(key).label, structure(other).label):
        if label not in boxes:
            return float("inf")
        mask = crop.labels[boxes[label]] == label
        index = np.argwhere(mask & ~ndimage.binary_erosion(mask)) + [b.start for b in boxes[label]]
        clouds.append(index * np.asarray(crop.geometry.spacing)[::-1])
    distance, _ = cKDTree(clouds[0]).query(clouds[1])
    return float(distance.min())
