"""Dense contrast medium beside unenhanced blood in one chamber: it settles at the back, or flows in unmixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...fields import smooth_field
from ...regions import Region
from ..tables import Appearance
from ..tissue import Body
from .base import TISSUE, Effect

_RA, _RV = (Region.RA_BLOOD, Region.CORONARY_SINUS), (Region.RV_BLOOD,)
GROUPS = (
    (0.35, (_RA,)),
    (0.2, ((*_RA, *_RV),)),
    (0.2, (_RA, _RV)),
    (0.1, ((*_RA, Region.IVC),)),
    (0.1, (_RV,)),
    (0.05, ((Region.LA_BLOOD,),)),
)
"""Probabilities and region groups. The regions of one group share one border, which may cross the tricuspid valve."""


@dataclass(frozen=True)
class Layer:
    """Border between dense and unenhanced blood.

    Attributes:
        regions: blood regions that it divides.
        normal: unit vector towards the dense side (z, y, x).
        place: position of the border along the normal, in standard deviations of the extent of the blood.
        width: width of the transition, mm.
        waves: amplitude of the undulation of the border, mm.
        dense, pale: grey values on the two sides.
    """

    regions: tuple[int, ...]
    normal: np.ndarray
    place: float
    width: float
    waves: float
    dense: float
    pale: float


@dataclass(frozen=True)
class Layering(Effect):
    """Layered blood, so that brightness does not indicate the border of an atrium."""

    name: ClassVar[str] = "layering"
    when: ClassVar[str] = TISSUE
    layers: tuple[Layer, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> Layering | None:
        """Draw for 45 % of contrast-enhanced CT and 20 % of free images."""
        contrast = look.kind == "ct" and look.protocol != "non_contrast"
        if rng.random() >= (0.45 if contrast else 0.2 if look.kind == "free" else 0.0):
            return None
        groups = GROUPS[int(rng.choice(len(GROUPS), p=[share for share, _ in GROUPS]))][1]
        return cls(tuple(_draw_layer(rng, look, tuple(int(r) for r in ids)) for ids in groups))

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Replace the mean grey value of the blood of each layer; keeps texture and mixing."""
        for layer in self.layers:
            share = body.share(layer.regions)
            lines = [torch.arange(n, device=image.device) * body.spacing for n in image.shape]
            z, y, x = (float(layer.normal[k]) * lines[k] for k in range(3))
            along = z[:, None, None] + y[:, None] + x
            total = share.sum() + 1e-6
            mean = (share * along).sum() / total
            spread = ((share * (along - mean).square()).sum() / total).sqrt()
            waves = smooth_field(rng, image.shape, max(2.0, 20 / body.spacing), image.device) * layer.waves
            side = torch.sigmoid((along + waves - mean - layer.place * spread) / (0.3 * layer.width))
            kept = torch.zeros_like(image)
            for region in layer.regions:
                kept += body.share((region,)) * float(body.look.mean[region])
            image = image + share * (layer.pale + side * (layer.dense - layer.pale)) - kept
        return image


def _draw_layer(rng: np.random.Generator, look: Appearance, regions: tuple[int, ...]) -> Layer:
    """Draw a border: 50 % are horizontal (patient supine), 25 % perpendicular to the body axis, the others random."""
    u, pick = rng.uniform, rng.random()
    normal = np.array([0.0, 1.0, 0.0]) if pick < 0.5 else np.array([1.0, 0.0, 0.0])
    normal = rng.standard_normal(3) if pick > 0.75 else normal * rng.choice((-1, 1), p=(0.15, 0.85))
    normal = normal / np.linalg.norm(normal) + rng.normal(0, 0.15, 3)
    normal /= np.linalg.norm(normal)
    if look.kind == "ct":
        pale, dense = u(30, 90), float(np.exp(u(np.log(180), np.log(1200))))
    else:
        pale, dense = rng.choice(look.mean[1:8], 2)
    return Layer(regions, normal, u(-1.2, 1.2), u(1, 8), u(0, 10), float(dense), float(pale))
