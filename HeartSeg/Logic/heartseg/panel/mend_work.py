"""Mending on the worker thread: the network's probabilities before the first mark, measures after each; no Qt, no MRML.

The marks themselves take a fraction of a second and run on the main thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..progress import Reporter
from ..provenance import Mend, Provenance
from ..refinement.mending import Session, mended_result, prior_of
from ..refinement.prior import Prior
from ..result import Result
from ..scene.masks import labels_of
from ..scene.nodes import owned_volume
from ..scene.prepared import PreparedSegments, prepare_segments
from ..volume.checks import check_volume
from ..volume.types import Volume
from .work import ChosenModel


@dataclass(frozen=True, eq=False)
class Opened:
    """A session, ready for marks.

    Attributes:
        session: labels and probabilities.
        volume: the scan, copied.
        before: the result that is mended.
    """

    session: Session
    volume: Volume
    before: Result


def open_session(
    view: Volume,
    masks: Mapping[str, Any],
    provenance: Provenance,
    chosen: ChosenModel,
    reporter: Reporter,
) -> Opened:
    """Run the network that made the result once in the result's window, and prepare for marks.

    Without that network, the labels alone guide the change.

    Args:
        view: the scan; its array is a view of the node's voxels.
        masks: current segments, see :func:`~heartseg.scene.masks.masks_of`.
        provenance: of the segmentation.
        chosen: the chosen model, for a segmentation that no model of HeartSeg has made.
        reporter: progress and cancel.
    """
    volume = check_volume(owned_volume(view))
    before = Result(labels_of(dict(masks), volume.geometry.shape), volume.geometry, provenance=provenance)
    segmenter = chosen.segmenter_of(provenance, reporter)
    prior = Prior.unknown() if segmenter is None else prior_of(volume, before, segmenter, reporter)
    session = Session(before.labels, before.geometry, prior)
    session.mender.hold([mark for mend in provenance.mends for mark in mend.marks])
    return Opened(session, volume, before)


def measure_mended(
    opened: Opened, labels: np.ndarray, mend: Mend, is_current: Callable[[], bool], reporter: Reporter
) -> tuple[Result, PreparedSegments] | None:
    """Measure, check and make surfaces of mended labels; ``None`` if another mark has come meanwhile."""
    if not is_current():
        return None
    result = mended_result(opened.volume, opened.before, labels, mend)
    return (result, prepare_segments(result, reporter)) if is_current() else None
