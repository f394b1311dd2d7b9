"""The networks of one model folder: loaded once, run over images and over scans."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ..devices import Device, choose_precision, release_heap
from ..models.folder import ModelFolder
from ..models.graph import GraphNetwork, LoadedGraph, load_graph
from ..models.loading import LoadedModel, load_model
from ..progress import Reporter
from ..settings import Settings
from ..volume.geometry import Geometry
from .lattice import Lattice
from .normalize import fit_clipped
from .onnx_backend import onnx_predictor
from .openvino_backend import OpenVINOPredictor, openvino_predictor
from .resample import Sampled, likeliest, world_grid
from .scan import OrientedScan
from .test_time import apply_gamma
from .tiles import Predictor, Rung, SlidingWindow, ladder, mirror_combinations, predict_tiles

if TYPE_CHECKING:
    from torch import nn

_GPU_BATCH_VOXELS = 4 * 64**3  # voxels of a batch of tiles that fit small cards with the usual networks
_REFERENCE_MM = (6.0, 6.0, 6.0)  # grid on which the intensity statistics of a whole scan are taken


class Network:
    """The networks of a folder, one per fold, for images in their own axes.

    Args:
        folder: the model.
        settings: how to run it; the backend is chosen.
        device: where to run it.
    """

    def __init__(self, folder: ModelFolder, settings: Settings, device: Device) -> None:
        self.folder, self.settings, self.device = folder, settings, device
        self._ready: dict[str, list[Predictor]] = {}

    @cached_property
    def loaded(self) -> LoadedModel | LoadedGraph:
        """The checkpoints, read at first use."""
        graph = self.settings.backend in ("onnx", "openvino") and not self.folder.needs_torch
        return load_graph(self.folder) if graph else load_model(self.folder)

    @cached_property
    def modules(self) -> tuple[nn.Module, ...]:
        """The plain networks of torch, for tiles ``(b, c, z, y, x)``, whatever the backend."""
        networks = (self.loaded if isinstance(self.loaded, LoadedModel) else load_model(self.folder)).networks
        if not self.folder.is_2d:
            return networks
        from .slicewise import SliceWise

        return tuple(SliceWise(n) for n in networks)

    @property
    def mirroring_axes(self) -> tuple[int, ...]:
        """Axes of a tile along which the checkpoint allows mirrored copies."""
        return tuple(axis + self.folder.is_2d for axis in self.loaded.mirroring_axes)

    @property
    def mirrored_copies(self) -> int:
        """Copies that are averaged where mirroring is wanted."""
        return len(mirror_combinations(self.mirroring_axes))

    def tile_count(self, shape: tuple[int, ...]) -> int:
        """Tiles of an image ``(z, y, x)`` in the network's axes."""
        return len(SlidingWindow(self.folder.tile_size, self.settings.tile_step).starts(shape))

    def logits(self, image: np.ndarray, reporter: Reporter, mirrored: bool = False) -> np.ndarray:
        """float32 logits ``(c, z, y, x)`` of a normalised image ``(1, z, y, x)`` in the network's axes.

        Args:
            image: the image.
            reporter: tiles are counted in its open stage.
            mirrored: average over the mirrored copies that the checkpoint allows.
        """
        window = SlidingWindow(self.folder.tile_size, self.settings.tile_step, self.mirroring_axes if mirrored else ())
        batch = max(1, _GPU_BATCH_VOXELS // math.prod(self.folder.patch_size))
        return predict_tiles(
            image,
            window,
            lambda rung: self._predictors(rung, reporter),
            self.folder.num_output_channels,
            ladder(self.device, batch),
            reporter,
        )

    def _predictors(self, rung: Rung, reporter: Reporter) -> list[Predictor]:
        """The networks on the rung's device; made once per device."""
        key = rung.device.type
        if key not in self._ready:
            self._ready.clear()  # one copy of the weights at a time on a device that is short of memory
            loaded = self.loaded
            networks: tuple[Any, ...] = loaded.networks if isinstance(loaded, LoadedGraph) else self.modules
            self._ready[key] = [self._predictor(n, rung.device, reporter) for n in networks]
            if isinstance(loaded, LoadedGraph):  # of which the runtime has its own copy
                self.loaded = replace(loaded, networks=())
            release_heap()  # of reading and compiling
        return self._ready[key]

    def free(self) -> None:
        """Give back the memory that a runtime keeps for the next tile; the weights stay."""
        for predictor in chain.from_iterable(self._ready.values()):
            if isinstance(predictor, OpenVINOPredictor):
                predictor.free()
        release_heap()

    def _predictor(self, network: nn.Module | GraphNetwork, device: Device, reporter: Reporter) -> Predictor:
        backend, threads = self.settings.backend, self.settings.threads
        precision = choose_precision(device, self.settings.precision, backend)
        if backend == "openvino":
            shape = (self.folder.num_input_channels, *self.folder.tile_size)
            return openvino_predictor(network, shape, precision, reporter.check, threads)
        if isinstance(network, GraphNetwork):
            return onnx_predictor(network, reporter.check, threads)
        from .torch_backend import torch_predictor

        return torch_predictor(network, device, precision)


@dataclass(frozen=True, eq=False)
class Window:
    """What a network shows of a scan on one grid.

    Attributes:
        grid: LPS-aligned.
        sampled: the scan there.
        logits: float32 ``(c, z, y, x)``, LPS-aligned.
    """

    grid: Geometry
    sampled: Sampled
    logits: np.ndarray

    @cached_property
    def labels(self) -> np.ndarray:
        """Index of the largest logit, uint8 ``(z, y, x)``."""
        return likeliest(self.logits)


class OrientedNetwork(Network):
    """A 3D network that sees scans resampled to its lattice in the patient's axes."""

    @cached_property
    def lattice(self) -> Lattice:
        """Axes, spacing and patch in the patient."""
        return Lattice.of(self.folder)

    def prepare(self, scan: OrientedScan, grid: Geometry, reporter: Reporter) -> tuple[Sampled, np.ndarray]:
        """The scan on a grid, and normalised: float32 ``(z, y, x)``; both LPS-aligned."""
        sampled = scan.sample(grid, reporter)
        card = self.folder.card
        over_scan = card is not None and card.normalization_extent == "scan"
        reference = scan.sample(world_grid(scan.geometry, _REFERENCE_MM), reporter) if over_scan else sampled
        return sampled, normalized(sampled, reference, self.folder)

    def to_network(self, normalized_image: np.ndarray) -> np.ndarray:
        """A normalised image ``(z, y, x)``, LPS-aligned, as the network takes it: ``(1, z, y, x)`` in its axes."""
        return self.lattice.axes.to_network(normalized_image)[None]

    def run(self, image: np.ndarray, reporter: Reporter, mirrored: bool = False) -> np.ndarray:
        """LPS-aligned logits ``(c, z, y, x)`` of a normalised image ``(z, y, x)``; tiles count in the open stage."""
        return self.lattice.axes.from_network(self.logits(self.to_network(image), reporter, mirrored))

    def window(self, scan: OrientedScan, grid: Geometry, reporter: Reporter, gamma: float = 1.0) -> Window:
        """The scan and the logits on a grid; tiles count in the open stage.

        Args:
            scan: the scan.
            grid: LPS-aligned.
            reporter: for progress and cancelling.
            gamma: exponent of the grey scale.
        """
        sampled, image = self.prepare(scan, grid, reporter)
        return Window(grid, sampled, self.run(apply_gamma(image, sampled.inside, gamma), reporter))

    def tiles_of(self, grid: Geometry) -> int:
        """Tiles of an LPS-aligned grid."""
        return self.tile_count(self.lattice.network_shape(grid))


def normalized(sampled: Sampled, reference: Sampled, folder: ModelFolder) -> np.ndarray:
    """float32 ``(z, y, x)``, normalised as plans and card say; statistics of the reference inside the scan."""
    values = reference.image[reference.inside]
    if values.size == 0:
        return np.zeros_like(sampled.image)
    statistics = folder.foreground_intensity_properties_per_channel.get("0", {})
    percentile = 100.0 if folder.card is None else folder.card.upper_percentile
    scaling = fit_clipped(folder.normalization_schemes[0], values, statistics, percentile)
    return scaling.apply(sampled.image)
