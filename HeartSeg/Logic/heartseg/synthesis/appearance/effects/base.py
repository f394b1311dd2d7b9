"""What every effect is: parameters that are drawn once and then applied to any image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch

from ..tables import Appearance
from ..tissue import Body

TISSUE, SCANNED, SHOWN = "tissue", "scanned", "shown"
"""When an effect applies: to the tissues' grey values, after blur and noise, or to the image as it is stored."""


class Effect(ABC):
    """One artefact or property of an image, a frozen dataclass of its parameters.

    ``name`` is its switch (:data:`~heartseg.synthesis.switches.EFFECTS`), ``when`` one of ``TISSUE``, ``SCANNED`` and
    ``SHOWN``.
    """

    name: ClassVar[str]
    when: ClassVar[str]

    @classmethod
    @abstractmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> Effect | None:
        """Random parameters that suit an appearance, or None where it does not have the effect."""

    @abstractmethod
    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """The image, float32 (z, y, x), with the effect; ``rng`` gives the noise that it needs."""
