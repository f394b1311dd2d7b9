"""Inner edges of structures, computed from label maps during training: 2D and 3D, on any device.

Eroding the mask of a structure m times gives its interior. The inner edge consists of the eroded voxels. Inner edges of
different structures never overlap, even if the structures touch (docs/explanation/csfbu-net.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

from heartseg.synthesis.regions import IGNORE

MOST_STEPS = 3
"""Maximum number of erosions; the original document tried m = 0 to 3 (1 was best)."""


def erosion_schedule(spacing: Sequence[float], m: int) -> list[tuple[int, ...]]:
    """Return the number of voxels to erode along each axis in each of m steps.

    The size of a step is the finest in-plane spacing h (of the last two axes). After i steps, an axis with spacing s is
    eroded by i·h/s voxels, rounded to the nearest whole number (ties down). On an isotropic grid this is one voxel per
    step, the usual erosion with a cross. Across slices 5 times as thick as h it is no voxel for m <= 2 and one for
    m = 3.

    Args:
        spacing: spacing of the label map, (z, y, x) or (y, x), mm.
        m: number of erosions, 0 to 3.

    Raises:
        ValueError: m or the spacing is out of range.
    """
    if not (isinstance(m, int) and 0 <= m <= MOST_STEPS):
        raise ValueError(f"m is {m!r}: it must be a whole number from 0 to {MOST_STEPS}")
    if len(spacing) not in (2, 3) or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"spacing is {tuple(spacing)}: it must be 2 or 3 positive numbers of mm")
    step = min(spacing[-2:])
    reached = [[math.ceil(i * step / s - 0.5 - 1e-6) for s in spacing] for i in range(m + 1)]
    return [tuple(b - a for a, b in zip(*pair, strict=True)) for pair in pairwise(reached)]


def edge_map(
    labels: torch.Tensor,
    spacing: Sequence[float],
    m: int,
    n_classes: int,
    ignore: int = IGNORE,
    only: Sequence[int] | None = None,
) -> torch.Tensor:
    """Return the structure whose inner edge contains each voxel.

    Args:
        labels: (b, z, y, x) or (b, y, x), any dtype; 0 background, 1 to ``n_classes`` structures, ``ignore``.
        spacing: spacing of the spatial axes, mm.
        m: number of erosions, 0 to 3 (0: no edges).
        n_classes: number of structures, K.
        ignore: label of ignored voxels.
        only: structures that have an edge; ``None``: all. The others are interior throughout.

    Returns:
        Same shape and dtype: 0 where there is no edge, else the structure; ``ignore`` stays. Structures are assumed to
        continue into ignored voxels and beyond the image, so a heart cut by a patch has no edge at the cut.

    Raises:
        ValueError: a label is negative or above ``n_classes``, or the spacing does not match the labels.
    """
    _check(labels, spacing, n_classes, ignore)
    unknown = labels == ignore
    interior = labels.clone()
    for voxels in erosion_schedule(spacing, m):
        interior = _erode_once(interior, unknown, voxels)
    kept = (interior == labels) | unknown
    if only is not None:
        kept |= ~torch.isin(labels, torch.as_tensor(only, device=labels.device).to(labels.dtype))
    return torch.where(unknown | ~kept, labels, torch.zeros_like(labels))


def split_interior_edge(
    labels: torch.Tensor,
    spacing: Sequence[float],
    m: int,
    n_classes: int,
    ignore: int = IGNORE,
    only: Sequence[int] | None = None,
) -> torch.Tensor:
    """Return the channel of every voxel: 0 background, k interior of structure k, K + k its inner edge.

    Ignored voxels keep their label. Arguments, shape, dtype and errors are those of :func:`edge_map`. Interior and edge
    together are exactly the structure; :func:`~heartseg.networks.edge_channels.region_labels` joins them again.
    """
    edges = edge_map(labels, spacing, m, n_classes, ignore, only)
    return torch.where((edges > 0) & (edges != ignore), labels + n_classes, labels)


def _erode_once(interior: torch.Tensor, unknown: torch.Tensor, voxels: tuple[int, ...]) -> torch.Tensor:
    """Set every voxel to 0 that has a neighbour with another value within ``voxels`` along an axis."""
    eroded = interior
    for axis, count in enumerate(voxels, start=1):
        line = interior
        for _ in range(count):
            line = _erode_line(line, unknown, axis)
        eroded = torch.where(line == interior, eroded, torch.zeros_like(eroded))
    return eroded


def _erode_line(values: torch.Tensor, unknown: torch.Tensor, axis: int) -> torch.Tensor:
    """Erode the map by one voxel along one axis."""
    n = values.shape[axis]
    if n < 2:
        return values
    low, high = values.narrow(axis, 0, n - 1), values.narrow(axis, 1, n - 1)
    differs = low != high
    stays = torch.ones_like(unknown)
    stays.narrow(axis, 0, n - 1).logical_and_(~differs | unknown.narrow(axis, 1, n - 1))
    stays.narrow(axis, 1, n - 1).logical_and_(~differs | unknown.narrow(axis, 0, n - 1))
    return torch.where(stays | unknown, values, torch.zeros_like(values))


def _check(labels: torch.Tensor, spacing: Sequence[float], n_classes: int, ignore: int) -> None:
    if labels.dim() != len(spacing) + 1:
        raise ValueError(
            f"labels have {labels.dim()} axes and spacing {len(spacing)} entries: labels must be (b, z, y, x) with 3 "
            "entries or (b, y, x) with 2"
        )
    if 2 * n_classes >= ignore > 0:
        raise ValueError(f"n_classes is {n_classes}: with {2 * n_classes} channels the ignore label {ignore} is taken")
    if labels.numel() == 0:
        return
    known = torch.where(labels == ignore, torch.zeros_like(labels), labels)
    low, high = known.min().item(), known.max().item()
    if low < 0 or high > n_classes:
        raise ValueError(f"label {int(low if low < 0 else high)} found: labels must be 0 to {n_classes}, or {ignore}")
