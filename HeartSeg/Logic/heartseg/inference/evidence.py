"""Measures of how far a candidate can be trusted: agreement, consistency, mean probability, intensity of air."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    fine = labels > 0
    index = np.rint(grid.world_to_index(box.geometry.index_to_world(np.argwhere(np.ones(box.labels.shape, bool)))))
    inside = ((index >= 0) & (index < grid.shape)).all(1)
    at_coarse = np.zeros(len(index), bool)
    at_coarse[inside] = fine[tuple(index[inside].astype(int).T)]
    coarse = box.labels.ravel() > 0
    return round(2 * float((at_coarse & coarse).sum()) / max(1.0, float(at_coarse.sum() + coarse.sum())), 3)


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


def chosen_probability(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every channel, the sum of its probabilities where it is the largest, and the number of those voxels.

    Args:
        logits: ``(c, z, y, x)``.

    Returns:
        float64 ``(c,)`` and int64 ``(c,)``.
    """
    channels = logits.shape[0]
    total, count = np.zeros(channels), np.zeros(channels, np.int64)
    planes = max(1, _VOXELS_AT_A_TIME // math.prod(logits.shape[2:]))
    for start in range(0, logits.shape[1], planes):
        part = logits[:, start : start + planes]
        label = likeliest(part).ravel()
        best = 1 / np.exp(part - part.max(0)).sum(0)  # softmax of the largest
        total += np.bincount(label, best.ravel(), channels)
        count += np.bincount(label, minlength=channels)
    return total, count


def mean_confidence(logits: np.ndarray) -> float:
    """Mean probability of each labelled structure, averaged over the structures; 0 where there is none.

    Args:
        logits: ``(c, z, y, x)``, channel 0 background.
    """
    total, count = (of_all[1:] for of_all in chosen_probability(logits))
    labelled = count > 0
    return round(float((total[labelled] / count[labelled]).mean()), 3) if labelled.any() else 0.0


def has_air_intensity(labels: np.ndarray, sampled: Sampled, scale: ValueScale) -> bool:
    """Whether the labelled voxels are darker than any tissue; only a scan in Hounsfield units can tell."""
    heart = (labels > 0) & sampled.inside
    return scale is ValueScale.HOUNSFIELD and bool(heart.any()) and float(sampled.image[heart].mean()) < AIR_LIKE_HU
