"""What a run will do, decided before it starts: way of running, grids, tiles, passes and cost.

The engine executes a plan, the check before a run prints it, and tests assert it. Planning reads no weights and does
not need torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from ..models.cost import TileCost, tile_cost
from ..models.folder import ModelFolder
from ..settings import Settings
from ..volume.geometry import Geometry, to_nearest_lps
from .lattice import Lattice
from .test_time import AUGMENTATIONS
from .tiles import SlidingWindow

WORK_BYTES = 2**29
"""Memory for work slab by slab beside the logits of a whole image."""
CUDA_BYTES = 500 * 10**6
"""What CUDA's context and cuDNN take on a graphics card: 300 to 500 MB."""


class Way(str, Enum):
    """How a model is run on a scan."""

    AROUND_HEART = "around the heart"
    """The finder locates the heart; the fine network sees a window around it."""
    GIVEN_CENTER = "given centre"
    """One window around a point that the user gave."""
    WHOLE_SCAN = "whole scan"
    """The whole scan, resampled to the patient's axes."""
    STORED_AXES = "stored axes, whole image"
    """The whole image in its stored axes, preprocessed as nnU-Net does."""
    SLICES = "slice by slice"
    """A 2D network over the slices of the whole image."""
    NNUNET = "nnU-Net's predictor"
    """nnU-Net's own predictor, for folders that HeartSeg's loop cannot run."""

    @property
    def whole_image(self) -> bool:
        """Whether the network sees the whole image as nnU-Net would prepare it."""
        return self in (Way.STORED_AXES, Way.SLICES)


@dataclass(frozen=True)
class NetworkLoad:
    """The work of one network in a run.

    Attributes:
        shape: voxels of the image in the network's axes.
        tiles: positions of the sliding window.
        folds: networks that are averaged.
        passes: windows or mirrored copies that are averaged.
        cost: of one tile; ``None`` for a network whose cost is not known.
    """

    shape: tuple[int, ...]
    tiles: int
    folds: int = 1
    passes: int = 1
    cost: TileCost | None = None

    @property
    def gflop(self) -> float | None:
        """10^9 operations of all tiles, folds and passes."""
        return self.cost.gflop * self.tiles * self.folds * self.passes if self.cost else None


@dataclass(frozen=True)
class RunPlan:
    """One run of one model on one scan.

    Attributes:
        way: how the model is run.
        fine: work of the segmenting network. Around the heart this is one patch: the heart's window is no larger as a
            rule, and re-centring or a second opinion can add windows (:data:`~.around_heart.MOVES` and one).
        finder: work of the finder, or ``None``.
        grid: LPS-aligned grid of the first network: the finder's over the scan, or the fine network's where it is known
            before the run; ``None`` for a whole image in stored axes.
        windows: windows around the heart that are averaged.
        mirrored_copies: mirrored copies that are averaged; while the checkpoint is not read, the most it may allow.
        channels: output channels of the fine network.
    """

    way: Way
    fine: NetworkLoad
    finder: NetworkLoad | None = None
    grid: Geometry | None = None
    windows: int = 1
    mirrored_copies: int = 1
    channels: int = 1

    @property
    def sampling_grid(self) -> Geometry:
        """:attr:`grid` of a run that samples the scan on one; ``ValueError`` for a whole image in stored axes."""
        if self.grid is None:
            raise ValueError(f"a run over the {self.way.value} has no sampling grid")
        return self.grid

    @property
    def gflop(self) -> float | None:
        """10^9 operations of the run, or ``None`` for a network whose cost is not known."""
        if self.fine.gflop is None:
            return None
        return self.fine.gflop + ((self.finder.gflop or 0.0) if self.finder else 0.0)

    def gpu_bytes(self, bytes_per_value: int) -> int | None:
        """Graphics memory that one tile of the larger network takes at least; ``None`` if that is not known."""
        costs = [load.cost.bytes(bytes_per_value) for load in (self.fine, self.finder) if load and load.cost]
        return max(costs) + CUDA_BYTES if costs else None

    @property
    def memory_bytes(self) -> int:
        """Main memory for the logits of a whole image, their weights and work; 0 for a window around the heart."""
        if self.way in (Way.AROUND_HEART, Way.GIVEN_CENTER):
            return 0
        return math.prod(self.fine.shape) * 4 * (self.channels + 3) + WORK_BYTES


def choose_way(folder: ModelFolder, settings: Settings) -> Way:
    """How a model is run with these settings."""
    if folder.needs_fallback:
        return Way.NNUNET
    if folder.is_2d:
        return Way.SLICES
    if not folder.turns_scans(settings.reorient):
        return Way.STORED_AXES
    if settings.heart_center is not None:
        return Way.GIVEN_CENTER
    has_finder = folder.card is not None and folder.card.finder is not None
    return Way.AROUND_HEART if has_finder and settings.locate else Way.WHOLE_SCAN


def plan_run(
    folder: ModelFolder,
    finder: ModelFolder | None,
    settings: Settings,
    geometry: Geometry,
    mirroring_axes: tuple[int, ...] | None = None,
) -> RunPlan:
    """The plan of a run.

    Args:
        folder: the model.
        finder: its finder, if it has one.
        settings: how to run it.
        geometry: the scan's grid, in its stored axes.
        mirroring_axes: axes along which the checkpoint allows mirrored copies; ``None`` before it is read.
    """
    way = choose_way(folder, settings)
    if way is Way.AROUND_HEART and finder is not None:
        return _plan_around_heart(folder, finder, settings, geometry)
    axes = tuple(range(len(folder.patch_size))) if mirroring_axes is None else mirroring_axes
    copies = 2 ** len(axes) if settings.accurate else 1
    grid, shape = _fixed_grid(way, folder, settings, geometry)
    fine = _load(folder, shape, settings.tile_step, copies)
    return RunPlan(way, fine, grid=grid, mirrored_copies=copies, channels=folder.num_output_channels)


def _plan_around_heart(folder: ModelFolder, finder: ModelFolder, settings: Settings, geometry: Geometry) -> RunPlan:
    coarse = Lattice.of(finder)
    grid = coarse.over(to_nearest_lps(geometry)[1])
    windows = 1 + len(AUGMENTATIONS) if settings.accurate else 1
    return RunPlan(
        Way.AROUND_HEART,
        _load(folder, folder.patch_size, settings.tile_step, windows),
        _load(finder, coarse.network_shape(grid), settings.tile_step, 1),
        grid=grid,
        windows=windows,
        channels=folder.num_output_channels,
    )


def _fixed_grid(
    way: Way, folder: ModelFolder, settings: Settings, geometry: Geometry
) -> tuple[Geometry | None, tuple[int, ...]]:
    """The grid (``None`` in stored axes) and its shape in the network's axes, of a run that needs no search."""
    turned = to_nearest_lps(geometry)[1] if folder.turns_scans(settings.reorient) else geometry
    if way in (Way.GIVEN_CENTER, Way.WHOLE_SCAN):
        lattice = Lattice.of(folder)
        grid = lattice.over(turned) if settings.heart_center is None else lattice.at(np.asarray(settings.heart_center))
        return grid, lattice.network_shape(grid)
    spacing = turned.spacing[::-1]
    wanted = zip(folder.transpose_forward, folder.as_3d(spacing).spacing, strict=True)
    return None, tuple(max(1, round(turned.shape[axis] * spacing[axis] / new)) for axis, new in wanted)


def _load(folder: ModelFolder, shape: tuple[int, ...], step: float, passes: int) -> NetworkLoad:
    tiles = len(SlidingWindow(folder.tile_size, step).starts(shape))
    return NetworkLoad(shape, tiles, len(folder.checkpoints), passes, tile_cost(folder))
