"""Blend an image with a shallow random convolution of itself (GIN: Ouyang et al. 2022, arXiv 2111.12525)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as nnf

from ..tables import Appearance
from ..tissue import Body
from .base import SHOWN, Effect

_CHANNELS, _LAYERS = 2, 4


@dataclass(frozen=True)
class RandomConvolution(Effect):
    """Four layers of random kernels of 1 or 3 voxels with leaky ReLUs in between.

    Attributes:
        kernels: kernels of each layer, float32 (out, in, k, k, k).
        shifts: bias of each layer, (out,).
        share: weight of the convolved image in the blend.
    """

    name: ClassVar[str] = "random_convolution"
    when: ClassVar[str] = SHOWN
    kernels: tuple[np.ndarray, ...]
    shifts: tuple[np.ndarray, ...]
    share: float

    @classmethod
    def draw(cls, rng: np.random.Generator, look: Appearance) -> RandomConvolution | None:
        """Draw for a third of the free images and a quarter of the others."""
        if rng.random() >= (0.33 if look.kind == "free" else 0.25):
            return None
        widths = (1, *[_CHANNELS] * (_LAYERS - 1), 1)
        kernels, shifts = [], []
        for before, after in pairwise(widths):
            k = int(rng.choice([1, 3]))
            kernels.append(rng.standard_normal((after, before, k, k, k)).astype(np.float32))
            shifts.append(rng.standard_normal(after).astype(np.float32))
        return cls(tuple(kernels), tuple(shifts), rng.uniform(0, 0.9))

    def apply(self, rng: np.random.Generator, image: torch.Tensor, body: Body) -> torch.Tensor:
        """Blend, keeping mean and standard deviation of the image."""
        mean, spread = image.mean(), image.std() + 1e-8
        unit = (image - mean) / spread
        hidden = unit[None, None]
        for number, (kernel, shift) in enumerate(zip(self.kernels, self.shifts, strict=True)):
            weight, bias = (torch.from_numpy(v).to(image.device) for v in (kernel, shift))
            hidden = nnf.conv3d(hidden, weight, bias, padding=kernel.shape[-1] // 2)
            if number + 1 < len(self.kernels):
                hidden = nnf.leaky_relu(hidden, 0.2)
        made = hidden[0, 0]
        made = (made - made.mean()) / (made.std() + 1e-8)
        mixed = self.share * made + (1 - self.share) * unit
        return (mixed - mixed.mean()) / (mixed.std() + 1e-8) * spread + mean
