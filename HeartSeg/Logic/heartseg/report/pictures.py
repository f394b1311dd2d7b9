"""Planes through a scan with contours, as data: slices along the body axes and the standard views of the heart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage

from ..anatomy import Structure
from ..measure.boxes import LabelCrop
from ..measure.grid import THICKEST_MM, Unknown
from ..measure.planes import StandardPlanes, ViewPlane
from ..volume.types import Volume
from .model import Picture
from .slices import PLANES, sample_linear

PIXEL_MM = 0.75
TITLES = {
    "two_chamber": "two-chamber view",
    "three_chamber": "three-chamber view",
    "four_chamber": "four-chamber view",
    "short_axis": "short axis",
}
HALF_MM = 90.0
"""Half the size of a standard view: it holds a heart with a long axis of 110 mm and its atria."""
_MARGIN_MM = 15.0
_NAMED_MM2 = 200.0
"""Least area of a structure in a picture that carries its name."""
_TOLERANCE_PX = 0.15
"""Largest distance of a contour from its simplified line."""


@dataclass(frozen=True)
class Frame:
    """A plane to draw: the plane, half its size in mm, title and letters at its edges (left, right, top, bottom)."""

    key: str
    title: str
    plane: ViewPlane
    half_mm: tuple[float, float]
    letters: tuple[str, str, str, str] = ("", "", "", "")


def frames_of(crop: LabelCrop, planes: StandardPlanes | None) -> tuple[Frame, ...]:
    """Return the standard views that are known, stored slices of a thick stack, and slices through the centre."""
    found = []
    for f in fields(planes) if planes is not None else ():
        plane = getattr(planes, f.name)
        if not isinstance(plane, Unknown):
            found.append(standard_frame(f.name, plane))
    found += _stored_slices(crop)
    center = crop.geometry.index_to_world(np.array(ndimage.center_of_mass(crop.labels > 0)))
    corners = crop.geometry.corners()
    middle, half = (corners.max(axis=0) + corners.min(axis=0)) / 2, np.ptp(corners, axis=0) / 2 + _MARGIN_MM
    for p in PLANES:
        at = middle.copy()
        third = ({0, 1, 2} - {p.across, p.down}).pop()
        at[third] = center[third]
        right, up = np.zeros(3), np.zeros(3)
        right[p.across], up[p.down] = 1.0, -p.down_sign
        plane = ViewPlane(_triple(at), _triple(right), _triple(up))
        side = ("L", "P", "S")[third] if center[third] >= 0 else ("R", "A", "I")[third]
        title = f"{p.name.capitalize()}, {side} {abs(center[third]):.0f} mm"
        size = float(max(half[p.across], half[p.down]))
        found.append(Frame(p.name, title, plane, (size, size), p.letters))
    return tuple(found)


def _stored_slices(crop: LabelCrop) -> list[Frame]:
    """Return three slices of a stack of thick slices, seen as they were scanned; none of a scan with thin slices."""
    steps = crop.geometry.spacing
    if max(steps) <= THICKEST_MM:
        return []
    axis = int(np.argmax(steps))
    across, down = ((1, 2), (0, 2), (0, 1))[axis]
    right, up = crop.geometry.direction_matrix[:, across], -crop.geometry.direction_matrix[:, down]
    count = crop.labels.shape[2 - axis]
    extent = np.array(crop.geometry.extent_mm)
    half = float(max(extent[across], extent[down])) / 2 + _MARGIN_MM
    frames = []
    for number in sorted({round(share * (count - 1)) for share in (0.25, 0.5, 0.75)}):
        index = (np.array(crop.labels.shape) - 1) / 2
        index[2 - axis] = number
        plane = ViewPlane(_triple(crop.geometry.index_to_world(index)), _triple(right), _triple(up))
        title = f"Slice {number + 1} of {count} with labels"
        frames.append(Frame(f"slice_{number + 1}", title, plane, (half, half)))
    return frames


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def draw(
    frame: Frame,
    volume: Volume | None,
    window: tuple[float, float] | None,
    crop: LabelCrop,
    structures: Sequence[Structure],
) -> Picture:
    """Return the picture of a plane: the scan in its window (black without one), and contours of the structures."""
    points = plane_points(frame)
    grey = np.zeros(points.shape[:2], np.uint8)
    if volume is not None and window is not None:
        index = np.moveaxis(volume.geometry.world_to_index(points), -1, 0)
        low, high = window
        values = sample_linear(volume.array, index, low)
        grey = np.clip(255 * (values - low) / (high - low), 0, 255).astype(np.uint8)
    inner = np.moveaxis(crop.geometry.world_to_index(points), -1, 0)
    contours, names = {}, {}
    for s in structures:
        share = ndimage.gaussian_filter(sample_linear((crop.labels == s.label).astype(np.float32), inner, 0.0), 0.8)
        if share.max() > 0.5:
            contours[s.key] = outlines(share)
            if (at := _name_place(share)) is not None:
                names[s.key] = at
    return Picture(frame.key, frame.title, grey, PIXEL_MM, contours, names, frame.letters)


def plane_points(frame: Frame) -> np.ndarray:
    """Return the world points ``(rows, columns, 3)`` of the pixels of a plane, LPS, :data:`PIXEL_MM` apart."""
    across, down = (np.arange(-half + PIXEL_MM / 2, half, PIXEL_MM) for half in frame.half_mm)
    right, up = np.array(frame.plane.right_lps), np.array(frame.plane.up_lps)
    return np.asarray(frame.plane.center_lps_mm - down[:, None, None] * up + across[None, :, None] * right)


def standard_frame(key: str, plane: ViewPlane) -> Frame:
    """Return the plane of a standard view; ``key`` is one of :data:`TITLES`."""
    return Frame(key, TITLES[key].capitalize(), plane, (HALF_MM, HALF_MM))


def outlines(share: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the lines of level 0.5, each ``(n, 2)`` column and row, simplified."""
    from contourpy import contour_generator

    lines = contour_generator(z=share).lines(0.5)
    return tuple(simplified(np.asarray(line)) for line in lines if len(line) > 3)


def simplified(line: np.ndarray) -> np.ndarray:
    """Return a line without the points that are nearer than :data:`_TOLERANCE_PX` to it (Douglas and Peucker)."""
    keep, stack = np.zeros(len(line), bool), [(0, len(line) - 1)]
    keep[[0, -1]] = True
    while stack:
        a, b = stack.pop()
        if b - a < 2:
            continue
        start, along = line[a], line[b] - line[a]
        length = float(np.hypot(*along))
        inner = line[a + 1 : b] - start
        away = np.abs(inner[:, 0] * along[1] - inner[:, 1] * along[0]) / length if length > 1e-9 else np.hypot(*inner.T)
        k = int(np.argmax(away))
        if away[k] > _TOLERANCE_PX:
            keep[a + 1 + k] = True
            stack += [(a, a + 1 + k), (a + 1 + k, b)]
    return line[keep]


def _name_place(share: np.ndarray) -> tuple[float, float] | None:
    """Return column and row of the deepest point of a structure; ``None`` if it is small."""
    inside = share > 0.5
    if np.count_nonzero(inside) * PIXEL_MM**2 < _NAMED_MM2:
        return None
    depth = ndimage.distance_transform_edt(inside)
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return float(column), float(row)
