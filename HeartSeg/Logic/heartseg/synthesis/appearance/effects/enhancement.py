"""Late gadolinium enhancement: subendocardial, transmural or midwall scar, sometimes with dark cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...fields import gaussian_blur, smooth_field
from ...regions import Region
from ..tables import Appearance
from ..tissue import Body
from .base import TISSUE, Effect

_WALL = (Region.LV_MYO, Region.SCAR, Region.PAPILLARY)


@dataclass(frozen=True)
class LateEnhancement(Effect):
    """Bright scar in part of the left ventricular wall.

    Attributes:
        low, high: range of the scar's depth in the wall, where 0.5 is the endocardium and values decrease outwards.
        level: scar is where a smooth field of unit standard deviation exceeds this level.
        extent: size of the scars, mm.
        brightness: factor on the table's grey value of scar.
        core: fraction of the scar without enhancement (microvascular obstruction).
    """

    name: ClassVar[str] = "late_enhancement"
    when: ClassVar[str] = TISSUE
    low: float
    high: float
    level: float
    extent: float
    brightness: float
    core: float

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> LateEnhancement | None:
        """Draw for 70 % of late-enhancement images."""
        if look.protocol != "late_enhancement" or rng.random() >= 0.7:
            return None
        u = rng.uniform
        low, high = ((u(0.15, 0.3), 1.0), (-1.0, 1.0), (0.06, 0.22))[int(rng.choice(3, p=[0.5, 0.3, 0.2]))]
        core = u(0.2, 0.5) if rng.random() < 0.25 else 0.0
        return cls(low, high, u(-0.3, 1.2), u(20, 50), u(0.7, 1.2), core)

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Blend the grey value of scar into the wall."""
        blood = (Region.LV_BLOOD, Region.PAPILLARY, Region.TRABECULA)
        depth = gaussian_blur(body.share(blood), [5 / body.spacing] * 3)
        where = smooth_field(rng, image.shape, max(2.0, self.extent / body.spacing), image.device) > self.level
        grain = smooth_field(rng, image.shape, max(1.5, 6 / body.spacing), image.device)
        ragged = depth + 0.04 * grain
        scar = body.share(_WALL) * (where & (ragged > self.low) & (ragged < self.high))
        value = float(body.look.mean[Region.SCAR]) * self.brightness * (1 + 0.1 * grain)
        if self.core:
            dark = grain > float(torch.special.ndtri(torch.tensor(1 - self.core)))
            value = torch.where(dark, float(body.look.mean[Region.LV_MYO]), value)
        return image + scar * (value - image)
