"""Loss functions: those of the default model (first two functions) and those of the selectable methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from heartseg.networks.edge_channels import (
    edge_labels,
    edge_logits,
    full_precision,
    interior_labels,
    interior_logits,
    region_labels,
    region_logits,
)
from heartseg.synthesis.regions import IGNORE


def cross_entropy_and_dice(
    logits: torch.Tensor, target: torch.Tensor, heart_weight: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean cross-entropy, and one minus the mean soft Dice of the labels present in the batch.

    Args:
        logits: (b, 8, z, y, x).
        target: (b, z, y, x), 0-7 or ``IGNORE``.
        heart_weight: weight of a heart voxel in the cross-entropy; a background voxel has weight 1.
    """
    seen = target != IGNORE
    labels = torch.where(seen, target, 0).long()
    log_p = logits.float().log_softmax(1)
    picked = log_p.gather(1, labels[:, None])[:, 0]
    weight = seen * torch.where(labels > 0, heart_weight, 1.0)
    entropy = -(picked * weight).sum() / weight.sum().clamp(min=1)
    hit = picked.exp() * seen
    members = [(labels == k) & seen for k in range(1, logits.shape[1])]
    overlap = torch.stack([(hit * member).sum() for member in members])
    counts = torch.stack([member.sum() for member in members])
    volume = (log_p.exp() * seen[:, None]).sum((0, 2, 3, 4))[1:] + counts
    present = (counts > 0).float()
    dice = (2 * overlap + 1) / (volume + 1)
    return entropy, ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def deep_loss(
    outputs: Sequence[torch.Tensor], target: torch.Tensor, heart_weight: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum the loss over resolutions, weighted 1, 1/2, 1/4, ...; also return cross-entropy and Dice of the finest."""
    total, first = torch.zeros((), device=target.device), (torch.zeros(()), torch.zeros(()))
    for i, logits in enumerate(outputs):
        step = 2**i
        entropy, dice = cross_entropy_and_dice(logits, target[:, ::step, ::step, ::step], heart_weight)
        total = total + (entropy + dice) / step
        if i == 0:
            first = (entropy.detach(), 1 - dice.detach())
    return total, *first


# Losses of the selectable methods (docs/explanation/csfbu-net.md). All take logits (b, c, ...) in 2D or 3D and a target
# (b, ...) or (b, 1, ...), as in nnU-Net. They compute half-precision input in float32 and exclude ignored voxels.


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, *, ignore: int = IGNORE) -> torch.Tensor:
    """Return the mean of -log p of the true label over all voxels that are not ignored; 0 if there are none."""
    labels, seen = _known(logits, target, ignore)
    picked = full_precision(logits).log_softmax(1).gather(1, labels[:, None])[:, 0]
    return -(picked * seen).sum() / seen.sum().clamp(min=1)


def soft_dice(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    delta: float = 1.0,
    background: bool = False,
    per_image: bool = False,
    ignore: int = IGNORE,
) -> torch.Tensor:
    """1 - the mean over classes of (2 sum(y p) + delta) / (sum(y) + sum(p) + delta), with p the softmax of the logits.

    A class that is neither present nor predicted scores 1, so the mean includes every class in every batch.

    Args:
        logits, target: see above.
        delta: smoothing constant, in voxels.
        background: whether to include class 0.
        per_image: whether to average one Dice per image; otherwise the sums run over the batch.
        ignore: label of ignored voxels.
    """
    labels, seen = _known(logits, target, ignore)
    first = 0 if background else 1
    classes = torch.arange(first, logits.shape[1], device=logits.device)
    truth = (labels[:, None] == classes.view(1, -1, *(1,) * (labels.dim() - 1))) & seen[:, None]
    found = full_precision(logits).softmax(1)[:, first:] * seen[:, None]
    axes = tuple(range(2, logits.dim())) if per_image else (0, *range(2, logits.dim()))
    overlap = (found * truth).sum(axes)
    return 1 - ((2 * overlap + delta) / (truth.sum(axes) + found.sum(axes) + delta)).mean()


def dice(logits: torch.Tensor, target: torch.Tensor, *, smooth: float = 1e-5, ignore: int = IGNORE) -> torch.Tensor:
    """Return the Dice loss of the tutorials: :func:`soft_dice` with a smoothing constant that only prevents 0/0."""
    return soft_dice(logits, target, delta=smooth, ignore=ignore)


def cross_entropy_and_soft_dice(
    logits: torch.Tensor, target: torch.Tensor, *, beta: float = 0.5, delta: float = 1.0, ignore: int = IGNORE
) -> torch.Tensor:
    """beta * cross-entropy + (1 - beta) * soft Dice.

    Raises:
        ValueError: beta is not between 0 and 1.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta is {beta}: it must be between 0 and 1")
    entropy = cross_entropy(logits, target, ignore=ignore)
    return beta * entropy + (1 - beta) * soft_dice(logits, target, delta=delta, ignore=ignore)


def focal(
    logits: torch.Tensor, target: torch.Tensor, *, gamma: float = 2.0, alpha: float = 0.75, ignore: int = IGNORE
) -> torch.Tensor:
    """Mean of -a (1 - p)^gamma log p of the true label; a is alpha for a structure and 1 - alpha for background.

    The focal loss of Lin et al. 2017 for several classes, where every structure is positive. With gamma 0 and alpha 0.5
    it is half the cross-entropy.
    """
    labels, seen = _known(logits, target, ignore)
    log_p = full_precision(logits).log_softmax(1).gather(1, labels[:, None])[:, 0]
    weight = seen * torch.where(labels > 0, alpha, 1 - alpha)
    return -(weight * (1 - log_p.exp()) ** gamma * log_p).sum() / seen.sum().clamp(min=1)


def plain_focal(
    logits: torch.Tensor, target: torch.Tensor, *, gamma: float = 2.0, alpha: float = 0.75, ignore: int = IGNORE
) -> torch.Tensor:
    """Mean of -alpha (1 - p)^gamma log p of the true label, with the same alpha for every voxel (document 004)."""
    labels, seen = _known(logits, target, ignore)
    log_p = full_precision(logits).log_softmax(1).gather(1, labels[:, None])[:, 0]
    return -(seen * alpha * (1 - log_p.exp()) ** gamma * log_p).sum() / seen.sum().clamp(min=1)


def cross_entropy_plus_dice(
    logits: torch.Tensor, target: torch.Tensor, *, smoothing: float = 1.0, ignore: int = IGNORE
) -> torch.Tensor:
    """Cross-entropy + 1 - the mean over structures of 2 sum(y p) / (sum(y) + sum(p) + smoothing) (document 002).

    Only the denominator is smoothed, so a structure that is neither present nor predicted scores 0, not 1.
    """
    labels, seen = _known(logits, target, ignore)
    classes = torch.arange(1, logits.shape[1], device=logits.device)
    truth = (labels[:, None] == classes.view(1, -1, *(1,) * (labels.dim() - 1))) & seen[:, None]
    found = full_precision(logits).softmax(1)[:, 1:] * seen[:, None]
    axes = (0, *range(2, logits.dim()))
    scores = 2 * (found * truth).sum(axes) / (truth.sum(axes) + found.sum(axes) + smoothing)
    return cross_entropy(logits, target, ignore=ignore) + 1 - scores.mean()


RegionLoss = Callable[..., torch.Tensor]
"""Function of (logits, target, ignore=...) that returns a scalar: the functions above, or a ``functools.partial``."""

REGION_LOSSES: dict[str, RegionLoss] = {
    "cross-entropy": cross_entropy,
    "dice": dice,
    "soft-dice": soft_dice,
    "cross-entropy-dice": cross_entropy_and_soft_dice,
    "focal": focal,
    "plain-focal": plain_focal,
    "ce-plus-dice": cross_entropy_plus_dice,
}


@dataclass(frozen=True)
class RegionAndEdgeLoss:
    """L = L_region + alpha * L_edge for the training channels of a network with inner edges.

    Takes channels (b, 1 + 2K, ...) and a target with channel numbers 0 to 2K
    (:func:`~heartseg.training.edges.split_interior_edge`). L_region compares background and K whole structures with
    their labels; with alpha 0 it equals the loss of a network without edges. L_edge compares "no edge" and K inner
    edges. :mod:`~heartseg.networks.edge_channels` computes the logits of both.

    For logits (b, 1 + K, ...) of a network in evaluation mode, which joins edges and regions, the loss is L_region.

    Attributes:
        edge: ``"inner"`` or ``"head"``, as in the network.
        n_classes: number of structures, K.
        alpha: weight of the edges.
        base: loss function of both parts.
        ignore: label of ignored voxels.
        regions: ``"whole"``: L_region compares whole structures; ``"interior"``: it compares their interiors
            (``"inner"`` only).
    """

    edge: str
    n_classes: int
    alpha: float = 1.0
    base: RegionLoss = cross_entropy_and_soft_dice
    ignore: int = IGNORE
    regions: str = "whole"

    def __call__(self, channels: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        k = self.n_classes
        if channels.shape[1] not in (1 + k, 1 + 2 * k):
            raise ValueError(f"{channels.shape[1]} channels found: {k} structures need {1 + 2 * k}, or {1 + k} joined")
        regions = region_labels(target, k, self.ignore)
        if channels.shape[1] == 1 + k:
            return self.base(channels, regions, ignore=self.ignore)
        if self.regions == "interior" and self.edge == "inner":
            interiors = interior_labels(target, k, self.ignore)
            loss = self.base(interior_logits(channels), interiors, ignore=self.ignore)
        else:
            loss = self.base(region_logits(channels, self.edge), regions, ignore=self.ignore)
        if self.alpha:
            edges = edge_labels(target, k, self.ignore)
            loss = loss + self.alpha * self.base(edge_logits(channels, self.edge), edges, ignore=self.ignore)
        return loss


@dataclass(frozen=True)
class DeepSupervision:
    """Weighted mean of a loss over all resolutions of a decoder, with weights 1, 1/2, 1/4, ...

    Takes one output or a list of outputs, finest first, and the full-resolution target or a list of targets. A single
    target is subsampled to the coarser grids (nearest voxel). Edges are split before subsampling, so they keep their
    fraction of the voxels and their meaning at every resolution.
    """

    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def __call__(
        self, outputs: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor | Sequence[torch.Tensor]
    ) -> torch.Tensor:
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        if isinstance(target, torch.Tensor):
            target = [thin_out(target, o.shape[2:]) for o in outputs]
        weights = [0.5**i for i in range(len(outputs))]
        parts = [w * self.loss(o, t) for w, o, t in zip(weights, outputs, target, strict=True)]
        return torch.stack(parts).sum() / sum(weights)


def thin_out(target: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Subsample a label map (last axes spatial): keep the first of the voxels that each coarser voxel covers."""
    for axis, wanted in enumerate(size, start=target.dim() - len(size)):
        if target.shape[axis] != wanted:
            at = torch.arange(wanted, device=target.device) * target.shape[axis] // wanted
            target = target.index_select(axis, at)
    return target


def _known(logits: torch.Tensor, target: torch.Tensor, ignore: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return labels (b, ...) as int64, with 0 for ignored voxels, and the mask of voxels that are not ignored."""
    target = target[:, 0] if target.dim() == logits.dim() else target
    seen = target != ignore
    return torch.where(seen, target, torch.zeros_like(target)).long(), seen
