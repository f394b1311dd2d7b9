"""Checks of the machine before a run: packages, disk, memory, graphics card, time."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..devices import choose_runtime, cpu_threads
from ..errors import DependencyError, HeartSegError
from ..findings import Finding, Severity
from ..inference.plan import RunPlan, plan_run
from ..models.folder import ModelFolder
from ..needs import installed_version
from ..settings import Settings
from ..volume.checks import available_memory
from ..volume.types import Volume
from ..wording import _
from .fixes import USE_CPU

CPU_GFLOP_PER_S = 18.0
"""Speed of one core, float32, all other steps of a run included. README.md's time with torch on two cores of an
Intel Xeon with AVX-512 means 28; this is less, for processors without it. The panel measures the core's speed."""

_SECONDS_PER_VOXEL = 1e-8  # sampling the scan and writing its labels
_WRITE_RESERVE = 300 * 10**6


@dataclass(frozen=True)
class Machine:
    """What the run would be made on.

    Attributes:
        device: ``"cuda"``, ``"mps"``, ``"cpu"``; ``""`` while nothing that runs a network is installed.
        free_gpu_bytes: of the graphics card, ``None`` if not known.
        free_disk_bytes: where the result would be written, ``None`` if nothing is written.
        cores: processor cores that would be used.
        gflop_per_core: speed of one core, 10^9 operations per second.
        has_torch: whether torch is installed, which some models need.
    """

    device: str = "cpu"
    free_gpu_bytes: int | None = None
    free_disk_bytes: int | None = None
    cores: int = 1
    gflop_per_core: float = CPU_GFLOP_PER_S
    has_torch: bool = True


def planned(volume: Volume, model: ModelFolder, settings: Settings) -> RunPlan:
    """The plan of a run with this model; the checkpoint is not read."""
    finder = None if model.over_whole_image(settings.reorient) else model.open_finder()
    return plan_run(model, finder, settings, volume.geometry)


def expected_seconds(plan: RunPlan, volume: Volume, machine: Machine) -> float | None:
    """Rough time of a plan on the processor, or ``None`` for a network whose cost is not known."""
    if plan.gflop is None:
        return None
    return plan.gflop / (machine.gflop_per_core * max(1, machine.cores)) + volume.array.size * _SECONDS_PER_VOXEL


def check_machine(
    volume: Volume | None, model: ModelFolder | None, settings: Settings, machine: Machine
) -> tuple[Finding, ...]:
    """Packages, disk, memory, graphics memory, and the time on the processor."""
    if not machine.device:
        text = _(
            "no package that runs the network is installed (torch or onnxruntime): install one of them "
            "(in Slicer: the button above)"
        )
        return (Finding("packages-missing", Severity.ERROR, text),)
    if model is not None and model.needs_torch and not machine.has_torch:
        text = _("model '{name}' needs torch, which is not installed ({reason}): install it").format(
            name=model.name, reason=model.needs_torch
        )
        return (Finding("packages-missing", Severity.ERROR, text),)
    checks = [*_check_disk(volume, machine)]
    if model is not None and volume is not None and not model.needs_fallback:
        plan = planned(volume, model, settings)
        checks += _check_gpu(plan, settings, machine)
        checks += _check_time(expected_seconds(plan, volume, machine), machine)
        checks += _check_memory(plan, model.name)
    return tuple(checks)


def _check_disk(volume: Volume | None, machine: Machine) -> tuple[Finding, ...]:
    free = machine.free_disk_bytes
    need = _WRITE_RESERVE + 3 * (volume.array.size if volume is not None else 0)  # two label maps, room for surfaces
    if free is None or free >= need:
        return ()
    text = _("{free:.0f} MB are free where files are written and about {need:.0f} MB are needed: free space").format(
        free=free / 1e6, need=need / 1e6
    )
    return (Finding("disk-nearly-full", Severity.WARNING, text, values={"free_bytes": free, "need_bytes": need}),)


def _check_gpu(plan: RunPlan, settings: Settings, machine: Machine) -> tuple[Finding, ...]:
    free, need = machine.free_gpu_bytes, plan.gpu_bytes(4 if settings.precision == "float32" else 2)
    if machine.device != "cuda" or free is None or need is None or free >= need:
        return ()
    text = _(
        "the graphics card has {free:.1f} GB free and about {need:.1f} GB are needed: the run would "
        "end on the processor; close other programs that use the card, or choose the processor"
    ).format(free=free / 1e9, need=need / 1e9)
    values = {"free_bytes": free, "need_bytes": need}
    return (Finding("gpu-memory-low", Severity.WARNING, text, None, values, USE_CPU),)


def _check_memory(plan: RunPlan, model_name: str) -> tuple[Finding, ...]:
    need, free = plan.memory_bytes, available_memory()
    if free is None or need <= free:
        return ()
    text = _(
        "model '{name}' processes the whole image and needs about {need:.1f} GiB more memory; "
        "{free:.1f} GiB are free: close other programs or crop the scan around the heart"
    ).format(name=model_name, need=need / 2**30, free=free / 2**30)
    return (Finding("memory-tight-for-model", Severity.WARNING, text, values={"need_bytes": need, "free_bytes": free}),)


def _check_time(seconds: float | None, machine: Machine) -> tuple[Finding, ...]:
    if seconds is None or machine.device != "cpu":
        return ()
    about = (
        _("{count:.0f} minutes").format(count=seconds / 60)
        if seconds >= 90
        else _("{count} seconds").format(count=max(1, round(seconds)))
    )
    severity = Severity.WARNING if seconds >= 600 else Severity.INFO
    cores = (_("1 core") if machine.cores == 1 else _("{count} cores")).format(count=machine.cores)
    text = _("on the processor ({cores}) this takes about {about}, give or take a factor of two").format(
        cores=cores, about=about
    )
    return (Finding("time-on-processor", severity, text, values={"seconds": round(seconds, 1)}),)


def machine_facts(settings: Settings, output: str | Path | None = None) -> Machine:
    """The facts of this machine. Never raises: the engine refuses what cannot be run."""
    free = _free_disk(Path(output)) if output is not None else None
    try:
        _runtime, device = choose_runtime(settings.backend, settings.device)
    except DependencyError:
        return Machine("", None, free, cpu_threads(settings.threads))
    except HeartSegError:
        return Machine("cpu", None, free, cpu_threads(settings.threads))
    card = None
    if device.type == "cuda":
        import torch

        card = int(torch.cuda.mem_get_info(str(device))[0])
    return Machine(device.type, card, free, cpu_threads(settings.threads), has_torch=bool(installed_version("torch")))


def _free_disk(folder: Path) -> int | None:
    existing = next((p for p in (folder.absolute(), *folder.absolute().parents) if p.is_dir()), None)
    try:
        return shutil.disk_usage(existing).free if existing else None
    except OSError:
        return None
