"""What anatomy allows: one heart, one piece per structure, no bubbles in the blood.

Neighbourhoods. Pieces are 26-connected: the apex, an appendage or an oblique branch of the pulmonary artery is often
one voxel thin on thick slices and hangs together by edges and corners only; 6-connectivity would cut it off, while the
price of 26, a crumb kept at a corner, is a fraction of a millilitre. Background is 6-connected, its counterpart.

Components and ties are found in nearest-LPS axes: of two equally large pieces the one whose first voxel lies furthest
inferior (then anterior, then right) stays, whichever way the array is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ..anatomy import STRUCTURES, structure
from ..measure.boxes import Box, crop_labels
from ..progress import Reporter
from ..result import Removal
from ..volume.geometry import Geometry

HEART_GAP_MM = 5.0
"""A piece at most this far from the heart still belongs to it: a valve's leaflets or a vessel's wall may lie between
(aortic wall about 2 mm, thickened leaflets up to 4 mm)."""

GAP_TEST_MIN_ML = 0.5
"""Pieces below this that do not touch the heart are specks; their distance to it is not even looked at."""

PA_PIECE_SHARE = 0.05
"""Pieces of the pulmonary artery stay from this share of its largest piece on: its branches leave and re-enter a
window, or are cut through by a streak."""

HOLE_MAX_ML = 1.0
"""Largest bubble that is filled. A papillary muscle head has about 1 mL; something larger is not a misread voxel."""

SPECK_ML = 0.05
"""Pieces below this are listed together, one entry per structure and reason: a list of thousands helps nobody."""

NOT_CONNECTED = "not connected to the heart"
SEPARATE_PIECE = "separate piece"
HOLE_FILLED = "hole inside the structure, filled"

_ALL_NEIGHBOURS = np.ones((3, 3, 3), bool)


@dataclass(frozen=True, eq=False)
class _Piece:
    """A piece of one label within the crop: flat indices of its voxels, its label and why it goes (or is filled)."""

    label: int
    voxels: np.ndarray
    reason: str


def clean_labels(
    labels: np.ndarray, geometry: Geometry, reporter: Reporter | None = None
) -> tuple[np.ndarray, tuple[Removal, ...]]:
    """Keep one heart and one piece of each structure; fill small holes in the blood; list every change.

    In this order:

    1. *The heart* is the largest connected piece of all structures together, with every other piece of at least
       0.5 mL that lies within 5 mm of it. What is left is set to 0.
    2. Of each structure the largest piece stays; of the pulmonary artery every piece of at least 5 % of its largest.
    3. A bubble of background of at most 1 mL that is enclosed by one and the same blood structure gets its label.

    Args:
        labels: integers ``(z, y, x)``, 0 background, else labels of :data:`heartseg.anatomy.STRUCTURES`; not modified.
        geometry: their grid.
        reporter: asked between structures whether the user wants to stop; the caller opens the stage.

    Returns:
        The cleaned map (a new array, uint8 ``(z, y, x)``) and what was changed, largest first. A removal whose
        ``reason`` is :data:`HOLE_FILLED` was added to the structure, every other one was taken away.

    Raises:
        ValueError: a label that no structure has, or a shape that is not the geometry's.
        Cancelled: the user asked to stop.
    """
    reporter = reporter or Reporter()
    crop = crop_labels(labels, geometry)
    cleaned = np.array(labels, dtype=np.uint8)
    if crop is None:
        return cleaned, ()
    # The crop may be a view of the input (a heart that fills its array): work on a copy.
    crop = replace(crop, labels=crop.labels.copy())
    work = crop.labels
    if int(labels[crop.box].max()) > max(s.label for s in STRUCTURES):
        raise ValueError(f"label {labels[crop.box].max()} has no structure; known labels are 1-{len(STRUCTURES)}")
    pieces = []
    for step in (_apart_from_heart, _apart_from_structure):
        reporter.check()
        for piece in step(work, crop.geometry, crop.structure_boxes(), reporter):
            work.reshape(-1)[piece.voxels] = 0
            pieces.append(piece)
    reporter.check()
    for piece in _holes(work, crop.geometry):
        work.reshape(-1)[piece.voxels] = piece.label
        pieces.append(piece)
    crop.put(work, into=cleaned)
    return cleaned, _removals(pieces, crop.geometry)


def _apart_from_heart(
    work: np.ndarray, geometry: Geometry, boxes: dict[int, Box], reporter: Reporter
) -> Iterator[_Piece]:
    """Pieces of each structure that lie off the heart, largest first."""
    components, count = ndimage.label(work, _ALL_NEIGHBOURS)
    if count < 2:
        return
    sizes = np.bincount(components.reshape(-1), minlength=count + 1)
    sizes[0] = 0
    heart = int(sizes.argmax())
    keep = np.zeros(count + 1, bool)
    keep[[0, heart]] = True
    objects = ndimage.find_objects(components)
    for candidate in np.flatnonzero(sizes * geometry.voxel_volume_ml >= GAP_TEST_MIN_ML):
        if not keep[candidate]:
            reporter.check()
            keep[candidate] = _gap_within(components, int(candidate), heart, objects[candidate - 1], geometry)
    gone = np.flatnonzero(~keep[components.reshape(-1)])
    ids = components.reshape(-1)[gone].astype(np.int64) * 8 + work.reshape(-1)[gone]
    for group in _groups(ids):
        voxels = gone[group]
        yield _Piece(int(work.reshape(-1)[voxels[0]]), voxels, NOT_CONNECTED)


def _gap_within(components: np.ndarray, piece: int, heart: int, box: Box, geometry: Geometry) -> bool:
    """Whether the surfaces of two components come within :data:`HEART_GAP_MM` of each other (voxel centres)."""
    spacing = np.asarray(geometry.spacing)[::-1]
    reach = np.ceil(HEART_GAP_MM / spacing).astype(int)
    near = tuple(slice(max(0, b.start - r), b.stop + r) for b, r in zip(box, reach, strict=True))
    window = components[near]
    points = [np.argwhere(_surface(window == k)) * spacing for k in (heart, piece)]
    if not len(points[0]):
        return False
    distance, _ = cKDTree(points[0]).query(points[1], distance_upper_bound=HEART_GAP_MM + 1e-6)
    return bool(np.isfinite(distance).any())


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _apart_from_structure(
    work: np.ndarray, geometry: Geometry, boxes: dict[int, Box], reporter: Reporter
) -> Iterator[_Piece]:
    """Pieces of each structure apart from its largest one."""
    strides = np.array([work.shape[1] * work.shape[2], work.shape[2], 1])
    for label, box in boxes.items():
        reporter.check()
        components, count = ndimage.label(work[box] == label, _ALL_NEIGHBOURS)
        if count < 2:
            continue
        sizes = np.bincount(components.reshape(-1), minlength=count + 1)
        sizes[0] = 0
        largest = int(sizes.argmax())
        share = sizes / sizes[largest]
        keep = share >= PA_PIECE_SHARE if structure(label).key == "PA" else np.zeros(count + 1, bool)
        keep[[0, largest]] = True
        where = np.argwhere(~keep[components])
        ids = components[tuple(where.T)]
        flat = (where + [b.start for b in box]) @ strides
        for group in _groups(ids):
            yield _Piece(label, flat[group], f"{SEPARATE_PIECE}, {_percent(share[ids[group[0]]])} of the largest")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"


def _groups(ids: np.ndarray) -> list[np.ndarray]:
    """Positions of equal ids, one array per id, in ascending order of the ids."""
    if not len(ids):
        return []
    order = np.argsort(ids, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(ids[order])) + 1)


def _holes(work: np.ndarray, geometry: Geometry) -> Iterator[_Piece]:
    """Bubbles of background that one blood structure encloses on every face."""
    components, count = ndimage.label(np.pad(work, 1) == 0)
    if count < 2:
        return
    inner = components[1:-1, 1:-1, 1:-1]
    outside = int(components[0, 0, 0])
    bubbles = inner.copy()
    bubbles[inner == outside] = 0
    for number, box in enumerate(ndimage.find_objects(bubbles), start=1):
        if box is None:
            continue
        # A bubble never reaches the crop's border (it would be outside), so the grown box stays within the crop.
        grown = tuple(slice(b.start - 1, b.stop + 1) for b in box)
        bubble = bubbles[grown] == number
        if bubble.sum() * geometry.voxel_volume_ml > HOLE_MAX_ML:
            continue
        rim = work[grown][ndimage.binary_dilation(bubble) & ~bubble]
        label = int(rim[0])
        if structure(label).key == "MYO" or (rim != label).any():
            continue
        where = np.argwhere(bubble) + [g.start for g in grown]
        yield _Piece(label, np.ravel_multi_index(tuple(where.T), work.shape), HOLE_FILLED)


def _removals(pieces: list[_Piece], geometry: Geometry) -> tuple[Removal, ...]:
    """The list for the report: largest first, specks of one structure and reason in one entry."""
    removals, specks = [], dict[tuple[int, str], list[np.ndarray]]()
    for piece in pieces:
        if len(piece.voxels) * geometry.voxel_volume_ml < SPECK_ML:
            specks.setdefault((piece.label, piece.reason.split(", ")[0]), []).append(piece.voxels)
        else:
            removals.append(_removal(piece, geometry))
    for (label, reason), parts in specks.items():
        full = HOLE_FILLED if HOLE_FILLED.startswith(reason) else reason
        text = full if len(parts) == 1 else f"{full} ({len(parts)} specks under {SPECK_ML} mL each)"
        removals.append(_removal(_Piece(label, np.concatenate(parts), text), geometry))
    return tuple(sorted(removals, key=lambda r: (-r.voxels, r.structure, r.reason, r.center_lps)))


def _removal(piece: _Piece, geometry: Geometry) -> Removal:
    index = np.stack(np.unravel_index(piece.voxels, geometry.shape), axis=-1).mean(axis=0)
    x, y, z = (round(float(v), 3) for v in geometry.index_to_world(index))
    count = len(piece.voxels)
    return Removal(structure(piece.label).key, count, count * geometry.voxel_volume_ml, (x, y, z), piece.reason)
