"""Description of one training: data, preset, machine, and output folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...anatomy import KEYS
from ...errors import SettingsError
from ...models.card import read_json
from .convert import DATASET_NAME, ORIENTATIONS
from .presets import CSFBU, Preset

TRAINER = "HeartSegTrainer"
LOG_NAME, RECORD_NAME = "train.log", "training.json"
MODALITIES = ("CT", "MR")
LOWERED = {"batch", "patch"}
"""Settings to lower if memory is insufficient; they may change until the first checkpoint exists."""


@dataclass(frozen=True)
class DataOptions:
    """Scans for training, and how their references are read.

    Attributes:
        data: folder, or ``.json`` file of a MONAI data list.
        labels: label value -> structure key; ``None`` derives it from the label values or segment names.
        structures: keys to train; ``None``: all structures in any reference.
        modality: ``"CT"`` is normalised by the foreground's HU, any other by z-scores; ``""`` uses the names of MM-WHS.
        orientation: see :class:`~.convert.Layout`.
        skip_bad: omit cases that cannot be used.
        copy: copy scans instead of linking them.
        folds: number of folds of the cross-validation.
        split_seed: seed of the random split.
        unlabelled: folder of scans without references for semi-supervised training.
    """

    data: Path
    labels: Mapping[int, str] | None = None
    structures: tuple[str, ...] | None = None
    modality: str = ""
    orientation: str = "keep"
    skip_bad: bool = False
    copy: bool = False
    folds: int = 5
    split_seed: int = 12345
    unlabelled: Path | None = None

    def problems(self) -> list[str]:
        """Problems of these options; empty if there are none."""
        found = []
        unknown = [k for k in self.structures or () if k not in KEYS]
        if unknown or (self.structures is not None and not self.structures):
            found.append(f"structure {', '.join(unknown) or 'list'} is unknown: choose from {', '.join(KEYS)}")
        if self.modality not in ("", *MODALITIES):
            found.append(f"modality {self.modality!r} is unknown: use {' or '.join(MODALITIES)}")
        if self.orientation not in ORIENTATIONS:
            found.append(f"orientation {self.orientation!r} is unknown: use {' or '.join(ORIENTATIONS)}")
        if self.folds < 2:
            found.append(f"folds is {self.folds}: a cross-validation needs 2 or more")
        return found


@dataclass(frozen=True)
class Machine:
    """Machine settings of a training.

    Attributes:
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        gpus: number of GPUs; more than one uses nnU-Net's DDP.
        loaders: number of processes that make batches. With 0, this process makes them, which is required for bitwise
            reproducible runs. ``None``: 0 on a CPU, else nnU-Net's default.
        processes: number of processes for preprocessing and export; 1 starts no additional process.
        threads: number of torch threads; ``None``: torch's default.
    """

    device: str = "auto"
    gpus: int = 1
    loaders: int | None = None
    processes: int = 1
    threads: int | None = None

    def problems(self) -> list[str]:
        """Problems of these settings; empty if there are none."""
        found = []
        if self.device not in ("auto", "cuda", "mps", "cpu"):
            found.append(f"device {self.device!r} is unknown: use auto, cuda, mps or cpu")
        for name, low in (("gpus", 1), ("processes", 1), ("loaders", 0), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < low:
                found.append(f"{name} {value} is too few: give {low} or more")
        if self.gpus > 1 and self.device not in ("auto", "cuda"):
            found.append(f"{self.gpus} GPUs and device {self.device!r} exclude each other: use --device cuda")
        return found


@dataclass(frozen=True)
class Training:
    """Description of one training.

    Attributes:
        data, preset, machine: see :class:`DataOptions`, :class:`~.presets.Preset` and :class:`Machine`.
        out: output folder.
        name: name of the model.
        only_folds: numbers of the folds to train; ``None``: all.
        seed: seed of the initial weights and of sampling.
        start_from: name or folder of the model that provides the initial weights (fine-tuning).
        test: test set, read like ``data`` and scored once with the finished model; ``None``: no test set.
    """

    data: DataOptions
    out: Path
    preset: Preset = CSFBU
    machine: Machine = field(default_factory=Machine)
    name: str = ""
    only_folds: tuple[int, ...] | None = None
    seed: int = 0
    start_from: str | None = None
    test: Path | None = None

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds to train."""
        return self.only_folds if self.only_folds is not None else tuple(range(self.data.folds))

    def check(self) -> Training:
        """Return this training, or raise :class:`~heartseg.errors.SettingsError` with the first problem."""
        problems = [*self.preset.problems(), *self.data.problems(), *self.machine.problems()]
        wrong = [f for f in self.folds if not 0 <= f < self.data.folds]
        if wrong or not self.folds:
            problems.append(
                f"fold {wrong[0]} does not exist: choose 0 to {self.data.folds - 1} (--folds {self.data.folds})"
                if wrong
                else "no fold is chosen: give numbers with --only-folds, such as 0,1"
            )
        trained = self.data.structures or KEYS
        for name in self.preset.edge_structures or ():
            if name not in trained:
                problems.append(f"edge structure {name!r} is not trained: use some of {', '.join(trained)}")
        if self.data.unlabelled is not None and self.machine.gpus > 1:
            problems.append("unlabelled scans and several GPUs exclude each other: use --num-gpus 1")
        for problem in problems:
            raise SettingsError(problem)
        return self


def fold_folder(training: Training, plans: Mapping[str, Any], fold: int) -> Path:
    """Return the folder of nnU-Net's results for a fold."""
    (configuration,) = plans["configurations"]
    model = f"{TRAINER}__{plans['plans_name']}__{configuration}"
    return training.out / "results" / DATASET_NAME / model / f"fold_{fold}"


def cross_validation(training: Training, plans: Mapping[str, Any], folds: Sequence[int]) -> dict[str, dict[str, float]]:
    """Read held-out case -> structure key -> Dice from nnU-Net's summaries of the folds; omits absent structures."""
    keys = read_json(training.out / "cases.json")["structures"]
    found: dict[str, dict[str, float]] = {}
    for fold in folds:
        summary = read_json(fold_folder(training, plans, fold) / "validation" / "summary.json")
        for case in summary["metric_per_case"]:
            name = Path(case["prediction_file"]).name.removesuffix(".nii.gz")
            metrics = {keys[int(value) - 1]: m["Dice"] for value, m in case["metrics"].items()}
            found[name] = {k: float(d) for k, d in metrics.items() if d is not None and d == d}  # NaN: absent in both
    return found
