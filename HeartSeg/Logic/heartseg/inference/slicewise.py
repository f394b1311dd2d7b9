"""2D models: the network processes one slice at a time, as in nnU-Net.

For the sliding window a slice is a tile that is one voxel thick (``ModelFolder.tile_size``); nothing else of the loop
has to know.
"""

from __future__ import annotations

import torch
from torch import nn


class SliceWise(nn.Module):
    """A 2D network with the interface of a 3D one whose patches are one slice thick; layers keep their names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(b, c, 1, y, x)`` → ``(b, classes, 1, y, x)``."""
        return self.network(x[:, :, 0])[:, :, None]

    def get_submodule(self, target: str) -> nn.Module:
        """The network's own layer of this name."""
        return self.network.get_submodule(target)
