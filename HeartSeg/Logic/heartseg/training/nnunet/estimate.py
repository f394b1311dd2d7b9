"""Estimate the duration of a training from a few steps before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import SettingsError
from ...progress import Reporter

DAY_S = 86_400.0
LONG_STEP_S = 5.0
"""Duration of the first step above which it is not repeated, because warm-up is negligible."""

Confirm = Callable[[str], bool]
"""Function that shows a question and returns whether to continue."""


@dataclass(frozen=True)
class Estimate:
    """Size and estimated duration of a training.

    Attributes:
        name: name of the plans.
        network: class name of the network.
        folds: number of folds to train.
        steps: training steps per fold.
        batch, patch: batch size, and patch size in voxels.
        step_s: seconds per step on this machine, without making the batch.
        held_out: held-out batches per fold.
        held_out_s: seconds per held-out batch.
    """

    name: str
    network: str
    folds: int
    steps: int
    batch: int
    patch: tuple[int, ...]
    step_s: float
    held_out: int = 0
    held_out_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Estimated seconds for all folds, without the prediction of the held-out cases at the end."""
        return self.folds * (self.steps * self.step_s + self.held_out * self.held_out_s)

    def __str__(self) -> str:
        patch = "x".join(map(str, self.patch))
        return (
            f"{self.name}: {self.network}, {self.folds} fold(s) of {self.steps} steps of {self.batch} patches of "
            f"{patch}; {self.step_s:.2g} s a step (measured, without making batches), {duration(self.total_s)} in all "
            f"with {self.held_out} held-out batches a fold"
        )


def duration(seconds: float) -> str:
    """Format a duration in its two largest units, such as ``"2 d 3 h"`` or ``"3 min 20 s"``."""
    whole = round(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def measure(trainer: Any, folds: int) -> Estimate:
    """Take one or two steps of a trainer on noise and return the estimate for its training.

    Args:
        trainer: a new :class:`~.trainers.HeartSegTrainer`, which must not be used afterwards: its weights change.
        folds: number of folds to train.
    """
    import torch

    from ..losses import thin_out

    trainer.initialize()
    patch, batch = tuple(trainer.configuration_manager.patch_size), trainer.configuration_manager.batch_size
    image = torch.randn(batch, trainer.num_input_channels, *patch)
    label = torch.zeros(batch, 1, *patch)
    middle = (slice(None), slice(None), *(slice(n // 4, n // 2) for n in patch))
    label[middle] = 1
    step: dict[str, Any] = {"data": image, "target": label}
    if trainer.enable_deep_supervision:
        sizes = [[round(n * s) for n, s in zip(patch, scale, strict=True)] for scale in deep_scales(trainer)]
        step["target"] = [thin_out(label, size) for size in sizes]
    trainer.network.train()
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        trainer.train_step(step)  # waits for the device, because it copies the loss from there
        seconds = time.perf_counter() - start
        if seconds > LONG_STEP_S:
            break
    trainer.network.eval()
    start = time.perf_counter()
    with torch.no_grad():
        trainer.validation_step(step)
    held_out_s = time.perf_counter() - start
    held_out = trainer.num_epochs * trainer.num_val_iterations_per_epoch
    steps = trainer.num_epochs * trainer.num_iterations_per_epoch
    plans = trainer.plans_manager.plans_name
    network = trainer.configuration_manager.network_arch_class_name.rpartition(".")[2]
    return Estimate(plans, network, folds, steps, batch, patch, seconds, held_out, held_out_s)


def deep_scales(trainer: Any) -> list[list[float]]:
    """Return the size of every output of the decoder as a fraction of the patch, for each axis."""
    return [list(map(float, scale)) for scale in trainer._get_deep_supervision_scales()]


def announce(estimates: Sequence[Estimate], reporter: Reporter, confirm: Confirm | None) -> None:
    """Announce the training, and ask for confirmation if it takes longer than a day.

    Raises:
        SettingsError: the user declined.
    """
    for estimate in estimates:
        reporter.announce(str(estimate))
    total = sum(e.total_s for e in estimates)
    if total <= DAY_S or confirm is None:
        return
    if not confirm(f"training will take about {duration(total)}, more than a day: start?"):
        raise SettingsError(
            f"training would take about {duration(total)} on this machine: repeat the command with --yes, or lower "
            "--epochs, --patch or --batch, or train fewer folds with --only-folds"
        )
