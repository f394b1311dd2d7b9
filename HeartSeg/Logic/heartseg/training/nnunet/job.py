"""What one training is to do: data, preset, machine, and the folder of its results."""

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
"""Settings to lower where memory is short; they may change until there is a checkpoint."""


@dataclass(frozen=True)
class DataOptions:
    """Which scans are trained on, and how their references are read.

    Attributes:
        data: folder, or ``.json`` of a MONAI data list.
        labels: label value -> structure key; ``None``: told from the values or segments.
        structures: keys to train; ``None``: all that any reference holds.
        modality: ``"CT"`` is normalised by the foreground's HU, all else to z-scores; ``""``: by MM-WHS's names.
        orientation: see :class:`~.convert.Layout`.
        skip_bad: leave out cases that cannot be used.
        copy: copy scans instead of linking them.
        folds: number of folds of the cross-validation.
        split_seed: seed of the split.
        unlabelled: folder of scans without references, to learn from too.
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
        """Problems of these options; empty if there is none."""
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
    """What the training runs on.

    Attributes:
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        gpus: more than one: nnU-Net's own DDP.
        loaders: processes that make batches; 0 makes them in this process, which a run needs to repeat bit for bit.
            ``None``: 0 on a CPU, else nnU-Net's choice.
        processes: for preprocessing and export; 1 starts none.
        threads: torch's threads; ``None``: its own choice.
    """

    device: str = "auto"
    gpus: int = 1
    loaders: int | None = None
    processes: int = 1
    threads: int | None = None

    def problems(self) -> list[str]:
        """Problems of this machine; empty if there is none."""
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
    """Everything about one training.

    Attributes:
        data, preset, machine: see there.
        out: folder for all that is made.
        name: of the model.
        only_folds: folds to train; ``None``: all.
        seed: of weights and samples.
        start_from: name or folder of a model whose weights to start from (fine-tuning).
        test: data set, read as ``data``, that is scored once with the finished model; ``None``: none.
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
        """Return the training itself, or :class:`~heartseg.errors.SettingsError` with the first problem."""
        problems = [*self.preset.problems(), *self.data.problems(), *self.machine.problems()]
        wrong = [f for f in self.folds if not 0 <= f < self.data.folds]
        if wrong or not self.folds:
            problems.append(
                f"fold {wrong[0]} does not exist: choose 0 to {self.data.folds - 1} (--folds {self.data.folds})"
                if wrong
                else "no fold is chosen: give numbers with --only-folds, such as 0,1"
            )
        if self.data.unlabelled is not None and self.machine.gpus > 1:
            problems.append("unlabelled scans and several GPUs exclude each other: use --num-gpus 1")
        for problem in problems:
            raise SettingsError(problem)
        return self


def fold_folder(training: Training, plans: Mapping[str, Any], fold: int) -> Path:
    """Return where nnU-Net puts a fold's results."""
    (configuration,) = plans["configurations"]
    model = f"{TRAINER}__{plans['plans_name']}__{configuration}"
    return training.out / "results" / DATASET_NAME / model / f"fold_{fold}"


def cross_validation(training: Training, plans: Mapping[str, Any], folds: Sequence[int]) -> dict[str, dict[str, float]]:
    """Held-out case -> structure key -> Dice, from nnU-Net's own summaries of the folds; absent structures left out."""
    keys = read_json(training.out / "cases.json")["structures"]
    found: dict[str, dict[str, float]] = {}
    for fold in folds:
        summary = read_json(fold_folder(training, plans, fold) / "validation" / "summary.json")
        for case in summary["metric_per_case"]:
            name = Path(case["prediction_file"]).name.removesuffix(".nii.gz")
            metrics = {keys[int(value) - 1]: m["Dice"] for value, m in case["metrics"].items()}
            found[name] = {k: float(d) for k, d in metrics.items() if d is not None and d == d}  # NaN: nowhere
    return found
