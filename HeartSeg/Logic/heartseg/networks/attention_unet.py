"""Attention U-Net (Oktay et al. 2018): additive attention gates on the skips of a plain U-Net."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import nn

from .blocks import Operators, Shape, Sizes
from .plain_unet import UNet


class AttentionGate(nn.Module):
    """Weigh the skip's voxels by what the coarser features ask for, then put it beside the upsampled features.

    a = sigmoid(psi(ReLU(W_x skip + W_g below))) on the coarser grid (W_x has the stride), interpolated to the skip's.
    """

    def __init__(self, ops: Operators, channels: int, channels_below: int, stride: Sizes) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.mode = "bilinear" if ops.dims == 2 else "trilinear"
        self.of_skip = ops.conv_op(channels, hidden, ops.per_axis(stride), ops.per_axis(stride), bias=False)
        self.of_below = ops.convolution(channels_below, hidden)
        self.psi = ops.convolution(hidden, 1)

    def forward(self, skip: torch.Tensor, up: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        asked = torch.relu(self.of_skip(skip) + self.of_below(below))
        weights = torch.sigmoid(nnf.interpolate(self.psi(asked), skip.shape[2:], mode=self.mode, align_corners=False))
        return torch.cat((up, skip * weights), 1)


class AttentionUNet(UNet):
    """A plain U-Net with an attention gate on every skip; arguments as :class:`~heartseg.networks.plain_unet.UNet`."""

    def make_joins(self, ops: Operators, shape: Shape) -> list[nn.Module] | None:
        below = range(len(shape.features) - 1, 0, -1)
        return [AttentionGate(ops, shape.features[i - 1], shape.features[i], shape.strides[i]) for i in below]
