"""Bodies and objects without a heart (1.5 mm, LPS), which train the finder to find nothing: heads, limbs, shapes.

They consist of ellipsoids and tubes. Coarse shapes suffice, because the finder works on voxels of 6 mm. Sizes are those
of adults, in mm.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .canvas import Canvas, blank_canvas, draw_table
from .fields import coarse_distance, rotation_matrix, smooth_noise
from .regions import Region

SPACING = 1.5
"""Voxel size, mm."""
KINDS = {"head": 0.3, "limbs": 0.25, "shapes": 0.2, "abdomen": 0.25}
"""Relative frequency of each kind."""
LEAST_VOXELS = 64
"""Minimum edge length of a map after cropping, voxels."""


def heartless_body(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, object]]:
    """Draw a body without a heart.

    Args:
        rng: source of randomness.

    Returns:
        Region map, uint8 (z, y, x), at most 240 x 200 x 240 voxels of ``SPACING`` mm, with ids of
        :class:`~heartseg.synthesis.regions.Region`; and its facts: ``kind`` (a key of :data:`KINDS`), ``variant``,
        ``table`` and ``cut`` (whether the map was cropped).
    """
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    canvas, variant = _DRAWERS[kind](rng)
    regions = canvas.regions
    table = bool(rng.random() < 0.4)
    if table:
        draw_table(rng, regions)
    cut = bool(rng.random() < 0.4)
    if cut:
        regions = _cut_ends(rng, regions)
    return regions, {"kind": kind, "variant": variant, "table": table, "cut": cut}


def _cut_ends(rng: np.random.Generator, regions: np.ndarray) -> np.ndarray:
    """Crop up to 30 % from some of the six sides of a map, as in a smaller field of view."""
    parts = []
    for n in regions.shape:
        low, high = (rng.random(2) < 0.4) * rng.uniform(0, 0.3, 2)
        spare = max(0, n - LEAST_VOXELS) / n
        squeeze = min(1.0, spare / max(low + high, 1e-6))
        parts.append(slice(int(n * low * squeeze), n - int(n * high * squeeze)))
    return np.ascontiguousarray(regions[tuple(parts)])


def _draw_head(rng: np.random.Generator) -> tuple[Canvas, str]:
    """Draw a head: cranium, face and neck, sometimes with shoulders."""
    u = rng.uniform
    shoulders = rng.random() < 0.4
    shape = (int(u(190, 241)), int(u(165, 201)), 240 if shoulders else int(u(140, 201)))
    canvas = blank_canvas(rng, shape, SPACING, tilt_degrees=12)
    canvas.middle[0] += u(40, 75)  # moves the cranium, the origin of the body axes, towards the top of the map
    skull = np.array([u(66, 80), u(80, 98), u(62, 78)])
    scalp, neck = u(4, 10), u(42, 62)
    canvas.ellipsoid(Region.MUSCLE, (0, 0, 0), skull + scalp, rough=0.015)
    canvas.ellipsoid(Region.MUSCLE, (-62, -35, 0), (72, 58, 58), rough=0.03)
    canvas.ellipsoid(Region.MUSCLE, (-55, -92, 0), (16, 18, 13))
    canvas.tube(Region.MUSCLE, [(-40, 20, 0), (-130, 25, 0), (-260, 30, 0)], [neck, neck, neck * 1.3])
    if shoulders:
        canvas.tube(Region.MUSCLE, [(-185, 25, -150), (-165, 25, 0), (-185, 25, 150)], [u(50, 70), 60, u(50, 70)])
    canvas = canvas.cover(skin=u(2, 5), fat=u(1, 7))
    _draw_neck(rng, canvas)
    _draw_face(rng, canvas)
    _draw_cranium(rng, canvas, skull)
    return canvas, "shoulders" if shoulders else "neck"


def _draw_cranium(rng: np.random.Generator, canvas: Canvas, skull: np.ndarray) -> None:
    """Draw the skull with diploe, fluid, a folded brain of two tissues, ventricles, a venous sinus and arteries."""
    u = rng.uniform
    bone, fluid = u(5, 9), u(2, 7)
    canvas.ellipsoid(Region.CORTICAL_BONE, (0, 0, 0), skull, rough=0.01)
    canvas.ellipsoid(Region.MARROW, (0, 0, 0), skull - 0.33 * bone, rough=0.01)
    canvas.ellipsoid(Region.CORTICAL_BONE, (0, 0, 0), skull - 0.66 * bone, rough=0.01)
    canvas.ellipsoid(Region.BLADDER, (0, 0, 0), skull - bone, rough=0.01)
    brain = skull - bone - fluid
    grey, white = Region.SOFT_ORGAN, Region(int(rng.choice([Region.SPINAL_CORD, Region.PANCREAS])))
    for side in (-1, 1):
        half = (brain[0] * 0.97, brain[1] * 0.97, brain[2] * 0.5)
        canvas.ellipsoid(grey, (4, 0, side * brain[2] * 0.5), half, rough=0.06)
        canvas.ellipsoid(white, (6, 0, side * brain[2] * 0.47), np.array(half) * u(0.68, 0.8), rough=0.2, into=grey)
        canvas.ellipsoid(grey, (-0.62 * brain[0], 0.45 * brain[1], side * 22), (22, 30, 26), rough=0.1)
        canvas.ellipsoid(grey, (2, -8, side * 16), (14, 24, 9))
        horn = [(8, -28, side * 10), (16, 8, side * 12), (2, 40, side * 22)]
        canvas.tube(Region.BLADDER, horn, u(3, 9), rough=0.15)
        artery = [(-40, -12, side * 12), (-24, -14, side * 12), (-20, -16, side * 34), (0, -10, side * 50)]
        canvas.tube(Region.ARTERY, artery, u(1.6, 3))
    canvas.tube(white, [(-8, 8, 0), (-45, 12, 0), (-75, 22, 0)], [20, 13, 8])
    top, back = skull[0] - bone - 4, skull[1] - bone - 4
    arc = [(top * np.sin(t), -back * np.cos(t), 0) for t in np.linspace(0.9, 3.2, 7)]
    canvas.tube(Region.VEIN, arc, u(2.5, 5))
    if rng.random() < 0.3:  # a mass or a haemorrhage
        region = int(rng.choice([Region.BLOB_0, Region.THROMBUS, Region.EFFUSION]))
        canvas.ellipsoid(region, u(-0.5, 0.5, 3) * brain, u(8, 26, 3), rough=0.2)


def _draw_face(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw the facial bones, jaw and teeth, eyes in fat, sinuses, nose and throat."""
    u = rng.uniform
    canvas.ellipsoid(Region.CORTICAL_BONE, (-38, -52, 0), (34, 34, 46), rough=0.08)
    canvas.ellipsoid(Region.MARROW, (-36, -44, 0), (26, 28, 38), rough=0.1)
    jaw = [(-62, 2, -48), (-98, -34, -40), (-108, -76, 0), (-98, -34, 40), (-62, 2, 48)]
    canvas.bone(jaw, u(7, 10))
    canvas.tube(Region.CALCIUM, [(-84, -48, -28), (-86, -78, 0), (-84, -48, 28)], u(4, 6))
    if rng.random() < 0.3:
        canvas.ellipsoid(Region.METAL, (-84, -56, u(-25, 25)), (4, 4, 4))
    canvas.ellipsoid(Region.MUSCLE, (-92, -38, 0), (20, 34, 24))
    air = Region.AIRWAY
    for side in (-1, 1):
        canvas.ellipsoid(Region.FAT, (-24, -66, side * 32), (19, 26, 19))
        canvas.ellipsoid(Region.BLADDER, (-24, -76, side * 32), (12, 12, 12), rough=0)
        canvas.ellipsoid(air, (-52, -54, side * 26), (u(8, 18), u(10, 17), u(8, 14)), rough=0.15)
        canvas.ellipsoid(air, (-38, 30, side * 56), (u(5, 13), u(5, 13), u(4, 9)), rough=0.3)
        canvas.ellipsoid(Region.GLAND, (-66, -2, side * 48), (22, 15, 10), rough=0.1)
        if rng.random() < 0.7:
            canvas.ellipsoid(air, (4, -82, side * 12), (u(4, 12), 5, u(5, 14)), rough=0.2)
    canvas.ellipsoid(air, (-50, -64, 0), (22, 34, u(5, 10)), rough=0.2)
    canvas.ellipsoid(air, (-30, -28, 0), (9, 11, 13), rough=0.15)


def _draw_neck(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw the spine, throat and trachea, vessels, thyroid, and fat between the muscles."""
    u = rng.uniform
    seams = (np.abs(canvas.rough) < 0.09) & (canvas.regions == Region.MUSCLE)
    canvas.regions[seams] = Region.FAT
    for z in range(-85, -300, -19):
        canvas.ellipsoid(Region.CORTICAL_BONE, (z, 22, 0), (9, 12, 15), rough=0.03)
        canvas.ellipsoid(Region.MARROW, (z, 22, 0), (6, 9, 12), rough=0.03)
        canvas.tube(Region.CORTICAL_BONE, [(z, 36, -16), (z - 2, 50, 0), (z, 36, 16)], 4)
        canvas.tube(Region.CORTICAL_BONE, [(z - 3, 50, 0), (z - 9, 66, 0)], 4)
    canvas.tube(Region.BLADDER, [(-70, 32, 0), (-300, 38, 0)], 8)
    canvas.tube(Region.SPINAL_CORD, [(-70, 32, 0), (-300, 38, 0)], 5)
    canvas.tube(Region.AIRWAY, [(-55, -18, 0), (-100, -4, 0), (-140, -14, 0), (-300, 0, 0)], [u(6, 11), u(5, 9), 8, 9])
    canvas.tube(Region.OESOPHAGUS, [(-145, 4, 0), (-300, 12, -4)], u(4, 7))
    for side in (-1, 1):
        canvas.ellipsoid(Region.THYROID, (-170, -14, side * 17), (u(14, 26), 9, u(6, 12)))
        canvas.tube(Region.ARTERY, [(-40, -8, side * 16), (-100, 2, side * 28), (-300, 0, side * 24)], [3, 4, u(4, 6)])
        width = u(4, 10)
        canvas.tube(Region.VEIN, [(-45, 8, side * 34), (-120, 4, side * 38), (-300, -6, side * 30)], width)
        canvas.bone([(-222, -10, side * 14), (-200, 0, side * 90), (-196, 20, side * 150)], 7)
        canvas.bone([(-195, 30, side * 155), (-320, 30, side * 165)], [22, 12])


def _draw_limbs(rng: np.random.Generator) -> tuple[Canvas, str]:
    """Draw pelvis and thighs, lower legs with or without feet, or an arm."""
    u = rng.uniform
    variant = str(rng.choice(["thighs", "legs", "arm"]))
    both = variant == "thighs" or rng.random() < 0.6
    width = 240 if variant == "thighs" else int(u(150, 221)) if both else int(u(80, 141))
    depth = int(u(150, 201)) if variant != "arm" else int(u(90, 160))
    canvas = blank_canvas(rng, (int(u(150, 241)), depth, width), SPACING, tilt_degrees=10)
    sides = (-1, 1) if both and variant != "arm" else (0,)
    limbs = [(_thigh if variant == "thighs" else _leg if variant == "legs" else _arm)(rng, side) for side in sides]
    for points, radii, _ in limbs:
        canvas.tube(Region.MUSCLE, list(points), radii, rough=0.025)
    if variant == "thighs":
        canvas.ellipsoid(Region.MUSCLE, (130, 5, 0), (130, u(85, 115), u(150, 185)), rough=0.02)
    feet = [points[-1] for points, _, _ in limbs] if variant == "legs" and rng.random() < 0.6 else []
    for heel in feet:
        canvas.tube(Region.MUSCLE, [heel, heel + np.array((-20, 20, 0))], 36)
        canvas.tube(Region.MUSCLE, list(heel + np.array([(-15, 0, 0), (-35, -110, 0), (-42, -160, 0)])), [36, 32, 24])
    canvas = canvas.cover(skin=u(2, 5), fat=u(2, 26 if variant == "thighs" else 12))
    canvas.regions[(np.abs(canvas.rough) < u(0.03, 0.14)) & (canvas.regions == Region.MUSCLE)] = Region.FAT
    if variant == "thighs":
        _draw_pelvis(rng, canvas)
    for points, radii, bones in limbs:
        _fill_limb(rng, canvas, points, radii, bones)
    for heel in feet:
        _draw_foot_bones(canvas, heel)
    return canvas, variant


Limb = tuple[np.ndarray, np.ndarray, list[float]]
"""Points along a limb (n, 3) mm, its radius at each point, and the radii of its parallel bones."""


def _thigh(rng: np.random.Generator, side: int) -> Limb:
    u = rng.uniform
    apart = side * u(75, 100)
    points = np.array([(95, 5, apart), (0, 0, apart * 1.05), (-140, 5, apart * 0.9), (-260, 10, apart * 0.8)])
    return points, np.array([u(80, 95), u(70, 92), u(55, 75), u(45, 58)]), [15.0]


def _leg(rng: np.random.Generator, side: int) -> Limb:
    u = rng.uniform
    apart = side * u(62, 95)
    points = np.array([(230, 0, apart), (130, -4, apart), (40, 12, apart), (-60, 8, apart), (-120, 8, apart)])
    return points, np.array([u(60, 75), u(50, 60), u(48, 64), u(32, 42), u(32, 40)]), [14.0, 7.0]


def _arm(rng: np.random.Generator, side: int) -> Limb:
    u = rng.uniform
    bend = u(-80, 80)
    points = np.array([(220, 0, u(-30, 30)), (100, 10, 0), (0, 10, 0), (-110, bend * 0.6, 10), (-220, bend, 20)])
    return points, np.array([u(48, 70), u(40, 55), u(36, 46), u(34, 42), u(24, 30)]), [11.0, 8.0]


def _draw_foot_bones(canvas: Canvas, heel: np.ndarray) -> None:
    """Draw the heel bone, the ankle and the five rays of a foot."""

    def line(*points: tuple[float, float, float]) -> list[np.ndarray]:
        return [heel + np.array(p) for p in points]

    canvas.bone(line((-22, 34, 0), (-12, 0, 0), (-14, -50, 0)), [20, 18, 20])
    for ray in np.linspace(-1, 1, 5):
        canvas.bone(line((-22, -55, ray * 15), (-40, -120, ray * 22), (-46, -160, ray * 24)), 6, 2)


def _fill_limb(
    rng: np.random.Generator, canvas: Canvas, points: np.ndarray, radii: np.ndarray, bones: list[float]
) -> None:
    """Draw bones with marrow (thicker at the joints), and an artery and two veins beside them."""
    u = rng.uniform
    for i, (a, b) in enumerate(pairwise(points)):
        gap = np.array([0, 0, radii[i + 1] * 0.32])
        part = bones if i >= len(points) // 2 else bones[:1]
        for k, radius in enumerate(part):
            aside = gap * (k if len(part) > 1 else 0) - (gap * 0.4 if len(part) > 1 else 0)
            middle = (a + b) / 2 + aside
            canvas.bone([a + aside, middle, b + aside], [radius * 1.5, radius, radius * 1.5], cortex=u(2, 5))
    for region, radius in ((Region.ARTERY, u(2, 5)), (Region.VEIN, u(2.5, 6)), (Region.VEIN, u(1.5, 3))):
        where = rotation_matrix((u(0, 2 * np.pi), 0, 0)) @ np.array([0, 1, 0])
        canvas.tube(int(region), list(points + where * radii[:, None] * u(0.35, 0.7)), radius)


def _draw_pelvis(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw the hip bones, sacrum, bladder, bowel and vessels above the thighs."""
    u = rng.uniform
    canvas.ellipsoid(Region.FAT, (140, -5, 0), (120, 60, 95), rough=0.08)
    canvas.ellipsoid(Region.BOWEL, (170, -20, 0), (70, 42, 80), rough=0.15)
    inside = canvas.regions == Region.BOWEL
    canvas.regions[inside & (np.abs(canvas.rough) < 0.25)] = Region.FAT
    canvas.regions[inside & (canvas.rough > u(0.6, 2))] = Region.GAS
    canvas.ellipsoid(Region.BLADDER, (88, -30, 0), (u(18, 45), u(18, 40), u(20, 48)))
    canvas.ellipsoid(Region.SOFT_ORGAN, (80, 10, 0), (24, 20, 26), rough=0.1)
    canvas.tube(Region.BOWEL, [(120, 45, 0), (60, 40, 0)], u(12, 20))
    canvas.bone([(230, 35, 0), (150, 62, 0), (100, 72, 0)], [32, 24, 12])
    for side in (-1, 1):
        wing = [(215, -10, side * 118), (160, 28, side * 92), (105, 8, side * 84), (52, -38, side * 22)]
        canvas.bone(wing, [12, 15, 24, 10])
        canvas.tube(Region.CORTICAL_BONE, [(95, 12, side * 78), (30, 25, side * 58)], 12)
        canvas.bone([(90, 5, side * 86), (65, 5, side * 108), (0, 0, side * 100)], [23, 15, 15])
        for region, y in ((Region.ARTERY, -26), (Region.VEIN, -10)):
            canvas.tube(int(region), [(240, 10, side * 14), (150, y, side * 52), (50, y - 34, side * 76)], u(4, 8))


HEART_TISSUES = tuple(range(1, 13))
"""Ids of blood, myocardium and walls; used in random shapes so that the grey value alone does not indicate a heart."""


def _draw_shapes(rng: np.random.Generator) -> tuple[Canvas, str]:
    """Draw non-anatomical objects: nested ellipsoids, noise or a bottle, sometimes with blobs of heart tissue."""
    variant = str(rng.choice(["nested", "noise", "bottle"]))
    shape = [int(n) for n in rng.integers((90, 90, 90), (221, 181, 221))]
    canvas = blank_canvas(rng, shape, SPACING, tilt_degrees=25)
    others = [int(r) for r in Region if r > max(HEART_TISSUES) and r not in (Region.UNSEEN, Region.METAL)]
    if variant == "nested":
        _draw_nested(rng, canvas, others)
    elif variant == "noise":
        field = smooth_noise(rng, canvas.regions.shape, rng.uniform(8, 40))
        steps = np.sort(rng.uniform(-1.5, 1.5, rng.integers(2, 6)))
        canvas.regions[:] = rng.choice(others, len(steps) + 1).astype(np.uint8)[np.searchsorted(steps, field)]
        if rng.random() < 0.6:
            canvas.regions[smooth_noise(rng, canvas.regions.shape, rng.uniform(25, 60)) < rng.uniform(-0.5, 0.5)] = 0
    else:
        _draw_bottle(rng, canvas)
    if rng.random() < 0.6:
        _draw_lone_blobs(rng, canvas)
    return canvas, variant


def _draw_nested(rng: np.random.Generator, canvas: Canvas, tissues: list[int]) -> None:
    """Draw one to four groups of one to four nested ellipsoids."""
    size = np.array(canvas.regions.shape) * SPACING / 2
    for _ in range(rng.integers(1, 5)):
        centre, radii, tilt = rng.uniform(-0.5, 0.5, 3) * size, rng.uniform(0.2, 0.8, 3) * size, rng.uniform(-1, 1, 3)
        for _ in range(rng.integers(1, 5)):
            canvas.ellipsoid(int(rng.choice(tissues)), centre, radii, rough=rng.uniform(0, 0.15), tilt=tilt)
            centre, radii = centre + rng.uniform(-0.15, 0.15, 3) * radii, radii * rng.uniform(0.4, 0.9, 3)


def _draw_bottle(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw a bottle or ball of fluid: a wall, sometimes with rods and a gas bubble inside."""
    u = rng.uniform
    radius, half = u(35, 110), u(40, 150)
    wall, content = u(2, 7), int(rng.choice([Region.BLADDER, Region.EFFUSION, Region.BLOB_1, Region.FAT]))
    ends = [(-half, 0, 0), (half, 0, 0)] if rng.random() < 0.7 else [(0, 0, 0), (1, 0, 0)]
    canvas.tube(Region.TABLE, ends, radius, rough=0)
    canvas.tube(content, ends, radius - wall, rough=0)
    for _ in range(rng.integers(0, 9)):
        y, x = u(-0.7, 0.7, 2) * radius
        rod = int(rng.choice([Region.TABLE, Region.GAS, Region.BLOB_2, Region.BLOB_3, Region.FAT]))
        canvas.tube(rod, [(-half * u(0.2, 1), y, x), (half * u(0.2, 1), y, x)], u(3, 14), rough=0, into=content)
    if rng.random() < 0.5:
        canvas.ellipsoid(Region.GAS, (0, -radius, 0), (half, radius * u(0.2, 0.7), radius), rough=0, into=content)


def _draw_lone_blobs(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw separate ellipsoids and tubes of one heart tissue each, so that no two are adjacent as in a heart."""
    size = np.array(canvas.regions.shape) * SPACING / 2
    taken: list[tuple[np.ndarray, float]] = []
    for _ in range(rng.integers(1, 7)):
        centre, reach = rng.uniform(-0.9, 0.9, 3) * size, rng.uniform(10, 40)
        if any(np.linalg.norm(centre - c) < reach + r + 15 for c, r in taken):
            continue
        taken.append((centre, reach))
        tissue = int(rng.choice(HEART_TISSUES))
        if rng.random() < 0.5:
            canvas.ellipsoid(tissue, centre, reach * rng.uniform(0.4, 0.9, 3), rough=0.05, tilt=rng.uniform(-1, 1, 3))
        else:
            along = rng.normal(size=3)
            along *= 0.75 * reach / np.linalg.norm(along)
            canvas.tube(tissue, [centre - along, centre + along], reach * rng.uniform(0.1, 0.25))


def _draw_abdomen(rng: np.random.Generator) -> tuple[Canvas, str]:
    """Draw an abdomen below the diaphragm: a ring of fat and muscle, organs, bowel gas, kidneys and great vessels."""
    u = rng.uniform
    canvas = blank_canvas(rng, (int(u(110, 201)), int(u(160, 201)), 240), SPACING, tilt_degrees=6)
    deep, wide = u(85, 125), u(120, 168)
    canvas.ellipsoid(Region.MUSCLE, (0, 0, 0), (u(400, 900), deep, wide), rough=0.02)
    canvas = canvas.cover(skin=u(2, 5), fat=u(3, 34), uneven=0.3)
    hollow = np.array([u(400, 900), deep * u(0.62, 0.75), wide * u(0.68, 0.8)])
    canvas.ellipsoid(Region.FAT, (0, -6, 0), hollow, rough=0.03)
    _draw_organs(rng, canvas, hollow)
    _draw_back(rng, canvas, hollow)
    return canvas, "liver" if (canvas.regions == Region.LIVER).any() else "no liver"


def _draw_organs(rng: np.random.Generator, canvas: Canvas, hollow: np.ndarray) -> None:
    """Draw bowel loops and, each with some probability, liver, gallbladder, spleen, stomach, pancreas and kidneys."""
    u, regions = rng.uniform, canvas.regions
    _, deep, wide = hollow
    inside = coarse_distance(regions == Region.FAT, 3)
    loops = smooth_noise(rng, regions.shape, u(9, 18))
    canvas.ellipsoid(Region.BOWEL, (-u(20, 90), -12, 0), (u(90, 170), deep * 0.8, wide * 0.85), 0.08, into=Region.FAT)
    bowel = regions == Region.BOWEL
    regions[bowel & ((np.abs(loops) < u(0.1, 0.35)) | (inside < 2))] = Region.FAT
    regions[bowel & (loops > u(0.6, 2.2))] = Region.GAS
    for organ, centre, radii, share in (
        (Region.LIVER, (80, -5, -wide * 0.45), (u(70, 110), deep * 0.85, wide * 0.55), 0.75),
        (Region.GALLBLADDER, (20, -deep * 0.5, -wide * 0.3), (18, 14, 12), 0.6),
        (Region.SPLEEN, (70, deep * 0.4, wide * 0.7), (u(35, 60), u(25, 40), u(16, 26)), 0.75),
        (Region.STOMACH, (80, -deep * 0.4, wide * 0.4), (u(30, 60), u(25, 40), u(30, 50)), 0.7),
        (Region.PANCREAS, (20, 0, 10), (14, 14, 60), 0.7),
    ):
        if rng.random() < share:
            canvas.ellipsoid(int(organ), centre, radii, rough=0.08, tilt=u(-0.3, 0.3, 3))
    for side in (-1, 1):
        if rng.random() < 0.15:
            continue
        place, size = (
            np.array([u(-10, 30), deep * 0.5, side * wide * 0.48]),
            np.array([u(45, 62), u(22, 30), u(24, 32)]),
        )
        canvas.ellipsoid(Region.KIDNEY, place, size, rough=0.05)
        collecting = Region.ARTERY if rng.random() < 0.5 else Region.BLADDER
        canvas.ellipsoid(int(collecting), place - (0, 4, side * 8), size * u(0.25, 0.5), rough=0.2)
    if (regions == Region.STOMACH).any():
        canvas.ellipsoid(Region.GAS, (80, -deep * 0.65, wide * 0.4), (60, deep * 0.3, 60), into=Region.STOMACH)
    liver = regions == Region.LIVER
    regions[liver & (np.hypot(loops, canvas.rough) < u(0.05, 0.25))] = Region.LIVER_VESSEL


def _draw_back(rng: np.random.Generator, canvas: Canvas, hollow: np.ndarray) -> None:
    """Draw the spine with the muscles beside it, the aorta, the vena cava and their branches."""
    u, deep = rng.uniform, hollow[1]
    spine = deep * u(0.6, 0.75)
    for side in (-1, 1):
        canvas.tube(Region.MUSCLE, [(-300, spine - 8, side * 52), (300, spine + 6, side * 30)], [u(20, 30), u(10, 18)])
        canvas.tube(Region.ARTERY, [(20, spine - 34, 10), (10, spine - 10, side * 60)], u(2.5, 4))
        canvas.tube(Region.VEIN, [(12, spine - 38, -20), (6, spine - 14, side * 60)], u(3, 5))
    for z in range(-330, 330, 35):
        canvas.tube(Region.CORTICAL_BONE, [(z - 11, spine, 0), (z + 11, spine, 0)], 22, rough=0.02)
        canvas.tube(Region.MARROW, [(z - 9, spine, 0), (z + 9, spine, 0)], 19, rough=0.02)
        canvas.tube(Region.CORTICAL_BONE, [(z, spine + 34, -26), (z - 6, spine + 52, 0), (z, spine + 34, 26)], 6)
        canvas.tube(Region.CORTICAL_BONE, [(z - 6, spine + 50, 0), (z - 14, spine + 72, 0)], 5)
    canvas.tube(Region.BLADDER, [(-330, spine + 32, 0), (330, spine + 32, 0)], 9)
    canvas.tube(Region.SPINAL_CORD, [(0, spine + 32, 0), (330, spine + 32, 0)], 5)
    canvas.tube(Region.VESSEL_WALL, [(-90, spine - 34, 4), (330, spine - 34, 12)], aorta := u(9, 17))
    canvas.tube(Region.DESCENDING_AORTA, [(-90, spine - 34, 4), (330, spine - 34, 12)], aorta - 1.5)
    canvas.tube(Region.ARTERY, [(70, spine - 34, 8), (0, spine - 62, 2), (-70, spine - 72, 4)], u(3, 5))
    canvas.tube(Region.IVC, [(-90, spine - 30, -22), (330, spine - 36, -28)], u(8, 14))
    for side in (-1, 1):
        canvas.tube(Region.ARTERY, [(-90, spine - 34, 4), (-300, spine - 40, side * 90)], u(5, 8))
        canvas.tube(Region.IVC, [(-90, spine - 30, -22), (-300, spine - 30, side * 95)], u(6, 9))


_DRAWERS: dict[str, Callable[[np.random.Generator], tuple[Canvas, str]]] = {
    "head": _draw_head,
    "limbs": _draw_limbs,
    "shapes": _draw_shapes,
    "abdomen": _draw_abdomen,
}
