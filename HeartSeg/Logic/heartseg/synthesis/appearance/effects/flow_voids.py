"""Signal loss in jets of fast blood, in balanced and spoiled gradient echo images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...regions import Region
from ..tables import Appearance
from ..tissue import Body
from .base import TISSUE, Effect

POOLS = (Region.LV_BLOOD, Region.RV_BLOOD, Region.LA_BLOOD, Region.RA_BLOOD, Region.AO_BLOOD, Region.PA_BLOOD)


@dataclass(frozen=True)
class FlowVoids(Effect):
    """Dark jets in blood.

    Attributes:
        length, radius: size of each jet, mm.
        direction: unit vector of each jet (jets, 3).
        pool: region in which each jet starts.
        loss: fraction of the signal lost on the axis of each jet.
    """

    name: ClassVar[str] = "flow_voids"
    when: ClassVar[str] = TISSUE
    length: np.ndarray
    radius: np.ndarray
    direction: np.ndarray
    pool: np.ndarray
    loss: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> FlowVoids | None:
        """Draw one to four jets for 60 % of bright-blood cine images."""
        if look.protocol not in ("bssfp", "gre") or rng.random() >= 0.6:
            return None
        n = int(rng.integers(1, 5))
        direction = rng.standard_normal((n, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        pool = rng.choice([int(p) for p in POOLS], n, p=[0.3, 0.2, 0.15, 0.15, 0.12, 0.08])
        return cls(rng.uniform(8, 40, n), rng.uniform(2, 6, n), direction, pool, rng.uniform(0.3, 0.9, n))

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Darken the blood along each jet; skips pools outside the field of view."""
        blood, keep = body.share(POOLS), torch.ones_like(image)
        for k, pool in enumerate(self.pool):
            places = torch.nonzero(body.middle == int(pool))
            if len(places):
                start = places[int(rng.integers(len(places)))].cpu().numpy()
                self._darken(k, keep, start, body.spacing)
        return image * (1 - blood * (1 - keep))

    def _darken(self, k: int, keep: torch.Tensor, start: np.ndarray, spacing: float) -> None:
        """Multiply the bounding box of a jet by its profile, in place."""
        line, radius = self.direction[k] * self.length[k] / spacing, self.radius[k] / spacing
        low = np.maximum(np.floor(np.minimum(start, start + line) - 3 * radius).astype(int), 0)
        high = np.minimum(np.ceil(np.maximum(start, start + line) + 3 * radius).astype(int) + 1, keep.shape)
        if (high <= low).any():
            return
        axes = [torch.arange(a, b, device=keep.device) - float(s) for a, b, s in zip(low, high, start, strict=True)]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).float()
        along = torch.from_numpy(line.astype(np.float32)).to(keep.device)
        share = ((place @ along) / (along @ along)).clamp(0, 1)
        distance = (place - share[..., None] * along).square().sum(-1)
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        keep[part] *= 1 - float(self.loss[k]) * torch.exp(-0.5 * distance / radius**2)
