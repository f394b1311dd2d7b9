"""Diameters of the great arteries, perpendicular to their centrelines.

Method for both vessels:

1. *Start.* The voxels of the vessel adjacent to its ventricle (aorta: LV, pulmonary trunk: RV); if the ventricle is
   missing or not adjacent, the inferior end of the vessel.
2. *Centreline.* Distance from the start within the vessel (shortest paths on a graph of its voxels, resampled to about
   1.5 mm, 26 neighbours); centroids of bands of equal distance; local direction from a straight-line fit.
3. *Cross-sections.* Planes perpendicular to the centreline every 2 mm; area of the connected component around the
   centre; diameter of the circle of equal area, ``2 sqrt(A / pi)``. Guidelines recommend double-oblique planes
   perpendicular to the vessel axis (2010 ACCF/AHA thoracic aortic disease guideline; Erbel et al., ESC 2014).
4. *Border of the scan.* A cross-section that reaches the border of the scan is incomplete. If it does so at the upper
   border, only the sections below are used, and the note says so; at any other border, there is no diameter.
5. *Range.* Aorta: from the start to the turn towards the arch (course less than 30 degrees above the horizontal), at
   most 80 mm. Pulmonary trunk: to the bifurcation, at most 50 mm. The result is the median of the sections in the
   middle half, which excludes sinuses, cut ends and the arch.

The label is the lumen, so these are inner diameters; the wall adds 2-4 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from ..anatomy import structure
from ..findings import SIDE_NAMES
from ..volume.geometry import Geometry
from ..wording import _, joined
from .boxes import LabelCrop
from .grid import CUT_OFF, Unknown, too_coarse

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


VENTRICLES = {"AO": "LV", "PA": "RV"}
"""Vessel -> ventricle from which it arises."""


@dataclass(frozen=True)
class VesselDiameter:
    """A diameter, mm, or ``None`` if it cannot be measured.

    Attributes:
        diameter_mm: the diameter.
        method: how it was measured, or why it was not.
        caveat: why it is uncertain or of a part of the vessel; empty if it is neither.
    """

    diameter_mm: float | None
    method: str
    caveat: str = ""

    @property
    def note(self) -> str:
        """Method and caveat."""
        return "; ".join(text for text in (self.method, self.caveat) if text)


@dataclass(frozen=True, eq=False)
class VesselProfile:
    """Diameters along a vessel.

    Attributes:
        along_mm: distance from the valve along the centreline ``(n,)``.
        diameter_mm: diameter of the circle with the area of the cross-section ``(n,)``; NaN where there is none, and
            where the upper border of the scan cuts it.
        at_valve: whether the vessel reaches its ventricle; otherwise, distances are from its inferior end.
        cut_above: whether the vessel reaches the upper border of the scan, so that a wider part may be outside.
    """

    along_mm: np.ndarray
    diameter_mm: np.ndarray
    at_valve: bool
    cut_above: bool = False


@dataclass(frozen=True, eq=False)
class GreatVessels:
    """Ascending aorta (``AO``) and pulmonary trunk (``PA``) of a label map; each is measured once, on first use."""

    crop: LabelCrop

    @cached_property
    def aorta(self) -> VesselDiameter:
        """Inner diameter of the ascending aorta. For the method, see the module docstring."""
        return _diameter(self._aorta)

    @cached_property
    def trunk(self) -> VesselDiameter:
        """Inner diameter of the pulmonary trunk. See the module docstring."""
        return _diameter(_course(self.crop, "PA", TRUNK_LENGTH_MM))

    @cached_property
    def aortic_profile(self) -> VesselProfile | Unknown:
        """Diameters every 2 mm from the aortic valve to the arch."""
        return _profile(self._aorta)

    @cached_property
    def _aorta(self) -> _Course | Unknown:
        return _course(self.crop, "AO", AORTA_LENGTH_MM)


def ascending_aorta_diameter(crop: LabelCrop) -> VesselDiameter:
    """Inner diameter of the ascending aorta. For the method, see the module docstring."""
    return GreatVessels(crop).aorta


def _diameter(course: _Course | Unknown) -> VesselDiameter:
    if isinstance(course, Unknown):
        return VesselDiameter(None, course.why)
    line = course.line
    found = course.measure(line.middle_sections())
    if isinstance(found, Unknown):
        return VesselDiameter(None, found.why)
    diameters = found[np.isfinite(found)]
    if not len(diameters):
        return VesselDiameter(None, _("no complete cross-section contains the centreline"))
    method = _(
        "inner, circle of equal area, median of {count} cross-sections perpendicular to the "
        "centreline in the middle half of {length:.0f} mm"
    ).format(count=len(diameters), length=line.length_mm)
    median = float(np.median(diameters))
    caveats = []
    if not course.at_valve:
        caveats.append(_("{key} not adjacent, measured from the inferior end").format(key=VENTRICLES[course.vessel]))
    if course.cut_above:
        caveats.append(_("cut off at the upper border: median of the visible part"))
    if line.length_mm < median:
        caveats.append(_("the vessel is shorter than wide, so the value is uncertain"))
    return VesselDiameter(median, method, joined("; ", caveats))


def _profile(course: _Course | Unknown) -> VesselProfile | Unknown:
    if isinstance(course, Unknown):
        return course
    sections = course.line.sections(0.0, 1.0)
    found = course.measure(sections)
    if isinstance(found, Unknown):
        return found
    along = np.linspace(course.line.along[0], course.line.along[-1], len(sections))
    return VesselProfile(along, found, course.at_valve, course.cut_above)


@dataclass(frozen=True, eq=False)
class _Course:
    """A vessel on the smallest grid that contains it, and its centreline.

    Attributes:
        vessel: key of the structure.
        inside: 1 in the vessel, 0 elsewhere, float32 ``(z, y, x)``.
        geometry: its grid, in nearest LPS axes.
        line: the centreline.
        at_valve: whether it begins at the ventricle; otherwise, at the inferior end.
        sides: sides of the scan that the vessel reaches.
    """

    vessel: str
    inside: np.ndarray
    geometry: Geometry
    line: _Line
    at_valve: bool
    sides: tuple[str, ...]

    @property
    def cut_above(self) -> bool:
        """Whether the vessel reaches the upper border of the scan."""
        return "superior" in self.sides

    def measure(self, sections: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray | Unknown:
        """Return the diameters of cross-sections, mm ``(n,)``; see :class:`VesselProfile` for NaN."""
        found = []
        for center, normal in sections:
            region = _section(self.inside, self.geometry, center, normal)
            cut = self._sides_cutting(region)
            if cut - {"superior"}:
                return Unknown(
                    _("{name} {cut_off} ({sides})").format(
                        name=structure(self.vessel).name, cut_off=CUT_OFF, sides=[SIDE_NAMES[s] for s in sorted(cut)]
                    )
                )
            area = 0.0 if cut else len(region) * SECTION_PIXEL_MM**2
            found.append(2.0 * float(np.sqrt(area / np.pi)) if area else np.nan)
        return np.array(found)

    def _sides_cutting(self, region: np.ndarray) -> set[str]:
        """Return the sides of the scan that a cross-section, given by its indices ``(n, 3)``, reaches."""
        if not self.sides or not len(region):
            return set()
        # A section that is cut ends at the centre of the last voxel; its last pixel may be up to one pixel before it.
        reach = 0.5 + SECTION_PIXEL_MM / np.asarray(self.geometry.spacing)[::-1]
        low, high = region.min(axis=0) + 0.5 - reach, region.max(axis=0) + 0.5 + reach
        return {side for side in self.geometry.sides_reached(low, high) if side in self.sides}


def _course(crop: LabelCrop, vessel: str, length_mm: float) -> _Course | Unknown:
    box = crop.boxes.get(structure(vessel).label)
    if box is None:
        return Unknown(_("{name} not found").format(name=structure(vessel).name))
    if (coarse := too_coarse(crop.geometry)) is not None:
        return coarse
    grown = tuple(
        slice(max(0, b.start - r), b.stop + r)
        for b, r in zip(box, np.ceil(TOUCH_MM / np.asarray(crop.geometry.spacing)[::-1]).astype(int), strict=True)
    )
    part = (grown[0], grown[1], grown[2])
    labels, geometry = crop.labels[part], crop.geometry.cropped(part)
    mask = labels == structure(vessel).label
    if mask.sum() * geometry.voxel_volume_ml < SMALLEST_ML:
        return Unknown(_("too small to measure"))
    points = _graph_points(mask, geometry)
    start, at_valve = _start(points, labels == structure(VENTRICLES[vessel]).label, geometry)
    distance = _distance_along(points, start)
    line = _centreline(points, distance, length_mm, stop_at_division=vessel == "PA")
    if vessel == "AO":
        line = _ascending_part(line)
    if line is None or len(line.centers) < 2:
        return Unknown(_("centreline too short for a cross-section"))
    sides = crop.border_contacts.get(vessel, ())
    return _Course(vessel, mask.astype(np.float32), geometry, line, at_valve, sides)


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


def _section(inside: np.ndarray, geometry: Geometry, center: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return indices ``(n, 3)``, z, y, x, of the pixels of a cross-section; none if ``center`` is outside the vessel.

    The plane is sampled every 0.5 mm, where it may cross the grid; the boundary is the 0.5 level of the linearly
    interpolated mask.
    """
    helper = np.eye(3)[int(np.abs(normal).argmin())]
    u = np.cross(normal, helper)
    u /= np.linalg.norm(u)
    v = np.cross(normal, u)
    offsets = np.arange(-SECTION_HALF_MM, SECTION_HALF_MM + 1e-6, SECTION_PIXEL_MM)
    corners = geometry.corners() - center
    rows, columns = (offsets[(offsets >= c.min()) & (offsets <= c.max())] for c in (corners @ u, corners @ v))
    if 0 not in rows or 0 not in columns:
        return np.empty((0, 3))
    plane = center + rows[:, None, None] * u + columns[None, :, None] * v
    index = geometry.world_to_index(plane)
    at_level = ndimage.map_coordinates(inside, np.moveaxis(index, -1, 0), order=1, mode="constant", prefilter=False)
    pieces, _ = ndimage.label(at_level >= 0.5)
    at_center = int(pieces[rows == 0, columns == 0].item())
    return index[pieces == at_center] if at_center else np.empty((0, 3))
