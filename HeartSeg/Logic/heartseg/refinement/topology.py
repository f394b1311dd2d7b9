"""No new islands: what a mark changes stays connected to its structure, and leaves no crumbs of another."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def without_new_islands(before: np.ndarray, after: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The labels after a change, without islands that it made.

    A piece that gained its label and touches neither an earlier voxel of that label nor a mark goes back. A piece of a
    structure that the change cut off takes the label that most of its neighbours have; the largest piece, a piece that
    leaves the region, and one under a mark stay.

    Args:
        before, after: labels uint8 ``(z, y, x)`` in a region.
        kept: voxels under marks.
    """
    result = after.copy()
    changed = before != after
    for label in np.unique(after[changed]):
        pieces, _ = ndimage.label(result == label)
        anchored = np.unique(pieces[(before == label) | kept])
        loose = ~np.isin(pieces, anchored) & (pieces > 0) & changed
        result[loose] = before[loose]
    for label in np.unique(before[changed]):
        _absorb_fragments(before, result, int(label), kept)
    return result


def _absorb_fragments(before: np.ndarray, result: np.ndarray, label: int, kept: np.ndarray) -> None:
    """Give the pieces that a change cut off from a structure to their neighbours."""
    parents, _ = ndimage.label(before == label)
    pieces, count = ndimage.label((result == label) & (before == label))
    if count < 2:
        return
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    parent_of = np.zeros(count + 1, int)
    parent_of[pieces.ravel()] = parents.ravel()
    border = _border(pieces)
    stay = set(np.unique(pieces[kept | border]).tolist())
    for parent in np.unique(parent_of[1:]):
        of_parent = [p for p in range(1, count + 1) if parent_of[p] == parent]
        if len(of_parent) < 2:
            continue
        largest = max(of_parent, key=lambda p: sizes[p])
        for piece in of_parent:
            if piece != largest and piece not in stay:
                mask = pieces == piece
                ring = result[ndimage.binary_dilation(mask) & ~mask]
                result[mask] = np.bincount(ring).argmax()


def _border(array: np.ndarray) -> np.ndarray:
    """Voxels on the faces of an array."""
    inner = np.zeros(array.shape, bool)
    inner[tuple(slice(1, -1) for _ in array.shape)] = True
    return ~inner
