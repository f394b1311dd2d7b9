"""Trabeculae and papillary muscles that fill the cavities, as in systole; the labels count them as blood."""

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

_WALL = {Region.LV_BLOOD: (Region.LV_MYO, Region.SCAR), Region.RV_BLOOD: (Region.RV_WALL, Region.LV_MYO)}


@dataclass(frozen=True)
class Trabeculae(Effect):
    """Muscle in the blood, densest at the wall.

    Attributes:
        cavities: blood regions to fill.
        reach: distance from the wall at which muscle becomes rare, mm.
        fill: fraction of the blood at the wall replaced by muscle.
        grain: size of the trabeculae, mm.
        strength: weight of the muscle's grey value.
    """

    name: ClassVar[str] = "trabeculae"
    when: ClassVar[str] = TISSUE
    cavities: tuple[int, ...]
    reach: float
    fill: float
    grain: float
    strength: float

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> Trabeculae | None:
        """Draw for half of all images, more often for the left ventricle than for the right."""
        if rng.random() >= 0.5:
            return None
        both = (Region.LV_BLOOD, Region.RV_BLOOD)
        cavities = (both, both[:1], both[1:])[int(rng.choice(3, p=[0.4, 0.4, 0.2]))]
        u = rng.uniform
        return cls(tuple(int(c) for c in cavities), u(2, 8), u(0.2, 0.75), u(3, 8), u(0.5, 1))

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Blend the grey value of muscle into the blood."""
        noise = smooth_field(rng, image.shape, max(1.3, self.grain / body.spacing), image.device)
        for cavity in self.cavities:
            blood = body.share((cavity,))
            near = gaussian_blur(body.share(_WALL[Region(cavity)]), [self.reach / body.spacing] * 3)
            near = (2 * near).clamp(max=1)
            # The noise has unit standard deviation: its quantile of 1 - fill is the level beside the wall.
            level = float(torch.special.ndtri(torch.tensor(1 - self.fill))) + 3 * (1 - near)
            muscle = blood * torch.sigmoid(6 * (noise - level)) * self.strength
            image = image + muscle * (float(body.look.mean[Region.LV_MYO]) - image)
        return image
