"""What a network says about a scan, on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ..anatomy import STRUCTURES
from ..findings import Finding
from ..models.folder import ModelFolder
from ..progress import Reporter
from ..provenance import RunFacts
from ..settings import Settings
from ..volume.geometry import Geometry
from .evidence import probabilities
from .network import OrientedNetwork, Window
from .resample import likeliest, running_argmax
from .run_findings import confidence_findings, doubtful_findings
from .scan import OrientedScan
from .views import View, WorldView, box_of, confidence_on_scan


@dataclass(frozen=True, eq=False)
class Prediction:
    """Labels of a scan before clean-up.

    Attributes:
        labels: uint8 ``(z, y, x)``, HeartSeg's label values.
        run: how the network was run.
        findings: what happened on the way that the user should know.
        confidence: structure key -> mean probability of its voxels.
        confidence_map: uint8 percent ``(z, y, x)``, see :func:`~heartseg.inference.views.confidence_on_scan`; ``None``
            where it was not asked for.
        grid: the fine network's grid, LPS-aligned; ``None`` in stored axes, or if no heart was found.
    """

    labels: np.ndarray
    run: RunFacts
    findings: tuple[Finding, ...] = ()
    confidence: dict[str, float] = field(default_factory=dict)
    confidence_map: np.ndarray | None = None
    grid: Geometry | None = None


class Method(Protocol):
    """A way of running a model on one scan."""

    def predict(self, reporter: Reporter) -> Prediction:
        """Labels of the scan; progress and cancelling through the reporter."""
        ...


def on_scan(
    logits: np.ndarray, view: View, folder: ModelFolder, with_map: bool, reporter: Reporter
) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels (uint8, HeartSeg's values) and confidence map (percent, if wanted) at the scan's voxels ``(z, y, x)``.

    Args:
        logits: float32 ``(c, z, y, x)`` in the view's axes.
        view: the way from the network's grid to the scan.
        folder: the model.
        with_map: whether the map is wanted.
        reporter: for progress and cancelling.
    """
    table = folder.structure_lut()

    def structures(channel: Callable[[int], np.ndarray], count: int) -> np.ndarray:
        return table[running_argmax(channel, count)]

    with reporter.stage("resample"):
        labels = view.to_scan(logits, structures, reporter, within=box_of(likeliest(logits)))
        return labels, confidence_on_scan(logits, view, reporter) if with_map else None


def structure_confidence(logits: np.ndarray, folder: ModelFolder) -> tuple[dict[str, float], dict[str, float]]:
    """Mean probability of its voxels and expected Dice of each structure, of logits ``(c, z, y, x)``.

    The expected Dice is that of :attr:`~.evidence.Probabilities.expected_dice`.
    """
    sums = probabilities(logits).regrouped(folder.structure_lut())
    found = [s for s in STRUCTURES if sums.voxels[s.label]]
    expected = sums.expected_dice
    mean = {s.key: round(float(sums.chosen[s.label] / sums.voxels[s.label]), 4) for s in found}
    return mean, {s.key: round(float(expected[s.label]), 4) for s in found}


def limits_of(folder: ModelFolder) -> dict[str, float]:
    """Structure key -> expected Dice below which it is doubtful, from the model's card."""
    return folder.card.doubtful_below if folder.card else {}


def of_window(
    window: Window,
    scan: OrientedScan,
    fine: OrientedNetwork,
    run: RunFacts,
    findings: Sequence[Finding],
    settings: Settings,
    reporter: Reporter,
) -> Prediction:
    """The prediction of a window: labels at the scan's voxels, confidence, and findings on it."""
    fine.free()
    view = WorldView(window.grid, scan.geometry, scan.flip, fine.lattice.axes)
    labels, confidence_map = on_scan(window.logits, view, fine.folder, settings.confidence_map, reporter)
    confidence, expected = structure_confidence(window.logits, fine.folder)
    grid = window.grid
    run = replace(
        run,
        window_mm=tuple(round(float(n * s), 1) for n, s in zip(grid.size, grid.spacing, strict=True)),
        window_center_lps=tuple(round(float(v), 1) for v in grid.center()),
        expected_dice=expected,
    )
    told = (
        *findings,
        *confidence_findings(run.agreement, confidence),
        *doubtful_findings(expected, limits_of(fine.folder)),
    )
    return Prediction(labels, run, told, confidence, confidence_map, grid)


def no_heart(scan: OrientedScan, mode: str, reason: str) -> Prediction:
    """An empty prediction; the checks after the run turn it into the finding ``no-heart``."""
    shape = scan.flip.undo(scan.array).shape
    return Prediction(np.zeros(shape, np.uint8), RunFacts(mode=mode, no_heart=reason))
