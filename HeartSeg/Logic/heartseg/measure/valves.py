"""Valve planes: the interfaces of the chambers and vessels that a valve connects.

The interface of two labels is a surface of voxel faces whose rim is the annulus. The sum of the face area vectors
depends only on the rim (Stokes' theorem), not on the bulge of the leaflets or the staircase of the voxels: its
direction is the normal of the annulus, and its length is the area of the annulus projected on its plane.

The values describe the position of a valve. They are not accurate enough for sizing a device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..anatomy import structure
from ..wording import _
from .boxes import edges
from .grid import CUT_OFF, HeartGrid, Unknown

VALVES = {"mitral": ("LA", "LV"), "tricuspid": ("RA", "RV"), "aortic": ("LV", "AO"), "pulmonary": ("RV", "PA")}
"""Valve -> structures before and behind it, in the direction of flow."""
SMALLEST_MM2 = 50.0
"""Minimum area of an interface that counts as a valve; the smallest normal valve, the aortic, has 300-400 mm²."""
FOLDED_SHARE = 0.5
"""If the projected area is below this fraction of the area of the interface, the interface is not a disc. The staircase
of a flat tilted disc has a fraction of at least 1/sqrt(3)."""


@dataclass(frozen=True)
class ValvePlane:
    """Plane of a valve.

    Attributes:
        name: key of :data:`VALVES`.
        center_lps_mm: centroid of the interface, world LPS.
        normal_lps: unit normal, in the direction of flow.
        area_mm2: area of the annulus projected on the plane.
    """

    name: str
    center_lps_mm: tuple[float, float, float]
    normal_lps: tuple[float, float, float]
    area_mm2: float

    @property
    def center(self) -> np.ndarray:
        return np.array(self.center_lps_mm)

    @property
    def normal(self) -> np.ndarray:
        return np.array(self.normal_lps)


@dataclass(frozen=True, eq=False)
class Interface:
    """Voxel faces between two sets of labels.

    Attributes:
        centers: world centres ``(n, 3)``, mm.
        vectors: area vectors ``(n, 3)``, mm².
        cut: whether the interface reaches the border of the scan, so that part of it may be outside.
    """

    centers: np.ndarray
    vectors: np.ndarray
    cut: bool

    @property
    def vector(self) -> np.ndarray:
        """Sum of the area vectors, mm², pointing from the first to the second set of labels."""
        return np.asarray(self.vectors.sum(axis=0))

    @property
    def area_mm2(self) -> float:
        """Sum of the areas of the faces."""
        return float(np.linalg.norm(self.vectors, axis=1).sum())


def valve_plane(grid: HeartGrid, name: str) -> ValvePlane | Unknown:
    """Determine the plane of the valve ``name`` from the largest connected interface of its two structures."""
    if grid.too_coarse is not None:
        return grid.too_coarse
    before, behind = VALVES[name]
    for key in (before, behind):
        if not grid.has(key):
            return Unknown(_("{name} not found").format(name=structure(key).name))
    found = interface(grid, (structure(before).label,), (structure(behind).label,))
    pair = _("{name} and {structure_name}").format(name=structure(before).name, structure_name=structure(behind).name)
    if found is None or found.area_mm2 < SMALLEST_MM2:
        return Unknown(_("{pair} do not touch").format(pair=pair))
    if found.cut:
        return Unknown(_("interface of {pair} {cut_off}").format(pair=pair, cut_off=CUT_OFF))
    projected = float(np.linalg.norm(found.vector))
    if projected < FOLDED_SHARE * found.area_mm2 or projected < SMALLEST_MM2:
        return Unknown(_("the interface of {pair} is not a disc").format(pair=pair))
    return plane_of(found, name)


def plane_of(found: Interface, name: str) -> ValvePlane:
    """Return the plane of an interface; its normal points from the first to the second set of labels."""
    projected = float(np.linalg.norm(found.vector))
    weights = np.abs(found.vectors @ found.vector)
    x, y, z = (weights @ found.centers / weights.sum()).tolist()
    nx, ny, nz = (found.vector / projected).tolist()
    return ValvePlane(name, (x, y, z), (nx, ny, nz), projected)


def interface(grid: HeartGrid, first: tuple[int, ...], second: tuple[int, ...]) -> Interface | None:
    """Return the largest connected interface between voxels of the labels ``first`` and ``second``, or ``None``."""
    low, high = _corners(grid, first)
    beside = _corners(grid, second)  # faces lie in the box of the first and within a voxel of that of the second
    low, high = np.maximum(low, beside[0] - 1) - 1, np.minimum(high, beside[1] + 1) + 1
    if (high - low < 3).any():
        return None
    part = grid.labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    inside, other = np.isin(part, first), np.isin(part, second)
    touching = inside & ndimage.binary_dilation(other)
    pieces, count = ndimage.label(touching, np.ones((3, 3, 3)))
    if count == 0:
        return None
    owner = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return _faces(grid, owner, other, low)


def _corners(grid: HeartGrid, labels: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the low and the high corner of the box of several labels, in voxels; background lies in the whole grid."""
    whole = tuple(slice(1, n - 1) for n in grid.labels.shape)
    boxes = [whole] if 0 in labels else [grid.boxes[label] for label in labels if label in grid.boxes]
    if not boxes:
        return np.zeros(3, int), np.zeros(3, int)
    ends = np.array([edges((box[0], box[1], box[2])) for box in boxes])
    return ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)


def _faces(grid: HeartGrid, owner: np.ndarray, other: np.ndarray, low: np.ndarray) -> Interface:
    spacing, directions = np.asarray(grid.geometry.spacing), grid.geometry.direction_matrix
    faces, vectors = [], []
    for axis in range(3):
        world = 2 - axis
        normal = directions[:, world] * (spacing.prod() / spacing[world])
        for sign in (1, -1):
            ahead = np.roll(other, -sign, axis)  # owners lie off the border of the box, so nothing wraps around
            index = np.argwhere(owner & ahead).astype(float)
            index[:, axis] += sign / 2
            faces.append(index + low)
            vectors.append(np.tile(sign * normal, (len(index), 1)))
    places = np.concatenate(faces)
    return Interface(grid.geometry.index_to_world(places), np.concatenate(vectors), grid.reaches_border(places))
