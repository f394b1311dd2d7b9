"""Compare training configurations on the same folds and seeds, as in the ablation table of the documents."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SettingsError
from ...models.card import read_json
from ...progress import Reporter
from ...volume.reading import read_volume
from ...volume.types import Volume
from . import planning
from .ablation_table import Trial, write_tables
from .convert import DATASET_NAME
from .environment import check_nnunet
from .estimate import Confirm, announce
from .finish import write_model
from .job import TRAINER, Training, fold_folder
from .presets import NETWORK_NAMES, Preset, changed_settings
from .references import read_reference
from .run import estimated, left_out, prepared, train_fold, with_unlabelled

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
"""Changes of the preset for each name in ``--configurations``. Network names are configurations too.

A configuration trains on the cases of ``heartseg translate join`` only with ``translated``, and on scans without
references only with ``unlabelled``.
"""


def named_configurations(names: Sequence[str], table: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return the changes of the preset for each name.

    Args:
        names: names of :data:`CONFIGURATIONS`, ``table`` or networks.
        table: additional configurations of the user.

    Raises:
        SettingsError: a name is unknown, or there are no names.
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
    confirm: Confirm | None = None,
) -> tuple[Trial, ...]:
    """Train and score every configuration with every seed on the same folds; a repeated call continues.

    Args:
        training: data, preset, machine and folder that all configurations share.
        configurations: configuration name -> changes of the preset (see :class:`~.presets.Preset`).
        seeds: seeds of the initial weights and of sampling; each configuration is trained once per seed.
        reporter: receives progress and cancels.
        confirm: asks before trainings that take longer than a day; None starts them without a question.

    Returns:
        The trials. Each trial updates its model folder ``models/NAME-seedN`` and the files ``ablation.json``,
        ``ablation.csv`` and ``ablation.md``; the end of the run writes ``ablation.png`` and ``comparison.png``.

    Raises:
        SettingsError: a change refers to an unknown setting or has an invalid value, or the folder already contains a
            configuration of the same name with different settings.
        HeartSegError: as raised by :func:`~.run.train`.
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
        for _, _, plans in jobs:
            planning.preprocess(training.out, plans, training.machine.processes, reporter)
        estimates = [estimated(training, plans) for _, _, plans in jobs]
        announce([e for e in estimates if e is not None], reporter, confirm)
        for name, seed, plans in jobs:
            for fold in training.folds:
                train_fold(training, plans, fold, reporter)
            trials.append(score(training, plans, name, seed, reporter))
            trained = replace(training, preset=presets[name], name=plans_name(name, seed), seed=seed)
            write_model(trained, plans, reporter, model_folder(training, name, seed))
            write_tables(training.out, training.folds, presets, trials)
        draw_figures(training, tuple(trials), reporter)
    return tuple(trials)


def model_folder(training: Training, configuration: str, seed: int) -> Path:
    """Return the folder of a configuration's model."""
    return training.out / "models" / plans_name(configuration, seed)


def draw_figures(training: Training, trials: Sequence[Trial], reporter: Reporter) -> None:
    """Draw the box plot, and a figure that compares all configurations in one slice of the first held-out case."""
    from ...evaluation.slices import Shown, choose_slice, write_comparison
    from .ablation_figure import write_box_plot

    write_box_plot(trials, training.out / "ablation.png")
    case = min(c for t in trials for c in t.dice)
    seed = trials[0].seed
    first = [t for t in trials if t.seed == seed]
    home = training.out / "raw" / DATASET_NAME
    scan = read_volume(home / "imagesTr" / f"{case}_0000.nii.gz")
    reference = read_reference(home / "labelsTr" / f"{case}.nii.gz", _labels(training))
    key, place = choose_slice(reference.labels)
    shown = []
    with reporter.stage("draw comparison", len(first)):
        for done, trial in enumerate(first):
            reporter.advance(done)
            found = _prediction(training, trial, case)
            if found is not None:
                model = model_folder(training, trial.configuration, seed)
                heat = heat_map(model, scan, found, key, training.machine.device)
                shown.append(Shown(trial.configuration, found[place], None if heat is None else heat[place]))
    write_comparison(scan.array[place], reference.labels[place], shown, key, training.out / "comparison.png")


def _labels(training: Training) -> dict[int, str]:
    """Label value -> structure key in the prepared data."""
    return {k + 1: key for k, key in enumerate(read_json(training.out / "cases.json")["structures"])}


def _prediction(training: Training, trial: Trial, case: str) -> np.ndarray | None:
    """Return the predicted labels of a held-out case as HeartSeg's values; ``None`` if there is no prediction."""
    results = training.out / "results" / DATASET_NAME
    name = plans_name(trial.configuration, trial.seed)
    found = sorted(results.glob(f"{TRAINER}__{name}__*/fold_*/validation/{case}.nii.gz"))
    return read_reference(found[0], _labels(training)).labels if found else None


def heat_map(model: Path, scan: Volume, labels: np.ndarray, key: str, device: str) -> np.ndarray | None:
    """Return the Grad-CAM map of a structure, (z, y, x), 0 to 1; None if the prediction lacks the structure."""
    from ...anatomy import structure
    from ...explain import Explainer
    from ...pipeline import Segmenter
    from ...result import Result
    from ...settings import Settings

    if not (labels == structure(key).label).any():
        return None
    explainer = Explainer(Segmenter(model, Settings(device=device)))
    return explainer.explain(scan, key, result=Result(labels, scan.geometry)).heat


def plans_name(configuration: str, seed: int) -> str:
    """Return the name of a configuration's plans: letters, digits and hyphens."""
    return f"{re.sub(r'[^A-Za-z0-9-]+', '-', configuration)}-seed{seed}"


def refuse_one_name_for_two(configurations: Iterable[str]) -> None:
    """Check that no two configurations have the same plans name, because they would share checkpoints.

    Raises:
        SettingsError: two configurations have the same plans name.
    """
    taken: dict[str, str] = {}
    for name in configurations:
        first = taken.setdefault(plans_name(name, 0).lower(), name)
        if first != name:
            raise SettingsError(f"configurations {first!r} and {name!r} would share one folder: rename one")


def refuse_other_settings(training: Training, name: str, plans: Mapping[str, Any]) -> None:
    """Check that the folder has no checkpoint of this configuration with different settings.

    Raises:
        SettingsError: the settings differ; the message gives the configuration, the setting and both values.
    """
    path = training.out / "preprocessed" / DATASET_NAME / f"{plans['plans_name']}.json"
    results = training.out / "results" / DATASET_NAME
    trained = results.glob(f"{TRAINER}__{plans['plans_name']}__*/fold_*/checkpoint_*.pth")
    if not path.is_file() or not any(trained):
        return
    before, now = read_json(path)[planning.SETTINGS_KEY], plans[planning.SETTINGS_KEY]
    older = {"unlabelled": False, **before["preset"]}  # records of older versions lack settings that had their default
    different = changed_settings(older, Preset.from_dict(now["preset"]))
    keys = (before.keys() | now.keys()) - {"preset"}
    different |= {k: (before.get(k), now.get(k)) for k in keys if (before.get(k) or None) != (now.get(k) or None)}
    for key, (old, new) in different.items():
        raise SettingsError(
            f"configuration {name!r} was trained in {str(training.out)!r} with {key} {old!r:.80}, not {new!r:.80}: "
            "give it another name, or choose another folder with -o"
        )


def refuse_without_translated(training: Training, presets: Mapping[str, Preset]) -> None:
    """Check that the data contain translated cases if a configuration requires them.

    Raises:
        SettingsError: translated cases are missing; the message describes how to make them.
    """
    wanting = [name for name, preset in presets.items() if preset.translated]
    if wanting and not read_json(training.out / "cases.json").get("translated"):
        raise SettingsError(
            f"configuration {wanting[0]!r} requires translated scans, but {str(training.data.data)!r} contains none: "
            "add them with heartseg translate join (to a folder with images/ and labels/), or omit the configuration"
        )


def refuse_without_unlabelled(training: Training, configurations: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that unlabelled scans are given if and only if a configuration uses them.

    Raises:
        SettingsError: unlabelled scans are missing, or given but unused.
    """
    wanting = [name for name, changes in configurations.items() if changes.get("unlabelled")]
    if wanting and training.data.unlabelled is None:
        raise SettingsError(
            f"configuration {wanting[0]!r} requires scans without references: give their folder with --unlabelled"
        )
    if training.data.unlabelled is not None and not wanting:
        raise SettingsError(
            "no configuration uses the scans of --unlabelled: add 'unlabelled' or a similar configuration of your own"
        )


def said(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that have a value; ``null`` in a table leaves a setting unchanged."""
    return {k: v for k, v in changes.items() if v is not None}


def configured(preset: Preset, changes: Mapping[str, Any], name: str) -> Preset:
    """Return the preset of a configuration; it uses translated and unlabelled scans only if the configuration does.

    Raises:
        SettingsError: a changed setting does not exist or is invalid.
    """
    return changed(preset, {"translated": False, "unlabelled": False, **said(changes)}, name)


def changed(preset: Preset, changes: Mapping[str, Any], name: str) -> Preset:
    """Return the preset with a configuration's changes."""
    try:
        return preset.with_changes(**changes)
    except TypeError:
        unknown = [k for k in changes if k not in preset.to_dict()]
        raise SettingsError(
            f"configuration {name!r} changes {', '.join(unknown)}, which are not settings: choose from "
            f"{', '.join(preset.to_dict())}"
        ) from None


def score(training: Training, plans: Mapping[str, Any], name: str, seed: int, reporter: Reporter) -> Trial:
    """Compare the held-out predictions of all folds with their references."""
    from ...evaluation import evaluate
    from ...evaluation.scores import metric_names, value_of
    from .trainers import load_own_checkpoint

    labels = _labels(training)
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
                found = evaluate(file, references / file.name, labels=labels)
                case = file.name.removesuffix(".nii.gz")
                scored = [s for s in found.scores if s.dice is not None]
                dice[case] = {s.key: float(s.dice) for s in scored if s.dice is not None}
                wanted = metric_names(found.tolerances)
                metrics[case] = {s.key: {m: value_of(s, m, found.tolerances) for m in wanted} for s in scored}
        logged = load_own_checkpoint(folder / "checkpoint_final.pth")["logging"]
        seconds += sum(
            e - s for s, e in zip(logged["epoch_start_timestamps"], logged["epoch_end_timestamps"], strict=True)
        )
        preset = Preset.from_dict(plans[planning.SETTINGS_KEY]["preset"])
        steps += preset.epochs * preset.iterations
    return Trial(name, seed, dice, metrics, round(seconds, 1), steps)


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """Read configurations from a JSON file: ``{"name": {"network": "csfbu", "erosion": 2}, ...}``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{str(path)!r} cannot be read ({error}): give a JSON file of configurations") from None
    if not (isinstance(content, dict) and content and all(isinstance(v, dict) for v in content.values())):
        raise SettingsError(
            f'{str(path)!r} is not a table of configurations: write {{"name": {{"network": "csfbu", "erosion": 2}}}}'
        )
    return content
