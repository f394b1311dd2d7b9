"""Where a network's voxels lie in the patient: its axes, spacing and patch, and the grids made from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..models.folder import ModelFolder
from ..volume.geometry import Geometry
from .axes import NetworkAxes
from .resample import Vector, window_grid, world_grid


@dataclass(frozen=True)
class Lattice:
    """The LPS-aligned lattice of points on which a network samples scans.

    All grids share one lattice (multiples of ``spacing`` in world coordinates), so that two windows of one network
    differ by whole voxels.

    Attributes:
        axes: from LPS to the network's axes.
        spacing: ``(x, y, z)``, mm.
        patch: voxels of the network's patch, ``(z, y, x)`` in LPS.
        margin_mm: how far a window reaches beyond the heart.
    """

    axes: NetworkAxes
    spacing: Vector
    patch: tuple[int, int, int]
    margin_mm: float = 0.0

    @classmethod
    def of(cls, folder: ModelFolder) -> Lattice:
        """The lattice of a 3D model; LPS where its card states no orientation."""
        orientation = (folder.card.orientation if folder.card else None) or "LPS"
        axes = NetworkAxes.of(orientation, folder.transpose_forward)
        margin = folder.card.margin_mm if folder.card else 0.0
        x, y, z = axes.in_lps(folder.spacing)[::-1]
        return cls(axes, (x, y, z), axes.in_lps(folder.patch_size), margin)

    def over(self, geometry: Geometry) -> Geometry:
        """The grid that covers a scan."""
        return world_grid(geometry, self.spacing)

    def around(self, low_mm: np.ndarray, high_mm: np.ndarray) -> Geometry:
        """The window around a box ``(x, y, z)``, LPS mm, with the margin; at least one patch."""
        return window_grid(low_mm - self.margin_mm, high_mm + self.margin_mm, self.spacing, self.patch)

    def at(self, center_mm: np.ndarray) -> Geometry:
        """The window of one patch around a point ``(x, y, z)``, LPS mm."""
        return window_grid(center_mm, center_mm, self.spacing, self.patch)

    def network_shape(self, grid: Geometry) -> tuple[int, ...]:
        """Voxels of a grid along the network's axes."""
        return tuple(grid.shape[k] for k in self.axes.order)
