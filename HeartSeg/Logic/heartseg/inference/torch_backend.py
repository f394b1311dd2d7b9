"""Running a network by torch: plain, or with faster normalisation on the CPU."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import nn

from ..devices import CPU, Device
from .tiles import Predictor

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


def fuse_norms(network: nn.Module) -> nn.Module:
    """A copy of the network that runs faster on the CPU, with channels-last weights; same outputs up to rounding.

    Blocks of nnU-Net's and of our own networks keep their steps in ``all_modules``; those of convolution, instance
    normalisation and leaky ReLU are fused. Dropout, which does nothing in evaluation, is left out.
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
            return torch.cat(rows).float().contiguous().numpy()

        return on_cpu

    def on_device(batch: np.ndarray) -> torch.Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            return moved(_tensor(batch).to(str(device))).float()

    return on_device


def _tensor(batch: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(batch))
