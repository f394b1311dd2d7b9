"""Preprocessing as nnU-Net v2 does it: stored axes, whole image, cubic splines.

For folders without a card, and for comparing with stock nnU-Net. Formulas follow nnU-Net 2.8's default preprocessor and
resampling; the cubic spline is scipy's, which is what skimage's ``resize`` calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..models.folder import ModelFolder
from ..progress import Reporter
from .normalize import fit
from .resample import Reduction, area_weights, nearest_index, nearest_weights, reduced_separable

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_ANISOTROPY = 3.0  # nnU-Net's threshold for resampling the coarse axis separately


@dataclass(frozen=True)
class Prepared:
    """A preprocessed case.

    Attributes:
        image: float32 ``(1, z, y, x)`` in the network's (transposed) axes and spacing.
        box: where the crop lies in the transposed array, ``(z, y, x)`` slices.
        shape_before_crop: shape of the transposed array.
        spacing: spacing of the transposed array, mm.
    """

    image: np.ndarray
    box: tuple[slice, ...]
    shape_before_crop: tuple[int, ...]
    spacing: tuple[float, ...]


def separate_axis(current: tuple[float, ...], new: tuple[float, ...], forced: bool | None) -> int | None:
    """The coarse axis that nnU-Net resamples separately (nearest neighbour along it), or ``None``."""
    if forced is False:
        return None
    for spacing in (current, new) if forced is None else (current,):
        if forced or max(spacing) / min(spacing) > _ANISOTROPY:
            coarse = [a for a, s in enumerate(spacing) if s == max(spacing)]
            return coarse[0] if len(coarse) == 1 else None
    return None


def resize_spline(image: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """Spline resize with edges extended, values kept in the input's range."""
    from scipy.ndimage import zoom

    if image.shape == tuple(shape):
        return image
    factors = [n / o for n, o in zip(shape, image.shape, strict=True)]
    out = zoom(image.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(out, image.min(), image.max()).astype(np.float32)


def resample_image(image: np.ndarray, shape: tuple[int, ...], axis: int | None, order: int, order_z: int) -> np.ndarray:
    """Resize ``(z, y, x)``; with ``axis``, slice by slice in plane and by ``order_z`` along that axis."""
    if axis is None or image.shape == tuple(shape):
        return resize_spline(image, shape, order)
    plane = [n for a, n in enumerate(shape) if a != axis]
    slices = [resize_spline(s, tuple(plane), order) for s in np.moveaxis(image, axis, 0)]
    out = np.moveaxis(np.stack(slices), 0, axis)
    count = shape[axis]
    if count == out.shape[axis]:
        return out
    if order_z == 0:
        return np.take(out, nearest_index(_positions(count, out.shape[axis]), out.shape[axis]), axis)
    tall = [out.shape[a] if a != axis else count for a in range(3)]
    return resize_spline(out, tuple(tall), order_z)


def prepare(array: np.ndarray, spacing_zyx: tuple[float, ...], folder: ModelFolder, reporter: Reporter) -> Prepared:
    """Transpose, crop to non-zero, normalise, resample, in nnU-Net's order.

    Args:
        array: ``(z, y, x)`` scan in stored axes.
        spacing_zyx: its spacing, mm.
    """
    from scipy.ndimage import binary_fill_holes

    turned = array.transpose(folder.transpose_forward)
    spacing = tuple(float(spacing_zyx[a]) for a in folder.transpose_forward)
    mask = turned != 0
    if not mask.all():
        mask = binary_fill_holes(mask)
    box = _nonzero_box(mask)
    crop, mask = turned[box], mask[box]
    reporter.check()
    image = _normalized(crop, mask, folder)
    shape = tuple(round(s / t * n) for s, t, n in zip(spacing, folder.spacing, crop.shape, strict=True))
    _, options = folder.resampling_data
    axis = separate_axis(spacing, folder.spacing, options.get("force_separate_z"))
    reporter.check()
    image = resample_image(image, shape, axis, options.get("order", 3), options.get("order_z", 0))
    return Prepared(np.ascontiguousarray(image)[None], box, turned.shape, spacing)


def _normalized(crop: np.ndarray, mask: np.ndarray, folder: ModelFolder) -> np.ndarray:
    """As nnU-Net: with ``use_mask_for_norm``, z-scores are taken over the mask and leave the rest untouched."""
    scheme = folder.normalization_schemes[0]
    if scheme == "ZScoreNormalization" and folder.use_mask_for_norm[0]:
        image = crop.astype(np.float32)
        image[mask] = fit(scheme, image[mask], {}).apply(image[mask])
        return image
    return fit(scheme, crop, folder.foreground_intensity_properties_per_channel.get("0", {})).apply(crop)


def reduced_in_stored_axes(
    channels: np.ndarray,
    prepared: Prepared,
    folder: ModelFolder,
    reduction: Reduction,
    reporter: Reporter,
    dtype: DTypeLike = np.uint8,
) -> np.ndarray:
    """Resample and reduce the network's channels ``(c, z, y, x)``: ``(z, y, x)`` of ``dtype`` in stored axes."""
    _, options = folder.resampling_probabilities
    shape = tuple(s.stop - s.start for s in prepared.box)
    axis = separate_axis(folder.spacing, prepared.spacing, options.get("force_separate_z"))
    weights = []
    for a, (new, old) in enumerate(zip(shape, channels.shape[1:], strict=True)):
        position = _positions(new, old)
        nearest = a == axis and options.get("order_z", 0) == 0
        weights.append(nearest_weights(position, old) if nearest else area_weights(position, 1.0, old))
    full = np.zeros(prepared.shape_before_crop, dtype)
    full[prepared.box] = reduced_separable(channels, (weights[0], weights[1], weights[2]), reduction, reporter, dtype)
    return full.transpose(folder.transpose_backward)


def labels_for_network(labels: np.ndarray, prepared: Prepared, folder: ModelFolder) -> np.ndarray:
    """The scan's labels ``(z, y, x)`` at the network's voxels (nearest neighbour), in the network's axes."""
    part = labels.transpose(folder.transpose_forward)[prepared.box]
    for axis, count in enumerate(prepared.image.shape[1:]):
        old = part.shape[axis]
        part = np.take(part, nearest_index(_positions(count, old), old), axis)
    return part


def _positions(new: int, old: int) -> np.ndarray:
    """Centres of ``new`` samples that share the extent of ``old`` ones, in old indices."""
    return old / new * (np.arange(new) + 0.5) - 0.5


def _nonzero_box(mask: np.ndarray) -> tuple[slice, ...]:
    box = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, mask.shape[axis]))
    return tuple(box)
