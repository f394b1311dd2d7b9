"""An evaluation as text for a terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..anatomy import structure
from ..version import __version__
from .scores import EXTRA, Evaluation, StructureScore, metric_names, value_of
from .study import MEAN, Spread, Study

SCHEMA = {"name": "heartseg-evaluation", "version": 1}
CSV_HEAD = ("row", "case", "structure", "status", "n")
ROWS = ("structure", "case mean", "mean over cases", "SD over cases", "n over cases")
"""Kinds of lines of the CSV file: a structure of a case, the mean over a case's structures, and over the cases."""

_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "sensitivity": "sensitivity",
    "hd95_mm": "HD95 (mm)",
    "assd_mm": "ASSD (mm)",
    "accuracy": "accuracy",
    "false_positive_rate": "FPR",
    "false_negative_rate": "FNR",
    "volume_ml": "volume (mL)",
    "truth_volume_ml": "reference (mL)",
    "volume_error_ml": "error (mL)",
    "volume_error_percent": "error (%)",
}


IN_FILES_ONLY = ("accuracy", "false_positive_rate", "false_negative_rate")
"""Metrics that the terminal's tables leave out: they say little where nearly all voxels are background."""


def title(metric: str) -> str:
    """Return the head of a metric's column, with its unit; surface Dice is ``NSD`` (normalised) for width."""
    if metric.startswith("surface_dice_"):
        return f"NSD {metric.removeprefix('surface_dice_').removesuffix('mm')} mm"
    return _TITLES[metric]


def _digits(metric: str) -> int:
    return 1 if metric.endswith(("_ml", "_percent")) else 2 if metric.endswith("_mm") and "dice" not in metric else 3


def _cell(value: float | None, metric: str) -> str:
    return "-" if value is None else f"{value:.{_digits(metric)}f}"


def _spread_cell(spread: Spread | None, metric: str, n: int) -> str:
    """``0.853 ± 0.041``, and how many cases where that differs from ``n``."""
    if spread is None:
        return "-"
    text = _cell(spread.mean, metric) + (f" ± {_cell(spread.sd, metric)}" if spread.sd is not None else "")
    return text if spread.n == n else f"{text} (n={spread.n})"


def format_evaluation(evaluation: Evaluation) -> str:
    """Return a line per structure and their mean; units in the head, ``-`` where there is no number."""
    metrics = [m for m in metric_names(evaluation.tolerances) if m not in IN_FILES_ONLY]
    lines = [["structure", *map(title, metrics)]]
    for s in evaluation.scores:
        lines.append([s.key, *(_cell(value_of(s, m, evaluation.tolerances), m) for m in metrics)])
    lines.append([MEAN, *(_cell(evaluation.mean(m), m) for m in metrics)])
    return _aligned(lines)


def format_study(study: Study) -> str:
    """A line per case (Dice of each structure, mean Dice, mean HD95), then mean ± SD over the cases per structure."""
    summary = study.summary()
    keys = [k for k in summary if k != MEAN]
    cases = [["case", *(f"Dice {k}" for k in keys), "mean Dice", "mean HD95 (mm)"]]
    for case in study.cases:
        dice = [case.score(k).dice if case.has(k) else None for k in keys]
        means = [_cell(case.mean(m), m) for m in ("dice", "hd95_mm")]
        cases.append([case.name, *(_cell(d, "dice") for d in dice), *means])
    metrics = metric_names(study.tolerances)
    overlap = [m for m in metrics if "volume" not in m and m not in IN_FILES_ONLY]
    volumes = [m for m in metrics if "volume" in m]
    tables = [cases]
    for columns, rows in ((overlap, [*keys, MEAN]), (volumes, keys)):
        table = [["mean ± SD", "n", *map(title, columns)]]
        for key in rows:
            n = len(study.values(key, "dice"))
            table.append([key, str(n), *(_spread_cell(summary[key][m], m, n) for m in columns)])
        tables.append(table)
    return "\n\n".join(map(_aligned, tables))


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


def write_csv(found: Evaluation | Study, path: Path) -> None:
    """Write one line per case and structure, one per case (means), and for a study mean, SD and n over the cases.

    UTF-8, comma-separated, ``.`` as decimal sign, CRLF line ends (RFC 4180), empty where there is no number.
    """
    cases = found.cases if isinstance(found, Study) else (found,)
    metrics = metric_names(cases[0].tolerances)
    with path.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow((*CSV_HEAD, *metrics))
        for case in cases:
            for s in case.scores:
                values = (value_of(s, m, case.tolerances) for m in metrics)
                writer.writerow((ROWS[0], case.name, s.key, s.status, "", *map(_number, values)))
            n = sum(s.status != EXTRA for s in case.scores)
            writer.writerow((ROWS[1], case.name, MEAN, "", n, *(_number(case.mean(m)) for m in metrics)))
        if isinstance(found, Study):
            _write_summary(writer, found, metrics)


def _write_summary(writer: Any, study: Study, metrics: Sequence[str]) -> None:
    for key, spreads in study.summary().items():
        n = len(study.values(key, "dice"))
        found = [spreads[m] for m in metrics]
        writer.writerow((ROWS[2], "", key, "", n, *(_number(s.mean if s else None) for s in found)))
        writer.writerow((ROWS[3], "", key, "", n, *(_number(s.sd if s else None) for s in found)))
        writer.writerow((ROWS[4], "", key, "", n, *(s.n if s else 0 for s in found)))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def write_json(found: Evaluation | Study, path: Path) -> None:
    """Write :func:`to_dict` as UTF-8 JSON, indented."""
    path.write_text(
        json.dumps(to_dict(found), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        encoding="utf-8",
        errors="backslashreplace",
    )


def to_dict(found: Evaluation | Study) -> dict[str, Any]:
    """JSON-ready: ``schema``, ``heartseg`` (version), ``tolerances_mm``, ``cases``, and for a study ``failed``,
    ``pred_only``, ``truth_only`` and ``summary``. A number that does not exist is ``None``.
    """
    study = found if isinstance(found, Study) else None
    cases = found.cases if isinstance(found, Study) else (found,)
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "heartseg": __version__,
        "tolerances_mm": list(cases[0].tolerances),
        "cases": [_case(c) for c in cases],
    }
    if study:
        content |= {
            "failed": dict(study.failed),
            "pred_only": list(study.pred_only),
            "truth_only": list(study.truth_only),
            "summary": {
                key: {m: None if s is None else {"mean": s.mean, "sd": s.sd, "n": s.n} for m, s in spreads.items()}
                for key, spreads in study.summary().items()
            },
        }
    return content


def _case(case: Evaluation) -> dict[str, Any]:
    metrics = metric_names(case.tolerances)
    return {
        "name": case.name,
        "pred": case.pred,
        "truth": case.truth,
        "mask": case.mask or None,
        "spacing_mm": list(case.geometry.spacing),
        "size": list(case.geometry.size),
        "notices": list(case.notices),
        "structures": {s.key: _structure(s, case) for s in case.scores},
        "mean": {m: case.mean(m) for m in metrics},
        "confusion_voxels": {truth: dict(found) for truth, found in case.confusion.items()},
    }


def _structure(s: StructureScore, case: Evaluation) -> dict[str, Any]:
    return {
        "name": structure(s.key).name,
        "status": s.status,
        **{m: value_of(s, m, case.tolerances) for m in metric_names(case.tolerances)},
        "surface_share": s.surface_share,
    }
