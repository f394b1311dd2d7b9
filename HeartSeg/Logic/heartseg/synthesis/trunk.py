"""Whole trunk around a heart: one labelled trunk, randomly deformed to match the generated heart (1.5 mm, LPS).

The atlas is a TotalSegmentator label map (data set v2, subject s0327, CC BY 4.0). It labels organs, not the body. The
body is the closed hull of the organs with added muscle, fat and skin; arms and table are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.ndimage as ndi
import torch
import torch.nn.functional as nnf

from .devices import add_devices
from .fields import coarse_distance, resample_nearest, rotation_matrix, smooth_noise
from .hearts import SIZE, Heart
from .regions import IGNORE, Region, trunk_region
from .source import Source
from .vessels import Anchors, Landmarks, add_vessels, lower_back, upper_back

SPACING = 1.5
"""Voxel size of trunk scenes and of the atlas, mm."""
SHAPE = (352, 224, 288)
"""Canvas (z, y, x): 528 x 336 x 432 mm."""
HULL_RADIUS = 60.0
"""Radius (mm) of the morphological closing that turns the organs into a body."""


@dataclass(frozen=True)
class Atlas:
    """Labelled trunk: tissue ids (uint8) and body hull (bool), (z, y, x), 1.5 mm, and the bounding box of its heart."""

    regions: np.ndarray
    hull: np.ndarray
    heart_low: np.ndarray
    heart_high: np.ndarray


@dataclass(frozen=True)
class Placement:
    """Map from canvas to atlas, in mm: ``atlas = source_centre + matrix @ (canvas - canvas_centre) + elastic``.

    ``change`` is the random factor on each axis, in addition to the scale that matches the hearts.
    """

    matrix: np.ndarray
    canvas_centre: np.ndarray
    source_centre: np.ndarray
    elastic: np.ndarray
    amplitude: float
    change: np.ndarray


@lru_cache(maxsize=2)
def make_atlas(source: Source) -> Atlas:
    """Make the atlas of a source: tissues, body hull and bounding box of the heart."""
    labels = source.trunk
    lookup, heart_id = np.zeros(256, np.uint8), 0
    for index, structure in source.structures.items():
        lookup[index] = trunk_region(structure)
        heart_id = index if structure == "heart" else heart_id
    heart = np.argwhere(labels[::2, ::2, ::2] == heart_id) * 2 * SPACING
    low, high = np.percentile(heart, 3, axis=0), np.percentile(heart, 97, axis=0)
    return Atlas(_hollow_bones(lookup[labels]), _body_hull(labels > 0), low, high)


def _hollow_bones(regions: np.ndarray) -> np.ndarray:
    bone = regions == Region.CORTICAL_BONE
    regions[ndi.binary_erosion(bone, iterations=2)] = Region.MARROW
    return regions


def _body_hull(organs: np.ndarray) -> np.ndarray:
    """Close the organs morphologically with a ball of ``HULL_RADIUS``, on every fourth voxel."""
    step = 4
    pad = int(HULL_RADIUS / SPACING / step) + 2
    coarse = np.pad(organs[::step, ::step, ::step], ((pad, pad), (0, 0), (0, 0)), mode="edge")
    coarse = np.pad(coarse, ((0, 0), (pad, pad), (pad, pad)))
    radius = HULL_RADIUS / SPACING / step
    grown = ndi.distance_transform_edt(~coarse) <= radius
    closed = ndi.distance_transform_edt(grown) > radius
    closed = closed[pad:-pad, pad:-pad, pad:-pad].astype(np.float32)
    fine = nnf.interpolate(torch.from_numpy(closed)[None, None], size=organs.shape, mode="trilinear")[0, 0].numpy()
    return (fine > 0.5) | organs


def draw_placement(
    rng: np.random.Generator, atlas: Atlas, heart: Heart, without: frozenset[str] = frozenset()
) -> Placement:
    """Match centre and extent of the atlas heart to ``heart``, then scale each axis by 15 to 25 %, tilt and deform it.

    Axes grow as often as they shrink. With "warp" in ``without`` the hearts are only matched.
    """
    ours = np.argwhere(heart.labels[::2, ::2, ::2] > 0) * 2.0
    extent = np.percentile(ours, 97, axis=0) - np.percentile(ours, 3, axis=0)
    scale = (atlas.heart_high - atlas.heart_low) / extent * np.array([0.85, 1.0, 1.0])
    scale = np.clip(scale, 0.8, 1.2)
    height = SHAPE[0] * SPACING
    centre = np.array([height * rng.uniform(0.55, 0.68), 0.0, SHAPE[2] * SPACING / 2 + rng.uniform(5, 35)])
    centre[1] = SHAPE[1] * SPACING * rng.uniform(0.38, 0.44)
    source = (atlas.heart_low + atlas.heart_high) / 2 + rng.normal(0, 5, 3)
    nodes = rng.standard_normal((3, 9, 6, 7)).astype(np.float32)
    if "warp" in without:
        return Placement(np.diag(scale), centre, source, nodes, 0.0, np.ones(3))
    change = 1 + rng.choice([-1, 1], 3) * rng.uniform(0.15, 0.25, 3)
    tilt = rotation_matrix(np.deg2rad(np.clip(rng.normal(0, 5, 3), -12, 12)))
    return Placement(np.diag(scale * change) @ tilt, centre, source, nodes, rng.uniform(3, 9), change)


def place_atlas(atlas: Atlas, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Resample the atlas onto the canvas; returns regions (uint8, UNSEEN beyond the atlas) and hull (bool)."""
    axes = [
        torch.arange(n, dtype=torch.float32) * SPACING - float(c)
        for n, c in zip(SHAPE, placement.canvas_centre, strict=True)
    ]
    m = torch.from_numpy(placement.matrix.astype(np.float32))
    shift = nnf.interpolate(
        torch.from_numpy(placement.elastic)[None], size=SHAPE, mode="trilinear", align_corners=True
    )[0]
    points = []
    for k in range(3):
        p = m[k, 0] * axes[0][:, None, None] + m[k, 1] * axes[1][None, :, None] + m[k, 2] * axes[2][None, None, :]
        points.append((p + shift[k] * placement.amplitude + float(placement.source_centre[k])) / SPACING)
    both = resample_nearest(atlas.regions | (atlas.hull.astype(np.uint8) << 7), points)
    n = atlas.regions.shape[0]
    ends = ((points[0] < 0) | (points[0] > n - 1)).numpy()
    regions, hull = both & 127, both > 127
    regions[ends] = Region.UNSEEN
    hull[ends] = False
    return regions, hull


def cube_offset(placement: Placement, heart: Heart) -> np.ndarray:
    """Canvas position (mm) of voxel (0, 0, 0) of the heart cube that aligns the centres of both hearts."""
    ours = np.argwhere(heart.labels[::2, ::2, ::2] > 0) * 2.0
    middle = (np.percentile(ours, 97, axis=0) + np.percentile(ours, 3, axis=0)) / 2
    return placement.canvas_centre - middle


def atlas_anchors(
    rng: np.random.Generator, regions: np.ndarray, heart: Heart, marks: Landmarks, offset: np.ndarray
) -> Anchors:
    """Find the anchors of the placed atlas, in cube coordinates; erases its ascending aorta, arch and SVC in place."""
    half = regions[::2, ::2, ::2]

    def where(region: int) -> np.ndarray:
        return np.argwhere(half == region) * 2.0 * SPACING - offset

    la, u = marks.la_centre, rng.uniform
    aorta, column = where(Region.DESCENDING_AORTA), where(Region.SPINAL_CORD)
    behind = aorta[aorta[:, 1] > marks.la_back - 5] if len(aorta) else aorta
    if len(behind) < 30:
        behind = np.array([[la[0] + 60, marks.la_back + 15, la[2] + 15]])
    top = behind[:, 0].max() - 12
    joint = behind[(behind[:, 0] > top - 12) & (behind[:, 0] <= top)]
    joint = joint.mean(0) if len(joint) else behind.mean(0)
    _erase(regions, Region.DESCENDING_AORTA, offset, above=joint[0], before=marks.la_back - 5)
    _erase(regions, Region.SVC, offset, above=-1e9, before=1e9)
    level = column[np.abs(column[:, 0] - la[0]) < 20]
    spine = level.mean(0) - np.array([0, 28, 0]) if len(level) else np.array([la[0], marks.la_back + 15, la[2]])
    vena_cava, air = where(Region.IVC), where(Region.AIRWAY)
    ra_floor = lower_back(marks.pools[4], 18).mean(0)
    ivc = vena_cava[vena_cava[:, 0] > vena_cava[:, 0].max() - 15].mean(0) if len(vena_cava) else ra_floor
    ivc = ivc if ivc[0] < ra_floor[0] - 5 else ra_floor - np.array([25, -5, 0])
    roof = upper_back(marks.pools[4], 24).mean(0)
    carina = air[air[:, 0] < air[:, 0].min() + 8].mean(0) if len(air) else la + np.array([40, 10, 0])
    return Anchors(
        spine_front_y=float(spine[1]),
        spine_x=float(spine[2]),
        descending=[joint],
        descending_radius=float(np.clip(u(8, 13), 6, 20)),
        svc_top=roof + np.array([u(70, 110), u(-12, 4), u(-6, 8)]),
        ivc_bottom=ivc,
        paint_airways=False,
        carina=carina,
    )


def _erase(regions: np.ndarray, region: int, offset: np.ndarray, above: float, before: float) -> None:
    """Turn ``region`` into fat above ``above`` (z) and in front of ``before`` (y); cube coordinates, mm."""
    z = np.arange(regions.shape[0]) * SPACING - offset[0]
    y = np.arange(regions.shape[1]) * SPACING - offset[1]
    hit = (regions == region) & ((z > above)[:, None, None] | (y < before)[None, :, None])
    regions[hit] = Region.MEDIASTINAL_FAT


SWITCHABLE = (
    Region.STOMACH,
    Region.SPLEEN,
    Region.KIDNEY,
    Region.GALLBLADDER,
    Region.PANCREAS,
    Region.BOWEL,
    Region.LIVER,
    Region.OESOPHAGUS,
    Region.THYROID,
    Region.AIRWAY,
    Region.IVC,
    Region.VEIN,
    Region.ARTERY,
    Region.PULMONARY_VEIN,
    Region.CARTILAGE,
    Region.LYMPH_NODE,
)
"""Structures of the trunk that a scene may omit or show as another tissue."""


def switch_organs(rng: np.random.Generator, regions: np.ndarray) -> list[str]:
    """Turn some organs into fat or other soft tissue, sometimes a lung into fluid, in place; returns their names."""
    lookup = np.arange(256, dtype=np.uint8)
    chosen = [r for r in SWITCHABLE if rng.random() < (0.25 if r != Region.LIVER else 0.06)]
    for region in chosen:
        lookup[region] = rng.choice([Region.FAT, Region.MEDIASTINAL_FAT, Region.SOFT_ORGAN, Region.MUSCLE])
    names = [r.name.lower() for r in chosen]
    regions[:] = lookup[regions]
    if rng.random() < 0.06:
        half = slice(0, regions.shape[2] // 2) if rng.random() < 0.5 else slice(regions.shape[2] // 2, None)
        side = regions[:, :, half]
        side[side == Region.LUNG] = rng.choice([Region.EFFUSION, Region.ATELECTASIS])
        names.append("lung")
    return names


def _draw_breasts(rng: np.random.Generator, regions: np.ndarray, hull: np.ndarray, offset: np.ndarray) -> None:
    """Draw two half-ellipsoids of fat and gland in front of the chest, in place."""
    u = rng.uniform
    level = (offset[0] + SIZE * u(0.35, 0.6)) / SPACING
    radius, depth = u(45, 80) / SPACING, u(20, 65) / SPACING
    z, y, x = np.ogrid[tuple(slice(n) for n in regions.shape)]
    middle = regions.shape[2] / 2
    noise = smooth_noise(rng, regions.shape, 12)
    rows = slice(max(0, int(level - radius)), max(1, int(level + radius)))
    front = np.argmax(hull[rows].any(0), axis=0)
    column = np.asarray(hull[rows].any((0, 1)))
    for side in (-1, 1):
        cx = middle + side * u(60, 90) / SPACING
        near = [v for v in range(int(cx - 8), int(cx + 8)) if 0 <= v < len(column) and column[v]]
        if not near:
            continue
        cy = float(front[near].mean()) + 4
        d = ((z - level) / radius) ** 2 + ((y - cy) / depth) ** 2 + ((x - cx) / radius) ** 2
        free = np.isin(regions, (0, Region.SKIN, Region.FAT)) & ~hull
        regions[free & (d < 1)] = Region.SKIN
        regions[free & (d < 0.88)] = Region.FAT
        regions[free & (d < 0.6) & (noise > u(-0.3, 0.8))] = Region.GLAND


def fill_body(rng: np.random.Generator, regions: np.ndarray, hull: np.ndarray, without: frozenset[str]) -> None:
    """Assign a tissue to every unlabelled voxel of the body and draw fat, skin, arms and table around it, in place."""
    u = rng.uniform
    unseen = regions == Region.UNSEEN
    bone = np.isin(regions, (Region.CORTICAL_BONE, Region.MARROW, Region.CARTILAGE))
    near_bone = coarse_distance(~bone, 3) * SPACING
    noise = smooth_noise(rng, regions.shape, 14)
    empty = (regions == 0) & hull
    regions[empty] = Region.FAT
    regions[empty & (near_bone < u(8, 16) + 5 * noise)] = Region.MUSCLE
    regions[empty & (noise > u(0.9, 2.0)) & (near_bone < 60)] = Region.MUSCLE
    outside = coarse_distance(~hull, 3) * SPACING
    thickness = u(2, 32) + 3 * noise
    ring = (regions == 0) & ~unseen
    regions[ring & (outside < thickness + 3)] = Region.SKIN
    regions[ring & (outside < thickness)] = Region.FAT
    _organ_contents(rng, regions, "blobs" not in without)
    if rng.random() < 0.45:
        _draw_arms(rng, regions, unseen)
    if rng.random() < 0.75:
        _draw_table(rng, regions, unseen)


def _organ_contents(rng: np.random.Generator, regions: np.ndarray, blobs_too: bool) -> None:
    """Draw the contents of stomach and bowel, lung and liver vessels, discs, and sometimes lung disease and blobs."""
    u = rng.uniform
    fine, wide = smooth_noise(rng, regions.shape, u(5, 8)), smooth_noise(rng, regions.shape, u(9, 14))
    regions[(regions == Region.BOWEL) & (wide > u(0.3, 1.6))] = Region.GAS
    stomach = regions == Region.STOMACH
    if stomach.any():
        ys = np.nonzero(stomach.any((0, 2)))[0]
        level = ys[0] + (ys[-1] - ys[0]) * u(0, 0.6)
        front = (np.arange(regions.shape[1]) < level)[None, :, None]
        regions[stomach & front] = Region.GAS
        regions[stomach & ~front & (fine > 0.7)] = Region.SOFT_ORGAN
    lung = regions == Region.LUNG
    tube = np.hypot(fine, smooth_noise(rng, regions.shape, u(5, 8)))
    regions[lung & (tube < u(0.08, 0.32))] = Region.LUNG_VESSEL
    liver = regions == Region.LIVER
    regions[liver & (np.hypot(wide, fine) < u(0.02, 0.25))] = Region.LIVER_VESSEL
    regions[(regions == Region.MARROW) & (np.abs(fine) < 0.05)] = Region.DISC
    if rng.random() < 0.3:
        kind = rng.choice([Region.ATELECTASIS, Region.INFILTRATE, Region.EFFUSION])
        low = np.arange(regions.shape[1]) > np.nonzero(lung.any((0, 2)))[0][-1] - u(6, 45) if lung.any() else None
        if low is not None:
            regions[lung & low[None, :, None]] = kind
    if blobs_too and rng.random() < 0.5:
        blobs = smooth_noise(rng, regions.shape, u(6, 16))
        for k in range(3):
            regions[(blobs > u(1.8, 2.6)) & (wide > 0.5) & (regions > 0) & (regions < 200)] = Region.BLOB_0 + k


def _draw_arms(rng: np.random.Generator, regions: np.ndarray, unseen: np.ndarray) -> None:
    """Draw one or two arms along z beside the body: skin, fat, muscle and a bone."""
    u = rng.uniform
    body = (regions > 0) & ~unseen
    xs = np.nonzero(body.any((0, 1)))[0]
    z, y, x = np.ogrid[tuple(slice(n) for n in regions.shape)]
    for side in rng.permutation([-1, 1])[: rng.integers(1, 3)]:
        r = u(30, 50) / SPACING
        cx = (xs[-1] + r * u(0.6, 1.2)) if side > 0 else (xs[0] - r * u(0.6, 1.2))
        cx = np.clip(cx, r * 0.5, regions.shape[2] - r * 0.5)
        cy = regions.shape[1] * u(0.4, 0.65)
        d = np.hypot(y - cy - (z - 150) * u(-0.12, 0.12), x - cx - (z - 150) * u(-0.08, 0.08))
        free = ~body & ~unseen
        for share, region in ((1, Region.SKIN), (0.96, Region.FAT), (u(0.7, 0.92), Region.MUSCLE)):
            regions[free & (d < r * share)] = region
        b = u(8, 13) / SPACING
        regions[free & (d < b)] = Region.CORTICAL_BONE
        regions[free & (d < b * 0.6)] = Region.MARROW


def _draw_table(rng: np.random.Generator, regions: np.ndarray, unseen: np.ndarray) -> None:
    """Draw the shell of a shallow trough under the back."""
    u = rng.uniform
    body = (regions > 0) & ~unseen
    back = np.nonzero(body.sum((0, 2)) > 50)[0][-1] + u(-3, 12) / SPACING
    y, x = np.ogrid[: regions.shape[1], : regions.shape[2]]
    middle = regions.shape[2] / 2 + u(-15, 15)
    bend = ((x - middle) * SPACING) ** 2 / u(600, 6000) / SPACING
    depth = (y - back + bend) * SPACING
    plate, half = u(15, 50), u(180, 260) / SPACING
    inside = (depth > 0) & (depth < plate) & (np.abs(x - middle) < half)
    shell = inside & ((depth < u(1.5, 4)) | (depth > plate - u(1.5, 4)))
    free = (regions == 0) & ~unseen
    regions[free & shell[None]] = Region.TABLE


def compose(regions: np.ndarray, heart: Heart, offset: np.ndarray) -> np.ndarray:
    """Insert the heart and its vessels into the trunk, in place; returns the target (uint8, canvas)."""
    axes = [(torch.arange(n, dtype=torch.float32) * SPACING - float(o)) for n, o in zip(SHAPE, offset, strict=True)]
    points = [axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]]
    low = [max(0, int(np.ceil(o / SPACING))) for o in offset]
    high = [min(n, int(np.floor((o + SIZE - 1) / SPACING)) + 1) for n, o in zip(SHAPE, offset, strict=True)]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    points = [p[tuple(box[a] if p.shape[a] > 1 else slice(None) for a in range(3))] for p in points]
    ours = resample_nearest(heart.regions, points)
    labels = resample_nearest(heart.target, points)
    target = np.zeros(SHAPE, np.uint8)
    seen = regions[box] != Region.UNSEEN
    _clear_pulmonary_veins(regions, heart, points, box)
    airway = (ours == Region.AIRWAY) & (regions[box] == Region.LUNG)
    put = (ours > 0) & seen & ~airway
    regions[box] = np.where(put, ours, regions[box])
    target[box] = np.where(put, labels, 0)
    target[regions == Region.UNSEEN] = IGNORE
    return target


def _clear_pulmonary_veins(regions: np.ndarray, heart: Heart, points: list[torch.Tensor], box: tuple) -> None:
    """Turn the atlas's pulmonary veins near the generated left atrium, which would contradict its labels, into fat."""
    near = coarse_distance(heart.target != 3, 3) < 16
    close = resample_nearest(near.astype(np.uint8), points) > 0
    sub = regions[box]
    sub[close & (sub == Region.PULMONARY_VEIN)] = Region.MEDIASTINAL_FAT


def make_trunk(
    rng: np.random.Generator, atlas: Atlas, heart: Heart, marks: Landmarks, without: frozenset[str] = frozenset()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a trunk scene: regions and target (uint8, ``SHAPE``, 1.5 mm), and the position of the heart cube in mm.

    Adds the scale of each axis and the omitted organs to ``heart.facts``.
    """
    placement = draw_placement(rng, atlas, heart, without)
    regions, hull = place_atlas(atlas, placement)
    offset = cube_offset(placement, heart)
    anchors = atlas_anchors(rng, regions, heart, marks, offset)
    add_vessels(rng, heart, marks, anchors)
    if "devices" not in without:
        add_devices(rng, heart, marks)
    gone = [] if "organs" in without else switch_organs(rng, regions)
    fill_body(rng, regions, hull, without)
    if "organs" not in without and rng.random() < 0.35:
        _draw_breasts(rng, regions, hull, offset)
    target = compose(regions, heart, offset)
    _epicardial_detail(rng, regions, target)
    heart.facts["trunk_change"] = [round(float(v), 3) for v in 1 / placement.change]
    heart.facts["organs_off"] = gone
    return regions, target, offset


def _epicardial_detail(rng: np.random.Generator, regions: np.ndarray, target: np.ndarray) -> None:
    """Draw coronary arteries, lymph nodes, sometimes pericardium and effusion, into the epicardial fat, in place."""
    inside = (target > 0) & (target < IGNORE)
    if not inside.any():
        return
    points = np.argwhere(inside[::3, ::3, ::3]) * 3
    box = tuple(slice(max(a - 20, 0), b + 20) for a, b in zip(points.min(0), points.max(0), strict=True))
    sub, u = regions[box], rng.uniform
    distance = coarse_distance(~inside[box]) * SPACING
    fat = np.isin(sub, (Region.MEDIASTINAL_FAT, Region.FAT))
    line = np.abs(smooth_noise(rng, sub.shape, 8))
    sub[fat & (distance < 7) & (line < 0.1) & (np.abs(smooth_noise(rng, sub.shape, 9)) < 1.2)] = Region.CORONARY
    sub[fat & (smooth_noise(rng, sub.shape, 5) > u(1.6, 2.4))] = Region.LYMPH_NODE
    if rng.random() < 0.5:
        layer = u(3, 7)
        sub[fat & (np.abs(distance - layer - 1.5 * smooth_noise(rng, sub.shape, 20)) < 0.8)] = Region.PERICARDIUM
    if rng.random() < 0.2:
        wet = np.isin(sub, (Region.MEDIASTINAL_FAT, Region.FAT, Region.LUNG, Region.LUNG_VESSEL))
        sub[wet & (distance < u(2, 9)) & (smooth_noise(rng, sub.shape, 16) > -0.3)] = Region.EFFUSION
