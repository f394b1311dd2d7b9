"""Where to compute, with which package, and in which precision."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import DependencyError, DeviceError, SettingsError
from .needs import PackageNeeded, import_torch

if TYPE_CHECKING:
    import torch

KINDS = ("cuda", "mps", "cpu")
"""Kinds of devices, the preferred one first."""


@dataclass(frozen=True)
class Device:
    """A device by torch's name, such as ``cuda:0``, that is known without torch.

    Attributes:
        type: ``cuda``, ``mps`` or ``cpu``.
        index: number of the card; ``None`` for the current or the only one.
    """

    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


CPU = Device("cpu")


def choose_backend(wish: str, needs_torch: str = "") -> str:
    """The backend of a run; ``auto`` takes torch where it can be imported, and ONNX Runtime otherwise.

    Args:
        wish: a backend, or ``auto``.
        needs_torch: why only torch can run the model; ``""`` if ONNX Runtime can.

    Raises:
        SettingsError: ``onnx``, and it cannot run the model.
        DependencyError: a package is missing (:class:`~heartseg.needs.PackageNeeded` for torch).
    """
    if wish != "onnx":
        try:
            import_torch(needs_torch or f"backend {wish}")
            return "torch" if wish == "auto" else wish
        except PackageNeeded:
            if needs_torch or wish != "auto":
                raise
    if needs_torch:
        raise SettingsError(f"{needs_torch} cannot be run by backend onnx: use backend torch")
    if importlib.util.find_spec("onnxruntime") is None:
        raise DependencyError(
            "no package that runs the network is installed (PyTorch or ONNX Runtime): pip install torch, or "
            'pip install "heartseg[light]" (30 MB, for the processor)'
            if wish == "auto"
            else 'backend onnx needs ONNX Runtime: pip install "heartseg[light]"'
        )
    return "onnx"


def run_device(backend: str, wish: str) -> Device:
    """The device of a run with a backend; ONNX Runtime runs on the processor.

    Raises:
        DeviceError: the device is not available, or not to this backend.
    """
    if backend == "onnx":
        if wish not in ("auto", "cpu"):
            raise DeviceError(f"backend onnx does not support device {wish!r}: use cpu, or backend torch")
        return CPU
    device = choose_device(wish)
    return Device(device.type, device.index)


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


def describe_device(device: torch.device | Device, threads: int | None = None) -> str:
    """Device and its name for the report, e.g. ``"cuda:0 (NVIDIA RTX A5000)"``.

    Args:
        device: of the run.
        threads: of the run, where they were chosen.
    """
    if device.type == "cuda":
        import torch

        return f"{device} ({torch.cuda.get_device_name(str(device))})"
    return f"{device} ({cpu_threads(threads)} threads)" if device.type == "cpu" else str(device)


def cpu_threads(wish: int | None = None) -> int:
    """Threads of a network on the processor: those that were chosen, or the default of the packages."""
    if wish:
        return wish
    if torch := sys.modules.get("torch"):
        return torch.get_num_threads()
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else cpu_cores()


def cpu_cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Windows, macOS
        return os.cpu_count() or 1


def choose_precision(device: torch.device | Device, precision: str = "auto") -> str:
    """Precision of the network's arithmetic under torch's name.

    ``auto`` is float16 on CUDA (as nnU-Net's own autocast) and float32 elsewhere: on the CPU half precision is
    bfloat16, faster only on processors that have it, and its 8 bits of mantissa move borders by a voxel here and there.
    """
    if precision == "float32":
        return "float32"
    if device.type == "cuda":
        return "float16"
    return "bfloat16" if precision == "half" else "float32"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this exception means that a device, or the machine, ran out of memory (and nothing else)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, wherever it lies
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        phrase in text for phrase in ("out of memory", "can't allocate memory", "not enough memory")
    )


@contextmanager
def run_settings(backend: str, threads: int | None) -> Iterator[None]:
    """What applies to a whole run with a backend: :func:`torch_settings` where torch runs it.

    ONNX Runtime gets its threads with the network.
    """
    if backend == "onnx":
        yield
        return
    with torch_settings(threads):
        yield


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
