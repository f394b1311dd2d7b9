"""Base class of the effects: parameters that are drawn once and apply to any image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch

from ..tables import Appearance
from ..tissue import Body

TISSUE, SCANNED, SHOWN = "tissue", "scanned", "shown"
"""Stages of effects: on the tissue grey values, after blur and noise, or on the stored image."""


class Effect(ABC):
    """An artefact or property of an image; subclasses are frozen dataclasses of its parameters.

    ``name`` is the key in :data:`~heartseg.synthesis.switches.EFFECTS`; ``when`` is ``TISSUE``, ``SCANNED`` or
    ``SHOWN``.
    """

    name: ClassVar[str]
    when: ClassVar[str]

    @classmethod
    @abstractmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> Effect | None:
        """Draw parameters that suit an appearance, or return None for no effect."""

    @abstractmethod
    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Return the image, float32 (z, y, x), with the effect; ``rng`` is the source of its noise."""
