"""Low-dose CT, as in PET/CT: no contrast medium, streak noise where the body is wide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...fields import gaussian_blur
from ..tables import Appearance
from ..tissue import Body, white_noise
from .base import SCANNED, Effect


@dataclass(frozen=True)
class LowDose(Effect):
    """Photon starvation: noise correlated along x that grows with the width of the body.

    Attributes:
        noise: standard deviation where the body is widest, HU.
        length: length of the streaks, mm.
    """

    name: ClassVar[str] = "low_dose"
    when: ClassVar[str] = SCANNED
    noise: float
    length: float

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> LowDose | None:
        """Draw for 70 % of non-contrast CT and 6 % of other CT."""
        if look.kind != "ct" or rng.random() >= (0.7 if look.protocol == "non_contrast" else 0.06):
            return None
        return cls(rng.uniform(10, 70), rng.uniform(4, 20))

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Add the streak noise."""
        width = (image > -300).float().sum(2, keepdim=True) * body.spacing
        wide = gaussian_blur(width.expand_as(image), [1, 4 / body.spacing, 0])
        noise = white_noise(rng, image.shape, image.device)
        noise = gaussian_blur(noise, [0, 0.5, self.length / body.spacing])
        share = (wide / wide.max().clamp(min=1.0)).clamp(min=0.3)
        return image + noise / noise.std() * self.noise * share**2
