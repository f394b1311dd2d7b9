"""Generator and discriminator of the CycleGAN paper, for images with one channel."""

from __future__ import annotations

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with reflection padding and instance norm, added to their input (Johnson et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_block(channels, nn.ReLU(inplace=True)), *_block(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def _block(channels: int, *after: nn.Module) -> tuple[nn.Module, ...]:
    return nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels), *after


class ResNetGenerator(nn.Module):
    """ResNet-``blocks``: two strided convolutions down, residual blocks, two transposed convolutions up, tanh.

    Input and output are (b, 1, y, x) float32 in [-1, 1]; y and x must be multiples of 4 and at least 16 (reflection
    padding needs more pixels than it adds). The generator has no position information.

    Args:
        filters: channels of the first layer; 64 in the paper.
        blocks: residual blocks; 9 in the paper for 256 x 256 pixels, 6 for 128 x 128.
    """

    def __init__(self, filters: int = 64, blocks: int = 9) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(1, filters, 7), *_norm_relu(filters)]
        for wide in (2 * filters, 4 * filters):
            layers += [nn.Conv2d(wide // 2, wide, 3, stride=2, padding=1), *_norm_relu(wide)]
        layers += [ResidualBlock(4 * filters) for _ in range(blocks)]
        for narrow in (2 * filters, filters):
            up = nn.ConvTranspose2d(2 * narrow, narrow, 3, stride=2, padding=1, output_padding=1)
            layers += [up, *_norm_relu(narrow)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(filters, 1, 7), nn.Tanh()]
        self.body = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)


class PatchDiscriminator(nn.Module):
    """PatchGAN: classifies 70 x 70 patches (Isola et al. 2017); (b, 1, y, x) to (b, 1, y / 8 - 2, x / 8 - 2) logits.

    Args:
        filters: channels of the first layer; 64 in the paper.
    """

    def __init__(self, filters: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, filters, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for before, after, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            layers += [
                nn.Conv2d(before * filters, after * filters, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(after * filters),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.body = nn.Sequential(*layers, nn.Conv2d(8 * filters, 1, 4, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def initialise(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw weights from N(0, 0.02) and set biases to 0, in place, as in the paper; return the network."""
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.normal_(0, 0.02, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
    return network
