"""Point spread function and noise of the scanner."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from ..fields import gaussian_blur, gaussian_matrix, line_matrix
from .tables import Appearance
from .tissue import white_noise


def point_spread(shape: Sequence[int], a: Appearance, spacing: float) -> list[np.ndarray | None]:
    """Point spread matrix of each axis: blur, and in-plane kernel overshoot or ringing from truncated k-space."""
    matrices: list[np.ndarray | None] = []
    for axis, n in enumerate(shape):
        matrix = None
        if a.blur[axis] / spacing >= 0.2:
            matrix = gaussian_matrix(n, a.blur[axis] / spacing)
        if a.sharpness and axis > 0:
            wide = gaussian_matrix(n, max(0.6, 1.8 / spacing))
            edge = (1 + a.sharpness) * np.eye(n) - a.sharpness * wide
            matrix = edge if matrix is None else edge @ matrix
        if a.ringing > spacing and axis > 0:
            cut = spacing / a.ringing
            ring = line_matrix(n, partial(_truncated, cut=cut), int(12 / cut))
            matrix = ring if matrix is None else ring @ matrix
        matrices.append(matrix)
    return matrices


def _truncated(distance: np.ndarray, cut: float) -> np.ndarray:
    """Point spread of k-space truncated to a fraction ``cut`` of its width, with damped far side lobes; in voxels."""
    return np.sinc(cut * distance) * np.exp(-0.5 * (distance * cut / 5) ** 2)


def add_noise(rng: np.random.Generator, image: torch.Tensor, a: Appearance, spacing: float) -> torch.Tensor:
    """Add correlated noise: Rician in MR, else Gaussian, stronger in the middle of the body and towards one end."""
    shape, grain = image.shape, [a.noise_grain / spacing] * 3

    def field() -> torch.Tensor:
        noise = gaussian_blur(white_noise(rng, shape, image.device), grain)
        return noise * (a.noise * min(1.0, 2.5 / spacing) / (noise.std() + 1e-6))

    if a.kind == "mr":
        return torch.hypot(image + field(), field())
    noise = field()
    if a.noise_variation:
        z, y, x = (torch.linspace(-1, 1, n, device=image.device) for n in shape)
        inner = torch.exp(-1.5 * (y[:, None] ** 2 + x[None] ** 2)) - 0.5
        slope = float(rng.uniform(-0.5, 0.7)) * z
        noise *= (1 + a.noise_variation * (inner[None] + slope[:, None, None])).clamp(min=0.3)
    return image + noise
