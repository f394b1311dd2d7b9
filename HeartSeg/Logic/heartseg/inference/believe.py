"""Whether what the fine network drew is a heart: the two networks, and two windows, must tell the same story.

A network draws hearts, for that is what it learnt; in a place without one it draws something that changes as soon as
the place is looked at from elsewhere, and that the coarse network does not confirm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..volume.geometry import Geometry
from .locate import HeartBox

if TYPE_CHECKING:
    import torch

REJECTED_AGREEMENT = 0.35
"""Dice of the coarse and the fine heart below which the candidate is no heart. Chosen on an early model, with which
whole and half hearts of the development scans reached 0.67 and more, and candidates without a heart 0.28 at most."""
LOW_AGREEMENT = 0.6
"""Dice of the coarse and the fine heart below which another window is asked, and the user is told."""
REJECTED_STORY = 0.7
"""Dice of the same structures in two windows below which the candidate is no heart. On 23 hard validation scans
(oblique slabs, small fields of view, black blood) hearts had 0.764 to 0.991; what was drawn into heads, limbs and
made-up things without a heart 0.818 to 0.888: it lets such heads pass rather than lose a heart."""
REJECTED_STORY_ELSEWHERE = 0.9
"""The same for what the finder saw in another grey scale only, which must add no false hearts: on 110 validation scans
the doubtful hearts had 0.944 and more."""


def agreement(logits: torch.Tensor, grid: Geometry, box: HeartBox) -> float:
    """Dice of the fine and the coarse heart, all structures together, at the coarse voxels.

    Args:
        logits: the fine network's, ``(c, z, y, x)``, channel 0 background.
        grid: their grid, LPS-aligned.
        box: the coarse candidate.
    """
    fine = logits.argmax(0).numpy() > 0
    index = np.rint(grid.world_to_index(box.geometry.index_to_world(np.argwhere(np.ones(box.labels.shape, bool)))))
    inside = ((index >= 0) & (index < grid.shape)).all(1)
    at_coarse = np.zeros(len(index), bool)
    at_coarse[inside] = fine[tuple(index[inside].astype(int).T)]
    coarse = box.labels.ravel() > 0
    return round(2 * float((at_coarse & coarse).sum()) / max(1.0, float(at_coarse.sum() + coarse.sum())), 3)


def same_story(first: torch.Tensor, first_grid: Geometry, second: torch.Tensor, second_grid: Geometry) -> float:
    """Dice of two windows' labels where both see: a voxel counts as common only with the same structure in both.

    Args:
        first, second: logits ``(c, z, y, x)``; the grids differ by whole voxels.

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
    a, b = first.argmax(0)[tuple(here)], second.argmax(0)[tuple(there)]
    drawn = int((a > 0).sum()) + int((b > 0).sum())
    return round(2 * int(((a == b) & (a > 0)).sum()) / max(1, drawn), 3)
