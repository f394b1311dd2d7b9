"""Measures per structure: volume, mass, vessel diameter, intensity and extent."""

from .structures import measure_structures
from .vessels import VesselDiameter, ascending_aorta_diameter, pulmonary_trunk_diameter

__all__ = ["VesselDiameter", "ascending_aorta_diameter", "measure_structures", "pulmonary_trunk_diameter"]
