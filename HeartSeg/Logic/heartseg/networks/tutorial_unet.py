"""The U-Net of the tutorials (Ronneberger et al. 2015, in its common form): the simplest baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import nn

from .blocks import ConvBlock, Operators, Shape
from .plain_unet import UNet

LEVELS_3D = 2
"""Times that the 3D form halves its grid, at most."""


class DoubleConv(nn.Sequential):
    """Convolution, batch normalisation, ReLU; twice, or ``count`` times."""

    def __init__(
        self, ops: Operators, channels_in: int, channels_out: int, kernel: tuple[int, ...], count: int = 2
    ) -> None:
        sizes = [channels_in] + [channels_out] * count
        super().__init__(*(ConvBlock(ops, sizes[i], sizes[i + 1], kernel) for i in range(count)))


class PoolingEncoder(nn.Module):
    """Double convolutions, max-pooling between them; features at every resolution, finest first."""

    def __init__(self, ops: Operators, shape: Shape, count: int = 2) -> None:
        super().__init__()
        pool = nn.MaxPool2d if ops.dims == 2 else nn.MaxPool3d
        sizes = zip((shape.channels_in, *shape.features), shape.features, shape.kernels, strict=False)
        self.stages = nn.ModuleList(DoubleConv(ops, *size, count) for size in sizes)
        self.pools = nn.ModuleList(pool(stride) if max(stride) > 1 else nn.Identity() for stride in shape.strides)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        skips = []
        for pool, stage in zip(self.pools, self.stages, strict=True):
            x = stage(pool(x))
            skips.append(x)
        return skips


class InterpolatingDecoder(nn.Module):
    """Linear interpolation up, zero padding to the skip's size, double convolution; logits as in the plain U-Net."""

    def __init__(
        self,
        ops: Operators,
        shape: Shape,
        channels_out: int,
        deep_supervision: bool,
        count: int = 2,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.deep_supervision = deep_supervision
        self.mode = "bilinear" if ops.dims == 2 else "trilinear"
        self.factors = [tuple(float(n) for n in stride) for stride in shape.strides[:0:-1]]
        stages, heads = [], []
        for i in range(len(shape.features) - 1, 0, -1):
            below, here = shape.features[i], shape.features[i - 1]
            stages.append(DoubleConv(ops, below + here, here, shape.kernels[i - 1], count))
            heads.append(ops.convolution(here, channels_out))
        self.stages, self.seg_layers = nn.ModuleList(stages), nn.ModuleList(heads)

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        x, logits = skips[-1], []
        for level, (stage, factor) in enumerate(zip(self.stages, self.factors, strict=True)):
            skip = skips[-(level + 2)]
            up = nnf.interpolate(x, scale_factor=factor, mode=self.mode, align_corners=self.align_corners)
            x = stage(torch.cat((skip, pad_to(up, skip.shape[2:])), 1))
            if self.deep_supervision:
                logits.append(self.seg_layers[level](x))
        return logits[::-1] if self.deep_supervision else self.seg_layers[-1](x)


def pad_to(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Return ``x`` padded with zeros on both sides to a spatial size (max-pooling drops the odd voxel)."""
    missing: list[int] = []
    for wanted, there in zip(reversed(size), reversed(x.shape[2:]), strict=True):
        missing += [(wanted - there) // 2, wanted - there - (wanted - there) // 2]
    return nnf.pad(x, missing)


class TutorialUNet(UNet):
    """Double conv-BN-ReLU, max-pooling, linear interpolation up with padding; any input size, 2D and 3D.

    It takes stages, features, kernels and strides from the plan and ignores ``n_conv_per_stage``, ``norm_op`` and
    ``nonlin``: batch normalisation and ReLU make it the tutorials' network.

    Args:
        levels_3d: times that the 3D form halves the grid, at most; deep supervision returns as many outputs.
        convolutions: per stage: 2, or 1 as in the 3D network of document 004.
        align_corners: let the outermost pixels of the interpolated map fall on those of the coarse one, as the
            tutorials' code does. The default aligns the pixels' outer edges, which keeps maps in place.
        plans: every argument of :class:`~heartseg.networks.plain_unet.UNet`.
    """

    def __init__(
        self,
        *args: Any,
        levels_3d: int = LEVELS_3D,
        convolutions: int = 2,
        align_corners: bool = False,
        **plans: Any,
    ) -> None:
        self.levels_3d, self.convolutions, self.align_corners = levels_3d, convolutions, align_corners
        super().__init__(*args, **plans)

    def build(self, ops: Operators, shape: Shape, deep_supervision: bool) -> None:
        norm = nn.BatchNorm2d if ops.dims == 2 else nn.BatchNorm3d
        ops = replace(
            ops, conv_bias=False, norm_op=norm, norm_op_kwargs={}, nonlin=nn.ReLU, nonlin_kwargs={"inplace": True}
        )
        if ops.dims == 3:
            n = min(len(shape.features), self.levels_3d + 1)
            shape = Shape(
                shape.channels_in,
                shape.features[:n],
                shape.kernels[:n],
                shape.strides[:n],
                shape.convolutions[:n],
                shape.decoder_convolutions[: n - 1],
            )
        self.encoder = PoolingEncoder(ops, shape, self.convolutions)
        self.decoder = InterpolatingDecoder(
            ops, shape, self.training_channels, deep_supervision, self.convolutions, self.align_corners
        )
