"""Durations of runs on this machine, stored in Slicer's settings, for the time estimate of the panel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import qt

_KEY = "HeartSeg/Seconds"


@dataclass(frozen=True)
class RunTimes:
    """Durations of the last run of one kind.

    Attributes:
        total: seconds from the click to the result; ``None`` if there was no run.
        stages: seconds of each stage.
    """

    total: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)


def times_of(kind: str) -> RunTimes:
    """Return the durations of the last run of this kind (model, device and accuracy)."""
    stored = _stored().get(kind)
    if not isinstance(stored, dict):
        return RunTimes()
    stages = stored.get("stages")
    return RunTimes(stored.get("total"), stages if isinstance(stages, dict) else {})


def remember(kind: str, times: RunTimes) -> None:
    """Store the durations of a successful run."""
    stored = {**_stored(), kind: {"total": times.total, "stages": dict(times.stages)}}
    qt.QSettings().setValue(_KEY, json.dumps(stored))


def _stored() -> dict[str, Any]:
    try:
        content = json.loads(qt.QSettings().value(_KEY) or "{}")
    except (TypeError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
