"""Orthographic shaded view of the labels from the front, without a graphics library.

Used if there are no surfaces, or if VTK cannot render them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..anatomy import Structure
from ..measure.boxes import crop_labels
from ..volume.geometry import Geometry

VIEW_DIRECTION = np.array([-0.25, 0.95, -0.18])
"""Viewing direction, LPS: posterior, slightly to the right and inferior."""


def view_frame() -> np.ndarray:
    """Unit vectors of the view as rows of a 3x3 matrix, LPS: right, up, and away from the viewer."""
    away = VIEW_DIRECTION / np.linalg.norm(VIEW_DIRECTION)
    right = np.cross(away, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, away), away])


def shaded_projection(
    labels: np.ndarray, geometry: Geometry, structures: Sequence[Structure], pixel_mm: float = 0.7
) -> np.ndarray | None:
    """Render the labels by ray casting along :data:`VIEW_DIRECTION`.

    The first labelled voxel of each ray determines the colour. Its normal is the gradient of the smoothed mask; shading
    is Lambertian with a light next to the viewer and decreases with depth.

    Args:
        labels: uint8 ``(z, y, x)`` on ``geometry``.
        structures: structures to draw.
        pixel_mm: sampling distance along all three axes of the view, mm.

    Returns:
        RGBA float ``(rows, columns, 4)``, 0-1, top row first, with a transparent background; ``None`` if empty.
    """
    crop = crop_labels(labels, geometry)
    wanted = np.zeros(256, np.uint8)
    wanted[[s.label for s in structures]] = [s.label for s in structures]
    crop = crop_labels(wanted[crop.labels], crop.geometry) if crop is not None else None
    if crop is None:
        return None
    frame = view_frame()
    corners = crop.geometry.corners() @ frame.T
    low, high = corners.min(axis=0) - 2.0, corners.max(axis=0) + 2.0
    step = max(pixel_mm, float(np.prod(high - low) / 8e6) ** (1 / 3))
    columns_out, rows_out, depth_out = (int(n) for n in np.ceil((high - low) / step))
    # Affine map from the view (rows down, columns right, depth away from the viewer) to indices of the crop.
    right, up, away = frame
    origin = low[0] * right + high[1] * up + low[2] * away
    to_index = crop.geometry.world_to_index
    steps = np.stack([to_index(origin + step * d) - to_index(origin) for d in (-up, right, away)], axis=1)
    seen = ndimage.affine_transform(
        crop.labels, steps, to_index(origin), (rows_out, columns_out, depth_out), order=0, mode="constant"
    )
    sigma = max(0.9, 0.5 * max(geometry.spacing)) / step
    smooth = ndimage.gaussian_filter((seen > 0).astype(np.float32), sigma, mode="constant")
    solid = smooth > 0.5
    hit, depth = solid.any(axis=2), solid.argmax(axis=2)
    rows, columns = np.nonzero(hit)
    at = np.array((rows, columns, depth[rows, columns]))
    normal = _gradient_at(ndimage.gaussian_filter(smooth, 1.5 / step, mode="constant"), at)
    # The smoothed surface may lie just outside the voxels: sample the label slightly below the surface.
    inside = np.round(at + (1.5 * sigma) * normal.T).astype(int)
    inside = np.clip(inside, 0, np.array(seen.shape)[:, None] - 1)
    label = seen[tuple(inside)]
    label = np.where(label > 0, label, ndimage.maximum_filter(seen, 5)[tuple(inside)])
    light = np.array([0.45, 0.25, 0.85])  # (row, column, depth): from the upper left in front
    light /= np.linalg.norm(light)
    lambert = np.clip(normal @ light, 0.0, 1.0)
    nearness = 1.0 - 0.35 * (at[2] - at[2].min()) / max(float(np.ptp(at[2])), 1.0)
    palette = np.zeros((256, 3))
    for s in structures:
        palette[s.label] = np.asarray(s.color) / 255
    shade = (0.28 + 0.72 * lambert) * nearness
    image = np.zeros((*hit.shape, 4))
    image[rows, columns, :3] = palette[label] * shade[:, None] + 0.18 * (lambert[:, None] ** 12)
    image[rows, columns, 3] = 1.0
    return np.clip(image, 0.0, 1.0)


def _gradient_at(field: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Unit gradient ``(n, 3)`` of a 3D field at integer positions ``(3, n)``, by central differences."""
    parts = []
    for axis in range(3):
        ahead, behind = at.copy(), at.copy()
        ahead[axis] = np.minimum(at[axis] + 1, field.shape[axis] - 1)
        behind[axis] = np.maximum(at[axis] - 1, 0)
        parts.append(field[tuple(ahead)] - field[tuple(behind)])
    gradient = np.stack(parts, axis=-1).astype(float)
    return gradient / (np.linalg.norm(gradient, axis=-1, keepdims=True) + 1e-9)
