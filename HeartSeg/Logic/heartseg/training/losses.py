"""Cross-entropy and soft Dice with ignored voxels, at every resolution of the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from heartseg.synthesis.regions import IGNORE


def cross_entropy_and_dice(
    logits: torch.Tensor, target: torch.Tensor, heart_weight: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy and one minus the mean soft Dice of the labels that occur in the batch.

    Args:
        logits: (b, 8, z, y, x).
        target: (b, z, y, x), 0-7 or ``IGNORE``.
        heart_weight: weight of a heart voxel in the cross-entropy; a background voxel has 1.
    """
    seen = target != IGNORE
    labels = torch.where(seen, target, 0).long()
    log_p = logits.float().log_softmax(1)
    picked = log_p.gather(1, labels[:, None])[:, 0]
    weight = seen * torch.where(labels > 0, heart_weight, 1.0)
    entropy = -(picked * weight).sum() / weight.sum().clamp(min=1)
    n = logits.shape[1]
    hit = (picked.exp() * seen).flatten()
    overlap = torch.zeros(n, device=hit.device).index_add(0, labels.flatten(), hit)[1:]
    counts = torch.bincount(labels[seen], minlength=n)[1:]
    volume = (log_p.exp() * seen[:, None]).sum((0, 2, 3, 4))[1:] + counts
    present = (counts > 0).float()
    dice = (2 * overlap + 1) / (volume + 1)
    return entropy, ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def deep_loss(
    outputs: Sequence[torch.Tensor], target: torch.Tensor, heart_weight: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum over resolutions, weights 1, 1/2, 1/4, ...; also the full-resolution cross-entropy and Dice for the log."""
    total, first = torch.zeros((), device=target.device), (torch.zeros(()), torch.zeros(()))
    for i, logits in enumerate(outputs):
        step = 2**i
        entropy, dice = cross_entropy_and_dice(logits, target[:, ::step, ::step, ::step], heart_weight)
        total = total + (entropy + dice) / step
        if i == 0:
            first = (entropy.detach(), 1 - dice.detach())
    return total, *first
