"""Candidates for the heart among the labels of a coarse network that sees the whole scan."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..volume.geometry import Geometry

MINIMUM_HEART_ML = 60.0
"""Smallest coarse heart: a quarter of the chambers and muscle of a small adult heart."""

MOST_CANDIDATES = 3
"""Candidates per scan, at most."""

_TAIL = 0.005  # share of voxels ignored at each end of the extent, so that stray voxels do not widen it


@dataclass(frozen=True)
class HeartBox:
    """A candidate for the heart.

    Attributes:
        low, high: corners ``(x, y, z)`` of its box, LPS mm.
        volume_ml: volume of the coarse heart, all structures together.
        others_ml: volumes of further candidates, largest first.
        labels: uint8 ``(z, y, x)`` coarse labels of the chosen candidate.
        geometry: their grid.
        grey_scale: exponent of the grey scale in which the finder saw it; 1 for the scan's own.
    """

    low: np.ndarray
    high: np.ndarray
    volume_ml: float
    others_ml: tuple[float, ...]
    labels: np.ndarray = field(repr=False)
    geometry: Geometry = field(repr=False)
    grey_scale: float = 1.0

    @property
    def center(self) -> np.ndarray:
        """Middle ``(x, y, z)`` of the box, LPS mm."""
        return (self.low + self.high) / 2

    @property
    def seen(self) -> bool:
        """Whether the coarse network sees a heart there."""
        return self.volume_ml > 0


def center_candidate(geometry: Geometry) -> HeartBox:
    """The centre of a grid as a candidate that the coarse network does not see: cardiac scans have the heart there."""
    middle = geometry.center()
    return HeartBox(middle, middle, 0.0, (), np.zeros(geometry.shape, np.uint8), geometry)


def choose_heart(labels: np.ndarray, geometry: Geometry) -> HeartBox | None:
    """The largest connected candidate among coarse labels, or ``None`` if none is large enough to be a heart.

    Args:
        labels: uint8 ``(z, y, x)``, 0 background.
        geometry: their grid.
    """
    return next(iter(heart_candidates(labels, geometry, 1)), None)


def heart_candidates(labels: np.ndarray, geometry: Geometry, most: int = MOST_CANDIDATES) -> list[HeartBox]:
    """At most ``most`` connected candidates among coarse labels that are large enough to be a heart, largest first.

    Args:
        labels: uint8 ``(z, y, x)``, 0 background.
        geometry: their grid.
    """
    from scipy.ndimage import generate_binary_structure, label

    pieces, count = label(labels > 0, generate_binary_structure(3, 3))
    if count == 0:
        return []
    sizes = np.bincount(pieces.ravel())[1:] * geometry.voxel_volume_ml
    order = [int(k) for k in np.argsort(-sizes, kind="stable")]
    boxes = []
    for k in order[:most]:
        if sizes[k] >= MINIMUM_HEART_ML:
            others = [float(sizes[j]) for j in order if j != k]
            boxes.append(_box(pieces == k + 1, labels, geometry, float(sizes[k]), others))
    return boxes


def _box(
    chosen: np.ndarray, labels: np.ndarray, geometry: Geometry, volume_ml: float, others_ml: list[float]
) -> HeartBox:
    """The candidate of the voxels ``chosen``; the other candidates have the volumes ``others_ml``."""
    index = np.argwhere(chosen)
    low = np.quantile(index, _TAIL, axis=0, method="lower") - 0.5
    high = np.quantile(index, 1 - _TAIL, axis=0, method="higher") + 0.5
    corners = geometry.index_to_world(np.stack([low, high]))
    return HeartBox(
        low=corners.min(0),
        high=corners.max(0),
        volume_ml=volume_ml,
        others_ml=tuple(others_ml),
        labels=np.where(chosen, labels, 0).astype(np.uint8),
        geometry=geometry,
    )
