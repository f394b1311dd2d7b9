"""Labels of which the network is sure: those of low probability become background before they are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError, SettingsError
from ..formats import CONFIDENCE_FILE
from ..volume.label_maps import LabelMap, read_whole_numbers
from ..volume.types import Volume


def check_threshold(threshold: float | None, confidence: object) -> None:
    """Check that the threshold is a probability, and that a map has one.

    Raises:
        SettingsError: it is not, or it is missing.
    """
    if threshold is None:
        if confidence is not None:
            raise SettingsError("a confidence map has no effect without a threshold: add one, such as 0.8")
    elif not 0 < threshold < 1:
        raise SettingsError(f"threshold {threshold:g} is not a probability: give one between 0 and 1, such as 0.8")


def sure_labels(found: LabelMap, threshold: float, confidence: str | Path | Volume | None = None) -> LabelMap:
    """Set labels whose probability is below a threshold to background.

    Args:
        found: the labels, as read or given.
        threshold: lowest probability that counts, 0 to 1.
        confidence: map of the probability of each voxel's label, percent ``(z, y, x)`` on the grid of the labels;
            ``None`` takes the file beside the labels that ``heartseg segment --format labels,confidence`` wrote.

    Raises:
        InputError: there is no map, or it is not on the grid of the labels, or it is not in percent.
    """
    if isinstance(confidence, Volume):
        percent, geometry, name = confidence.array, confidence.geometry, confidence.name
    else:
        path = Path(confidence) if confidence is not None else Path(found.path or ".").parent / CONFIDENCE_FILE
        if not path.is_file():
            missing = f"{str(path)!r} does not exist"
            if confidence is None:
                missing = f"{found.name!r} has no confidence map {path.name!r} beside it"
            raise InputError(f"{missing}: segment with --format labels,confidence, or name the map with --confidence")
        percent, geometry, _ = read_whole_numbers(path)
        name = path.name
    if not geometry.same_grid(found.geometry, 0.01 * min(geometry.spacing)):
        raise InputError(f"{name!r} is not on the grid of {found.name!r}: give the map of the same run")
    if percent.size and (percent.min() < 0 or percent.max() > 100):
        raise InputError(f"{name!r} has values outside 0-100: a confidence map is in percent")
    dropped = (found.labels > 0) & (percent < 100 * threshold)
    lost = np.count_nonzero(dropped) * found.geometry.voxel_volume_ml
    notice = f"{lost:.1f} mL of {found.name!r} have a probability below {threshold:g} and count as background"
    return replace(found, labels=np.where(dropped, np.uint8(0), found.labels), notices=(*found.notices, notice))
