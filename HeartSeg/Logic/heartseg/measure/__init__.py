"""Measures: volumes, mass and intensities per structure, planes, wall, vessels, function, reference ranges."""

from ..volume.patient import Patient
from .function import CardiacFunction, cardiac_function
from .function_table import function_measures, index_measures
from .grid import Unknown
from .heart import HeartMeasures, MeasuredLabels, heart_measures, measure_heart, measure_labels
from .norms import Circumstances, Comparison, compare, implausible
from .structures import measure_structures
from .vessels import VesselDiameter, ascending_aorta_diameter

__all__ = [
    "CardiacFunction",
    "Circumstances",
    "Comparison",
    "HeartMeasures",
    "MeasuredLabels",
    "Patient",
    "Unknown",
    "VesselDiameter",
    "ascending_aorta_diameter",
    "cardiac_function",
    "compare",
    "function_measures",
    "heart_measures",
    "implausible",
    "index_measures",
    "measure_heart",
    "measure_labels",
    "measure_structures",
]
