"""Export of a segmentation: surfaces, 3D-print models, DICOM SEG and SR, and reports.

Runs without Slicer and on any thread. VTK, matplotlib and highdicom are imported on use.
"""

from ..formats import FILES, missing_package
from .folder import DEFAULT_FORMATS, EXPORT_FILE, EXPORT_FOLDER, check_export, possible_formats, write_export
from .formats import FORMATS, ExportOptions, Written, write_formats
from .printing import WALL_LIMITS_MM, WALL_MM, print_parts, write_print_set
from .report_files import report_of, study_of, write_report_files
from .solidity import Solidity, check_solidity
from .subject import Subject, measured, open_subject, subject_of
from .surfaces import COORDINATES, Mesh, closed_surface, label_surfaces

__all__ = [
    "COORDINATES",
    "DEFAULT_FORMATS",
    "EXPORT_FILE",
    "EXPORT_FOLDER",
    "FILES",
    "FORMATS",
    "WALL_LIMITS_MM",
    "WALL_MM",
    "ExportOptions",
    "Mesh",
    "Solidity",
    "Subject",
    "Written",
    "check_export",
    "check_solidity",
    "closed_surface",
    "label_surfaces",
    "measured",
    "missing_package",
    "open_subject",
    "possible_formats",
    "print_parts",
    "report_of",
    "study_of",
    "subject_of",
    "write_export",
    "write_formats",
    "write_print_set",
    "write_report_files",
]
