"""Drawing of simple bodies into a map of tissue ids: ellipsoids and tubes with rough outlines, skin, fat, a table."""

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
    """A body that is being drawn. Points are mm in the body's own axes (z up, y back, x left) about its middle.

    ``regions`` (uint8, (z, y, x), LPS) is painted in place; ``rough`` (float32, same shape, unit SD) moves every
    outline; ``turn`` (3x3) and ``middle`` (mm from voxel (0, 0, 0)) place the body's axes in the map. ``within``: paint
    only over what is painted already, so that organs do not stick out of the skin.
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
        """Paint an ellipsoid of semi-axes ``radii`` mm, turned by ``tilt`` (radians).

        Args:
            region: tissue id.
            centre: mm, body axes.
            radii: mm, along the ellipsoid's axes.
            rough: SD of the outline, as a share of the radii.
            tilt: turn about the body's axes.
            into: paint only voxels of this tissue; -1: all.
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
        """Paint a tube of ``radius`` mm (or one radius a point) through ``points``; its ends are round."""
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
        """A tube of cortical bone with marrow in it; ``cortex`` is its wall in mm."""
        self.tube(Region.CORTICAL_BONE, points, radius)
        self.tube(Region.MARROW, points, np.maximum(np.asarray(radius, float) - cortex, 0.5))

    def cover(self, skin: float, fat: float, uneven: float = 0.2) -> Canvas:
        """Turn the outermost ``skin`` and the next ``fat`` mm of what is painted into skin and fat.

        Depth is known to 3 mm; less skin than that is none. Returns the canvas that paints within the body only.
        """
        depth = coarse_distance(self.regions > 0) * self.spacing
        painted = self.regions > 0
        self.regions[painted & (depth < skin + fat * (1 + uneven * self.rough))] = Region.FAT
        self.regions[painted & (depth < skin)] = Region.SKIN
        return replace(self, within=True)

    def _box(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, ...] | None:
        """The voxels between two corners (mm); None when there are none."""
        first = np.maximum(np.floor(low / self.spacing).astype(int), 0)
        last = np.minimum(np.ceil(high / self.spacing).astype(int) + 1, self.regions.shape)
        return None if (first >= last).any() else tuple(slice(a, b) for a, b in zip(first, last, strict=True))

    def _along(self, box: tuple[slice, ...], origin: np.ndarray, axes: np.ndarray) -> list[np.ndarray]:
        """Coordinates of a box's voxels about ``origin`` along each column of ``axes``, float32."""
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
    """An empty canvas whose body axes are turned (SD ``tilt_degrees``) and moved (to ``shift`` mm) at random."""
    turn = rotation_matrix(np.deg2rad(np.clip(rng.normal(0, tilt_degrees, 3), -45, 45)))
    middle = np.asarray(shape, float) * spacing / 2 + rng.uniform(-shift, shift, 3)
    rough = np.clip(smooth_noise(rng, shape, rng.uniform(8, 20)), -3, 3)
    return Canvas(np.zeros(tuple(shape), np.uint8), rough, turn, middle, spacing)


def draw_table(rng: np.random.Generator, regions: np.ndarray) -> None:
    """A plate or trough under whatever is painted, along z, in place."""
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
