"""Phantoms for measures: left ventricles, valves and septa of simple shapes, in any orientation, on any grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from heartseg.anatomy import STRUCTURES
from heartseg.measure import Circumstances, Patient
from heartseg.measure.boxes import crop_labels
from heartseg.measure.grid import HeartGrid, grid_of_crop
from heartseg.measure.study import Labels, Study, series_study
from heartseg.quality import measured_and_checked
from heartseg.volume.geometry import Geometry
from triples import triple


def heart_grid(labels: np.ndarray, geometry: Geometry) -> HeartGrid:
    """Return the grid for geometric measures of a label map."""
    crop = crop_labels(labels, geometry)
    assert crop is not None
    return grid_of_crop(crop)


def study_of_frames(frames: Sequence[Labels], patient: Patient, circumstances: Circumstances) -> Study:
    """Return the study of the label maps of a time series."""
    return series_study(
        len(frames),
        lambda k: frames[k],
        lambda k: measured_and_checked(*frames[k], STRUCTURES),
        patient,
        circumstances,
    )


def turned(seed: int) -> np.ndarray:
    """Return a random rotation, (3, 3); its columns are the phantom's own axes in world coordinates."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, ::-1]


def grid(
    half_mm: float, spacing: tuple[float, float, float], center: tuple[float, float, float] = (0, 0, 0)
) -> tuple[Geometry, np.ndarray]:
    """Return a grid of edge 2 * ``half_mm`` around ``center``, and the world points of its voxels ``(z, y, x, 3)``."""
    n = np.ceil(2 * half_mm / np.asarray(spacing)).astype(int)
    origin = np.asarray(center) - (n - 1) / 2 * spacing
    geometry = Geometry((int(n[2]), int(n[1]), int(n[0])), spacing, triple(origin))
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    return geometry, geometry.index_to_world(index)


@dataclass(frozen=True)
class LeftVentricle:
    """A prolate left ventricle with its wall and a septum, in its own axes: x septal, y anterior, z apex.

    Blood: ellipsoid with semi-axes ``radius``, ``radius``, ``half_length`` about the origin, below the mitral plane at
    z = ``base``; the left atrium lies above it. Wall: between this ellipsoid and one whose semi-axes are larger by
    ``wall``. The right ventricle is a layer of 12 mm on the wall, between the angles ``-half_septum`` and
    ``half_septum`` (degrees) around x, between z = -15 and 25; the right atrium covers its basal end.
    """

    radius: float = 24.0
    half_length: float = 46.0
    base: float = -28.0
    wall: float = 9.0
    half_septum: float = 60.0
    rotation_seed: int = 0
    extra_septal_wall: float = 0.0

    def shrunk(self, factor: float) -> LeftVentricle:
        """Return the ventricle with the semi-axes of the blood times ``factor`` and the same outer surface."""
        outside = self.radius + self.wall
        return replace(self, radius=self.radius * factor, wall=outside - self.radius * factor)

    @property
    def rotation(self) -> np.ndarray:
        """Columns are the ventricle's own axes in world coordinates. They are left-handed: septum, anterior, apex."""
        return turned(self.rotation_seed) * [1, -1, 1]

    @property
    def volume_ml(self) -> float:
        """Volume of the blood below the mitral plane."""
        t = self.base / self.half_length
        return np.pi * self.radius**2 * self.half_length * ((1 - t) - (1 - t**3) / 3) / 1000

    def labels(self, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> tuple[np.ndarray, Geometry]:
        geometry, world = grid(62.0, spacing, tuple(self.rotation @ [0.0, 0.0, 6.0]))
        x, y, z = np.moveaxis(world @ self.rotation, -1, 0)
        rho2, angle = x * x + y * y, np.degrees(np.arctan2(y, x))
        septum = np.abs(angle) < self.half_septum

        def inside(grow: np.ndarray | float) -> np.ndarray:
            return rho2 / (self.radius + grow) ** 2 + z * z / (self.half_length + grow) ** 2 < 1

        wall = self.wall + self.extra_septal_wall * septum
        labels = np.zeros(geometry.shape, np.uint8)
        right = inside(wall + 12) & septum & (z > -15) & (z < 25)
        labels[right] = 2
        labels[inside(wall + 12) & septum & (z <= -15) & (z > -30)] = 4
        labels[inside(wall)] = 5
        labels[inside(wall) & (z < self.base)] = 0
        labels[inside(0.0)] = np.where(z[inside(0.0)] < self.base, 3, 1)
        return labels, geometry


def cut_ellipsoid(
    normal: np.ndarray, offset: float, semi: np.ndarray, spacing: tuple[float, float, float], labels: tuple[int, int]
) -> tuple[np.ndarray, Geometry]:
    """Return an ellipsoid about (3, -2, 5), cut by a plane: ``labels`` before and behind it along ``normal``."""
    center = np.array([3.0, -2.0, 5.0])
    geometry, world = grid(float(semi.max()) + 5, spacing, tuple(center))
    local = world - center
    inside = ((local / semi) ** 2).sum(-1) < 1
    behind = local @ normal > offset
    return np.where(inside, np.where(behind, labels[1], labels[0]), 0).astype(np.uint8), geometry


def section_of_ellipsoid(normal: np.ndarray, offset: float, semi: np.ndarray) -> tuple[np.ndarray, float]:
    """Return centre (world) and area of the section made by :func:`cut_ellipsoid`."""
    q = float(((semi * normal) ** 2).sum())
    area = np.pi * semi.prod() / np.sqrt(q) * (1 - offset**2 / q)
    return np.array([3.0, -2.0, 5.0]) + offset * semi**2 * normal / q, area
