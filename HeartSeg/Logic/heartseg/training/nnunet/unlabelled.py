"""Training with unlabelled scans: the network also learns from its own confident predictions (FixMatch).

Unlabelled scans are not used for planning, splits or validation. They are preprocessed like the labelled scans and kept
in a separate folder; in every step the trainer adds :func:`heartseg.training.fixmatch.fixmatch_loss` of a batch of
them.
"""

from __future__ import annotations

import contextlib
import filecmp
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...errors import InputError
from ...models.card import read_json
from ...networks.edge_channels import region_logits
from ...progress import Reporter
from ...volume.checks import check_volume
from ...volume.geometry import to_nearest_lps
from ...volume.reading import read_volume
from ..fixmatch import FixMatchLoss, FixMatchSettings, fixmatch_loss
from .convert import DATASET_NAME, write_json
from .datasets import find_unlabelled
from .planning import as_input_error
from .presets import Preset
from .stamps import refuse_changes, stamp

RAMP_SHARE = 0.4
"""Fraction of the training over which the weight of unlabelled scans rises, as early predictions are unreliable."""

RECORD = "unlabelled.json"
"""File in the training folder that lists the scans present at the start."""


def recorded_scans(out: Path, data: Path, reporter: Reporter) -> dict[str, Path]:
    """Return the unlabelled scans recorded in the training folder by the first call.

    Args:
        out: folder of the training.
        data: folder of the scans; if it was deleted, the recorded list suffices once all scans are preprocessed.
        reporter: receives a warning about scans that are also labelled cases.

    Raises:
        InputError: a scan is new, missing, or has changed; or the folder contains no scans.
    """
    path = out / RECORD
    if path.is_file() and not Path(data).expanduser().exists():
        return {name: Path(entry["file"]) for name, entry in read_json(path).items()}
    scans = find_unlabelled(data)
    now = {name: stamp(file) for name, file in scans.items()}
    if path.is_file():
        before = {name: entry["files"] for name, entry in read_json(path).items()}
        refuse_changes("unlabelled scan", before, now, data, out)
    else:
        _tell_of_labelled(out, scans, reporter)
        write_json(path, {name: {"file": str(scans[name].resolve()), "files": now[name]} for name in scans})
    return scans


def _tell_of_labelled(out: Path, scans: Mapping[str, Path], reporter: Reporter) -> None:
    cases = {name: Path(case["image"]) for name, case in read_json(out / "cases.json")["cases"].items()}
    for name, file in scans.items():
        same = [case for case, image in cases.items() if image.is_file() and _same(image, file)]
        if same:
            reporter.announce(
                f"unlabelled scan {name} is the labelled case {same[0]}: where that is held out, the "
                "network has seen its scan, not its labels"
            )


def _same(a: Path, b: Path) -> bool:
    return a.stat().st_size == b.stat().st_size and filecmp.cmp(a, b, shallow=False)


def prepare_unlabelled(
    out: Path, plans: Mapping[str, Any], scans: Mapping[str, Path], skip_bad: bool, reporter: Reporter
) -> list[str]:
    """Preprocess scans like nnU-Net's training cases; skips finished scans.

    Args:
        out: folder of the training.
        plans: plans of one configuration.
        scans: name -> file. Their axes are reordered to LPS if those of the labelled scans were, or are all stored so.
        skip_bad: omit scans that cannot be read, with a warning, instead of raising an error.
        reporter: receives progress and cancels.

    Returns:
        The names of the usable scans.

    Raises:
        InputError: a scan cannot be read, or no scan remains.
    """
    ((_, configuration),) = plans["configurations"].items()
    folder = out / "preprocessed" / DATASET_NAME / folder_name(configuration["data_identifier"])
    folder.mkdir(parents=True, exist_ok=True)
    facts = read_json(out / "cases.json")
    stored = set(facts["stored_orientations"])
    lps = facts["orientation"] == "lps" or stored == {"LPS"}
    used = []
    with reporter.stage("preprocess unlabelled", len(scans)):
        for done, (name, path) in enumerate(scans.items()):
            reporter.advance(done)
            try:
                if not (folder / f"{name}.pkl").is_file():  # written last
                    orientation = _prepare(path, folder / name, plans, lps)
                    if not lps and orientation not in stored:
                        reporter.announce(
                            f"unlabelled scan {path.name} is stored {orientation}, and no labelled one "
                            "is: train with --orientation lps"
                        )
                used.append(name)
            except InputError as error:
                if not skip_bad:
                    raise InputError(f"unlabelled scan {path.name}: {error}; --skip-bad trains without it") from error
                reporter.announce(f"unlabelled scan {path.name} is omitted: {error}")
    if not used:
        raise InputError("no scan of --unlabelled can be used: check them with heartseg check")
    return used


def folder_name(data_identifier: str) -> str:
    """Return the name of the folder of the preprocessed unlabelled scans, next to that of the labelled ones."""
    return f"unlabelled_{data_identifier}"


def _prepare(path: Path, target: Path, plans: Mapping[str, Any], turn: bool) -> str:
    """Write a scan in the format of nnU-Net, optionally with LPS axes; returns its stored orientation."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor, comp_blosc2_params
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    volume = read_volume(path)
    if any(finding.code == "looks-like-labels" for finding in check_volume(volume).findings):
        raise InputError("it looks like a label map")
    flip, turned = to_nearest_lps(volume.geometry)
    array = np.ascontiguousarray(flip.apply(volume.array)) if turn else volume.array
    geometry = turned if turn else volume.geometry
    manager = PlansManager(dict(plans))
    (name,) = plans["configurations"]
    configuration = manager.get_configuration(name)
    with as_input_error("preprocess"):
        image, outside, facts = DefaultPreprocessor(verbose=False).run_case_npy(
            array[None].astype(np.float32), None, {"spacing": list(geometry.spacing[::-1])}, manager, configuration, {}
        )
    image, outside = image.astype(np.float32, copy=False), outside.astype(np.int16, copy=False)
    sizes = [comp_blosc2_params(a.shape, tuple(configuration.patch_size), a.itemsize) for a in (image, outside)]
    (blocks, chunks), (blocks_seg, chunks_seg) = sizes
    facts["class_locations"] = {}  # required by nnU-Net's loader
    for left in (f"{target}.b2nd", f"{target}_seg.b2nd"):  # from an interrupted run
        Path(left).unlink(missing_ok=True)
    nnUNetDatasetBlosc2.save_case(
        image,
        outside,
        facts,
        str(target),
        chunks=chunks,
        blocks=blocks,
        chunks_seg=chunks_seg,
        blocks_seg=blocks_seg,
    )
    return volume.geometry.orientation


class UnlabelledTeacher:
    """Batches of unlabelled scans and their loss.

    Args:
        batches: yields patches (b, 1, ...), float32.
        preset: weight, threshold, and kind of edges of the network.
        steps: number of steps of the whole training.
        seed: seed of shifts, contrasts and erased boxes; together with the step number it determines them, so a resumed
            training uses the same.
        device: device of the network.
    """

    def __init__(
        self, batches: Iterator[torch.Tensor], preset: Preset, steps: int, seed: int, device: torch.device
    ) -> None:
        self.batches, self.edges, self.seed, self.device = batches, preset.edges, seed, device
        self.settings = FixMatchSettings(
            threshold=preset.pseudo_threshold, weight=preset.unlabelled_weight, ramp_steps=round(RAMP_SHARE * steps)
        )
        self.sure: list[float] = []

    def loss(self, network: nn.Module, step: int) -> torch.Tensor:
        """Return the loss of the next batch, to add to the supervised loss; records the fraction of confident voxels.

        Only labelled images update the running statistics of batch norms.
        """
        images = next(self.batches).to(self.device, non_blocking=True)

        def regions(x: torch.Tensor) -> torch.Tensor:
            outputs = network(x)
            finest = outputs[0] if isinstance(outputs, list | tuple) else outputs
            return region_logits(finest, self.edges)

        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        with _running_statistics_kept(network):
            found: FixMatchLoss = fixmatch_loss(regions, images, self.settings, step, rng)
        self.sure.append(found.confident)
        return found.loss

    def mean_sure(self) -> float:
        """Return the mean fraction of confident voxels since the last call."""
        sure, self.sure = self.sure, []
        return float(np.mean(sure)) if sure else 0.0


@contextlib.contextmanager
def _running_statistics_kept(network: nn.Module) -> Iterator[None]:
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momentum = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, value in zip(norms, momentum, strict=True):
            norm.momentum = value


def unlabelled_batches(folder: Path, names: Sequence[str], trainer: Any) -> Iterator[torch.Tensor]:
    """Yield random batches (b, 1, ...) of preprocessed patches endlessly, for an initialised nnU-Net trainer."""
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    patch = trainer.configuration_manager.patch_size
    loader = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(folder), list(names)),
        trainer.batch_size,
        patch,
        patch,
        trainer.label_manager,
        oversample_foreground_percent=0.0,
        transforms=trainer.get_validation_transforms(None),
    )
    while True:
        yield loader.generate_train_batch()["data"]
