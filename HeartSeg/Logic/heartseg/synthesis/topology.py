"""Topology of a heart's label map: connected structures without holes, left ventricle enclosed by muscle.

Labels are those of :mod:`~heartseg.synthesis.regions`, 1 mm, (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi

from .regions import IGNORE, TARGET_OF_HEART, Region

STRUCTURES = tuple(range(1, 8))
VALVE_REACH = 5.0
"""Distance (mm) from the mitral and aortic planes within which LV blood may touch other tissue than muscle."""
REPAIRABLE = 800
"""Maximum number of voxels (1 mm) that a repair may change."""
_FULL = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Topology:
    """Topological faults of a label map, in voxels.

    Attributes:
        pieces: for each structure, voxels outside its largest component.
        holes: for each structure, voxels that it encloses.
        leaks: voxels other than muscle that touch LV blood away from the valves.
        missing: structures without voxels.
    """

    pieces: dict[int, int]
    holes: dict[int, int]
    leaks: int
    missing: tuple[int, ...]

    @property
    def sound(self) -> bool:
        return not (self.pieces or self.holes or self.leaks or self.missing)


def check_topology(labels: np.ndarray) -> Topology:
    """Check labels 0-12; structures are 1-7."""
    box = _box(labels > 0)
    part = np.pad(labels[box], 1)
    pieces, holes, missing = {}, {}, []
    for label in STRUCTURES:
        mask = part == label
        if not mask.any():
            missing.append(label)
            continue
        if n := int(_strays(mask).sum()):
            pieces[label] = n
        if n := int(_enclosed(mask).sum()):
            holes[label] = n
    return Topology(pieces, holes, int(_leaks(part).sum()), tuple(missing))


def repair(labels: np.ndarray) -> np.ndarray:
    """Assign stray pieces to their neighbours, fill holes and close leaks of the ventricle; returns a copy."""
    box = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in _box(labels > 0))
    part = labels[box].copy()
    stray = np.zeros(part.shape, bool)
    for label in range(1, 13):
        mask = part == label
        stray |= _strays(mask)
    if stray.any():
        part = _filled_from_beside(part, stray)
    for label in STRUCTURES:
        part[_enclosed(part == label)] = label
    part[_leaks(part)] = 5
    fixed = labels.copy()
    fixed[box] = part
    return fixed


def sound_labels(labels: np.ndarray, attempts: int = 3) -> tuple[np.ndarray, int] | None:
    """Return labels without faults and the number of changed voxels; None if more than ``REPAIRABLE`` would change."""
    fixed = labels
    for _ in range(attempts + 1):
        if check_topology(fixed).sound:
            return fixed, int((fixed != labels).sum())
        fixed = repair(fixed)
        if int((TARGET_OF_HEART[fixed] != TARGET_OF_HEART[labels]).sum()) > REPAIRABLE:
            return None
    return None


def tidy_target(target: np.ndarray, regions: np.ndarray) -> dict[str, int]:
    """Close leaks and ignore stray pieces in the target of a scene, in place; returns the numbers of changed voxels.

    Sampling a heart on the coarser grid of a scene and painting vessels can open a thin wall by a voxel or detach the
    end of a structure. A leak becomes myocardium in both maps. A stray piece keeps its tissue and gets ``IGNORE``.

    Args:
        target: uint8 (z, y, x), labels 0-7 and ``IGNORE``.
        regions: tissues of the scene on the same grid.
    """
    box = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in _box((target > 0) & (target < IGNORE)))
    part, tissue = target[box], regions[box]
    leaks = _leaks(part) & (part != IGNORE)
    part[leaks], tissue[leaks] = 5, Region.LV_MYO
    strays = 0
    for label in STRUCTURES:
        piece = _strays(part == label)
        part[piece] = IGNORE
        strays += int(piece.sum())
    return {"scene_leaks": int(leaks.sum()), "scene_strays": strays}


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    found = [np.flatnonzero(mask.any(tuple(b for b in range(3) if b != a))) for a in range(3)]
    if not len(found[0]):
        raise ValueError("the label map is empty: draw the heart inside its cube")
    return tuple(slice(int(f[0]), int(f[-1]) + 1) for f in found)


def _strays(mask: np.ndarray) -> np.ndarray:
    """Mask of voxels outside the largest component (6-connectivity)."""
    out = np.zeros(mask.shape, bool)
    if not mask.any():
        return out
    box = _box(mask)
    pieces, n = ndi.label(mask[box])
    if n > 1:
        largest = np.argmax(np.bincount(pieces.ravel())[1:]) + 1
        out[box] = (pieces > 0) & (pieces != largest)
    return out


def _filled_from_beside(labels: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Fill the voxels of ``gaps`` with the label of a face neighbour, from the border of the gaps inwards."""
    part, left = labels.copy(), gaps.copy()
    while left.any():
        found = np.argwhere(left)
        values = np.zeros(len(found), np.uint8)
        known = np.zeros(len(found), bool)
        for axis in range(3):
            for step in (-1, 1):
                beside = found.copy()
                beside[:, axis] = np.clip(beside[:, axis] + step, 0, part.shape[axis] - 1)
                at = tuple(beside.T)
                new = ~known & ~left[at]
                values[new], known = part[at][new], known | new
        if not known.any():
            break
        here = tuple(found[known].T)
        part[here] = values[known]
        left[here] = False
    return part


def _enclosed(mask: np.ndarray) -> np.ndarray:
    """Mask of the voxels enclosed by a mask."""
    if not mask.any():
        return np.zeros(mask.shape, bool)
    box = _box(mask)
    out = np.zeros(mask.shape, bool)
    out[box] = ndi.binary_fill_holes(mask[box]) & ~mask[box]
    return out


def _leaks(labels: np.ndarray) -> np.ndarray:
    """Mask of voxels that should be muscle: they touch LV blood (26-connectivity) away from the valves."""
    blood = labels == 1
    near = np.zeros(labels.shape, bool)
    if not blood.any():
        return near
    box = tuple(slice(max(0, s.start - 8), s.stop + 8) for s in _box(blood))
    part, blood = labels[box], blood[box]
    touched = ndi.binary_dilation(blood, _FULL) & ~blood
    valve = touched & np.isin(part, (3, 6))
    leaking = touched & ~np.isin(part, (3, 5, 6))
    if valve.any() and leaking.any():
        leaking &= ndi.distance_transform_edt(~valve) > VALVE_REACH
    near[box] = leaking
    return near
