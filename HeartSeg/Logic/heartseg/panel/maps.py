"""Heat maps and confidence maps on the worker thread; makes no Qt and MRML calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..progress import Reporter
from ..provenance import Provenance
from ..result import Result
from ..scene.masks import Masks, labels_of
from ..scene.nodes import owned_volume
from ..scene.overlay import CONFIDENCE, HEAT_MAP, PreparedOverlay, prepare_overlay
from ..volume.types import Volume

if TYPE_CHECKING:
    from ..pipeline import Segmenter


@dataclass(frozen=True, eq=False)
class HeatMapRequest:
    """Request for a heat map.

    Attributes:
        view: the scan; its array is a view of the node's voxels.
        masks: current segments, see :func:`~heartseg.scene.masks.masks_of`.
        provenance: provenance of the segmentation.
        structure: key of the structure.
        layer: ``last``, ``bottleneck`` or the name of a layer.
    """

    view: Volume
    masks: Masks
    provenance: Provenance = field(default_factory=Provenance)
    structure: str = "AO"
    layer: str = "last"


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Heat map for the main thread.

    Attributes:
        prepared: overlay ready for the scene.
        layer: name of the explained layer.
        layers: names of all layers.
        notices: warnings about this map.
    """

    prepared: PreparedOverlay
    layer: str
    layers: tuple[str, ...]
    notices: tuple[str, ...]


def make_heat_map(request: HeatMapRequest, segmenter: Callable[[Reporter], Segmenter], reporter: Reporter) -> HeatMap:
    """Compute the heat map of the current segments.

    Raises:
        HeartSegError, Cancelled: see :meth:`~heartseg.explain.Explainer.explain`.
    """
    from ..explain import Explainer

    with reporter.stage("read"):
        volume = owned_volume(request.view)
        labels = labels_of(request.masks, volume.geometry.shape)
    explainer = Explainer(segmenter(reporter))
    result = Result(labels, volume.geometry, provenance=request.provenance)
    found = explainer.explain(volume, request.structure, request.layer, result, reporter=reporter)
    prepared = prepare_overlay(found.heat, found.geometry, HEAT_MAP)
    names = tuple(layer.name for layer in explainer.layers.all)
    return HeatMap(prepared, found.layer.name, names, found.notices)


def make_confidence(
    view: Volume, known: np.ndarray | None, segmenter: Callable[[Reporter], Segmenter], reporter: Reporter
) -> PreparedOverlay:
    """Make the confidence map of a scan, ready for the scene.

    Args:
        view: the scan; its array is a view of the node's voxels.
        known: confidence map of the last run, if available; otherwise the scan is segmented again.
        segmenter: returns the segmenter in memory.
        reporter: receives progress and cancels.

    Raises:
        HeartSegError, Cancelled: see :meth:`~heartseg.pipeline.Segmenter.confidence_map`.
    """
    if known is None:
        with reporter.stage("read"):
            volume = owned_volume(view)
        known = segmenter(reporter).confidence_map(volume, reporter)
    return prepare_overlay(known, view.geometry, CONFIDENCE)
