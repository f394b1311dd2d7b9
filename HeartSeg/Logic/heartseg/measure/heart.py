"""All geometric measures of one label map, as values and as rows of the table of measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..anatomy import MYOCARDIAL_DENSITY_G_PER_ML, Structure, structure
from ..findings import Finding
from ..result import Measure, joined_notes
from ..volume.geometry import Geometry
from ..volume.types import Volume
from ..wording import _, joined
from .aorta import ROOT_MM, AscendingAorta, ascending_aorta
from .axes import HeartFrame, LongAxis, heart_frame, long_axis, septum_surface
from .boxes import LabelCrop, crop_labels
from .chambers import (
    AtrialDiameters,
    VentricularWidths,
    atrial_diameters,
    septal_angle_deg,
    sphericity,
    ventricular_widths,
)
from .grid import CUT_OFF, HeartGrid, Unknown, grid_of_crop
from .planes import StandardPlanes, standard_planes
from .segments17 import SegmentWall, segment_walls
from .structures import structure_measures
from .uncertainty import borders_of, with_intervals, without_intervals
from .valves import VALVES, ValvePlane, valve_plane
from .vessels import GreatVessels, VesselDiameter
from .wall import COARSE_VOXEL_MM, WallThickness, wall_thickness
from .wall_slices import wall_in_slices

_VALVE_OF = {"mitral": "LV", "tricuspid": "RV", "aortic": "AO", "pulmonary": "PA"}
"""Valve -> structure behind it, to which its area belongs."""


@dataclass(frozen=True, eq=False)
class HeartMeasures:
    """Geometric measures of one label map; :class:`Unknown` with the reason if one cannot be determined.

    Attributes:
        valves: name -> plane, for all of :data:`~heartseg.measure.valves.VALVES`.
        axis, frame, planes: long axis of the left ventricle, directions around it, standard planes.
        wall: wall thickness at the endocardium; in stacks of thick slices, in the plane of the slices.
        segments: the 17 AHA segments; empty without long axis or septum.
        lv_volume_ml, myocardial_mass_g: measured on the grid of the scan; ``None`` if the structure is missing or cut
            off.
        widths: widths of both ventricles in the four-chamber plane.
        septal_angle_deg: angle of the septum; a flat septum has 180.
        left_atrium, right_atrium: diameters in the four-chamber plane.
        aorta: levels of the ascending aorta.
        aorta_diameter, trunk_diameter: median inner diameters of ascending aorta and pulmonary trunk.
    """

    valves: dict[str, ValvePlane | Unknown]
    axis: LongAxis | Unknown
    frame: HeartFrame | Unknown
    planes: StandardPlanes
    wall: WallThickness | Unknown
    segments: tuple[SegmentWall, ...]
    lv_volume_ml: float | None
    myocardial_mass_g: float | None
    widths: VentricularWidths | Unknown
    septal_angle_deg: float | Unknown
    left_atrium: AtrialDiameters | Unknown
    right_atrium: AtrialDiameters | Unknown
    aorta: AscendingAorta | Unknown
    aorta_diameter: VesselDiameter
    trunk_diameter: VesselDiameter


@dataclass(frozen=True, eq=False)
class MeasuredLabels:
    """Everything measured in a label map.

    Attributes:
        measures: rows of the table.
        heart: geometric measures; ``None`` without labels.
        doubts: structure key -> why its measures have no interval.
        findings: findings of the checks, see :func:`heartseg.quality.measured_and_checked`.
    """

    measures: tuple[Measure, ...]
    heart: HeartMeasures | None
    doubts: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def measure_heart(labels: np.ndarray, geometry: Geometry) -> HeartMeasures | None:
    """Measure planes, wall, vessels and ratios of labels 1-7 (uint8 ``(z, y, x)``); ``None`` without labels.

    Raises:
        ValueError: the shapes of labels and geometry differ.
    """
    crop = crop_labels(labels, geometry)
    return None if crop is None else _measure_heart(GreatVessels(crop), grid_of_crop(crop))


def _measure_heart(vessels: GreatVessels, grid: HeartGrid) -> HeartMeasures:
    crop = vessels.crop
    valves = {name: valve_plane(grid, name) for name in VALVES}
    axis, septum = long_axis(grid, valves["mitral"]), septum_surface(grid)
    frame = heart_frame(axis, septum)
    planes = standard_planes(axis, frame, valves["tricuspid"], valves["aortic"])
    wall, wall_frame = wall_thickness(grid, frame), frame
    if max(grid.geometry.spacing) > COARSE_VOXEL_MM:
        stack = wall_in_slices(grid, crop.border_contacts)
        wall, wall_frame = (stack, frame) if isinstance(stack, Unknown) else (stack.wall, stack.frame)
    myocardium_ml = _whole_ml(grid, crop, "MYO")
    return HeartMeasures(
        valves,
        axis,
        frame,
        planes,
        wall,
        segment_walls(grid, wall_frame, wall) if isinstance(wall_frame, HeartFrame) and grid.has("MYO") else (),
        _whole_ml(grid, crop, "LV"),
        None if myocardium_ml is None else myocardium_ml * MYOCARDIAL_DENSITY_G_PER_ML,
        ventricular_widths(grid, planes.four_chamber, axis, septum),
        septal_angle_deg(grid, frame, septum),
        atrial_diameters(grid, "LA", planes.four_chamber, valves["mitral"]),
        atrial_diameters(grid, "RA", planes.four_chamber, valves["tricuspid"]),
        ascending_aorta(vessels),
        vessels.aorta,
        vessels.trunk,
    )


def _whole_ml(grid: HeartGrid, crop: LabelCrop, key: str) -> float | None:
    if grid.problem(key) is not None:
        return None
    return int(np.count_nonzero(crop.labels == structure(key).label)) * crop.geometry.voxel_volume_ml


def heart_measures(heart: HeartMeasures) -> tuple[Measure, ...]:
    """Return rows of the table of measures; a measure that cannot be determined has no value and the reason as note."""
    parts = (_valve_rows, _ventricle_rows, _wall_rows, _atrium_rows, _vessel_rows)
    return tuple(row for part in parts for row in part(heart))


def measure_labels(
    volume: Volume, labels: np.ndarray, structures: Sequence[Structure], spread: Mapping[str, float] | None = None
) -> MeasuredLabels:
    """Measure each structure (:func:`~heartseg.measure.measure_structures`) and the geometry of the heart.

    Measures with known accuracy have a 90 % interval (:mod:`heartseg.measure.uncertainty`), unless the border of the
    scan cuts the structure.

    Args:
        volume: the scan, ``(z, y, x)``.
        labels: uint8 ``(z, y, x)`` on the same grid.
        structures: structures to measure; rows of other structures are omitted.
        spread: structure key -> relative standard deviation of its volume over shifted windows, if known.
    """
    return measure_crop(volume, crop_labels(labels, volume.geometry), structures, spread)


def measure_crop(
    volume: Volume, crop: LabelCrop | None, structures: Sequence[Structure], spread: Mapping[str, float] | None = None
) -> MeasuredLabels:
    """Measure the labelled part of a scan as :func:`measure_labels`; ``None`` without labels."""
    if crop is None:
        return MeasuredLabels(structure_measures(volume, None, structures), None)
    vessels, grid = GreatVessels(crop), grid_of_crop(crop)
    heart = _measure_heart(vessels, grid)
    keys = {s.key for s in structures}
    rows = (m for m in heart_measures(heart) if m.structure in keys)
    borders = borders_of(grid, volume.modality)
    listed = with_intervals((*structure_measures(volume, vessels, structures), *rows), borders, spread)
    doubts = dict.fromkeys(crop.border_contacts, CUT_OFF)
    return MeasuredLabels(without_intervals(listed, doubts), heart, doubts)


def _row(key: str, quantity: str, value: float | Unknown | None, unit: str, note: str = "") -> Measure:
    if isinstance(value, Unknown):
        return Measure(key, quantity, None, unit, value.why)
    return Measure(key, quantity, value, unit, note)


def _valve_rows(heart: HeartMeasures) -> Iterator[Measure]:
    for name, valve in heart.valves.items():
        area = valve if isinstance(valve, Unknown) else valve.area_mm2 / 100
        note = _("area of the annulus projected on its plane; not for sizing a device")
        yield _row(_VALVE_OF[name], f"{name}_valve_area", area, "cm²", note)


def _ventricle_rows(heart: HeartMeasures) -> Iterator[Measure]:
    axis, widths = heart.axis, heart.widths
    note = axis.note if isinstance(axis, LongAxis) else ""
    yield _row("LV", "long_axis_length", axis.length_mm if isinstance(axis, LongAxis) else axis, "mm", note)
    if isinstance(axis, LongAxis) and heart.lv_volume_ml is not None:
        yield _row("LV", "sphericity", sphericity(heart.lv_volume_ml, axis), "", _("volume relative to a sphere"))
    else:
        yield _row("LV", "sphericity", axis if isinstance(axis, Unknown) else None, "")
    plane = _("largest, perpendicular to the septum, in the four-chamber plane")
    yield _row("LV", "width_4ch", widths.lv_mm if isinstance(widths, VentricularWidths) else widths, "mm", plane)
    yield _row("RV", "width_4ch", widths.rv_mm if isinstance(widths, VentricularWidths) else widths, "mm", plane)
    ratio = widths.ratio if isinstance(widths, VentricularWidths) else widths
    yield _row("RV", "rv_lv_diameter_ratio", ratio, "", plane)
    yield _row("RV", "septal_angle", heart.septal_angle_deg, "deg", _("middle of the long axis; a flat septum has 180"))


def _wall_rows(heart: HeartMeasures) -> Iterator[Measure]:
    why = heart.wall.why if isinstance(heart.wall, Unknown) else _("too few endocardial points")
    how = "" if isinstance(heart.wall, Unknown) else heart.wall.note
    for s in heart.segments:
        for name, value in (("mean", s.mean_mm), ("min", s.min_mm), ("max", s.max_mm)):
            note = joined(": ", (s.name, why)) if value is None else joined_notes(s.name, how)
            yield Measure("MYO", f"wall_thickness_{name}_{s.segment:02d}", value, "mm", note)
        mass = None if heart.myocardial_mass_g is None else s.mass_share * heart.myocardial_mass_g
        note = s.name if mass is not None else joined(": ", (s.name, _("myocardium {cut_off}").format(cut_off=CUT_OFF)))
        yield Measure("MYO", f"segment_mass_{s.segment:02d}", mass, "g", note)
    wall = heart.wall
    mean = wall if isinstance(wall, Unknown) else float(wall.thickness_mm.mean())
    method = joined_notes(_("Laplace's equation, mean over the endocardium"), how)
    yield _row("MYO", "wall_thickness_mean", mean, "mm", method)
    most = [s.mean_mm for s in heart.segments if s.mean_mm is not None]
    widest = wall if isinstance(wall, Unknown) else max(most, default=None)
    yield _row("MYO", "wall_thickness_largest_segment", widest, "mm", _("largest mean of the 17 segments"))


def _atrium_rows(heart: HeartMeasures) -> Iterator[Measure]:
    for key, atrium in (("LA", heart.left_atrium), ("RA", heart.right_atrium)):
        known = isinstance(atrium, AtrialDiameters)
        length = atrium.length_mm if isinstance(atrium, AtrialDiameters) else atrium
        width = atrium.width_mm if isinstance(atrium, AtrialDiameters) else atrium
        yield _row(key, "length_4ch", length, "mm", _("valve to roof in the four-chamber plane") if known else "")
        yield _row(key, "width_4ch", width, "mm", _("parallel to the valve in the four-chamber plane") if known else "")


def _vessel_rows(heart: HeartMeasures) -> Iterator[Measure]:
    aorta = heart.aorta
    levels = (
        ("root_diameter", "root_mm", "root_at_mm"),
        ("sinotubular_diameter", "junction_mm", "junction_at_mm"),
        ("maximum_diameter", "maximum_mm", "maximum_at_mm"),
    )
    for quantity, name, at in levels:
        value = aorta if isinstance(aorta, Unknown) else getattr(aorta, name)
        place = None if isinstance(aorta, Unknown) else getattr(aorta, at)
        note = "" if place is None else _("inner, double-oblique, {place:.0f} mm from the valve").format(place=place)
        if isinstance(aorta, AscendingAorta) and aorta.cut_above and name in _visible_levels(aorta):
            note = joined_notes(note, _("cut off at the upper border: maximum of the visible part"))
        yield _row("AO", quantity, value, "mm", note)
    both = {_("pulmonary trunk"): heart.trunk_diameter, _("ascending aorta"): heart.aorta_diameter}
    missing = [joined(": ", (name, found.method)) for name, found in both.items() if not found.diameter_mm]
    caveats = [joined(": ", (name, found.caveat)) for name, found in both.items() if found.caveat]
    trunk_mm, aorta_mm = heart.trunk_diameter.diameter_mm, heart.aorta_diameter.diameter_mm
    ratio = trunk_mm / aorta_mm if trunk_mm and aorta_mm else None
    method = _("median inner diameters of trunk and ascending aorta")
    yield Measure("PA", "pa_ao_ratio", ratio, "", joined_notes(*(missing or [method, *caveats])))


def _visible_levels(aorta: AscendingAorta) -> tuple[str, ...]:
    """Return the levels whose widest section may be beyond the upper border of the scan."""
    return ("maximum_mm",) if aorta.length_mm > ROOT_MM else ("root_mm", "maximum_mm")
