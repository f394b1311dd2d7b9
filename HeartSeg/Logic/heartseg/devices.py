"""Where to compute, with which package, and in which precision."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from .errors import DependencyError, DeviceError, SettingsError
from .needs import PackageNeeded, has_graphics_card, import_torch
from .wording import _

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

_GRAPH_RUNTIMES = {"openvino": ("openvino", "OpenVINO", "openvino"), "onnx": ("onnxruntime", "ONNX Runtime", "light")}
"""Backends that run a model's graph on the processor, the faster one first: module, name, extra of HeartSeg."""


def choose_runtime(backend: str, device: str, needs_torch: str = "") -> tuple[str, Device]:
    """The backend and the device of a run.

    With ``auto``, a graphics card that torch can use comes first; on the processor, the fastest of the installed
    packages: OpenVINO, ONNX Runtime, torch.

    Args:
        backend: a backend, or ``auto``.
        device: ``auto``, a kind of device, or ``cuda:N``.
        needs_torch: why only torch can run the model; ``""`` if its graph can be run.

    Raises:
        DeviceError: the device is not available, or not to this backend.
        SettingsError: ``onnx``, and it cannot run the model.
        DependencyError: a package is missing (:class:`~heartseg.needs.PackageNeeded` for torch).
    """
    if backend in ("onnx", "openvino"):
        if device not in ("auto", "cpu"):
            raise DeviceError(
                _("backend {backend} does not support device {device!r}: use cpu, or backend torch").format(
                    backend=backend, device=device
                )
            )
        if needs_torch and backend == "onnx":
            raise SettingsError(_("{what} cannot be run by backend onnx: use backend torch").format(what=needs_torch))
        module, name, extra = _GRAPH_RUNTIMES[backend]
        if not _installed(module):
            raise DependencyError(
                _('backend {backend} needs {name}: pip install "heartseg[{extra}]"').format(
                    backend=backend, name=name, extra=extra
                )
            )
        if needs_torch:
            import_torch(needs_torch)  # which reads the network for OpenVINO
        return backend, CPU
    there = [name for name, (module, *_) in _GRAPH_RUNTIMES.items() if _installed(module)]
    if backend == "auto" and there and not needs_torch and device in ("auto", "cpu"):
        if device == "cpu" or not has_graphics_card():
            return there[0], CPU
        with contextlib.suppress(ImportError, OSError, PackageNeeded):
            card = choose_device()
            return ("torch", Device(card.type, card.index)) if card.type != "cpu" else (there[0], CPU)
        return there[0], CPU
    if backend == "auto" and not needs_torch and not _installed("torch"):
        if there:
            raise DeviceError(
                _("device {device!r} needs PyTorch, which is not installed: use cpu, or install torch").format(
                    device=device
                )
            )
        raise DependencyError(
            _(
                "no package that runs the network is installed (PyTorch or ONNX Runtime): pip install torch, or "
                "{light} (30 MB, for the processor)"
            ).format(light='pip install "heartseg[light]"')
        )
    import_torch(needs_torch or _("backend {backend}").format(backend=backend))
    chosen = choose_device(device)
    return "torch", Device(chosen.type, chosen.index)


def _installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    return importlib.util.find_spec(module) is not None


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
        raise DeviceError(
            _("device {wish!r} is not available to torch {version}: use one of {have}, or auto").format(
                wish=wish, version=torch.__version__, have=have
            )
        )
    device = torch.device(wish)
    if kind == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise DeviceError(
            _("device {wish!r} does not exist: this machine has {count} CUDA card(s)").format(
                wish=wish, count=torch.cuda.device_count()
            )
        )
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
    return f"{device} ({threads_text(cpu_threads(threads))})" if device.type == "cpu" else str(device)


def threads_text(number: int) -> str:
    """``"1 thread"``, ``"2 threads"``."""
    return f"{number} thread{'' if number == 1 else 's'}"


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


def choose_precision(device: torch.device | Device, precision: str = "auto", backend: str = "torch") -> str:
    """Precision of the network's arithmetic under torch's name.

    ``auto`` is float16 on CUDA (as nnU-Net's own autocast), bfloat16 with OpenVINO on processors that have instructions
    for it (two to four times as fast; borders move by a voxel here and there), and float32 elsewhere. ONNX Runtime
    computes in float32.
    """
    if precision == "float32" or backend == "onnx":
        return "float32"
    if device.type == "cuda":
        return "float16"
    return "bfloat16" if precision == "half" or (backend == "openvino" and _has_bfloat16()) else "float32"


@cache
def _has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 (AVX-512 BF16, AMX)."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def release_heap() -> None:
    """Return freed memory of the C heap to the system, where glibc's allocator would keep it; takes milliseconds."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def _c_library() -> object:
    """The C library of this process; ``None`` on Windows."""
    return None if sys.platform == "win32" else ctypes.CDLL(None)


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this exception means that a device, or the machine, ran out of memory (and nothing else)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, wherever it lies
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in _OUT_OF_MEMORY)


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
