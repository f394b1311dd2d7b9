"""Views: position, orientation, scale and field of view of a patch of a scene.

A view samples the scene on a grid twice as fine as that of the network, so that two map voxels per axis give the
partial volume. Outside the scene a voxel is ``UNSEEN``; there and outside the field of view its target is ``IGNORE``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf

from .appearance.grey_scale import quantiles
from .fields import nearest_index, rotation_matrix
from .regions import IGNORE, Region
from .scenes import Scene
from .stacks import SliceStack

SUBDIVISIONS = 2
AWAY = 0.33
"""Fraction of the fine network's views of trunks that are away from the heart."""


@dataclass(frozen=True)
class View:
    """A cubic patch: ``size`` voxels of ``spacing`` mm about ``centre`` (scene mm, z y x), rotated and zoomed.

    ``fov_low`` and ``fov_high`` bound the scanned part of the patch, in patch voxels (z, y, x), along the patch axes.
    ``fov_rotation`` rotates this box about the centre of the patch. ``elastic`` holds displacements (3, n, n, n) in mm
    on nodes spaced evenly in the patch. ``stack`` holds the slices through which the patch is scanned; their shifts
    move regions and labels alike. Each of these three may be None.
    """

    centre: np.ndarray
    size: int
    spacing: float
    rotation: np.ndarray
    zoom: np.ndarray
    fov_low: np.ndarray
    fov_high: np.ndarray
    elastic: np.ndarray | None = None
    fov_rotation: np.ndarray | None = None
    stack: SliceStack | None = None


def draw_pose(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a rotation (SD 6 degrees, at most 15; in 10 % of views up to 40) and a nearly isotropic zoom (0.87-1.15)."""
    angles = np.clip(rng.normal(0, 6, 3), -15, 15) if rng.random() < 0.9 else rng.uniform(-40, 40, 3)
    return rotation_matrix(np.deg2rad(angles)), rng.uniform(0.9, 1.12) * rng.uniform(0.97, 1.03, 3)


def draw_small_body(rng: np.random.Generator, share: float, largest: float) -> float:
    """Draw a zoom factor: 1.05 to ``largest`` in a fraction ``share`` of the views (a smaller body), else 1."""
    return float(rng.uniform(1.05, largest)) if rng.random() < share else 1.0


def draw_elastic(rng: np.random.Generator, edge: float, node_spacing: float = 48.0) -> np.ndarray | None:
    """Draw displacements (SD up to 5 mm) for three views in four; patch ``edge`` and ``node_spacing`` in mm."""
    if rng.random() < 0.25:
        return None
    n = max(4, round(edge / node_spacing) + 1)
    return (rng.standard_normal((3, n, n, n)) * rng.uniform(0, 5)).astype(np.float32)


def draw_fine_view(
    rng: np.random.Generator, scene: Scene, size: int = 96, spacing: float = 2.0, away: float = AWAY
) -> View:
    """Draw a crop for the fine network: centred on the heart (within 20 mm), off-centre, or away from the heart.

    ``away`` of the crops of trunk scenes are away from the heart, so that the network learns to reject a wrong place.
    In a third of all views the field of view is smaller than the patch; half of these are oblique or thin slabs, like
    short-axis stacks.
    """
    rotation, zoom = draw_pose(rng)
    zoom = zoom * draw_small_body(rng, 0.12, 1.3)
    heart, edge = np.array(scene.heart_centre), size * spacing
    extent = np.array(scene.regions.shape) * scene.spacing
    kind = rng.random()
    away = away if scene.kind == "trunk" else 0.0
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
    low, high, turn = np.zeros(3), np.full(3, float(size)), None
    limited = rng.random()
    if limited < 0.17:
        low = np.floor(size * rng.uniform(0, 0.25, 3) * (rng.random(3) < 0.5))
        high = np.ceil(size * (1 - rng.uniform(0, 0.25, 3) * (rng.random(3) < 0.5)))
    elif limited < 0.34:
        turn = rotation_matrix(np.deg2rad(rng.uniform(-60, 60, 3)))
        half = np.array([rng.uniform(35, 90), rng.uniform(70, 140), rng.uniform(70, 140)]) / spacing
        middle = size / 2 + rng.uniform(-12, 12, 3) / spacing
        low, high = middle - half, middle + half
    return View(centre, size, spacing, rotation, zoom, low, high, draw_elastic(rng, edge), turn)


def draw_finder_view(rng: np.random.Generator, scene: Scene, size: int = 64, spacing: float = 6.0) -> View:
    """Draw a scan for the finder: whole trunk, chest, part of the trunk without the heart, or a small cardiac view.

    Half of the cardiac views are oblique, some of them thin slabs. Thorax scenes give chest and cardiac views only.
    """
    rotation, zoom = draw_pose(rng)
    zoom = zoom * draw_small_body(rng, 0.2, 1.45)
    heart, edge = np.array(scene.heart_centre), size * spacing
    extent = np.array(scene.regions.shape) * scene.spacing
    middle = np.array([heart[0], extent[1] / 2, extent[2] / 2])
    body = middle + rng.uniform(-35, 35, 3)
    low_mm, high_mm, turn = np.full(3, -edge / 2), np.full(3, edge / 2), None
    kind = rng.random() if scene.kind != "thorax" else float(rng.choice((0.0, 1.0), p=(0.3, 0.7)))
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
        if rng.random() < 0.5:
            turn = rotation_matrix(np.deg2rad(rng.uniform(-60, 60, 3)))
            half[0] *= rng.uniform(0.45, 1.0)
            shift = turn.T @ (heart - centre) + rng.uniform(-20, 20, 3)
        low_mm, high_mm = shift - half, shift + half
    if turn is None and rng.random() < 0.3:  # narrow in-plane field of view
        reach = rng.uniform(110, 180)
        low_mm[1:] = np.maximum(low_mm[1:], -reach)
        high_mm[1:] = np.minimum(high_mm[1:], reach)
    low = np.clip(np.floor(low_mm / spacing + size / 2), 0, size - 12)
    high = np.clip(np.ceil(high_mm / spacing + size / 2), low + 12, size)
    return View(centre, size, spacing, rotation, zoom, low, high, draw_elastic(rng, edge), turn)


def extract(
    scene: Scene, view: View, device: torch.device | str = "cpu", fair_ties: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sample a view of a scene on a device.

    Args:
        scene: the scene.
        view: the patch.
        device: device of the computation and the result.
        fair_ties: how to break ties between labels (:func:`majority`); True in generator 0.6.

    Returns:
        Regions, uint8, ``SUBDIVISIONS * size`` voxels per axis; target, uint8, ``size`` voxels per axis (majority of
        the parts of each voxel, ``IGNORE`` where unseen); seen, bool, ``size`` voxels per axis.
    """
    s, size = SUBDIVISIONS, view.size
    n, step = size * s, view.spacing / s
    line = (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2) * step
    m = (view.rotation @ np.diag(view.zoom)) / scene.spacing
    points = [
        (float(m[k, 0]) * line)[:, None, None]
        + ((float(m[k, 1]) * line)[:, None] + (float(m[k, 2]) * line)[None, :])[None]
        + float(view.centre[k] / scene.spacing)
        for k in range(3)
    ]
    if view.elastic is not None:
        nodes = torch.from_numpy(view.elastic)[None].to(device) / scene.spacing
        shift = nnf.interpolate(nodes, size=(n,) * 3, mode="trilinear", align_corners=True)[0]
        for p, d in zip(points, shift, strict=True):
            p += d
    if view.stack is not None:
        moves = view.stack.displacement(line)
        for k, p in enumerate(points):
            p += sum(float(m[k, j]) * moves[j] for j in range(3))
    regions, parts = _sample(scene, points, device)
    parts[regions == int(Region.UNSEEN)] = IGNORE
    target = majority(parts, s, fair_ties)
    seen = field_of_view(view, device)
    seen &= (regions.view(size, s, size, s, size, s) != int(Region.UNSEEN)).all(5).all(3).all(1)
    target[~seen] = IGNORE
    return regions, target, seen


def field_of_view(view: View, device: torch.device | str = "cpu") -> torch.Tensor:
    """Mask of the patch voxels inside the field of view, bool (size, size, size)."""
    size = view.size
    if view.fov_rotation is None:
        seen = torch.zeros((size,) * 3, dtype=torch.bool, device=device)
        seen[tuple(slice(int(a), int(b)) for a, b in zip(view.fov_low, view.fov_high, strict=True))] = True
        return seen
    line = torch.arange(size, dtype=torch.float32, device=device) + 0.5 - size / 2
    seen = torch.ones((size,) * 3, dtype=torch.bool, device=device)
    for k in range(3):
        r = view.fov_rotation[:, k]
        along = (float(r[0]) * line)[:, None, None] + (float(r[1]) * line)[:, None] + float(r[2]) * line
        seen &= (along >= view.fov_low[k] - size / 2) & (along < view.fov_high[k] - size / 2)
    return seen


def _sample(scene: Scene, points: list[torch.Tensor], device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest region and target at points (scene voxels); reads only the part of the scene that contains them."""
    low = [max(0, int(p.min()) - 1) for p in points]
    high = [min(n, int(p.max()) + 3) for p, n in zip(points, scene.regions.shape, strict=True)]
    shape = torch.broadcast_shapes(*(p.shape for p in points))
    if any(b <= a for a, b in zip(low, high, strict=True)):
        unseen = torch.full(shape, int(Region.UNSEEN), dtype=torch.uint8, device=device)
        return unseen, torch.zeros(shape, dtype=torch.uint8, device=device)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    block = _on(scene.regions[box], device)
    index, inside = nearest_index([p - a for p, a in zip(points, low, strict=True)], block.shape)
    regions = _take(block, index, inside, Region.UNSEEN)
    start = [max(a, o) for a, o in zip(low, scene.target_origin, strict=True)]
    ends = (o + n for o, n in zip(scene.target_origin, scene.target.shape, strict=True))
    stop = [min(b, e) for b, e in zip(high, ends, strict=True)]
    if any(b <= a for a, b in zip(start, stop, strict=True)):
        return regions, torch.zeros_like(regions)
    labels = torch.zeros_like(block)
    here = tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, low, strict=True))
    there = tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, scene.target_origin, strict=True))
    labels[here] = _on(scene.target[there], device)
    return regions, _take(labels, index, inside, 0)


def _on(block: np.ndarray | torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Contiguous part of a scene on ``device``; scenes stored as tensors are already on it."""
    if isinstance(block, np.ndarray):
        return torch.from_numpy(np.array(block)).to(device)
    return block.contiguous()


def _take(volume: torch.Tensor, index: torch.Tensor, inside: torch.Tensor, outside: int) -> torch.Tensor:
    values = volume.reshape(-1)[index.reshape(-1)].reshape(index.shape)
    values[~inside] = int(outside)
    return values


def majority(labels: torch.Tensor, n: int, fair_ties: bool = False) -> torch.Tensor:
    """Most frequent label in each block of ``n`` voxels per axis; uint8 labels 0-7 and 255.

    The lowest label wins ties, so myocardium (5) loses every tie with blood and background. With ``fair_ties`` the
    lowest and the highest label win alternately, in a checkerboard pattern.
    """
    parts = [labels[i::n, j::n, k::n] for i in range(n) for j in range(n) for k in range(n)]
    best = torch.zeros(parts[0].shape, dtype=torch.uint8, device=labels.device)
    winner, highest = torch.zeros_like(best), torch.zeros_like(best)
    for label in (*range(8), IGNORE):
        count = sum((p == label).to(torch.uint8) for p in parts)
        assert isinstance(count, torch.Tensor)
        more = count > best
        winner[more] = label
        if fair_ties:
            highest[count >= best.clamp(min=1)] = label
        best = torch.maximum(best, count)
    if fair_ties:
        lines = (torch.arange(n, device=labels.device) for n in winner.shape)
        z, y, x = torch.meshgrid(*lines, indexing="ij")
        return torch.where((z + y + x) % 2 == 0, winner, highest)
    return winner


def normalise(image: torch.Tensor, seen: torch.Tensor, upper_percentile: float = 100.0) -> torch.Tensor:
    """Z-score over the seen voxels, float32 (z, y, x); unseen voxels get the lowest seen value.

    Grey values above ``upper_percentile`` of the seen voxels are clipped first.
    """
    if not bool(seen.any()):
        return torch.zeros_like(image)
    if upper_percentile < 100:
        image = image.clamp(max=quantiles(image[seen], (upper_percentile / 100,))[0])
    values = image[seen]
    filled = torch.where(seen, image, values.min())
    return (filled - values.mean()) / max(float(values.std(correction=0)), 1e-8)
