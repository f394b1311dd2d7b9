"""Volumes: the array and its geometry, reading and writing, and the checks a scan must pass.

SimpleITK is imported by the functions that use it, so that importing this room costs no more than numpy.
"""

from .checks import check_volume
from .dicom import Series, list_series, read_series
from .geometry import AxisFlip, Geometry, to_nearest_lps
from .reading import count_frames, read_volume
from .types import ReadingReport, Source, Volume
from .writing import write_labels, write_volume

__all__ = [
    "AxisFlip",
    "Geometry",
    "ReadingReport",
    "Series",
    "Source",
    "Volume",
    "check_volume",
    "count_frames",
    "list_series",
    "read_series",
    "read_volume",
    "to_nearest_lps",
    "write_labels",
    "write_volume",
]
