"""The plain U-Net of nnU-Net v2, in torch alone, with the same names for its weights.

It exists for machines where training runs without nnU-Net's packages: weights trained here load into
``dynamic_network_architectures.architectures.unet.PlainConvUNet`` and the other way round (a test holds it).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class ConvBlock(nn.Module):
    """3x3x3 convolution, instance normalisation, leaky ReLU: (b, c, z, y, x) to (b, d, z/s, y/s, x/s)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels_out, 3, stride, padding=1)
        self.norm = nn.InstanceNorm3d(channels_out, eps=1e-5, affine=True)
        self.nonlin = nn.LeakyReLU(inplace=True)
        self.all_modules = nn.Sequential(self.conv, self.norm, self.nonlin)  # the names that nnU-Net's weights have

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.all_modules(x)


class StackedBlocks(nn.Module):
    """``count`` blocks, the first with the stride."""

    def __init__(self, count: int, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        blocks = [ConvBlock(channels_in, channels_out, stride)]
        blocks += [ConvBlock(channels_out, channels_out) for _ in range(count - 1)]
        self.convs = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x)


class Encoder(nn.Module):
    """Features at every resolution, finest first; each stage after the first halves the grid."""

    def __init__(self, channels_in: int, features: Sequence[int], count: int) -> None:
        super().__init__()
        stages, previous = [], channels_in
        for level, channels in enumerate(features):
            stages.append(nn.Sequential(StackedBlocks(count, previous, channels, 1 if level == 0 else 2)))
            previous = channels
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class Decoder(nn.Module):
    """Back to full resolution; logits from every level (finest first) or, without deep supervision, from the last."""

    def __init__(
        self, encoder: Encoder, features: Sequence[int], n_classes: int, count: int, deep_supervision: bool
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.encoder = encoder
        stages, up, heads = [], [], []
        for level in range(len(features) - 1, 0, -1):
            below, here = features[level], features[level - 1]
            up.append(nn.ConvTranspose3d(below, here, 2, 2))
            stages.append(StackedBlocks(count, 2 * here, here))
            heads.append(nn.Conv3d(here, n_classes, 1))
        self.stages, self.transpconvs, self.seg_layers = (nn.ModuleList(m) for m in (stages, up, heads))

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        x, logits = skips[-1], []
        for level, stage in enumerate(self.stages):
            x = stage(torch.cat((self.transpconvs[level](x), skips[-(level + 2)]), 1))
            if self.deep_supervision:
                logits.append(self.seg_layers[level](x))
        return logits[::-1] if self.deep_supervision else self.seg_layers[-1](x)


class PlainUNet(nn.Module):
    """U-Net of plain convolutions (Isensee et al. 2021): (b, c, z, y, x) float to logits (b, n_classes, z, y, x).

    Args:
        features: channels of each resolution level.
        channels_in: image channels.
        n_classes: labels with background.
        convolutions: blocks per level, in the encoder and in the decoder.
        deep_supervision: return a list of logits, at full, 1/2, 1/4, ... resolution.

    Each axis of the input must be a multiple of ``2 ** (len(features) - 1)``.
    """

    def __init__(
        self,
        features: Sequence[int],
        channels_in: int = 1,
        n_classes: int = 8,
        convolutions: int = 2,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(channels_in, features, convolutions)
        self.decoder = Decoder(self.encoder, features, n_classes, convolutions, deep_supervision)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        return self.decoder(self.encoder(x))
