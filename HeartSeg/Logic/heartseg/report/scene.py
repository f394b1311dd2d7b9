"""What the interactive viewer of a report shows: scan around the heart, labels and surfaces, small enough to embed."""

from __future__ import annotations

import gzip
import struct

import numpy as np
from scipy import ndimage

from ..measure.boxes import LabelCrop
from ..volume.geometry import Geometry, to_nearest_lps
from ..volume.types import Volume
from .model import Scene, Surface

LARGEST_VOXELS = 1_300_000
_MARGIN_MM = 25.0
_GREY_STEP = 4
"""Grey values are rounded to multiples: 64 levels compress better, and the eye sees no difference."""
_MZ3_MAGIC = 23117


def scene_of(
    volume: Volume | None,
    window: tuple[float, float] | None,
    crop: LabelCrop,
    labels: np.ndarray,
    geometry: Geometry,
    surfaces: tuple[Surface, ...],
) -> Scene:
    """Return the scene of a heart.

    Args:
        volume, window: the scan and its display window; ``None`` without the scan.
        crop: crop of the labels.
        labels, geometry: uint8 ``(z, y, x)`` and its grid.
        surfaces: for the 3D view.
    """
    margins = [int(np.ceil(_MARGIN_MM / step)) for step in geometry.spacing[::-1]]
    box = tuple(
        slice(max(0, b.start - m), min(n, b.stop + m)) for b, m, n in zip(crop.box, margins, labels.shape, strict=True)
    )
    z, y, x = box
    flip, grid = to_nearest_lps(geometry.cropped((z, y, x)))
    part = flip.apply(labels[box])
    shape = _smaller(part.shape, grid.spacing)
    grey = None
    if volume is not None and window is not None:
        low, high = window
        values = np.clip((np.asarray(flip.apply(volume.array[box]), np.float32) - low) * (255 / (high - low)), 0, 255)
        grey = (np.rint(_resized(values, shape, 1) / _GREY_STEP) * _GREY_STEP).clip(0, 255).astype(np.uint8)
    steps = np.array([(n - 1) / max(1, m - 1) for n, m in zip(part.shape, shape, strict=True)])[::-1]
    sx, sy, sz = (float(v) for v in np.array(grid.spacing) * steps)
    return Scene(grey, _resized(part, shape, 0), Geometry(shape, (sx, sy, sz), grid.origin, grid.direction), surfaces)


def _smaller(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return the shape with at most :data:`LARGEST_VOXELS`, reducing the axes with the smallest steps first."""
    sizes, steps = np.array(shape, float), np.array(spacing[::-1])
    target = float(steps.min())
    while np.prod(np.minimum(sizes, np.ceil(sizes * steps / target))) > LARGEST_VOXELS:
        target *= 1.03
    z, y, x = (int(max(2, n)) for n in np.minimum(sizes, np.ceil(sizes * steps / target)))
    return z, y, x


def _resized(array: np.ndarray, shape: tuple[int, int, int], order: int) -> np.ndarray:
    """Return the array on a grid with the same corners."""
    if array.shape == shape:
        return np.ascontiguousarray(array)
    factors = [(n - 1) / (m - 1) if m > 1 else 1.0 for n, m in zip(array.shape, shape, strict=True)]
    if order:
        array = ndimage.gaussian_filter(array, [0.4 * (f - 1) if f > 1 else 0 for f in factors])
    return np.asarray(ndimage.affine_transform(array, factors, output_shape=shape, order=order, mode="nearest"))


def nifti_gz(array: np.ndarray, geometry: Geometry) -> bytes:
    """Return a compressed NIfTI-1 file of a uint8 array ``(z, y, x)``."""
    header = bytearray(352)
    z, y, x = array.shape
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, x, y, z, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)  # uint8
    struct.pack_into("<8f", header, 76, 1.0, *geometry.spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352.0, 1.0, 0.0)
    header[123] = 2  # mm
    struct.pack_into("<2h", header, 252, 0, 1)  # no qform, sform of the scanner
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine
    struct.pack_into("<12f", header, 280, *to_ras[:3].ravel())
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + np.ascontiguousarray(array, np.uint8).tobytes(), 9, mtime=0)


def mz3(surface: Surface) -> bytes:
    """Return a surface as compressed MZ3 file, in RAS, mm."""
    points = (surface.points * np.array([-1.0, -1.0, 1.0])).astype("<f4")
    head = struct.pack("<2H3I", _MZ3_MAGIC, 3, len(surface.triangles), len(points), 0)
    return gzip.compress(head + surface.triangles.astype("<i4").tobytes() + points.tobytes(), 9, mtime=0)
