"""The integrated-attention network: scale features in the encoder, spatial and channel attention on every skip.

The founding document describes 5 + 5 levels; here the plan says how many.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import nn

from .attention import ChannelWeights
from .blocks import ConvBlock, Operators, Shape, Sizes
from .plain_unet import UNet

KEYS_PER_AXIS = {2: 8, 3: 4}
"""Pooled positions along an axis that each position is compared with: 64 in 2D and in 3D."""


class ScaleFeatures(nn.Module):
    """SFA: three receptive fields, added: conv3(conv3(conv1 x)) + conv3(conv1 x) + conv1 x, after max-pooling.

    Every convolution is followed by normalisation and activation. The document does not say how it goes down a level;
    max-pooling is the choice that adds no weights.
    """

    def __init__(self, ops: Operators, channels_in: int, channels_out: int, kernel: Sizes, stride: Sizes) -> None:
        super().__init__()
        steps = ops.per_axis(stride)
        pool = nn.MaxPool2d if ops.dims == 2 else nn.MaxPool3d
        self.pool = pool(steps) if max(steps) > 1 else nn.Identity()
        firsts = [ConvBlock(ops, channels_in, channels_out, 1) for _ in range(3)]
        more = [ConvBlock(ops, channels_out, channels_out, kernel) for _ in range(3)]
        self.far = nn.Sequential(firsts[0], more[0], more[1])
        self.middle = nn.Sequential(firsts[1], more[2])
        self.near = firsts[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(x)
        return self.far(x) + self.middle(x) + self.near(x)


class ScaleEncoder(nn.Module):
    """Scale features at every resolution, finest first."""

    def __init__(self, ops: Operators, shape: Shape) -> None:
        super().__init__()
        sizes = zip((shape.channels_in, *shape.features), shape.features, shape.kernels, shape.strides, strict=False)
        self.stages = nn.Sequential(*(ScaleFeatures(ops, *size) for size in sizes))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class PooledSelfAttention(nn.Module):
    """SA: out = x + a·x̃ with a = softmax(x·x̃ᵀ / sqrt(c)) and x̃ the positions of x averaged to at most 64.

    The document compares each position with every other, x·xᵀ, which is quadratic: 96³ voxels would need 3 TB for one
    map. Pooled keys make it linear. Its sigma is read as a softmax over the keys: a sum of sigmoids would grow with
    their number.
    """

    def __init__(self, ops: Operators) -> None:
        super().__init__()
        self.keys = KEYS_PER_AXIS[ops.dims]
        self.pool: Any = nnf.adaptive_avg_pool2d if ops.dims == 2 else nnf.adaptive_avg_pool3d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size: Any = tuple(min(self.keys, n) for n in x.shape[2:])
        keys = self.pool(x, size).flatten(2)
        queries = x.flatten(2).transpose(1, 2) / math.sqrt(x.shape[1])
        weights = torch.softmax(queries @ keys, -1)
        return x + (keys @ weights.transpose(1, 2)).view_as(x)


class IntegratedAttention(nn.Module):
    """SA, then CA (out = x + x·b with b the channel weights), on the skip; then beside the upsampled features."""

    def __init__(self, ops: Operators, channels: int) -> None:
        super().__init__()
        self.spatial = PooledSelfAttention(ops)
        self.channel = ChannelWeights(ops, channels)

    def forward(self, skip: torch.Tensor, up: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        skip = self.spatial(skip)
        return torch.cat((up, skip + skip * self.channel(skip)), 1)


class IntegratedAttentionNet(UNet):
    """SFA in the encoder, SA and CA on the skips; arguments as :class:`~heartseg.networks.plain_unet.UNet`.

    ``n_conv_per_stage`` is ignored: scale features have their own convolutions.
    """

    def make_encoder(self, ops: Operators, shape: Shape) -> nn.Module:
        return ScaleEncoder(ops, shape)

    def make_joins(self, ops: Operators, shape: Shape) -> list[nn.Module] | None:
        return [IntegratedAttention(ops, channels) for channels in shape.features[-2::-1]]
