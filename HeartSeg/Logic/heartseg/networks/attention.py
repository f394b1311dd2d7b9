"""Attention modules that the networks share, 2D and 3D.

Channel and spatial attention are those of CBAM (Woo et al. 2018), which the founding documents use.
"""

from __future__ import annotations

import torch
from torch import nn

from .blocks import Operators, Sizes

REDUCTION = 8
"""Channels per hidden unit of the channel attention's perceptron."""
LEAST_HIDDEN = 4
SPATIAL_KERNEL = 7


class ChannelWeights(nn.Module):
    """One weight per channel: sigmoid(MLP(mean over space) + MLP(maximum over space)), the MLP shared.

    (b, c, ...) to (b, c, 1, ...), between 0 and 1.
    """

    def __init__(self, ops: Operators, channels: int) -> None:
        super().__init__()
        hidden = max(LEAST_HIDDEN, channels // REDUCTION)
        self.axes = tuple(range(2, 2 + ops.dims))
        self.mlp = nn.Sequential(ops.convolution(channels, hidden), nn.ReLU(), ops.convolution(hidden, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, largest = x.mean(self.axes, keepdim=True), x.amax(self.axes, keepdim=True)
        return torch.sigmoid(self.mlp(mean) + self.mlp(largest))


class SpatialWeights(nn.Module):
    """One weight per voxel: sigmoid(conv7([mean over channels, maximum over channels])).

    (b, c, ...) to (b, 1, ...), between 0 and 1. Along an axis that the stage itself does not convolve (kernel 1, thick
    slices), neither does this convolution.
    """

    def __init__(self, ops: Operators, kernel: Sizes = 3) -> None:
        super().__init__()
        sizes = tuple(SPATIAL_KERNEL if n > 1 else 1 for n in ops.per_axis(kernel))
        self.conv = ops.convolution(2, 1, sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.conv(torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)))
