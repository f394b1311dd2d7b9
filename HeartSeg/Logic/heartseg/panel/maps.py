"""What the worker does for maps over the scan: heat maps and confidence. No Qt, no MRML here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..anatomy import structure
from ..progress import Reporter
from ..provenance import Provenance
from ..result import Result
from ..scene.nodes import owned_volume
from ..scene.overlay import CONFIDENCE, HEAT_MAP, PreparedOverlay, prepare_overlay
from ..volume.types import Volume
from .work import paste_label

if TYPE_CHECKING:
    from ..pipeline import Segmenter


@dataclass(frozen=True, eq=False)
class HeatMapRequest:
    """One heat map.

    Attributes:
        view: the scan; its array still belongs to the node.
        masks: the segments as they are, see :func:`~heartseg.panel.results.masks_of`.
        provenance: how the segmentation was made.
        structure: key.
        layer: ``last``, ``bottleneck`` or a name.
    """

    view: Volume
    masks: Mapping[str, tuple[Any, int, tuple[int, int, int]]]
    provenance: Provenance = field(default_factory=Provenance)
    structure: str = "AO"
    layer: str = "last"


@dataclass(frozen=True, eq=False)
class HeatMap:
    """The outcome of a heat map's job, for the main thread.

    Attributes:
        prepared: ready for the scene.
        layer: name of the layer that was looked at.
        layers: names of all that can be.
        notices: what should be known about this map.
    """

    prepared: PreparedOverlay
    layer: str
    layers: tuple[str, ...]
    notices: tuple[str, ...]


def make_heat_map(request: HeatMapRequest, segmenter: Callable[[Reporter], Segmenter], reporter: Reporter) -> HeatMap:
    """Explain the segments as they are in the scene.

    Raises:
        HeartSegError, Cancelled: as :meth:`~heartseg.explain.Explainer.explain`.
    """
    from ..explain import Explainer

    with reporter.stage("read"):
        volume = owned_volume(request.view)
        labels = np.zeros(volume.geometry.shape, np.uint8)
        for key, (array, value, start) in request.masks.items():
            paste_label(labels, array == value, start, structure(key).label)
    explainer = Explainer(segmenter(reporter))
    result = Result(labels, volume.geometry, provenance=request.provenance)
    found = explainer.explain(volume, request.structure, request.layer, result, reporter=reporter)
    prepared = prepare_overlay(found.heat, found.geometry, HEAT_MAP)
    names = tuple(layer.name for layer in explainer.layers.all)
    return HeatMap(prepared, found.layer.name, names, found.notices)


def make_confidence(
    view: Volume, known: np.ndarray | None, segmenter: Callable[[Reporter], Segmenter], reporter: Reporter
) -> PreparedOverlay:
    """The confidence map of a scan, ready for the scene.

    Args:
        view: the scan; its array still belongs to the node.
        known: the map, where the last run has made it; else the scan is segmented again.
        segmenter: gives the warm one.

    Raises:
        HeartSegError, Cancelled: as :meth:`~heartseg.pipeline.Segmenter.confidence_map`.
    """
    if known is None:
        with reporter.stage("read"):
            volume = owned_volume(view)
        known = segmenter(reporter).confidence_map(volume, reporter)
    return prepare_overlay(known, view.geometry, CONFIDENCE)
