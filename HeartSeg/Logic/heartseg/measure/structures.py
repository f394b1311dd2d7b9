"""Measures of each structure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..anatomy import MYOCARDIAL_DENSITY_G_PER_ML, STRUCTURES, Structure
from ..result import Measure, joined_notes
from ..volume.geometry import Geometry
from ..volume.types import Volume
from ..volume.values import ValueScale
from ..wording import _
from .boxes import Box, crop_labels
from .grid import CUT_OFF
from .vessels import GreatVessels, VesselDiameter

INTENSITIES = ("mean_intensity", "sd_intensity")
"""Quantities that need the scan; the others need the labels only."""


def measure_structures(
    volume: Volume, labels: np.ndarray, structures: Sequence[Structure] = STRUCTURES
) -> tuple[Measure, ...]:
    """Measure the structures.

    Per structure, in this order: ``volume`` (mL): number of voxels times voxel volume; ``mass`` (g) of the myocardium:
    volume times :data:`~heartseg.anatomy.MYOCARDIAL_DENSITY_G_PER_ML`; ``diameter`` (mm) of the ascending aorta and the
    pulmonary trunk (see :mod:`heartseg.measure.vessels`); ``mean_intensity`` and ``sd_intensity`` over its voxels;
    ``extent_x``, ``extent_y``, ``extent_z`` (mm): size of its bounding box along the patient axes, including voxel
    edges, also on oblique grids.

    Args:
        volume: the scan, ``(z, y, x)``.
        labels: uint8 ``(z, y, x)`` on the same grid.
        structures: structures to measure.

    Returns:
        Measures in the order of ``structures``. All values of a structure without voxels are ``None``, including its
        volume: a structure that was not found does not have a volume of 0 mL. Volume, mass and extent of a structure
        that reaches the border of the scan are those of its visible part, as their notes say.

    Raises:
        ValueError: ``labels`` and the volume have different shapes.
    """
    crop = crop_labels(labels, volume.geometry)
    return structure_measures(volume, None if crop is None else GreatVessels(crop), structures)


def structure_measures(
    volume: Volume, vessels: GreatVessels | None, structures: Sequence[Structure]
) -> tuple[Measure, ...]:
    """Measure the structures as :func:`measure_structures`; ``vessels`` of the labels, ``None`` without labels."""
    boxes = vessels.crop.boxes if vessels is not None else {}
    contacts = vessels.crop.border_contacts if vessels is not None else {}
    unit = "HU" if volume.value_scale is ValueScale.HOUNSFIELD else ""
    rows: list[Measure] = []
    for s in structures:
        values = _of_structure(s, vessels, boxes.get(s.label), volume)
        rows += _as_measures(
            s,
            values,
            unit,
            _("{cut_off}: part of it may be outside").format(cut_off=CUT_OFF) if s.key in contacts else "",
        )
    return tuple(rows)


def _of_structure(
    structure: Structure, vessels: GreatVessels | None, box: Box | None, volume: Volume
) -> dict[str, float | VesselDiameter | None]:
    empty = dict.fromkeys(("volume", "mean_intensity", "sd_intensity", "extent_x", "extent_y", "extent_z"))
    values: dict[str, float | VesselDiameter | None] = dict(empty)
    if vessels is not None and box is not None:
        crop = vessels.crop
        mask = crop.labels[box] == structure.label
        intensities = np.asarray(crop.take(volume.array)[box][mask], np.float64)
        values["volume"] = len(intensities) * crop.geometry.voxel_volume_ml
        values["mean_intensity"], values["sd_intensity"] = float(intensities.mean()), float(intensities.std())
        extents = world_extent(mask, crop.geometry)
        values.update({f"extent_{axis}": e for axis, e in zip("xyz", extents, strict=True)})
    if structure.key == "MYO":
        ml = values["volume"]
        values["mass"] = ml * MYOCARDIAL_DENSITY_G_PER_ML if isinstance(ml, float) else None
    elif structure.key == "AO":
        values["diameter"] = vessels.aorta if vessels is not None else None
    elif structure.key == "PA":
        values["diameter"] = vessels.trunk if vessels is not None else None
    return values


def world_extent(mask: np.ndarray, geometry: Geometry) -> tuple[float, float, float]:
    """Return the size (x, y, z) of the bounding box of ``mask`` along the world axes, including voxel edges, mm.

    ``mask`` is boolean ``(z, y, x)``; only spacing and direction of ``geometry`` are used. Exact on oblique grids: the
    extreme point along a world axis is an outer corner of the first or last voxel of a row.
    """
    rows = np.argwhere(mask.any(axis=2))
    lines = mask[rows[:, 0], rows[:, 1]]
    first, last = lines.argmax(axis=1), mask.shape[2] - 1 - lines[:, ::-1].argmax(axis=1)
    ends = np.concatenate([np.column_stack([x, rows[:, 1], rows[:, 0]]) for x in (first, last)])
    steps = geometry.affine[:3, :3]
    x, y, z = np.ptp(ends @ steps.T, axis=0) + np.abs(steps).sum(axis=1)
    return float(x), float(y), float(z)


def _as_measures(
    structure: Structure, values: dict[str, float | VesselDiameter | None], unit: str, cut: str
) -> list[Measure]:
    """Return the rows of a structure; ``cut`` is the note on the size of a structure that is cut off."""
    units = {"volume": "mL", "mass": "g", "diameter": "mm", "mean_intensity": unit, "sd_intensity": unit}
    order = ("volume", "mass", "diameter", "mean_intensity", "sd_intensity", "extent_x", "extent_y", "extent_z")
    measures = []
    missing = "" if values["volume"] is not None else _("{name} not found").format(name=structure.name)
    for quantity in order:
        if quantity not in values:
            continue
        value = values[quantity]
        if isinstance(value, VesselDiameter):
            measures.append(Measure(structure.key, quantity, value.diameter_mm, "mm", value.note))
            continue
        notes: list[str] = (
            [_("volume times {density} g/mL").format(density=MYOCARDIAL_DENSITY_G_PER_ML)] if quantity == "mass" else []
        )
        notes += [cut] if quantity not in INTENSITIES else []
        note = missing or joined_notes(*notes)
        measures.append(Measure(structure.key, quantity, value, units.get(quantity, "mm"), note))
    return measures
