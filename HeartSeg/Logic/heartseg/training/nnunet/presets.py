"""Training settings, and the presets of the documents and of nnU-Net.

nnU-Net's value is used where a document does not specify one; each preset lists these choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ...errors import SettingsError
from .names import is_dotted

OPTIMIZERS = ("sgd", "adam")
USUAL_RATES = {"sgd": 1e-2, "adam": 1e-3}
"""Initial learning rate if the optimizer was changed and no rate was given."""
SCHEDULES = ("poly", "linear", "constant")
LOSSES = ("nnunet", "ce-dice", "cross-entropy", "dice", "focal", "plain-focal", "ce-plus-dice")
"""nnU-Net's loss, beta CE + (1 - beta) soft Dice, and names of :data:`heartseg.training.losses.REGION_LOSSES`."""
AUGMENTATIONS = ("nnunet", "region-aware", "flips-brightness")
NETWORK_NAMES = (
    "plain",
    "residual",
    "attention",
    "tutorial",
    "tutorial-corners",
    "tutorial-3d",
    "mobile",
    "integrated-attention",
    "csfbu",
    "csfbu-concatenate",
    "csfbu-edge",
    "csfbu-fusion",
    "csfbu-head",
)
"""Names of :data:`heartseg.networks.catalogue.NETWORKS`, repeated to avoid importing torch; a test compares both."""
REGIONS = ("whole", "interior")
OWN = ("network", "loss", "augmentation")
"""Settings that may also be the dotted name of a class or function of the user."""
DIMENSIONS = {"2d": "2d", "3d": "3d_fullres"}
"""Option -> name of nnU-Net's configuration."""

LISTS = ("patch", "edge_structures")
"""Settings that are lists."""


@dataclass(frozen=True)
class Preset:
    """Training settings, which the plans transfer to the trainer.

    Attributes:
        name: name of the preset on which these settings are based.
        network: name in :mod:`heartseg.networks.catalogue`.
        stages: maximum number of resolution levels of the network; ``None``: as planned.
        dimension: ``"2d"`` (slice by slice) or ``"3d"``.
        optimizer: ``"sgd"`` or ``"adam"`` (with L2 weight decay, as in ``torch.optim.Adam``).
        learning_rate: initial learning rate.
        schedule: ``"poly"`` (as in nnU-Net, exponent 0.9), ``"linear"`` (to 0 over the epochs) or ``"constant"``.
        momentum: Nesterov momentum of SGD.
        weight_decay: L2 weight decay.
        epochs, iterations, validation_iterations: number of epochs, and of steps per epoch, as in nnU-Net; an epoch is
            not a pass over the data.
        batch: samples per step; ``None``: as planned.
        patch: patch size in voxels, (z, y, x) or (y, x); ``None``: as planned.
        normalization: class name in nnU-Net; ``None``: as planned.
        loss: loss of regions, and of edges if the network has them: ``"nnunet"`` (cross-entropy + Dice, unweighted sum;
            with edges like ``"ce-dice"``), ``"ce-dice"`` (beta CE + (1 - beta) soft Dice), ``"cross-entropy"``,
            ``"dice"`` or ``"focal"``.
        beta, delta: parameters of ``"ce-dice"``: weight of the cross-entropy, smoothing of the Dice.
        alpha: weight of the edge loss relative to the region loss, for networks with edges.
        erosion: number of voxels by which structures are eroded to find inner edges (m in the documents), 0-3.
        edge_structures: labels of the training data whose inner edges are learnt; ``None``: all.
        regions: target of the region loss of networks with edges: ``"whole"`` structures, or their ``"interior"``.
        augmentation: ``"nnunet"``; ``"region-aware"``: rotation up to 30 degrees, shift up to 10 %, scale 0.8-1.2,
            about the centre of the target; ``"flips-brightness"``.
        oversample: fraction of a batch that is centred on a structure.
        deep_supervision: whether lower resolutions also contribute to the loss.
        translated: whether to train on cases made by ``heartseg translate join``, if present.
        unlabelled: whether to train also on scans without references, if present (see :mod:`.unlabelled`).
        unlabelled_weight: final weight of the loss of unlabelled scans.
        pseudo_threshold: minimum probability of the predicted label for a voxel to serve as pseudo-label.
    """

    name: str = "nnunet"
    network: str = "plain"
    stages: int | None = None
    dimension: str = "3d"
    optimizer: str = "sgd"
    learning_rate: float = 1e-2
    schedule: str = "poly"
    momentum: float = 0.99
    weight_decay: float = 3e-5
    epochs: int = 1000
    iterations: int = 250
    validation_iterations: int = 50
    batch: int | None = None
    patch: tuple[int, ...] | None = None
    normalization: str | None = None
    loss: str = "nnunet"
    beta: float = 0.5
    delta: float = 1.0
    alpha: float = 1.0
    erosion: int = 1
    edge_structures: tuple[str, ...] | None = None
    regions: str = "whole"
    augmentation: str = "nnunet"
    oversample: float = 0.33
    deep_supervision: bool = True
    translated: bool = True
    unlabelled: bool = True
    unlabelled_weight: float = 1.0
    pseudo_threshold: float = 0.95

    @property
    def configuration(self) -> str:
        """Name of nnU-Net's configuration."""
        return DIMENSIONS[self.dimension]

    @property
    def edges(self) -> str:
        """Kind of edge channels of the network: ``"inner"``, ``"head"`` or ``"none"``."""
        from ...networks.catalogue import find

        return str(find(self.network).extra.get("edge", "none"))

    def with_changes(self, **changes: Any) -> Preset:
        """Return these settings, changed by all arguments that are not ``None``.

        If the dimension changes, patch and batch become ``None`` (as planned) unless given; if the optimizer changes,
        the learning rate becomes that of :data:`USUAL_RATES`. A beta or delta changes nnU-Net's loss to ``"ce-dice"``.
        """
        wanted = {k: v for k, v in changes.items() if v is not None}
        if wanted.get("dimension", self.dimension) != self.dimension:
            wanted = {"patch": None, "batch": None, **wanted}
        if wanted.get("optimizer", self.optimizer) != self.optimizer and wanted["optimizer"] in USUAL_RATES:
            wanted = {"learning_rate": USUAL_RATES[wanted["optimizer"]], **wanted}
        own = [k for k in ("beta", "delta") if k in wanted]
        if own and self.loss == "nnunet":
            wanted.setdefault("loss", "ce-dice")
        loss = wanted.get("loss", self.loss)
        if own and loss in LOSSES and loss != "ce-dice":
            raise SettingsError(f"{own[0]} {wanted[own[0]]} has no place in the loss {loss!r}: it belongs to ce-dice")
        return replace(self, **wanted).check()

    def problems(self) -> list[str]:
        """Problems of these settings, each with its solution; empty if there are none."""
        found = []
        for name, choices in (
            ("dimension", tuple(DIMENSIONS)),
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("loss", LOSSES),
            ("augmentation", AUGMENTATIONS),
            ("regions", REGIONS),
        ):
            if getattr(self, name) not in choices and not (name in OWN and is_dotted(getattr(self, name))):
                found.append(f"{name} {getattr(self, name)!r} is unknown: use one of {', '.join(choices)}")
        for name, low in (("epochs", 1), ("iterations", 1), ("validation_iterations", 1), ("batch", 1)):
            value = getattr(self, name)
            if value is not None and value < low:
                found.append(f"{name} {value} is too few: give {low} or more")
        if self.network not in NETWORK_NAMES and not is_dotted(self.network):
            found.append(f"network {self.network!r} is unknown: use one of {', '.join(NETWORK_NAMES)}")
        if self.stages is not None and self.stages < 2:
            found.append(f"stages {self.stages} are too few: give 2 or more")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            found.append(f"learning rate {self.learning_rate} must be above 0")
        if not 0 <= self.beta <= 1:
            found.append(f"beta {self.beta} is outside [0, 1]: 0.5 weighs cross-entropy and Dice alike")
        if not (math.isfinite(self.delta) and self.delta > 0):
            found.append(f"delta {self.delta} must be above 0: 1 voxel is the default")
        if self.alpha < 0:
            found.append(f"alpha {self.alpha} is below 0: 1 weighs edges as regions")
        if not (math.isfinite(self.unlabelled_weight) and self.unlabelled_weight >= 0):
            found.append(
                f"unlabelled weight {self.unlabelled_weight} must be 0 or more: 1 weighs a sure voxel as a labelled"
            )
        if not 0 < self.pseudo_threshold <= 1:
            found.append(f"pseudo threshold {self.pseudo_threshold} is outside (0, 1]: 0.95 is FixMatch's")
        if self.erosion not in (0, 1, 2, 3):
            found.append(f"erosion {self.erosion} is unknown: choose 0, 1, 2 or 3 (1 was best in the documents)")
        if self.edge_structures is not None and (not self.edge_structures or self.edges == "none"):
            found.append(
                f"edge structures have no place in the network {self.network!r}: use csfbu, csfbu-edge or csfbu-head"
                if self.edge_structures
                else "edge structures are empty: name some, or choose a network without edges, such as csfbu-fusion"
            )
        if self.patch is not None:
            wrong = len(self.patch) != int(self.dimension[0]) or min(self.patch) < 16
            if wrong:
                found.append(
                    f"patch {'x'.join(map(str, self.patch))} does not fit {self.dimension}: give "
                    f"{self.dimension[0]} sizes of 16 or more, such as 256x256"
                )
        return found

    def check(self) -> Preset:
        """Return these settings, or raise :class:`~heartseg.errors.SettingsError` with the first problem."""
        for problem in self.problems():
            raise SettingsError(problem)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the settings in a form ready for JSON, for the plans and the card."""
        content = asdict(self)
        for name in LISTS:
            content[name] = list(content[name]) if content[name] is not None else None
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Preset:
        """Make settings from the output of :meth:`to_dict`; ignores keys of newer versions."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in content.items() if k in known}
        for name in LISTS:
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        return cls(**values)


def changed_settings(before: Mapping[str, Any], now: Preset) -> dict[str, tuple[Any, Any]]:
    """Return the old and new value of each changed setting; a setting unknown to an older version had its default."""
    old, new = Preset.from_dict(before).to_dict(), now.to_dict()
    return {("preset" if k == "name" else k): (old[k], new[k]) for k in new if old[k] != new[k]}


NNUNET = Preset()
"""Defaults of nnU-Net v2 (nnunetv2 2.8, ``nnUNetTrainer``); only the network may differ."""

CSFBU = Preset(
    name="csfbu",
    network="csfbu",
    dimension="2d",
    schedule="linear",
    epochs=200,
    batch=14,
    loss="ce-dice",
)
"""CSFBU-Net: SGD 0.01 falling linearly to 0 over 200 epochs, batch 14, slice-wise; alpha 1, beta 0.5, m = 1.

Not specified in the document and therefore as in nnU-Net: momentum 0.99, weight decay 3e-5, 250 steps per epoch,
planned patch and augmentation, deep supervision, delta 1 voxel.
"""

INTEGRATED_ATTENTION = Preset(
    name="integrated-attention",
    network="integrated-attention",
    stages=6,
    dimension="2d",
    optimizer="adam",
    learning_rate=1e-4,
    schedule="constant",
    weight_decay=1e-5,
    epochs=500,
    batch=16,
    patch=(256, 256),
    normalization="ZScoreNormalization",
    loss="ce-plus-dice",
    augmentation="flips-brightness",
)
"""Integrated-attention network: Adam 1e-4, weight decay 1e-5, batch 16, 500 epochs, 256 x 256 crops, z-scores, flips
and brightness; unweighted sum of cross-entropy and Dice, with smoothing in the denominator only.

The document's 5 + 5 levels are five steps down and five up, hence six stages. The document does not specify a schedule,
the smoothing or the steps per epoch: the rate is constant, the smoothing 1 voxel, and an epoch has 250 steps as in
nnU-Net.
"""

PRESETS: dict[str, Preset] = {p.name: p for p in (NNUNET, CSFBU, INTEGRATED_ATTENTION)}
