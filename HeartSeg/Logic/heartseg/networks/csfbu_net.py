"""CSFBU-Net: a U-Net with inner-edge channels and attention feature fusion on its skips; each part can be left out.

What was built and where it reads the founding document: docs/explanation/csfbu-net.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import ModelError
from .attention import ChannelWeights, SpatialWeights
from .blocks import ConvBlock, Operators, Shape, Sizes
from .edge_channels import channels_for, region_logits
from .plain_unet import UNet

FUSIONS = ("add", "concatenate")


class AttentionFusion(nn.Module):
    """Fuse the encoder's features L (``skip``) and the decoder's H (``up``), both (b, c, ...), into (b, 2c, ...).

    The channel-attended features are added, L·CAM(L) + H·CAM(H), and so are the spatially attended ones,
    L·SAM(L) + H·SAM(H). Each sum is concatenated with L + H and convolved to c channels; both results, side by side,
    go to the decoder stage in place of (H, L).

    Args:
        ops: classes to build of.
        channels: c.
        kernel: of the stage.
        fuse: ``"add"``, or ``"concatenate"``: every sum above becomes a concatenation.
    """

    def __init__(self, ops: Operators, channels: int, kernel: Sizes, fuse: str = "add") -> None:
        super().__init__()
        if fuse not in FUSIONS:
            raise ValueError(f"fuse is {fuse!r}: it must be one of {', '.join(FUSIONS)}")
        self.fuse = fuse
        wide = (2 if fuse == "add" else 4) * channels
        self.channel_low, self.channel_high = (ChannelWeights(ops, channels) for _ in range(2))
        self.spatial_low, self.spatial_high = (SpatialWeights(ops, kernel) for _ in range(2))
        self.by_channel, self.by_place = (ConvBlock(ops, wide, channels, kernel) for _ in range(2))

    def forward(self, skip: torch.Tensor, up: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        fused = self._fused(skip, up)
        by_channel = self._fused(skip * self.channel_low(skip), up * self.channel_high(up))
        by_place = self._fused(skip * self.spatial_low(skip), up * self.spatial_high(up))
        return torch.cat(
            (self.by_channel(torch.cat((by_channel, fused), 1)), self.by_place(torch.cat((by_place, fused), 1))), 1
        )

    def _fused(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        return low + high if self.fuse == "add" else torch.cat((low, high), 1)


class CSFBUNet(UNet):
    """CSFBU-Net for nnU-Net's plans, 2D and 3D.

    In training mode (``network.train()``) the call returns the :attr:`training_channels` that the losses want (layout:
    :mod:`~heartseg.networks.edge_channels`). In evaluation mode it returns ``num_classes`` logits, as every reader of a
    model folder expects: edges have joined their regions. Deep supervision makes either a list, finest first.

    Args:
        edge: ``"inner"``, ``"head"`` or ``"none"``: how inner edges are learnt.
        fusion: attention feature fusion on every skip; without it skips are concatenated as in a plain U-Net.
        fuse: ``"add"`` or ``"concatenate"`` the features that are fused.
        plans: every argument of :class:`~heartseg.networks.plain_unet.UNet`, by name.

    Without fusion the weights have the names of nnU-Net's ``PlainConvUNet``.
    """

    def __init__(self, *args: Any, edge: str = "inner", fusion: bool = True, fuse: str = "add", **plans: Any) -> None:
        num_classes = plans["num_classes"] if "num_classes" in plans else args[1]
        channels_for(edge, num_classes)
        self.edge, self.fusion, self.fuse = edge, fusion, fuse
        super().__init__(*args, **plans)

    @property
    def training_channels(self) -> int:
        """1 + 2K with edge supervision, else 1 + K."""
        return channels_for(self.edge, self.num_classes)

    def make_joins(self, ops: Operators, shape: Shape) -> list[nn.Module] | None:
        if not self.fusion:
            return None
        stages = list(zip(shape.features, shape.kernels, strict=True))[:-1]
        return [AttentionFusion(ops, channels, kernel, self.fuse) for channels, kernel in reversed(stages)]

    def stock_weights(self) -> dict[str, torch.Tensor]:
        """The weights of the same network as nnU-Net's ``PlainConvUNet``; the ``head`` variant loses its edge channels.

        Raises:
            ModelError: there is no such network: the skips are fused, or regions need the edge channels.
        """
        if self.fusion or self.edge == "inner":
            part = "attention fusion" if self.fusion else "inner-edge channels"
            raise ModelError(
                f"this CSFBU-Net has {part}, which no class of nnU-Net has: export one with fusion=False and "
                "edge='head' or 'none', or predict where heartseg is installed"
            )
        weights = self.state_dict()
        return {k: v[: self.num_classes].clone() if ".seg_layers." in k else v for k, v in weights.items()}

    def forward_training(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return the training channels, whatever the mode."""
        return self.decoder(self.encoder(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        channels = self.forward_training(x)
        if self.training:
            return channels
        if isinstance(channels, list):
            return [region_logits(c, self.edge) for c in channels]
        return region_logits(channels, self.edge)
