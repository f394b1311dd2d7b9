"""Grid for geometric measures: the labelled part of a scan, with voxels of about 1 mm.

Voxels below 1 mm do not make positions of planes, walls and widths more accurate, only slower. Voxels smaller than 0.6
mm are therefore decimated. Volumes and masses are always measured on the grid of the scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from scipy import ndimage

from ..anatomy import structure
from ..volume.geometry import SIDES, Geometry
from ..wording import _
from .boxes import Box, LabelCrop, label_boxes

LARGEST_STEP_MM = 1.2
"""Maximum step after decimation; the largest n is used for which every n-th voxel stays below it."""
THICKEST_MM = 5.0
"""Maximum step for planes and lengths; with larger steps, they are wrong by several millimetres and degrees."""
SMALLEST_ML = 1.0
"""A structure below this volume is missing; the shortest arterial stump in a correct map has 3 mL."""
CUT_OFF = _("cut off by the border of the scan")


@dataclass(frozen=True)
class Unknown:
    """A measure that cannot be determined.

    Attributes:
        why: the reason, as a phrase that names the structure.
    """

    why: str


@dataclass(frozen=True, eq=False)
class HeartGrid:
    """Labels on a cropped, decimated grid in nearest LPS axes.

    Attributes:
        labels: uint8 ``(z, y, x)``, one voxel of background on every side.
        geometry: grid of the labels.
        cut: keys of structures that touch the border of the scan.
        at_border: sides at which the labelled part of the grid ends at the border of the scan.
    """

    labels: np.ndarray
    geometry: Geometry
    cut: frozenset[str]
    at_border: frozenset[str]

    @cached_property
    def boxes(self) -> dict[int, Box]:
        """Label -> bounding box, for all labels present."""
        return label_boxes(self.labels)

    def has(self, key: str) -> bool:
        """Return whether the structure has at least :data:`SMALLEST_ML`."""
        box = self.boxes.get(structure(key).label)
        if box is None:
            return False
        voxels = np.count_nonzero(self.labels[box] == structure(key).label)
        return bool(voxels * self.geometry.voxel_volume_ml >= SMALLEST_ML)

    @property
    def too_coarse(self) -> Unknown | None:
        """Return why the grid is too coarse for planes and lengths; ``None`` if it is not."""
        return too_coarse(self.geometry)

    def reaches_border(self, index: np.ndarray) -> bool:
        """Return whether any of the indices ``(n, 3)``, z, y, x, is in a layer of voxels at the border of the scan."""
        for world, sides in enumerate(SIDES):
            along, last = index[:, 2 - world], self.labels.shape[2 - world] - 2
            for side, at_end in zip(sides, (along < 2, along > last - 1), strict=True):
                if side in self.at_border and at_end.any():
                    return True
        return False

    def problem(self, *keys: str) -> Unknown | None:
        """Return why a measure that requires these complete structures cannot be determined; ``None`` if it can."""
        for key in keys:
            if not self.has(key):
                return Unknown(_("{name} not found").format(name=structure(key).name))
            if key in self.cut:
                return Unknown(_("{name} {cut_off}").format(name=structure(key).name, cut_off=CUT_OFF))
        return None

    def points(self, key: str) -> np.ndarray:
        """Return world positions ``(n, 3)`` of the structure's voxels, LPS mm."""
        box = self.boxes[structure(key).label]
        index = np.argwhere(self.labels[box] == structure(key).label)
        return self.geometry.index_to_world(index + [b.start for b in box])

    def share_along(self, keys: tuple[str, ...], points: np.ndarray) -> np.ndarray:
        """Return the fraction (0-1) of these structures at world ``points`` ``(..., 3)``, interpolated linearly."""
        index = np.moveaxis(self.geometry.world_to_index(points), -1, 0)
        flat = index.reshape(3, -1)
        low = np.clip(np.floor(flat.min(1)).astype(int) - 1, 0, self.labels.shape)
        high = np.clip(np.ceil(flat.max(1)).astype(int) + 2, low + 1, self.labels.shape)
        part = self.labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        mask = np.isin(part, [structure(k).label for k in keys]).astype(np.float32)
        shift = low.reshape(3, *[1] * (index.ndim - 1))
        return ndimage.map_coordinates(mask, index - shift, order=1, mode="constant", prefilter=False)


def too_coarse(geometry: Geometry) -> Unknown | None:
    """Return why a grid is too coarse for planes and lengths; ``None`` if it is not."""
    step = max(geometry.spacing)
    return (
        Unknown(_("slices of {step:.1f} mm are too thick for planes and lengths").format(step=step))
        if step > THICKEST_MM
        else None
    )


_GRIDS: WeakKeyDictionary[LabelCrop, HeartGrid] = WeakKeyDictionary()


def grid_of_crop(crop: LabelCrop) -> HeartGrid:
    """Return the grid for geometric measures of the labelled part of a scan; made once for a crop."""
    if crop not in _GRIDS:
        _GRIDS[crop] = _made(crop)
    return _GRIDS[crop]


def _made(crop: LabelCrop) -> HeartGrid:
    spacing = np.asarray(crop.geometry.spacing)[::-1]
    step = np.maximum(1, np.floor(LARGEST_STEP_MM / spacing + 1e-6)).astype(int)
    start = (step - 1) // 2
    coarse = crop.labels[start[0] :: step[0], start[1] :: step[1], start[2] :: step[2]]
    padded = np.pad(coarse, 1)
    origin = crop.geometry.index_to_world(start - step)
    sx, sy, sz = (float(s) for s in (spacing * step)[::-1])
    shape = (padded.shape[0], padded.shape[1], padded.shape[2])
    ox, oy, oz = (float(v) for v in origin)
    grid = Geometry(shape, (sx, sy, sz), (ox, oy, oz), crop.geometry.direction)
    return HeartGrid(padded, grid, frozenset(crop.border_contacts), crop.at_border)
