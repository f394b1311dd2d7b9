"""Thick slices, along an image axis or an oblique axis."""

from __future__ import annotations

import numpy as np
import torch

from ..fields import apply_lines
from ..stacks import at_places, turned_places
from .artefacts import shifted
from .tables import Appearance


def stack_slices(image: torch.Tensor, a: Appearance, spacing: float) -> torch.Tensor:
    """Average over contiguous slices of ``slice_mm`` and interpolate linearly between centres; tilted slices smear."""
    n, thick = image.shape[a.slice_axis], a.slice_mm / spacing
    if a.tilt:
        across = 1 if a.slice_axis != 1 else 2
        shift = [0.0, 0.0, 0.0]
        shift[across] = 0.25 * a.tilt * thick
        image = 0.5 * (shifted(image, shift) + shifted(image, [-s for s in shift]))
    count = max(6, round(n / thick))
    edges = np.linspace(0, n, count + 1)
    rows = np.arange(n)
    overlap = np.minimum(edges[1:, None], rows + 1) - np.maximum(edges[:-1, None], rows)
    average = np.maximum(overlap, 0)
    average /= average.sum(1, keepdims=True)
    place = np.clip((rows + 0.5) * count / n - 0.5, 0, count - 1)
    hat = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count)))
    matrices: list[np.ndarray | None] = [None, None, None]
    matrices[a.slice_axis] = hat @ average
    return apply_lines(image, matrices)


def stack_oblique(image: torch.Tensor, a: Appearance, spacing: float) -> torch.Tensor:
    """Apply :func:`stack_slices` along an oblique axis, such as that of the heart: rotate, stack, rotate back.

    The corners of the image, which the rotated grid does not reach, stay unchanged.
    """
    assert a.slice_turn is not None
    turn = torch.from_numpy(np.ascontiguousarray(a.slice_turn)).float().to(image.device)
    there, back = turned_places(image, turn), turned_places(image, turn.T)
    stacked = at_places(stack_slices(at_places(image, there), a, spacing), back)
    return torch.where((back.abs() <= 1).all(-1), stacked, image)
