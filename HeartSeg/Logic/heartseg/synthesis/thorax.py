"""Synthetic thorax around a heart: chest wall, spine, lungs and abdomen from simple shapes (1 mm, 216 mm cube).

It is less realistic than the trunk atlas but varies much more, because every dimension is random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi

from .devices import add_devices
from .fields import smooth_noise
from .hearts import SIZE, Heart
from .regions import Region
from .vessels import Landmarks, add_vessels, draw_anchors

HALF = SIZE // 2
"""Edge length of the half-resolution grid (2 mm) on which the surroundings are drawn."""
SHAPE = (HALF,) * 3


@dataclass(frozen=True)
class Grid:
    """Open coordinate grids of the surroundings, in mm."""

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray


@dataclass(frozen=True)
class Cavity:
    """Thoracic cavity: mask, distance (mm) to it from outside, y of its centre, half its depth, spine position."""

    mask: np.ndarray
    distance: np.ndarray
    centre_y: float
    half_depth: float
    spine_y: float
    spine_x: float


def make_thorax(
    rng: np.random.Generator, heart: Heart, marks: Landmarks, without: frozenset[str] = frozenset()
) -> tuple[np.ndarray, np.ndarray]:
    """Make a thorax scene: regions and target, uint8 (216, 216, 216), 1 mm."""
    anchors = draw_anchors(rng, marks)
    add_vessels(rng, heart, marks, anchors)
    if "devices" not in without:
        add_devices(rng, heart, marks)
    near = heart.regions[::2, ::2, ::2]
    organ = heart.labels[::2, ::2, ::2] > 0
    z, y, x = np.ogrid[:HALF, :HALF, :HALF]
    grid = Grid(z * 2.0, y * 2.0, x * 2.0)
    from_heart = ndi.distance_transform_edt(~organ).astype(np.float32) * 2
    cavity = _draw_cavity(rng, grid, organ, from_heart, anchors.spine_front_y, anchors.spine_x)
    regions = np.zeros(SHAPE, np.uint8)
    _chest_wall(rng, grid, cavity, regions)
    solid = organ | (np.isin(near, _SOLID))
    border = _mediastinum(rng, grid, cavity, regions, solid, marks)
    _spine(rng, grid, cavity, regions)
    _abdomen(rng, grid, cavity, regions, organ)
    _lungs(rng, grid, regions, ndi.distance_transform_edt(~solid).astype(np.float32) * 2, border, cavity)
    _around_heart(rng, regions, from_heart, "blobs" not in without)
    fine = regions.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    put = (heart.regions > 0) & ~((heart.regions == Region.AIRWAY) & (fine == Region.LUNG))
    return np.where(put, heart.regions, fine), heart.target


_SOLID = tuple(
    int(r)
    for r in (
        Region.AO_BLOOD,
        Region.AO_WALL,
        Region.PA_BLOOD,
        Region.PA_WALL,
        Region.ARCH,
        Region.VESSEL_WALL,
        Region.IVC,
        Region.DESCENDING_AORTA,
        Region.FALSE_LUMEN,
        Region.SVC,
        Region.AIRWAY,
        Region.OESOPHAGUS,
    )
)


def _draw_cavity(
    rng: np.random.Generator, grid: Grid, organ: np.ndarray, from_heart: np.ndarray, spine_y: float, spine_x: float
) -> Cavity:
    """Draw a superelliptic cylinder from behind the sternum to beside the spine, widened around the heart."""
    u = rng.uniform
    front = np.percentile(np.argwhere(organ)[:, 1], 0.5) * 2 - u(2, 16)
    back = spine_y + u(30, 48)
    centre_y, half_depth, half_width = (front + back) / 2, (back - front) / 2, u(105, 150)
    power, centre_x = u(2.1, 3), spine_x + u(-6, 6)
    oval = np.abs((grid.x - centre_x) / half_width) ** power + np.abs((grid.y - centre_y) / half_depth) ** power
    mask = np.broadcast_to(oval < 1, SHAPE) | (from_heart < u(3, 8))
    distance = ndi.distance_transform_edt(~mask).astype(np.float32) * 2
    return Cavity(mask, distance, centre_y, half_depth, spine_y, spine_x)


def _chest_wall(rng: np.random.Generator, grid: Grid, cavity: Cavity, regions: np.ndarray) -> None:
    u, d = rng.uniform, cavity.distance
    muscle, fat, noise = u(8, 28), u(4, 50), smooth_noise(rng, SHAPE, 20)
    regions[d < muscle + fat + 2] = Region.SKIN
    regions[d < muscle + fat] = Region.FAT
    wall = d < muscle + 3 * noise
    regions[wall] = Region.MUSCLE
    regions[wall & (d > 2) & (smooth_noise(rng, SHAPE, 6) > 1.2)] = Region.FAT
    slope = grid.z + 0.45 * (grid.y - cavity.centre_y) + 0.12 * np.abs(grid.x - cavity.spine_x)
    phase = (slope / u(22, 32) + u(0, 1)) % 1
    beside = (np.abs(grid.x - cavity.spine_x) > 22) | (grid.y > cavity.centre_y)
    rib = (d > 1.5) & (d < u(9, 13)) & (phase < u(0.28, 0.45)) & beside
    sternum = (d > 1) & (d < u(10, 14)) & (np.abs(grid.x - cavity.spine_x) < u(12, 20)) & (grid.y < cavity.centre_y)
    bone = rib | sternum
    regions[bone] = Region.CORTICAL_BONE
    regions[ndi.binary_erosion(bone)] = Region.MARROW
    if rng.random() < 0.5:
        front = (grid.y < cavity.centre_y - 0.4 * cavity.half_depth) & (np.abs(grid.x - cavity.spine_x) < u(40, 80))
        regions[rib & front] = Region.CARTILAGE
    regions[cavity.mask] = Region.LUNG


def _mediastinum(
    rng: np.random.Generator, grid: Grid, cavity: Cavity, regions: np.ndarray, solid: np.ndarray, marks: Landmarks
) -> np.ndarray:
    """Draw fat between heart and vessels and an anterior wedge of fat; returns a mask of the fat's border."""
    u, reach = rng.uniform, rng.uniform(6, 18)
    near = ndi.distance_transform_edt(~solid) * 2 < reach
    depth = ndi.distance_transform_edt(near).astype(np.float32) * 2
    limit = reach - u(1, 5)
    fat = depth > limit - 1.5 * smooth_noise(rng, SHAPE, 14)
    wedge = np.abs(grid.x - cavity.spine_x - u(0, 12)) < u(4, 30) + 4 * smooth_noise(rng, SHAPE, 16)
    fat |= wedge & (grid.y < marks.la_centre[1])
    regions[cavity.mask & fat] = Region.MEDIASTINAL_FAT
    return depth > limit - 3


def _spine(rng: np.random.Generator, grid: Grid, cavity: Cavity, regions: np.ndarray) -> None:
    u, x0 = rng.uniform, cavity.spine_x
    half_width, half_depth = u(15, 20), u(13, 17)
    y0 = cavity.spine_y + half_depth
    body = np.broadcast_to(((grid.x - x0) / half_width) ** 2 + ((grid.y - y0) / half_depth) ** 2, SHAPE)
    level = (grid.z / u(22, 28) + u(0, 1)) % 1
    disc = np.broadcast_to(level < 0.2, SHAPE)
    beside = np.broadcast_to((np.abs(grid.x - x0) < 30) & (grid.y > y0) & (grid.y < y0 + 45), SHAPE)
    regions[beside & cavity.mask] = Region.MUSCLE
    regions[(body < 1) & ~disc] = Region.CORTICAL_BONE
    regions[(body < 0.75) & ~disc] = Region.MARROW
    regions[(body < 1) & disc] = Region.DISC
    canal_y = y0 + half_depth + 7
    canal = ((grid.x - x0) / 9) ** 2 + ((grid.y - canal_y) / 7) ** 2
    regions[np.broadcast_to(canal < 1, SHAPE)] = Region.SPINAL_CORD
    ring = np.abs(((grid.x - x0) / 14) ** 2 + ((grid.y - canal_y) / 12) ** 2 - 1) < 0.35
    regions[np.broadcast_to(ring & (level > 0.3) & (level < 0.85), SHAPE)] = Region.CORTICAL_BONE


def _abdomen(rng: np.random.Generator, grid: Grid, cavity: Cavity, regions: np.ndarray, organ: np.ndarray) -> None:
    """Draw the two domes of the diaphragm under the heart, and liver, stomach and fat below them."""
    u, x0 = rng.uniform, cavity.spine_x
    covered = organ.any(0)
    floor = np.where(covered, organ.argmax(0) * 2.0, 1e3)
    lowest = floor.min()
    depth = ((grid.y[0] - cavity.centre_y) / u(60, 100)) ** 2 * 30
    right = lowest + u(-5, 45) - ((grid.x[0] - x0 + u(40, 70)) / u(55, 90)) ** 2 * 30 - depth
    left = lowest + u(-25, 22) - ((grid.x[0] - x0 - u(60, 80)) / u(50, 80)) ** 2 * 30 - depth
    dome = np.maximum(np.maximum(right, left), lowest - u(2, 30))
    dome = ndi.gaussian_filter(np.minimum(dome, np.where(covered, floor - u(1, 5), 1e3)), 1.2)
    dome = np.minimum(dome, np.where(covered, floor - 1, 1e3))
    bone = np.isin(regions, (Region.CORTICAL_BONE, Region.MARROW, Region.DISC))
    below = (grid.z < dome[None]) & cavity.mask & ~bone
    regions[below] = Region.MUSCLE
    inside = (grid.z < (dome - 3)[None]) & below
    liver = grid.x + 6 * smooth_noise(rng, SHAPE, 18) < x0 + u(5, 45)
    regions[inside] = Region.FAT
    blobs = smooth_noise(rng, SHAPE, u(14, 22))
    regions[inside & ~liver & (blobs > -0.8)] = Region.SOFT_ORGAN
    regions[inside & ~liver & (blobs > 0.2)] = Region.STOMACH
    regions[inside & ~liver & (blobs > 1.0) & (grid.y < cavity.centre_y + 30)] = Region.GAS
    regions[inside & liver] = Region.LIVER
    if rng.random() < 0.5:
        tube = (np.abs(smooth_noise(rng, SHAPE, 14)) < 0.12) & (np.abs(smooth_noise(rng, SHAPE, 14)) < 0.25)
        regions[(regions == Region.LIVER) & tube] = Region.LIVER_VESSEL


def _lungs(
    rng: np.random.Generator,
    grid: Grid,
    regions: np.ndarray,
    from_solid: np.ndarray,
    border: np.ndarray,
    cavity: Cavity,
) -> None:
    """Draw lung vessels that taper away from the mediastinum, and sometimes dependent opacities and pericardium."""
    u = rng.uniform
    tube = smooth_noise(rng, SHAPE, u(9, 13)) ** 2 + smooth_noise(rng, SHAPE, u(9, 13)) ** 2
    thickness = np.clip(1.6 - np.clip(from_solid / 40, 0, 1.4), 0.2, 1.6)
    lung = regions == Region.LUNG
    regions[lung & (tube < u(0.08, 0.2) ** 2 * 4 * thickness)] = Region.LUNG_VESSEL
    if rng.random() < 0.25:
        back = grid.y > cavity.spine_y + 40 - u(20, 60)
        regions[lung & back] = rng.choice([Region.ATELECTASIS, Region.INFILTRATE])
    if rng.random() < 0.6:
        regions[(regions == Region.LUNG) & border] = Region.MUSCLE


def _around_heart(rng: np.random.Generator, regions: np.ndarray, from_heart: np.ndarray, blobs_too: bool) -> None:
    """Draw coronary arteries, lymph nodes, and sometimes an effusion and random blobs."""
    u = rng.uniform
    fat = regions == Region.MEDIASTINAL_FAT
    line = (np.abs(smooth_noise(rng, SHAPE, 10)) < 0.1) & (np.abs(smooth_noise(rng, SHAPE, 12)) < 1.2)
    regions[fat & (from_heart < 6) & line] = Region.CORONARY
    if rng.random() < 0.2:
        wet = np.isin(regions, (Region.MEDIASTINAL_FAT, Region.LUNG, Region.LUNG_VESSEL))
        regions[wet & (from_heart < u(2, 8)) & (smooth_noise(rng, SHAPE, 20) > -0.3)] = Region.EFFUSION
    regions[(regions == Region.MEDIASTINAL_FAT) & (smooth_noise(rng, SHAPE, 7) > 1.5)] = Region.LYMPH_NODE
    if blobs_too and rng.random() < 0.6:
        blobs = smooth_noise(rng, SHAPE, u(6, 20))
        for k in range(6):
            hit = (blobs > u(1.4, 2.2)) & (regions > 0) & (smooth_noise(rng, SHAPE, u(10, 40)) > 1)
            regions[hit] = Region.BLOB_0 + k
