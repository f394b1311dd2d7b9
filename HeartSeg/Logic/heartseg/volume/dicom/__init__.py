"""Reading of DICOM: files → sub-series → positions → phases → an even grid, or a refusal.

Classic, legacy-converted and enhanced objects take the same path. Modules, in the order of the steps: ``files`` (find
DICOM files), ``frames`` (one record per image plane), ``split`` (scans that share a series UID), ``phases``, ``grid``,
``series``, ``join`` (series that belong together), ``pixels``, ``reader``, ``table``. pydicom is imported by the
functions that use it.
"""

from .reader import choose_series, list_series, read_file, read_series, series_of_file, study_of
from .series import Series, Stack

__all__ = [
    "Series",
    "Stack",
    "choose_series",
    "list_series",
    "read_file",
    "read_series",
    "series_of_file",
    "study_of",
]
