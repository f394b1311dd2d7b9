"""Intensity clusters within tissues: each tissue is divided into a few parts of different brightness.

After Zalevskyi et al. (FetalSynthSeg, arXiv 2411.06842), who found clusters decisive outside the training domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...fields import smooth_field
from ...regions import N_REGIONS, Region
from ..tables import BLOOD, HEART, Appearance
from ..tissue import Body, average
from .base import TISSUE, Effect

_INSIDE = (*BLOOD, *HEART)


@dataclass(frozen=True)
class Clusters(Effect):
    """Parts of tissues, delimited by levels of a smooth field.

    Attributes:
        levels: ascending levels of a field of unit standard deviation.
        offset: value added to each region in each part, float32 (parts, regions).
        extent: size of the parts, mm.
    """

    name: ClassVar[str] = "clusters"
    when: ClassVar[str] = TISSUE
    levels: tuple[float, ...]
    offset: np.ndarray
    extent: float

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> Clusters | None:
        """Draw for half of all images and half of the regions; offsets in the heart scale with its contrast."""
        if rng.random() >= 0.5:
            return None
        mean = look.mean
        contrast = abs(float(mean[Region.LV_BLOOD] - mean[Region.LV_MYO]))
        low, high = np.percentile(mean[[r for r in Region if r not in (Region.UNSEEN, Region.METAL)]], (10, 90))
        spread = np.full(N_REGIONS, rng.uniform(0.03, 0.25) * float(high - low), np.float32)
        spread[list(_INSIDE)] = rng.uniform(0.05, 0.45) * contrast
        spread[rng.random(N_REGIONS) < 0.5] = 0
        spread[[Region.AIR, Region.UNSEEN]] = 0
        levels = np.sort(rng.uniform(-1.3, 1.3, int(rng.integers(1, 4))))
        offset = rng.uniform(-1, 1, (len(levels) + 1, N_REGIONS)) * spread
        return cls(tuple(float(v) for v in levels), offset.astype(np.float32), rng.uniform(8, 40))

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Add the offset of each part."""
        field = smooth_field(rng, image.shape, max(2.0, self.extent / body.spacing), image.device)
        part = sum((field > level).to(torch.int32) for level in self.levels)
        assert isinstance(part, torch.Tensor)
        return image + average(self.offset.reshape(-1), [part * N_REGIONS + c for c in body.corners])
