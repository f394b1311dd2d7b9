"""Late gadolinium enhancement: scar below the endocardium, through the wall or within it, with dark cores at times."""

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
    """Bright scar in part of the left ventricle's wall.

    Attributes:
        low, high: depth of the scar in the wall: 0.5 at the endocardium, falling outwards; it lies between them.
        level: a smooth field of unit standard deviation is above it where there is scar.
        extent: size of the scars, mm.
        brightness: of the scar, as a multiple of the table's.
        core: share of the scar without signal (microvascular obstruction).
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
        """In seven of ten late-enhancement images."""
        if look.protocol != "late_enhancement" or rng.random() >= 0.7:
            return None
        u = rng.uniform
        low, high = ((u(0.15, 0.3), 1.0), (-1.0, 1.0), (0.06, 0.22))[int(rng.choice(3, p=[0.5, 0.3, 0.2]))]
        core = u(0.2, 0.5) if rng.random() < 0.25 else 0.0
        return cls(low, high, u(-0.3, 1.2), u(20, 50), u(0.7, 1.2), core)

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Blend the scar's grey value into the wall."""
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
