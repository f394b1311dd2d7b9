"""Grey scale of the stored image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .tables import Appearance


def quantiles(image: torch.Tensor, shares: Sequence[float]) -> list[float]:
    """Quantiles of about 100 000 evenly spaced voxels."""
    values = image.reshape(-1)[:: max(1, image.numel() // 100_000)].sort().values
    return [float(values[round(s * (len(values) - 1))]) for s in shares]


def to_grey_scale(image: torch.Tensor, a: Appearance) -> torch.Tensor:
    """Apply HU limits and window (CT), gamma, and full scale, clipping and grey levels (MR)."""
    if a.kind == "ct":
        image = image.clamp(-1024, 3071)
    if a.window is not None:
        low, high, levels = a.window
        image = torch.floor((image.clamp(low, high) - low) / (high - low) * (levels - 1) + 0.5)
    if a.gamma != 1.0:
        low, high = quantiles(image, (0.005, 0.995))
        unit = ((image - low) / max(high - low, 1e-6)).clamp(min=0)
        image = unit**a.gamma * (high - low) + low
    if a.full_scale:
        top = max(quantiles(image, (1 - a.clip,))[0], 1e-6)
        image = image * (a.full_scale / top)
        if a.clip or a.levels:
            image = image.clamp(max=a.full_scale)
        if a.levels:
            image = torch.floor(image + 0.5)
    return image.float()
