"""Volumes: arrays with geometry, reading, writing, and the checks that a scan must pass.

SimpleITK and pydicom are imported by the functions that use them, so importing this package needs only numpy.
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
