"""Tables of a comparison of configurations: Dice as in the documents, distances, and paired differences."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from .convert import write_json
from .presets import Preset

RESAMPLES = 10_000
"""Number of bootstrap samples of the cases for each interval."""
LEAST_CASES = 6
"""Cases that an interval needs. It excludes 0 whenever all differences have the same sign, which happens by chance in
6 % of comparisons of five cases (2 · 0.5⁵) and in 3 % of comparisons of six."""
DISTANCES = {"hd95_mm": "HD95, mm", "assd_mm": "ASSD, mm"}
"""Metric of :func:`heartseg.evaluation.scores.metric_names` -> heading."""

COLUMNS = ("LV", "RV", "LA", "RA", "MYO", "AO", "PA")

REPORTED: dict[str, tuple[float, ...]] = {
    "baseline": (93.1, 83.8, 91.5, 85.4, 90.9, 83.1, 87.9),
    "edge": (92.8, 86.8, 93.1, 86.9, 89.3, 95.1, 90.7),
    "fusion": (92.9, 85.2, 92.8, 87.3, 91.5, 95.0, 90.7),
    "edge+fusion": (93.1, 87.2, 92.8, 87.0, 90.0, 95.4, 90.9),
    "translated": (92.6, 86.5, 91.7, 87.9, 89.1, 93.9, 90.2),
    "all": (93.2, 89.6, 91.8, 87.6, 91.8, 96.4, 91.7),
}
"""Dice in percent on MM-WHS 2017 CT (16 training, 4 test cases, best fold) as reported in the original document:
LV RV LA RA Myo AO and their mean. Data and protocol differ, so these values are not directly comparable."""

REPORTED_MEAN = {"edge-m2": 90.2, "edge-m3": 89.8}


@dataclass(frozen=True)
class Trial:
    """One configuration with one seed.

    Attributes:
        configuration, seed: name of the configuration, and its seed.
        dice: Dice by held-out case and structure key; each case is predicted by the fold that was not trained on it.
        metrics: all scores of :mod:`heartseg.evaluation` by held-out case, ready for JSON.
        seconds: training time of all folds, without validation.
        steps: training steps of all folds.
    """

    configuration: str
    seed: int
    dice: Mapping[str, Mapping[str, float]]
    metrics: Mapping[str, Any]
    seconds: float
    steps: int


@dataclass(frozen=True)
class Row:
    """A row of the table: Dice in percent.

    Attributes:
        configuration: name of the configuration.
        cells: structure key (and ``"mean"``) -> mean and SD over the cases, each case averaged over the seeds; the SD
            is ``None`` for one case.
        n: number of cases; seeds: number of seeds.
        seed_sd: SD of the mean Dice over the seeds; ``None`` for one seed.
        seconds: training time of all folds and seeds.
    """

    configuration: str
    cells: Mapping[str, tuple[float, float | None]]
    n: int
    seeds: int
    seed_sd: float | None
    seconds: float


def rows(trials: Sequence[Trial]) -> list[Row]:
    """Return the rows of the table, in the order of the trials."""
    found = []
    for name in dict.fromkeys(t.configuration for t in trials):
        own = [t for t in trials if t.configuration == name]
        cases = sorted(set().union(*(t.dice for t in own)))
        keys = [k for k in COLUMNS if any(k in d for t in own for d in t.dice.values())]
        cells = {}
        for key in (*keys, "mean"):
            values = [v for c in cases if (v := _case_value(own, c, key)) is not None]
            cells[key] = (100 * mean(values), 100 * stdev(values) if len(values) > 1 else None)
        means = [mean(mean(d.values()) for d in t.dice.values()) for t in own]
        seed_sd = 100 * stdev(means) if len(means) > 1 else None
        found.append(Row(name, cells, len(cases), len(own), seed_sd, sum(t.seconds for t in own)))
    return found


def _case_value(trials: Sequence[Trial], case: str, key: str) -> float | None:
    """Return a case's Dice, or its mean over structures, averaged over the seeds."""
    scores = [t.dice[case] for t in trials if case in t.dice]
    values = [mean(d.values()) if key == "mean" else d[key] for d in scores if d and (key == "mean" or key in d)]
    return mean(values) if values else None


def case_values(trials: Sequence[Trial], metric: str) -> dict[str, float]:
    """Return case -> value, averaged over its structures and then over the seeds.

    Args:
        trials: trials of one configuration.
        metric: ``"dice"``, in percent, or a name of :data:`DISTANCES`, in mm. A distance is defined only if both
            prediction and reference contain the structure.
    """
    found: dict[str, list[float]] = {}
    for trial in trials:
        for case, scores in trial.dice.items():
            if metric == "dice":
                values = [100 * d for d in scores.values()]
            else:
                measured = trial.metrics.get(case, {}).values()
                values = [m[metric] for m in measured if m.get(metric) is not None]
            if values:
                found.setdefault(case, []).append(mean(values))
    return {case: mean(values) for case, values in sorted(found.items())}


@dataclass(frozen=True)
class Difference:
    """Difference between a configuration and the first one, paired by case.

    Attributes:
        configuration, against: names of the configuration and of the first one.
        metric: ``"dice"`` (percent) or a name of :data:`DISTANCES` (mm).
        mean: mean of the differences, configuration - against.
        low, high: 95 % percentile bootstrap interval of the mean over the cases; None for fewer than
            :data:`LEAST_CASES`.
        n: number of cases that both have.
    """

    configuration: str
    against: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def says_something(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def differences(trials: Sequence[Trial], seed: int = 0) -> list[Difference]:
    """Compare every configuration with the first one on the cases that both have, each averaged over its seeds."""
    names = list(dict.fromkeys(t.configuration for t in trials))
    found = []
    for name in names[1:]:
        for metric in ("dice", *DISTANCES):
            ours, theirs = (case_values([t for t in trials if t.configuration == n], metric) for n in (name, names[0]))
            paired = np.array([ours[c] - theirs[c] for c in ours if c in theirs])
            if not len(paired):
                continue
            low, high = bootstrap_interval(paired, seed)
            found.append(Difference(name, names[0], metric, float(paired.mean()), low, high, len(paired)))
    return found


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float | None, float | None]:
    """Return the 95 % percentile interval of the mean (Efron 1979); (None, None) for too few values."""
    if len(values) < LEAST_CASES:
        return None, None
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    return float(low), float(high)


def as_markdown(trials: Sequence[Trial]) -> str:
    """Return all tables: Dice as in the documents, distances, and differences from the first configuration."""
    return "\n".join(filter(None, (dice_table(trials), distance_table(trials), difference_table(trials))))


def distance_table(trials: Sequence[Trial]) -> str:
    """Return mean ± SD of HD95 and ASSD over the cases, each averaged over structures; empty without distances."""
    lines = [f"| mean of structures | {' | '.join(DISTANCES.values())} | cases |", "|---|" + "---|" * 3]
    for name in dict.fromkeys(t.configuration for t in trials):
        own = [t for t in trials if t.configuration == name]
        values = [list(case_values(own, metric).values()) for metric in DISTANCES]
        if any(values):
            cells = [_spread(v, 2) for v in values]
            lines.append(f"| {name} | {' | '.join(cells)} | {max(map(len, values))} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def difference_table(trials: Sequence[Trial]) -> str:
    """Return the paired differences with their intervals; empty for one configuration."""
    found = differences(trials)
    if not found:
        return ""
    lines = [
        f"| minus {found[0].against} | metric | mean difference | 95 % interval (bootstrap over cases) | cases |",
        "|---|---|---|---|---|",
    ]
    headings = {"dice": "Dice, %", **DISTANCES}
    for d in found:
        interval = f"needs {LEAST_CASES} cases" if d.low is None else f"{d.low:+.2f} to {d.high:+.2f}"
        lines.append(f"| {d.configuration} | {headings[d.metric]} | {d.mean:+.2f} | {interval} | {d.n} |")
    clear = [d for d in found if d.says_something]
    verdict = "; ".join(f"{d.configuration} differs in {headings[d.metric]}" for d in clear)
    lines += [
        "",
        f"{verdict or 'No difference is clear'}: an interval that holds 0 shows none.",
        "Intervals are over the cases, for the networks that were trained: other seeds may differ by more.",
    ]
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def dice_table(trials: Sequence[Trial]) -> str:
    """Return the Dice table: percent, mean ± SD over the cases, followed by the values of the document."""
    table = rows(trials)
    keys = [k for k in (*COLUMNS, "mean") if any(k in r.cells for r in table)]
    lines = [
        f"| Dice % | {' | '.join('Myo' if k == 'MYO' else k for k in keys)} | n × seeds | SD of the mean over seeds "
        "| training, s |",
        "|---|" + "---|" * (len(keys) + 3),
    ]
    for row in table:
        cells = [_cell(row.cells.get(k)) for k in keys]
        spread = "–" if row.seed_sd is None else f"{row.seed_sd:.1f}"
        lines.append(
            f"| {row.configuration} | {' | '.join(cells)} | {row.n} × {row.seeds} | {spread} | {row.seconds:.0f} |"
        )
        if row.configuration in REPORTED or row.configuration in REPORTED_MEAN:
            figures = dict(zip((*COLUMNS[:6], "mean"), REPORTED.get(row.configuration, ()), strict=False))
            figures = figures or {"mean": REPORTED_MEAN[row.configuration]}
            reported = [f"{figures[k]:.1f}" if k in figures else "" for k in keys]
            lines.append(f"| *reported, MM-WHS CT* | {' | '.join(reported)} | 4 × 1 | | |")
    return "\n".join(lines) + "\n"


def _cell(value: tuple[float, float | None] | None) -> str:
    if value is None:
        return ""
    return f"{value[0]:.1f}" + (f" ± {value[1]:.1f}" if value[1] is not None else "")


def as_csv(trials: Sequence[Trial]) -> str:
    """Return one line per configuration, seed, case and structure."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("configuration", "seed", "case", "structure", "dice", *DISTANCES))
    for trial in trials:
        for case, scores in sorted(trial.dice.items()):
            for key, value in scores.items():
                measured = trial.metrics.get(case, {}).get(key, {})
                distances = ("" if (v := measured.get(m)) is None else f"{v:.4f}" for m in DISTANCES)
                writer.writerow((trial.configuration, trial.seed, case, key, f"{value:.6f}", *distances))
    return out.getvalue()


def write_tables(out: Path, folds: Sequence[int], presets: Mapping[str, Preset], trials: Sequence[Trial]) -> None:
    """Write ``ablation.json``, ``ablation.csv`` and ``ablation.md``, each atomically."""
    content = {
        "n": len({c for t in trials for c in t.dice}),
        "folds": list(folds),
        "presets": {name: p.to_dict() for name, p in presets.items()},
        "reported_dice_percent": {"columns": [*COLUMNS[:6], "mean"], **{k: list(v) for k, v in REPORTED.items()}},
        "differences": [asdict(d) for d in differences(trials)],
        "trials": [
            {
                "configuration": t.configuration,
                "seed": t.seed,
                "seconds": t.seconds,
                "steps": t.steps,
                "metrics": t.metrics,
            }
            for t in trials
        ],
    }
    write_json(out / "ablation.json", content)
    for name, text in (("ablation.csv", as_csv(trials)), ("ablation.md", as_markdown(trials))):
        part = out / f".{name}.part-{os.getpid()}"
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(out / name)
