"""HeartSeg's trainer for nnU-Net v2: applies a :class:`~.presets.Preset` to nnU-Net's training loop.

The plans (key ``heartseg``) contain the settings, so that a resumed run, the other processes of a DDP training and
nnU-Net's own commands all use the same settings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from ...devices import is_out_of_memory
from ...errors import DeviceError, ModelError, SettingsError
from ...progress import Reporter
from ..cpu import has_bfloat16_instructions
from .augmentation import adapted
from .curves import draw_progress
from .history import log_to_tensorboard, rows, write_history
from .planning import SETTINGS_KEY
from .presets import Preset
from .supervision import TrainingLoss, edge_labels
from .unlabelled import UnlabelledTeacher, folder_name, unlabelled_batches

log = logging.getLogger(__name__)

EXPONENTS = {"poly": 0.9, "linear": 1.0, "constant": 0.0}
"""Learning rate = start * (1 - epoch / epochs) ** exponent."""


class HeartSegTrainer(nnUNetTrainer):
    """nnU-Net's trainer with the settings of a preset; reproducible, exactly resumable, with progress and cancel.

    ``reporter`` is set by the run that owns the trainer; a DDP process has none.
    """

    reporter: Reporter | None = None

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net's own signature)
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        settings = plans[SETTINGS_KEY]
        self.preset = Preset.from_dict(settings["preset"])
        self.start_from: str | None = settings.get("start_from")
        self.left_out: frozenset[str] = frozenset(settings.get("left_out", ()))
        self.unlabelled: tuple[str, ...] = tuple(settings.get("unlabelled", ()))
        self._teacher: UnlabelledTeacher | None = None
        self._seed = int(settings["seed"])
        preset = self.preset
        self.initial_lr, self.weight_decay = preset.learning_rate, preset.weight_decay
        self.num_epochs = preset.epochs
        self.num_iterations_per_epoch = preset.iterations
        self.num_val_iterations_per_epoch = preset.validation_iterations
        self.oversample_foreground_percent = preset.oversample
        # nnU-Net centres the last samples of a batch on a structure and rounds their number, which gives zero for one
        # sample
        self.probabilistic_oversampling = self.configuration_manager.batch_size == 1
        self.enable_deep_supervision = preset.deep_supervision
        self.save_every = 1
        self.logger.plot_progress_png = self._draw_progress  # nnU-Net's figure takes longer than a short epoch
        self._random_state: dict[str, Any] | None = None
        self._steps_done = 0
        seed_everything(int(settings["seed"]) + 1000 * (fold if isinstance(fold, int) else 99) + self.local_rank)

    def initialize(self) -> None:
        """Initialise the trainer; load initial weights, if any, into the new network."""
        with self._memory_advice():
            super().initialize()
        if self.start_from:
            load_start_weights(self._bare_network(), Path(self.start_from))
        if self.device.type == "cpu" and has_bfloat16_instructions():
            train_in_bfloat16(self._bare_network())

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """Make the optimiser of the preset; its learning rate depends only on the epoch, also after resuming."""
        preset, parameters = self.preset, self.network.parameters()
        optimizer: torch.optim.Optimizer
        if preset.optimizer == "adam":
            optimizer = torch.optim.Adam(parameters, preset.learning_rate, weight_decay=preset.weight_decay)
        else:
            optimizer = torch.optim.SGD(
                parameters,
                preset.learning_rate,
                momentum=preset.momentum,
                weight_decay=preset.weight_decay,
                nesterov=preset.momentum > 0,
            )
        return optimizer, PolyLRScheduler(
            optimizer, preset.learning_rate, self.num_epochs, exponent=EXPONENTS[preset.schedule]
        )

    def _build_loss(self) -> torch.nn.Module:
        """Make nnU-Net's loss if the preset selects it and the network has no edges, else HeartSeg's loss."""
        if self.preset.loss == "nnunet" and self.preset.edges == "none":
            return super()._build_loss()
        return TrainingLoss(
            self.preset,
            len(self.label_manager.foreground_labels),
            self.configuration_manager.spacing,
            edge_labels(self.preset, self.dataset_json["labels"]),
        )

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return nnU-Net's split without the cases that this training omits."""
        training, held_out = super().do_split()
        return [name for name in training if name not in self.left_out], held_out

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:
        """Return nnU-Net's transforms, adapted to the preset."""
        return adapted(nnUNetTrainer.get_training_transforms(*args, **kwargs), self.preset.augmentation)

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.unlabelled:
            if self.is_ddp:
                raise SettingsError("unlabelled scans and several GPUs exclude each other: train on one")
            folder = Path(self.preprocessed_dataset_folder_base) / folder_name(
                self.configuration_manager.data_identifier
            )
            batches = unlabelled_batches(folder, self.unlabelled, self)
            steps = self.num_epochs * self.num_iterations_per_epoch
            self._teacher = UnlabelledTeacher(batches, self.preset, steps, self._seed, self.device)
        if self._random_state is not None:  # making the loaders drew random numbers: restore the checkpoint's state
            restore_random_state(self._random_state)
        self._steps_done = self.current_epoch * (self.num_iterations_per_epoch + self.num_val_iterations_per_epoch)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        self._advance()
        with self._memory_advice(), self._taught():
            return super().train_step(batch)

    @contextlib.contextmanager
    def _taught(self) -> Iterator[None]:
        """Take a training step of nnU-Net; add the loss of a batch of unlabelled scans, if there are any."""
        teacher = self._teacher
        labelled: Callable[..., torch.Tensor] = self.loss  # type: ignore[has-type]
        if teacher is None:
            yield
            return
        step = self.current_epoch * self.num_iterations_per_epoch + len(teacher.sure)
        self.loss = lambda outputs, targets: labelled(outputs, targets) + teacher.loss(self.network, step)
        try:
            yield
        finally:
            self.loss = labelled

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take a validation step; the pseudo Dice covers structures only, as evaluation mode has no edge channels."""
        self._advance()
        with self._memory_advice():
            return super().validation_step(batch)

    def on_epoch_end(self) -> None:
        epoch = self.current_epoch
        super().on_epoch_end()
        value = self.logger.get_value
        log.info(
            "%s, fold %s, epoch %d of %d: loss %.4f, held out %.4f, pseudo Dice %.3f, %.1f s",
            self.plans_manager.plans_name,
            self.fold,
            epoch + 1,
            self.num_epochs,
            value("train_losses", -1),
            value("val_losses", -1),
            value("mean_fg_dice", -1),
            value("epoch_end_timestamps", -1) - value("epoch_start_timestamps", -1),
        )
        keys = [k for k in self.dataset_json["labels"] if k != "background"]
        logged = self.logger.local_logger.my_fantastic_logging
        folder = Path(self.output_folder)
        write_history(logged, keys, folder / "history.csv")
        log_to_tensorboard(rows(logged, keys)[-1], folder / "tensorboard")
        if self._teacher is not None:
            log.info("fold %s: sure of %.0f %% of the unlabelled voxels", self.fold, 100 * self._teacher.mean_sure())

    def save_checkpoint(self, filename: str) -> None:
        """Write nnU-Net's checkpoint with the state of all random generators, atomically."""
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        checkpoint = {
            "network_weights": self._bare_network().state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": self.my_init_kwargs,
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
            "random_state": random_state(),
        }
        part = Path(f"{filename}.part-{os.getpid()}")
        try:
            torch.save(plain(checkpoint), part)
            part.replace(filename)
        finally:
            part.unlink(missing_ok=True)

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Load nnU-Net's checkpoint and the state of the random generators, which is restored when training starts."""
        super().load_checkpoint(filename_or_checkpoint)
        if isinstance(filename_or_checkpoint, str):
            self._random_state = load_own_checkpoint(Path(filename_or_checkpoint)).get("random_state")

    def _draw_progress(self, output_folder: str) -> None:
        title = f"{self.plans_manager.plans_name}, fold {self.fold}"
        keys = [k for k in self.dataset_json["labels"] if k != "background"]
        logged = self.logger.local_logger.my_fantastic_logging
        draw_progress(logged, keys, title, Path(output_folder) / "progress.png")

    def _bare_network(self) -> torch.nn.Module:
        """Return the network without the wrappers of DDP and torch.compile."""
        network = self.network.module if self.is_ddp else self.network
        return getattr(network, "_orig_mod", network)

    def _advance(self) -> None:
        if self.reporter is not None:
            self.reporter.advance(self._steps_done)
        self._steps_done += 1

    @contextlib.contextmanager
    def _memory_advice(self) -> Iterator[None]:
        """Convert an out-of-memory error to an error that names the settings to lower.

        Raises:
            DeviceError: replaces torch's error.
        """
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            patch = "x".join(str(n) for n in self.configuration_manager.patch_size)
            batch = self.configuration_manager.batch_size
            raise DeviceError(
                f"out of memory on {self.device} with batches of {batch} patches of {patch}: lower --batch (now "
                f"{batch}), then --patch (now {patch}), or train in 2d"
            ) from error


def train_in_bfloat16(network: torch.nn.Module) -> None:
    """Use mixed precision for a network on a CPU in training mode, as nnU-Net does on a GPU.

    Weights, outputs and losses stay float32, and so do all computations in evaluation mode.
    """
    plain = network.forward

    def forward(x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        if not network.training:
            return plain(x)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = plain(x)
        return [o.float() for o in outputs] if isinstance(outputs, list | tuple) else outputs.float()

    network.forward = forward


def seed_everything(seed: int) -> None:
    """Seed the generators of torch, NumPy and Python, all of which nnU-Net uses."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def random_state() -> dict[str, Any]:
    """Return the state of all random generators that nnU-Net uses."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": plain(np.random.get_state()),  # noqa: NPY002
        "python": random.getstate(),
    }


def load_own_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint written by this trainer.

    Checkpoints contain no code. Checkpoints of HeartSeg 0.5 and earlier contain NumPy arrays, which ``weights_only``
    rejects; they are in the user's own training folder, where nnU-Net has already unpickled them.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return torch.load(path, map_location="cpu", weights_only=False)


def plain(value: Any) -> Any:
    """Copy nested containers and convert NumPy arrays and numbers to Python types.

    ``torch.load(..., weights_only=True)`` can read these types and tensors.
    """
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value] if isinstance(value, list) else tuple(plain(v) for v in value)
    return value


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore the generators to a state from :func:`random_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])


def load_start_weights(network: torch.nn.Module, path: Path) -> None:
    """Load weights of another model into a network; output layers are loaded only if their shapes match.

    A finished model of a network with an edge head contains only the channels of the regions, which become the first
    channels here.

    Raises:
        ModelError: the networks differ in layers other than the output layers.
    """
    weights = torch.load(path, map_location="cpu", weights_only=True)["network_weights"]
    own = network.state_dict()
    taken = {k: v.float() for k, v in weights.items() if k in own and own[k].shape == v.shape}
    if getattr(network, "edge", "none") == "head":
        for key, weight in weights.items():
            if ".seg_layers." in key and key not in taken and own[key].shape[1:] == weight.shape[1:]:
                taken[key] = own[key].clone()
                taken[key][: len(weight)] = weight.float()
    unlike = [k for k in own if k not in taken and ".seg_layers." not in k]
    if unlike:
        raise ModelError(
            f"the weights to start from do not fit the network ({len(unlike)} of {len(own)} differ, first "
            f"'{unlike[0]}'): choose the network and dimension of that model"
        )
    network.load_state_dict({**own, **taken})
    log.info("started from %s: %d of %d weights taken", path, len(taken), len(own))
