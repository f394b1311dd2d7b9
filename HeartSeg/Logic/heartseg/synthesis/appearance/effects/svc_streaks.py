"""Bright and dark rays from a superior vena cava full of contrast medium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...fields import gaussian_blur
from ...regions import Region
from ..tables import Appearance
from ..tissue import Body
from .base import TISSUE, Effect

_ANGLES = 720


@dataclass(frozen=True)
class VenaCavaStreaks(Effect):
    """Narrow rays that rotate slowly from slice to slice.

    Attributes:
        angle, width: angle and angular width of each ray, radians.
        strength: strength of each ray at its start, HU.
        turn: rotation of the rays, radians per mm along z.
        reach: decay length of a ray, mm.
        below: distance that the rays continue below the vein, into the atrium, mm.
    """

    name: ClassVar[str] = "svc_streaks"
    when: ClassVar[str] = TISSUE
    angle: np.ndarray
    width: np.ndarray
    strength: np.ndarray
    turn: float
    reach: float
    below: float

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> VenaCavaStreaks | None:
        """Draw for 35 % of contrast-enhanced CT."""
        if look.kind != "ct" or look.protocol == "non_contrast" or rng.random() >= 0.35:
            return None
        n = int(rng.integers(4, 14))
        strength = rng.choice((-1, 1), n) * np.exp(rng.uniform(np.log(40), np.log(350), n))
        u = rng.uniform
        return cls(u(0, 2 * np.pi, n), np.deg2rad(u(1.5, 7, n)), strength, u(-0.06, 0.06), u(25, 90), u(0, 35))

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Add the rays in the slices of the vein and some slices below."""
        vein = (body.middle == int(Region.SVC)).float()
        amount = vein.sum((1, 2)).cpu().numpy()
        slices = np.nonzero(amount > 0)[0]
        if not len(slices):
            return image
        line_y, line_x = (torch.arange(n, device=image.device, dtype=torch.float32) for n in image.shape[1:])
        y = (vein.sum(2) @ line_y).cpu().numpy()[slices] / amount[slices]
        x = (vein.sum(1) @ line_x).cpu().numpy()[slices] / amount[slices]
        rows = np.arange(max(0, slices[0] - round(self.below / body.spacing)), slices[-1] + 1)
        centre_y, centre_x = (np.interp(rows, slices, v).astype(np.float32) for v in (y, x))
        dy = line_y[None, :, None] - torch.from_numpy(centre_y).to(image.device)[:, None, None]
        dx = line_x[None, None] - torch.from_numpy(centre_x).to(image.device)[:, None, None]
        radius = torch.hypot(dy, dx) * body.spacing
        bins = ((torch.atan2(dy, dx) / (2 * np.pi) + 0.5) * _ANGLES).long().clamp(0, _ANGLES - 1)
        fan = torch.from_numpy(self._fan(rows * body.spacing)).to(image.device)
        rays = fan.gather(1, bins.flatten(1)).view_as(bins.float())
        rays = rays * torch.exp(-radius / self.reach) * (1 - torch.exp(-radius / 5))
        added = torch.zeros_like(image)
        added[rows[0] : rows[-1] + 1] = rays
        solid = (image > -500).float()
        return image + gaussian_blur(added, [2 / body.spacing, 0, 0]) * (0.3 + 0.7 * solid)

    def _fan(self, height: np.ndarray) -> np.ndarray:
        """Strength by slice and angle, float32 (slices, angles)."""
        angles = (np.arange(_ANGLES) + 0.5) / _ANGLES * 2 * np.pi - np.pi
        centre = self.angle[None] + self.turn * height[:, None]
        away = (angles[None, :, None] - centre[:, None] + np.pi) % (2 * np.pi) - np.pi
        rays = self.strength * np.exp(-0.5 * (away / self.width) ** 2)
        return rays.sum(-1).astype(np.float32)
