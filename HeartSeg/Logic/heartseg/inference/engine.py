"""The engine: one model, kept warm, that turns scans into labels.

It plans each run, chooses the way that the plan names, and keeps the networks in memory between scans.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..devices import choose_precision, choose_runtime, describe_device, torch_settings
from ..errors import InputError, SettingsError
from ..models.folder import ModelFolder
from ..progress import Reporter
from ..provenance import RunFacts
from ..settings import Settings
from ..volume.geometry import Geometry
from ..volume.types import Volume
from ..wording import _
from .around_heart import AroundHeart
from .finder import Finder
from .locate import HeartBox
from .network import Network, OrientedNetwork, Window
from .plan import RunPlan, Way, choose_way, plan_run
from .prediction import Method, Prediction
from .resample import window_grid
from .scan import OrientedScan
from .views import View, WorldView
from .whole_image import FixedGrid, WholeImage, stored_view, whole_image_mode

if TYPE_CHECKING:
    from torch import nn


class Engine:
    """Runs one model folder on scans, one after the other, with the networks kept in memory.

    Args:
        folder: the model.
        settings: how to run it.

    Raises:
        DeviceError: the device that was asked for is not available.
        DependencyError: no package that runs the model is installed.
        SettingsError: a heart centre for a model that is run over the whole image, or a confidence map from a model
            that only nnU-Net itself can run.
    """

    def __init__(self, folder: ModelFolder, settings: Settings | None = None) -> None:
        self.folder = folder
        self.settings = (settings or Settings()).check()
        self.way = choose_way(folder, self.settings)
        if self.settings.heart_center is not None and self.way is not Way.GIVEN_CENTER:
            raise SettingsError(
                _("model {name!r} processes the whole image: leave out the heart center").format(name=folder.name)
            )
        self._check_confidence_map()
        finder = folder.open_finder()
        backend, self.device = choose_runtime(self.settings.backend, self.settings.device, needs_torch(folder, finder))
        self.settings = replace(self.settings, backend=backend)
        kind = Network if self.way in (Way.SLICES, Way.STORED_AXES, Way.NNUNET) else OrientedNetwork
        self._fine = kind(folder, self.settings, self.device)
        self._finder = Finder(finder, self.settings, self.device) if finder else None

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The fine networks, one per fold, for tiles ``(b, c, z, y, x)``, as they were loaded."""
        return self._fine.modules

    @property
    def mode(self) -> str:
        """How a model of :attr:`~.plan.Way.whole_image` processes scans, for reports."""
        return whole_image_mode(self.way, self.folder, self.settings)

    def plan(self, geometry: Geometry) -> RunPlan:
        """The plan of a run on a scan with this grid; the checkpoints are read for it."""
        axes = self._fine.mirroring_axes if self.way is not Way.NNUNET else None
        finder = self._finder.folder if self._finder else None
        return plan_run(self.folder, finder, self.settings, geometry, axes)

    def load(self, reporter: Reporter) -> None:
        """Read the networks now instead of at the first scan."""
        if self.way is Way.NNUNET:
            return
        with reporter.stage("load model"):
            _loaded = self._fine.loaded
            if self._finder and not self.way.whole_image:
                _loaded = self._finder.loaded

    def predict(self, volume: Volume, reporter: Reporter) -> Prediction:
        """Labels of a scan.

        Raises:
            Cancelled: the reporter's token was set.
            DeviceError: out of memory, even with the smallest batch on the CPU.
            InputError: the settings' heart centre lies outside the scan.
        """
        self.load(reporter)
        with self._settings():
            prediction = self._method(volume, reporter).predict(reporter)
            run = self._with_machine(prediction.run)
        confidence = prediction.confidence_map
        if confidence is None and self.settings.confidence_map:  # there is no heart
            confidence = np.zeros(volume.array.shape, np.uint8)
        return replace(prediction, run=run, confidence_map=confidence)

    def _method(self, volume: Volume, reporter: Reporter) -> Method:
        """The way of the plan, ready for one scan."""
        if self.way is Way.NNUNET:
            from .fallback import NnUNet

            return NnUNet(volume, self.folder, self.settings, self.device)
        plan = self.plan(volume.geometry)
        if self.settings.accurate and plan.windows == plan.mirrored_copies == 1:
            reporter.announce(_("accurate changes nothing here: the model allows no mirrored copies of a whole scan"))
        if not isinstance(self._fine, OrientedNetwork):
            return WholeImage(plan, volume, self._fine, self.settings)
        if self.settings.heart_center is not None:
            _check_inside(self.settings.heart_center, volume)
        scan = OrientedScan.of(volume)
        if plan.way is Way.AROUND_HEART and self._finder:
            return AroundHeart(plan, scan, self._fine, self._finder, self.settings)
        return FixedGrid(plan, scan, self._fine, self.settings)

    def _with_machine(self, run: RunFacts) -> RunFacts:
        """The facts of a run with those of the device."""
        if self.way is Way.NNUNET:
            return replace(
                run,
                device=str(self.device),
                precision="float32",
                backend="nnunetv2",
                accurate=self.settings.accurate,
            )
        return replace(
            run,
            device=describe_device(self.device, self.settings.threads),
            precision=choose_precision(self.device, self.settings.precision, self.settings.backend),
            backend=self.settings.backend,
            accurate=self.settings.accurate,
        )

    def view(self, volume: Volume, reporter: Reporter, grid: Geometry | None = None) -> tuple[View, np.ndarray]:
        """What the fine network sees of a scan, and the way back to it.

        Args:
            volume: the scan.
            reporter: for cancelling.
            grid: LPS-aligned, such as :attr:`Prediction.grid`; ``None`` takes the whole scan. A model that processes
                the whole image always sees all of it.

        Returns:
            the view, and the normalised image, float32 ``(1, z, y, x)`` in the network's axes.
        """
        if not isinstance(self._fine, OrientedNetwork):
            stored = stored_view(volume, self.folder, self.settings, reporter)
            return stored, stored.prepared.image
        scan, lattice = OrientedScan.of(volume), self._fine.lattice
        grid = grid or lattice.over(scan.geometry)
        _grid, image = self._fine.prepare(scan, grid, reporter)
        return WorldView(grid, scan.geometry, scan.flip, lattice.axes), self._fine.to_network(image)

    @property
    def has_windows(self) -> bool:
        """Whether the model can be run in a window of a scan: not those that see whole images only."""
        return isinstance(self._fine, OrientedNetwork)

    def window(self, volume: Volume, low_mm: np.ndarray, high_mm: np.ndarray, reporter: Reporter) -> Window:
        """What the fine network shows of a scan in a window around a box, at least one patch.

        Args:
            volume: the scan.
            low_mm, high_mm: corners ``(x, y, z)`` of the box, LPS mm.
            reporter: for progress and cancelling.

        Raises:
            SettingsError: the model sees whole images only.
            Cancelled: the reporter's token was set.
        """
        if not isinstance(self._fine, OrientedNetwork):
            raise SettingsError(
                _("model {name!r} sees whole images only: it has no windows").format(name=self.folder.name)
            )
        self.load(reporter)
        lattice = self._fine.lattice
        grid = window_grid(low_mm, high_mm, lattice.spacing, lattice.patch)
        with self._settings(), reporter.stage("predict", self._fine.tiles_of(grid)):
            return self._fine.window(OrientedScan.of(volume), grid, reporter)

    def with_confidence_map(self) -> Engine:
        """This engine, sharing its networks, that also makes a confidence map.

        Raises:
            SettingsError: only nnU-Net itself can run the model.
        """
        twin = copy.copy(self)
        twin.settings = replace(self.settings, confidence_map=True)
        twin._check_confidence_map()
        return twin

    def find_heart(self, volume: Volume, reporter: Reporter) -> HeartBox | None:
        """The finder's first candidate, without segmenting it; ``None`` if there is none.

        Raises:
            SettingsError: the model has no finder.
            Cancelled: the reporter's token was set.
        """
        if self._finder is None or self.way.whole_image:
            raise SettingsError(
                _("model {name!r} has no finder: it processes the whole image").format(name=self.folder.name)
            )
        with reporter.stage("load model"):
            _loaded = self._finder.loaded
        with self._settings():
            scan = OrientedScan.of(volume)
            grid = self._finder.lattice.over(scan.geometry)
            return next(self._finder.candidates(scan, grid, reporter), None)

    def _settings(self) -> AbstractContextManager[None]:
        """What applies to a whole run; other backends get their threads with the network."""
        if self.settings.backend == "torch" or self.way is Way.NNUNET:
            return torch_settings(self.settings.threads)
        return nullcontext()

    def _check_confidence_map(self) -> None:
        if self.settings.confidence_map and self.way is Way.NNUNET:
            raise SettingsError(
                _(
                    "model {name!r} is run by nnU-Net's own predictor, which gives labels only: leave out the "
                    "confidence map"
                ).format(name=self.folder.name)
            )


def needs_torch(folder: ModelFolder, finder: ModelFolder | None) -> str:
    """Which model only torch can run, and why; ``""`` if a model and its finder have graphs."""
    reasons = ((f"model {f.name!r}", f.needs_torch) for f in (folder, finder) if f is not None)
    return next((f"{model} ({reason})" for model, reason in reasons if reason), "")


def _check_inside(point: tuple[float, float, float], volume: Volume) -> None:
    """Raise :class:`~heartseg.errors.InputError` if a world LPS point (mm) lies outside the scan's voxels."""
    index, limit = volume.geometry.world_to_index(np.asarray(point)), np.asarray(volume.geometry.shape) - 0.5
    if ((index < -0.5) | (index > limit)).any():
        at = ", ".join(f"{v:.0f}" for v in point)
        middle = ", ".join(f"{v:.0f}" for v in volume.geometry.center())
        raise InputError(
            _("heart center ({at}) lies outside {name!r}: give LPS mm; the scan's middle is ({middle})").format(
                at=at, name=volume.name, middle=middle
            )
        )
