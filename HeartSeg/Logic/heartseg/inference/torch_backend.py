"""Running a network by torch: plain, or with faster normalisation on the CPU."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import nn

from ..devices import CPU, Device
from ..networks.blocks import Decoder
from .tiles import Predictor

_JOINED_VALUES = 2_000_000  # joined features at a time: 8 MB, which the allocator reuses
_DROPOUT = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)


class FusedNormActivation(nn.Module):
    """Instance normalisation and leaky ReLU in place, for one sample in channels-last memory, 2D or 3D.

    PyTorch's own instance norm copies channels-last tensors; this does the same arithmetic on a view, which is what
    makes channels-last convolutions pay on a CPU. Differences are rounding (1e-4 on logits).
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, norm: nn.InstanceNorm2d | nn.InstanceNorm3d, slope: float) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.slope = norm.weight, norm.bias, float(norm.eps), slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.movedim(1, -1).reshape(-1, x.shape[1])  # a view: channels last, batch 1
        if flat.dtype == torch.float32 and flat.is_contiguous():  # much faster than var_mean along the long axis
            n, channels = flat.shape
            some = math.gcd(n, 64)
            flat.sub_(flat.view(-1, some * channels).mean(0).view(some, channels).mean(0))
            variance = (flat.T @ flat).diagonal() / n
            torch.addcmul(self.bias, flat, self.weight * torch.rsqrt(variance + self.eps), out=flat)
        else:
            variance, mean = torch.var_mean(flat, 0, correction=0)
            scale = self.weight * torch.rsqrt(variance + self.eps)
            flat.mul_(scale).add_(self.bias - mean * scale)
        return nn.functional.leaky_relu_(x, self.slope)


class OneDNNConvolution(nn.Module):
    """A convolution by oneDNN in float32, channels last.

    For one channel, small images and kernels of one voxel, torch chooses a kernel of its own that takes three to four
    times as long and returns channels first, which the next steps copy.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.conv, self.padding = conv, tuple(int(n) for n in conv.padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.padded(x, self.padding)

    def padded(self, x: torch.Tensor, padding: tuple[int, ...]) -> torch.Tensor:
        """The convolution with another padding per axis than its own."""
        c: Any = self.conv
        if x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            return torch.mkldnn_convolution(x, c.weight, c.bias, padding, c.stride, c.dilation, c.groups)
        plain = nn.functional.conv2d if isinstance(c, nn.Conv2d) else nn.functional.conv3d
        return plain(x, c.weight, c.bias, c.stride, padding, c.dilation, c.groups)


class LeanDecoder(nn.Module):
    """A decoder without deep supervision that joins skips and upsampled features a few planes at a time.

    The joined features, which the first convolution of a level reads, are the largest tensor of a U-Net: with the parts
    that they are made of, four times the features of the finest level. The arithmetic is the same.

    Args:
        decoder: 3D, joining by concatenation.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.stages, self.transpconvs, self.head = decoder.stages, decoder.transpconvs, decoder.seg_layers[-1]

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor:
        """Logits of the features of the encoder, finest first; the list is emptied."""
        x = skips.pop()
        stage: Any
        up: Any
        for stage, up in zip(self.stages, self.transpconvs, strict=True):
            first = stage.convs[0].all_modules
            x = _convolved(first[0], up, x, skips.pop())
            x = stage.convs[1:](first[1:](x))
        return self.head(x)


def _convolved(
    conv: OneDNNConvolution, up: nn.ConvTranspose3d, below: torch.Tensor, skip: torch.Tensor
) -> torch.Tensor:
    """The convolution of upsampled features and a skip, (1, c, z, y, x); planes beyond the ends are zero."""
    reach, *others = conv.padding
    depth, stride = skip.shape[2], up.stride[0]
    planes = max(1, depth * _JOINED_VALUES // (2 * skip.numel()))
    out: torch.Tensor | None = None
    for start in range(0, depth, planes):
        stop = min(depth, start + planes)
        low, high = max(0, start - reach), min(depth, stop + reach)
        first, after = low // stride, -(-high // stride)
        upper = _upsampled(up, below[:, :, first:after])[:, :, low - first * stride : high - first * stride]
        joined = torch.cat((upper, skip[:, :, low:high].to(upper.dtype)), 1)
        missing = (low - start + reach, stop + reach - high)
        if any(missing):
            joined = nn.functional.pad(joined, (0, 0, 0, 0, *missing))
        part = conv.padded(joined, (0, *others))
        if out is None:
            shape = (1, part.shape[1], depth, *part.shape[3:])
            out = torch.empty(shape, dtype=part.dtype, memory_format=torch.channels_last_3d)
        out[:, :, start:stop] = part
    assert out is not None
    return out


def _upsampled(up: nn.ConvTranspose3d, x: torch.Tensor) -> torch.Tensor:
    """A transposed convolution with the stride as kernel, (1, c, z, y, x), plane by plane, which oneDNN computes."""
    planes = up(x.transpose(0, 2)).movedim(1, -1)  # z, then the planes, rows and columns of each, c
    return planes.reshape(1, -1, *planes.shape[2:]).movedim(-1, 1)


def fuse_norms(network: nn.Module) -> nn.Module:
    """A copy of the network for the CPU, faster and with less memory; same outputs up to rounding.

    Weights are channels last. Blocks of nnU-Net's and of our own networks keep their steps in ``all_modules``; those of
    convolution, instance normalisation and leaky ReLU are fused. Dropout, idle in evaluation, is left out.
    """
    fast = copy.deepcopy(network)
    for block in fast.modules():
        parts = [p for p in getattr(block, "all_modules", ()) if not isinstance(p, _DROPOUT)]
        if len(parts) != 3:
            continue
        conv, norm, act = parts
        if isinstance(norm, nn.InstanceNorm2d | nn.InstanceNorm3d) and norm.affine and isinstance(act, nn.LeakyReLU):
            block.all_modules = nn.Sequential(conv, FusedNormActivation(norm, act.negative_slope))
    flat = any(isinstance(block, nn.Conv2d) for block in fast.modules())
    if torch.backends.mkldnn.is_available():
        for steps in [m for m in fast.modules() if isinstance(m, nn.Sequential | nn.ModuleList)]:
            for name, step in steps.named_children():
                if isinstance(step, nn.Conv2d | nn.Conv3d) and not isinstance(step.padding, str):
                    setattr(steps, name, OneDNNConvolution(step))
        decoder = getattr(fast, "decoder", None)
        if isinstance(decoder, Decoder) and decoder.joins is None and not flat:
            fast.decoder = LeanDecoder(decoder)
    layout = torch.channels_last if flat else torch.channels_last_3d
    return fast.to(memory_format=layout)  # type: ignore[call-overload]


def torch_predictor(network: nn.Module, device: Device, precision: str) -> Predictor:
    """The network on a device, with autocast for half precision."""
    dtype = getattr(torch, precision)
    moved = network.to(str(device))  # also from a graphics card back to the CPU, after it ran out of memory
    if device == CPU:
        fast = fuse_norms(moved)

        def on_cpu(batch: np.ndarray) -> np.ndarray:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                rows = [fast(one[None].contiguous(memory_format=torch.channels_last_3d)) for one in _tensor(batch)]
            return (rows[0] if len(rows) == 1 else torch.cat(rows)).float().contiguous().numpy()

        return on_cpu

    def on_device(batch: np.ndarray) -> torch.Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            return moved(_tensor(batch).to(str(device))).float()

    return on_device


def _tensor(batch: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(batch))
