"""What can be told before a run: whether this scan, on this machine, with this model, is likely to give a heart.

Every check is a :class:`~heartseg.findings.Finding`; where one step can remedy it, ``fix`` names that step. The
engine's own errors have the last word: a scan without findings may still be refused. The findings of reading and of
:func:`~heartseg.volume.checks.check_volume` are taken over, not made again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import DependencyError
from ..findings import Finding, Severity, sorted_findings
from ..settings import Settings
from ..volume.checks import check_volume
from ..volume.types import Volume
from .fixes import (
    AS_CT,
    AS_MR,
    CHOICES,
    FIXES,
    HARDEN,
    OPTIONS,
    PICK_FRAME,
    RESAMPLE,
    RESAMPLED_MM,
    STATE_MODALITY,
    USE_CPU,
)
from .machine import CPU_GFLOP_PER_S, Machine, check_machine, expected_seconds, machine_facts, planned
from .scan import SMALL_FIELD_MM, Chosen, check_chosen, check_field_of_view, check_scan

if TYPE_CHECKING:
    from ..inference.locate import HeartBox
    from ..models.folder import ModelFolder
    from ..progress import Reporter

__all__ = [
    "AS_CT",
    "AS_MR",
    "CHOICES",
    "CPU_GFLOP_PER_S",
    "FIXES",
    "HARDEN",
    "OPTIONS",
    "PICK_FRAME",
    "RESAMPLE",
    "RESAMPLED_MM",
    "SMALL_FIELD_MM",
    "STATE_MODALITY",
    "USE_CPU",
    "Chosen",
    "Machine",
    "check_chosen",
    "check_field_of_view",
    "check_machine",
    "check_scan",
    "expected_seconds",
    "look_for_heart",
    "machine_facts",
    "planned",
    "preflight",
]


def preflight(
    volume: Volume | None,
    model: ModelFolder | None = None,
    settings: Settings | None = None,
    machine: Machine | None = None,
    chosen: Chosen | None = None,
    heart: HeartBox | bool | None = None,
) -> tuple[Finding, ...]:
    """All findings before a run, the most serious first.

    Args:
        volume: the scan; ``None`` if it cannot be read, and ``chosen`` says why.
        model: the model that would run.
        settings: of the run.
        machine: see :func:`machine_facts`.
        chosen: facts besides the voxels.
        heart: where the finder sees the heart (:func:`look_for_heart`); ``False`` if it sees none; ``None`` if it was
            not asked.
    """
    settings = settings or Settings()
    findings = list(check_chosen(chosen)) if chosen else []
    if volume is not None:
        findings += check_scan(volume, model)
        if not any(f.severity is Severity.ERROR for f in findings):
            findings += check_field_of_view(volume, heart)
    if machine is not None:
        findings += check_machine(volume, model, settings, machine)
    return sorted_findings(findings)


def look_for_heart(
    volume: Volume, model: ModelFolder, settings: Settings, reporter: Reporter
) -> HeartBox | bool | None:
    """Where the model's finder sees the heart: a box, ``False`` for nowhere, ``None`` for a model
    without a finder, or if the package that runs it is missing.

    One run of the coarse network over the whole scan: a second or less on a processor, besides loading what runs it.

    Raises:
        Cancelled: the reporter's token was set.
        HeartSegError: the scan or the model cannot be used.
    """
    has_finder = model.card is not None and model.card.finder is not None
    if model.needs_fallback or model.over_whole_image(settings.reorient) or not has_finder:
        return None
    from ..inference.engine import Engine

    try:
        engine = Engine(model, settings)
    except DependencyError:  # check_machine reports it
        return None
    return engine.find_heart(check_volume(volume), reporter) or False
