"""Models for 3D printing: the blood pool as a hollow shell with a wall, and the myocardium as a solid.

Every part is a level set of a smooth field on a fine isotropic grid, so it is closed and manifold by construction.
Each file is read back after writing and checked (:mod:`.solidity`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ..anatomy import Structure
from ..errors import OutputError, SettingsError
from ..measure.boxes import LabelCrop, bounding_box, crop_labels
from ..progress import Reporter
from ..result import Result
from ..version import __version__
from ..volume.geometry import Geometry
from ..wording import _
from .solidity import check_solidity
from .surface_files import read_stl, write_surface
from .surfaces import Mesh, joined, level_set

WALL_MM = 2.0
WALL_LIMITS_MM = (0.8, 10.0)
"""Limits of the wall thickness: thinner walls break on most printers, thicker ones fill the space between chambers."""

SMOOTHING_MM = 1.0
"""Standard deviation of the Gaussian that smooths the distance map; it removes structures thinner than about 2 mm."""

SMALLEST_ML = 0.5
"""Volume below which separate pieces are removed."""

POOL_KEYS = ("LV", "RV", "LA", "RA", "AO", "PA")
POOL_FILE, MYOCARDIUM_FILE, README_FILE, CHECK_FILE = "blood_pool.stl", "myocardium.stl", "README.txt", "print.json"

_STEP_LIMITS_MM = (0.5, 1.0)
_MARGIN_STEPS = 3
_NUDGE = 0.05  # in steps: keeps the surface away from grid points, where triangles would have zero area
_SAMPLES = 20_000


@dataclass(frozen=True, eq=False)
class _Field:
    """Signed distance map, float32 ``(z, y, x)``, mm, negative inside; with its grid and counts of removed parts."""

    distance: np.ndarray
    geometry: Geometry
    pieces_left_out: int = 0
    cavities_filled: int = 0

    @property
    def step(self) -> float:
        return self.geometry.spacing[0]


@dataclass(frozen=True, eq=False)
class PrintPart:
    """One part to print.

    Attributes:
        file: file name.
        mesh: surface in world LPS mm.
        color: red, green, blue, for viewers that display colours.
        facts: description, structures and thickness, JSON-ready.
    """

    file: str
    mesh: Mesh
    color: tuple[int, int, int]
    facts: dict[str, Any]


def check_wall(wall_mm: float) -> float:
    """Return the wall thickness; raises ``SettingsError`` if it is outside the limits."""
    low, high = WALL_LIMITS_MM
    if not low <= wall_mm <= high:
        raise SettingsError(
            _("wall thickness {wall:g} mm is outside {low:g} to {high:g} mm: most printers need 2 mm").format(
                wall=wall_mm, low=low, high=high
            )
        )
    return wall_mm


def print_parts(result: Result, wall_mm: float = WALL_MM, reporter: Reporter | None = None) -> tuple[PrintPart, ...]:
    """Make the parts to print.

    The inner surface of the blood pool is the common surface of the chambers and vessels. The outer surface lies
    ``wall_mm`` outside it everywhere. The two surfaces are separate closed shells, so the lumen is empty and has no
    openings.

    Args:
        result: labels on the grid of the scan.
        wall_mm: wall thickness of the blood pool.

    Returns:
        The blood pool and the myocardium, if present.

    Raises:
        SettingsError: the wall thickness is outside its limits.
        OutputError: neither is present.
    """
    reporter = reporter or Reporter()
    check_wall(wall_mm)
    crop = crop_labels(result.labels, result.geometry)
    parts = []
    for make in (_pool, _myocardium):
        reporter.check()
        part = make(crop, result.structures, wall_mm) if crop is not None else None
        parts += [part] if part is not None else []
    if not parts:
        raise OutputError(_("the segmentation has neither blood pool nor myocardium: choose a scan with a heart"))
    return tuple(parts)


def _pool(crop: LabelCrop, structures: Sequence[Structure], wall_mm: float) -> PrintPart | None:
    chosen = [s for s in structures if s.key in POOL_KEYS]
    field = _distance_field(crop, chosen, wall_mm)
    if field is None:
        return None
    inner = _surface(field)
    if inner is None:
        return None
    grown = _grown(field, inner, wall_mm)
    outer = _surface(grown)
    assert outer is not None  # the blood pool is not empty
    facts = {
        "what": "blood pool, hollow: an outer and an inner closed shell, no openings",
        "structures": [s.key for s in chosen],
        "wall_asked_mm": wall_mm,
        "thickness_mm": {
            "from_outer_surface": _distances(outer, inner),
            "from_inner_surface": _distances(inner, outer),
        },
        "lumen_ml": inner.volume_ml,
        **_cleaning(field),
        "gaps_closed_in_the_wall": grown.cavities_filled,
    }
    return PrintPart(POOL_FILE, joined(outer, inner.flipped()), (200, 60, 60), facts)


def _myocardium(crop: LabelCrop, structures: Sequence[Structure], wall_mm: float) -> PrintPart | None:
    chosen = [s for s in structures if s.key == "MYO"]
    field = _distance_field(crop, chosen, 0.0)
    mesh = _surface(field) if field is not None else None
    if field is None or mesh is None:
        return None
    facts = {"what": "myocardium of the left ventricle, solid", "structures": ["MYO"], **_cleaning(field)}
    return PrintPart(MYOCARDIUM_FILE, mesh, chosen[0].color, facts)


def _cleaning(field: _Field) -> dict[str, Any]:
    return {
        "smoothing_mm": SMOOTHING_MM,
        "grid_step_mm": field.step,
        "pieces_left_out": field.pieces_left_out,
        "cavities_filled": field.cavities_filled,
    }


def _distance_field(crop: LabelCrop, structures: Sequence[Structure], wall_mm: float) -> _Field | None:
    """Smoothed signed distance to the border of all structures together, on an isotropic grid with room for the wall.

    Interpolating distances instead of labels smooths the steps between thick slices (Raya & Udupa, IEEE TMI 1990).
    """
    mask = np.isin(crop.labels, [s.label for s in structures])
    box = bounding_box(mask.astype(np.uint8))
    if box is None:
        return None
    spacing = np.array(crop.geometry.spacing[::-1])
    step = float(np.clip(spacing.min(), *_STEP_LIMITS_MM))
    step = min(step, wall_mm / 2) if wall_mm else step
    room = np.ceil((wall_mm + 3 * SMOOTHING_MM + _MARGIN_STEPS * step) / spacing).astype(int)
    padded = np.pad(mask[box], [(int(n), int(n)) for n in room])
    signed = ndimage.distance_transform_edt(~padded, sampling=spacing)
    signed -= ndimage.distance_transform_edt(padded, sampling=spacing)
    half = spacing.min() / 2  # distances are between voxel centres, the border is half a voxel away
    signed = np.where(padded, signed + half, signed - half).astype(np.float32)
    shape = np.floor((np.array(padded.shape) - 1) * spacing / step).astype(int) + 1
    fine = ndimage.affine_transform(signed, step / spacing, output_shape=tuple(shape), order=1, mode="nearest")
    fine = ndimage.gaussian_filter(fine, SMOOTHING_MM / step)
    start = np.array([s.start for s in box]) - room
    x, y, z = (float(v) for v in crop.geometry.index_to_world(start))
    grid = Geometry((fine.shape[0], fine.shape[1], fine.shape[2]), (step,) * 3, (x, y, z), crop.geometry.direction)
    return _cleaned(fine, grid)


def _cleaned(distance: np.ndarray, geometry: Geometry) -> _Field:
    """Remove small pieces and enclosed cavities, and keep all values at least ``_NUDGE`` away from 0."""
    step = geometry.spacing[0]
    few = SMALLEST_ML * 1000.0 / step**3
    inside, left_out = _without_small(distance < 0, few)
    filled = ndimage.binary_fill_holes(inside)
    cavities = int(ndimage.label(filled & ~inside)[1])
    nearest = np.float32(_NUDGE * step)
    size = np.maximum(np.abs(distance), nearest)
    return _Field(np.where(filled, -size, size).astype(np.float32), geometry, left_out, cavities)


def _without_small(mask: np.ndarray, voxels: float) -> tuple[np.ndarray, int]:
    """Remove components smaller than ``voxels`` from a mask, except the largest; returns the mask and the number."""
    components, count = ndimage.label(mask)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = sizes >= min(voxels, sizes.max())
    keep[0] = False
    return keep[components], count - int(np.count_nonzero(keep))


def _surface(field: _Field) -> Mesh | None:
    mesh = level_set(field.distance)
    if mesh is None:
        return None
    return Mesh(field.geometry.index_to_world(mesh.points[:, ::-1]), mesh.triangles).outwards()


def _grown(field: _Field, inner: Mesh, wall_mm: float) -> _Field:
    """Signed distance to the surface ``wall_mm`` outside ``inner``.

    Near the outer surface, the distance to the corners and centres of the triangles of ``inner`` is used. For triangles
    as large as a grid step, its error is step² / (6 wall), a few hundredths of a millimetre.
    """
    from scipy import spatial

    grid, step = field.geometry, field.step
    # Distances between voxel centres are correct to one step, which suffices to find voxels near the outer surface.
    distance = ndimage.distance_transform_edt(field.distance > 0, sampling=step).astype(np.float32) - wall_mm
    distance[field.distance <= 0] = -wall_mm
    band = np.argwhere((np.abs(distance) < 2 * step) & (field.distance > 0))
    sites = np.concatenate([inner.points, inner.points[inner.triangles].mean(axis=1)])
    exact, _ = spatial.cKDTree(sites, balanced_tree=False).query(grid.index_to_world(band))
    distance[tuple(band.T)] = exact - wall_mm
    return _cleaned(distance, grid)


def _distances(of: Mesh, to: Mesh) -> dict[str, float]:
    """Distance from points of one surface to the other, mm: minimum, percentiles, mean, maximum."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import reference, vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData, vtkStaticCellLocator

    surface = vtkPolyData()
    points = vtkPoints()
    points.SetDataTypeToDouble()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(to.points), deep=True))
    cells = vtkCellArray()
    cells.SetData(3, numpy_to_vtkIdTypeArray(np.ascontiguousarray(to.triangles).ravel(), deep=True))
    surface.SetPoints(points)
    surface.SetPolys(cells)
    locator: Any = vtkStaticCellLocator()
    locator.SetDataSet(surface)
    locator.BuildLocator()
    squared: Any = reference(0.0)
    nearest, cell, part = [0.0, 0.0, 0.0], reference(0), reference(0)
    found = []
    for point in of.points[:: max(1, len(of.points) // _SAMPLES)]:
        locator.FindClosestPoint(point, nearest, cell, part, squared)
        found.append(float(squared.get()) ** 0.5)
    low, p5, median, p95, high = (float(v) for v in np.percentile(found, (0, 5, 50, 95, 100)))
    return {"min": low, "p5": p5, "median": median, "mean": float(np.mean(found)), "p95": p95, "max": high}


def write_print_set(
    result: Result, folder: Path, wall_mm: float = WALL_MM, coordinates: str = "LPS", reporter: Reporter | None = None
) -> dict[str, Any]:
    """Write the print set: STL files, the results of their check (JSON) and a readme.

    Args:
        result: labels and structures.
        folder: created if it does not exist.
        wall_mm: wall thickness of the blood pool.
        coordinates: ``"LPS"`` or ``"RAS"``.

    Returns:
        Content of ``print.json``: for each file, the results of checking it after reading it back, thickness, volume.

    Raises:
        SettingsError: the wall thickness is outside its limits.
        OutputError: there is nothing to print, or a part is not watertight (a bug in HeartSeg).
        OSError: the disk is full.
    """
    parts = print_parts(result, wall_mm, reporter)
    folder.mkdir(exist_ok=True)
    facts: dict[str, Any] = {"heartseg": __version__, "unit": "mm", "coordinates": coordinates.upper(), "parts": {}}
    for part in parts:
        path = write_surface(part.mesh, folder / part.file, coordinates, part.file, part.color)
        counted = check_solidity(read_stl(path))
        if not counted.watertight:
            raise OutputError(
                _("{file} is not watertight ({counted}): report this bug with the segmentation").format(
                    file=part.file, counted=counted
                )
            )
        facts["parts"][part.file] = _rounded({**part.facts, **counted.to_dict()})
    (folder / CHECK_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (folder / README_FILE).write_text(_readme(facts, wall_mm), encoding="utf-8")
    return facts


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def _readme(facts: dict[str, Any], wall_mm: float) -> str:
    lines = [
        f"3D-print set of a heart, made by HeartSeg {facts['heartseg']}. Research use only, not a medical device.",
        "",
        "The unit of all files is the millimetre. STL files do not store it: choose mm on import. "
        f"Axes: {facts['coordinates']}.",
        "",
    ]
    for name, part in facts["parts"].items():
        lines += [f"{name}: {part['what']}.", f"  made of: {', '.join(part['structures'])}"]
        lines += [f"  material: {part['volume_ml']:.1f} mL; shells: {part['shells']}; triangles: {part['triangles']}"]
        if "thickness_mm" in part:
            wall = part["thickness_mm"]["from_outer_surface"]
            lines += [
                f"  requested wall: {wall_mm:g} mm; measured from the outer surface: median {wall['median']:.2f}, "
                f"5th to 95th percentile {wall['p5']:.2f} to {wall['p95']:.2f} mm",
                f"  lumen inside: {part['lumen_ml']:.1f} mL",
            ]
        lines += ["  checked after writing: closed, two triangles at every edge, no triangle without area", ""]
    lines += [
        "The blood pool has no openings. Cut it open in your printing software, also to drain resin or powder.",
        "The wall of the blood pool extends outwards and overlaps the myocardium: print the two parts separately.",
        f"Surfaces are smoothed (Gaussian of {SMOOTHING_MM:g} mm on the distance map). Pieces under {SMALLEST_ML:g} mL "
        "are removed and enclosed cavities are filled.",
        "The wall is artificial. The walls of the patient's atria and vessels are thinner, and the wall of the right",
        "ventricle is not segmented.",
    ]
    return "\n".join(lines) + "\n"
