"""The checks before a run, on the worker: no Qt and no MRML call here."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import HeartSegError
from ..findings import Finding, Severity
from ..preflight import CPU_GFLOP_PER_S, Chosen, Machine, preflight
from ..scene.nodes import owned_volume
from ..settings import Settings
from ..volume.types import Volume
from .device import look_at_device

if TYPE_CHECKING:
    from ..inference.locate import HeartBox


def checks_of(
    view: Volume, model: str, settings: Settings, chosen: Chosen, heart: HeartBox | bool | None
) -> tuple[Finding, ...]:
    """All checks of a scan; a model that cannot be opened is reported by the run itself.

    Args:
        view: the scan; its array still belongs to the node.
        model: name of the model; ``""`` for the default one.
        settings: of the run.
        chosen: facts about the node, see :func:`heartseg.scene.fixes.chosen_facts`.
        heart: as for :func:`heartseg.preflight.preflight`.
    """
    from ..models.store import find_model

    try:
        folder = find_model(model or None)
    except HeartSegError:
        folder = None
    found = preflight(owned_volume(view), folder, settings, machine_of(settings), replace(chosen, size=()), heart)
    # The panel shows the expected time beside the device; only a very long one is repeated here.
    return tuple(c for c in found if c.code != "time-on-processor" or c.severity is not Severity.INFO)


def machine_of(settings: Settings) -> Machine:
    """This machine, as the checks need it, without loading torch."""
    report = look_at_device(settings.device)
    cores = settings.threads or os.cpu_count() or 1
    speed = CPU_GFLOP_PER_S / (report.cpu_factor or 1.0)
    return Machine(report.kind, report.free_bytes, free_for_temporary_files(), cores, speed)


def free_for_temporary_files() -> int | None:
    """Free bytes in the folder for temporary files, which a separate process and Slicer use; ``None`` if unknown."""
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return None
