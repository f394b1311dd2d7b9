"""A phantom of an adult heart made of ellipsoids and tubes.

World axes are LPS, mm; the origin is the centre of the left ventricle. The dimensions are those of a small normal heart
(chambers 80-130 mL, wall thickness 9 mm, aortic diameter 28 mm, pulmonary trunk diameter 24 mm).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from heartseg.training.toy import AORTA_RADIUS_MM, HEART_HIGH, HEART_LOW, TRUNK_RADIUS_MM, paint_heart, tube
from heartseg.volume.geometry import Geometry
from triples import triple

__all__ = ["AORTA_RADIUS_MM", "HEART_HIGH", "HEART_LOW", "TRUNK_RADIUS_MM", "Phantom", "heart_phantom", "tube_phantom"]

Phantom = tuple[np.ndarray, Geometry, np.ndarray]
"""Labels, their geometry and the image: what :func:`heart_phantom` returns."""

BLOOD_HU, MYOCARDIUM_HU, FAT_HU, LUNG_HU = 350.0, 110.0, -90.0, -800.0


def heart_phantom(
    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 1.5),
    shape: tuple[int, int, int] | None = None,
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    noise_hu: float = 20.0,
    seed: int = 0,
) -> Phantom:
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
    labels, geometry, image = _heart(spacing_mm, shape, direction, noise_hu, seed)
    return labels.copy(), geometry, image.copy()


@lru_cache(maxsize=8)
def _heart(
    spacing_mm: tuple[float, float, float],
    shape: tuple[int, int, int] | None,
    direction: tuple[float, ...],
    noise_hu: float,
    seed: int,
) -> Phantom:
    """Compute the result of :func:`heart_phantom`, cached because drawing takes longer than most tests that use it."""
    spacing = np.asarray(spacing_mm, float)
    matrix = np.asarray(direction, float).reshape(3, 3)
    if shape is None:
        size = np.ceil((np.abs(matrix.T) @ (HEART_HIGH - HEART_LOW)) / spacing).astype(int)
        shape = (int(size[2]), int(size[1]), int(size[0]))
    half = (np.asarray(shape[::-1]) - 1) / 2 * spacing
    origin = (HEART_LOW + HEART_HIGH) / 2 - matrix @ half
    geometry = Geometry(shape, triple(spacing), triple(origin), direction)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij", sparse=True)
    affine = geometry.affine
    world = [affine[w, 0] * x + affine[w, 1] * y + affine[w, 2] * z + affine[w, 3] for w in range(3)]
    labels = paint_heart(*world)
    image = _image(labels, *world)
    image += np.random.default_rng(seed).normal(0.0, noise_hu, shape).astype(np.float32)
    return labels, geometry, image


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
    geometry = Geometry((int(size[2]), int(size[1]), int(size[0])), spacing_mm, triple(origin))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(geometry.index_to_world(index), -1, 0)
    inside = tube(x, y, z, np.zeros(3), np.asarray(direction, float), radius_mm, (-length_mm / 2, length_mm / 2))
    return np.where(inside, label, 0).astype(np.uint8), geometry
