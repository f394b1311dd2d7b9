"""Settings of a CycleGAN training and two presets; has no slow imports."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import SettingsError

OPTIMISERS = ("adam", "sgd")
LOSSES = ("lsgan", "log")


@dataclass(frozen=True)
class Settings:
    """Settings of one training.

    Attributes:
        blocks: residual blocks of a generator.
        filters: channels of a generator's first layer.
        critic_filters: channels of a discriminator's first layer.
        loss: adversarial loss, ``lsgan`` or ``log``.
        cycle: weight of the cycle's L1 loss.
        identity: weight of the identity loss, relative to ``cycle``.
        edges: weight of the edge correlation (:func:`~heartseg.translation.losses.edge_loss`).
        pool: size of the pool of earlier translations for each discriminator.
        optimizer: ``adam`` (``momentum`` is its beta1, beta2 .999) or ``sgd`` (``momentum`` is its momentum).
        learning_rate: initial learning rate.
        momentum: see ``optimizer``.
        epochs: number of epochs; an epoch has as many slices as the larger domain.
        constant_epochs: epochs with a constant learning rate, before it decreases linearly to 0.
        steps: number of steps instead of ``epochs`` (0: use ``epochs``); the learning rate schedule is scaled to it.
        batch: slices of each domain per step.
        patch: edge length of the square patch, pixels; a multiple of 4, at least 32.
        spacing: in-plane pixel size, mm.
        ct_window: HU mapped to -1 and 1 in CT.
        mr_percentiles: percentiles of each MR volume mapped to -1 and 1.
        ema: decay of the running average of the generators, which the model contains; 0 for no average.
        seed: seed of weights, samples and pools.
    """

    blocks: int = 9
    filters: int = 64
    critic_filters: int = 64
    loss: str = "lsgan"
    cycle: float = 10.0
    identity: float = 0.5
    edges: float = 0.0
    pool: int = 50
    optimizer: str = "adam"
    learning_rate: float = 2e-4
    momentum: float = 0.5
    epochs: int = 200
    constant_epochs: int = 100
    steps: int = 0
    batch: int = 1
    patch: int = 256
    spacing: float = 0.75
    ct_window: tuple[float, float] = (-500.0, 1000.0)
    mr_percentiles: tuple[float, float] = (0.5, 99.5)
    ema: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.loss not in LOSSES:
            raise SettingsError(f"loss is {self.loss!r}: it must be one of {', '.join(LOSSES)}")
        if self.optimizer not in OPTIMISERS:
            raise SettingsError(f"optimizer is {self.optimizer!r}: it must be one of {', '.join(OPTIMISERS)}")
        if self.patch % 4 or not 32 <= self.patch <= 4096:
            raise SettingsError(f"patch is {self.patch} pixels: it must be a multiple of 4 between 32 and 4096")
        low, high = self.mr_percentiles
        if not 0 <= low < high <= 100:
            raise SettingsError(f"mr_percentiles are {low:g}, {high:g}: give two ascending values from 0 to 100")
        low, high = self.ct_window
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise SettingsError(f"ct_window is {low:g} to {high:g} HU: give two ascending values")
        if self.constant_epochs >= self.epochs:
            raise SettingsError(f"constant_epochs is {self.constant_epochs}: it must be below epochs, {self.epochs}")

    def _check_numbers(self) -> None:
        spans = {
            "blocks": (1, 32),
            "filters": (1, 512),
            "critic_filters": (1, 512),
            "cycle": (0, 1e4),
            "identity": (0, 1e4),
            "edges": (0, 1e4),
            "pool": (0, 10_000),
            "learning_rate": (1e-9, 10),
            "momentum": (0, 0.9999),
            "epochs": (1, 1e6),
            "constant_epochs": (0, 1e6),
            "steps": (0, 1e9),
            "batch": (1, 1024),
            "spacing": (0.05, 20),
            "ema": (0, 0.99999),
            "seed": (0, 2**62),
        }
        for name, (low, high) in spans.items():
            value = getattr(self, name)
            if not low <= value <= high:  # also refuses NaN
                raise SettingsError(f"{name} is {value}: it must be between {low:g} and {high:g}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Make settings from :meth:`to_dict`; raises ``SettingsError`` for unknown names or invalid values.

        Models of 0.1 spell ``optimizer`` otherwise.
        """
        values = {{"optimiser": "optimizer"}.get(k, k): v for k, v in values.items()}
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise SettingsError(f"setting {sorted(unknown)[0]!r} does not exist: omit it")
        try:
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"settings cannot be read ({error}): copy the model again") from None


REFERENCE = Settings()
"""Settings of the CycleGAN paper: ResNet-9, least squares, lambda 10, identity .5, pool 50, Adam 2e-4 (beta1 .5), 200
epochs with a learning rate that decreases over the last 100, batch 1, 256 x 256. Pixels of 0.75 mm, so that a cardiac
CT of 200 mm fills the patch."""

DOCUMENT = Settings(
    loss="log",
    cycle=1.0,
    identity=0.0,
    optimizer="sgd",
    learning_rate=0.01,
    momentum=0.9,
    epochs=50,
    constant_epochs=0,
    batch=2,
    patch=384,
    spacing=0.5,
)
"""Settings of the original document: learning rate .01 decreasing linearly to 0 over 50 epochs, batch 2, 384 x 384, log
loss, unweighted sum of the adversarial and the cycle terms, no identity term. The document does not specify optimizer
and pixel size. We assume SGD with momentum .9, for which this rate is usual, and pixels of 0.5 mm, so that a cardiac CT
of 200 mm fills the patch. Networks and pool are not specified either and follow the paper."""

PRESETS: dict[str, Settings] = {"reference": REFERENCE, "document": DOCUMENT}
