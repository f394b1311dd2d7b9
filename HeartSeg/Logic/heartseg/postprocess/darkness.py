"""Removal of labels from dark regions: fat, lung and air in CT, black in windowed images.

In HU, blood and myocardium are brighter than fat. In a windowed image, fat and lung are black before blood and
myocardium are. Networks tend to extend thin walls into such regions, so labels there are removed. MR is not changed,
because fat may be bright and blood dark.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..anatomy import STRUCTURES
from ..measure.boxes import crop_labels
from ..result import Removal
from ..volume.types import Volume
from ..volume.values import ValueScale

TISSUE_HU = -30.0
"""Midway between fat (-100 HU) and unenhanced blood (40 HU)."""
BLACK_SHARE = 0.2
"""Minimum share of voxels with the lowest value in a windowed image, where air and lung are black."""
BLACK_REACH = 0.06
"""Black range above the lowest value, relative to the range from the lowest value to the 99.5th percentile."""
SMOOTHING_MM = 3.0
"""Edge length of the mean filter that reduces noise."""
AT_MOST = 0.45
"""Maximum share of a structure that is removed; a larger dark share means that the assumptions do not hold."""
TOO_DARK = "as dark as fat, lung or air"


def darkest_tissue(volume: Volume) -> float | None:
    """Value below which a voxel is not heart; ``None`` if unknown (MR, or neither HU nor windowed)."""
    if volume.modality == "MR":
        return None
    if volume.value_scale is ValueScale.HOUNSFIELD:
        return TISSUE_HU
    lowest = float(volume.array.min())
    sample = volume.array[::2, ::2, ::2]
    if float((sample == lowest).mean()) < BLACK_SHARE:
        return None
    return lowest + BLACK_REACH * (float(np.percentile(sample, 99.5)) - lowest)


def remove_dark(labels: np.ndarray, volume: Volume, in_place: bool = False) -> tuple[np.ndarray, tuple[Removal, ...]]:
    """Remove labelled voxels that are too dark for the heart, unless a structure would lose more than :data:`AT_MOST`.

    Args:
        labels: uint8 ``(z, y, x)``.
        volume: the scan on the same grid.
        in_place: change ``labels`` instead of a copy.

    Returns:
        The labels, the same array if nothing changes, and one removal per structure.
    """
    limit = darkest_tissue(volume)
    crop = crop_labels(labels, volume.geometry)
    if limit is None or crop is None:
        return labels, ()
    cleaned, removals = labels if in_place else np.array(labels, np.uint8), []
    work, image = cleaned[crop.box], volume.array[crop.box].astype(np.float32)
    sizes = [max(1, round(SMOOTHING_MM / s)) for s in volume.geometry.spacing[::-1]]
    dark = ndimage.uniform_filter(image, sizes, mode="nearest") < limit
    for s in STRUCTURES:
        mask = work == s.label
        removed = mask & dark
        count = int(removed.sum())
        if not count or count > AT_MOST * int(mask.sum()):
            continue
        index = np.argwhere(removed).mean(0) + [b.start for b in crop.box]
        x, y, z = (round(float(v), 3) for v in volume.geometry.index_to_world(index))
        removals.append(Removal(s.key, count, count * volume.geometry.voxel_volume_ml, (x, y, z), TOO_DARK))
        work[removed] = 0
    return cleaned, tuple(removals)
