"""Meaning of the values of a scan: Hounsfield units or another scale, and whether all are finite.

All parts of HeartSeg use this module to answer these questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import numpy as np

from ..errors import InputError
from ..findings import Finding, Severity
from ..wording import _

HU_AIR = -500.0
"""Midpoint between lung and soft tissue: a scan in Hounsfield units with lower values contains lung or air."""
HU_FAT = -50.0
"""Fat has lower values. A CT cropped to the mediastinum contains no air, but fat."""
HU_LIMIT = 32000.0
"""Higher values are not Hounsfield units: metal reaches about 30000 in extended CT scales."""
FAT_SHARE = 0.005
"""Minimum fraction of voxels below :data:`HU_FAT` in a scan stated to be CT that contains no air."""
HU_PADDING = -4000.0
"""Lower values are padding (-2000 or -3024 are usual); if nine tenths of the voxels are no denser than air, all values
are wrong, e.g. unsigned values read as signed ones."""
HU_DENSE = 700.0
"""In a CT in Hounsfield units, a quarter of the voxels is never above this value, because soft tissue has much lower
values. With the usual offset of 1024, soft tissue alone exceeds it."""
MAX_NONFINITE_SHARE = 0.01
"""Padding and single defects are replaced; an image with a larger fraction of NaN is refused."""

_SAMPLE = 2**20  # maximum number of voxels for percentiles


class ValueScale(str, Enum):
    """Scale of the grey values of a scan.

    ``HOUNSFIELD``: CT numbers, air at -1000, water at 0. ``OFFSET``: stated to be CT, with values of CT numbers plus
    about 1000. ``ARBITRARY``: anything else (MR, a windowed image, normalised values).
    """

    HOUNSFIELD = "hounsfield"
    OFFSET = "offset"
    ARBITRARY = "arbitrary"


def value_scale(array: np.ndarray, modality: str = "") -> ValueScale:
    """Return the scale of the values, from their range and, for a stated CT without air, from their distribution.

    Args:
        array: ``(z, y, x)``, any real dtype, finite.
        modality: ``"CT"``, ``"MR"`` or ``""`` if unknown.
    """
    if modality == "MR" or array.size == 0:
        return ValueScale.ARBITRARY
    lowest, highest = float(array.min()), float(array.max())
    if highest >= HU_LIMIT or (lowest < HU_PADDING and np.quantile(_sample(array), 0.9) < HU_AIR):
        return ValueScale.ARBITRARY
    if lowest <= HU_AIR:
        return ValueScale.HOUNSFIELD
    if modality != "CT" or is_picture(array):
        return ValueScale.ARBITRARY
    low, quarter = np.quantile(_sample(array), (FAT_SHARE, 0.75))
    if low <= HU_FAT and quarter <= HU_DENSE:
        return ValueScale.HOUNSFIELD
    return ValueScale.OFFSET if HU_DENSE < quarter < 2 * HU_DENSE else ValueScale.ARBITRARY


def is_picture(array: np.ndarray) -> bool:
    """Return whether a scan has 8-bit grey values, as copies for viewing have, whose window has clipped values."""
    return array.dtype.itemsize == 1


def evident_modality(array: np.ndarray, modality: str = "") -> str:
    """Return ``"CT"`` or ``"MR"`` if the stated modality or the values are unambiguous, else ``""``.

    Values in Hounsfield units are CT. Values that are never negative are not in Hounsfield units and count as MR.

    Args:
        array: ``(z, y, x)``, any real dtype, finite.
        modality: stated modality; one other than ``"CT"`` and ``"MR"`` counts as none.
    """
    if modality in ("CT", "MR"):
        return modality
    if value_scale(array) is ValueScale.HOUNSFIELD:
        return "CT"
    return "MR" if float(array.min()) >= 0 else ""


def _sample(array: np.ndarray) -> np.ndarray:
    """Return every n-th voxel along each axis, at most :data:`_SAMPLE` voxels."""
    step = max(1, int(np.ceil((array.size / _SAMPLE) ** (1 / 3))))
    return array[::step, ::step, ::step]


def slabs(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield views of the array ``(z, y, x)`` of about 8 million voxels, which keeps temporary arrays small."""
    step = max(1, (1 << 23) // max(1, array[0].size))
    for start in range(0, array.shape[0], step):
        yield array[start : start + step]


def replace_nonfinite(array: np.ndarray, name: str) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """Replace NaN and infinite voxels by the lowest finite value, with a finding; a finite array is returned as it is.

    Args:
        array: ``(z, y, x)``, any real dtype; not modified.
        name: name of the scan, for messages.

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
            _(
                "{bad} voxels of {name!r} ({share:.1%}) are NaN or infinite: at most "
                "{limit:.0%} can be replaced; export the scan again"
            ).format(bad=bad, name=name, share=share, limit=MAX_NONFINITE_SHARE)
        )
    lowest = min(slab[np.isfinite(slab)].min(initial=np.inf) for slab in slabs(array))
    finite = array.copy()
    for slab in slabs(finite):
        slab[~np.isfinite(slab)] = lowest
    finding = Finding(
        "nan-replaced",
        Severity.WARNING,
        _("{bad} voxels ({share:.2%}) were NaN or infinite; they were replaced by the lowest value, {lowest:g}").format(
            bad=bad, share=share, lowest=lowest
        ),
        values={"voxels": bad, "share": share, "value": float(lowest)},
    )
    return finite, (finding,)
