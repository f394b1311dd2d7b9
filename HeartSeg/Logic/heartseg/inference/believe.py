"""Whether what the fine network drew is a heart: the two networks, and two windows, must tell the same story.

A network draws hearts, for that is what it learnt; in a place without one it draws something that changes as soon as
the place is looked at from elsewhere, that the coarse network does not confirm, and of which it is less sure itself.
The thresholds were chosen on the scans of ``benchmarks/believing.py`` (56 hard scans of 8 hearts, 28 of 14 bodies
without one) with model 0.4.0, which found 54 of the hearts and drew three into the bodies. The figures below are those
of 0.5.0 under the same rules, of the program as it is: 56 hearts, none in the bodies.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..volume.geometry import Geometry
from .locate import HeartBox

if TYPE_CHECKING:
    import torch

REJECTED_AGREEMENT = 0.35
"""Dice of the coarse and the fine heart below which the fine network alone must vouch for the candidate. Hearts had
0.477 and more (median 0.799) but for one with 0.184; where the finder saw a heart in a body, it had 0.16 at most."""
LOW_AGREEMENT = 0.6
"""Dice of the coarse and the fine heart below which another window is asked, and the user is told."""
REJECTED_STORY = 0.7
"""Dice of the same structures in two windows below which the candidate is no heart. Eight hearts were asked for it and
had 0.877 and more; with 0.4.0, what was drawn into bodies had 0.753 to 0.913."""
LOW_CONFIDENCE = 0.75
"""Mean probability below which a doubtful candidate is no heart, and the user is told of any other. Hearts had 0.797
and more (median 0.952); with 0.4.0, what was drawn into bodies had 0.689 to 0.778."""
VOUCHING_CONFIDENCE, VOUCHING_STORY = 0.85, 0.9
"""What the fine network alone must reach where the coarse one sees no heart, or another. One heart needed it. In the
middles of the 28 bodies nothing of 0.4.0 reached both (one 0.868 with a story of 0.631, another 0.825 with 0.908)."""
REJECTED_STORY_ELSEWHERE = 0.9
"""As :data:`REJECTED_STORY` for what the finder saw in another grey scale only, which must add no false hearts: on 110
validation scans the doubtful hearts of 0.4.0 had 0.944 and more."""

_VOXELS_AT_A_TIME = 2**21  # of all logits that are turned into probabilities


def agreement(labels: torch.Tensor, grid: Geometry, box: HeartBox) -> float:
    """Dice of the fine and the coarse heart, all structures together, at the coarse voxels.

    Args:
        labels: the fine network's, ``(z, y, x)``, 0 background.
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


def same_story(first: torch.Tensor, first_grid: Geometry, second: torch.Tensor, second_grid: Geometry) -> float:
    """Dice of two windows' labels where both see: a voxel counts as common only with the same structure in both.

    Args:
        first, second: labels ``(z, y, x)``; the grids differ by whole voxels.

    Returns:
        0 to 1; 0 where neither sees any heart.
    """
    offset = np.rint(first_grid.world_to_index(np.asarray(second_grid.origin))).astype(int)
    here, there = [], []
    for start, mine, other in zip(offset, first_grid.shape, second_grid.shape, strict=True):
        low, high = max(0, int(start)), min(mine, int(start) + other)
        if high <= low:
            return 0.0
        here.append(slice(low, high))
        there.append(slice(low - int(start), high - int(start)))
    a, b = first[tuple(here)], second[tuple(there)]
    drawn = int((a > 0).sum()) + int((b > 0).sum())
    return round(2 * int(((a == b) & (a > 0)).sum()) / max(1, drawn), 3)


def chosen_probability(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every channel, the sum of its probabilities where it is the likeliest, and the number of those voxels.

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


def confidence(logits: torch.Tensor) -> float:
    """Mean over the structures that are drawn of the mean probability there; 0 where none is.

    Args:
        logits: ``(c, z, y, x)``, channel 0 background.
    """
    total, count = (of_all[1:] for of_all in chosen_probability(logits))
    drawn = count > 0
    return round(float((total[drawn] / count[drawn]).mean()), 3) if bool(drawn.any()) else 0.0
