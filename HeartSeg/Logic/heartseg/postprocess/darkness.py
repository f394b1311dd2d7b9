"""Where the image says that there is no heart: fat, lung and air in CT, the black of a windowed picture.

Blood and myocardium are never as dark as fat in HU, and never blackened by a reading window that fat and lung are
blackened by, unless the window drowns them too. A network that is unsure of a border draws thin walls too thick into
such places; what lies there is taken away. MR is left alone: there, fat may be bright and blood black.
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
"""Half-way between fat (-100 HU) and unenhanced blood (40 HU)."""
BLACK_SHARE = 0.2
"""A scan with at least this share of voxels at its lowest value was cut there: a picture, air and lung are black."""
BLACK_REACH = 0.06
"""Part of the grey scale (lowest to 99.5th percentile) above the lowest value that still is black."""
SMOOTHING_MM = 3.0
"""Edge of the cube that grey values are averaged over first, against noise."""
AT_MOST = 0.45
"""A structure that would lose more than this share stays as it is: then the image is not what it seems."""
TOO_DARK = "as dark as fat, lung or air"


def darkest_tissue(volume: Volume) -> float | None:
    """Grey value below which nothing is heart; None where no such value is known (MR, or no cut and no HU)."""
    if volume.modality == "MR":
        return None
    if volume.value_scale is ValueScale.HOUNSFIELD:
        return TISSUE_HU
    lowest = float(volume.array.min())
    sample = volume.array[::2, ::2, ::2]
    if float((sample == lowest).mean()) < BLACK_SHARE:
        return None
    return lowest + BLACK_REACH * (float(np.percentile(sample, 99.5)) - lowest)


def remove_dark(labels: np.ndarray, volume: Volume) -> tuple[np.ndarray, tuple[Removal, ...]]:
    """Take labelled voxels away that are too dark to be heart; structure by structure, all or nothing.

    Args:
        labels: uint8 ``(z, y, x)``; not modified.
        volume: the scan, on the same grid.

    Returns:
        The labels (the same array where nothing changes) and one removal per structure.
    """
    limit = darkest_tissue(volume)
    crop = crop_labels(labels, volume.geometry)
    if limit is None or crop is None:
        return labels, ()
    cleaned, removals = np.array(labels, np.uint8), []
    work, image = cleaned[crop.box], volume.array[crop.box].astype(np.float32)
    sizes = [max(1, round(SMOOTHING_MM / s)) for s in volume.geometry.spacing[::-1]]
    dark = ndimage.uniform_filter(image, sizes, mode="nearest") < limit
    for s in STRUCTURES:
        held = work == s.label
        out = held & dark
        count = int(out.sum())
        if not count or count > AT_MOST * int(held.sum()):
            continue
        index = np.argwhere(out).mean(0) + [b.start for b in crop.box]
        x, y, z = (round(float(v), 3) for v in volume.geometry.index_to_world(index))
        removals.append(Removal(s.key, count, count * volume.geometry.voxel_volume_ml, (x, y, z), TOO_DARK))
        work[out] = 0
    return cleaned, tuple(removals)
