"""Finding the heart: a coarse look at the whole scan, so that the fine network works only where the heart is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..volume.geometry import Geometry

MINIMUM_HEART_ML = 60.0
"""Smallest coarse heart that is believed: a quarter of a small adult heart's chambers and muscle."""

MOST_CANDIDATES = 3
"""Places in a scan that are looked at, at most."""

_TAIL = 0.005  # share of voxels ignored at each end of the heart's extent: single stray voxels must not widen it


@dataclass(frozen=True)
class HeartBox:
    """Where the coarse network sees the heart.

    Attributes:
        low, high: corners ``(x, y, z)`` of its box, LPS mm.
        volume_ml: volume of the coarse heart, all structures together.
        others_ml: volumes of further candidates, largest first.
        labels: uint8 ``(z, y, x)`` coarse labels of the chosen candidate.
        geometry: their grid.
        grey_scale: exponent of the grey scale in which it was seen, 1 for the scan's own.
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
        """Whether the coarse network sees anything there."""
        return self.volume_ml > 0


def middle_of(geometry: Geometry) -> HeartBox:
    """The middle of a grid as a candidate: there a scan of the heart has it, whatever the coarse network sees."""
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
    """The candidate that ``chosen`` marks, of ``volume_ml``; the others have ``others_ml``."""
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
