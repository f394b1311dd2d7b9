"""Vessels and airways that the shape model lacks, painted as tubes around a heart (1 mm cube, z y x, LPS).

The model ends about 5 cm above the aortic valve and just above the pulmonary valve. This module continues the ascending
aorta to the arch and the pulmonary artery to its first branches, and adds caval and pulmonary veins, appendages,
trachea and bronchi. Vessels beyond the labelled course (arch, distal branches) are ``IGNORE`` in the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi

from .hearts import SIZE, Heart
from .regions import IGNORE, Region


@dataclass
class Anchors:
    """Positions of the neighbouring anatomy, in cube coordinates (z, y, x), mm.

    ``descending`` is the course of the descending aorta, starting where it meets the arch. For an atlas with its own
    descending aorta it is the single point where that aorta starts. ``paint_airways`` is False if the atlas already has
    a trachea and an oesophagus.
    """

    spine_front_y: float
    spine_x: float
    descending: list[np.ndarray]
    descending_radius: float
    svc_top: np.ndarray
    ivc_bottom: np.ndarray
    paint_airways: bool
    carina: np.ndarray


@dataclass(frozen=True)
class Landmarks:
    """Points of a heart from which the vessels start: voxels (n, 3) of each blood pool, at every second voxel."""

    pools: dict[int, np.ndarray]

    @property
    def la_centre(self) -> np.ndarray:
        return self.pools[3].mean(0)

    @property
    def la_back(self) -> float:
        return float(np.percentile(self.pools[3][:, 1], 99))

    @property
    def la_top(self) -> float:
        return float(np.percentile(self.pools[3][:, 0], 98))


def landmarks(heart: Heart) -> Landmarks:
    """Collect the voxels of each blood pool of a heart; pool 7 includes the wall of the pulmonary artery."""
    half = heart.labels[::2, ::2, ::2]
    pools = {k: np.argwhere(half == k) * 2.0 for k in (1, 2, 3, 4, 5, 6)}
    pools[7] = np.argwhere(np.isin(half, (7, 12))) * 2.0
    if len(pools[7]) < 20:
        rv = pools[2]
        pools[7] = rv[rv[:, 0] > np.percentile(rv[:, 0], 97)]
    return Landmarks(pools)


def draw_anchors(rng: np.random.Generator, marks: Landmarks) -> Anchors:
    """Draw the anchors of a synthetic thorax: spine behind the left atrium, descending aorta to the left of it."""
    u = rng.uniform
    x, y = marks.la_centre[2] + u(-18, 8), marks.la_back + u(6, 26)
    dy, dx, wobble = y + u(-12, 6), x + u(12, 26), u(-8, 8)
    aorta = marks.pools[6]
    top = aorta[:, 0].max() + u(8, 30)
    ra = marks.pools[4]
    roof = upper_back(ra, 24).mean(0)
    floor = lower_back(ra, 18).mean(0)
    return Anchors(
        spine_front_y=y,
        spine_x=x,
        descending=[
            np.array([top, dy, dx]),
            np.array([top * 0.6, dy + u(-4, 4), dx + wobble]),
            np.array([-10, dy + u(-10, 6), dx + wobble - u(0, 18)]),
        ],
        descending_radius=rng.choice([u(8, 13), u(12, 20)], p=[0.8, 0.2]),
        svc_top=roof + np.array([150, u(-10, 0), u(-6, 10)]),
        ivc_bottom=floor + np.array([-120, u(4, 20), u(0, 10)]),
        paint_airways=True,
        carina=np.array([marks.la_top + u(6, 20), y - u(8, 16), x + u(-4, 6)]),
    )


def upper_back(pool: np.ndarray, depth: float) -> np.ndarray:
    """Posterior 40 % of the voxels of a pool within ``depth`` mm of its top."""
    high = pool[pool[:, 0] > pool[:, 0].max() - depth]
    return high[high[:, 1] >= np.percentile(high[:, 1], 60)]


def lower_back(pool: np.ndarray, depth: float) -> np.ndarray:
    """Posterior 40 % of the voxels of a pool within ``depth`` mm of its floor."""
    low = pool[pool[:, 0] < pool[:, 0].min() + depth]
    return low[low[:, 1] >= np.percentile(low[:, 1], 60)]


def paint_tube(
    volume: np.ndarray,
    path: Sequence[np.ndarray] | np.ndarray,
    radii: Sequence[float],
    region: int,
    *,
    over: Sequence[int] = (0,),
    wall: float = 0.0,
    wall_region: int = 0,
) -> None:
    """Paint a tube into a region map, in place, over voxels with an id in ``over``.

    Args:
        volume: (z, y, x) uint8, 1 mm voxels.
        path: points (z, y, x) in voxels; the path is smoothed.
        radii: radii in mm at equal distances along the path.
        region: id of the lumen.
        over: ids that the tube may overwrite.
        wall: wall thickness in mm, painted first.
        wall_region: id of the wall.
    """
    writable = np.zeros(256, bool)
    writable[list(over)] = True
    points = np.asarray(path, float)
    lengths = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    n = max(2, int(lengths[-1] / 1.5))
    s = np.linspace(0, lengths[-1], n)
    line = np.stack([np.interp(s, lengths, points[:, k]) for k in range(3)], 1)
    if n > 8:
        line = ndi.gaussian_filter1d(line, 4, axis=0, mode="nearest")
    r = np.interp(s / max(lengths[-1], 1e-6), np.linspace(0, 1, len(radii)), radii)
    layers = ((wall, wall_region), (0.0, region)) if wall else ((0.0, region),)
    for grow, value in layers:
        if wall:
            writable[wall_region] = True
        for centre, radius in zip(line, r + grow, strict=True):
            low = np.maximum(np.floor(centre - radius).astype(int), 0)
            high = np.minimum(np.ceil(centre + radius).astype(int) + 1, volume.shape)
            if (high <= low).any():
                continue
            q = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            ball = sum((q[k] - centre[k]) ** 2 for k in range(3)) < radius * radius
            sub = volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            sub[ball & writable[sub]] = value


def add_vessels(rng: np.random.Generator, heart: Heart, marks: Landmarks, anchors: Anchors) -> None:
    """Paint all vessels, appendages and airways around a heart, in place (``heart.regions`` and ``heart.target``)."""
    wall = rng.uniform(0.6, 1.6)
    ascending_top, radius = _ascending_aorta(rng, heart, marks, wall)
    _arch(rng, heart, anchors, ascending_top, radius, wall)
    right_pa = _pulmonary_artery(rng, heart, marks, ascending_top, radius, wall)
    _caval_veins(rng, heart, marks, anchors)
    _pulmonary_veins(rng, heart, marks)
    _appendages(rng, heart, marks)
    _coronary_sinus(rng, heart, marks)
    _airways_and_oesophagus(rng, heart, marks, anchors, right_pa)


def _ascending_aorta(rng: np.random.Generator, heart: Heart, marks: Landmarks, wall: float) -> tuple[np.ndarray, float]:
    u, ao = rng.uniform, marks.pools[6]
    top = ao[:, 0].max()
    start = ao[ao[:, 0] > top - 12].mean(0)
    band = ao[(ao[:, 0] > top - 24) & (ao[:, 0] <= top - 8)]
    radius = float(np.clip(np.sqrt(len(band) * 8 / 16 / np.pi), 8, 22))
    direction = start - ao[ao[:, 0] < np.median(ao[:, 0])].mean(0)
    direction /= np.linalg.norm(direction) + 1e-6
    direction = direction * 0.6 + np.array([0.8, 0.15, -0.05])
    direction /= np.linalg.norm(direction)
    end = start + direction * u(18, 50)
    radii = [radius, radius * u(0.85, 1.15), radius * u(0.8, 1.05)]
    if heart.aorta_mm is not None:
        radius = heart.aorta_mm / 2
        radii = [radius, radius, radius * 0.95]
    path = [start - direction * 2, start + direction * 8, end]
    paint_tube(heart.regions, path, radii, Region.AO_BLOOD, wall=wall, wall_region=Region.AO_WALL)
    heart.target[heart.regions == Region.AO_BLOOD] = 6
    return end, radius


def _arch(
    rng: np.random.Generator, heart: Heart, anchors: Anchors, start: np.ndarray, radius: float, wall: float
) -> None:
    u = rng.uniform
    joint = anchors.descending[0]
    apex = max(start[0], joint[0])
    p1 = start + np.array([apex - start[0] + u(18, 36), 5, 3])
    p2 = joint + np.array([apex - joint[0] + u(18, 36), 0, 0])
    t = np.linspace(0, 1, 16)[:, None]
    course = (1 - t) ** 3 * start + 3 * t * (1 - t) ** 2 * p1 + 3 * t * t * (1 - t) * p2 + t**3 * joint
    ascending = heart.regions == Region.AO_BLOOD
    radii = [radius * 0.9, radius * 0.8, anchors.descending_radius]
    paint_tube(heart.regions, course, radii, Region.ARCH, wall=wall, wall_region=Region.VESSEL_WALL)
    heart.regions[ascending] = Region.AO_BLOOD
    heart.target[heart.regions == Region.ARCH] = IGNORE
    if len(anchors.descending) > 1:
        r = anchors.descending_radius
        radii = [r, r * u(0.8, 1.1), r * u(0.7, 1)]
        paint_tube(
            heart.regions,
            anchors.descending,
            radii,
            Region.DESCENDING_AORTA,
            wall=wall,
            wall_region=Region.VESSEL_WALL,
        )
    if rng.random() < 0.3:
        _dissection(rng, heart.regions, joint)


def _dissection(rng: np.random.Generator, regions: np.ndarray, centre: np.ndarray) -> None:
    """Split the descending aorta with a flap; one side becomes a false lumen."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.ogrid[:SIZE, :SIZE]
    side = (y - centre[1]) * np.sin(angle) + (x - centre[2]) * np.cos(angle) + rng.uniform(-5, 5)
    lumen = regions == Region.DESCENDING_AORTA
    regions[lumen & (side > 2)[None]] = Region.FALSE_LUMEN
    regions[lumen & (np.abs(side) < 1)[None]] = Region.VESSEL_WALL


def _pulmonary_artery(
    rng: np.random.Generator, heart: Heart, marks: Landmarks, ascending_top: np.ndarray, ao_radius: float, wall: float
) -> np.ndarray:
    """Paint the trunk, the right branch (behind the aorta) and the left branch; returns a point of the right one."""
    u, pool = rng.uniform, marks.pools[7]
    aorta = marks.pools[6]
    ao_start = aorta[aorta[:, 0] > aorta[:, 0].max() - 12].mean(0)
    top = pool[:, 0].max()
    start, r = pool[pool[:, 0] > top - 8].mean(0), u(10, 15.5)
    fork = start + np.array([u(12, 26), u(18, 34), u(-4, 6)])
    fork[0] = max(fork[0], marks.la_top + u(0, 6))
    r = r if heart.pulmonary_mm is None else heart.pulmonary_mm / 2
    wall *= 0.7

    def paint(path: list[np.ndarray], radii: list[float]) -> None:
        paint_tube(heart.regions, path, radii, Region.PA_BLOOD, wall=wall, wall_region=Region.PA_WALL)

    trunk = [start - np.array([3, 0, 0]), start + 0.45 * (fork - start) + np.array([3, -2, 0]), fork]
    first = r * u(0.85, 1.05)
    paint(trunk, [first if heart.pulmonary_mm is None else r, r, r * 0.95])
    branch = u(0.6, 0.85) * r
    behind = max(ao_start[1] + ao_radius + branch + 2, fork[1])
    r1 = np.array([max(fork[0], marks.la_top + branch * 0.8) + u(-3, 3), behind, ao_start[2]])
    r2 = r1 + np.array([u(-8, 2), u(2, 10), -u(25, 35)])
    r3 = r2 + np.array([u(-15, 5), u(0, 15), -u(15, 30)])
    paint([fork, r1, r2], [r * 0.8, branch, branch * 0.9])
    l1 = fork + np.array([u(0, 10), u(18, 28), u(8, 18)])
    l2 = l1 + np.array([u(-12, 2), u(12, 25), u(8, 18)])
    paint([fork, l1], [r * 0.85, branch])
    heart.target[heart.regions == Region.PA_BLOOD] = 7
    for path, radii in (
        ([r2, r3, r3 + np.array([-u(10, 30), u(0, 15), -u(10, 20)])], [branch * 0.8, branch * 0.5, 3]),
        ([l1, l2, l2 + np.array([-u(15, 40), u(0, 10), u(0, 15)])], [branch * 0.9, branch * 0.6, 3]),
    ):
        paint_tube(heart.regions, path, radii, Region.DISTAL_PA)
    heart.target[heart.regions == Region.DISTAL_PA] = IGNORE
    return r1


def _caval_veins(rng: np.random.Generator, heart: Heart, marks: Landmarks, anchors: Anchors) -> None:
    u, ra = rng.uniform, marks.pools[4]
    start, r = upper_back(ra, 24).mean(0), u(6.5, 11)
    course = anchors.svc_top - start
    path = [start - np.array([6, 0, 0])]
    path += [start + f * course + np.array([0, u(-3, 5), u(-5, 3)]) for f in (0.2, 0.5)] + [anchors.svc_top]
    over = (0, Region.RA_WALL)
    paint_tube(heart.regions, path, [r, r, r * 0.9], Region.SVC, over=over, wall=0.8, wall_region=Region.RA_WALL)
    start, r = lower_back(ra, 18).mean(0), u(8, 14)
    course = anchors.ivc_bottom - start
    path = [start + np.array([4, 0, 0])]
    path += [start + f * course + np.array([0, u(-2, 6), u(-3, 5)]) for f in (0.2, 0.5)] + [anchors.ivc_bottom]
    paint_tube(heart.regions, path, [r, r, r * 0.9], Region.IVC, over=over)


def _pulmonary_veins(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Paint up to four veins with side branches; their first centimetre belongs to the left atrium."""
    u, la, centre = rng.uniform, marks.pools[3], marks.la_centre
    back = la[la[:, 1] > centre[1]]
    for side in (-1, 1):
        for up in (-1, 1):
            near = back[(back[:, 2] - centre[2]) * side > 0]
            near = near[(near[:, 0] - centre[0]) * up > -4]
            if len(near) < 10:
                continue
            mouth = near[np.argsort(near[:, 2] * side)[-max(5, len(near) // 12) :]].mean(0)
            r = u(4.5, 8.5)
            direction = np.array([up * u(0, 0.6), u(0.1, 0.7), side])
            direction /= np.linalg.norm(direction)
            stub = mouth + direction * u(7, 12)
            paint_tube(
                heart.regions, [mouth - direction * 5, mouth, stub], [r, r, r * 0.9], Region.LA_BLOOD, over=(0, 9)
            )
            end = mouth + direction * u(16, 30)
            far = end + (direction + rng.normal(0, 0.3, 3)) * u(15, 30)
            paint_tube(heart.regions, [stub, end, far], [r * 0.95, r * 0.8, 2], Region.PULMONARY_VEIN)
            side_end = end + (direction + rng.normal(0, 0.5, 3)) * u(15, 30)
            paint_tube(heart.regions, [end, side_end], [r * 0.6, 1.5], Region.PULMONARY_VEIN)
    heart.target[heart.regions == Region.LA_BLOOD] = 3


def _appendages(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Paint the left appendage beside the pulmonary trunk and the right one in front of the aortic root, as atria."""
    u = rng.uniform
    for pool, region, sideways, share in ((3, Region.LA_BLOOD, 0.35, 0.9), (4, Region.RA_BLOOD, 0.35, 0.7)):
        if rng.random() > share:
            continue
        atrium = marks.pools[pool]
        high = atrium[atrium[:, 0] > np.percentile(atrium[:, 0], 60)]
        score = -high[:, 1] + (high[:, 2] if pool == 3 else 0.3 * high[:, 2])
        mouth = high[np.argsort(score)[-max(5, len(high) // 15) :]].mean(0)
        direction = np.array([u(0, 0.5), -1, sideways + u(-0.2, 0.4)])
        direction /= np.linalg.norm(direction)
        turn = direction + np.array([u(-0.4, 0.4), 0, u(-0.5, 0.5)])
        middle = mouth + direction * u(8, 18)
        tip = middle + turn * u(6, 18)
        r = u(5, 9)
        paint_tube(
            heart.regions, [mouth - direction * 4, middle, tip], [r, r * u(0.7, 1.1), r * 0.5], region, over=(0, 9, 10)
        )
        heart.target[heart.regions == region] = pool


def _coronary_sinus(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Paint the vein in the groove behind the mitral valve, from the left atrium to the floor of the right atrium."""
    u, la, lv = rng.uniform, marks.pools[3], marks.pools[1]
    if rng.random() < 0.2:
        return
    floor = la[la[:, 0] < np.percentile(la[:, 0], 12)].mean(0)
    left = la[la[:, 2] > np.percentile(la[:, 2], 92)].mean(0)
    left[0] = min(left[0], lv[:, 0].max())
    behind = floor + np.array([-u(2, 6), u(2, 8), u(-4, 4)])
    mouth = lower_back(marks.pools[4], 18).mean(0) + np.array([u(4, 12), 0, u(2, 8)])
    r = u(2.5, 6)
    over = (0, int(Region.LA_WALL), int(Region.RA_WALL))
    paint_tube(heart.regions, [left, behind, mouth], [r * 0.5, r, r], Region.CORONARY_SINUS, over=over)


def _airways_and_oesophagus(
    rng: np.random.Generator, heart: Heart, marks: Landmarks, anchors: Anchors, right_pa: np.ndarray
) -> None:
    u = rng.uniform
    carina = anchors.carina.copy()
    if anchors.paint_airways:
        carina[0] = max(marks.la_top, right_pa[0]) + u(6, 20)
        trachea = [carina, carina + np.array([120, -10, 0])]
        paint_tube(heart.regions, trachea, [u(7, 9)], Region.AIRWAY, wall=1.5, wall_region=Region.MUSCLE)
    for side in (-1, 1):
        first = carina + np.array([-u(15, 22), u(0, 8), side * u(18, 28)])
        second = carina + np.array([-u(25, 40), u(5, 18), side * u(40, 55)])
        bronchus = [carina, first, second]
        paint_tube(heart.regions, bronchus, [6, 5, 2.5], Region.AIRWAY, wall=1.2, wall_region=Region.MUSCLE)
    if anchors.paint_airways:
        y, x = anchors.spine_front_y, anchors.spine_x
        behind_la = [marks.la_centre[0], marks.la_back + u(4, 7), x + u(-2, 10)]
        course = np.array([[SIZE, y - 8, x + 2], behind_la, [0, y - u(5, 15), x + u(5, 25)]])
        paint_tube(heart.regions, course, [u(4, 8)], Region.OESOPHAGUS)
        if rng.random() < 0.4:
            bubble = np.array([[u(60, 200), behind_la[1], x + 4], [u(60, 200), behind_la[1] + 1, x + 5]])
            paint_tube(heart.regions, bubble, [2.5], Region.AIRWAY, over=(Region.OESOPHAGUS,))
