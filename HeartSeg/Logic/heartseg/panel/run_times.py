"""How long runs took on this machine, kept in Slicer's settings: for the time that the panel announces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import qt

_KEY = "HeartSeg/Seconds"


@dataclass(frozen=True)
class RunTimes:
    """Seconds of the last run of one kind.

    Attributes:
        total: from the click to the result, ``None`` if there was no run yet.
        stages: stage -> seconds.
    """

    total: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)


def times_of(kind: str) -> RunTimes:
    """The last run of this kind (model, device and accuracy)."""
    stored = _stored().get(kind)
    if not isinstance(stored, dict):
        return RunTimes()
    stages = stored.get("stages")
    return RunTimes(stored.get("total"), stages if isinstance(stages, dict) else {})


def remember(kind: str, times: RunTimes) -> None:
    """Keep the seconds of a run that ended well."""
    stored = {**_stored(), kind: {"total": times.total, "stages": dict(times.stages)}}
    qt.QSettings().setValue(_KEY, json.dumps(stored))


def _stored() -> dict[str, Any]:
    try:
        content = json.loads(qt.QSettings().value(_KEY) or "{}")
    except (TypeError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
