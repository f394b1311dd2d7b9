"""Several looks at one heart, averaged: the window shifted, the grey scale bent; never mirrored, for hearts are chiral.

Probabilities are averaged, not logits: every look then has one vote per voxel, however sure it is of itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..volume.geometry import Geometry

if TYPE_CHECKING:
    import torch

SHIFT_MM = 8.0
"""How far a window moves along each axis; rounded to whole voxels of the network, so that looks need no resampling."""

_CLIP_PERCENT = (0.5, 99.5)  # grey values that a bent scale keeps in place; what lies beyond is clipped


@dataclass(frozen=True)
class Look:
    """One way to look again.

    Attributes:
        direction: -1, 0 or 1 per world axis ``(x, y, z)``: where the window moves, by :data:`SHIFT_MM`.
        gamma: exponent of the grey scale; 1 leaves it.
    """

    direction: tuple[int, int, int] = (0, 0, 0)
    gamma: float = 1.0


LOOKS = (
    Look((1, 1, 1)),
    Look((1, -1, -1)),
    Look((-1, 1, -1)),
    Look((-1, -1, 1)),
    Look(gamma=0.8),
    Look(gamma=1.25),
)
"""What is looked at besides the window itself: the corners of a tetrahedron, which move every axis in every look and
leave the middle where it is, and two other grey scales, well within what the default model's training drew."""


def shifted(grid: Geometry, direction: tuple[int, int, int]) -> Geometry:
    """The LPS-aligned grid moved by :data:`SHIFT_MM`, in whole voxels (at least one), along ``direction``."""
    voxels = [d * max(1, round(SHIFT_MM / s)) for d, s in zip(direction, grid.spacing, strict=True)]
    x, y, z = (o + n * s for o, n, s in zip(grid.origin, voxels, grid.spacing, strict=True))
    return replace(grid, origin=(x, y, z))


def bend(image: torch.Tensor, inside: torch.Tensor, gamma: float) -> torch.Tensor:
    """A normalised image with another grey scale, and the mean and SD it had.

    Args:
        image: float32 ``(z, y, x)``.
        inside: bool ``(z, y, x)``, the voxels whose mean, SD and range count.
        gamma: exponent, after the range is mapped to 0-1.
    """
    values = image[inside].numpy()
    if gamma == 1 or values.size == 0:
        return image
    low, high = (float(v) for v in np.percentile(values, _CLIP_PERCENT))
    if high <= low:
        return image
    bent = ((image - low) / (high - low)).clamp(0, 1) ** gamma
    new = bent[inside]
    return (bent - new.mean()) / new.std(correction=0) * float(values.std()) + float(values.mean())


class MeanProbabilities:
    """The mean of several looks on the first one's grid, as a running sum: memory does not grow with their number.

    Args:
        grid: the first look's grid.
        logits: its logits ``(c, z, y, x)``.
    """

    def __init__(self, grid: Geometry, logits: torch.Tensor) -> None:
        self._grid = grid
        self._total = logits.softmax(0)
        self._count = logits.new_ones(grid.shape)

    def add(self, grid: Geometry, logits: torch.Tensor) -> None:
        """Count a look on a grid that is moved by whole voxels; what lies outside the first one is left out."""
        offset = np.rint(self._grid.world_to_index(np.asarray(grid.origin))).astype(int)
        here, there = [slice(None)], [slice(None)]
        for start, mine, other in zip(offset, self._grid.shape, grid.shape, strict=True):
            low, high = max(0, int(start)), min(mine, int(start) + other)
            here.append(slice(low, high))
            there.append(slice(low - int(start), high - int(start)))
        self._total[tuple(here)] += logits[tuple(there)].softmax(0)
        self._count[tuple(here[1:])] += 1

    def logits(self) -> torch.Tensor:
        """Logarithm of the mean probabilities: logits whose softmax is that mean."""
        import torch

        return (self._total / self._count).clamp_min(torch.finfo(self._total.dtype).tiny).log()
