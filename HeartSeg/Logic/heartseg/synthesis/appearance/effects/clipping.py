"""Upper end of the grey scale cut off or compressed, so that dense contrast medium does not set the scale."""

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
    """What lies above a knee keeps ``slope`` of its distance from it; 0 cuts it off.

    Attributes:
        knee: quantile of the image where it begins, or grey value if ``absolute``.
        absolute: whether the knee is a grey value.
        slope: 0 to 1.
    """

    name: ClassVar[str] = "clipping"
    when: ClassVar[str] = SHOWN
    knee: float
    absolute: bool
    slope: float

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> Clipping | None:
        """In half of all images; half of the CT in HU at 250 to 700 HU, everything else at a quantile."""
        if rng.random() >= 0.5:
            return None
        absolute = look.kind == "ct" and look.window is None and look.gamma == 1.0 and bool(rng.random() < 0.5)
        slope = 0.0 if rng.random() < 0.6 else rng.uniform(0.05, 0.6)
        return cls(rng.uniform(250, 700) if absolute else rng.uniform(0.93, 0.998), absolute, slope)

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Bend the grey scale at the knee."""
        knee = self.knee if self.absolute else quantiles(image, (self.knee,))[0]
        return torch.minimum(image, knee + self.slope * (image - knee).clamp(min=0))
