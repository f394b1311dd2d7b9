"""Scans without references beside a training: the network is also taught by what it is sure of in them (FixMatch).

They take no part in planning, splits or validation. Each is preprocessed as the labelled ones are and kept in a folder
of its own; the trainer adds :func:`heartseg.training.fixmatch.fixmatch_loss` of a batch of them to every step.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from ...networks.edge_channels import region_logits
from ...progress import Reporter
from ...volume.geometry import to_nearest_lps
from ...volume.reading import read_volume
from ..fixmatch import FixMatchLoss, FixMatchSettings, fixmatch_loss
from .convert import DATASET_NAME
from .presets import Preset

RAMP_SHARE = 0.4
"""Share of the training over which the unlabelled scans' weight rises: a network that knows nothing teaches nothing."""


def prepare_unlabelled(
    out: Path, plans: Mapping[str, Any], scans: Mapping[str, Path], orientation: str, skip_bad: bool, reporter: Reporter
) -> list[str]:
    """Preprocess scans as nnU-Net does its training cases; those that are done stay.

    Args:
        out: the training's folder.
        plans: of one configuration.
        scans: as :func:`~.datasets.find_unlabelled` found them.
        orientation: as the labelled ones': ``"keep"`` or ``"lps"``.
        skip_bad: leave out scans that cannot be read, saying so, instead of stopping.
        reporter: progress and cancel.

    Returns:
        The names of those that can be used.

    Raises:
        InputError: a scan cannot be read, or none is left.
    """
    ((_, configuration),) = plans["configurations"].items()
    folder = out / "preprocessed" / DATASET_NAME / folder_name(configuration["data_identifier"])
    folder.mkdir(parents=True, exist_ok=True)
    used = []
    with reporter.stage("preprocess unlabelled", len(scans)):
        for done, (name, path) in enumerate(scans.items()):
            reporter.advance(done)
            try:
                if not (folder / f"{name}.pkl").is_file():  # written last
                    _prepare(path, folder / name, plans, orientation)
                used.append(name)
            except InputError as error:
                if not skip_bad:
                    raise InputError(f"unlabelled scan {path.name}: {error}; --skip-bad trains without it") from error
                reporter.announce(f"unlabelled scan {path.name} is left out: {error}")
    if not used:
        raise InputError("no scan of --unlabelled can be used: check them with heartseg check")
    return used


def folder_name(data_identifier: str) -> str:
    """Of the preprocessed scans, beside that of the labelled ones."""
    return f"unlabelled_{data_identifier}"


def _prepare(path: Path, target: Path, plans: Mapping[str, Any], orientation: str) -> None:
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor, comp_blosc2_params
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    volume = read_volume(path)
    flip, turned = to_nearest_lps(volume.geometry)
    turn = orientation == "lps"
    array = np.ascontiguousarray(flip.apply(volume.array)) if turn else volume.array
    geometry = turned if turn else volume.geometry
    manager = PlansManager(dict(plans))
    (name,) = plans["configurations"]
    configuration = manager.get_configuration(name)
    image, outside, facts = DefaultPreprocessor(verbose=False).run_case_npy(
        array[None].astype(np.float32), None, {"spacing": list(geometry.spacing[::-1])}, manager, configuration, {}
    )
    image, outside = image.astype(np.float32, copy=False), outside.astype(np.int16, copy=False)
    sizes = [comp_blosc2_params(a.shape, tuple(configuration.patch_size), a.itemsize) for a in (image, outside)]
    (blocks, chunks), (blocks_seg, chunks_seg) = sizes
    facts["class_locations"] = {}  # nnU-Net's loader looks for it
    for left in target.parent.glob(f"{target.name}*.b2nd"):  # of a stopped run
        left.unlink() if left.is_file() else shutil.rmtree(left)
    nnUNetDatasetBlosc2.save_case(
        image, outside, facts, str(target), chunks=chunks, blocks=blocks, chunks_seg=chunks_seg,
        blocks_seg=blocks_seg,
    )  # fmt: skip


class UnlabelledTeacher:
    """Batches of unlabelled scans and what a network learns from them.

    Args:
        batches: gives patches (b, 1, ...), float32.
        preset: weight, threshold, and the network's kind of edges.
        steps: of the whole training.
        seed: of shifts, contrasts and erased boxes; with the step's number it decides them, so that a resumed training
            sees the same.
        device: of the network.
    """

    def __init__(
        self, batches: Iterator[torch.Tensor], preset: Preset, steps: int, seed: int, device: torch.device
    ) -> None:
        self.batches, self.edges, self.seed, self.device = batches, preset.edges, seed, device
        self.settings = FixMatchSettings(
            threshold=preset.pseudo_threshold, weight=preset.unlabelled_weight, ramp_steps=round(RAMP_SHARE * steps)
        )
        self.sure: list[float] = []

    def loss(self, network: Callable[[torch.Tensor], Any], step: int) -> torch.Tensor:
        """The loss of the next batch, to be added to the labelled one's; notes the share of sure voxels."""
        images = next(self.batches).to(self.device, non_blocking=True)

        def regions(x: torch.Tensor) -> torch.Tensor:
            outputs = network(x)
            finest = outputs[0] if isinstance(outputs, list | tuple) else outputs
            return region_logits(finest, self.edges)

        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        found: FixMatchLoss = fixmatch_loss(regions, images, self.settings, step, rng)
        self.sure.append(found.confident)
        return found.loss

    def mean_sure(self) -> float:
        """Mean share of sure voxels since the last call."""
        sure, self.sure = self.sure, []
        return float(np.mean(sure)) if sure else 0.0


def unlabelled_batches(folder: Path, names: Sequence[str], trainer: Any) -> Iterator[torch.Tensor]:
    """Endless patches (b, 1, ...) of preprocessed scans, drawn anywhere, for an initialised nnU-Net trainer."""
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    patch = trainer.configuration_manager.patch_size
    loader = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(folder), list(names)), trainer.batch_size, patch, patch, trainer.label_manager,
        oversample_foreground_percent=0.0, transforms=trainer.get_validation_transforms(None),
    )  # fmt: skip
    while True:
        yield loader.generate_train_batch()["data"]
