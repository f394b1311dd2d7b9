"""Clean-up by anatomical constraints: one heart, one connected component per structure, no holes in the blood.

Connectivity. Structures are 26-connected: with thick slices, the apex, an appendage or an oblique branch of the
pulmonary artery is often one voxel thin and connected by edges and corners only, so 6-connectivity would remove it.
26-connectivity may keep a few extra voxels at a corner, a fraction of a millilitre. The background is 6-connected, as
its counterpart.

Components are labelled in nearest LPS axes: of two equally large components, the one whose first voxel is most inferior
(then anterior, then right) is kept, independent of the storage order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ..anatomy import STRUCTURES, structure
from ..measure.boxes import Box, crop_labels, label_boxes
from ..progress import Reporter
from ..result import Removal
from ..volume.geometry import Geometry

HEART_GAP_MM = 5.0
"""Maximum distance of a component that belongs to the heart: valve leaflets or a vessel wall may lie between (aortic
wall about 2 mm, thickened leaflets up to 4 mm)."""

GAP_TEST_MIN_ML = 0.5
"""Smaller components that do not touch the heart are removed regardless of their distance."""

PA_PIECE_SHARE = 0.05
"""Minimum size of kept components of the pulmonary artery, relative to the largest: its branches may leave and re-enter
the window, or be interrupted by a streak artefact."""

HOLE_MAX_ML = 1.0
"""Largest hole that is filled: about the size of a papillary muscle head. Larger holes are not label noise."""

SPECK_ML = 0.05
"""Smaller removals are listed together, one entry per structure and reason."""

NOT_CONNECTED = "not connected to the heart"
SEPARATE_PIECE = "separate piece"
HOLE_FILLED = "hole inside the structure, filled"

_ALL_NEIGHBOURS = np.ones((3, 3, 3), bool)


@dataclass(frozen=True, eq=False)
class _Piece:
    """A removed or filled component: label, flat indices of its voxels within the crop, and reason."""

    label: int
    voxels: np.ndarray
    reason: str


def clean_labels(
    labels: np.ndarray, geometry: Geometry, reporter: Reporter | None = None, in_place: bool = False
) -> tuple[np.ndarray, tuple[Removal, ...]]:
    """Keep one heart and one component per structure, fill small holes in the blood, and list every change.

    In this order:

    1. *The heart* is the largest connected component of all structures together, with every other component of at least
       0.5 mL within 5 mm of it. All other voxels are set to 0.
    2. The largest component of each structure is kept; of the pulmonary artery, all components of at least 5 % of its
       largest one.
    3. A hole of at most 1 mL that is enclosed by a single blood structure gets its label.

    Args:
        labels: integers ``(z, y, x)``: 0 for background, else labels of :data:`heartseg.anatomy.STRUCTURES`.
        geometry: grid of the labels.
        reporter: checked for cancellation between structures; the caller opens the stage.
        in_place: change ``labels``, which must be uint8, instead of a copy.

    Returns:
        The cleaned map, a uint8 array ``(z, y, x)``, and the changes, largest first. The reason :data:`HOLE_FILLED`
        marks voxels that were added; all others were removed.

    Raises:
        ValueError: a label is unknown, or the shapes of labels and geometry differ.
        Cancelled: the user cancelled.
    """
    reporter = reporter or Reporter()
    crop = crop_labels(labels, geometry)
    cleaned = labels if in_place else np.array(labels, dtype=np.uint8)
    if crop is None:
        return cleaned, ()
    # The crop may be a view of the input if the heart fills the array: work on a copy.
    crop = replace(crop, labels=crop.labels.copy())
    work = crop.labels
    if int(labels[crop.box].max()) > max(s.label for s in STRUCTURES):
        raise ValueError(f"label {labels[crop.box].max()} is unknown: use labels 1-{len(STRUCTURES)}")
    pieces = []
    for step in (_apart_from_heart, _apart_from_structure):
        reporter.check()
        for piece in step(work, crop.geometry, label_boxes(work), reporter):
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
    """Components of each structure that do not belong to the heart."""
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
    """Whether two components are at most :data:`HEART_GAP_MM` apart, measured between voxel centres."""
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
    """Components of each structure other than its largest one."""
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
    """Group the positions of equal ids: one array per id, in ascending order of ids."""
    if not len(ids):
        return []
    order = np.argsort(ids, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(ids[order])) + 1)


def _holes(work: np.ndarray, geometry: Geometry) -> Iterator[_Piece]:
    """Holes enclosed by a single blood structure."""
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
        # A hole never touches the border of the crop, so the enlarged box lies within the crop.
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
    """Removals for the report, largest first, with specks of the same structure and reason combined."""
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
