"""A model folder as nnU-Net v2 writes it, read and checked; no weights are loaded here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from .card import CARD_NAME, ModelCard, read_json
from .labels import LabelMap, OutputHeads, assign_structures, build_lut
from .plans import Configuration, NetworkPlan, configuration_names, fallback_reason, read_configuration

CHECKPOINT_NAMES = ("checkpoint_final.pth", "checkpoint_best.pth")
LAYOUT = "plans.json, dataset.json and fold_*/checkpoint_final.pth, as in .../nnUNetTrainer__nnUNetPlans__3d_fullres"


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """One trained nnU-Net v2 configuration on disk.

    Axis order of ``patch_size`` and ``spacing`` is the plans': (z, y, x) after ``transpose_forward``.

    Attributes:
        path: the folder that holds ``plans.json``.
        plans, dataset: the content of ``plans.json`` and ``dataset.json``.
        configuration_plan: the configuration that was trained; the shortcuts below read from it.
        checkpoints: one file per fold, in fold order.
        heads: what the output channels mean.
        card: content of ``heartseg.json``, or ``None``.
        structures: label value in the model -> structure key, for the labels whose meaning is known.
        hashes: path relative to the folder -> SHA-256, from the card (of this folder or of the one around it).
    """

    path: Path
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    configuration_plan: Configuration
    checkpoints: tuple[Path, ...]
    heads: OutputHeads
    card: ModelCard | None = None
    structures: Mapping[int, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, path: str | Path, label_map: LabelMap | None = None, *, hashes: Mapping[str, str] | None = None
    ) -> ModelFolder:
        """Read a model folder, or the only one directly inside ``path``.

        Args:
            path: folder with ``plans.json``, ``dataset.json`` and ``fold_*``; or its parent.
            label_map: label value in the model -> structure key, instead of what card and names say.
            hashes: expected hashes for a folder whose own card has none.

        Raises:
            ModelError: one line naming what is missing, broken, refused or unknown, and the way out.
        """
        path = locate(Path(path).expanduser())
        plans, dataset = read_json(path / "plans.json"), read_json(path / "dataset.json")
        card = ModelCard.read(path) if (path / CARD_NAME).is_file() else None
        checkpoints = _find_checkpoints(path)
        name = _configuration_name(path, plans, card, checkpoints)
        heads = OutputHeads.of(dataset, str(path / "dataset.json"))
        given = dict(label_map) if label_map else (card.labels if card else None)
        folder = cls(
            path=path,
            plans=plans,
            dataset=dataset,
            configuration_plan=read_configuration(plans, name, str(path / "plans.json")),
            checkpoints=checkpoints,
            heads=heads,
            card=card,
            structures=assign_structures(heads, given, path.name),
            hashes={**(hashes or {}), **(card.files if card else {})},
        )
        folder._check_channels()
        return folder

    @property
    def name(self) -> str:
        """Name for people: the card's, else the folder's."""
        return self.card.name if self.card else self.path.name

    @property
    def configuration(self) -> str:
        """Name of the nnU-Net configuration, e.g. ``"3d_fullres"``."""
        return self.configuration_plan.name

    @property
    def folds(self) -> tuple[str, ...]:
        """``"0"`` ... ``"4"`` or ``"all"``, in the order of ``checkpoints``."""
        return tuple(c.parent.name.removeprefix("fold_") for c in self.checkpoints)

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Voxels, (z, y, x) after ``transpose_forward``."""
        return self.configuration_plan.patch_size

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm, (z, y, x) after ``transpose_forward``."""
        return self.configuration_plan.spacing

    @property
    def is_2d(self) -> bool:
        """Whether the network takes slices."""
        return len(self.patch_size) == 2

    @property
    def tile_size(self) -> tuple[int, ...]:
        """Voxels ``(z, y, x)`` of a tile in the network's axes: the patch, one slice thick for a 2D model."""
        return (1, *self.patch_size) if self.is_2d else self.patch_size

    def as_3d(self, spacing: tuple[float, ...]) -> ModelFolder:
        """A 2D model with patches of one slice and the scan's distance of slices, which nnU-Net leaves; a 3D as it is.

        Args:
            spacing: of the scan's ``(z, y, x)`` axes, mm.
        """
        if not self.is_2d:
            return self
        between = spacing[self.transpose_forward[0]]
        plan = replace(self.configuration_plan, patch_size=self.tile_size, spacing=(between, *self.spacing))
        return replace(self, configuration_plan=plan)

    def turns_scans(self, reorient: bool) -> bool:
        """Whether a scan is turned to the orientation that the card states, if that is wished."""
        return reorient and self.card is not None and self.card.orientation is not None

    def over_whole_image(self, reorient: bool) -> bool:
        """Whether the model is run as nnU-Net itself would: the whole image, along its voxels' axes.

        So it is with a model that states no orientation, and with 2D ones, which look at slices.
        """
        return self.is_2d or not self.turns_scans(reorient)

    @property
    def transpose_forward(self) -> tuple[int, ...]:
        """Order of the stored (z, y, x) axes that the network sees."""
        return self.configuration_plan.transpose_forward

    @property
    def transpose_backward(self) -> tuple[int, ...]:
        """The way back to the stored (z, y, x) axes."""
        return self.configuration_plan.transpose_backward

    @property
    def network(self) -> NetworkPlan:
        """Network class and keyword arguments."""
        return self.configuration_plan.network

    @property
    def normalization_schemes(self) -> tuple[str, ...]:
        """nnU-Net's class name per channel, e.g. ``"CTNormalization"``."""
        return self.configuration_plan.normalization_schemes

    @property
    def use_mask_for_norm(self) -> tuple[bool, ...]:
        """Per channel: whether statistics are taken over the nonzero region only."""
        return self.configuration_plan.use_mask_for_norm

    @property
    def resampling_data(self) -> tuple[str, dict[str, Any]]:
        """Name and keyword arguments of the function that resamples images."""
        return self.configuration_plan.resampling_data

    @property
    def resampling_probabilities(self) -> tuple[str, dict[str, Any]]:
        """Name and keyword arguments of the function that resamples logits."""
        return self.configuration_plan.resampling_probabilities

    @property
    def foreground_intensity_properties_per_channel(self) -> dict[str, dict[str, float]]:
        """``"0"`` -> mean, std, percentile_00_5, percentile_99_5, ... of the training data's foreground."""
        old = self.plans.get("foreground_intensity_properties_by_modality", {})
        return dict(self.plans.get("foreground_intensity_properties_per_channel", old))

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the image channels, e.g. ``("CT",)``."""
        names = self.dataset.get("channel_names") or self.dataset.get("modality") or {"0": "image"}
        return tuple(str(names[key]) for key in sorted(names, key=int))

    @property
    def num_input_channels(self) -> int:
        """Channels the network takes: the image's, and in a cascade one per structure of the stage before."""
        cascade = bool(self.configuration_plan.raw.get("previous_stage"))
        return len(self.channel_names) + (sum(v != 0 for v in self.heads.values) if cascade else 0)

    @property
    def num_output_channels(self) -> int:
        """Channels the network gives, background included."""
        return len(self.heads.names)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the output channels."""
        return self.heads.names

    @property
    def ignore_label(self) -> int | None:
        """Value of nnU-Net's ignore label, which is never predicted."""
        return self.heads.ignore

    @property
    def unmapped(self) -> tuple[str, ...]:
        """Names of the labels that mean no known structure: they become background."""
        return tuple(name for value, name in self.heads.foreground().items() if value not in self.structures)

    @property
    def needs_fallback(self) -> str | None:
        """Why only stock nnU-Net can run this model, as a phrase; ``None`` if HeartSeg's own loop can."""
        return fallback_reason(self.configuration_plan, self.plans, self.heads.regions)

    def structure_lut(self) -> np.ndarray:
        """uint8 table from the model's label map (argmax channel, or region value) to HeartSeg's labels.

        Raises:
            ModelError: none of the labels means a structure; the message shows how to say which is which.
        """
        return build_lut(self.heads, self.structures, self.path.name)

    def sha256(self, file: Path) -> str | None:
        """The hash that the card gives for a file of this folder, or ``None``."""
        return self.hashes.get(file.relative_to(self.path).as_posix())

    def open_finder(self) -> ModelFolder | None:
        """The coarse model that finds the heart, or ``None`` if the card names none."""
        if self.card is None or self.card.finder is None:
            return None
        path = self.path / self.card.finder
        if not path.is_dir():
            raise ModelError(
                f"the finder '{self.card.finder}' that '{self.path / CARD_NAME}' names is missing: "
                "copy the whole model folder again"
            )
        path = locate(path)
        prefix = path.relative_to(self.path).as_posix() + "/"
        inner = {k.removeprefix(prefix): v for k, v in self.hashes.items() if k.startswith(prefix)}
        return ModelFolder.open(path, hashes=inner)

    def _check_channels(self) -> None:
        channels = self.channel_names
        if len(channels) != 1:
            raise ModelError(
                f"model '{self.path.name}' wants {len(channels)} images per case ({', '.join(channels)}): "
                "HeartSeg gives one; use a model with one channel"
            )
        if len(self.normalization_schemes) != 1:
            raise ModelError(
                f"'normalization_schemes' in '{self.path / 'plans.json'}' has "
                f"{len(self.normalization_schemes)} entries for 1 channel"
            )
        needed = ("mean", "std", "percentile_00_5", "percentile_99_5")
        statistics = self.foreground_intensity_properties_per_channel.get("0")
        if self.normalization_schemes[0] == "CTNormalization" and not (
            isinstance(statistics, dict) and all(isinstance(statistics.get(k), int | float) for k in needed)
        ):
            raise ModelError(
                f"'foreground_intensity_properties_per_channel' in '{self.path / 'plans.json'}' lacks "
                f"{', '.join(needed)} for channel 0, which CTNormalization needs"
            )


def locate(path: Path) -> Path:
    """``path`` if it holds ``plans.json``, else the only folder directly inside that does."""
    if not path.is_dir():
        raise ModelError(f"model folder '{path}' does not exist: choose a folder with {LAYOUT}")
    if (path / "plans.json").is_file():
        return path
    inside = sorted(p.parent for p in path.glob("*/plans.json"))
    if not inside:
        raise ModelError(f"'{path}' is no nnU-Net v2 model folder (no plans.json): choose a folder with {LAYOUT}")
    if len(inside) > 1:
        raise ModelError(f"'{path}' holds {len(inside)} models: choose one of {', '.join(p.name for p in inside)}")
    return inside[0]


def _find_checkpoints(path: Path) -> tuple[Path, ...]:
    folds = [p for p in path.glob("fold_*") if p.is_dir() and re.fullmatch(r"fold_(all|\d+)", p.name)]
    folds.sort(key=lambda p: int("".join(filter(str.isdecimal, p.name)) or -1))
    numbered = [p for p in folds if p.name != "fold_all"]
    found = [[p / name for name in CHECKPOINT_NAMES if (p / name).is_file()] for p in numbered or folds]
    checkpoints = tuple(files[0] for files in found if files)
    if not checkpoints:
        where = ", ".join(p.name for p in folds) or "any fold_*"
        raise ModelError(
            f"model folder '{path}' has no {' or '.join(CHECKPOINT_NAMES)} in {where}: "
            "finish the training or copy it again"
        )
    return checkpoints


def _configuration_name(path: Path, plans: Mapping[str, Any], card: ModelCard | None, files: tuple[Path, ...]) -> str:
    """From the card, the folder's name, the plans if they hold only one, else the first checkpoint."""
    names = configuration_names(plans, str(path / "plans.json"))
    if card and card.configuration:
        return card.configuration
    suffix = path.name.rpartition("__")[2]
    if suffix in names:
        return suffix
    if len(names) == 1:
        return names[0]
    from .checkpoint import load_checkpoint

    expected = card.files.get(files[0].relative_to(path).as_posix()) if card else None
    found = load_checkpoint(files[0], expected)["configuration"]
    if found is None:
        raise ModelError(
            f"which configuration of '{path / 'plans.json'}' was trained is unknown: name the folder "
            f"...__CONFIGURATION with one of {', '.join(names)}"
        )
    return found
