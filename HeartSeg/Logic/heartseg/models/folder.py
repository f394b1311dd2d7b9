"""Model folders in the layout of nnU-Net v2: reading and checking, without loading weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from ..wording import _
from .card import CARD_NAME, ModelCard, read_json
from .checkpoint import load_arrays, load_checkpoint
from .labels import LabelMap, OutputHeads, assign_structures, build_lut
from .plans import Configuration, NetworkPlan, configuration_names, fallback_reason, read_configuration

CHECKPOINT_NAMES = ("checkpoint_final.pth", "checkpoint_best.pth")
GRAPH_NAME = "network.onnx"
LAYOUT = "plans.json, dataset.json and fold_*/checkpoint_final.pth, as in .../nnUNetTrainer__nnUNetPlans__3d_fullres"

_VERSION_1 = ("plans.pkl", "*/plans.pkl", "*.model", "*/*.model", "*/*/*.model")
"""Files of nnU-Net v1: its plans, and its checkpoints (``model_final_checkpoint.model``)."""


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """A trained nnU-Net v2 configuration on disk.

    ``patch_size`` and ``spacing`` are in the axis order of the plans: (z, y, x) after ``transpose_forward``.

    Attributes:
        path: the folder with ``plans.json``.
        plans, dataset: the content of ``plans.json`` and ``dataset.json``.
        configuration_plan: the trained configuration; the properties below read from it.
        checkpoints: one file per fold, in fold order.
        heads: meaning of the output channels.
        card: content of ``heartseg.json``, or ``None``.
        structures: label value in the model -> structure key, for known structures.
        hashes: path relative to the folder -> SHA-256, from the card of this folder or of the enclosing folder.
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
        """Open a model folder, or the only model folder directly inside ``path``.

        Args:
            path: folder with ``plans.json``, ``dataset.json`` and ``fold_*``; or its parent.
            label_map: label value in the model -> structure key; overrides card and label names.
            hashes: expected hashes for a folder without hashes in its own card.

        Raises:
            ModelError: the folder is incomplete, damaged, refused, or has unknown labels.
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
        """Display name: the name in the card, else the name of the folder."""
        return self.card.name if self.card else self.path.name

    @property
    def configuration(self) -> str:
        """Name of the nnU-Net configuration, e.g. ``"3d_fullres"``."""
        return self.configuration_plan.name

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds, ``"0"`` ... ``"4"`` or ``"all"``, in the order of ``checkpoints``."""
        return tuple(c.parent.name.removeprefix("fold_") for c in self.checkpoints)

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Patch size, voxels, (z, y, x) after ``transpose_forward``."""
        return self.configuration_plan.patch_size

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel spacing, mm, (z, y, x) after ``transpose_forward``."""
        return self.configuration_plan.spacing

    @property
    def graph(self) -> Path:
        """The network as an ONNX graph without weights, which runs without torch; not every folder has it."""
        return self.path / GRAPH_NAME

    @property
    def needs_torch(self) -> str:
        """Phrase that states why ONNX Runtime cannot run the model; ``""`` if it can."""
        if self.needs_fallback:
            return self.needs_fallback
        if self.is_2d:
            return _("it is 2D")
        return "" if self.graph.is_file() else _("it has no {file}").format(file=GRAPH_NAME)

    @property
    def is_2d(self) -> bool:
        """Whether the network processes slices."""
        return len(self.patch_size) == 2

    @property
    def tile_size(self) -> tuple[int, ...]:
        """Size of a tile in the network's axes (z, y, x), voxels: the patch size; one slice for a 2D model."""
        return (1, *self.patch_size) if self.is_2d else self.patch_size

    def as_3d(self, spacing: tuple[float, ...]) -> ModelFolder:
        """Return a 2D model as a 3D model with patches of one slice; return a 3D model unchanged.

        The slice spacing is that of the scan, because nnU-Net does not resample across slices in 2D.

        Args:
            spacing: spacing of the scan, (z, y, x), mm.
        """
        if not self.is_2d:
            return self
        between = spacing[self.transpose_forward[0]]
        plan = replace(self.configuration_plan, patch_size=self.tile_size, spacing=(between, *self.spacing))
        return replace(self, configuration_plan=plan)

    def turns_scans(self, reorient: bool) -> bool:
        """Whether scans are reoriented to the orientation in the card; ``reorient`` is the user's setting."""
        return reorient and self.card is not None and self.card.orientation is not None

    def over_whole_image(self, reorient: bool) -> bool:
        """Whether the model runs as in nnU-Net: over the whole image, in stored axes.

        This applies to models without an orientation and to 2D models.
        """
        return self.is_2d or not self.turns_scans(reorient)

    @property
    def transpose_forward(self) -> tuple[int, ...]:
        """Permutation from the stored (z, y, x) axes to the network's axes."""
        return self.configuration_plan.transpose_forward

    @property
    def transpose_backward(self) -> tuple[int, ...]:
        """Permutation from the network's axes back to the stored (z, y, x) axes."""
        return self.configuration_plan.transpose_backward

    @property
    def network(self) -> NetworkPlan:
        """Class and keyword arguments of the network."""
        return self.configuration_plan.network

    @property
    def normalization_schemes(self) -> tuple[str, ...]:
        """nnU-Net class name per channel, e.g. ``"CTNormalization"``."""
        return self.configuration_plan.normalization_schemes

    @property
    def use_mask_for_norm(self) -> tuple[bool, ...]:
        """Per channel: whether intensity statistics use the nonzero region only."""
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
        """``"0"`` -> mean, std, percentile_00_5, percentile_99_5, ... of the foreground in the training data."""
        old = self.plans.get("foreground_intensity_properties_by_modality", {})
        return dict(self.plans.get("foreground_intensity_properties_per_channel", old))

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the image channels, e.g. ``("CT",)``."""
        names = self.dataset.get("channel_names") or self.dataset.get("modality") or {"0": "image"}
        return tuple(str(names[key]) for key in sorted(names, key=int))

    @property
    def num_input_channels(self) -> int:
        """Number of input channels: image channels, and in a cascade one per structure of the previous stage."""
        cascade = bool(self.configuration_plan.raw.get("previous_stage"))
        return len(self.channel_names) + (sum(v != 0 for v in self.heads.values) if cascade else 0)

    @property
    def num_output_channels(self) -> int:
        """Number of output channels, including background."""
        return len(self.heads.names)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the output channels."""
        return self.heads.names

    @property
    def unmapped(self) -> tuple[str, ...]:
        """Names of the labels that match no known structure and become background."""
        return tuple(name for value, name in self.heads.foreground().items() if value not in self.structures)

    @property
    def needs_fallback(self) -> str | None:
        """Phrase that states why the model needs stock nnU-Net; ``None`` if HeartSeg can run it."""
        return fallback_reason(self.configuration_plan, self.plans, self.heads.regions)

    def structure_lut(self) -> np.ndarray:
        """Return a uint8 lookup table from the model's label map (argmax channel or region value) to HeartSeg labels.

        Raises:
            ModelError: no label matches a known structure; the message shows how to map the labels.
        """
        return build_lut(self.heads, self.structures, self.path.name)

    def sha256(self, file: Path) -> str | None:
        """Hash of a file of this folder according to the card, or ``None``."""
        return self.hashes.get(file.relative_to(self.path).as_posix())

    def open_finder(self) -> ModelFolder | None:
        """Open the coarse model that locates the heart; ``None`` if the card names none."""
        if self.card is None or self.card.finder is None:
            return None
        path = self.path / self.card.finder
        if not path.is_dir():
            raise ModelError(
                _("the finder '{finder}' named in '{path}' is missing: copy the whole model folder again").format(
                    finder=self.card.finder, path=self.path / CARD_NAME
                )
            )
        path = locate(path)
        prefix = path.relative_to(self.path).as_posix() + "/"
        inner = {k.removeprefix(prefix): v for k, v in self.hashes.items() if k.startswith(prefix)}
        return ModelFolder.open(path, hashes=inner)

    def _check_channels(self) -> None:
        channels = self.channel_names
        if len(channels) != 1:
            raise ModelError(
                _("model '{name}' has {count} input channels ({channels}): use a model with one channel").format(
                    name=self.path.name, count=len(channels), channels=", ".join(channels)
                )
            )
        if len(self.normalization_schemes) != 1:
            raise ModelError(
                _(
                    "'normalization_schemes' in '{path}' has {count} entries for 1 channel: copy plans.json again"
                ).format(path=self.path / "plans.json", count=len(self.normalization_schemes))
            )
        needed = ("mean", "std", "percentile_00_5", "percentile_99_5")
        statistics = self.foreground_intensity_properties_per_channel.get("0")
        if self.normalization_schemes[0] == "CTNormalization" and not (
            isinstance(statistics, dict) and all(isinstance(statistics.get(k), int | float) for k in needed)
        ):
            raise ModelError(
                _(
                    "'foreground_intensity_properties_per_channel' in '{path}' lacks {needed} for channel 0, "
                    "required by CTNormalization: copy plans.json again"
                ).format(path=self.path / "plans.json", needed=", ".join(needed))
            )


def locate(path: Path) -> Path:
    """Return ``path`` if it contains ``plans.json``, else its only subfolder that does."""
    if not path.is_dir():
        raise ModelError(
            _("model folder '{path}' does not exist: choose a folder with {layout}").format(path=path, layout=LAYOUT)
        )
    if (path / "plans.json").is_file():
        return path
    inside = sorted(p.parent for p in path.glob("*/plans.json"))
    if not inside:
        if first := next((p for pattern in _VERSION_1 for p in sorted(path.glob(pattern))), None):
            raise ModelError(
                _(
                    "'{path}' is a model of nnU-Net v1 ({name}), and HeartSeg runs those of nnU-Net v2: train it "
                    "again with nnU-Net v2 (its command nnUNetv2_convert_old_nnUNet_dataset converts the data "
                    "set), or run it with nnUNet_predict of nnU-Net v1"
                ).format(path=path, name=first.name)
            )
        raise ModelError(
            _("'{path}' is not an nnU-Net v2 model folder (no plans.json): choose a folder with {layout}").format(
                path=path, layout=LAYOUT
            )
        )
    if len(inside) > 1:
        raise ModelError(
            _("'{path}' contains {count} models: choose one of {name}").format(
                path=path, count=len(inside), name=", ".join(p.name for p in inside)
            )
        )
    return inside[0]


def _find_checkpoints(path: Path) -> tuple[Path, ...]:
    folds = [p for p in path.glob("fold_*") if p.is_dir() and re.fullmatch(r"fold_(all|\d+)", p.name)]
    folds.sort(key=lambda p: int("".join(filter(str.isdecimal, p.name)) or -1))
    found = {p: [p / name for name in CHECKPOINT_NAMES if (p / name).is_file()] for p in folds}
    numbered = [files[0] for p, files in found.items() if files and p.name != "fold_all"]
    checkpoints = tuple(numbered or [files[0] for files in found.values() if files])  # a begun fold does not count
    if not checkpoints:
        where = ", ".join(p.name for p in folds) or "any fold_*"
        raise ModelError(
            _("model folder '{path}' has no {names} in {where}: finish the training or copy it again").format(
                path=path, names=" or ".join(CHECKPOINT_NAMES), where=where
            )
        )
    return checkpoints


def _configuration_name(path: Path, plans: Mapping[str, Any], card: ModelCard | None, files: tuple[Path, ...]) -> str:
    """Name of the configuration from the card, the folder name, the only one in the plans, or the first checkpoint."""
    names = configuration_names(plans, str(path / "plans.json"))
    if card and card.configuration:
        return card.configuration
    suffix = path.name.rpartition("__")[2]
    if suffix in names:
        return suffix
    if len(names) == 1:
        return names[0]
    expected = card.files.get(files[0].relative_to(path).as_posix()) if card else None
    read = load_arrays if (path / GRAPH_NAME).is_file() else load_checkpoint  # without torch where it is not needed
    found = read(files[0], expected)["configuration"]
    if found is None:
        raise ModelError(
            _(
                "the trained configuration of '{path}' is unknown: name the folder ...__CONFIGURATION with "
                "one of {names}"
            ).format(path=path / "plans.json", names=", ".join(names))
        )
    return found
