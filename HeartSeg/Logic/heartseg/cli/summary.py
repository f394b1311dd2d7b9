"""``summary.csv``: a row per scan of a batch."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from ..anatomy import KEYS
from ..errors import OutputError
from .cases import SUMMARY_FILE, Case

COLUMNS = [
    "case",
    "status",
    "seconds (s)",
    "message",
    *(f"{k} volume (mL)" for k in KEYS),
    "MYO mass (g)",
    "AO diameter (mm)",
    "PA diameter (mm)",
    "errors",
    "warnings",
    "path",
]


def summary_row(case: Case, status: str, seconds: float, message: str, report: dict[str, Any] | None) -> dict[str, Any]:
    """One line of ``summary.csv``."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row.update(
        {
            "case": case.name,
            "status": status,
            "seconds (s)": round(seconds, 2),
            "message": message,
            "path": str(case.path),
        }
    )
    if report is None:
        return row
    columns = {("volume", k): f"{k} volume (mL)" for k in KEYS}
    columns |= {
        ("mass", "MYO"): "MYO mass (g)",
        ("diameter", "AO"): "AO diameter (mm)",
        ("diameter", "PA"): "PA diameter (mm)",
    }
    for m in report["measures"]:
        name = columns.get((m["quantity"], m["structure"]))
        if name and m["value"] is not None:
            row[name] = round(m["value"], 2)
    for severity in ("error", "warning"):
        codes = [
            f["code"] + (f":{f['structure']}" if f.get("structure") else "")
            for f in report["findings"]
            if f["severity"] == severity
        ]
        row[f"{severity}s"] = " ".join(codes)
    return row


def plain_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe before it."""
    if isinstance(value, str) and value.lstrip(" ")[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def write_summary(folder: Path, cases: list[Case], rows: dict[str, dict[str, Any]]) -> None:
    """Rewrite the summary whole, so that a kill leaves a complete one.

    Raises:
        OutputError: the disk is full.
    """
    temporary = folder / f".{SUMMARY_FILE}-{os.getpid()}"
    try:
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for case in cases:
                if case.name in rows:
                    writer.writerow({name: plain_cell(value) for name, value in rows[case.name].items()})
        temporary.replace(folder / SUMMARY_FILE)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {folder / SUMMARY_FILE} ({error.strerror}): free some space, then add --resume"
        ) from error
