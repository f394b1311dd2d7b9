"""Label maps of boxes, whose scores can be derived by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from heartseg import Geometry, Volume

SHAPE = (12, 14, 20)
SPACING = (1.0, 2.0, 3.0)  # x, y, z


def box(label: int = 1, shift: int = 0, array: np.ndarray | None = None) -> np.ndarray:
    """Draw a box of 4 x 5 x 6 voxels (z, y, x), shifted along x, into a new map or into ``array``."""
    labels = np.zeros(SHAPE, np.uint8) if array is None else array
    labels[4:8, 4:9, 5 + shift : 11 + shift] = label
    return labels


def grid(shape: tuple[int, ...] = SHAPE, **changes: Any) -> Geometry:
    return Geometry((shape[0], shape[1], shape[2]), **{"spacing": SPACING, "origin": (-10.0, 5.0, 30.0), **changes})


def volume(array: np.ndarray, **changes: Any) -> Volume:
    return Volume(array, grid(array.shape, **changes), "boxes")
