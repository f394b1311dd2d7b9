"""Draw simple bodies into a region map: ellipsoids and tubes with rough outlines, skin, fat, a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .fields import coarse_distance, rotation_matrix, smooth_noise
from .regions import Region

Point = Sequence[float] | np.ndarray
"""Three numbers (z, y, x)."""


@dataclass(frozen=True)
class Canvas:
    """Region map on which a body is drawn.

    Points are in mm, relative to the centre of the body, in body axes (z up, y back, x left). ``regions`` (uint8,
    (z, y, x), LPS) is painted in place. ``rough`` (float32, same shape, unit SD) perturbs every outline. ``turn`` (3x3)
    and ``middle`` (mm from voxel (0, 0, 0)) place the body axes in the map. With ``within``, only painted voxels are
    overwritten, so that organs do not extend beyond the skin.
    """

    regions: np.ndarray
    rough: np.ndarray
    turn: np.ndarray
    middle: np.ndarray
    spacing: float
    within: bool = False

    def ellipsoid(
        self, region: int, centre: Point, radii: Point, rough: float = 0.04, tilt: Point = (0, 0, 0), into: int = -1
    ) -> None:
        """Paint an ellipsoid.

        Args:
            region: tissue id.
            centre: mm, body axes.
            radii: semi-axes, mm.
            rough: SD of the outline, as a fraction of the radii.
            tilt: rotation about the body axes, radians.
            into: paint only voxels of this tissue; -1 for all tissues.
        """
        axes = self.turn @ rotation_matrix(tilt)
        radii = np.maximum(np.asarray(radii, float), 0.5)
        place = self.middle + self.turn @ np.asarray(centre, float)
        reach = np.sqrt(((axes * radii) ** 2).sum(1)) * (1 + 3 * rough)
        box = self._box(place - reach, place + reach)
        if box is None:
            return
        z, y, x = self._along(box, place, axes / radii)
        self._fill(box, z**2 + y**2 + x**2 < (1 + rough * self.rough[box]) ** 2, region, into)

    def tube(
        self, region: int, points: Sequence[Point], radius: float | Point, rough: float = 0.04, into: int = -1
    ) -> None:
        """Paint a tube with round ends through ``points``; ``radius`` in mm, one value or one per point."""
        ends = [self.middle + self.turn @ np.asarray(p, float) for p in points]
        sizes = np.broadcast_to(np.asarray(radius, float), len(ends))
        for a, b, r, s in zip(ends[:-1], ends[1:], sizes[:-1], sizes[1:], strict=True):
            reach = max(r, s) * (1 + 3 * rough)
            box = self._box(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
            if box is None:
                continue
            line = b - a
            length = float(line @ line) + 1e-6
            (t,) = self._along(box, a, (line / length)[:, None])
            t = np.clip(t, 0, 1)
            square = sum((p - float(line[k]) * t) ** 2 for k, p in enumerate(self._along(box, a, np.eye(3))))
            self._fill(box, square < ((r + (s - r) * t) * (1 + rough * self.rough[box])) ** 2, region, into)

    def bone(self, points: Sequence[Point], radius: float | Point, cortex: float = 3.0) -> None:
        """Paint a tube of cortical bone filled with marrow; ``cortex`` is the thickness of its wall in mm."""
        self.tube(Region.CORTICAL_BONE, points, radius)
        self.tube(Region.MARROW, points, np.maximum(np.asarray(radius, float) - cortex, 0.5))

    def cover(self, skin: float, fat: float, uneven: float = 0.2) -> Canvas:
        """Turn the outermost ``skin`` mm of the body into skin and the next ``fat`` mm into fat.

        Depth is measured to 3 mm, so thinner skin disappears. Returns a canvas that paints within the body only.
        """
        depth = coarse_distance(self.regions > 0) * self.spacing
        painted = self.regions > 0
        self.regions[painted & (depth < skin + fat * (1 + uneven * self.rough))] = Region.FAT
        self.regions[painted & (depth < skin)] = Region.SKIN
        return replace(self, within=True)

    def _box(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, ...] | None:
        """Voxels between two corners (mm), or None if there are none."""
        first = np.maximum(np.floor(low / self.spacing).astype(int), 0)
        last = np.minimum(np.ceil(high / self.spacing).astype(int) + 1, self.regions.shape)
        return None if (first >= last).any() else tuple(slice(a, b) for a, b in zip(first, last, strict=True))

    def _along(self, box: tuple[slice, ...], origin: np.ndarray, axes: np.ndarray) -> list[np.ndarray]:
        """Coordinates of the voxels of a box along each column of ``axes``, relative to ``origin``, float32."""
        z, y, x = (
            np.arange(s.start, s.stop, dtype=np.float32) * np.float32(self.spacing) - np.float32(o)
            for s, o in zip(box, origin, strict=True)
        )
        weights = np.asarray(axes, np.float32)
        return [(z * w[0])[:, None, None] + ((y * w[1])[:, None] + (x * w[2])[None, :])[None] for w in weights.T]

    def _fill(self, box: tuple[slice, ...], inside: np.ndarray, region: int, into: int) -> None:
        part = self.regions[box]
        if into >= 0:
            inside &= part == into
        elif self.within:
            inside &= part > 0
        part[inside] = region


def blank_canvas(
    rng: np.random.Generator, shape: Sequence[int], spacing: float, tilt_degrees: float, shift: float = 15.0
) -> Canvas:
    """Make an empty canvas with randomly rotated (SD ``tilt_degrees``) and shifted (up to ``shift`` mm) body axes."""
    turn = rotation_matrix(np.deg2rad(np.clip(rng.normal(0, tilt_degrees, 3), -45, 45)))
    middle = np.asarray(shape, float) * spacing / 2 + rng.uniform(-shift, shift, 3)
    rough = np.clip(smooth_noise(rng, shape, rng.uniform(8, 20)), -3, 3)
    return Canvas(np.zeros(tuple(shape), np.uint8), rough, turn, middle, spacing)


def draw_table(rng: np.random.Generator, regions: np.ndarray) -> None:
    """Draw a plate or trough along z under the body, in place."""
    u = rng.uniform
    back = np.nonzero((regions > 0).any((0, 2)))[0]
    if not len(back):
        return
    y, x = np.ogrid[: regions.shape[1], : regions.shape[2]]
    bend = (x - regions.shape[2] / 2) ** 2 / u(400, 6000)
    depth = y - back[-1] - u(0, 6) + bend
    plate, wall = u(8, 30), u(1.2, 3)
    shell = (np.abs(depth - wall / 2) < wall / 2) | (np.abs(depth - plate) < wall / 2)
    regions[(regions == 0) & shell[None]] = Region.TABLE
