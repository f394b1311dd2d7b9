"""Sample sheets: pictures of translations of a few slices by both generators during training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..volume.itk import write_picture

GAP = 2
"""Pixels between the images of a sheet."""


def draw_sheet(generators: dict[str, nn.Module], mr: torch.Tensor, ct: torch.Tensor) -> np.ndarray:
    """Return a grey-scale picture with one row per slice, MR first: source, translation, and translation back.

    Args:
        generators: ``mr2ct`` and ``ct2mr``.
        mr, ct: (n, 1, y, x) in [-1, 1].

    Returns:
        uint8 (rows, columns).
    """
    rows = []
    for images, there, back in ((mr, "mr2ct", "ct2mr"), (ct, "ct2mr", "mr2ct")):
        with torch.no_grad():
            translated = generators[there](images)
            returned = generators[back](translated)
        rows += [torch.cat([_framed(x[i, 0]) for x in (images, translated, returned)], 1) for i in range(len(images))]
    unit = torch.cat(rows, 0).float().cpu().clamp(-1, 1)
    return ((unit + 1) * 127.5).round().to(torch.uint8).numpy()


def _framed(image: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(image, (0, GAP, 0, GAP), value=1.0)


def write_sheet(folder: Path, step: int, picture: np.ndarray) -> Path:
    """Write a sheet as ``step-NNNNNNN.png``, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_picture(picture, folder / f"step-{step:07d}.png")
