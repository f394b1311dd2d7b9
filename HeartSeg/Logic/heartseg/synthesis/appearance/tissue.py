"""Grey values of the tissues, with slow and fine variation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..fields import gaussian_blur, smooth_field
from ..regions import N_REGIONS
from .tables import BLOOD, Appearance


@dataclass(frozen=True, eq=False)
class Body:
    """Tissues of the imaged body, for effects that depend on them.

    Attributes:
        middle: region at the centre of each image voxel, int32 (z, y, x).
        corners: regions of two opposite map voxels of each image voxel.
        look: imaging parameters.
        spacing: voxel size of the image, mm.
    """

    middle: torch.Tensor
    corners: Sequence[torch.Tensor]
    look: Appearance
    spacing: float

    def share(self, ids: Sequence[int]) -> torch.Tensor:
        """Fraction of each voxel that belongs to the given regions: 0, 0.5 or 1."""
        table = np.zeros(N_REGIONS, np.float32)
        table[list(ids)] = 1
        return average(table, self.corners)

    def centre(self, weight: torch.Tensor) -> list[float]:
        """Centre of mass of a weight (z, y, x), in voxels; the image centre if the weight is zero."""
        total = float(weight.sum())
        if total <= 0:
            return [(n - 1) / 2 for n in weight.shape]
        lines = [weight.sum(tuple(a for a in range(3) if a != axis)) for axis in range(3)]
        return [float((line * torch.arange(len(line), device=line.device)).sum()) / total for line in lines]


def paint_tissues(
    streams: dict[str, np.random.Generator], regions: torch.Tensor, a: Appearance, spacing: float, n: int
) -> tuple[torch.Tensor, Body]:
    """Return the grey values of the tissues with their variation, and the body."""
    device = regions.device
    corners = [(i, j, k) for i in range(n) for j in range(n) for k in range(n)]
    index = [regions[i::n, j::n, k::n].to(torch.int32) for i, j, k in corners]
    middle = regions[n // 2 :: n, n // 2 :: n, n // 2 :: n].to(torch.int32)
    image, shape = average(a.mean, index), middle.shape
    few = index[:: max(1, len(index) - 1)]
    if (a.mixing > 0).any():
        scale = max(1.2, 1.0 + 12.0 / spacing * streams["mixing"].uniform(0.3, 1.3))
        image += average(a.mixing, few) * smooth_field(streams["mixing"], shape, scale, device)
    if a.inflow:
        blood = np.zeros(N_REGIONS, np.float32)
        blood[list(BLOOD)] = 1
        along = smooth_field(streams["inflow"], (shape[0], 1, 1), shape[0] / 2.5, device)
        along = gaussian_blur(along, [shape[0] / 12, 0, 0])
        within = smooth_field(streams["inflow"], shape, max(1.5, 25 / spacing), device)
        field = 1.2 * torch.tanh(a.inflow * (0.8 * along + 0.6 * within))
        image *= 1 + average(blood, few) * (torch.exp(field) - 1)
    if (a.texture > 0).any():
        grain = white_noise(streams["texture"], shape, device)
        grain = gaussian_blur(grain, [streams["texture"].uniform(0.4, 0.9)] * 3)
        image += average(a.texture, [middle]) * (grain / grain.std())
    if a.kind == "mr":
        image.clamp_(min=0)
    return image, Body(middle, few, a, spacing)


def average(table: np.ndarray, index: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean of table values over several index maps of one shape."""
    values = torch.from_numpy(table.astype(np.float32) / len(index)).to(index[0].device)
    total = values.index_select(0, index[0].reshape(-1))
    for i in index[1:]:
        total += values.index_select(0, i.reshape(-1))
    return total.reshape(index[0].shape)


def members(middle: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """1.0 where the region is one of ``ids``, else 0.0."""
    table = np.zeros(N_REGIONS, np.float32)
    table[list(ids)] = 1
    return average(table, [middle])


def white_noise(rng: np.random.Generator, shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """White noise of unit standard deviation."""
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    return torch.randn(tuple(shape), generator=generator, device=device)
