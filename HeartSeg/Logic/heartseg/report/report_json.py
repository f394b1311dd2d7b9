"""The report: everything about a run that is not the label map, as JSON; and its findings as text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError
from ..findings import Severity
from ..result import Result

REMOVALS_LISTED = 100
"""Pieces that the report lists at most, largest first: a model that scatters specks must not fill megabytes."""

SCHEMA_NAME, SCHEMA_VERSION = "heartseg-report", 1
"""The version rises when a field changes its meaning or goes; new fields do not raise it."""


def report_dict(result: Result, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """JSON-ready dictionary: schema, use, heart_found, worst, geometry, structures, findings, measures, removals,
    provenance, and the fields of ``extra`` beside them.

    Lengths in mm, volumes in mL, world coordinates LPS, ``geometry`` in x, y, z order. Numbers that JSON does not know
    (infinite, NaN) become ``null``.

    Raises:
        ValueError: ``extra`` has a field of the report's own.
    """
    geometry = result.geometry
    report: dict[str, Any] = {
        "schema": {"name": SCHEMA_NAME, "version": SCHEMA_VERSION},
        "use": "research only; not a medical device",
        "heart_found": result.heart_found,
        "worst": result.worst.value if result.worst else None,
        "geometry": {
            "size": geometry.size,
            "spacing_mm": geometry.spacing,
            "origin_lps_mm": geometry.origin,
            "direction": geometry.direction,
            "orientation": geometry.orientation,
        },
        "structures": [
            {"label": s.label, "key": s.key, "name": s.name, "snomed_code": s.snomed_code, "color": s.color}
            for s in result.structures
        ],
        "findings": [f.to_dict() for f in result.findings],
        "measures": [m.to_dict() for m in result.measures],
        "removals": [r.to_dict() for r in result.removals[:REMOVALS_LISTED]],
        "removals_not_listed": max(0, len(result.removals) - REMOVALS_LISTED),
        "provenance": result.provenance,
    }
    clash = sorted(set(report) & set(extra or {}))
    if clash:
        raise ValueError(f"extra field {clash[0]!r} is one of the report's own: use another name")
    return _plain({**report, **(extra or {})})


def write_report(result: Result, path: str | Path, extra: dict[str, Any] | None = None) -> None:
    """Write :func:`report_dict` as UTF-8 JSON, indented.

    Raises:
        OutputError: the file cannot be written.
        ValueError: ``extra`` has a field of the report's own.
    """
    text = json.dumps(report_dict(result, extra), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        Path(path).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


def _plain(value: Any) -> Any:
    """The same with plain Python types only."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value.value if isinstance(value, Severity) else value
    return str(value)


def format_findings(result: Result) -> str:
    """The findings as lines for a terminal, most serious first: ``warning  not-enclosed: 14 % of ...``.

    Without findings: ``no findings``.
    """
    order = [Severity.ERROR, Severity.WARNING, Severity.INFO]
    findings = sorted(result.findings, key=lambda f: order.index(f.severity))
    if not findings:
        return "no findings"
    width = max(len(f.severity.value) for f in findings)
    return "\n".join(f"{f.severity.value:<{width}}  {f.code}: {f.message}" for f in findings)
