"""What the numbers in a scan mean: Hounsfield units or another scale, and whether they are finite.

Every part of HeartSeg that asks one of these questions calls this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import numpy as np

from ..errors import InputError
from ..findings import Finding, Severity

HU_AIR = -500.0
"""Half-way between lung and soft tissue: a scan that reaches below holds lung or air in Hounsfield units."""
HU_FAT = -50.0
"""Fat lies below. A CT cropped to the mediastinum holds no air, but it holds fat."""
HU_LIMIT = 32000.0
"""Values above are no Hounsfield units: metal ends at about 30000 in extended CT scales."""
FAT_SHARE = 0.005
"""Share of voxels below :data:`HU_FAT` that a stated CT without air must have."""
HU_DENSE = 700.0
"""A quarter of the voxels of a CT in Hounsfield units is never above this: soft tissue ends far below. With the usual
offset of 1024, soft tissue alone lies above it."""
MAX_NONFINITE_SHARE = 0.01
"""Padding and single defects are replaced; an image with more NaN than this is refused."""

_SAMPLE = 2**20  # voxels that the percentiles are taken over, at most


class ValueScale(str, Enum):
    """The scale of a scan's grey values.

    ``HOUNSFIELD``: CT numbers, air at -1000, water at 0. ``OFFSET``: stated to be CT, with the values of CT numbers
    plus about 1000. ``ARBITRARY``: anything else (MR, a windowed picture, normalised values).
    """

    HOUNSFIELD = "hounsfield"
    OFFSET = "offset"
    ARBITRARY = "arbitrary"


def value_scale(array: np.ndarray, modality: str = "") -> ValueScale:
    """Scale of a scan's values, judged by their range and, for a stated CT without air, by their distribution.

    Args:
        array: ``(z, y, x)``, any real dtype, finite.
        modality: ``"CT"``, ``"MR"`` or ``""`` if unknown.
    """
    if modality == "MR" or array.size == 0:
        return ValueScale.ARBITRARY
    lowest, highest = float(array.min()), float(array.max())
    if highest >= HU_LIMIT:
        return ValueScale.ARBITRARY
    if lowest <= HU_AIR:
        return ValueScale.HOUNSFIELD
    if modality != "CT" or array.dtype.itemsize == 1:
        return ValueScale.ARBITRARY
    low, quarter = np.quantile(_sample(array), (FAT_SHARE, 0.75))
    if low <= HU_FAT and quarter <= HU_DENSE:
        return ValueScale.HOUNSFIELD
    return ValueScale.OFFSET if HU_DENSE < quarter < 2 * HU_DENSE else ValueScale.ARBITRARY


def _sample(array: np.ndarray) -> np.ndarray:
    """Every n-th voxel along each axis, :data:`_SAMPLE` at most."""
    step = max(1, int(np.ceil((array.size / _SAMPLE) ** (1 / 3))))
    return array[::step, ::step, ::step]


def slabs(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array ``(z, y, x)`` in views of about 8 million voxels, so that temporary arrays stay small."""
    step = max(1, (1 << 23) // max(1, array[0].size))
    for start in range(0, array.shape[0], step):
        yield array[start : start + step]


def replace_nonfinite(array: np.ndarray, name: str) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """The array with NaN and infinite voxels set to the lowest finite value, and a finding; itself if all are finite.

    Args:
        array: ``(z, y, x)``, any real dtype; not modified.
        name: of the scan, for messages.

    Raises:
        InputError: more than :data:`MAX_NONFINITE_SHARE` of the voxels are NaN or infinite.
    """
    if array.dtype.kind != "f":
        return array, ()
    bad = sum(int(slab.size - np.count_nonzero(np.isfinite(slab))) for slab in slabs(array))
    if bad == 0:
        return array, ()
    share = bad / array.size
    if share > MAX_NONFINITE_SHARE:
        raise InputError(
            f"{bad} voxels of {name!r} ({share:.1%}) are NaN or infinite: at most {MAX_NONFINITE_SHARE:.0%} can be "
            "replaced; export the scan again"
        )
    lowest = min(slab[np.isfinite(slab)].min(initial=np.inf) for slab in slabs(array))
    finite = array.copy()
    for slab in slabs(finite):
        slab[~np.isfinite(slab)] = lowest
    finding = Finding(
        "nan-replaced",
        Severity.WARNING,
        f"{bad} voxels ({share:.2%}) were NaN or infinite; they were replaced by the lowest value, {lowest:g}",
        values={"voxels": bad, "share": share, "value": float(lowest)},
    )
    return finite, (finding,)
