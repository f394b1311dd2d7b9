"""Adapt HeartSeg's losses to nnU-Net's training loop: lists of outputs and targets, edges computed on the fly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn

from ...errors import SettingsError
from ...synthesis.regions import IGNORE
from ..edges import split_interior_edge
from ..losses import REGION_LOSSES, DeepSupervision, RegionAndEdgeLoss, RegionLoss, cross_entropy_and_soft_dice
from .names import is_dotted, named_object
from .presets import Preset


def region_loss(preset: Preset) -> RegionLoss:
    """Return the loss of a preset for regions and edges: a built-in loss, or a loss of the user by dotted name.

    Raises:
        SettingsError: the dotted name cannot be imported.
    """
    if is_dotted(preset.loss):
        return partial(named_object(preset.loss, "loss"), ignore=IGNORE)
    if preset.loss in REGION_LOSSES:
        return REGION_LOSSES[preset.loss]
    return partial(cross_entropy_and_soft_dice, beta=preset.beta, delta=preset.delta)  # no edges in nnU-Net's loss


def edge_labels(preset: Preset, labels: Mapping[str, int]) -> tuple[int, ...] | None:
    """Return the labels whose inner edges a preset learns, from the label names of the data set; ``None``: all.

    Raises:
        SettingsError: the data set has no such label.
    """
    if preset.edge_structures is None:
        return None
    known = [name for name in labels if name != "background"]
    for name in preset.edge_structures:
        if name not in known:
            raise SettingsError(f"edge structure {name!r} is not a label of the data: use some of {', '.join(known)}")
    return tuple(labels[name] for name in preset.edge_structures)


class TrainingLoss(nn.Module):
    """Region loss and, for networks with edges, alpha times the edge loss, over all resolutions of the decoder.

    Edges are computed from the full-resolution labels on the device of the labels, and subsampled with them.

    Args:
        preset: loss settings.
        structures: number of labels K, without background.
        spacing: spacing of the patch axes, (z, y, x) or (y, x), mm, which determines the erosion.
        edge_labels: labels whose inner edges are learnt; ``None``: all.
    """

    def __init__(
        self,
        preset: Preset,
        structures: int,
        spacing: Sequence[float],
        edge_labels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.edge_labels = edge_labels
        self.erosion, self.structures, self.spacing = preset.erosion, structures, tuple(float(s) for s in spacing)
        self.edges = preset.edges
        base = region_loss(preset)
        self.at_one_resolution = (
            base
            if self.edges == "none"
            else RegionAndEdgeLoss(self.edges, structures, preset.alpha, base, regions=preset.regions)
        )
        self.over_all = DeepSupervision(self.at_one_resolution)

    def forward(
        self, outputs: torch.Tensor | list[torch.Tensor], targets: torch.Tensor | list[torch.Tensor]
    ) -> torch.Tensor:
        """Return the loss.

        Args:
            outputs: (b, c, ...) logits, or a list of them, finest first.
            targets: (b, 1, ...) labels 0..K; of a list only the first, full-resolution one is used.
        """
        labels = (targets[0] if isinstance(targets, list) else targets)[:, 0]
        if self.edges != "none":
            labels = split_interior_edge(labels, self.spacing, self.erosion, self.structures, only=self.edge_labels)
        return self.over_all(outputs, labels)
