"""The plain U-Net of nnU-Net v2, in torch alone, with the same names for its weights.

It exists for machines where training runs without nnU-Net's packages: weights trained here load into
``dynamic_network_architectures.architectures.unet.PlainConvUNet`` and vice versa (a test checks this).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .blocks import Decoder, Encoder, Operators, Shape, Sizes, initialise, read_shape


class UNet(nn.Module):
    """U-Net of plain convolutions (Isensee et al. 2021), 2D and 3D, built from the arguments that nnU-Net's plans hold.

    (b, c, z, y, x) or (b, c, y, x) float to logits with ``num_classes`` channels on the same grid, or, with deep
    supervision, a list of them at full, 1/2, 1/4, ... resolution. Each axis must be a multiple of the product of its
    strides.

    Args:
        input_channels: image channels.
        num_classes: labels with background.
        n_stages: resolution stages.
        features_per_stage, kernel_sizes, strides, n_conv_per_stage: one entry per stage, or one number for all.
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``.
        n_conv_per_stage_decoder: blocks per decoder stage, coarsest first.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs,
            nonlin_first: see :class:`~heartseg.networks.blocks.Operators`.
        deep_supervision: return logits of every resolution; ``network.decoder.deep_supervision`` changes it later.

    Raises:
        ValueError: sizes do not fit the number of stages, or ``conv_op`` is neither 2D nor 3D.
    """

    initialize = staticmethod(initialise)

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        n_stages: int,
        features_per_stage: Sizes,
        conv_op: type[nn.Module],
        kernel_sizes: Sizes | Sequence[Sizes],
        strides: Sizes | Sequence[Sizes],
        n_conv_per_stage: Sizes,
        n_conv_per_stage_decoder: Sizes,
        conv_bias: bool = False,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict[str, Any] | None = None,
        dropout_op: type[nn.Module] | None = None,
        dropout_op_kwargs: dict[str, Any] | None = None,
        nonlin: type[nn.Module] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
        deep_supervision: bool = False,
        nonlin_first: bool = False,
    ) -> None:
        super().__init__()
        ops = Operators(
            conv_op,
            conv_bias,
            norm_op,
            norm_op_kwargs or {},
            dropout_op,
            dropout_op_kwargs or {},
            nonlin,
            nonlin_kwargs or {},
            nonlin_first,
        )
        shape = read_shape(
            ops,
            input_channels,
            n_stages,
            features_per_stage,
            kernel_sizes,
            strides,
            n_conv_per_stage,
            n_conv_per_stage_decoder,
        )
        self.num_classes = num_classes
        self.build(ops, shape, deep_supervision)

    @property
    def training_channels(self) -> int:
        """Channels that the network returns in training mode."""
        return self.num_classes

    def build(self, ops: Operators, shape: Shape, deep_supervision: bool) -> None:
        """Make ``encoder`` and ``decoder``; networks that differ from the plain U-Net override the parts."""
        self.encoder = self.make_encoder(ops, shape)
        joins = self.make_joins(ops, shape)
        self.decoder: nn.Module = Decoder(self.encoder, ops, shape, self.training_channels, deep_supervision, joins)

    def make_encoder(self, ops: Operators, shape: Shape) -> nn.Module:
        """Return a module that returns the features of every stage, finest first."""
        return Encoder(ops, shape)

    def make_joins(self, ops: Operators, shape: Shape) -> list[nn.Module] | None:
        """Return the modules that join skips and upsampled features (:class:`~heartseg.networks.blocks.Decoder`)."""
        return None

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        return self.decoder(self.encoder(x))


class PlainUNet(UNet):
    """The 3D plain U-Net of the default model: 3x3x3 convolutions, instance normalisation, leaky ReLU, strides of 2.

    Args:
        features: channels of each resolution level.
        channels_in: image channels.
        n_classes: labels with background.
        convolutions: blocks per level, in the encoder and in the decoder.
        deep_supervision: return a list of logits, at full, 1/2, 1/4, ... resolution.

    Each axis of the input must be a multiple of ``2 ** (len(features) - 1)``.
    """

    decoder: Decoder

    def __init__(
        self,
        features: Sequence[int],
        channels_in: int = 1,
        n_classes: int = 8,
        convolutions: int = 2,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__(
            input_channels=channels_in,
            num_classes=n_classes,
            n_stages=len(features),
            features_per_stage=features,
            conv_op=nn.Conv3d,
            kernel_sizes=3,
            strides=[1] + [2] * (len(features) - 1),
            n_conv_per_stage=convolutions,
            n_conv_per_stage_decoder=convolutions,
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=deep_supervision,
        )
