"""Blur and double borders of a heart that beats during the scan, sometimes in bands along the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...fields import apply_lines, gaussian_blur
from ..tables import HEART, Appearance
from ..tissue import Body
from .base import TISSUE, Effect


@dataclass(frozen=True)
class Pulsation(Effect):
    """Average of enlarged and shrunk copies of the heart, symmetric in size so that mean borders do not move.

    Attributes:
        amplitude: maximum relative change of size along each axis.
        phases: number of averaged copies; two give double borders.
        band: height of bands with more and less motion, mm; 0 for no bands.
        sharp: whether the bands have sharp borders, like the slabs of an ungated scan.
        offset: phase of the bands, as a fraction of the height of two bands.
    """

    name: ClassVar[str] = "pulsation"
    when: ClassVar[str] = TISSUE
    amplitude: tuple[float, float, float]
    phases: int
    band: float
    sharp: bool
    offset: float

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> Pulsation | None:
        """Draw for 35 % of CT and 15 % of other images."""
        if rng.random() >= (0.35 if look.kind == "ct" else 0.15):
            return None
        u, size = rng.uniform, rng.uniform(0.02, 0.1)
        band = u(15, 50) if rng.random() < 0.6 else 0.0
        z, y, x = size * u(0.5, 1.2, 3)
        return cls((z, y, x), int(rng.choice([2, 2, 3, 5])), band, bool(rng.random() < 0.5), u(0, 1))

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Blend the average of the copies into the heart and its vicinity."""
        heart = body.share(HEART)
        weight = gaussian_blur(heart, [8 / body.spacing] * 3).mul_(1.6).clamp_(max=1)
        centre = body.centre(heart)
        mean = torch.zeros_like(image)
        for share in np.linspace(-1, 1, self.phases):
            sizes = [1 + share * a for a in self.amplitude]
            mean += apply_lines(
                image, [zoom_matrix(n, c, s) for n, c, s in zip(image.shape, centre, sizes, strict=True)]
            )
        weight = weight * torch.from_numpy(self._bands(image.shape[0], body.spacing)).to(image.device)[:, None, None]
        return image + weight * (mean / self.phases - image)

    def _bands(self, n: int, spacing: float) -> np.ndarray:
        """Strength of the motion in each slice, float32."""
        if not self.band:
            return np.ones(n, np.float32)
        wave = np.sin((np.arange(n) * spacing / (2 * self.band) + self.offset) * 2 * np.pi)
        return (wave > 0 if self.sharp else 0.5 + 0.5 * wave).astype(np.float32)


def zoom_matrix(n: int, centre: float, size: float) -> np.ndarray:
    """(n, n) float64 matrix that scales a line by ``size`` about a voxel; edge values are replicated."""
    place = np.clip((np.arange(n) - centre) / size + centre, 0, n - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(n)))
