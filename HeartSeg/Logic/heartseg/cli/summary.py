"""``summary.csv``: a row per scan of a batch."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..anatomy import KEYS
from ..errors import OutputError
from .cases import SUMMARY_FILE, Case

MEASURES = {
    **{("volume", key): f"{key} volume (mL)" for key in KEYS},
    ("mass", "MYO"): "MYO mass (g)",
    ("diameter", "AO"): "AO diameter (mm)",
    ("diameter", "PA"): "PA diameter (mm)",
}
"""(quantity, structure) -> column."""
COLUMNS = ["case", "status", "seconds (s)", "message", *MEASURES.values(), "errors", "warnings", "path"]


@dataclass(frozen=True)
class SummaryRow:
    """What became of one scan.

    Attributes:
        case: name of its result folder.
        status: ``done``, ``done before``, ``no heart`` or ``failed``.
        seconds: wall time.
        message: why there is no result, or no heart.
        path: the scan; empty in anonymised results.
        measures: column -> value.
        errors, warnings: codes of the findings, ``code`` or ``code:structure``.
    """

    case: str
    status: str
    seconds: float
    message: str = ""
    path: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def with_report(self, report: Mapping[str, Any]) -> SummaryRow:
        """Return the row with measures and findings of a report."""
        columns = {(m["quantity"], m["structure"]): m["value"] for m in report["measures"]}
        codes: dict[str, list[str]] = {}
        for f in report["findings"]:
            codes.setdefault(f["severity"], []).append(f["code"] + (f":{f['structure']}" if f.get("structure") else ""))
        return replace(
            self,
            measures={MEASURES[k]: round(v, 2) for k, v in columns.items() if k in MEASURES and v is not None},
            errors=tuple(codes.get("error", ())),
            warnings=tuple(codes.get("warning", ())),
        )

    def cells(self) -> dict[str, str | float]:
        """Column -> cell, empty where there is no value."""
        known: dict[str, str | float] = {
            "case": self.case,
            "status": self.status,
            "seconds (s)": round(self.seconds, 2),
            "message": self.message,
            **self.measures,
            "errors": " ".join(self.errors),
            "warnings": " ".join(self.warnings),
            "path": self.path,
        }
        return {column: known.get(column, "") for column in COLUMNS}


def plain_cell(value: str | float) -> str | float:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe before it."""
    if isinstance(value, str) and value.lstrip(" ")[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def write_summary(folder: Path, cases: list[Case], rows: Mapping[str, SummaryRow]) -> None:
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
                    writer.writerow({name: plain_cell(value) for name, value in rows[case.name].cells().items()})
        temporary.replace(folder / SUMMARY_FILE)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {folder / SUMMARY_FILE} ({error.strerror}): free some space, then add --resume"
        ) from error
