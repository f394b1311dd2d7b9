"""Read the cases of a batch: the rows of its summaries, and the report of every result."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..findings import Finding, sorted_findings
from ..formats import FILES, REPORT_FILE, SUMMARY_FILE
from ..measure.function_table import index_measures
from ..measure.grid import CUT_OFF
from ..progress import Reporter
from ..provenance import InputFacts, ModelFacts, Provenance
from ..result import Measure
from ..tables import read_table

SUMMARIES = f"{Path(SUMMARY_FILE).stem}*{Path(SUMMARY_FILE).suffix}"
DONE, NO_HEART, FAILED = "done", "no heart", "failed"


@dataclass(frozen=True)
class CohortCase:
    """One case of a cohort.

    Attributes:
        name: name of its result folder.
        status: :data:`DONE`, :data:`NO_HEART` or :data:`FAILED`.
        message: why there is no result, or no heart.
        path: the scan; empty in anonymised results.
        seconds: wall time of the run, ``None`` if unknown.
        measures: of the report, and those per body surface area if the scan states height and weight.
        findings: most serious first.
        provenance: how the result was made; ``None`` without one.
        model_hash: hash of all files of the model, where the batch noted it.
        files: files and folders of the result.
    """

    name: str
    status: str
    message: str = ""
    path: str = ""
    seconds: float | None = None
    measures: tuple[Measure, ...] = ()
    findings: tuple[Finding, ...] = ()
    provenance: Provenance | None = None
    model_hash: str = ""
    files: tuple[str, ...] = field(default=(), compare=False)

    @property
    def scan(self) -> InputFacts:
        """What is known of the scan."""
        known = None if self.provenance is None else self.provenance.input
        return known or InputFacts()

    @property
    def model(self) -> ModelFacts:
        """What is known of the model."""
        known = None if self.provenance is None else self.provenance.model
        return known or ModelFacts()

    @property
    def made(self) -> str:
        """When the result was made, ISO 8601; ``""`` without one. A verdict applies to the result of this time."""
        return "" if self.provenance is None else self.provenance.created


def is_cut_off(measure: Measure) -> bool:
    """Whether a value is that of a part of the structure only, because the scan ends there."""
    return CUT_OFF in measure.note


def read_cohort(folder: Path, reporter: Reporter | None = None) -> tuple[CohortCase, ...]:
    """Read all cases below an output folder of ``heartseg segment``, in the order of their names.

    A case that several summaries name (parts, or runs with other parts) has the row of the newest.

    Args:
        folder: the output folder.
        reporter: progress and cancellation.

    Raises:
        InputError: the folder or a summary cannot be read, or there is no case.
        Cancelled: the reporter's token was set.
    """
    rows = _rows(folder)
    try:
        results = {p.name: p for p in folder.iterdir() if not p.name.startswith(".") and (p / REPORT_FILE).is_file()}
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be read: {error.strerror or error}") from error
    names = sorted({*rows, *results})
    if not names:
        raise InputError(f"{str(folder)!r} has no results: give the output folder of heartseg segment for many scans")
    cases = []
    with (reporter or Reporter()).stage("read", len(names)) as stage:
        for name in names:
            cases.append(_case(name, rows.get(name, {}), results.get(name)))
            stage.step()
    return tuple(cases)


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    """Return the newest row of each case."""
    rows: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob(SUMMARIES), key=lambda p: p.stat().st_mtime_ns):
        try:
            rows.update({row["case"]: row for row in read_table(path)})
        except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
            raise InputError(
                f"summary {str(path)!r} cannot be read ({error}): run heartseg segment --resume"
            ) from error
    return rows


def _case(name: str, row: Mapping[str, str], result: Path | None) -> CohortCase:
    failed = CohortCase(name, FAILED, row.get("message", ""), row.get("path", ""), _number(row.get("seconds (s)")))
    if result is None:
        message = failed.message if row.get("status") == FAILED else "its result folder is missing: segment it again"
        return CohortCase(name, FAILED, message, failed.path, failed.seconds)
    if row.get("status") == FAILED:
        return failed
    try:
        return _of_report(name, row, result, json.loads((result / REPORT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return CohortCase(name, FAILED, f"{REPORT_FILE} cannot be read ({error}): segment it again", failed.path)


def _of_report(name: str, row: Mapping[str, str], result: Path, report: Mapping[str, Any]) -> CohortCase:
    measures = tuple(Measure.from_dict(m) for m in report["measures"])
    provenance = Provenance.from_dict(report["provenance"])
    if provenance.input is not None:
        cut = {m.structure for m in measures if is_cut_off(m)}
        measures += index_measures(measures, provenance.input.patient, cut)
    return CohortCase(
        name=name,
        status=DONE if report["heart_found"] else NO_HEART,
        message=row.get("message", ""),
        path=row.get("path") or (provenance.input.path if provenance.input else ""),
        seconds=sum(provenance.seconds.values()) if provenance.seconds else _number(row.get("seconds (s)")),
        measures=measures,
        findings=sorted_findings(Finding.from_dict(f) for f in report["findings"]),
        provenance=provenance,
        model_hash=str(report.get("case", {}).get("choices", {}).get("model", "")),
        files=tuple(f for f in (*FILES, REPORT_FILE) if (result / f).exists()),
    )


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
