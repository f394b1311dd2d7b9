"""Where to compute, and in which precision."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import DeviceError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

KINDS = ("cuda", "mps", "cpu")
"""Kinds of devices, the preferred one first."""


def choose_device(wish: str = "auto", kinds: tuple[str, ...] = KINDS) -> torch.device:
    """The torch device for a setting; ``auto`` takes the first kind that is available.

    Args:
        wish: ``auto``, a kind, or ``cuda:N``.
        kinds: kinds that the caller can use, the preferred one first.

    Raises:
        DeviceError: the device is not available.
    """
    import torch

    kind = wish.split(":")[0]
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [name for name in kinds if there[name]]
    if kind == "auto":
        return torch.device(available[0])
    if kind not in available:
        have = ", ".join(available)
        raise DeviceError(f"device {wish!r} is not available to torch {torch.__version__}: use one of {have}, or auto")
    device = torch.device(wish)
    if kind == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise DeviceError(f"device {wish!r} does not exist: this machine has {torch.cuda.device_count()} CUDA card(s)")
    return device


def describe_device(device: torch.device) -> str:
    """Device and its name for the report, e.g. ``"cuda:0 (NVIDIA RTX A5000)"``."""
    import torch

    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def choose_dtype(device: torch.device, precision: str = "auto") -> torch.dtype:
    """Precision of the network's arithmetic.

    ``auto`` is float16 on CUDA (as nnU-Net's own autocast) and float32 elsewhere: on the CPU half precision is
    bfloat16, faster only on processors with AMX, and its 8 bits of mantissa move borders by a voxel here and there.
    """
    import torch

    if precision == "float32":
        return torch.float32
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if precision == "half" else torch.float32


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this exception means that a device, or the machine, ran out of memory (and nothing else)."""
    import torch

    out_of_memory = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)  # its name before torch 2.5
    if isinstance(error, (out_of_memory, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        phrase in text for phrase in ("out of memory", "can't allocate memory", "not enough memory")
    )


@contextmanager
def torch_settings(threads: int | None) -> Iterator[None]:
    """Inference mode with deterministic kernels and this number of CPU threads; the old settings are restored."""
    import torch

    before = (torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = before[1], before[2]
