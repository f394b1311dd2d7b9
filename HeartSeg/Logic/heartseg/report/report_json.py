"""The report of a run as JSON, and its findings as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import writing
from ..findings import merged_findings
from ..result import Result, json_ready


def report_dict(result: Result, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Combine :meth:`~heartseg.result.Result.to_dict` with the fields of ``extra``.

    Raises:
        ValueError: a field of ``extra`` already exists in the report.
    """
    report = result.to_dict()
    clash = sorted(set(report) & set(extra or {}))
    if clash:
        raise ValueError(f"extra field {clash[0]!r} already exists in the report: use another name")
    return {**report, **json_ready(extra or {})}


def write_report(result: Result, path: str | Path, extra: dict[str, Any] | None = None) -> None:
    """Write :func:`report_dict` as UTF-8 JSON, indented.

    Raises:
        OutputError: the file cannot be written.
        ValueError: a field of ``extra`` already exists in the report.
    """
    text = json.dumps(report_dict(result, extra), indent=2, ensure_ascii=False, allow_nan=False)
    with writing(path):
        Path(path).write_text(text + "\n", encoding="utf-8")


def format_findings(result: Result) -> str:
    """Format the findings as lines, most severe first: ``warning  not-enclosed: 14 % of ...``.

    Returns ``no findings`` if there are none.
    """
    findings = merged_findings(result.findings)
    if not findings:
        return "no findings"
    width = max(len(f.severity.value) for f in findings)
    return "\n".join(f"{f.severity.value:<{width}}  {f.code}: {f.message}" for f in findings)
