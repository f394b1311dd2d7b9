"""Compute the heat map of a structure on the grid of the scan."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..anatomy import KEYS, STRUCTURES, Structure, structure
from ..errors import InputError, ModelError, SettingsError
from ..needs import import_torch
from ..pipeline import Segmenter, input_facts, installed_versions, made_with, model_facts, model_note
from ..progress import CancelToken, ProgressCallback, Reporter
from ..provenance import Provenance
from ..result import Result
from ..settings import Settings
from ..version import __version__
from ..volume.checks import check_for_run
from ..volume.geometry import Geometry
from ..volume.types import Volume
from ..wording import _
from .layers import LAST, Layer, Layers, list_layers

if TYPE_CHECKING:
    from ..inference.views import View
    from ..models.folder import ModelFolder

NOTICE = "An illustration, not a validation."
SCHEMA = {"name": "heartseg-explanation", "version": 1}
_LARGEST_WINDOW = 512**3  # voxels; a record with more is invalid


@dataclass(frozen=True, eq=False)
class Explanation:
    """A heat map and its provenance.

    Attributes:
        heat: float32 ``(z, y, x)`` on the grid of the scan, 0 to 1; 0 outside the window of the network.
        labels: uint8 ``(z, y, x)``, the explained segmentation with the label values of HeartSeg.
        geometry: grid of the scan.
        structure: the explained structure.
        layer: the layer whose features are used.
        notices: warnings about this map.
        details: method, input, model, layer, settings, run, seconds and versions, JSON-ready.
    """

    heat: np.ndarray
    labels: np.ndarray
    geometry: Geometry
    structure: Structure
    layer: Layer
    notices: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def region(self) -> np.ndarray:
        """Mask of the structure, bool ``(z, y, x)``."""
        return self.labels == self.structure.label


@dataclass(frozen=True, eq=False)
class _Shown:
    """Input of the network: a view of the scan and its image."""

    view: View
    image: np.ndarray


class Explainer:
    """Computes heat maps with one model, which stays in memory between calls.

    Args:
        segmenter: the model and its settings. The settings of device, threads, tile step and window apply. The network
            always runs in single precision, without test-time augmentation.

    Raises:
        ModelError: the model requires nnU-Net's own predictor.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        why = segmenter.model.needs_fallback
        if why:
            raise ModelError(
                _(
                    "heat maps cannot be made for model {name!r}, which needs nnU-Net's own predictor ({why}): "
                    "choose a model with plain labels and no cascade"
                ).format(name=segmenter.model.name, why=why)
            )
        self.segmenter = segmenter

    @cached_property
    def layers(self) -> Layers:
        """Layers of the model."""
        return list_layers(self.segmenter.model)

    def find(self, structure_key: str, layer: str = LAST) -> tuple[Structure, Layer]:
        """Return the structure and the layer with these names.

        Raises:
            SettingsError: a name is unknown, or the model does not segment the structure.
        """
        return self._known(structure_key), self.layers.find(layer)

    def explain(
        self,
        volume: Volume,
        structure_key: str = "AO",
        layer: str = LAST,
        result: Result | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
        reporter: Reporter | None = None,
    ) -> Explanation:
        """Return the heat map of one structure.

        Args:
            volume: the scan.
            structure_key: ``"LV"``, ``"AO"``, ...
            layer: ``last``, ``bottleneck``, or a name from :attr:`layers`.
            result: an earlier result for this scan, whose labels are explained; by default the scan is segmented.
            progress: called with a :class:`~heartseg.progress.ProgressEvent` on this thread.
            cancel: token that stops the computation at the next tile.
            reporter: replaces ``progress`` and ``cancel``.

        Raises:
            SettingsError: the structure or the layer is unknown.
            InputError: the structure is not in the scan, or the result has a different grid.
            DependencyError: torch is not installed (:class:`~heartseg.needs.PackageNeeded`).
            Cancelled: the token was set.
        """
        torch = import_torch(_("a heat map"))
        from ..devices import describe_device
        from .gradcam import seg_grad_cam

        reporter = reporter or Reporter(progress, cancel)
        wanted, place = self.find(structure_key, layer)
        volume = check_for_run(volume)
        engine = self.segmenter.engine
        engine.load(reporter)
        labels, grid = self._labels_and_grid(volume, result, reporter)
        _check_present(wanted, labels, volume)
        with _gradients_allowed(self.segmenter.settings):
            with reporter.stage("preprocess"):
                shown = _Shown(*engine.view(volume, reporter, grid))
                region = self._region(shown, labels, wanted)
            heat = seg_grad_cam(
                engine.networks,
                place,
                torch.from_numpy(shown.image),
                torch.from_numpy(region),
                self._channels(wanted),
                self.segmenter.model.tile_size,
                torch.device(str(engine.device)),
                reporter,
                self.segmenter.settings.tile_step,
            )
            scaled, largest = _scaled(heat.numpy())
            with reporter.stage("resample"):
                on_scan = _on_scan(scaled, shown.view, reporter)
            device = describe_device(engine.device)
        notices = _notices(wanted, place, largest, result, self.segmenter.model)
        looked = engine.mode if engine.way.whole_image else "whole scan" if grid is None else "window"
        run = {
            "device": device,
            "mode": looked,
            "network_grid": list(shown.image.shape[1:]),
            "region_voxels": int(region.sum()),
            "largest_before_scaling": largest,
        }
        details = self._details(volume, wanted, place, result, run, reporter)
        return Explanation(on_scan, labels, volume.geometry, wanted, place, notices, details)

    def _known(self, key: str) -> Structure:
        """Return the structure; raises if the model does not segment it."""
        known = [s.key for s in STRUCTURES if s.label in np.unique(self.segmenter.model.structure_lut())]
        if key.upper() not in KEYS:
            raise SettingsError(
                _("structure {key!r} is unknown: choose from {known}").format(key=key[:20], known=", ".join(known))
            )
        if key.upper() not in known:
            raise SettingsError(
                _("model {name!r} does not segment structure {key}: choose from {known}").format(
                    name=self.segmenter.model.name, key=key.upper(), known=", ".join(known)
                )
            )
        return structure(key)

    def _labels_and_grid(
        self, volume: Volume, result: Result | None, reporter: Reporter
    ) -> tuple[np.ndarray, Geometry | None]:
        """Return the labels to explain and the window of the network; predicts them only if they are unknown."""
        engine = self.segmenter.engine
        if result is None:
            prediction = engine.predict(volume, reporter)
            return prediction.labels, prediction.grid
        if not result.geometry.same_grid(volume.geometry):
            raise InputError(
                _(
                    "the grid of the result ({size} voxels) is not that of {name!r} ({volume_size} voxels): give "
                    "the result for this scan"
                ).format(size=result.geometry.size, name=volume.name, volume_size=volume.geometry.size)
            )
        if engine.way.whole_image:
            return result.labels, None
        grid = recorded_window(result.provenance, self.segmenter.model)
        return result.labels, grid or engine.predict(volume, reporter).grid

    def _region(self, shown: _Shown, labels: np.ndarray, wanted: Structure) -> np.ndarray:
        region = shown.view.labels_for_network(labels) == wanted.label
        if not region.any():
            raise InputError(
                _(
                    "{key} has no voxel in the window of the network (it is outside, or too small for the grid): "
                    "choose another structure"
                ).format(key=wanted.key)
            )
        return region

    def _channels(self, wanted: Structure) -> list[int]:
        """Return the output channels of the structure."""
        lut = self.segmenter.model.structure_lut()
        return [c for c in range(self.segmenter.model.num_output_channels) if lut[c] == wanted.label]

    def _details(
        self,
        volume: Volume,
        wanted: Structure,
        place: Layer,
        result: Result | None,
        run: dict[str, Any],
        reporter: Reporter,
    ) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "notice": f"{NOTICE} Research software, not a medical device.",
            "method": "Grad-CAM for segmentation (Selvaraju et al. 2017, Vinogradova et al. 2020): gradients of the "
            "structure's logits, summed over its voxels",
            "structure": {"key": wanted.key, "name": wanted.name, "label": wanted.label},
            "layer": {
                "name": place.name,
                "kind": place.kind,
                "channels": place.shape[0],
                "voxels_of_a_patch": list(place.shape[1:]),
                "at_input": place.at_input,
            },
            "heartseg": __version__,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "input": dataclasses.asdict(input_facts(volume)),
            "segmentation": "an earlier result" if result is not None else "prediction of the network before clean-up",
            "model": dataclasses.asdict(model_facts(self.segmenter.model)),
            "settings": self.segmenter.settings.to_dict(),
            "run": {"precision": "float32", "folds": len(self.segmenter.engine.networks), **run},
            "announcements": list(reporter.announcements),
            "seconds": {stage: round(seconds, 3) for stage, seconds in reporter.seconds.items()},
            "packages": installed_versions(),
        }


def explain(
    volume: Volume,
    structure_key: str = "AO",
    layer: str = LAST,
    model: str | Path | ModelFolder | None = None,
    settings: Settings | None = None,
    result: Result | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Explanation:
    """Load a model and return the heat map of one structure; see :class:`Explainer` for several."""
    return Explainer(Segmenter(model, settings)).explain(volume, structure_key, layer, result, progress, cancel)


def recorded_window(provenance: Provenance, model: ModelFolder) -> Geometry | None:
    """Return the window of the network in an earlier run, or ``None`` if there is none or it is of another model.

    The record is rounded to 0.1 mm. The grid is restored exactly, because voxel centres are multiples of the spacing.
    """
    from ..inference.lattice import Lattice
    from ..inference.resample import window_grid

    run = provenance.run
    if run is None or run.window_center_lps is None or run.window_mm is None or not made_with(provenance.model, model):
        return None
    try:
        center, size_mm = np.asarray(run.window_center_lps, float), np.asarray(run.window_mm, float)
    except (TypeError, ValueError):
        return None
    if model.card is None or model.card.orientation is None or center.shape != (3,) or size_mm.shape != (3,):
        return None
    if not np.isfinite([center, size_mm]).all() or (size_mm <= 0).any():
        return None
    spacing = Lattice.of(model).spacing
    nx, ny, nz = (max(1, round(n / s)) for n, s in zip(size_mm, spacing, strict=True))
    if nx * ny * nz > _LARGEST_WINDOW:
        return None
    return window_grid(center, center, spacing, (nz, ny, nx))


def _check_present(wanted: Structure, labels: np.ndarray, volume: Volume) -> None:
    if bool((labels == wanted.label).any()):
        return
    there = set(np.unique(labels).tolist())
    present = [s.key for s in STRUCTURES if s.label in there]
    if not present:
        raise InputError(_("no heart was found in {name!r}: choose a scan with a heart").format(name=volume.name))
    raise InputError(
        _("{key} was not found in {name!r}: choose from {present}").format(
            key=wanted.key, name=volume.name, present=", ".join(present)
        )
    )


def _gradients_allowed(settings: Settings) -> Any:
    """Return a context with the threads and deterministic kernels of the engine, but without inference mode."""
    from contextlib import ExitStack

    import torch

    from ..devices import torch_settings

    stack = ExitStack()
    stack.enter_context(torch_settings(settings.threads))
    stack.enter_context(torch.inference_mode(False))
    return stack


def _scaled(heat: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the positive part divided by its maximum, and that maximum (0 if nothing is positive)."""
    heat = np.maximum(heat, 0)
    largest = float(heat.max())
    return (heat / largest if largest > 0 and math.isfinite(largest) else heat * 0), largest


def _on_scan(heat: np.ndarray, view: View, reporter: Reporter) -> np.ndarray:
    from ..inference.resample import only_channel

    on_scan = view.to_scan(view.from_network(heat)[None], only_channel, reporter, np.float32)
    return np.clip(on_scan, 0, 1, out=on_scan)


def _notices(
    wanted: Structure, place: Layer, largest: float, result: Result | None, model: ModelFolder
) -> tuple[str, ...]:
    found: list[str] = []
    if largest <= 0:
        found.append(
            _("no feature of layer {name} contributes to {key}: the map is empty").format(
                name=place.name, key=wanted.key
            )
        )
    if result is not None and (note := model_note(result.provenance.model, model)):
        found.append(note)
    return tuple(found)
