"""A phantom of an adult heart made of ellipsoids and tubes.

World axes are LPS, mm; the origin is the centre of the left ventricle. The dimensions are those of a small normal heart
(chambers 80-130 mL, wall thickness 9 mm, aortic diameter 28 mm, pulmonary trunk diameter 24 mm).
"""

from __future__ import annotations

import numpy as np

from heartseg.volume.geometry import Geometry

HEART_LOW = np.array([-80.0, -75.0, -60.0])
HEART_HIGH = np.array([70.0, 75.0, 105.0])
"""Bounding box of the phantom with a margin, LPS, mm."""

AORTA_RADIUS_MM = 14.0
TRUNK_RADIUS_MM = 12.0
BLOOD_HU, MYOCARDIUM_HU, FAT_HU, LUNG_HU = 350.0, 110.0, -90.0, -800.0


def heart_phantom(
    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 1.5),
    shape: tuple[int, int, int] | None = None,
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    noise_hu: float = 20.0,
    seed: int = 0,
) -> tuple[np.ndarray, Geometry, np.ndarray]:
    """Create a heart with contrast-enhanced blood, surrounded by fat and lung.

    Args:
        spacing_mm: voxel size ``(x, y, z)``.
        shape: grid ``(z, y, x)``, centred on the heart; by default just large enough for it.
        direction: direction of the grid, row-major 3x3, for oblique and flipped grids.
        noise_hu: standard deviation of the white noise.
        seed: seed of the noise.

    Returns:
        Labels (uint8, 1-7, ``(z, y, x)``), their geometry, and the image (float32, HU).
    """
    spacing = np.asarray(spacing_mm, float)
    matrix = np.asarray(direction, float).reshape(3, 3)
    if shape is None:
        size = np.ceil((np.abs(matrix.T) @ (HEART_HIGH - HEART_LOW)) / spacing).astype(int)
        shape = (int(size[2]), int(size[1]), int(size[0]))
    half = (np.asarray(shape[::-1]) - 1) / 2 * spacing
    origin = (HEART_LOW + HEART_HIGH) / 2 - matrix @ half
    geometry = Geometry(
        shape, (float(spacing[0]), float(spacing[1]), float(spacing[2])), (*map(float, origin),), direction
    )
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij", sparse=True)
    affine = geometry.affine
    world = [affine[w, 0] * x + affine[w, 1] * y + affine[w, 2] * z + affine[w, 3] for w in range(3)]
    labels = _paint(*world)
    image = _image(labels, *world)
    image += np.random.default_rng(seed).normal(0.0, noise_hu, shape).astype(np.float32)
    return labels, geometry, image


def _paint(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Labels 1-7 at world points."""
    axis = np.array([0.62, -0.52, -0.59])
    axis /= np.linalg.norm(axis)  # from base to apex: left, anterior, inferior
    along = axis[0] * x + axis[1] * y + axis[2] * z
    radial2 = x * x + y * y + z * z - along * along
    base = -24.0  # position of the valve plane along the axis
    cavity = (along / 42) ** 2 + radial2 / 25**2 < 1
    outer = (along / 51) ** 2 + radial2 / 34**2 < 1

    base_center = base * axis
    mitral = (along < base) & (along > base - 14) & (radial2 < 20**2)
    ring = (along < base) & (along > base - 12) & (radial2 < 30**2) & ~mitral  # fibrous skeleton: unlabelled
    atrium_left = _ellipsoid(x, y, z, base_center + np.array([-6, 24, 20]), (30, 21, 24)) & (along < base)
    ventricle_right = _ellipsoid(x, y, z, np.array([-16, -26, 0]), (46, 30, 40)) & ~outer & ~ring
    atrium_right = _ellipsoid(x, y, z, np.array([-56, 12, 14]), (21, 26, 30))
    up = np.array([-0.10, -0.12, 1.0])
    offset = np.array([-4.0, -7.5, 3.0])  # from the centre of the valve plane to the aortic valve: anterior and right
    aorta = _tube(x, y, z, base_center + offset, up, AORTA_RADIUS_MM, (-18, 75)) & (along < base)
    trunk = _tube(x, y, z, np.array([10.0, -36.0, 30.0]), np.array([0.1, 0.35, 1.0]), TRUNK_RADIUS_MM, (-8, 58))

    labels = np.zeros(along.shape, np.uint8)
    labels[ventricle_right] = 2
    labels[atrium_right & ~outer & ~ring & (labels == 0)] = 4
    labels[atrium_left & ~ring & ~atrium_right] = 3
    from_middle = [c - b for c, b in zip((x, y, z), base_center, strict=True)]
    front = sum(c * o for c, o in zip(from_middle, offset, strict=True)) > 0
    labels[mitral] = 3
    labels[(along < base) & (along > base - 8) & (radial2 < 26**2) & front] = 5  # basal septum around the aortic root
    labels[outer & (along >= base)] = 5
    labels[cavity & (along >= base)] = 1
    labels[trunk & ~outer & (labels != 5)] = 7
    labels[aorta] = 6
    return labels


def _ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, center: np.ndarray, semi: tuple[float, ...]) -> np.ndarray:
    return ((x - center[0]) / semi[0]) ** 2 + ((y - center[1]) / semi[1]) ** 2 + ((z - center[2]) / semi[2]) ** 2 < 1


def _tube(
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    start: np.ndarray,
    direction: np.ndarray,
    radius: float,
    reach: tuple[float, float],
) -> np.ndarray:
    unit = direction / np.linalg.norm(direction)
    dx, dy, dz = x - start[0], y - start[1], z - start[2]
    along = unit[0] * dx + unit[1] * dy + unit[2] * dz
    return (dx * dx + dy * dy + dz * dz - along * along < radius**2) & (along > reach[0]) & (along < reach[1])


def _image(labels: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Image in HU: contrast-enhanced blood and myocardium in fat, surrounded by lung."""
    center = (HEART_LOW + HEART_HIGH) / 2
    mediastinum = ((x - center[0]) / 85) ** 2 + ((y - center[1]) / 85) ** 2 + 0 * z < 1
    image = np.where(mediastinum, FAT_HU, LUNG_HU).astype(np.float32)
    image[labels > 0] = BLOOD_HU
    image[labels == 5] = MYOCARDIUM_HU
    return image


def tube_phantom(
    radius_mm: float,
    length_mm: float,
    direction: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
    label: int,
) -> tuple[np.ndarray, Geometry]:
    """Create a straight tube of one label, centred on the world origin, with its axis along ``direction`` (LPS)."""
    spacing = np.asarray(spacing_mm, float)
    reach = radius_mm + length_mm / 2 + 5
    size = np.ceil(2 * reach / spacing).astype(int)
    origin = -(size - 1) / 2 * spacing
    geometry = Geometry((int(size[2]), int(size[1]), int(size[0])), spacing_mm, (*map(float, origin),))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(geometry.index_to_world(index), -1, 0)
    tube = _tube(x, y, z, np.zeros(3), np.asarray(direction, float), radius_mm, (-length_mm / 2, length_mm / 2))
    return np.where(tube, label, 0).astype(np.uint8), geometry
