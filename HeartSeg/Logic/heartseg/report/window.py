"""Which grey values pictures show as black and as white."""

from __future__ import annotations

import numpy as np

from ..anatomy import structure
from ..measure.boxes import LabelCrop
from ..volume.types import Volume
from ..volume.values import ValueScale

FAT_HU, MUSCLE_HU = -100.0, 50.0
"""Typical levels of fat and of muscle without contrast medium."""
_MUSCLE_HU, _BLOOD_HU = (0.0, 250.0), (20.0, 900.0)
"""Levels outside do not belong to the tissue: the labels are wrong, and the typical level is used."""
_BELOW_FAT, _ABOVE_BLOOD = 60.0, 200.0
_PERCENTILES = (2.0, 98.0)
_BLOOD = ("LV", "LA", "AO")


def display_window(volume: Volume, crop: LabelCrop | None) -> tuple[float, float]:
    """Return the grey values shown black and white, so that fat, muscle and blood differ.

    In CT, the window extends from below fat to above blood; the levels of muscle and blood are medians inside the
    labels. Without contrast medium, this is the usual window of the mediastinum. In other scans, it extends from well
    below the myocardium to above the blood if the blood is clearly brighter, else over the values around the heart.

    Args:
        volume: the scan.
        crop: crop of the labels on the grid of the scan; ``None`` without labels.
    """
    wall, wall_sd = _level(volume, ("MYO",), crop)
    levels = [_level(volume, (key,), crop)[0] for key in _BLOOD]
    blood = max(levels, key=lambda level: -np.inf if np.isnan(level) else level)
    scale = volume.value_scale
    if scale is ValueScale.HOUNSFIELD:
        return _ct_window(wall, blood, 0.0)
    if scale is ValueScale.OFFSET:
        return _ct_window(wall, blood, 1000.0)
    near = volume.array if crop is None else crop.take(volume.array)
    sample = near.reshape(-1)[:: max(1, near.size // 200_000)].astype(float)
    low, high = (float(v) for v in np.percentile(sample, _PERCENTILES))
    if blood - wall > 0.5 * wall_sd:
        step = max(blood - wall, 1.5 * wall_sd)  # noise and weak contrast need a wider window
        low, high = max(low, wall - 1.5 * step), min(max(high, wall + step), wall + 1.8 * step)
    return (low, high) if high > low else (low, low + 1.0)  # a constant image is shown black


def _ct_window(wall: float, blood: float, offset: float) -> tuple[float, float]:
    """Return the window of a CT whose values are Hounsfield units plus ``offset``; NaN levels are unknown."""
    wall, blood = wall - offset, blood - offset
    wall = wall if _MUSCLE_HU[0] <= wall <= _MUSCLE_HU[1] else MUSCLE_HU
    blood = blood if _BLOOD_HU[0] <= blood <= _BLOOD_HU[1] else wall
    high = max(blood, wall) + max(_ABOVE_BLOOD, 0.6 * (blood - wall))
    return FAT_HU - _BELOW_FAT + offset, high + offset


def _level(volume: Volume, keys: tuple[str, ...], crop: LabelCrop | None) -> tuple[float, float]:
    """Return median and robust standard deviation inside structures; NaN if they have no voxels."""
    if crop is None:
        return float("nan"), float("nan")
    inside = np.isin(crop.labels, [structure(key).label for key in keys])
    values = np.asarray(crop.take(volume.array)[inside], float)
    values = values[:: max(1, values.size // 100_000)]
    if not values.size:
        return float("nan"), float("nan")
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))
