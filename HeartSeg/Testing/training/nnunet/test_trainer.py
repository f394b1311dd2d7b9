"""HeartSegTrainer applies its preset; built from plans without data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from heartseg.training.nnunet.presets import Preset

pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")

from heartseg.errors import SettingsError
from heartseg.progress import Reporter
from heartseg.training.nnunet.environment import nnunet_environment
from heartseg.training.nnunet.estimate import Estimate, announce, duration, measure
from heartseg.training.nnunet.planning import SETTINGS_KEY, adapted_plans
from heartseg.training.nnunet.presets import CSFBU, INTEGRATED_ATTENTION, NNUNET
from heartseg.training.nnunet.supervision import TrainingLoss

from .conftest import base_plans

if TYPE_CHECKING:
    from heartseg.training.nnunet.trainers import HeartSegTrainer

DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "LV": 1, "RV": 2, "MYO": 3},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}
TINY = CSFBU.with_changes(patch=(32, 32), batch=2, erosion=3, beta=0.25, delta=4.0, alpha=0.5)


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Callable[..., HeartSegTrainer]]:
    """Return a function that makes trainers in an empty folder; keyword arguments are settings besides the preset."""
    from heartseg.training.nnunet.trainers import HeartSegTrainer

    def make(preset: Preset = TINY, seed: int = 3, fold: int = 0, **settings: Any) -> HeartSegTrainer:
        plans = adapted_plans(base_plans(), preset, "p", seed)
        plans[SETTINGS_KEY].update(settings)
        small = plans["configurations"][preset.configuration]["architecture"]["arch_kwargs"]
        small["features_per_stage"] = [4] * small["n_stages"]
        plans["continue_training"] = False
        return HeartSegTrainer(plans, preset.configuration, fold, DATASET, torch.device("cpu"))

    with nnunet_environment(tmp_path, 0, 1):
        yield make


def test_every_setting_of_the_preset_reaches_the_trainer_of_nnunet(new: Callable[..., HeartSegTrainer]) -> None:
    preset = TINY.with_changes(
        learning_rate=0.123,
        weight_decay=0.004,
        epochs=7,
        iterations=11,
        validation_iterations=5,
        oversample=0.61,
        deep_supervision=False,
    )
    trainer = new(preset)
    assert trainer.preset == preset
    assert (trainer.initial_lr, trainer.weight_decay, trainer.num_epochs) == (0.123, 0.004, 7)
    assert (trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (11, 5)
    assert trainer.oversample_foreground_percent == 0.61
    assert trainer.enable_deep_supervision is False
    assert trainer.probabilistic_oversampling is False
    assert trainer.save_every == 1
    assert new(TINY.with_changes(batch=1)).probabilistic_oversampling is True


def test_settings_outside_the_preset_reach_the_trainer(new: Callable[..., HeartSegTrainer]) -> None:
    trainer = new(left_out=["a", "b"], unlabelled=["c"], start_from="/w.pth")
    assert (trainer.left_out, trainer.unlabelled, trainer.start_from) == (frozenset("ab"), ("c",), "/w.pth")
    bare = new()
    assert (bare.left_out, bare.unlabelled, bare.start_from) == (frozenset(), (), None)


def test_the_loss_has_the_weights_of_the_preset_and_structures_and_spacing_of_the_data(
    new: Callable[..., HeartSegTrainer],
) -> None:
    loss = new()._build_loss()
    assert isinstance(loss, TrainingLoss)
    labels = torch.zeros(1, 1, 24, 24, dtype=torch.long)
    labels[..., 6:20, 3:12], labels[..., 6:20, 12:21] = 1, 3
    outputs = torch.randn(1, 7, 24, 24, generator=torch.Generator().manual_seed(0))
    wanted = TrainingLoss(TINY, 3, (0.4, 0.4))(outputs, labels)
    assert torch.equal(loss(outputs, labels), wanted)
    for other in (TrainingLoss(CSFBU, 3, (0.4, 0.4)), TrainingLoss(TINY, 3, (0.4, 2.0))):
        assert not torch.isclose(other(outputs, labels), wanted)
    some = new(TINY.with_changes(edge_structures=("MYO", "LV")))._build_loss()
    assert isinstance(some, TrainingLoss)
    assert some.edge_labels == (3, 1)


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({"network": "plain", "loss": "nnunet"}, False),
        ({"network": "csfbu", "loss": "nnunet"}, True),
        ({"network": "csfbu-fusion", "loss": "nnunet"}, False),
        ({"network": "plain", "loss": "ce-dice"}, True),
        ({"network": "plain", "loss": "focal"}, True),
    ],
)
def test_a_preset_without_edges_can_keep_the_loss_of_nnunet(
    new: Callable[..., HeartSegTrainer], changes: dict[str, str], ours: bool
) -> None:
    trainer = new(NNUNET.with_changes(dimension="2d", patch=(32, 32), **changes))
    trainer.is_ddp = False
    assert isinstance(trainer._build_loss(), TrainingLoss) == ours


@pytest.mark.parametrize(
    ("preset", "rates"),
    [
        (CSFBU.with_changes(epochs=4), [0.01, 0.0075, 0.005, 0.0025]),
        (NNUNET.with_changes(epochs=4), [0.01 * (1 - e / 4) ** 0.9 for e in range(4)]),
        (INTEGRATED_ATTENTION.with_changes(epochs=4), [1e-4] * 4),
    ],
    ids=["linear", "poly", "constant"],
)
def test_the_learning_rate_depends_on_the_epoch_number_only(
    new: Callable[..., HeartSegTrainer], preset: Preset, rates: list[float]
) -> None:
    trainer = new(TINY)
    trainer.preset, trainer.num_epochs, trainer.network = preset, 4, torch.nn.Linear(2, 2)
    optimizer, schedule = trainer.configure_optimizers()
    found = []
    for epoch in (3, 0, 1, 2, 3):
        schedule.step(epoch)
        found.append(optimizer.param_groups[0]["lr"])
    assert found[1:] == pytest.approx(rates)
    assert found[0] == found[4]


def test_the_optimizer_is_that_of_the_preset(new: Callable[..., HeartSegTrainer]) -> None:
    trainer = new()
    trainer.network = torch.nn.Linear(2, 2)
    for momentum, nesterov in ((0.9, True), (0.0, False)):
        trainer.preset = TINY.with_changes(momentum=momentum, weight_decay=0.02, learning_rate=0.5)
        optimizer, _ = trainer.configure_optimizers()
        assert type(optimizer) is torch.optim.SGD
        (group,) = optimizer.param_groups
        assert (group["momentum"], group["nesterov"], group["weight_decay"], group["initial_lr"]) == (
            momentum,
            nesterov,
            0.02,
            0.5,
        )
    trainer.preset = INTEGRATED_ATTENTION.with_changes(learning_rate=0.3, weight_decay=0.01)
    optimizer, _ = trainer.configure_optimizers()
    assert type(optimizer) is torch.optim.Adam
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.3, 0.01)


def test_seed_and_fold_determine_the_initial_weights(new: Callable[..., HeartSegTrainer]) -> None:
    def drawn(**which: int) -> tuple[float, ...]:
        new(**which)
        return torch.rand(()).item(), np.random.random()  # noqa: NPY002

    assert drawn() == drawn()
    assert drawn(seed=4) != drawn()
    assert drawn(fold=1) != drawn()
    assert drawn(seed=4)[1] != drawn()[1]


def test_a_checkpoint_contains_no_code_and_restores_the_whole_state(
    new: Callable[..., HeartSegTrainer], tmp_path: Path
) -> None:
    from heartseg.training.nnunet import trainers

    """Loads with ``weights_only=True`` and no exceptions: it contains only numbers, text and tensors."""
    data = tmp_path / "preprocessed" / "Dataset501_HeartSeg" / "nnUNetPlans_2d"
    data.mkdir(parents=True)
    (data / "case.b2nd").touch()  # nnU-Net derives the format from the file name
    trainer = new()
    trainer.initialize()
    trainer.current_epoch, trainer._best_ema = 4, np.float64(0.25)
    trainer.logger.log("mean_fg_dice", np.float32(0.5), 0)
    trainer.logger.log("dice_per_class_or_region", [np.float32(0.5), np.float64("nan")], 0)
    path = tmp_path / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    after = torch.rand(3), np.random.random(3)  # noqa: NPY002
    content = torch.load(path, weights_only=True)
    assert content["trainer_name"] == "HeartSegTrainer"
    assert content["current_epoch"] == 5
    assert content["init_args"]["configuration"] == "2d"
    assert not list(tmp_path.glob("*.part*"))

    other = new(seed=9)
    other.initialize()
    other.load_checkpoint(str(path))
    assert other.current_epoch == 5
    assert other._best_ema == 0.25
    pairs = zip(trainer.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    trainers.restore_random_state(other._random_state)
    assert torch.equal(torch.rand(3), after[0])
    assert np.array_equal(np.random.random(3), after[1])  # noqa: NPY002


def test_the_random_state_covers_python_numpy_and_torch() -> None:
    import random

    from heartseg.training.nnunet import trainers

    trainers.seed_everything(11)
    np.random.normal()  # noqa: NPY002  (leaves a second normal number in store)
    state = trainers.random_state()
    first = torch.rand(2).tolist(), np.random.normal(size=3).tolist(), random.random()  # noqa: NPY002
    trainers.seed_everything(12)
    trainers.restore_random_state(state)
    assert (torch.rand(2).tolist(), np.random.normal(size=3).tolist(), random.random()) == first  # noqa: NPY002


def test_progress_counts_training_steps(new: Callable[..., HeartSegTrainer]) -> None:
    seen = []
    trainer = new()
    trainer._advance()
    trainer.reporter = Reporter(lambda event: seen.append(event.done))
    with trainer.reporter.stage("fold 0", 5):
        trainer._advance()
        trainer._advance()
    assert [n for n in seen if n][:2] == [1, 2]


def test_the_duration_of_a_training_is_estimated_from_a_few_steps(
    new: Callable[..., HeartSegTrainer], tmp_path: Path
) -> None:
    data = tmp_path / "preprocessed" / "Dataset501_HeartSeg" / "nnUNetPlans_2d"
    data.mkdir(parents=True)
    (data / "case.b2nd").touch()
    for deep in (True, False):
        preset = TINY.with_changes(epochs=3, iterations=5, validation_iterations=4, deep_supervision=deep)
        found = measure(new(preset), folds=2)
        assert (found.folds, found.steps, found.batch, found.patch) == (2, 15, 2, (32, 32))
        assert (found.name, found.network) == ("p", "CSFBUNet")
        assert 0 < found.step_s < 60 and 0 < found.held_out_s < 60
        assert found.total_s == pytest.approx(30 * found.step_s + 24 * found.held_out_s)


def test_only_trainings_of_more_than_a_day_need_a_confirmation() -> None:
    asked: list[str] = []

    def answer(yes: bool) -> Callable[[str], bool]:
        return lambda question: asked.append(question) or yes

    def estimate(step_s: float) -> Estimate:
        return Estimate("csfbu", "CSFBUNet", 2, 1000, 14, (512, 512), step_s)

    reporter = Reporter()
    announce([estimate(20.0), estimate(20.0)], reporter, answer(False))  # 80,000 s
    assert not asked
    assert len(reporter.announcements) == 2 and "20 s a step" in reporter.announcements[0]
    announce([estimate(50.0)], reporter, None)
    announce([estimate(50.0)], reporter, answer(True))
    with pytest.raises(SettingsError, match="1 d 3 h on this machine"):
        announce([estimate(50.0)], reporter, answer(False))
    assert len(asked) == 2 and "about 1 d 3 h" in asked[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (86_400 + 3 * 3600 + 59, "1 d 3 h")],
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_loss_of_unlabelled_scans_is_added_in_each_training_step(new: Callable[..., HeartSegTrainer]) -> None:
    class Teacher:
        def __init__(self) -> None:
            self.sure = [0.1, 0.2, 0.3]
            self.steps: list[tuple[torch.nn.Module, int]] = []

        def loss(self, network: torch.nn.Module, step: int) -> torch.Tensor:
            self.steps.append((network, step))
            return torch.tensor(10.0)

    trainer: Any = new(TINY.with_changes(iterations=7))
    trainer.network, trainer.current_epoch = torch.nn.Identity(), 2
    trainer.loss = own = lambda outputs, targets: outputs + targets
    with trainer._taught():
        assert trainer.loss is own
    trainer._teacher = teacher = Teacher()
    with trainer._taught():
        assert trainer.loss(torch.tensor(1.0), torch.tensor(2.0)).item() == 13.0
    assert trainer.loss is own
    assert teacher.steps == [(trainer.network, 2 * 7 + 3)]
