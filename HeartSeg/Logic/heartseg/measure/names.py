"""Names of measures for people."""

from __future__ import annotations

import re

from ..wording import _, joined
from .segments17 import NAMES

_NAMES: dict[str, tuple[str, int]] = {
    "volume": (_("volume"), 0),
    "volume_index": (_("volume per body surface"), 0),
    "mass": (_("mass"), 0),
    "mass_index": (_("mass per body surface"), 0),
    "diameter": (_("diameter"), 1),
    "mean_intensity": (_("mean grey value"), 0),
    "sd_intensity": (_("SD of the grey values"), 0),
    "extent_x": (_("extent left-right"), 0),
    "extent_y": (_("extent front-back"), 0),
    "extent_z": (_("extent head-foot"), 0),
    "edv": (_("end-diastolic volume"), 0),
    "esv": (_("end-systolic volume"), 0),
    "stroke_volume": (_("stroke volume"), 0),
    "ejection_fraction": (_("ejection fraction"), 0),
    "cardiac_output": (_("cardiac output"), 1),
    "cardiac_index": (_("cardiac index"), 1),
    "max_volume": (_("largest volume"), 0),
    "min_volume": (_("smallest volume"), 0),
    "emptying_fraction": (_("emptying fraction"), 0),
    "mass_ed": (_("mass at end-diastole"), 0),
    "mass_es": (_("mass at end-systole"), 0),
    "mitral_valve_area": (_("mitral annulus, area"), 1),
    "tricuspid_valve_area": (_("tricuspid annulus, area"), 1),
    "aortic_valve_area": (_("aortic annulus, area"), 1),
    "pulmonary_valve_area": (_("pulmonary annulus, area"), 1),
    "long_axis_length": (_("long axis"), 0),
    "sphericity": (_("sphericity"), 2),
    "width_4ch": (_("width, four-chamber view"), 0),
    "length_4ch": (_("length, four-chamber view"), 0),
    "rv_lv_diameter_ratio": (_("RV/LV diameter"), 2),
    "septal_angle": (_("septal angle"), 0),
    "wall_thickness_mean": (_("wall thickness, mean"), 1),
    "wall_thickness_largest_segment": (_("wall thickness, thickest segment"), 1),
    "root_diameter": (_("root diameter"), 1),
    "sinotubular_diameter": (_("sinotubular diameter"), 1),
    "maximum_diameter": (_("largest diameter"), 1),
    "pa_ao_ratio": (_("PA/AO diameter"), 2),
}
"""Quantity -> name and decimal places."""
SEGMENT = re.compile(r"(wall_thickness_mean|wall_thickness_min|wall_thickness_max|segment_mass|thickening)_(\d\d)")
"""Quantity of a segment of the wall: name and number."""
_SEGMENT_NAMES = {
    "wall_thickness_mean": (_("thickness"), 1),
    "wall_thickness_min": (_("least thickness"), 1),
    "wall_thickness_max": (_("greatest thickness"), 1),
    "segment_mass": (_("mass"), 1),
    "thickening": (_("thickening"), 0),
}


def name_of(key: str, quantity: str) -> tuple[str, int]:
    """Return the name of a measure for people and its decimal places."""
    short = _("LV myocardium") if key == "MYO" else key
    name: str
    if match := SEGMENT.fullmatch(quantity):
        name, decimals = _SEGMENT_NAMES[match[1]]
        return joined(", ", (NAMES[int(match[2])], name)), decimals
    if quantity in _NAMES:
        name, decimals = _NAMES[quantity]
    elif quantity.endswith("_index") and quantity[:-6] in _NAMES:
        name, decimals = _("{size} per body surface").format(size=_NAMES[quantity[:-6]][0]), 0
    else:
        name, decimals = quantity.replace("_", " "), 2
    return (name if key in name.split("/")[0].split() or "/" in name else joined(" ", (short, name))), decimals
