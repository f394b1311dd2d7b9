"""Shared functions of the benchmarks: arguments, Dice, means, tables and the JSON record."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heartseg import STRUCTURES, Segmenter, Settings, Volume, __version__
from heartseg.hashes import sha256_of

LABELS = {s.key: s.label for s in STRUCTURES}


def make_parser(description: str | None, data: bool = True) -> argparse.ArgumentParser:
    """Create a parser with the common arguments of the benchmarks."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if data:
        parser.add_argument("data", type=Path, help="the development data, ../shared/data")
    parser.add_argument("--model", help="name or folder of the model (default: the default model)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results and their provenance to FILE")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", default="auto")
    return parser


def make_segmenter(args: argparse.Namespace, **settings: Any) -> Segmenter:
    """Create a segmenter for the model in the arguments, with additional settings."""
    return Segmenter(args.model, Settings(device=args.device, threads=args.threads, **settings))


def center_of(volume: Volume) -> tuple[float, float, float]:
    """Centre of a scan, LPS ``(x, y, z)``, mm."""
    x, y, z = (float(v) for v in volume.geometry.center())
    return x, y, z


def dice(found: np.ndarray, truth: np.ndarray, keep: np.ndarray | None = None) -> float:
    """Dice of two masks of equal shape over the voxels of ``keep``; 1 if both are empty there."""
    if keep is not None:
        found, truth = found & keep, truth & keep
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def structure_dice(
    found: np.ndarray, truth: np.ndarray, keys: Iterable[str] = tuple(LABELS), keep: np.ndarray | None = None
) -> dict[str, float]:
    """Dice of these structures in maps of HeartSeg labels, without structures that ``truth`` lacks."""
    masks = {k: truth == LABELS[k] for k in keys}
    present = {k: m for k, m in masks.items() if (m if keep is None else m & keep).any()}
    return {k: dice(found == LABELS[k], m, keep) for k, m in present.items()}


def heart_of(name: str) -> str:
    """The heart of a scan ``FOLDER/KIND_SUBJECT_NUMBER...``: CT, MR, other views and degraded copies are one."""
    folder, scan = name.split("/")
    folder = folder.removesuffix("-degraded")
    _, subject, number = scan.split("_")[:3]
    return f"{folder}/{subject}_{number.split('-')[0].rstrip('abc')}"


def modality_of(name: str) -> str:
    """The modality, from the name of a scan."""
    return "MR" if name.startswith("mr") else "CT"


def summarise(values: Sequence[float]) -> dict[str, float | int]:
    """Number, mean and sample standard deviation (NaN for fewer than two values)."""
    v = np.asarray(values, float)
    mean = float(v.mean()) if v.size else float("nan")
    return {"n": int(v.size), "mean": mean, "sd": float(v.std(ddof=1)) if v.size > 1 else float("nan")}


def summarise_cases(cases: Sequence[dict[str, float]]) -> dict[str, dict[str, float | int]]:
    """Summary of each structure over the cases that have it, and ``mean``: of the mean over structures per case."""
    keys = [k for k in LABELS if any(k in c for c in cases)]
    table = {k: summarise([c[k] for c in cases if k in c]) for k in keys}
    return table | {"mean": summarise([float(np.mean(list(c.values()))) for c in cases])}


def cell(value: Any) -> str:
    """Format a table cell: three decimals for a number, a dash for a missing value."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format a Markdown table."""
    lines = [heads, ["---"] * len(heads), *([cell(v) for v in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary_table(table: dict[str, dict[str, Any]], what: str = "Dice") -> str:
    """Format n, mean and SD of each row as a Markdown table."""
    return markdown([what, "n", "mean", "SD"], [(k, r["n"], r["mean"], r["sd"]) for k, r in table.items()])


def facts(segmenter: Segmenter) -> dict[str, Any]:
    """Provenance of the results: program and model (version and hashes of its weights)."""
    model, finder = segmenter.model, segmenter.model.open_finder()
    weights = [*model.checkpoints, *(finder.checkpoints if finder else ())]
    return {
        "heartseg": __version__,
        "model": model.name,
        "model_version": model.card.version if model.card else None,
        "checkpoints": {p.relative_to(model.path).as_posix(): sha256_of(p) for p in weights},
    }


def _plain(value: Any) -> Any:
    """JSON-serializable copy: floats rounded to four decimals, NaN as null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else round(float(value), 4)
    return value.item() if isinstance(value, np.generic) else value


def write_json(path: Path | None, record: dict[str, Any]) -> None:
    """Write the record if a file is given."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_plain(record), indent=2) + "\n", encoding="utf-8")
