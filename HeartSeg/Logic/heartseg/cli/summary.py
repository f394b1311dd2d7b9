"""``summary.csv``: a row per scan of a batch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..anatomy import KEYS
from ..errors import writing
from ..tables import write_table
from .cases import Case

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


def write_summary(path: Path, cases: list[Case], rows: Mapping[str, SummaryRow]) -> None:
    """Rewrite the summary whole, so that a kill leaves a complete one.

    Raises:
        OutputError: the disk is full.
    """
    with writing(path, ", then add --resume"):
        write_table(path, COLUMNS, (rows[case.name].cells() for case in cases if case.name in rows))


class Summary:
    """The file with a row per scan, kept up to date while a batch runs.

    Writing takes longer the more rows there are. The next write therefore waits ten times as long as the last one took,
    so that the table does not slow down a cohort of thousands. ``--resume`` restores rows that a kill has lost.

    Args:
        path: the file.
        cases: order of the rows.
    """

    def __init__(self, path: Path, cases: list[Case]) -> None:
        self.path = path
        self.rows: dict[str, SummaryRow] = {}
        self._cases = cases
        self._due = 0.0

    def add(self, row: SummaryRow) -> None:
        """Add a row; raises as :func:`write_summary`."""
        self.rows[row.case] = row
        began = time.monotonic()
        if began >= self._due:
            self.write()
            ended = time.monotonic()
            self._due = ended + 10 * (ended - began)

    def write(self) -> None:
        """Write every row so far, unless all are to come; raises as :func:`write_summary`."""
        if self.rows or not self._cases:
            write_summary(self.path, self._cases, self.rows)
