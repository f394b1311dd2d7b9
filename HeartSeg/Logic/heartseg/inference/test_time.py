"""Test-time augmentation: windows that are shifted or have another grey scale, averaged; never mirrored.

A mirrored heart has its chambers on the wrong side, so mirrored copies are not averaged. Probabilities are averaged
rather than logits: every window then has one vote per voxel, whatever its confidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..volume.geometry import Geometry

SHIFT_MM = 8.0
"""Shift of a window along each axis, rounded to whole voxels of the network, so that no resampling is needed."""

_CLIP_PERCENT = (0.5, 99.5)  # percentiles of the grey values between which the gamma curve runs


@dataclass(frozen=True)
class Augmentation:
    """One variant of a window.

    Attributes:
        direction: -1, 0 or 1 per world axis ``(x, y, z)``: the window moves there by :data:`SHIFT_MM`.
        gamma: exponent of the grey scale; 1 leaves it unchanged.
    """

    direction: tuple[int, int, int] = (0, 0, 0)
    gamma: float = 1.0


AUGMENTATIONS = (
    Augmentation((1, 1, 1)),
    Augmentation((1, -1, -1)),
    Augmentation((-1, 1, -1)),
    Augmentation((-1, -1, 1)),
    Augmentation(gamma=0.8),
    Augmentation(gamma=1.25),
)
"""Variants that are averaged with the window itself. The shifts are the corners of a tetrahedron: each moves every
axis and their mean is zero. The exponents lie well within the range of the default model's training."""


def shifted(grid: Geometry, direction: tuple[int, int, int]) -> Geometry:
    """The LPS-aligned grid moved by :data:`SHIFT_MM` along ``direction``, in whole voxels, at least one."""
    voxels = [d * max(1, round(SHIFT_MM / s)) for d, s in zip(direction, grid.spacing, strict=True)]
    x, y, z = (o + n * s for o, n, s in zip(grid.origin, voxels, grid.spacing, strict=True))
    return replace(grid, origin=(x, y, z))


def apply_gamma(image: np.ndarray, inside: np.ndarray, gamma: float) -> np.ndarray:
    """A normalised image with a gamma curve applied; its mean and standard deviation are kept.

    Args:
        image: float32 ``(z, y, x)``.
        inside: bool ``(z, y, x)``: voxels over which mean, standard deviation and range are taken.
        gamma: exponent, after the range is mapped to 0-1.
    """
    values = image[inside]
    if gamma == 1 or values.size == 0:
        return image
    low, high = (float(v) for v in np.percentile(values, _CLIP_PERCENT))
    if high <= low:
        return image
    curved = np.clip((image - low) / (high - low), 0, 1) ** gamma
    new = curved[inside]
    return (curved - new.mean()) / new.std() * values.std() + values.mean()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities ``(c, …)`` of logits ``(c, …)``."""
    powers = logits - logits.max(0)
    np.exp(powers, out=powers)
    powers /= powers.sum(0)
    return powers


Box = tuple[slice, ...]


def shared_box(first: Geometry, second: Geometry) -> tuple[Box, Box] | None:
    """The voxels that two grids of one lattice share, as slices ``(z, y, x)`` of each; ``None`` if they are apart."""
    offset = np.rint(first.world_to_index(np.asarray(second.origin))).astype(int)
    here, there = [], []
    for start, mine, other in zip(offset, first.shape, second.shape, strict=True):
        low, high = max(0, int(start)), min(mine, int(start) + other)
        if high <= low:
            return None
        here.append(slice(low, high))
        there.append(slice(low - int(start), high - int(start)))
    return tuple(here), tuple(there)


class MeanProbabilities:
    """The mean probabilities of several windows on the grid of the first, as a running sum.

    Args:
        grid: grid of the first window.
        logits: its logits ``(c, z, y, x)``.
    """

    def __init__(self, grid: Geometry, logits: np.ndarray) -> None:
        self._grid = grid
        self._total = softmax(logits)
        self._count = np.ones(grid.shape, np.float32)

    def add(self, grid: Geometry, logits: np.ndarray) -> None:
        """Add a window of the same lattice; voxels outside the first window are ignored."""
        boxes = shared_box(self._grid, grid)
        if boxes is None:
            return
        here, there = boxes
        self._total[:, here[0], here[1], here[2]] += softmax(logits[:, there[0], there[1], there[2]])
        self._count[here] += 1

    def logits(self) -> np.ndarray:
        """Logarithm of the mean probabilities: logits whose softmax is that mean."""
        mean = self._total / self._count
        return np.log(np.maximum(mean, np.finfo(mean.dtype).tiny, out=mean), out=mean)
