"""Clip or compress the upper end of the grey scale, so that dense contrast medium does not determine the scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ..grey_scale import quantiles
from ..tables import Appearance
from ..tissue import Body
from .base import SHOWN, Effect


@dataclass(frozen=True)
class Clipping(Effect):
    """Compression of grey values above a knee.

    Attributes:
        knee: quantile of the image at which compression starts, or grey value if ``absolute``.
        absolute: whether the knee is a grey value.
        slope: slope of the grey scale above the knee, 0 to 1; 0 clips.
    """

    name: ClassVar[str] = "clipping"
    when: ClassVar[str] = SHOWN
    knee: float
    absolute: bool
    slope: float

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> Clipping | None:
        """Draw for half of all images: at 250 to 700 HU in half of the CT images in HU, at a quantile in all others."""
        if rng.random() >= 0.5:
            return None
        absolute = look.kind == "ct" and look.window is None and look.gamma == 1.0 and bool(rng.random() < 0.5)
        slope = 0.0 if rng.random() < 0.6 else rng.uniform(0.05, 0.6)
        return cls(rng.uniform(250, 700) if absolute else rng.uniform(0.93, 0.998), absolute, slope)

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Bend the grey scale at the knee."""
        knee = self.knee if self.absolute else quantiles(image, (self.knee,))[0]
        return torch.minimum(image, knee + self.slope * (image - knee).clamp(min=0))
