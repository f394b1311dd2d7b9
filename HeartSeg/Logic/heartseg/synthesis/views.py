"""What a scan and a crop show of a scene: where, how turned and scaled, and where the scan ends.

A view samples the scene on a grid twice as fine as the network's, so that two map voxels an axis give the partial
volume. Beyond the scene, or beyond the drawn field of view, a voxel is ``UNSEEN`` and its target ``IGNORE``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf

from .fields import nearest_index, rotation_matrix, take
from .regions import IGNORE, Region
from .scenes import Scene

SUBDIVISIONS = 2


@dataclass(frozen=True)
class View:
    """A cubic patch: ``size`` voxels of ``spacing`` mm about ``centre`` (scene mm, z y x), turned and zoomed.

    ``fov_low`` and ``fov_high`` bound the scanned part of the patch, in patch voxels (z, y, x). ``elastic`` holds
    displacements (3, n, n, n) in mm on nodes spread evenly over the patch, or is None.
    """

    centre: np.ndarray
    size: int
    spacing: float
    rotation: np.ndarray
    zoom: np.ndarray
    fov_low: np.ndarray
    fov_high: np.ndarray
    elastic: np.ndarray | None = None


def draw_pose(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random turn (SD 6 degrees, at most 15) and zoom (0.88-1.14, little anisotropy)."""
    angles = np.clip(rng.normal(0, 6, 3), -15, 15)
    return rotation_matrix(np.deg2rad(angles)), rng.uniform(0.9, 1.12) * rng.uniform(0.97, 1.03, 3)


def draw_elastic(rng: np.random.Generator, edge: float, node_spacing: float = 48.0) -> np.ndarray | None:
    """Random displacements (SD to 5 mm) for three views in four; ``edge`` of the patch and ``node_spacing`` in mm."""
    if rng.random() < 0.25:
        return None
    n = max(4, round(edge / node_spacing) + 1)
    return (rng.standard_normal((3, n, n, n)) * rng.uniform(0, 5)).astype(np.float32)


def draw_fine_view(rng: np.random.Generator, scene: Scene, size: int = 64, spacing: float = 3.0) -> View:
    """A crop for the fine network: heart centred (to 20 mm), off-centre, or (half of the trunk scenes) away from it."""
    rotation, zoom = draw_pose(rng)
    heart, edge = np.array(scene.heart_centre), size * spacing
    extent = np.array(scene.regions.shape) * scene.spacing
    kind = rng.random()
    away = 0.5 if scene.kind == "trunk" else 0.0
    if kind < away:
        centre = rng.uniform(extent * 0.12, extent * 0.88)
        for _ in range(20):
            if np.abs(centre - heart).max() > edge * 0.6:
                break
            centre = rng.uniform(extent * 0.12, extent * 0.88)
    elif kind < away + 0.17:
        centre = heart + rng.uniform(-75, 75, 3)
    else:
        centre = heart + rng.uniform(-20, 20, 3)
    low, high = np.zeros(3), np.full(3, float(size))
    if rng.random() < 0.3:
        low = np.floor(size * rng.uniform(0, 0.25, 3) * (rng.random(3) < 0.5))
        high = np.ceil(size * (1 - rng.uniform(0, 0.25, 3) * (rng.random(3) < 0.5)))
    return View(centre, size, spacing, rotation, zoom, low, high, draw_elastic(rng, edge))


def draw_finder_view(rng: np.random.Generator, scene: Scene, size: int = 64, spacing: float = 6.0) -> View:
    """A scan for the finder: whole trunk, chest, part of the trunk without the heart, or a small cardiac view."""
    rotation, zoom = draw_pose(rng)
    heart, edge = np.array(scene.heart_centre), size * spacing
    extent = np.array(scene.regions.shape) * scene.spacing
    middle = np.array([heart[0], extent[1] / 2, extent[2] / 2])
    body = middle + rng.uniform(-35, 35, 3)
    low_mm, high_mm = np.full(3, -edge / 2), np.full(3, edge / 2)
    kind = rng.random()
    if kind < 0.3:  # chest
        centre = body + np.array([rng.uniform(-40, 60), 0, 0])
        low_mm[0], high_mm[0] = -rng.uniform(110, 192), rng.uniform(90, 192)
    elif kind < 0.5:  # whole trunk, anywhere
        centre = body
        centre[0] = rng.uniform(0.15, 0.85) * extent[0]
        centre += rng.uniform(-50, 50, 3)
    elif kind < 0.65:  # abdomen or pelvis, no heart; at times its lower edge
        centre = body
        centre[0] = heart[0] - rng.uniform(60, 300)
        high_mm[0] = rng.uniform(20, 192)
        low_mm[0] = -rng.uniform(60, 192)
    elif kind < 0.7:  # neck
        centre = body
        centre[0] = heart[0] + rng.uniform(120, 260)
    else:  # cardiac field of view, heart anywhere inside it
        centre = heart + rng.uniform(-60, 60, 3)
        half = rng.uniform(75, 130, 3)
        shift = np.clip(heart - centre + rng.uniform(-30, 30, 3), -edge / 2 + 60, edge / 2 - 60)
        low_mm, high_mm = shift - half, shift + half
    if rng.random() < 0.3:  # narrow in-plane field of view
        reach = rng.uniform(110, 180)
        low_mm[1:] = np.maximum(low_mm[1:], -reach)
        high_mm[1:] = np.minimum(high_mm[1:], reach)
    low = np.clip(np.floor(low_mm / spacing + size / 2), 0, size - 12)
    high = np.clip(np.ceil(high_mm / spacing + size / 2), low + 12, size)
    return View(centre, size, spacing, rotation, zoom, low, high, draw_elastic(rng, edge))


def extract(scene: Scene, view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample a view of a scene.

    Returns:
        regions, uint8 of ``SUBDIVISIONS * size`` an axis; target, uint8 of ``size`` an axis (majority of each voxel's
        parts, ``IGNORE`` where unseen); seen, bool of ``size`` an axis.
    """
    n, step = view.size * SUBDIVISIONS, view.spacing / SUBDIVISIONS
    line = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * step
    m = torch.from_numpy((view.rotation @ np.diag(view.zoom)).astype(np.float32)) / scene.spacing
    points = [
        m[k, 0] * line[:, None, None]
        + m[k, 1] * line[None, :, None]
        + m[k, 2] * line[None, None, :]
        + float(view.centre[k] / scene.spacing)
        for k in range(3)
    ]
    if view.elastic is not None:
        nodes = torch.from_numpy(view.elastic)[None] / scene.spacing
        shift = nnf.interpolate(nodes, size=(n,) * 3, mode="trilinear", align_corners=True)[0]
        points = [p + s for p, s in zip(points, shift, strict=True)]
    regions, parts = _sample(scene, points)
    parts[regions == Region.UNSEEN] = IGNORE
    target = majority(parts, SUBDIVISIONS)
    s = SUBDIVISIONS
    seen = np.zeros((view.size,) * 3, bool)
    seen[tuple(slice(int(a), int(b)) for a, b in zip(view.fov_low, view.fov_high, strict=True))] = True
    seen &= (regions.reshape(view.size, s, view.size, s, view.size, s) != Region.UNSEEN).all((1, 3, 5))
    target[~seen] = IGNORE
    return regions, target, seen


def _sample(scene: Scene, points: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Nearest region and target at points (scene voxels), reading only the part of the scene that they lie in."""
    low = [max(0, int(p.min()) - 1) for p in points]
    high = [min(n, int(p.max()) + 3) for p, n in zip(points, scene.regions.shape, strict=True)]
    if any(b <= a for a, b in zip(low, high, strict=True)):
        shape = np.broadcast_shapes(*(tuple(p.shape) for p in points))
        return np.full(shape, Region.UNSEEN, np.uint8), np.zeros(shape, np.uint8)
    block = np.array(scene.regions[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    index, inside = nearest_index([p - a for p, a in zip(points, low, strict=True)], block.shape)
    regions = take(block, index, inside, Region.UNSEEN)
    start = [max(a, o) for a, o in zip(low, scene.target_origin, strict=True)]
    ends = (o + n for o, n in zip(scene.target_origin, scene.target.shape, strict=True))
    stop = [min(b, e) for b, e in zip(high, ends, strict=True)]
    if any(b <= a for a, b in zip(start, stop, strict=True)):
        return regions, np.zeros_like(regions)
    labels = np.zeros_like(block)
    here = tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, low, strict=True))
    there = tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, scene.target_origin, strict=True))
    labels[here] = scene.target[there]
    return regions, take(labels, index, inside, 0)


def majority(labels: np.ndarray, n: int) -> np.ndarray:
    """Most frequent label in each block of ``n`` voxels an axis; labels 0-7 and 255, ties to the lowest."""
    size = tuple(s // n for s in labels.shape)
    codes = np.minimum(labels, 8).astype(np.int64)
    index = np.arange(int(np.prod(size)), dtype=np.int64).reshape(size) * 9
    for axis in range(3):
        index = index.repeat(n, axis)
    counts = np.bincount((index + codes).ravel(), minlength=int(np.prod(size)) * 9).reshape(*size, 9)
    winner = counts.argmax(-1).astype(np.uint8)
    winner[winner == 8] = IGNORE
    return winner


def normalise(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Z-score over the seen voxels; unseen voxels get the lowest seen value. float32."""
    if not seen.any():
        return np.zeros_like(image, dtype=np.float32)
    values = image[seen]
    filled = np.where(seen, image, values.min())
    return ((filled - values.mean()) / max(float(values.std()), 1e-8)).astype(np.float32)
