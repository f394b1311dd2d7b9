"""Parts of the U-Nets: convolution blocks, encoder and decoder, 2D and 3D, as nnU-Net's plans describe them.

Weights have the names that nnU-Net v2 gives them, so that checkpoints exchange wherever the parts are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Sizes = int | Sequence[int]
"""One number for all axes, or one per axis, (z, y, x) or (y, x)."""


@dataclass(frozen=True)
class Operators:
    """The classes that a plan names, with their arguments.

    Attributes:
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``; it decides between 2D and 3D.
        conv_bias: whether convolutions have a bias.
        norm_op, dropout_op, nonlin: module classes, or None to leave the step out.
        norm_op_kwargs, dropout_op_kwargs, nonlin_kwargs: their arguments.
        nonlin_first: activate before normalising instead of after.

    Raises:
        ValueError: ``conv_op`` is neither 2D nor 3D.
    """

    conv_op: type[nn.Module]
    conv_bias: bool = True
    norm_op: type[nn.Module] | None = None
    norm_op_kwargs: dict[str, Any] = field(default_factory=dict)
    dropout_op: type[nn.Module] | None = None
    dropout_op_kwargs: dict[str, Any] = field(default_factory=dict)
    nonlin: type[nn.Module] | None = None
    nonlin_kwargs: dict[str, Any] = field(default_factory=dict)
    nonlin_first: bool = False

    def __post_init__(self) -> None:
        if self.conv_op not in (nn.Conv2d, nn.Conv3d):
            raise ValueError(f"conv_op is {self.conv_op!r}: it must be torch.nn.Conv2d or torch.nn.Conv3d")

    @property
    def dims(self) -> int:
        """Spatial axes: 2 or 3."""
        return 2 if self.conv_op is nn.Conv2d else 3

    def per_axis(self, sizes: Sizes) -> tuple[int, ...]:
        """Return one whole number per axis."""
        return (sizes,) * self.dims if isinstance(sizes, int) else tuple(int(n) for n in sizes)

    def convolution(
        self, channels_in: int, channels_out: int, kernel: Sizes = 1, stride: Sizes = 1, bias: bool = True
    ) -> nn.Module:
        """Return a convolution that keeps the grid except for its stride (odd kernels)."""
        sizes = self.per_axis(kernel)
        return self.conv_op(
            channels_in,
            channels_out,
            sizes,
            self.per_axis(stride),
            padding=tuple((n - 1) // 2 for n in sizes),
            bias=bias,
        )

    def transposed(self, channels_in: int, channels_out: int, stride: Sizes) -> nn.Module:
        """Return the transposed convolution that undoes a stride."""
        op = nn.ConvTranspose2d if self.dims == 2 else nn.ConvTranspose3d
        sizes: Any = self.per_axis(stride)
        return op(channels_in, channels_out, sizes, sizes, bias=self.conv_bias)


class ConvBlock(nn.Module):
    """Convolution, dropout, normalisation, activation (each but the first optional): (b, c, ...) to (b, d, .../s)."""

    def __init__(
        self, ops: Operators, channels_in: int, channels_out: int, kernel: Sizes = 3, stride: Sizes = 1
    ) -> None:
        super().__init__()
        self.conv = ops.convolution(channels_in, channels_out, kernel, stride, ops.conv_bias)
        parts = [self.conv]
        if ops.dropout_op is not None:
            self.dropout = ops.dropout_op(**ops.dropout_op_kwargs)
            parts.append(self.dropout)
        if ops.norm_op is not None:
            self.norm = ops.norm_op(channels_out, **ops.norm_op_kwargs)
            parts.append(self.norm)
        if ops.nonlin is not None:
            self.nonlin = ops.nonlin(**ops.nonlin_kwargs)
            parts.append(self.nonlin)
        if ops.nonlin_first and ops.norm_op is not None and ops.nonlin is not None:
            parts[-2:] = self.nonlin, self.norm
        self.all_modules = nn.Sequential(*parts)  # each weight has two names, as in nnU-Net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.all_modules(x)


class StackedBlocks(nn.Module):
    """``count`` blocks, the first with the stride."""

    def __init__(
        self, ops: Operators, count: int, channels_in: int, channels_out: int, kernel: Sizes = 3, stride: Sizes = 1
    ) -> None:
        super().__init__()
        blocks = [ConvBlock(ops, channels_in, channels_out, kernel, stride)]
        blocks += [ConvBlock(ops, channels_out, channels_out, kernel) for _ in range(count - 1)]
        self.convs = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x)


@dataclass(frozen=True)
class Shape:
    """Sizes of a U-Net, one entry per resolution stage, finest first.

    Attributes:
        channels_in: image channels.
        features: channels of each stage.
        kernels: kernel of each stage, per axis.
        strides: stride at the beginning of each stage, per axis; the first is usually 1.
        convolutions: blocks of each encoder stage.
        decoder_convolutions: blocks of each decoder stage, coarsest first; one fewer.
    """

    channels_in: int
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    convolutions: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]

    def __post_init__(self) -> None:
        n = len(self.features)
        given = {"kernel_sizes": self.kernels, "strides": self.strides, "n_conv_per_stage": self.convolutions}
        for name, values in given.items():
            if len(values) != n:
                raise ValueError(f"{name} has {len(values)} entries for {n} stages: it must have one per stage")
        if len(self.decoder_convolutions) != n - 1:
            raise ValueError(
                f"n_conv_per_stage_decoder has {len(self.decoder_convolutions)} entries for {n} stages: "
                f"it must have {n - 1}"
            )


def read_shape(
    ops: Operators,
    channels_in: int,
    n_stages: int,
    features_per_stage: Sizes,
    kernel_sizes: Sizes | Sequence[Sizes],
    strides: Sizes | Sequence[Sizes],
    n_conv_per_stage: Sizes,
    n_conv_per_stage_decoder: Sizes,
) -> Shape:
    """Return the sizes in a plan, where one number may stand for all stages.

    Raises:
        ValueError: a list does not fit the number of stages.
    """

    def listed(value: Any, count: int) -> tuple[Any, ...]:
        return (value,) * count if isinstance(value, int) else tuple(value)

    features = listed(features_per_stage, n_stages)
    if len(features) != n_stages:
        raise ValueError(
            f"features_per_stage has {len(features)} entries for {n_stages} stages: it must have one per stage"
        )
    return Shape(
        channels_in,
        features,
        tuple(ops.per_axis(k) for k in listed(kernel_sizes, n_stages)),
        tuple(ops.per_axis(s) for s in listed(strides, n_stages)),
        listed(n_conv_per_stage, n_stages),
        listed(n_conv_per_stage_decoder, n_stages - 1),
    )


class Encoder(nn.Module):
    """Features at every resolution, finest first; each stage begins with its stride."""

    def __init__(self, ops: Operators, shape: Shape) -> None:
        super().__init__()
        stages, previous = [], shape.channels_in
        for channels, kernel, stride, count in zip(
            shape.features, shape.kernels, shape.strides, shape.convolutions, strict=True
        ):
            stages.append(nn.Sequential(StackedBlocks(ops, count, previous, channels, kernel, stride)))
            previous = channels
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class Decoder(nn.Module):
    """Decode to full resolution; logits of every level (finest first) or, without deep supervision, of the last.

    Args:
        encoder: kept under the name ``encoder`` too, because nnU-Net's weights are.
        ops, shape: what to build of and how large.
        channels_out: logits.
        deep_supervision: return a list; may be changed at any time (nnU-Net does).
        joins: one module per level, coarsest first, that makes the 2c channels a stage works on of the skip (c
            channels), the upsampled features (c) and the features below; None: the first two side by side.
    """

    def __init__(
        self,
        encoder: nn.Module,
        ops: Operators,
        shape: Shape,
        channels_out: int,
        deep_supervision: bool,
        joins: Sequence[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.encoder = encoder
        stages, up, heads = [], [], []
        for below in range(len(shape.features) - 1, 0, -1):
            here = shape.features[below - 1]
            up.append(ops.transposed(shape.features[below], here, shape.strides[below]))
            count = shape.decoder_convolutions[len(shape.features) - 1 - below]
            stages.append(StackedBlocks(ops, count, 2 * here, here, shape.kernels[below - 1]))
            heads.append(ops.convolution(here, channels_out))
        self.stages, self.transpconvs, self.seg_layers = (nn.ModuleList(m) for m in (stages, up, heads))
        self.joins = None if joins is None else nn.ModuleList(joins)

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Decode the features of the encoder; the list is emptied, so that each is free once it is used."""
        x, logits = skips.pop(), []
        for level, stage in enumerate(self.stages):
            x = stage(self._joined(level, skips, x))
            if self.deep_supervision:
                logits.append(self.seg_layers[level](x))
        return logits[::-1] if self.deep_supervision else self.seg_layers[-1](x)

    def _joined(self, level: int, skips: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Take the last skip from the list and join it with the upsampled features."""
        skip, up = skips.pop(), self.transpconvs[level](x)
        return torch.cat((up, skip), 1) if self.joins is None else self.joins[level](skip, up, x)


def initialise(module: nn.Module) -> None:
    """He initialisation for leaky ReLU, biases zero: nnU-Net's own (``network.apply(network.initialize)``)."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=1e-2)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
