"""Bodies and things without a heart (1.5 mm, LPS), so that the finder learns to find none: heads, limbs, shapes."""

from __future__ import annotations

import numpy as np

SPACING = 1.5
"""Voxel size, mm."""


def heartless_body(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, object]]:
    """Tissue ids (uint8, (z, y, x)) of a body without a heart, and what it is."""
    raise NotImplementedError
