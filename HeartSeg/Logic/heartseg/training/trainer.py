"""Training loop of one network: any device, mixed precision, averaged weights, can stop and resume at any time."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from heartseg.synthesis.switches import FROZEN, NEWEST

from ..devices import threads_text
from .cpu import fast_bfloat16, has_matrix_units
from .losses import deep_loss
from .scoring import score_scenes
from .stages import SIZES, Stage, build_network
from .state import load_state, save_state, shrink_optimiser
from .stream import Batch, SampleStream, plain_batches, pooled_batches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run.

    Attributes:
        steps: optimiser steps; the learning rate follows a cosine over them.
        minutes: training time, instead of ``steps`` (0: use ``steps``). The cosine then follows the clock, so that a
            run is only approximately reproducible.
        seed: seed of weights and samples.
        weight_decay: weight decay of AdamW.
        clip: maximum norm of the gradient.
        warm_up: steps of linearly rising learning rate.
        ema: maximum decay factor of the averaged weights.
        save_every: seconds between checkpoints.
        validate_every: seconds between validations.
        bfloat16: whether to autocast to bfloat16; None: if the device has units for it.
        workers: processes that make samples (0: in this process, on the training device).
        device: device of the network.
        fresh: on a GPU, number of new samples per step; the rest of a batch is reused
            (:func:`~heartseg.training.stream.pooled_batches`).
        without: parts of the images to switch off (ablation).
        generator: version of the generator (:data:`~heartseg.synthesis.switches.GENERATORS`).
        frozen: names of the parts of the network that are not trained (``encoder``).
    """

    steps: int = 0
    minutes: float = 0.0
    seed: int = 0
    weight_decay: float = 1e-2
    clip: float = 5.0
    warm_up: int = 60
    ema: float = 0.998
    save_every: float = 180.0
    validate_every: float = 1200.0
    bfloat16: bool | None = None
    workers: int = 1
    device: str = "cpu"
    fresh: int = 2
    without: tuple[str, ...] = ()
    generator: str = NEWEST
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.minutes > 0):
            raise ValueError(f"steps is {self.steps} and minutes is {self.minutes:g}: give either steps or minutes")
        if self.fresh < 1:
            raise ValueError(f"--fresh is {self.fresh}: give at least 1 new image per step")


class Trainer:
    """Network, averaged network, optimiser and elapsed time of a run; writes ``state-*/`` and ``snapshot.pt``."""

    def __init__(self, stage: Stage, scenes: Path, out: Path, recipe: Recipe, validation: Path | None = None) -> None:
        self.stage, self.scenes, self.out, self.recipe, self.validation = stage, scenes, out, recipe, validation
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.device = torch.device(recipe.device)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # the shape is constant, so searching the fastest kernels pays off
        self.network = build_network(stage.features).to(self.device)
        for part in recipe.frozen:
            self.network.get_submodule(part).requires_grad_(False)
        self.bfloat16 = recipe.bfloat16
        if self.bfloat16 is None:
            self.bfloat16 = fast_bfloat16(self.device)
        self.use_layout(best_layout(self.device))
        self.average = copy.deepcopy(self.network).eval()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), stage.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
        )
        self.step, self.seconds, self.started_from = 0, 0.0, ""
        self.history: list[torch.Tensor] = []
        self.sample_rate = 0.0

    def use_layout(self, layout: torch.memory_format) -> None:
        """Use this memory layout for weights and images."""
        self.layout = layout
        for weight in self.network.parameters():
            if weight.dim() == 5:
                weight.data = weight.data.contiguous(memory_format=layout)

    def start_from(self, checkpoint: Path) -> None:
        """Load initial weights from a trained model with the same network (``checkpoint_final.pth``)."""
        weights = torch.load(checkpoint, weights_only=True)["network_weights"]
        self.network.load_state_dict({k: v.float() for k, v in weights.items()})
        self.average.load_state_dict(self.network.state_dict())
        self.started_from = str(checkpoint)

    def save(self) -> None:
        """Write the full state, to resume from, and a snapshot of the averaged weights."""
        average = {k: v.half() for k, v in named_once(self.average).items()}
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "started_from": self.started_from,
            "network": named_once(self.network),
            "average": average,
            "optimiser": shrink_optimiser(self.optimiser.state_dict()),
            "torch_rng": torch.get_rng_state(),
            "recipe": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.recipe).items()},
            "stage": self._grid(),
        }
        save_state(self.out, state, self.step)
        snapshot = {
            "step": self.step,
            "seconds": self.seconds,
            "started_from": self.started_from,
            "device": device_name(self.device),
            "batch": self.stage.batch,
            "weights": self.average.state_dict(),
        }
        part = self.out / "snapshot.part"
        torch.save(snapshot, part)
        part.replace(self.out / "snapshot.pt")

    def resume(self) -> bool:
        """Load the newest complete state; returns False if there is none.

        Raises:
            ValueError: the state belongs to a different training, or all states are damaged.
        """
        state = load_state(self.out)
        if state is None:
            return False
        self._refuse_another(state)
        self.network.load_state_dict(state["network"], strict=False)
        self.average.load_state_dict({k: v.float() for k, v in state["average"].items()}, strict=False)
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["torch_rng"])
        self.step, self.seconds, self.started_from = state["step"], state["seconds"], state["started_from"]
        return True

    def _grid(self) -> dict[str, Any]:
        """Properties of the stage that must not change when a training resumes."""
        return {"spacing": self.stage.spacing, "patch": self.stage.patch, "features": list(self.stage.features)}

    def _refuse_another(self, state: dict[str, Any]) -> None:
        """Raise if the state belongs to a different training.

        Steps, batch, device and workers may change. States of older versions do not contain their stage.
        """
        before, now = state.get("stage", self._grid()), self._grid()
        if before != now:
            size = next(
                (
                    name
                    for name, stages in SIZES.items()
                    for s in stages
                    if s.name == self.stage.name and (s.spacing, s.patch, list(s.features)) == tuple(before.values())
                ),
                None,
            )
            was, wanted = (f"{g['spacing']:g} mm with {g['patch']} voxels" for g in (before, now))
            if was == wanted:
                was, wanted = f"{was} and features {before['features']}", f"{now['features']}"
            raise ValueError(
                f"'{self.out}' holds a training at {was}, not {wanted.removesuffix(' voxels')}: give "
                f"{f'--size {size}, or ' if size else ''}another folder with -o"
            )
        for name in ("seed", "without", "generator"):
            old, new = state["recipe"].get(name, FROZEN), asdict(self.recipe)[name]
            old, new = (" ".join(sorted(v)) or "nothing" if name == "without" else v for v in (old, new))
            if old != new:
                raise ValueError(
                    f"'{self.out}' holds a training with --{name} {old}, not {new}: give that again, or "
                    "another folder with -o"
                )

    def fraction(self) -> float:
        """Completed fraction of the run, 0 to 1."""
        if self.recipe.steps:
            return self.step / self.recipe.steps
        return self.seconds / (self.recipe.minutes * 60)

    def run(self, until: float = math.inf) -> bool:
        """Train to the end, or until ``time.monotonic()`` exceeds ``until``; returns whether the training is complete.

        On an interrupt (Ctrl-C, SIGTERM) it saves the state before the exception propagates.
        """
        try:
            self._steps(until)
        finally:
            self.save()
        if self.fraction() < 1:
            log.info("%s: stopped at step %d, %.0f s: run again to continue", self.stage.name, self.step, self.seconds)
            return False
        if self.validation:
            self.log_validation()
        log.info("%s: done after %d steps, %.0f s", self.stage.name, self.step, self.seconds)
        return True

    def _steps(self, until: float) -> None:
        clock = saved = validated = time.monotonic()
        for image, target in self.batches():
            if self.fraction() >= 1 or clock > until:
                break
            self.take_step(image, target)
            now = time.monotonic()
            self.seconds += now - clock
            clock = now
            if self.step % 20 == 0:
                self.report()
            if now - saved > self.recipe.save_every:
                self.save()
                saved = time.monotonic()
            if self.validation and now - validated > self.recipe.validate_every:
                self.log_validation()
                validated = clock = time.monotonic()

    def batches(self) -> Iterator[Batch]:
        """Batches from the current step on, made by worker processes or, without workers, on the device."""
        workers, size = self.recipe.workers, self.stage.batch
        device = "cpu" if workers else self.device
        made = self.recipe.fresh if device != "cpu" and self.device.type == "cuda" else size
        stream = SampleStream(
            self.scenes,
            self.stage,
            self.recipe.seed,
            self.step * made,
            device,
            frozenset(self.recipe.without),
            self.recipe.generator,
        )
        if workers:
            yield from DataLoader(
                stream,
                size,
                num_workers=workers,
                prefetch_factor=4,
                worker_init_fn=_yield_to_training,
                pin_memory=self.device.type == "cuda",
            )
            return
        if self.device.type == "cuda":
            batches = pooled_batches(iter(stream), size, made, self.step, self.recipe.seed)
        else:
            batches = plain_batches(iter(stream), size)
        while True:
            start = time.monotonic()
            batch = next(batches)
            self.sample_rate = made / max(time.monotonic() - start, 1e-6)
            yield batch

    def take_step(self, image: torch.Tensor, target: torch.Tensor) -> None:
        """Take one optimiser step on a batch: image (b, 1, z, y, x), target (b, z, y, x)."""
        recipe = self.recipe
        rise = min(1.0, (self.step + 1) / recipe.warm_up)
        fall = 0.5 * (1 + math.cos(math.pi * min(self.fraction(), 1.0))) * 0.98 + 0.02
        for group in self.optimiser.param_groups:
            group["lr"] = self.stage.learning_rate * rise * fall
        image = image.to(self.device, non_blocking=True).contiguous(memory_format=self.layout)
        target = target.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bool(self.bfloat16)):
            outputs = self.network(image)
        loss, entropy, dice = deep_loss(outputs, target, self.stage.heart_weight)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimiser.step()
        self.step += 1
        decay = min(recipe.ema, 1 - 1 / (self.step / 4 + 1))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        self.history.append(torch.stack([entropy, dice]))

    def report(self) -> None:
        """Log speed and the mean losses of the last 100 steps."""
        self.history = self.history[-100:]
        entropy, dice = torch.stack(self.history).mean(0).tolist()
        made = f"  {self.sample_rate:.1f} samples/s made" if self.sample_rate else ""
        log.info(
            "%s step %d  %.0f s  %.2f s/step  lr %.1e  ce %.4f  dice %.3f%s",
            self.stage.name,
            self.step,
            self.seconds,
            self.seconds / self.step,
            self.optimiser.param_groups[0]["lr"],
            entropy,
            dice,
            made,
        )

    def log_validation(self) -> None:
        """Log the Dice of the averaged network on centred views of the validation scenes, as CT and as MR."""
        assert self.validation is not None
        row: dict[str, Any] = {"step": self.step, "seconds": round(self.seconds)}
        for kind in ("ct", "mr"):
            table = score_scenes(self.average, self.stage, self.validation, kind=kind)
            row[kind] = {name: cell["mean"] for name, cell in table.items()}
            text = "  ".join(f"{k} {v:.3f}" for k, v in row[kind].items())
            log.info("%s step %d validation %s  %s", self.stage.name, self.step, kind, text)
        with (self.out / "validation.jsonl").open("a") as lines:
            lines.write(json.dumps(row) + "\n")


def named_once(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a network, each under only one of its names (nnU-Net lists some twice)."""
    return {name: weight.detach() for name, weight in network.named_parameters()}


def best_layout(device: torch.device) -> torch.memory_format:
    """Return channels last for GPUs and CPUs with AMX; on CPUs with AVX-512 only it is 25 % slower."""
    if device.type == "cuda":
        return torch.channels_last_3d
    return torch.channels_last_3d if has_matrix_units() else torch.contiguous_format


def device_name(device: torch.device) -> str:
    """Name of the training device for the model card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {threads_text(torch.get_num_threads())}"


def _yield_to_training(_: int) -> None:
    if hasattr(os, "nice") and os.nice(0) < 3:
        os.nice(3 - os.nice(0))
