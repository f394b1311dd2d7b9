"""Stable keys, units and codes of all measures.

A measure is identified by the key of its structure and the key of its quantity, such as ``("LV", "volume")``; keys and
units do not change between versions. Where a coding scheme that DICOM uses has a concept with the same meaning, the
measure has its code: SNOMED CT (``SCT``), LOINC (``LN``) or DICOM (``DCM``), with the wording of DICOM PS3.16. Within a
structure, no two measures share a code. Concepts with another method or meaning are not used: the area of an annulus is
no valve area, which is that of the opening.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .anatomy import KEYS, structure


@dataclass(frozen=True)
class Code:
    """A coded concept: value, scheme (``SCT``, ``LN``, ``DCM``) and meaning."""

    value: str
    scheme: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.scheme} {self.value}"


@dataclass(frozen=True)
class Quantity:
    """What is measured in a structure.

    Attributes:
        structure, key: keys of structure and quantity.
        unit: ``None`` for intensities, whose unit depends on the scan (``HU`` or none).
        code: concept; ``None`` if no scheme has one.
        site: structure or segment that is measured.
        of_cycle: whether it is measured over the cardiac cycle, not in one label map.
    """

    structure: str
    key: str
    unit: str | None
    code: Code | None
    site: Code
    of_cycle: bool = False


_LENGTH, _WIDTH = Code("410668003", "SCT", "Length"), Code("103355008", "SCT", "Width")
_AREA, _RATIO = Code("42798000", "SCT", "Area"), Code("118586006", "SCT", "Ratio")
_THICKNESS = Code("122445", "DCM", "Wall Thickness")
_CODES = {
    "volume": Code("118565006", "SCT", "Volume"),
    "mean_intensity": Code("373098007", "SCT", "Mean"),
    "sd_intensity": Code("386136009", "SCT", "Standard Deviation"),
    "MYO mass": Code("18087-7", "LN", "Left Ventricle Mass"),
    "AO diameter": Code("18012-5", "LN", "Ascending Aortic Diameter"),
    "PA diameter": Code("18020-8", "LN", "Main Pulmonary Artery Diameter"),
    "root_diameter": Code("18015-8", "LN", "Aortic Root Diameter"),
    "sinotubular_diameter": Code("79955-1", "LN", "Aortic sinotubular junction dimension"),
    "mitral_valve_area": _AREA,
    "tricuspid_valve_area": _AREA,
    "aortic_valve_area": _AREA,
    "pulmonary_valve_area": _AREA,
    "long_axis_length": _LENGTH,
    "length_4ch": _LENGTH,
    "width_4ch": _WIDTH,
    "rv_lv_diameter_ratio": _RATIO,
    "pa_ao_ratio": _RATIO,
    "septal_angle": Code("1483009", "SCT", "Angle"),
    "wall_thickness_mean": _THICKNESS,
    "thickening": Code("59092-7", "LN", "% Thickening"),
    "LV edv": Code("8821-1", "LN", "Left Ventricular ED Volume"),
    "LV esv": Code("8823-7", "LN", "Left Ventricular ES Volume"),
    "RV edv": Code("8822-9", "LN", "Right Ventricular ED Volume"),
    "RV esv": Code("8824-5", "LN", "Right Ventricular ES Volume"),
    "ejection_fraction": Code("70822001", "SCT", "Cardiac ejection fraction"),
    "LV stroke_volume": Code("90096001", "SCT", "Stroke Volume"),
    "RV stroke_volume": Code("429483009", "SCT", "RV Stroke Volume"),
    "RV stroke_volume_index": Code("429619008", "SCT", "RV Stroke Index"),
    "cardiac_output": Code("82799009", "SCT", "Cardiac Output"),
    "cardiac_index": Code("54993008", "SCT", "Cardiac Index"),
}
"""``quantity`` or ``structure quantity`` -> concept."""

_SEGMENT_SITES = {
    1: ("264850008", "left ventricle basal anterior segment"),
    2: ("396482007", "left ventricle basal anteroseptal segment"),
    3: ("396646008", "left ventricle basal inferoseptal segment"),
    4: ("264846001", "left ventricle basal inferior segment"),
    5: ("396652009", "left ventricle basal inferolateral segment"),
    6: ("396654005", "left ventricle basal anterolateral segment"),
    7: ("264848000", "left ventricle mid anterior segment"),
    8: ("396647004", "left ventricle mid anteroseptal segment"),
    9: ("396649001", "left ventricle mid inferoseptal segment"),
    10: ("264847005", "left ventricle mid inferior segment"),
    11: ("396655006", "left ventricle mid inferolateral segment"),
    12: ("396656007", "left ventricle mid anterolateral segment"),
    13: ("264844003", "left ventricle apical anterior segment"),
    14: ("264845002", "left ventricle apical septal segment"),
    15: ("264849008", "left ventricle apical inferior segment"),
    16: ("264853005", "left ventricle apical lateral segment"),
    17: ("128564006", "Apex of left ventricle"),
}

_UNITS: tuple[tuple[str, str, str | None], ...] = (
    (" ".join(KEYS), "volume", "mL"),
    ("MYO", "mass", "g"),
    ("AO PA", "diameter", "mm"),
    (" ".join(KEYS), "mean_intensity sd_intensity", None),
    (" ".join(KEYS), "extent_x extent_y extent_z", "mm"),
    ("LV", "mitral_valve_area", "cm²"),
    ("RV", "tricuspid_valve_area", "cm²"),
    ("AO", "aortic_valve_area", "cm²"),
    ("PA", "pulmonary_valve_area", "cm²"),
    ("LV", "long_axis_length", "mm"),
    ("LV", "sphericity", ""),
    ("LV RV LA RA", "width_4ch", "mm"),
    ("LA RA", "length_4ch", "mm"),
    ("RV", "rv_lv_diameter_ratio", ""),
    ("RV", "septal_angle", "deg"),
    ("MYO", "wall_thickness_mean wall_thickness_largest_segment", "mm"),
    ("AO", "root_diameter sinotubular_diameter maximum_diameter", "mm"),
    ("PA", "pa_ao_ratio", ""),
    ("LV RV LA RA", "volume_index", "mL/m²"),
    ("MYO", "mass_index", "g/m²"),
)
"""Structures, quantities, unit."""
_CYCLE_UNITS: tuple[tuple[str, str, str | None], ...] = (
    ("LV RV", "edv esv stroke_volume", "mL"),
    ("LV RV", "edv_index esv_index stroke_volume_index", "mL/m²"),
    ("LV RV", "ejection_fraction", "%"),
    ("LV", "cardiac_output", "L/min"),
    ("LV", "cardiac_index", "L/min/m²"),
    ("LA RA", "max_volume min_volume", "mL"),
    ("LA RA", "max_volume_index min_volume_index", "mL/m²"),
    ("LA RA", "emptying_fraction", "%"),
    ("MYO", "mass_ed mass_es", "g"),
    ("MYO", "mass_ed_index mass_es_index", "g/m²"),
)
"""The same, of quantities over the cardiac cycle."""
_SEGMENT_UNITS = {
    "wall_thickness_mean": "mm",
    "wall_thickness_min": "mm",
    "wall_thickness_max": "mm",
    "segment_mass": "g",
    "thickening": "%",
}
"""Quantity -> unit, for the quantities of each of the 17 segments of the myocardium: ``<quantity>_01`` to ``_17``."""


def quantity(structure_key: str, key: str) -> Quantity | None:
    """Return the quantity of a measure; ``None`` if it is not one of HeartSeg's."""
    return quantities().get((structure_key, key))


def general_quantity(key: str) -> str:
    """Return the key of a quantity without the number of a segment: ``"thickening"`` for ``"thickening_07"``."""
    return key[:-3] if key[-3:-2] == "_" and key[-2:].isdigit() else key


@lru_cache(maxsize=1)
def quantities() -> dict[tuple[str, str], Quantity]:
    """Return all quantities by the keys of structure and quantity."""
    found = {}
    for keys, names, unit in _UNITS + _CYCLE_UNITS:
        of_cycle = (keys, names, unit) in _CYCLE_UNITS
        for key in keys.split():
            site = Code(structure(key).snomed_code, "SCT", structure(key).snomed_meaning)
            for name in names.split():
                code = _CODES.get(f"{key} {name}", _CODES.get(name))
                found[key, name] = Quantity(key, name, unit, code, site, of_cycle)
    for name, unit in _SEGMENT_UNITS.items():
        for number, (value, meaning) in _SEGMENT_SITES.items():
            key = f"{name}_{number:02d}"
            site = Code(value, "SCT", meaning)
            found["MYO", key] = Quantity("MYO", key, unit, _CODES.get(name), site, name == "thickening")
    return found
