"""Arithmetic and memory cost of one tile, estimated from the plans without building the network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .folder import ModelFolder


@dataclass(frozen=True)
class TileCost:
    """Cost of one tile for one network.

    Attributes:
        gflop: additions and multiplications of the convolutions, in 10^9.
        values: peak number of activation values in memory.
        parameters: number of weights.
    """

    gflop: float
    values: int
    parameters: int

    def bytes(self, bytes_per_value: int) -> int:
        """Memory for one tile: twice the activations, plus the weights in float32.

        Measured on the CPU with ``torch.profiler``, the peak is 1.13 times (fine network of the default model) and 1.44
        times (its finder) the activations; the factor of 2 leaves room for library workspace.
        """
        return 2 * self.values * bytes_per_value + 4 * self.parameters


def tile_cost(folder: ModelFolder) -> TileCost | None:
    """Cost of a U-Net with the arguments of nnU-Net; ``None`` for other networks.

    Counts a plain U-Net only, without the additional blocks of HeartSeg's networks: CSFBU-Net costs 1.9 times as much
    as returned here.

    Convolutions are counted as in ``torch.utils.flop_counter``: 2 × kernel volume × input channels × output channels ×
    output voxels. The peak is at the last decoder stage, which holds all skip connections, the concatenated input, and
    the input and output of a convolution.
    """
    kwargs = folder.network.kwargs
    try:
        stages = [int(v) for v in kwargs["features_per_stage"]]
        axes = len(folder.patch_size)
        kernels = [_per_axis(v, axes) for v in _per_stage(kwargs["kernel_sizes"], len(stages))]
        strides = [_per_axis(v, axes) for v in _per_stage(kwargs["strides"], len(stages))]
        convolutions = _per_stage(kwargs.get("n_conv_per_stage", kwargs.get("n_blocks_per_stage")), len(stages))
        decoder = _per_stage(kwargs["n_conv_per_stage_decoder"], len(stages) - 1)
    except (KeyError, TypeError, ValueError):
        return None
    per_block = 1 if "n_conv_per_stage" in kwargs else 2  # a residual block has two convolutions
    sizes = _sizes(folder.patch_size, strides)
    flop = parameters = 0
    channels = folder.num_input_channels
    for features, kernel, count, voxels in zip(stages, kernels, convolutions, sizes, strict=True):
        for _ in range(int(count) * per_block):
            weights = math.prod(kernel) * channels * features
            flop += 2 * weights * voxels
            parameters += weights
            channels = features
    for k in range(len(stages) - 2, -1, -1):
        up = math.prod(strides[k + 1]) * channels * stages[k]
        flop += 2 * up * sizes[k + 1]
        parameters += up
        channels = 2 * stages[k]
        for _ in range(int(decoder[len(stages) - 2 - k])):
            weights = math.prod(kernels[k]) * channels * stages[k]
            flop += 2 * weights * sizes[k]
            parameters += weights
            channels = stages[k]
    outputs = folder.num_output_channels
    flop += 2 * stages[0] * outputs * sizes[0]
    parameters += stages[0] * outputs
    skips = sum(f * v for f, v in zip(stages, sizes, strict=True))
    return TileCost(flop / 1e9, skips + (2 + 1 + 1) * stages[0] * sizes[0] + outputs * sizes[0], parameters)


def _sizes(patch: Sequence[int], strides: Sequence[tuple[int, ...]]) -> list[int]:
    """Number of voxels at each stage."""
    sizes, current = [], list(patch)
    for stride in strides:
        current = [math.ceil(n / s) for n, s in zip(current, stride, strict=True)]
        sizes.append(math.prod(current))
    return sizes


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    given = tuple(int(v) for v in value) if isinstance(value, Sequence) else (int(value),) * axes
    if len(given) != axes:
        raise ValueError("one number per axis is needed")
    return given


def _per_stage(value: Any, count: int) -> list[Any]:
    if isinstance(value, Mapping) or value is None:
        raise TypeError("not a list")
    given = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * count
    if len(given) != count:
        raise ValueError("wrong length")
    return given
