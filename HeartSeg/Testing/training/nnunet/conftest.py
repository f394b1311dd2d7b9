"""One real, tiny training for all tests that need one: MM-WHS's names, CSFBU-Net in 2D, one fold of two, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from heartseg.progress import Reporter
from heartseg.training.nnunet.presets import CSFBU
from labelled_scans import make_mmwhs

SPACING = (7.0, 7.0, 9.0)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are quickest on one thread, and sums are then always taken in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Trained:
    """A finished training: its options, its model folder, nnU-Net's variables before and after."""

    training: Any
    model: Path
    environment_before: dict[str, str]
    environment_after: dict[str, str]
    stages: dict[str, float]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two epochs of two steps: enough to go through everything, too few to learn."""
    pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")
    from heartseg.training.nnunet.run import DataOptions, Machine, Training, train

    home = tmp_path_factory.mktemp("training")
    data = make_mmwhs(home / "data", 3, SPACING)
    preset = CSFBU.with_changes(epochs=2, iterations=2, validation_iterations=1, batch=2)
    options = DataOptions(data, orientation="lps", folds=3)
    training = Training(options, home / "out", preset, Machine("cpu"), "Tiny-CSFBU", only_folds=(0,), seed=1)
    before, reporter = dict(os.environ), Reporter()
    model = train(training, reporter)
    return Trained(training, model, before, dict(os.environ), reporter.seconds)


@pytest.fixture
def again(trained: Trained) -> Any:
    """Trains another network in the same prepared folder: ``again("name", reporter, epochs=...)`` gives its fold."""
    from heartseg.training.nnunet import planning
    from heartseg.training.nnunet.run import fold_folder, plans_of, prepared, train_fold

    def train_again(name: str, reporter: Reporter | None = None, **changes: Any) -> Path:
        training = replace(trained.training, preset=trained.training.preset)
        preset = training.preset.with_changes(**changes)
        with prepared(training, Reporter()) as base:
            plans = plans_of(training, base, preset, name, training.seed)
            planning.preprocess(training.out, plans, 1, Reporter())
            train_fold(training, plans, 0, reporter or Reporter())
            return fold_folder(training, plans, 0)

    return train_again
