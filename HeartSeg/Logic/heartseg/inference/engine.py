"""The engine: one model, kept warm, that turns scans into labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
import torch

from ..anatomy import STRUCTURES
from ..errors import InputError, SettingsError
from ..findings import Finding
from ..models.checkpoint import LoadedModel, load_model
from ..models.folder import ModelFolder
from ..progress import Reporter
from ..settings import Settings
from ..volume.geometry import Geometry, to_nearest_lps
from ..volume.types import Volume
from . import stored_axes
from .axes import NetworkAxes
from .backends import openvino_predictor, torch_predictor
from .believe import chosen_probability
from .devices import choose_device, choose_dtype, describe_device, torch_settings
from .locate import MOST_CANDIDATES, HeartBox, choose_heart, heart_candidates, middle_of
from .looks import LOOKS, MeanProbabilities, bend, shifted
from .normalize import fit
from .remarks import candidate_findings, doubts, tiled_findings, whole_image_finding
from .resample import Sampled, labels_on_grid, likeliest, running_argmax, sample_image, window_grid, world_grid
from .search import AIR, HeartWindow, Look, Window, find_heart_window
from .slicewise import SliceWise
from .tiles import Predictor, Rung, ladder, mirror_combinations, predict_tiles, tile_starts
from .views import StoredView, View, WorldView, confidence_on_scan

_CT_AIR = -1024.0  # HU; anything below marks voxels outside the scanner's circle, not tissue
_GPU_BATCH_VOXELS = 4 * 64**3  # voxels of a tile batch that fit small cards with the usual networks
_OTHER_SCALES = (0.6, 1.7)  # exponents of the grey scale in which the finder looks again when nothing it saw is a heart


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says, on the scan's grid.

    Attributes:
        labels: uint8 ``(z, y, x)``, HeartSeg's label values, before clean-up.
        findings: what happened on the way that the user should know.
        confidence: structure key -> mean probability of that label where it was chosen.
        details: JSON-ready facts for the report (device, precision, tiles, window, ...).
        confidence_map: uint8 percent ``(z, y, x)``, see :func:`~heartseg.inference.views.confidence_on_scan`; ``None``
            where it was not asked for.
        grid: where the fine network looked, LPS-aligned; ``None`` in stored axes, or if no heart was found.
    """

    labels: np.ndarray
    findings: tuple[Finding, ...] = ()
    confidence: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    confidence_map: np.ndarray | None = None
    grid: Geometry | None = None


class _Runner:
    """One model folder's networks, ready on whatever rung is asked for."""

    def __init__(self, folder: ModelFolder, settings: Settings, device: torch.device) -> None:
        self.folder, self.settings, self.device = folder, settings, device
        self._ready: dict[str, list[Predictor]] = {}

    @cached_property
    def loaded(self) -> LoadedModel:
        return load_model(self.folder)

    def predictors(self, rung: Rung, reporter: Reporter) -> list[Predictor]:
        """The networks on the rung's device; made once per device."""
        key = rung.device.type
        if key not in self._ready:
            self._ready.clear()  # one copy of the weights at a time on a device that is short of memory
            self._ready[key] = [self._predictor(n, rung.device, reporter) for n in self.networks]
        return self._ready[key]

    @cached_property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """The networks, one per fold, for tiles ``(b, c, z, y, x)``."""
        networks = self.loaded.networks
        return tuple(SliceWise(n) for n in networks) if self.folder.is_2d else networks

    @property
    def mirroring_axes(self) -> tuple[int, ...]:
        """Axes of a tile along which the model may be mirrored."""
        return tuple(axis + self.folder.is_2d for axis in self.loaded.mirroring_axes)

    def _predictor(self, network: torch.nn.Module, device: torch.device, reporter: Reporter) -> Predictor:
        if device.type == "cpu" and self.settings.backend == "openvino":
            patch, channels = self.folder.tile_size, self.folder.num_input_channels
            return openvino_predictor(network, patch, channels, reporter.check, self.settings.threads)
        return torch_predictor(network, device, choose_dtype(device, self.settings.precision))

    def tile_count(self, shape: tuple[int, ...]) -> int:
        """Tiles of an image ``(z, y, x)`` in the network's axes."""
        patch = self.folder.tile_size
        padded = tuple(max(n, p) for n, p in zip(shape, patch, strict=True))
        return len(tile_starts(padded, patch, self.settings.tile_step))

    def logits(
        self, image: torch.Tensor, reporter: Reporter, stage: str | None, before: int = 0, mirrored: bool = False
    ) -> torch.Tensor:
        """float32 logits ``(c, …)`` of a normalised image ``(1, …)`` in the network's axes.

        Args:
            stage, before: as in :func:`~heartseg.inference.tiles.predict_tiles`.
            mirrored: average over mirrored copies, if the checkpoint allows them.
        """
        batch = max(1, _GPU_BATCH_VOXELS // math.prod(self.folder.patch_size))
        return predict_tiles(
            image,
            self.folder.tile_size,
            lambda rung: self.predictors(rung, reporter),
            self.folder.num_output_channels,
            ladder(self.device, batch),
            reporter,
            self.settings.tile_step,
            self.mirroring_axes if mirrored else (),
            stage,
            before,
        )


class Engine:
    """Runs one model folder on scans, one after the other, with the networks kept in memory.

    Args:
        folder: the model.
        settings: how to run it.

    Raises:
        DeviceError: the device that was asked for is not there.
        SettingsError: a heart centre for a model that is run in stored axes, or a confidence map from a model that
            only nnU-Net itself can run.
    """

    def __init__(self, folder: ModelFolder, settings: Settings | None = None) -> None:
        self.folder = folder
        self.settings = (settings or Settings()).check()
        if self.settings.heart_center is not None and (self.whole_image or folder.needs_fallback):
            raise SettingsError(f"model {folder.name!r} is run over the whole image: leave the heart center away")
        self._check_confidence_map()
        self.device = choose_device(self.settings.device)
        self._fine = _Runner(folder, self.settings, self.device)
        finder = folder.open_finder()
        self._finder = _Runner(finder, self.settings, self.device) if finder else None

    @property
    def whole_image(self) -> bool:
        """See :meth:`~heartseg.models.folder.ModelFolder.over_whole_image`."""
        return self.folder.over_whole_image(self.settings.reorient)

    @property
    def oriented(self) -> bool:
        """Whether the scan is turned to the orientation that the model's card states."""
        return self.folder.turns_scans(self.settings.reorient)

    def load(self, reporter: Reporter) -> None:
        """Read the networks now instead of at the first scan."""
        if self.folder.needs_fallback:
            return
        with reporter.stage("load model"):
            _ = self._fine.loaded
            if self._finder and not self.whole_image:
                _ = self._finder.loaded

    def predict(self, volume: Volume, reporter: Reporter) -> Prediction:
        """Labels of a scan.

        Raises:
            Cancelled: the reporter's token was set.
            DeviceError: out of memory on every rung.
            InputError: the settings' heart centre lies outside of the scan.
        """
        if self.folder.needs_fallback:
            from .fallback import predict_with_nnunet

            return predict_with_nnunet(self.folder, volume, self.settings, self.device, reporter)
        self.load(reporter)
        with torch_settings(self.settings.threads):
            prediction = (
                self._on_whole_image(volume, reporter) if self.whole_image else self._in_world(volume, reporter)
            )
            dtype = choose_dtype(self.device, self.settings.precision)
            facts = {
                "device": describe_device(self.device),
                "precision": str(dtype).removeprefix("torch."),
                "backend": self.settings.backend if self.device.type == "cpu" else "torch",
                "accurate": self.settings.accurate,
                "windows": 1,
                "mirrored_copies": 1,
            }
        confidence = prediction.confidence_map
        if confidence is None and self.settings.confidence_map:  # nowhere is a heart
            confidence = np.zeros(volume.array.shape, np.uint8)
        return replace(prediction, details={**facts, **prediction.details}, confidence_map=confidence)

    def view(self, volume: Volume, reporter: Reporter, grid: Geometry | None = None) -> tuple[View, torch.Tensor]:
        """What the fine network is shown, and the way back to the scan.

        Args:
            grid: where to look, LPS-aligned, such as :attr:`Prediction.grid`; ``None`` takes the whole scan. A model
                that is run over the whole image always sees all of it.

        Returns:
            the view, and the normalised image, float32 ``(1, z, y, x)`` in the network's axes.
        """
        if self.whole_image:
            stored = self._stored_view(volume, reporter)
            return stored, stored.prepared.image
        assert self.folder.card is not None and self.folder.card.orientation is not None
        flip, geometry = to_nearest_lps(volume.geometry)
        axes = NetworkAxes.of(self.folder.card.orientation, self.folder.transpose_forward)
        grid = grid or world_grid(geometry, axes.in_lps(self.folder.spacing)[::-1])
        _, image = self._shown(flip.apply(volume.array), geometry, axes, volume.modality, reporter, grid)
        return WorldView(grid, geometry, flip, axes), image

    def with_confidence_map(self) -> Engine:
        """This engine, with the same networks in memory, that also makes a confidence map.

        Raises:
            SettingsError: only nnU-Net itself can run the model.
        """
        twin = copy.copy(self)
        twin.settings = replace(self.settings, confidence_map=True)
        twin._check_confidence_map()
        return twin

    @property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """The fine networks, one per fold, for tiles ``(b, c, z, y, x)``; without what makes prediction fast."""
        return self._fine.networks

    def find_heart(self, volume: Volume, reporter: Reporter) -> HeartBox | None:
        """The finder's first candidate for the heart, without segmenting it; ``None`` where it sees none.

        Raises:
            SettingsError: the model has no finder.
            Cancelled: the reporter's token was set.
        """
        if self._finder is None or self.whole_image:
            raise SettingsError(f"model {self.folder.name!r} has no finder: it looks at the whole image")
        with reporter.stage("load model"):
            _ = self._finder.loaded
        with torch_settings(self.settings.threads):
            flip, geometry = to_nearest_lps(volume.geometry)
            return next(self._locate(flip.apply(volume.array), geometry, volume.modality, reporter), None)

    def _stored_view(self, volume: Volume, reporter: Reporter) -> StoredView:
        """The whole scan as nnU-Net would prepare it: turned, where the card promises an orientation, never tilted."""
        flip, geometry = to_nearest_lps(volume.geometry) if self.oriented else (None, volume.geometry)
        array = np.ascontiguousarray(flip.apply(volume.array)) if flip else volume.array
        spacing = geometry.spacing[::-1]
        folder = self.folder.as_3d(spacing)
        return StoredView(stored_axes.prepare(array, spacing, folder, reporter), folder, flip)

    def _on_whole_image(self, volume: Volume, reporter: Reporter) -> Prediction:
        with reporter.stage("preprocess"):
            view = self._stored_view(volume, reporter)
        logits = self._fine.logits(view.prepared.image, reporter, "predict", mirrored=self.settings.accurate)
        with reporter.stage("resample"):
            labels = view.to_scan(logits, running_argmax, reporter)
            confidence_map = self._confidence_map(logits, view, reporter)
        details = {
            "mode": self.whole_image_mode,
            "network_grid": list(view.prepared.image.shape[1:]),
            "mirrored_copies": self._mirrored_copies(reporter),
        }
        note = whole_image_finding(self.folder, self.settings.reorient, self.whole_image_mode)
        labels = self.folder.structure_lut()[labels]
        return Prediction(labels, (note,), self._confidence(logits), details, confidence_map)

    @property
    def whole_image_mode(self) -> str:
        """How a model of :attr:`whole_image` is run, for reports."""
        if self.folder.is_2d:
            return f"slice by slice, {'LPS' if self.oriented else 'stored'} axes"
        return "stored axes, whole image"

    def _in_world(self, volume: Volume, reporter: Reporter) -> Prediction:
        card = self.folder.card
        assert card is not None and card.orientation is not None
        flip, geometry = to_nearest_lps(volume.geometry)
        array = flip.apply(volume.array)
        findings: list[Finding] = []
        given = self.settings.heart_center
        axes = NetworkAxes.of(card.orientation, self.folder.transpose_forward)
        look = partial(self._look, array, geometry, axes, volume.modality, reporter)
        located: HeartWindow | None = None
        if given is None and self._finder and self.settings.locate:
            located, why = find_heart_window(
                chain(self._locate(array, geometry, volume.modality, reporter), [middle_of(self._coarse(geometry)[1])]),
                lambda box: self._window(box, geometry, axes),
                lambda window: self._recentred(window, geometry, axes),
                look,
                volume.modality,
            )
            if located is None:
                return _nothing(volume, why)
            findings += candidate_findings(located.box)
            findings += tiled_findings(located.grid, axes.in_lps(self.folder.patch_size))
            window: Window = located
        else:
            if given is not None:
                _check_inside(given, volume)
            window = Window(self._window(None, geometry, axes), look, mirrored=self.settings.accurate)
            if window.is_air(volume.modality):
                return _nothing(volume, AIR)
        grid, logits = window.grid, window.logits
        averaged = located is not None and self.settings.accurate
        if averaged:
            tiles = self._fine.tile_count(tuple(grid.shape[k] for k in axes.order))
            logits = _averaged(logits, grid, look, tiles, reporter)
        with reporter.stage("resample"):
            found, where = labels_on_grid(logits, grid, geometry, reporter)
            labels = np.zeros(geometry.shape, np.uint8)
            labels[where] = self.folder.structure_lut()[found]
            labels = np.ascontiguousarray(flip.undo(labels))
            confidence_map = self._confidence_map(logits, WorldView(grid, geometry, flip, axes), reporter)
        confidence = self._confidence(logits)
        findings += doubts(located.agreement if located else None, confidence)
        details = {
            "mode": _mode(located, given is not None),
            "agreement": located.agreement if located else None,
            "same_story": located.story if located else None,
            "mean_probability": located.confidence if located else None,
            "finder_grey_scale": located.box.grey_scale if located and located.box.seen else None,
            "window_mm": [round(float(n * s), 1) for n, s in zip(grid.size, grid.spacing, strict=True)],
            "window_center_lps": [round(float(v), 1) for v in grid.center()],
            "windows": 1 + len(LOOKS) if averaged else 1,
            "mirrored_copies": 1 if located else self._mirrored_copies(reporter),
        }
        return Prediction(labels, tuple(findings), confidence, details, confidence_map, grid)

    def _window(self, box: HeartBox | None, geometry: Geometry, axes: NetworkAxes) -> Geometry:
        """The fine network's grid: one patch around the heart, more where it does not fit, or the whole scan.

        Around a given centre it is always one patch.
        """
        assert self.folder.card is not None
        spacing = axes.in_lps(self.folder.spacing)[::-1]
        if box is None:
            if self.settings.heart_center is None:
                return world_grid(geometry, spacing)
            center = np.asarray(self.settings.heart_center)
            return window_grid(center, center, spacing, axes.in_lps(self.folder.patch_size))
        margin = np.full(3, self.folder.card.margin_mm)
        return window_grid(box.low - margin, box.high + margin, spacing, axes.in_lps(self.folder.patch_size))

    def _recentred(self, window: HeartWindow, geometry: Geometry, axes: NetworkAxes) -> Geometry | None:
        """A window around what the fine network saw, if that moves it by more than a coarse voxel's half; else None.

        The finder's voxels are twice as coarse, and the fine network was trained on hearts in the middle of its patch.
        """
        grid = window.grid
        labels = self.folder.structure_lut()[window.labels.numpy()]
        seen = choose_heart(labels, grid)
        if seen is None:
            return None
        better = self._window(seen, geometry, axes)
        moved = np.abs(better.center() - grid.center()).max()
        return better if moved > max(window.box.geometry.spacing) / 2 or better.shape != grid.shape else None

    def _look(
        self,
        array: np.ndarray,
        geometry: Geometry,
        axes: NetworkAxes,
        modality: str,
        reporter: Reporter,
        grid: Geometry,
        stage: str | None = "predict",
        before: int = 0,
        gamma: float = 1.0,
        mirrored: bool = False,
    ) -> tuple[Sampled, torch.Tensor]:
        """The scan on a grid, and the fine network's logits there; both LPS-aligned.

        Args:
            stage, before, mirrored: as in :meth:`_Runner.logits`.
            gamma: exponent of the grey scale, 1 for none.
        """
        sampled, image = self._shown(array, geometry, axes, modality, reporter, grid, gamma)
        return sampled, axes.from_network(self._fine.logits(image, reporter, stage, before, mirrored))

    def _shown(
        self,
        array: np.ndarray,
        geometry: Geometry,
        axes: NetworkAxes,
        modality: str,
        reporter: Reporter,
        grid: Geometry,
        gamma: float = 1.0,
    ) -> tuple[Sampled, torch.Tensor]:
        """The scan on a grid, LPS-aligned, and as the fine network is shown it: normalised ``(1, …)``, in its axes."""
        assert self.folder.card is not None
        sampled = self._sample(array, geometry, grid, modality, reporter)
        reference = sampled
        if self.folder.card.normalization_extent == "scan":
            reference = self._sample(array, geometry, world_grid(geometry, (6.0, 6.0, 6.0)), modality, reporter)
        normalized = bend(_normalized(sampled, reference, self.folder), sampled.inside, gamma)
        return sampled, axes.to_network(normalized)[None]

    def _mirrored_copies(self, reporter: Reporter) -> int:
        """Over how many mirrored copies a whole scan is averaged; says so if the user asked for more than there are."""
        if not self.settings.accurate:
            return 1
        copies = len(mirror_combinations(self._fine.mirroring_axes))
        if copies == 1:
            reporter.announce("accurate changes nothing here: the model allows no mirrored copies of a whole scan")
        return copies

    def _locate(self, array: np.ndarray, geometry: Geometry, modality: str, reporter: Reporter) -> Iterator[HeartBox]:
        """The finder's candidates in the whole scan, largest first; if none is a heart, of other grey scales.

        Each grey scale costs a run of the finder, when its candidates are asked for. Of another one all are given if
        the scan's own showed none, else the largest.
        """
        assert self._finder is not None
        folder = self._finder.folder
        axes, grid = self._coarse(geometry)
        with reporter.stage("sample scan"):
            sampled = self._sample(array, geometry, grid, modality, reporter)
        plain = _normalized(sampled, sampled, folder)
        most = MOST_CANDIDATES
        for gamma in (1.0, *_OTHER_SCALES):
            image = axes.to_network(bend(plain, sampled.inside, gamma))[None]
            logits = axes.from_network(self._finder.logits(image, reporter, "locate"))
            labels = folder.structure_lut()[likeliest(logits).numpy()]
            found = heart_candidates(np.where(sampled.inside.numpy(), labels, 0), grid, most)
            yield from (replace(box, grey_scale=gamma) for box in found)
            most = 1 if found else most

    def _coarse(self, geometry: Geometry) -> tuple[NetworkAxes, Geometry]:
        """The finder's axes, and its grid over a scan."""
        assert self._finder is not None
        folder = self._finder.folder
        orientation = (folder.card.orientation if folder.card else None) or "LPS"
        axes = NetworkAxes.of(orientation, folder.transpose_forward)
        return axes, world_grid(geometry, axes.in_lps(folder.spacing)[::-1])

    def _sample(
        self, array: np.ndarray, geometry: Geometry, grid: Geometry, modality: str, reporter: Reporter
    ) -> Sampled:
        sampled = sample_image(array, geometry, grid, reporter)
        if modality != "MR" and bool(sampled.image.min() < _CT_AIR):
            return Sampled(sampled.image.clamp(min=_CT_AIR), sampled.inside, grid)
        return sampled

    def _check_confidence_map(self) -> None:
        if self.settings.confidence_map and self.folder.needs_fallback:
            raise SettingsError(
                f"model {self.folder.name!r} is run by nnU-Net's own predictor, which gives labels only: leave the "
                "confidence map away"
            )

    def _confidence_map(self, logits: torch.Tensor, view: View, reporter: Reporter) -> np.ndarray | None:
        """The confidence map, if it was asked for."""
        return confidence_on_scan(logits, view, reporter) if self.settings.confidence_map else None

    def _confidence(self, logits: torch.Tensor) -> dict[str, float]:
        of_channels = chosen_probability(logits)
        ours = torch.from_numpy(self.folder.structure_lut()[: logits.shape[0]].astype(np.int64))
        total, count = (torch.zeros(256, dtype=v.dtype).index_add_(0, ours, v) for v in of_channels)
        return {s.key: round(float(total[s.label] / count[s.label]), 4) for s in STRUCTURES if bool(count[s.label])}


def _mode(located: HeartWindow | None, given: bool) -> str:
    """How the place was found, for reports."""
    if located is None:
        return "given centre" if given else "whole scan"
    return "located" if located.box.seen else "middle of the scan"


def _check_inside(point: tuple[float, float, float], volume: Volume) -> None:
    """Raise :class:`~heartseg.errors.InputError` if a world LPS point (mm) lies outside of the scan's voxels."""
    index, limit = volume.geometry.world_to_index(np.asarray(point)), np.asarray(volume.geometry.shape) - 0.5
    if ((index < -0.5) | (index > limit)).any():
        at = ", ".join(f"{v:.0f}" for v in point)
        middle = ", ".join(f"{v:.0f}" for v in volume.geometry.center())
        raise InputError(
            f"heart center ({at}) lies outside of {volume.name!r}: give LPS mm; the scan's middle is ({middle})"
        )


def _averaged(
    logits: torch.Tensor,
    grid: Geometry,
    look: Look,
    tiles: int,
    reporter: Reporter,
) -> torch.Tensor:
    """Logits of the mean of a first look at a window and of :data:`~heartseg.inference.looks.LOOKS`, on its grid.

    Args:
        logits, grid: the first look.
        look: :meth:`Engine._look` at a scan, to be given a grid.
        tiles: what one look takes, for the progress.
    """
    mean = MeanProbabilities(grid, logits)
    with reporter.stage("average", len(LOOKS) * tiles):
        for k, again in enumerate(LOOKS):
            moved = shifted(grid, again.direction)
            mean.add(moved, look(moved, None, k * tiles, again.gamma)[1])
    return mean.logits()


def _nothing(volume: Volume, why: str) -> Prediction:
    """An empty prediction; the checks after the run turn it into the finding ``no-heart``."""
    details = {"mode": "located", "heart": why}
    return Prediction(np.zeros(volume.array.shape, np.uint8), (), {}, details)


def _normalized(sampled: Sampled, reference: Sampled, folder: ModelFolder) -> torch.Tensor:
    """float32 ``(z, y, x)``: statistics over the reference's voxels inside the scan; the rest takes the minimum."""
    values = reference.image[reference.inside].numpy()
    if values.size == 0:
        return torch.zeros_like(sampled.image)
    statistics = folder.foreground_intensity_properties_per_channel.get("0", {})
    scaling = fit(folder.normalization_schemes[0], values, statistics)
    return torch.from_numpy(scaling.apply(sampled.image.numpy()))
