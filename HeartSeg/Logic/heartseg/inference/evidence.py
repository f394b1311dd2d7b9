"""Measures of how far a candidate can be trusted: agreement, consistency, mean probability, intensity of air."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..anatomy import STRUCTURES
from ..volume.geometry import Geometry
from ..volume.values import ValueScale
from .locate import HeartBox
from .resample import Sampled
from .test_time import shared_box

if TYPE_CHECKING:
    import torch

AIR_LIKE_HU = -200.0
"""Mean of a labelled region below which it is lung or air."""

_VOXELS_AT_A_TIME = 2**21  # of all logits that are turned into probabilities


def agreement(labels: torch.Tensor, grid: Geometry, box: HeartBox) -> float:
    """Dice of the fine and the coarse heart, all structures together, at the coarse voxels.

    Args:
        labels: of the fine network, ``(z, y, x)``, 0 background.
        grid: their grid, LPS-aligned.
        box: the coarse candidate.
    """
    fine = labels.numpy() > 0
    index = np.rint(grid.world_to_index(box.geometry.index_to_world(np.argwhere(np.ones(box.labels.shape, bool)))))
    inside = ((index >= 0) & (index < grid.shape)).all(1)
    at_coarse = np.zeros(len(index), bool)
    at_coarse[inside] = fine[tuple(index[inside].astype(int).T)]
    coarse = box.labels.ravel() > 0
    return round(2 * float((at_coarse & coarse).sum()) / max(1.0, float(at_coarse.sum() + coarse.sum())), 3)


def consistency(first: torch.Tensor, first_grid: Geometry, second: torch.Tensor, second_grid: Geometry) -> float:
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


def volume_spread(windows: Sequence[torch.Tensor], table: np.ndarray) -> dict[str, float]:
    """Standard deviation of the volume of each structure over several windows, relative to its mean.

    Args:
        windows: labels of the network, ``(z, y, x)`` each, on grids of the same voxel size.
        table: label of the network -> label of the structure.

    Returns:
        Structure key -> spread, for the structures that all windows show.
    """
    counts = np.array([np.bincount(table[w.numpy().ravel()], minlength=256) for w in windows], float)
    found = [s for s in STRUCTURES if counts[:, s.label].all()]
    return {s.key: round(float(counts[:, s.label].std(ddof=1) / counts[:, s.label].mean()), 4) for s in found}


def chosen_probability(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For every channel, the sum of its probabilities where it is the largest, and the number of those voxels.

    Args:
        logits: ``(c, z, y, x)``.

    Returns:
        float64 ``(c,)`` and int64 ``(c,)``.
    """
    import torch

    channels = logits.shape[0]
    total, count = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.int64)
    for part in logits.split(max(1, _VOXELS_AT_A_TIME // math.prod(logits.shape[2:])), 1):
        best, label = part.softmax(0).max(0)
        total.index_add_(0, label.flatten(), best.double().flatten())
        count += torch.bincount(label.flatten(), minlength=channels)
    return total, count


def mean_confidence(logits: torch.Tensor) -> float:
    """Mean probability of each labelled structure, averaged over the structures; 0 where there is none.

    Args:
        logits: ``(c, z, y, x)``, channel 0 background.
    """
    total, count = (of_all[1:] for of_all in chosen_probability(logits))
    labelled = count > 0
    return round(float((total[labelled] / count[labelled]).mean()), 3) if bool(labelled.any()) else 0.0


def has_air_intensity(labels: torch.Tensor, sampled: Sampled, scale: ValueScale) -> bool:
    """Whether the labelled voxels are darker than any tissue; only a scan in Hounsfield units can tell."""
    heart = (labels > 0) & sampled.inside
    return scale is ValueScale.HOUNSFIELD and bool(heart.any()) and float(sampled.image[heart].mean()) < AIR_LIKE_HU
