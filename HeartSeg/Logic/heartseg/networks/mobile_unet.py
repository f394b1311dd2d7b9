"""A light U-Net: MobileNetV3 blocks (Howard et al. 2019) in the encoder, the plain U-Net's decoder; 2D and 3D."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from .blocks import ConvBlock, Operators, Shape, Sizes
from .plain_unet import UNet

EXPANSION = 2
"""Channels of a block's inside, per channel that goes in. The paper has 1 to 6 on few channels; with as many channels
as nnU-Net plans, 2 makes a block lighter than the convolution in its place."""
SQUEEZE = 4
"""Channels per hidden unit of the squeeze-and-excitation."""
FEWEST_HIDDEN = 8


class SqueezeExcitation(nn.Module):
    """Channels weighed by what the whole map holds: x * hard-sigmoid(W2 ReLU(W1 mean x)) (Hu et al. 2018)."""

    def __init__(self, ops: Operators, channels: int) -> None:
        super().__init__()
        hidden = max(FEWEST_HIDDEN, channels // SQUEEZE)
        self.axes = tuple(range(2, 2 + ops.dims))
        self.weigh = nn.Sequential(
            ops.convolution(channels, hidden), nn.ReLU(), ops.convolution(hidden, channels), nn.Hardsigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weigh(x.mean(self.axes, keepdim=True))


class InvertedResidual(nn.Module):
    """Expand by 1x1, convolve every channel on its own (with the stride), weigh the channels, project by 1x1.

    The input is added where stride and channels allow. Every convolution but the last is followed by normalisation and
    hard swish, the last by normalisation alone.
    """

    def __init__(self, ops: Operators, channels_in: int, channels_out: int, kernel: Sizes, stride: Sizes) -> None:
        super().__init__()
        inside = EXPANSION * channels_in
        self.expand = ConvBlock(ops, channels_in, inside, 1)
        sizes: Any = ops.per_axis(kernel)
        self.each = ops.conv_op(
            inside,
            inside,
            sizes,
            ops.per_axis(stride),
            padding=tuple((n - 1) // 2 for n in sizes),
            groups=inside,
            bias=ops.norm_op is None,
        )
        self.norm = ops.norm_op(inside, **ops.norm_op_kwargs) if ops.norm_op else nn.Identity()
        self.act = nn.Hardswish()
        self.excite = SqueezeExcitation(ops, inside)
        self.project = ops.convolution(inside, channels_out, 1, bias=ops.norm_op is None)
        self.last_norm = ops.norm_op(channels_out, **ops.norm_op_kwargs) if ops.norm_op else nn.Identity()
        self.adds = channels_in == channels_out and max(ops.per_axis(stride)) == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = self.act(self.norm(self.each(self.expand(x))))
        found = self.last_norm(self.project(self.excite(inside)))
        return x + found if self.adds else found


class MobileEncoder(nn.Module):
    """Inverted residual blocks at every resolution, finest first; the first stage begins with a convolution."""

    def __init__(self, ops: Operators, shape: Shape) -> None:
        super().__init__()
        stages, previous = [], shape.features[0]
        first = ConvBlock(ops, shape.channels_in, previous, shape.kernels[0])
        for i, (channels, kernel, stride) in enumerate(zip(shape.features, shape.kernels, shape.strides, strict=True)):
            blocks = [InvertedResidual(ops, previous, channels, kernel, stride)]
            blocks += [InvertedResidual(ops, channels, channels, kernel, 1) for _ in range(shape.convolutions[i] - 1)]
            stages.append(nn.Sequential(*([first] if i == 0 else []), *blocks))
            previous = channels
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class MobileUNet(UNet):
    """MobileNetV3 blocks in the encoder; arguments as :class:`~heartseg.networks.plain_unet.UNet`.

    ``nonlin`` is used by the decoder alone: the encoder's activation is hard swish.
    """

    def make_encoder(self, ops: Operators, shape: Shape) -> nn.Module:
        return MobileEncoder(replace(ops, nonlin=nn.Hardswish, nonlin_kwargs={}), shape)
