"""2D models: their network goes through the slices one by one, as nnU-Net has it.

For the sliding window a slice is a tile that is one voxel thick; nothing else of the loop has to know.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ..models.folder import ModelFolder


class SliceWise(nn.Module):
    """A 2D network as one of 3D patches that are a single slice thick; its layers keep their names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(b, c, 1, y, x)`` → ``(b, classes, 1, y, x)``."""
        return self.network(x[:, :, 0])[:, :, None]

    def get_submodule(self, target: str) -> nn.Module:
        """The network's own layer of this name."""
        return self.network.get_submodule(target)


def is_2d(folder: ModelFolder) -> bool:
    """Whether the model's network takes slices."""
    return len(folder.patch_size) == 2


def tile_size(folder: ModelFolder) -> tuple[int, ...]:
    """Voxels ``(z, y, x)`` of a tile in the network's axes: the patch, one slice thick for a 2D model."""
    return (1, *folder.patch_size) if is_2d(folder) else folder.patch_size


def as_3d(folder: ModelFolder, spacing: tuple[float, ...]) -> ModelFolder:
    """A 2D model with patches of one slice and the scan's own distance of slices, which nnU-Net leaves as it is.

    Args:
        spacing: of the scan's ``(z, y, x)`` axes, mm.
    """
    between = spacing[folder.transpose_forward[0]]
    plan = replace(folder.configuration_plan, patch_size=tile_size(folder), spacing=(between, *folder.spacing))
    return replace(folder, configuration_plan=plan)
