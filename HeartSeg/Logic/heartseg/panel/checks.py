"""Checks before a run, on the worker thread; makes no Qt and MRML calls."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import HeartSegError
from ..findings import Finding, Severity
from ..needs import TORCH
from ..preflight import CPU_GFLOP_PER_S, Chosen, Machine, preflight
from ..scene.nodes import owned_volume
from ..settings import Settings
from ..volume.types import Volume
from .device import installed_runtime, look_at_device

if TYPE_CHECKING:
    from ..inference.locate import HeartBox


def checks_of(
    view: Volume, model: str, settings: Settings, chosen: Chosen, heart: HeartBox | bool | None
) -> tuple[Finding, ...]:
    """Run all checks of a scan. A model that cannot be opened is reported by the run itself.

    Args:
        view: the scan; its array is a view of the node's voxels.
        model: name of the model; ``""`` for the default model.
        settings: settings of the run.
        chosen: properties of the node, see :func:`heartseg.scene.fixes.chosen_facts`.
        heart: see :func:`heartseg.preflight.preflight`.
    """
    from ..models.store import find_model

    try:
        folder = find_model(model or None)
    except HeartSegError:
        folder = None
    found = preflight(owned_volume(view), folder, settings, machine_of(settings), replace(chosen, size=()), heart)
    # The panel shows the expected time next to the device; the checks mention it only if it is very long.
    return tuple(c for c in found if c.code != "time-on-processor" or c.severity is not Severity.INFO)


def machine_of(settings: Settings) -> Machine:
    """Describe this machine for the checks, without loading torch."""
    report = look_at_device(settings.device)
    cores = settings.threads or os.cpu_count() or 1
    speed = CPU_GFLOP_PER_S / (report.cpu_factor or 1.0)
    has_torch = installed_runtime() == TORCH.name
    return Machine(report.kind, report.free_bytes, free_for_temporary_files(), cores, speed, has_torch)


def free_for_temporary_files() -> int | None:
    """Free bytes in the folder for temporary files, used by separate processes and Slicer; ``None`` if unknown."""
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return None
