"""Several ways to train, on the same folds and seeds, side by side: the documents' table."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ...errors import SettingsError
from ...models.card import read_json
from ...progress import Reporter
from . import planning
from .convert import DATASET_NAME, write_json
from .environment import check_nnunet
from .presets import NETWORK_NAMES, Preset, changed_settings
from .run import TRAINER, Training, fold_folder, left_out, prepared, train_fold, with_unlabelled

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "baseline": {"network": "plain"},
    "edge": {"network": "csfbu-edge"},
    "fusion": {"network": "csfbu-fusion"},
    "edge+fusion": {"network": "csfbu"},
    "edge-head": {"network": "csfbu-head"},
    "edge-m2": {"network": "csfbu-edge", "erosion": 2},
    "edge-m3": {"network": "csfbu-edge", "erosion": 3},
    "translated": {"network": "plain", "translated": True},
    "all": {"network": "csfbu", "translated": True},
    "unlabelled": {"network": "plain", "unlabelled": True},
}
"""Names for ``--configurations``: what each changes in the preset. Networks' names are configurations too.

Only where a configuration says ``translated`` are the cases of ``heartseg translate join`` trained on; only where one
says ``unlabelled`` does it learn from scans without references.
"""

COLUMNS = ("LV", "RV", "LA", "RA", "MYO", "AO", "PA")

REPORTED: dict[str, tuple[float, ...]] = {
    "baseline": (93.1, 83.8, 91.5, 85.4, 90.9, 83.1, 87.9),
    "edge": (92.8, 86.8, 93.1, 86.9, 89.3, 95.1, 90.7),
    "fusion": (92.9, 85.2, 92.8, 87.3, 91.5, 95.0, 90.7),
    "edge+fusion": (93.1, 87.2, 92.8, 87.0, 90.0, 95.4, 90.9),
    "translated": (92.6, 86.5, 91.7, 87.9, 89.1, 93.9, 90.2),
    "all": (93.2, 89.6, 91.8, 87.6, 91.8, 96.4, 91.7),
}
"""Dice in percent on MM-WHS 2017 CT (16 training, 4 test cases, best fold), as the founding document reports them:
LV RV LA RA Myo AO and their mean. Other data and another protocol than here: not to be compared directly."""

REPORTED_MEAN = {"edge-m2": 90.2, "edge-m3": 89.8}


@dataclass(frozen=True)
class Trial:
    """One configuration with one seed.

    Attributes:
        configuration, seed: which.
        dice: held-out case -> structure key -> Dice, each case predicted by the fold that was not trained on it.
        metrics: held-out case -> all scores of :mod:`heartseg.evaluation`, JSON-ready.
        seconds: of training, all folds, without validation.
        steps: of training, all folds.
    """

    configuration: str
    seed: int
    dice: Mapping[str, Mapping[str, float]]
    metrics: Mapping[str, Any]
    seconds: float
    steps: int


def named_configurations(names: Sequence[str], table: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Name -> changes of the preset.

    Args:
        names: of :data:`CONFIGURATIONS`, of ``table``, or of networks.
        table: configurations of the user's own.

    Raises:
        SettingsError: an unknown name, or none.
    """
    known = {**{n: {"network": n} for n in NETWORK_NAMES}, **CONFIGURATIONS, **(table or {})}
    unknown = [n for n in names if n not in known]
    if unknown or not names:
        raise SettingsError(f"configuration {', '.join(unknown) or 'list'} is unknown: choose from {', '.join(known)}")
    return {n: dict(known[n]) for n in names}


def ablate(
    training: Training,
    configurations: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    reporter: Reporter | None = None,
) -> tuple[Trial, ...]:
    """Train and score every configuration with every seed on the same folds; called again, it goes on.

    Args:
        training: data, preset, machine and folder that all have in common.
        configurations: name -> changes of the preset (see :class:`~.presets.Preset`).
        seeds: of weights and samples.
        reporter: progress and cancel.

    Returns:
        The trials; ``ablation.json``, ``ablation.csv`` and ``ablation.md`` are written into the folder after each.

    Raises:
        SettingsError: a change names no setting, or cannot work; the folder holds a configuration with others.
        as :func:`~.run.train`.
    """
    reporter = reporter or Reporter()
    training.check()
    refuse_one_name_for_two(configurations)
    check_nnunet()
    refuse_without_unlabelled(training, configurations)
    presets = {name: configured(training.preset, changes, name) for name, changes in configurations.items()}
    trials: list[Trial] = []
    with prepared(training, reporter) as base:
        refuse_without_translated(training, presets)
        jobs = []
        for seed, (name, preset) in itertools.product(seeds, presets.items()):
            own = planning.adapted_plans(
                base, preset, plans_name(name, seed), seed, left_out=left_out(training, preset)
            )
            jobs.append((name, seed, with_unlabelled(training, preset, own, reporter)))
        for name, _, plans in jobs:
            refuse_other_settings(training, name, plans)
        for name, seed, plans in jobs:
            planning.preprocess(training.out, plans, training.machine.processes, reporter)
            for fold in training.folds:
                train_fold(training, plans, fold, reporter)
            trials.append(score(training, plans, name, seed, reporter))
            write_tables(training, presets, trials)
    return tuple(trials)


def plans_name(configuration: str, seed: int) -> str:
    """Name of a configuration's plans: letters, digits and hyphens."""
    return f"{re.sub(r'[^A-Za-z0-9-]+', '-', configuration)}-seed{seed}"


def refuse_one_name_for_two(configurations: Iterable[str]) -> None:
    """Two configurations under one name of plans would share their checkpoints.

    Raises:
        SettingsError: names both.
    """
    taken: dict[str, str] = {}
    for name in configurations:
        first = taken.setdefault(plans_name(name, 0).lower(), name)
        if first != name:
            raise SettingsError(f"configurations {first!r} and {name!r} would have one folder: rename one")


def refuse_other_settings(training: Training, name: str, plans: Mapping[str, Any]) -> None:
    """Stop where the folder holds a checkpoint of this configuration with other settings.

    Raises:
        SettingsError: names configuration, setting, and both values.
    """
    path = training.out / "preprocessed" / DATASET_NAME / f"{plans['plans_name']}.json"
    results = training.out / "results" / DATASET_NAME
    trained = results.glob(f"{TRAINER}__{plans['plans_name']}__*/fold_*/checkpoint_*.pth")
    if not path.is_file() or not any(trained):
        return
    before, now = read_json(path)[planning.SETTINGS_KEY], plans[planning.SETTINGS_KEY]
    older = {"unlabelled": False, **before["preset"]}  # an ablation leaves them out where nothing is said
    different = changed_settings(older, Preset.from_dict(now["preset"]))
    keys = (before.keys() | now.keys()) - {"preset"}
    different |= {k: (before.get(k), now.get(k)) for k in keys if (before.get(k) or None) != (now.get(k) or None)}
    for key, (old, new) in different.items():
        raise SettingsError(
            f"configuration {name!r} was trained in {str(training.out)!r} with {key} {old!r:.80}, not {new!r:.80}: "
            "give it another name, or choose another folder with -o"
        )


def refuse_without_translated(training: Training, presets: Mapping[str, Preset]) -> None:
    """Stop before anything is trained where a configuration needs translated cases and the data hold none.

    Raises:
        SettingsError: says how to make them.
    """
    wanting = [name for name, preset in presets.items() if preset.translated]
    if wanting and not read_json(training.out / "cases.json").get("translated"):
        raise SettingsError(
            f"configuration {wanting[0]!r} trains on translated scans, and {str(training.data.data)!r} holds none: add "
            "them with heartseg translate join (to a folder with images/ and labels/), or leave the configuration out"
        )


def refuse_without_unlabelled(training: Training, configurations: Mapping[str, Mapping[str, Any]]) -> None:
    """Stop where a configuration learns from scans without references and none are given, or the reverse.

    Raises:
        SettingsError: names the option.
    """
    wanting = [name for name, changes in configurations.items() if changes.get("unlabelled")]
    if wanting and training.data.unlabelled is None:
        raise SettingsError(
            f"configuration {wanting[0]!r} learns from scans without references: give their folder with --unlabelled"
        )
    if training.data.unlabelled is not None and not wanting:
        raise SettingsError(
            "no configuration learns from the scans of --unlabelled: add 'unlabelled' to the "
            "configurations, or one of your own that says so"
        )


def said(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that have a value: a table's ``null`` leaves a setting as it is."""
    return {k: v for k, v in changes.items() if v is not None}


def configured(preset: Preset, changes: Mapping[str, Any], name: str) -> Preset:
    """Return the preset of a configuration: without translated or unlabelled scans unless the configuration names them.

    Raises:
        SettingsError: a change names no setting, or cannot work.
    """
    return changed(preset, {"translated": False, "unlabelled": False, **said(changes)}, name)


def changed(preset: Preset, changes: Mapping[str, Any], name: str) -> Preset:
    """The preset with a configuration's changes."""
    try:
        return preset.with_changes(**changes)
    except TypeError:
        unknown = [k for k in changes if k not in preset.to_dict()]
        raise SettingsError(
            f"configuration {name!r} changes {', '.join(unknown)}, which is no setting: choose from "
            f"{', '.join(preset.to_dict())}"
        ) from None


def score(training: Training, plans: Mapping[str, Any], name: str, seed: int, reporter: Reporter) -> Trial:
    """Compare the held-out predictions of all folds with their references."""
    import torch

    from ...evaluation import evaluate
    from ...evaluation.scores import metric_names, value_of

    structures = read_json(training.out / "cases.json")["structures"]
    labels = {k + 1: key for k, key in enumerate(structures)}
    references = training.out / "raw" / DATASET_NAME / "labelsTr"
    dice: dict[str, dict[str, float]] = {}
    metrics: dict[str, Any] = {}
    seconds, steps = 0.0, 0
    for fold in training.folds:
        folder = fold_folder(training, plans, fold)
        predictions = sorted((folder / "validation").glob("*.nii.gz"))
        with reporter.stage(f"score {name}", len(predictions)):
            for done, file in enumerate(predictions):
                reporter.advance(done)
                found = evaluate(file, references / file.name, labels=labels, structures=structures)
                case = file.name.removesuffix(".nii.gz")
                scored = [s for s in found.scores if s.dice is not None]
                dice[case] = {s.key: float(s.dice) for s in scored if s.dice is not None}
                wanted = metric_names(found.tolerances)
                metrics[case] = {s.key: {m: value_of(s, m, found.tolerances) for m in wanted} for s in scored}
        logged = torch.load(folder / "checkpoint_final.pth", map_location="cpu", weights_only=False)["logging"]
        seconds += sum(
            e - s for s, e in zip(logged["epoch_start_timestamps"], logged["epoch_end_timestamps"], strict=True)
        )
        preset = Preset.from_dict(plans[planning.SETTINGS_KEY]["preset"])
        steps += preset.epochs * preset.iterations
    return Trial(name, seed, dice, metrics, round(seconds, 1), steps)


@dataclass(frozen=True)
class Row:
    """A line of the table: Dice in percent.

    Attributes:
        configuration: its name.
        cells: structure key (and ``"mean"``) -> mean and SD over the cases, each case averaged over the seeds; the SD
            is ``None`` for one case.
        n: cases; seeds: number of seeds.
        seed_sd: SD of the mean Dice over the seeds; ``None`` for one seed.
        seconds: of training, all folds and seeds.
    """

    configuration: str
    cells: Mapping[str, tuple[float, float | None]]
    n: int
    seeds: int
    seed_sd: float | None
    seconds: float


def rows(trials: Sequence[Trial]) -> list[Row]:
    """The table's lines, in the order of the trials."""
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
    """A case's Dice, or its mean over structures, averaged over the seeds."""
    scores = [t.dice[case] for t in trials if case in t.dice]
    values = [mean(d.values()) if key == "mean" else d[key] for d in scores if d and (key == "mean" or key in d)]
    return mean(values) if values else None


def as_markdown(trials: Sequence[Trial]) -> str:
    """The documents' table: Dice in percent, mean ± SD over the cases, and what the document reported below."""
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
    """One line per configuration, seed, case and structure."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("configuration", "seed", "case", "structure", "dice"))
    for trial in trials:
        for case, scores in sorted(trial.dice.items()):
            for key, value in scores.items():
                writer.writerow((trial.configuration, trial.seed, case, key, f"{value:.6f}"))
    return out.getvalue()


def write_tables(training: Training, presets: Mapping[str, Preset], trials: Sequence[Trial]) -> None:
    """``ablation.json``, ``ablation.csv`` and ``ablation.md``, each whole or not at all."""
    out = training.out
    content = {
        "n": len({c for t in trials for c in t.dice}),
        "folds": list(training.folds),
        "presets": {name: p.to_dict() for name, p in presets.items()},
        "reported_dice_percent": {"columns": [*COLUMNS[:6], "mean"], **{k: list(v) for k, v in REPORTED.items()}},
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


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """Configurations from a JSON file: ``{"name": {"network": "csfbu", "erosion": 2}, ...}``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{str(path)!r} cannot be read ({error}): give a JSON file of configurations") from None
    if not (isinstance(content, dict) and content and all(isinstance(v, dict) for v in content.values())):
        raise SettingsError(
            f'{str(path)!r} is no table of configurations: write {{"name": {{"network": "csfbu", "erosion": 2}}}}'
        )
    return content
