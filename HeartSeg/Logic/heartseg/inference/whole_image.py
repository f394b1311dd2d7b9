"""One pass over a grid that is known before the run: the whole scan, or a window around a given point."""

from __future__ import annotations

import numpy as np

from ..models.folder import ModelFolder
from ..progress import Reporter
from ..provenance import RunFacts
from ..settings import Settings
from ..volume.geometry import Geometry, to_nearest_lps
from ..volume.types import Volume
from .acceptance import AIR
from .evidence import has_air_intensity
from .network import Network, OrientedNetwork, Window
from .plan import RunPlan, Way
from .prediction import Prediction, limits_of, no_heart, of_window, on_scan, structure_confidence
from .run_findings import doubtful_findings, whole_image_finding
from .scan import OrientedScan
from .stored_axes import prepare
from .views import StoredView


class WholeImage:
    """Segments one scan as nnU-Net would: the whole image along its voxels' axes.

    Args:
        plan: of the run.
        volume: the scan.
        network: the model.
        settings: of the run.
    """

    def __init__(self, plan: RunPlan, volume: Volume, network: Network, settings: Settings) -> None:
        self.plan, self.volume, self.network, self.settings = plan, volume, network, settings

    def predict(self, reporter: Reporter) -> Prediction:
        """Labels of the whole image."""
        folder = self.network.folder
        with reporter.stage("preprocess"):
            view = stored_view(self.volume, folder, self.settings, reporter)
        shape = tuple(view.prepared.image.shape[1:])
        with reporter.stage("predict", self.network.tile_count(shape)):
            logits = self.network.logits(view.prepared.image, reporter, mirrored=self.plan.mirrored_copies > 1)
        self.network.free()
        labels, confidence_map = on_scan(logits, view, folder, self.settings.confidence_map, reporter)
        mode = whole_image_mode(self.plan.way, folder, self.settings)
        finding = whole_image_finding(folder, self.settings.reorient, mode)
        confidence, expected = structure_confidence(logits, folder)
        run = RunFacts(mode=mode, network_grid=shape, mirrored_copies=self.plan.mirrored_copies, expected_dice=expected)
        told = (finding, *doubtful_findings(expected, limits_of(folder)))
        return Prediction(labels, run, told, confidence, confidence_map)


class FixedGrid:
    """Segments one scan on a grid of the plan, in the patient's axes.

    Args:
        plan: of the run, with a grid.
        scan: the scan.
        network: the model.
        settings: of the run.
    """

    def __init__(self, plan: RunPlan, scan: OrientedScan, network: OrientedNetwork, settings: Settings) -> None:
        self.plan, self.scan, self.network, self.settings = plan, scan, network, settings

    def predict(self, reporter: Reporter) -> Prediction:
        """Labels on the grid; none if what is labelled has the intensity of air."""
        grid = self.plan.sampling_grid
        window = self._window(grid, reporter)
        if has_air_intensity(window.labels, window.sampled, self.scan.scale):
            return no_heart(self.scan, self.plan.way.value, AIR)
        run = RunFacts(mode=self.plan.way.value, mirrored_copies=self.plan.mirrored_copies)
        return of_window(window, self.scan, self.network, run, [], self.settings, reporter)

    def _window(self, grid: Geometry, reporter: Reporter) -> Window:
        sampled, image = self.network.prepare(self.scan, grid, reporter)
        with reporter.stage("predict", self.network.tiles_of(grid)):
            logits = self.network.run(image, reporter, mirrored=self.plan.mirrored_copies > 1)
        return Window(grid, sampled, logits)


def stored_view(volume: Volume, folder: ModelFolder, settings: Settings, reporter: Reporter) -> StoredView:
    """The whole scan as nnU-Net would prepare it: turned where the card states an orientation, never interpolated."""
    flip, geometry = (
        to_nearest_lps(volume.geometry) if folder.turns_scans(settings.reorient) else (None, volume.geometry)
    )
    array = np.ascontiguousarray(flip.apply(volume.array)) if flip else volume.array
    spacing = geometry.spacing[::-1]
    as_3d = folder.as_3d(spacing)
    return StoredView(prepare(array, spacing, as_3d, reporter), as_3d, flip)


def whole_image_mode(way: Way, folder: ModelFolder, settings: Settings) -> str:
    """How a whole image is processed, for reports."""
    if way is Way.SLICES:
        return f"{way.value}, {'LPS' if folder.turns_scans(settings.reorient) else 'stored'} axes"
    return way.value
