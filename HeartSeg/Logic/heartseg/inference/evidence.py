"""Measures of how far a candidate can be trusted: agreement, consistency, mean probability, intensity of air."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..anatomy import STRUCTURES
from ..volume.geometry import Geometry
from ..volume.values import ValueScale
from .locate import HeartBox
from .resample import Sampled, likeliest
from .test_time import shared_box

AIR_LIKE_HU = -200.0
"""Mean of a labelled region below which it is lung or air."""

_VOXELS_AT_A_TIME = 2**16  # turned into probabilities: 2 MB for 8 channels, which stay in a core's cache


def agreement(labels: np.ndarray, grid: Geometry, box: HeartBox) -> float:
    """Dice of the fine and the coarse heart, all structures together, at the coarse voxels.

    Args:
        labels: of the fine network, ``(z, y, x)``, 0 background.
        grid: their grid, LPS-aligned.
        box: the coarse candidate.
    """
    fine, coarse = _at_coarse(labels, grid, box) > 0, box.labels.ravel() > 0
    return round(2 * float((fine & coarse).sum()) / max(1.0, float(fine.sum() + coarse.sum())), 3)


def structure_agreement(labels: np.ndarray, grid: Geometry, box: HeartBox) -> dict[str, float]:
    """Dice of the fine and the coarse network for each structure that either shows, at the coarse voxels.

    Args:
        labels: uint8 ``(z, y, x)``, HeartSeg's label values, of the fine network.
        grid: their grid, LPS-aligned.
        box: the coarse candidate; one that the coarse network does not see gives nothing.
    """
    if not box.seen:
        return {}
    fine, coarse = _at_coarse(labels, grid, box), box.labels.ravel()
    both = np.bincount(fine[fine == coarse], minlength=256)
    total = np.bincount(fine, minlength=256) + np.bincount(coarse, minlength=256)
    return {s.key: round(float(2 * both[s.label] / total[s.label]), 3) for s in STRUCTURES if total[s.label]}


def _at_coarse(labels: np.ndarray, grid: Geometry, box: HeartBox) -> np.ndarray:
    """Labels at the voxels of the coarse candidate, ``(n,)``; 0 outside their grid."""
    index = np.rint(grid.world_to_index(box.geometry.index_to_world(np.argwhere(np.ones(box.labels.shape, bool)))))
    inside = ((index >= 0) & (index < grid.shape)).all(1)
    found = np.zeros(len(index), np.uint8)
    found[inside] = labels[tuple(index[inside].astype(int).T)]
    return found


@dataclass(frozen=True, eq=False)
class Probabilities:
    """Sums of the probabilities of a network, one number for each channel (or structure).

    Attributes:
        chosen: sum of the probabilities where the channel has the largest, float64 ``(c,)``.
        voxels: number of those voxels, int64 ``(c,)``.
        everywhere: sum of the probabilities in all voxels, float64 ``(c,)``.
    """

    chosen: np.ndarray
    voxels: np.ndarray
    everywhere: np.ndarray

    def regrouped(self, table: np.ndarray) -> Probabilities:
        """The sums by label, ``(256,)``, with the label of each channel from a table."""
        ours = table[: len(self.chosen)]
        return Probabilities(*(np.bincount(ours, v, 256) for v in (self.chosen, self.voxels, self.everywhere)))

    @property
    def expected_dice(self) -> np.ndarray:
        """Dice that the labels would have if the probabilities were right (Li et al. 2022, soft Dice), ``(c,)``.

        Unlike the mean probability, it also counts tissue that the network half believes in but does not label.
        """
        return 2 * self.chosen / np.maximum(self.voxels + self.everywhere, 1e-9)


def consistency(first: np.ndarray, first_grid: Geometry, second: np.ndarray, second_grid: Geometry) -> float:
    """Dice of the labels of two windows where they overlap; a voxel agrees if it has the same structure in both.

    Args:
        first, second: labels ``(z, y, x)`` on two grids of one lattice.

    Returns:
        0 to 1; 0 where neither window shows a structure.
    """
    boxes = shared_box(first_grid, second_grid)
    if boxes is None:
        return 0.0
    a, b = first[boxes[0]], second[boxes[1]]
    labelled = int((a > 0).sum()) + int((b > 0).sum())
    return round(2 * int(((a == b) & (a > 0)).sum()) / max(1, labelled), 3)


def volume_spread(windows: Sequence[np.ndarray], table: np.ndarray) -> dict[str, float]:
    """Standard deviation of the volume of each structure over several windows, relative to its mean.

    Args:
        windows: labels of the network, ``(z, y, x)`` each, on grids of the same voxel size.
        table: label of the network -> label of the structure.

    Returns:
        Structure key -> spread, for the structures that all windows show.
    """
    counts = np.array([np.bincount(table[w.ravel()], minlength=256) for w in windows], float)
    found = [s for s in STRUCTURES if counts[:, s.label].all()]
    return {s.key: round(float(counts[:, s.label].std(ddof=1) / counts[:, s.label].mean()), 4) for s in found}


def probabilities(logits: np.ndarray) -> Probabilities:
    """Sum the probabilities of logits ``(c, z, y, x)`` for each channel."""
    channels = logits.shape[0]
    total, count, everywhere = np.zeros(channels), np.zeros(channels, np.int64), np.zeros(channels)
    planes = max(1, _VOXELS_AT_A_TIME // math.prod(logits.shape[2:]))
    for start in range(0, logits.shape[1], planes):
        part = logits[:, start : start + planes]
        label = likeliest(part).ravel()
        powers = np.exp(part - part.max(0)).reshape(channels, -1)
        best = 1 / powers.sum(0)  # softmax of the largest
        total += np.bincount(label, best, channels)
        count += np.bincount(label, minlength=channels)
        everywhere += powers @ best
    return Probabilities(total, count, everywhere)


def mean_confidence(logits: np.ndarray) -> float:
    """Mean probability of each labelled structure, averaged over the structures; 0 where there is none.

    Args:
        logits: ``(c, z, y, x)``, channel 0 background.
    """
    sums = probabilities(logits)
    total, count = sums.chosen[1:], sums.voxels[1:]
    labelled = count > 0
    return round(float((total[labelled] / count[labelled]).mean()), 3) if labelled.any() else 0.0


def has_air_intensity(labels: np.ndarray, sampled: Sampled, scale: ValueScale) -> bool:
    """Whether the labelled voxels are darker than any tissue; only a scan in Hounsfield units can tell."""
    heart = (labels > 0) & sampled.inside
    return scale is ValueScale.HOUNSFIELD and bool(heart.any()) and float(sampled.image[heart].mean()) < AIR_LIKE_HU
