"""Write a finished training as a HeartSeg model folder: the files for prediction and a card."""

from __future__ import annotations

import copy
import datetime
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from ...hashes import sha256_of
from ...models.card import ModelCard, read_json
from ...networks.catalogue import NETWORKS
from ...progress import Reporter
from .convert import DATASET_NAME, write_json
from .planning import SETTINGS_KEY, architecture

if TYPE_CHECKING:
    from .job import Training

CITATIONS = {
    "": "Isensee F, Jaeger PF, Kohl SAA, et al. nnU-Net: a self-configuring method for deep learning-based biomedical "
    "image segmentation. Nat Methods 2021;18:203-211",
    "MM-WHS": "Zhuang X, Shen J. Multi-scale patch and multi-modality atlases for whole heart segmentation of MRI. "
    "Med Image Anal 2016;31:77-87 (MM-WHS data; its terms bind what is made from it)",
}


def write_model(training: Training, plans: Mapping[str, Any], reporter: Reporter, target: Path | None = None) -> Path:
    """Write a model folder from the trained folds, atomically, and return its path.

    The checkpoints contain the weights and three properties of them, but no optimiser state and no pickled code. They
    refer to nnU-Net's standard trainer, so stock nnU-Net needs only the network class, which can be imported from
    :mod:`heartseg`. A network with an auxiliary edge head is stored as nnU-Net's plain network, which requires no
    HeartSeg code.

    Args:
        training: the training; the plans were made from its preset.
        plans: plans of the trained folds.
        reporter: receives progress.
        target: output folder; default: ``out/model``. The curves of each fold are drawn next to it.
    """
    target = target or training.out / "model"
    part = target.with_name(f".{target.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with reporter.stage("write model", len(training.folds)):
        try:
            dataset = read_json(training.out / "raw" / DATASET_NAME / "dataset.json")
            write_json(part / "plans.json", _without_edge_head(training, plans))
            write_json(part / "dataset.json", {k: v for k, v in dataset.items() if k != "dataset"})
            for done, fold in enumerate(training.folds):
                reporter.advance(done)
                _strip_checkpoint(training, plans, fold, part / f"fold_{fold}")
                _copy_curves(training, plans, fold, target)
            card(training, plans, part).write(part)
            old = target.with_name(f".{target.name}.old-{os.getpid()}")
            if target.exists():
                target.replace(old)
            part.replace(target)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target


def _strip_checkpoint(training: Training, plans: Mapping[str, Any], fold: int, folder: Path) -> None:
    import torch

    from .job import fold_folder
    from .trainers import load_own_checkpoint

    trained = fold_folder(training, plans, fold)
    content = load_own_checkpoint(trained / "checkpoint_final.pth")
    folder.mkdir()
    (configuration,) = plans["configurations"]
    weights = {k: v.detach().contiguous() for k, v in content["network_weights"].items()}
    if _has_edge_head(training):
        classes = 1 + len(read_json(training.out / "cases.json")["structures"])
        weights = {k: v[:classes].clone() if ".seg_layers." in k else v for k, v in weights.items()}
    stripped = {
        "network_weights": weights,
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": configuration},
        "inference_allowed_mirroring_axes": content["inference_allowed_mirroring_axes"],
    }
    torch.save(stripped, folder / "checkpoint_final.pth")


def _copy_curves(training: Training, plans: Mapping[str, Any], fold: int, target: Path) -> None:
    """Copy the curves of a fold next to the model folder: ``progress_fold_0.png`` and ``history_fold_0.csv``.

    If the model folder is not ``out/model``, its name is the prefix of the file names.
    """
    from .job import fold_folder

    prefix = "" if target == training.out / "model" else f"{target.name}-"
    for name in ("progress.png", "history.csv"):
        made = fold_folder(training, plans, fold) / name
        if made.is_file():
            shutil.copyfile(made, target.with_name(f"{prefix}{made.stem}_fold_{fold}{made.suffix}"))


def _has_edge_head(training: Training) -> bool:
    return training.preset.network == "csfbu-head"


def _without_edge_head(training: Training, plans: Mapping[str, Any]) -> dict[str, Any]:
    """Return plans with nnU-Net's plain U-Net in place of a network with a separate edge head.

    The last K output channels are the edges; the rest of the network equals a plain U-Net.
    """
    if not _has_edge_head(training):
        return dict(plans)
    content = copy.deepcopy(dict(plans))
    (configuration,) = content["configurations"].values()
    extra = NETWORKS[training.preset.network].extra
    planned = {k: v for k, v in configuration["architecture"]["arch_kwargs"].items() if k not in extra}
    configuration["architecture"] = architecture(planned, training.preset.with_changes(network="plain"))
    return content


def card(training: Training, plans: Mapping[str, Any], folder: Path) -> ModelCard:
    """Return the model card of a training, with its training data and the Dice of its cross-validation."""
    facts = read_json(training.out / "cases.json")
    (configuration,) = plans["configurations"]
    channel, structures = facts["channel"], facts["structures"]
    mmwhs = facts["layout"] == "MM-WHS"
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return ModelCard(
        name=model_name(training),
        version=datetime.date.today().isoformat(),
        description=f"{training.preset.network} network in {training.preset.dimension}, trained with nnU-Net v2 "
        f"(preset {training.preset.name}) on {facts['n']} scans.",
        modalities=(channel,) if channel in ("CT", "MR") else (),
        labels={k + 1: key for k, key in enumerate(structures)},
        orientation=promised_orientation(facts),
        configuration=configuration,
        trained_on={
            "n": facts["n"],
            "translated": len(facts.get("translated", ())),
            "data": facts["layout"],
            "unlabelled": len(plans[SETTINGS_KEY].get("unlabelled", ())),
            "cases": sorted(facts["cases"]),
            "structures": structures,
            "stored_orientations": facts["stored_orientations"],
            "orientation": facts["orientation"],
            "folds": list(training.folds),
            "seed": training.seed,
            "start_from": training.start_from,
            "preset": training.preset.to_dict(),
            "steps": training.preset.epochs * training.preset.iterations,
            "batch": plans["configurations"][configuration]["batch_size"],
            "patch": plans["configurations"][configuration]["patch_size"],
        },
        tested_on=(tested_on(training, plans),),
        licence="not stated: the terms of the training data bind the weights",
        citation=tuple(CITATIONS[k] for k in ("", "MM-WHS") if not k or mmwhs),
        files={p.relative_to(folder).as_posix(): sha256_of(p) for p in files},
        intended_use="research use only, not a medical device",
    )


def model_name(training: Training) -> str:
    """Return the requested name, or a name made from preset and data."""
    return training.name or f"{training.preset.network}-{training.preset.dimension}-{training.out.resolve().name}"


def promised_orientation(facts: Mapping[str, Any]) -> str | None:
    """Return ``"LPS"`` if all training cases have LPS axes, else ``None`` (stored axes, as in nnU-Net)."""
    turned = facts["orientation"] == "lps" or set(facts["stored_orientations"]) == {"LPS"}
    return "LPS" if turned else None


def tested_on(training: Training, plans: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card entry of the cross-validation: Dice of held-out cases, predicted by the fold without them."""
    from .job import cross_validation

    dice = cross_validation(training, plans, training.folds)
    keys = read_json(training.out / "cases.json")["structures"]
    return {
        "name": f"cross-validation, {len(training.folds)} of {training.data.folds} folds",
        "n": len(dice),
        "dice": {k: spread([d[k] for d in dice.values() if k in d]) for k in keys},
        "mean_dice": spread([mean(d.values()) for d in dice.values() if d]),
        "per_case": dice,
        "note": "each case predicted by the one network that was not trained on it, mirrored copies averaged, by "
        "nnU-Net itself",
    }


def spread(values: list[float]) -> dict[str, float | int | None]:
    """Return mean, sample standard deviation (``None`` for fewer than two values) and number of values."""
    return {
        "mean": round(mean(values), 4) if values else None,
        "sd": round(stdev(values), 4) if len(values) > 1 else None,
        "n": len(values),
    }
