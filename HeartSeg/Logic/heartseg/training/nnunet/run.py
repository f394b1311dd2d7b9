"""One training from a folder of labelled scans to a model folder: convert, plan, preprocess, train folds, finish.

Every step skips completed work, so that a repeated call continues after an interruption.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import Cancelled, DeviceError, HeartSegError, OutputError, SettingsError, writing
from ...models.card import read_json
from ...progress import Reporter
from . import planning
from .checking import CheckedData, check_cases, orientation_notice, refuse_bad_data
from .config import NAME as CONFIG_NAME
from .config import write_config
from .convert import DATASET_ID, DATASET_NAME, Layout, convert, write_json
from .datasets import find_cases
from .environment import check_nnunet, nnunet_environment, prints_logged, threads_for_processes
from .estimate import Confirm, Estimate, announce, measure
from .job import LOG_NAME, LOWERED, RECORD_NAME, TRAINER, DataOptions, Machine, Training, fold_folder
from .presets import Preset, changed_settings
from .stamps import refuse_changes, stamp

log = logging.getLogger(__name__)


def train(training: Training, reporter: Reporter | None = None, confirm: Confirm | None = None) -> Path:
    """Train and write the model folder; a repeated call continues where it stopped.

    The model contains every finished fold in the folder, including those of earlier calls.

    Args:
        training: description of the training.
        reporter: receives progress and cancels; a cancelled training loses at most the current epoch.
        confirm: asks before a training that takes longer than a day; ``None`` starts it without a question.

    Returns:
        ``out/model``, which ``heartseg models install`` accepts.

    Raises:
        InputError: the data are unsuitable for training.
        SettingsError: a setting is invalid, or the folder contains another training.
        DependencyError: nnU-Net v2 is not installed.
        DeviceError: the device does not exist or is out of memory; the message names the setting to lower.
        OutputError: the folder cannot be written.
    """
    from .finish import write_model
    from .testing import check_test_set, score_test_set

    reporter = reporter or Reporter()
    training.check()
    check_nnunet()
    with prepared(training, reporter) as base:
        check_test_set(training, reporter)
        plans = plans_of(training, base, training.preset, training.preset.name, training.seed)
        plans = with_unlabelled(training, training.preset, plans, reporter)
        planning.preprocess(training.out, plans, training.machine.processes, reporter)
        announce([e for e in [estimated(training, plans)] if e], reporter, confirm)
        for fold in training.folds:
            train_fold(training, plans, fold, reporter)
        model = write_model(replace(training, only_folds=finished_folds(training, plans)), plans, reporter)
    score_test_set(training, model, reporter)
    return model


@contextlib.contextmanager
def prepared(training: Training, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Prepare a folder for nnU-Net (convert, split and plan the data); yields the base plans.

    Within the block, nnU-Net's environment variables are set and its output is captured.
    """
    out = training.out
    with (
        _folder_of(training),
        prints_logged(out / LOG_NAME),
        nnunet_environment(out, _loaders(training.machine), training.machine.processes),
        _torch_threads(training.machine.threads),
    ):
        _refuse_changed_data(training)
        home = out / "preprocessed" / DATASET_NAME
        made = out / "raw" / DATASET_NAME / "dataset.json", out / "cases.json", home / "splits_final.json"
        if not all(path.is_file() for path in made):
            _convert(training, reporter)
        yield planning.plan(out, training.machine.processes, reporter)


@contextlib.contextmanager
def _folder_of(training: Training) -> Iterator[None]:
    """Make the folder; remove it again if data or options are refused before it holds more than the log."""
    out = training.out
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    _refuse_another_training(training)
    try:
        yield
    except (HeartSegError, Cancelled):
        if [p.name for p in out.iterdir()] == [LOG_NAME]:
            (out / LOG_NAME).unlink()
            for folder in new:
                folder.rmdir()
        raise


def check_data(data: DataOptions, reporter: Reporter | None = None) -> CheckedData:
    """Find the cases and read each of them once, for ``--dry-run`` and before conversion."""
    listing = find_cases(data.data)
    return check_cases(listing, data.labels, data.structures, reporter, data.modality)


def _convert(training: Training, reporter: Reporter) -> None:
    options = training.data
    data = check_data(options, reporter)
    refuse_bad_data(data, options.folds, options.skip_bad)
    if options.orientation == "keep" and (notice := orientation_notice(data)):
        reporter.announce(notice)
    write_json(training.out / RECORD_NAME, _fingerprint(training))  # from here on the folder belongs to this training
    write_config(training.preset, training.out / CONFIG_NAME)
    structures = tuple(k for k in data.structures if options.structures is None or k in options.structures)
    channel = options.modality or _common_modality(data)
    layout = Layout(structures, channel or "image", options.orientation, options.copy)
    write_json(training.out / "cases.json", _facts(data, layout))
    convert(data, layout, training.out / "raw", options.labels, reporter)
    home = training.out / "preprocessed" / DATASET_NAME
    home.mkdir(parents=True, exist_ok=True)
    write_json(home / "splits_final.json", split(data, options.folds, options.split_seed))


def _common_modality(data: CheckedData) -> str:
    found = {c.case.modality for c in data.cases}
    return found.pop() if len(found) == 1 else ""


def _facts(data: CheckedData, layout: Layout) -> dict[str, Any]:
    """Return the description of the data for the model card."""
    return {
        "layout": data.listing.layout,
        "n": len(data.cases),
        "structures": list(layout.structures),
        "channel": layout.channel,
        "stored_orientations": data.orientations,
        "orientation": layout.orientation,
        "left_out": dict(data.problems),
        "translated": list(data.translated),
        "cases": {
            c.case.name: {
                "image": str(c.case.image),
                "label": str(c.case.label),
                "volumes_ml": dict(c.volumes_ml),
                "notices": list(c.notices),
                "files": stamp(c.case.image, c.case.label),
            }
            for c in data.cases
        },
    }


def _refuse_changed_data(training: Training) -> None:
    """Check that the data have not changed since the conversion; deleted data are allowed, because they are not needed.

    Raises:
        InputError: a case has changed, is new, or is missing.
    """
    path, data = training.out / "cases.json", Path(training.data.data).expanduser()
    if not path.is_file() or not data.exists():
        return
    facts = read_json(path)
    before = {name: case.get("files") for name, case in facts["cases"].items()}  # not recorded by an older version
    now = {c.name: stamp(c.image, c.label) for c in find_cases(data).cases if c.name not in facts["left_out"]}
    refuse_changes("case", before, now, data, training.out)


def split(data: CheckedData, folds: int, seed: int) -> list[dict[str, list[str]]]:
    """Write nnU-Net's ``splits_final``: the folds of the data list if every case has one, else a random split.

    Every fold trains on the train-only cases, and no fold holds them out.
    """
    given = {c.case.name: c.case.fold for c in data.cases if not c.case.train_only}
    names = sorted(given)
    numbers = {f for f in given.values() if f is not None}
    if None not in given.values() and numbers == set(range(folds)):
        held_out = [[n for n in names if given[n] == fold] for fold in range(folds)]
    else:
        shuffled = list(names)
        random.Random(seed).shuffle(shuffled)
        held_out = [sorted(shuffled[fold::folds]) for fold in range(folds)]
    return [{"train": [n for n in names if n not in val] + list(data.train_only), "val": val} for val in held_out]


def plans_of(training: Training, base: Mapping[str, Any], preset: Preset, name: str, seed: int) -> dict[str, Any]:
    """Return the plans of one training in the prepared folder."""
    start = None
    if training.start_from is not None:
        from .finetune import start_from_model

        start = start_from_model(training.start_from, preset, training.out)
    return planning.adapted_plans(base, preset, name, seed, start, left_out(training, preset))


def left_out(training: Training, preset: Preset) -> list[str]:
    """Return the prepared cases that a preset does not use for training."""
    translated = read_json(training.out / "cases.json").get("translated", [])
    return [] if preset.translated else list(translated)


def with_unlabelled(training: Training, preset: Preset, plans: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Preprocess the scans without references and add their names to the plans; without such scans, return the plans.

    Raises:
        InputError: a scan cannot be read, or there are no scans.
    """
    if training.data.unlabelled is None or not preset.unlabelled:
        return dict(plans)
    from .unlabelled import prepare_unlabelled, recorded_scans

    scans = recorded_scans(training.out, training.data.unlabelled, reporter)
    names = prepare_unlabelled(training.out, plans, scans, training.data.skip_bad, reporter)
    return {**plans, planning.SETTINGS_KEY: {**plans[planning.SETTINGS_KEY], "unlabelled": names}}


def finished_folds(training: Training, plans: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the folds that have been trained and validated, in this or an earlier call."""
    return tuple(
        fold
        for fold in range(training.data.folds)
        if (fold_folder(training, plans, fold) / "validation" / "summary.json").is_file()
    )


def estimated(training: Training, plans: Mapping[str, Any]) -> Estimate | None:
    """Estimate a training from a few steps; None if it is complete or runs on several GPUs."""
    finished = finished_folds(training, plans)
    left = [fold for fold in training.folds if fold not in finished]
    if not left or training.machine.gpus > 1:
        return None
    from ...devices import choose_device
    from .trainers import HeartSegTrainer

    dataset = read_json(training.out / "preprocessed" / DATASET_NAME / "dataset.json")
    (configuration,) = plans["configurations"]
    device = choose_device(training.machine.device)
    trainer = HeartSegTrainer({**plans, "continue_training": True}, configuration, left[0], dataset, device)
    return measure(trainer, len(left))


def train_fold(training: Training, plans: Mapping[str, Any], fold: int, reporter: Reporter) -> None:
    """Train one fold and predict its held-out cases, continuing an earlier call."""
    folder = fold_folder(training, plans, fold)
    if (folder / "validation" / "summary.json").is_file():
        return
    started = any((folder / f"checkpoint_{n}.pth").is_file() for n in ("latest", "final"))
    if training.machine.gpus > 1:
        _train_on_gpus(training, plans, fold, started, reporter)
        return
    from ...devices import choose_device
    from .trainers import HeartSegTrainer

    device = choose_device(training.machine.device)
    dataset = read_json(training.out / "preprocessed" / DATASET_NAME / "dataset.json")
    (configuration,) = plans["configurations"]
    with threads_for_processes(training.machine.processes == 1):
        trainer = HeartSegTrainer({**plans, "continue_training": started}, configuration, fold, dataset, device)
        trainer.reporter = reporter
        if started:
            trainer.load_checkpoint(str(_newest(folder)))
        steps = trainer.num_epochs * (trainer.num_iterations_per_epoch + trainer.num_val_iterations_per_epoch)
        if not (folder / "checkpoint_final.pth").is_file():
            with reporter.stage(f"{plans['plans_name']}, fold {fold}", steps):
                trainer.run_training()
        with reporter.stage(f"{plans['plans_name']}, validate fold {fold}"):
            trainer.perform_actual_validation()


def _newest(folder: Path) -> Path:
    final = folder / "checkpoint_final.pth"
    return final if final.is_file() else folder / "checkpoint_latest.pth"


def _train_on_gpus(training: Training, plans: Mapping[str, Any], fold: int, started: bool, reporter: Reporter) -> None:
    """Train with nnU-Net's DDP, which finds the trainer by name in the folder ``nnUNet_extTrainer``."""
    import torch
    from nnunetv2.run.run_training import run_training

    if torch.cuda.device_count() < training.machine.gpus:
        raise DeviceError(
            f"{training.machine.gpus} GPUs are requested and {torch.cuda.device_count()} available: lower --num-gpus"
        )
    (configuration,) = plans["configurations"]
    with reporter.stage(f"{plans['plans_name']}, fold {fold}"):
        try:
            run_training(
                str(DATASET_ID),
                configuration,
                fold,
                TRAINER,
                plans["plans_name"],
                num_gpus=training.machine.gpus,
                continue_training=started,
                device=torch.device("cuda"),
            )
        except torch.multiprocessing.ProcessRaisedException as error:
            lines = [line for line in str(error).splitlines() if "DeviceError: " in line]
            if not lines:
                raise
            raise DeviceError(lines[-1].partition("DeviceError: ")[2]) from error


def _refuse_another_training(training: Training) -> None:
    """Check that the folder contains no other training and no other files."""
    path = training.out / RECORD_NAME
    if not path.is_file():
        if any(p.name != LOG_NAME for p in training.out.iterdir()):
            raise OutputError(
                f"folder {str(training.out)!r} is not empty and contains no training: choose another with -o"
            )
        return
    before, now = read_json(path), _fingerprint(training)
    different = {k: (before.get(k), now[k]) for k in now if k != "preset" and before.get(k) != now[k]}
    different |= changed_settings(before["preset"], training.preset)
    if different and different.keys() <= LOWERED and not any((training.out / "results").rglob("checkpoint_*.pth")):
        write_json(path, now)
    elif different:
        key, (old, new) = next(iter(different.items()))
        raise SettingsError(
            f"{str(training.out)!r} holds a training with {key} {old!r:.80}, not {new!r:.80}: choose another folder "
            "with -o, or repeat the command that started it"
        )


def _fingerprint(training: Training) -> dict[str, Any]:
    """Return the settings that must not change between calls of one training; machine and selected folds may change."""
    data = training.data
    return {
        "data": str(Path(data.data).expanduser().resolve()),
        "labels": {str(k): v for k, v in (data.labels or {}).items()},
        "structures": list(data.structures or ()),
        "modality": data.modality,
        "orientation": data.orientation,
        "folds": data.folds,
        "preset": training.preset.to_dict(),
        "seed": training.seed,
        "start_from": training.start_from,
        "unlabelled": str(Path(data.unlabelled).expanduser().resolve()) if data.unlabelled else None,
    }


def _loaders(machine: Machine) -> int | None:
    if machine.loaders is not None:
        return machine.loaders
    from ...devices import choose_device

    return 0 if machine.gpus == 1 and choose_device(machine.device).type == "cpu" else None


@contextlib.contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
