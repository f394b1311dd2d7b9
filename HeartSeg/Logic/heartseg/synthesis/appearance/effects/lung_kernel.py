"""CT reconstructed with a sharp lung kernel: overshoot at edges, strong high-frequency noise."""

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
class LungKernel(Effect):
    """Unsharp mask and high-pass noise.

    Attributes:
        gain: gain of the unsharp mask.
        width: standard deviation of the unsharp mask, mm.
        noise: standard deviation of the added noise, HU.
    """

    name: ClassVar[str] = "lung_kernel"
    when: ClassVar[str] = SCANNED
    gain: float
    width: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> LungKernel | None:
        """Draw for 15 % of CT."""
        if look.kind != "ct" or rng.random() >= 0.15:
            return None
        return cls(rng.uniform(0.5, 2.5), rng.uniform(0.8, 1.8), float(np.exp(rng.uniform(np.log(25), np.log(140)))))

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Sharpen in the plane, then add noise."""
        width = max(0.5, self.width / body.spacing)
        sharp = image + self.gain * (image - gaussian_blur(image, [0, width, width]))
        noise = white_noise(rng, image.shape, image.device)
        noise = noise - gaussian_blur(noise, [0, 1.0, 1.0])
        return sharp + noise * (self.noise / noise.std())
