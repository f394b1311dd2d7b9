"""Prediction, reference and mask on one grid: the reference's, in axes nearest to LPS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..volume import itk
from ..volume.geometry import Geometry, to_nearest_lps
from ..volume.label_maps import LabelMap, read_whole_numbers
from ..volume.types import Volume

SAME_GRID = 0.01
"""Share of the smallest voxel edge by which two grids may differ and still count as one."""


@dataclass(frozen=True, eq=False)
class CommonGrid:
    """What is compared.

    Attributes:
        pred, truth: uint8 labels ``(z, y, x)`` on ``geometry``.
        inside: bool ``(z, y, x)``, where voxels count; ``None`` where all do.
        geometry: the reference's grid, axes nearest to LPS.
        notices: what was done to bring them there, one sentence each.
    """

    pred: np.ndarray
    truth: np.ndarray
    inside: np.ndarray | None
    geometry: Geometry
    notices: tuple[str, ...]


def bring_together(pred: LabelMap, truth: LabelMap, mask: str | Path | Volume | None) -> CommonGrid:
    """Turn all to nearest LPS axes; what lies on another grid than the reference is resampled to the nearest voxel.

    Raises:
        InputError: a grid does not overlap the reference's, or the mask cannot be read or leaves nothing to compare.
    """
    truth_array, geometry = _turned(truth.labels, truth.geometry)
    pred_array, notices = _onto(pred.labels, pred.geometry, geometry, pred.name, truth.name)
    inside = None
    if mask is not None:
        inside, more = _mask(mask, geometry, truth)
        notices += more
    return CommonGrid(pred_array, truth_array, inside, geometry, notices)


def _turned(array: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    flip, turned = to_nearest_lps(geometry)
    return np.ascontiguousarray(flip.apply(array)), turned


def _onto(
    array: np.ndarray, geometry: Geometry, target: Geometry, name: str, truth: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a uint8 array (at most 254) on the target grid."""
    turned, grid = _turned(array, geometry)
    if grid.same_grid(target, SAME_GRID * min(target.spacing)):
        return turned, ()
    shifted = _nearest(turned + np.uint8(1), grid, target)  # 0 is left for what the grid does not cover
    covered = np.count_nonzero(shifted) / shifted.size
    if not covered:
        raise InputError(
            f"grids of {name!r} and {truth!r} do not overlap in space: they are of different scans, or one lost its "
            "origin or orientation on export"
        )
    notices = [f"{name!r} lies on another grid than {truth!r}: resampled onto that one (nearest voxel)"]
    if covered < 0.999:
        notices.append(f"{name!r} covers {covered:.0%} of the grid of {truth!r}: the rest counts as background in it")
    if lost := _outside_ml(turned, grid, target):
        notices.append(f"{lost:.1f} mL of {name!r} lie outside the grid of {truth!r} and do not count")
    return np.where(shifted > 0, shifted - np.uint8(1), np.uint8(0)), tuple(notices)


def _nearest(array: np.ndarray, grid: Geometry, target: Geometry) -> np.ndarray:
    import SimpleITK as sitk

    resample = sitk.ResampleImageFilter()
    resample.SetSize(target.size)
    resample.SetOutputSpacing(target.spacing)
    resample.SetOutputOrigin(target.origin)
    resample.SetOutputDirection(target.direction)
    resample.SetInterpolator(sitk.sitkNearestNeighbor)
    return np.array(itk.array_of(resample.Execute(itk.image_of(array, grid))))


def _outside_ml(array: np.ndarray, grid: Geometry, target: Geometry) -> float:
    """Return labelled volume whose voxel centres lie outside the target grid, mL."""
    points = target.world_to_index(grid.index_to_world(np.argwhere(array)))
    outside = ((points < -0.5) | (points > np.array(target.shape) - 0.5)).any(axis=1)
    return float(np.count_nonzero(outside)) * grid.voxel_volume_ml


def _mask(mask: str | Path | Volume, target: Geometry, truth: LabelMap) -> tuple[np.ndarray, tuple[str, ...]]:
    if isinstance(mask, Volume):
        array, geometry, name = mask.array, mask.geometry, mask.name
    else:
        array, geometry, _ = read_whole_numbers(Path(mask))
        name = Path(mask).name
    inside, notices = _onto((array != 0).astype(np.uint8), geometry, target, name, truth.name)
    return inside > 0, notices
