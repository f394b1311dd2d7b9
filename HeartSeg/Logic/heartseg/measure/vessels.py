"""Diameters of the great arteries, perpendicular to their centrelines.

Method for both vessels:

1. *Start.* The voxels of the vessel adjacent to its ventricle (aorta: LV, pulmonary trunk: RV); if the ventricle is
   missing or not adjacent, the inferior end of the vessel.
2. *Centreline.* Distance from the start within the vessel (shortest paths on a graph of its voxels, resampled to about
   1.5 mm, 26 neighbours); centroids of bands of equal distance; local direction from a straight-line fit.
3. *Cross-sections.* Planes perpendicular to the centreline every 2 mm; area of the connected component around the
   centre; diameter of the circle of equal area, ``2 sqrt(A / pi)``. Guidelines recommend double-oblique planes
   perpendicular to the vessel axis (2010 ACCF/AHA thoracic aortic disease guideline; Erbel et al., ESC 2014).
4. *Range.* Aorta: from the start to the turn towards the arch (course less than 30 degrees above the horizontal), at
   most 80 mm. Pulmonary trunk: to the bifurcation, at most 50 mm. The result is the median of the sections in the
   middle half, which excludes sinuses, cut ends and the arch.

The label is the lumen, so these are inner diameters; the wall adds 2-4 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from ..anatomy import structure
from ..volume.geometry import Geometry
from .boxes import LabelCrop
from .grid import Unknown

GRAPH_STEP_MM = 1.5
BAND_MM = 4.0
"""Length of the bands whose centroids form the centreline: two to three graph steps, a seventh of a diameter."""
TANGENT_REACH_MM = 12.0
"""Half length of the centreline segment for the straight-line fit of the local direction: about one radius."""
SECTION_STEP_MM, SECTION_PIXEL_MM, SECTION_HALF_MM = 2.0, 0.5, 40.0
AORTA_LENGTH_MM, TRUNK_LENGTH_MM = 80.0, 50.0
"""Maximum length of the centreline: an ascending aorta has 50-80 mm from annulus to arch, a trunk 40-50 mm."""
ASCENDING_SLOPE = 0.5
"""Minimum superior component of the unit direction in the ascending part: sin 30 degrees."""
TOUCH_MM = 3.0
"""Maximum distance of vessel voxels from the ventricle at the valve: one leaflet or one thick voxel."""
SMALLEST_ML = 0.3


@dataclass(frozen=True)
class VesselDiameter:
    """A diameter, mm, or ``None`` if it cannot be measured, with a note on its measurement."""

    diameter_mm: float | None
    note: str


def ascending_aorta_diameter(crop: LabelCrop) -> VesselDiameter | None:
    """Inner diameter of the ascending aorta; ``None`` without an aorta. For the method, see the module docstring."""
    return _diameter(crop, "AO", "LV", AORTA_LENGTH_MM)


def pulmonary_trunk_diameter(crop: LabelCrop) -> VesselDiameter | None:
    """Inner diameter of the pulmonary trunk; ``None`` without a pulmonary artery. See the module docstring."""
    return _diameter(crop, "PA", "RV", TRUNK_LENGTH_MM)


def _diameter(crop: LabelCrop, vessel: str, ventricle: str, length_mm: float) -> VesselDiameter | None:
    if structure(vessel).label not in crop.structure_boxes():
        return None
    course = _course(crop, vessel, ventricle, length_mm)
    if isinstance(course, Unknown):
        return VesselDiameter(None, course.why)
    line = course.line
    sections = line.middle_sections()
    diameters = [d for c, t in sections if (d := _section_diameter(course.mask, course.geometry, c, t)) is not None]
    if not diameters:
        return VesselDiameter(None, "no cross-section contains the centreline")
    note = (
        f"inner, circle of equal area, median of {len(diameters)} cross-sections perpendicular to the centreline "
        f"in the middle half of {line.length_mm:.0f} mm"
    )
    if not course.at_valve:
        note += f"; {ventricle} not adjacent, measured from the inferior end"
    median = float(np.median(diameters))
    if line.length_mm < median:
        note += "; the vessel is shorter than wide, so the value is uncertain"
    return VesselDiameter(median, note)


@dataclass(frozen=True, eq=False)
class VesselProfile:
    """Diameters along a vessel.

    Attributes:
        along_mm: distance from the valve along the centreline ``(n,)``.
        diameter_mm: diameter of the circle with the area of the cross-section ``(n,)``; NaN where there is none.
        at_valve: whether the vessel reaches its ventricle; otherwise, distances are from its inferior end.
    """

    along_mm: np.ndarray
    diameter_mm: np.ndarray
    at_valve: bool


def vessel_profile(crop: LabelCrop, vessel: str, ventricle: str) -> VesselProfile | Unknown:
    """Measure diameters every 2 mm from the valve to the arch (aorta) or to the bifurcation (pulmonary trunk)."""
    course = _course(crop, vessel, ventricle, AORTA_LENGTH_MM if vessel == "AO" else TRUNK_LENGTH_MM)
    if isinstance(course, Unknown):
        return course
    sections = course.line.sections(0.0, 1.0)
    found = [_section_diameter(course.mask, course.geometry, c, t) for c, t in sections]
    along = np.linspace(course.line.along[0], course.line.along[-1], len(sections))
    return VesselProfile(along, np.array([np.nan if d is None else d for d in found]), course.at_valve)


@dataclass(frozen=True, eq=False)
class _Course:
    """A vessel on the smallest grid that contains it, and its centreline."""

    mask: np.ndarray
    geometry: Geometry
    line: _Line
    at_valve: bool


def _course(crop: LabelCrop, vessel: str, ventricle: str, length_mm: float) -> _Course | Unknown:
    box = crop.structure_boxes().get(structure(vessel).label)
    if box is None:
        return Unknown(f"{structure(vessel).name} not found")
    grown = tuple(
        slice(max(0, b.start - r), b.stop + r)
        for b, r in zip(box, np.ceil(TOUCH_MM / np.asarray(crop.geometry.spacing)[::-1]).astype(int), strict=True)
    )
    part = (grown[0], grown[1], grown[2])
    labels, geometry = crop.labels[part], crop.geometry.cropped(part)
    mask = labels == structure(vessel).label
    if mask.sum() * geometry.voxel_volume_ml < SMALLEST_ML:
        return Unknown("too small to measure")
    points = _graph_points(mask, geometry)
    start, at_valve = _start(points, labels == structure(ventricle).label, geometry)
    distance = _distance_along(points, start)
    line = _centreline(points, distance, length_mm, stop_at_division=vessel == "PA")
    if vessel == "AO":
        line = _ascending_part(line)
    if line is None or len(line.centers) < 2:
        return Unknown("centreline too short for a cross-section")
    return _Course(mask, geometry, line, at_valve)


@dataclass(frozen=True, eq=False)
class _Line:
    """Centreline: centres ``(n, 3)``, world mm; unit directions ``(n, 3)``; positions along it ``(n,)``, mm."""

    centers: np.ndarray
    tangents: np.ndarray
    along: np.ndarray

    @property
    def length_mm(self) -> float:
        return float(self.along[-1] - self.along[0])

    def middle_sections(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return centre and direction of cross-sections every 2 mm in the middle half, at least one."""
        return self.sections(0.25, 0.75)

    def sections(self, start: float, stop: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return centre and direction of cross-sections every 2 mm between two fractions of the length."""
        low, high = np.quantile(self.along[[0, -1]], (start, stop))
        count = max(1, round((high - low) / SECTION_STEP_MM) + 1)
        at = np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])
        centers = np.stack([np.interp(at, self.along, c) for c in self.centers.T], axis=-1)
        tangents = np.stack([np.interp(at, self.along, t) for t in self.tangents.T], axis=-1)
        return [(c, t / np.linalg.norm(t)) for c, t in zip(centers, tangents, strict=True)]


def _graph_points(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return world points ``(n, 3)`` inside ``mask`` on a grid of about 1.5 mm."""
    zoom = np.asarray(geometry.spacing)[::-1] / GRAPH_STEP_MM
    size = np.maximum(1, np.round(np.asarray(mask.shape) * zoom)).astype(int)
    axes = [(np.arange(n) + 0.5) * (m / n) - 0.5 for n, m in zip(size, mask.shape, strict=True)]
    nearest = [np.clip(np.round(a).astype(int), 0, m - 1) for a, m in zip(axes, mask.shape, strict=True)]
    inside = np.argwhere(mask[np.ix_(*nearest)])
    index = np.stack([axes[k][inside[:, k]] for k in range(3)], axis=-1)
    return geometry.index_to_world(index)


def _start(points: np.ndarray, ventricle: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, bool]:
    """Return the indices of the start points, and whether they adjoin the ventricle (else: at the inferior end)."""
    if ventricle.any():
        surface = ventricle & ~ndimage.binary_erosion(ventricle)
        tree = cKDTree(geometry.index_to_world(np.argwhere(surface)))
        reach = max(TOUCH_MM, 1.5 * max(geometry.spacing))
        distance, _ = tree.query(points, distance_upper_bound=reach)
        near = np.flatnonzero(np.isfinite(distance))
        if len(near):
            return near, True
    bottom = points[:, 2].min() + max(TOUCH_MM, geometry.spacing[2])
    return np.flatnonzero(points[:, 2] <= bottom), False


def _distance_along(points: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return shortest path lengths ``(n,)`` from ``start`` within the vessel, mm; infinite if unreachable."""
    pairs = cKDTree(points).query_pairs(GRAPH_STEP_MM * 2.0, output_type="ndarray")
    if not len(pairs):
        return np.where(np.isin(np.arange(len(points)), start), 0.0, np.inf)
    weights = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    graph = coo_matrix((weights, (pairs[:, 0], pairs[:, 1])), shape=(len(points),) * 2).tocsr()
    return np.asarray(dijkstra(graph, directed=False, indices=start, min_only=True))


def _centreline(points: np.ndarray, distance: np.ndarray, length_mm: float, stop_at_division: bool) -> _Line | None:
    """Return the centroids of bands of equal distance up to ``length_mm``, and the local direction at each."""
    centers, along = [], []
    for low in np.arange(0.0, min(length_mm, distance[np.isfinite(distance)].max()), BAND_MM / 2):
        band = points[(distance >= low) & (distance < low + BAND_MM)]
        if len(band) < 4:
            break
        if stop_at_division and low > 0 and _divided(band):
            break
        centers.append(band.mean(axis=0))
        along.append(low + BAND_MM / 2)
    if len(centers) < 2:
        return None
    line, at = np.array(centers), np.array(along)
    tangents = []
    for center_at in at:
        near = line[np.abs(at - center_at) <= TANGENT_REACH_MM]
        _, _, axes = np.linalg.svd(near - near.mean(axis=0), full_matrices=False)
        tangents.append(axes[0] * (1.0 if axes[0] @ (near[-1] - near[0]) >= 0 else -1.0))
    return _Line(line, np.array(tangents), at)


def _divided(band: np.ndarray) -> bool:
    """Return whether a band consists of two components of at least a fifth each, i.e. lies beyond the bifurcation."""
    pairs = cKDTree(band).query_pairs(GRAPH_STEP_MM * 2.0, output_type="ndarray")
    ones = np.ones(len(pairs))
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(band),) * 2).tocsr()
    reached = np.isfinite(dijkstra(graph, directed=False, indices=0, unweighted=True))
    return 0.2 < reached.mean() < 0.8


def _ascending_part(line: _Line | None) -> _Line | None:
    """Return the centreline up to its turn towards the arch."""
    if line is None:
        return None
    turning = np.flatnonzero((line.tangents[:, 2] < ASCENDING_SLOPE) & (line.along > 20.0))
    if not len(turning):
        return line
    stop = max(2, int(turning[0]))
    return _Line(line.centers[:stop], line.tangents[:stop], line.along[:stop])


def _section_diameter(mask: np.ndarray, geometry: Geometry, center: np.ndarray, normal: np.ndarray) -> float | None:
    """Diameter, mm, of the circle with the area of the cross-section; ``None`` if ``center`` is outside the vessel.

    The plane is sampled every 0.5 mm; the boundary is the 0.5 level of the linearly interpolated mask.
    """
    helper = np.eye(3)[int(np.abs(normal).argmin())]
    u = np.cross(normal, helper)
    u /= np.linalg.norm(u)
    v = np.cross(normal, u)
    offsets = np.arange(-SECTION_HALF_MM, SECTION_HALF_MM + 1e-6, SECTION_PIXEL_MM)
    plane = center + offsets[:, None, None] * u + offsets[None, :, None] * v
    index = np.moveaxis(geometry.world_to_index(plane), -1, 0)
    inside = ndimage.map_coordinates(mask.astype(np.float32), index, order=1, mode="constant", prefilter=False) >= 0.5
    pieces, _ = ndimage.label(inside)
    middle = len(offsets) // 2
    at_center = int(pieces[middle, middle])
    if at_center == 0:
        return None
    area = float((pieces == at_center).sum()) * SECTION_PIXEL_MM**2
    return 2.0 * float(np.sqrt(area / np.pi))
