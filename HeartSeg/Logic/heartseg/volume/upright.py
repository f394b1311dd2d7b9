"""Resample a scan onto a rectangular grid along the patient axes with cubic voxels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..findings import Finding, Severity
from ..wording import _
from .geometry import Geometry
from .types import Volume

MAX_VOXELS = 1 << 30


def resample_upright(volume: Volume, spacing_mm: float) -> Volume:
    """Interpolate a scan linearly onto the LPS-aligned grid that contains all of it.

    Use it for grids that are refused (sheared axes) or finer than needed (very large scans).

    Args:
        volume: array ``(z, y, x)``; its direction need not be orthogonal.
        spacing_mm: edge of the new voxels; increased if there would be more than 2^30 of them.

    Returns:
        A volume of the same dtype with a finding; voxels outside the old grid have the lowest value.
    """
    from scipy.ndimage import affine_transform

    corners = volume.geometry.corners()
    low, high = corners.min(0), corners.max(0)
    spacing = max(spacing_mm, float((np.prod(high - low) / MAX_VOXELS) ** (1 / 3)))
    size = np.maximum(1, np.round((high - low) / spacing)).astype(int)
    origin = (low + high) / 2 - (size - 1) / 2 * spacing
    x, y, z = (int(n) for n in size)
    ox, oy, oz = (float(v) for v in origin)
    geometry = Geometry((z, y, x), (spacing,) * 3, (ox, oy, oz))
    start = volume.geometry.world_to_index(origin)
    steps = [volume.geometry.world_to_index(origin + np.eye(3)[2 - k] * spacing) - start for k in range(3)]
    array = affine_transform(
        volume.array,
        np.stack(steps, axis=1),
        start,
        geometry.shape,
        order=1,
        mode="constant",
        cval=float(volume.array.min()),
    )
    note = Finding(
        "resampled",
        Severity.INFO,
        _("the scan was resampled from {edges} mm to {spacing:.3g} mm along the patient's axes before the run").format(
            edges=" x ".join(f"{s:.3g}" for s in volume.geometry.spacing), spacing=spacing
        ),
        values={"spacing_mm": round(spacing, 4)},
    )
    return replace(volume, array=array, geometry=geometry).with_findings(note)
