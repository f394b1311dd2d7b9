"""The table of a cohort: a row per case with all measures, findings and settings, as CSV and Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..anatomy import KEYS
from ..errors import writing
from ..formats import COHORT_FILES, is_installed
from ..result import Measure
from ..tables import Cell, write_table
from .judging import KINDS, Cohort, JudgedCase
from .review import Review

CSV_FILE, PARQUET_FILE, _ = COHORT_FILES
_FIRST = ("case", "status", "message", "verdict", "comment", "path", "modality", "sex", "size", "spacing (mm)")
_RUN = ("seconds (s)", "made", "heartseg", "model", "model version", "model sha256", "mode", "device")


def column_of(measure: Measure, what: str = "") -> str:
    """Name of the column of a measure, such as ``"LV volume (mL)"``; ``what`` is ``"low"`` or ``"high"``."""
    words = " ".join(p for p in (measure.structure, measure.quantity.replace("_", " "), what) if p)
    return f"{words} ({measure.unit})" if measure.unit else words


def table_of(cohort: Cohort, reviews: Mapping[str, Review]) -> tuple[list[str], list[dict[str, Cell]]]:
    """Return the columns and the rows, worst first; a cell without a value is ``None``."""
    rows = [_row(judged, reviews.get(judged.case.name, Review())) for judged in cohort.cases]
    known = {column for row in rows for column in row}
    measures = {
        column_of(m, what): (KEYS.index(m.structure), k, what)
        for judged in cohort.cases
        for k, m in enumerate(judged.case.measures)
        for what in ("", "low", "high")
    }
    ordered = sorted((c for c in measures if c in known), key=lambda c: measures[c][:2])
    findings = [f"finding {code}" for _, code, _ in cohort.codes()]
    settings = sorted(c for c in known if c.startswith("setting "))
    first = [*_FIRST, *(f"{kind}s" for kind in KINDS)]
    return list(dict.fromkeys((*first, *ordered, *findings, *_RUN, *settings))), rows


def _row(judged: JudgedCase, review: Review) -> dict[str, Cell]:
    case, scan = judged.case, judged.case.scan
    row: dict[str, Cell] = {
        "case": case.name,
        "status": case.status,
        "message": case.message,
        "verdict": review.verdict,
        "comment": review.comment,
        "path": case.path,
        "modality": scan.modality,
        "sex": scan.patient.sex,
        "size": " ".join(str(n) for n in scan.size_xyz),
        "spacing (mm)": " ".join(f"{n:g}" for n in scan.spacing_mm_xyz),
        **{f"{kind}s": judged.count(kind) for kind in KINDS},
        "seconds (s)": None if case.seconds is None else round(case.seconds, 2),
        "made": case.made,
        "model": case.model.name,
        "model version": case.model.version,
        "model sha256": case.model_hash,
    }
    for m in case.measures:
        values = {"": m.value, "low": m.low, "high": m.high}
        row |= {column_of(m, what): float(f"{v:.6g}") for what, v in values.items() if v is not None}
    for f in reversed(case.findings):  # of several with one code, the most serious stays
        row[f"finding {f.code}"] = f.severity.value
    if case.provenance is not None:
        row["heartseg"] = case.provenance.heartseg
        row |= {f"setting {name}": _plain(value) for name, value in case.provenance.settings.items()}
        if case.provenance.run is not None:
            row |= {"mode": case.provenance.run.mode, "device": case.provenance.run.device}
    return row


def _plain(value: Any) -> Cell:
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)


def write_cohort_table(cohort: Cohort, reviews: Mapping[str, Review], folder: Path) -> list[str]:
    """Write ``cohort.csv``, and ``cohort.parquet`` if pyarrow is installed; returns the names of the files.

    Raises:
        OutputError: a file cannot be written.
    """
    columns, rows = table_of(cohort, reviews)
    with writing(folder / CSV_FILE):
        write_table(folder / CSV_FILE, columns, rows)
    if not is_installed("pyarrow"):
        return [CSV_FILE]
    with writing(folder / PARQUET_FILE):
        _write_parquet(folder / PARQUET_FILE, columns, rows)
    return [CSV_FILE, PARQUET_FILE]


def _write_parquet(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Cell]]) -> None:
    import pyarrow
    from pyarrow import parquet

    arrays = {column: _column([row.get(column) for row in rows]) for column in columns}
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        parquet.write_table(pyarrow.table(arrays), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _column(values: list[Cell]) -> Any:
    """Return a column of one type: booleans, numbers or text."""
    import pyarrow

    known = [v for v in values if v is not None]
    if all(isinstance(v, bool) for v in known) and known:
        return pyarrow.array(values, pyarrow.bool_())
    if all(isinstance(v, int | float) for v in known) and known:
        return pyarrow.array([None if v is None else float(v) for v in values], pyarrow.float64())
    return pyarrow.array([None if v is None else str(v) for v in values], pyarrow.string())
