"""Names of the output formats and files, without the writers, which import much more."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from .errors import DependencyError, OutputError
from .needs import DICOM, PDF, PICTURES, Package
from .staging import FolderKind, check_folder
from .wording import _

SURFACE_FORMATS = ("stl", "ply", "obj")

EXPORT_FORMATS: dict[str, str] = {
    "seg": "segmentation.seg.nrrd: opens in 3D Slicer with names and colours",
    "labels": "labels.nii.gz: label map on the grid of the scan",
    "stl": "surfaces/*.stl: closed surfaces, mm",
    "ply": "surfaces/*.ply: closed surfaces with colours, mm",
    "obj": "surfaces/*.obj: closed surfaces with colours (*.mtl), mm",
    "print": "print/: hollow blood pool and solid myocardium for 3D printing, STL, checked watertight",
    "csv": "measurements.csv: volumes, mass, diameters, intensities with units",
    "preview": "preview.png: three slices with contours and a 3D view",
    "html": "report.html: one page with numbers, curves, pictures and an interactive view",
    "pdf": "report.pdf: two printed pages with the same content",
    "dicom-seg": "segmentation.dcm: DICOM Segmentation; needs the DICOM series of the scan",
    "dicom-sr": "measurements.dcm: DICOM SR with the numbers, beside segmentation.dcm; needs the DICOM series",
}
"""Format of an export -> file or folder that it writes, with a description."""

FILES = tuple(dict.fromkeys(text.partition(":")[0].partition("/")[0] for text in EXPORT_FORMATS.values()))
"""Top-level files and folders of all formats of an export."""

CONFIDENCE, CONFIDENCE_FILE = "confidence", "confidence.nii.gz"

FORMATS = {**EXPORT_FORMATS, CONFIDENCE: f"{CONFIDENCE_FILE}: confidence of the network per voxel, percent"}
"""Format of a run -> description. :data:`CONFIDENCE` is available for runs only: a segmentation does not contain it."""

DEFAULT_FORMATS = ("seg", "labels", "stl", "csv", "preview")
"""Formats written by default, in addition to ``report.json``, which is always written."""

LABEL_FILES = tuple(EXPORT_FORMATS[name].partition(":")[0] for name in ("labels", "seg"))
"""Files with the labels of a result, in search order."""

REPORT_FILE = "report.json"

SUMMARY_FILE, REVIEW_FILE = "summary.csv", "review.csv"
COHORT_FILES = ("cohort.csv", "cohort.parquet", "cohort.html")
"""Files beside the result folders of a batch."""

RESULT_FOLDER = FolderKind("a result of HeartSeg", (*FILES, CONFIDENCE_FILE, REPORT_FILE), REPORT_FILE)

_NEEDS = {
    **dict.fromkeys((*SURFACE_FORMATS, "print"), ("vtk", "vtk", "app")),
    **dict.fromkeys(("preview", "html"), ("matplotlib", "matplotlib", "app")),
    **dict.fromkeys(("dicom-seg", "dicom-sr"), ("highdicom", "highdicom", "dicom")),
    "pdf": ("weasyprint", "WeasyPrint", "report"),
}
"""Format -> required module, package and extra."""

PACKAGES: dict[str, tuple[Package, ...]] = {
    **dict.fromkeys(("preview", "html"), PICTURES),
    **dict.fromkeys(("dicom-seg", "dicom-sr"), DICOM),
    "pdf": PDF,
}
"""Format -> packages that pip can add to Slicer for it."""

_PANGO = (
    "format pdf needs the library Pango, which WeasyPrint does not find: install it (Debian: apt install "
    "libpango-1.0-0 libpangoft2-1.0-0; macOS: brew install pango), or print report.html in a browser"
)


def check_formats(formats: Sequence[str] | None, known: Sequence[str] = tuple(FORMATS)) -> None:
    """Check that the requested formats can be written, before a long computation.

    Raises:
        OutputError: a format is not among ``known``.
        DependencyError: a requested format needs a package that is not installed.
    """
    unknown = [f for f in formats or () if f not in known]
    if unknown:
        raise OutputError(
            _("format {unknown} is unknown: choose from {known}").format(
                unknown=", ".join(unknown), known=", ".join(known)
            )
        )
    for name in formats or ():
        if why := missing_package(name):
            raise DependencyError(_("{why}, or omit it from --format").format(why=why))


def missing_package(name: str) -> str:
    """Message about the missing package of a format, with the install command; ``""`` if it is installed."""
    module, package, extra = _NEEDS.get(name, ("", "", ""))
    if not module or is_installed(module):
        return "" if name != "pdf" else missing_package("html") if _has_pango() else _PANGO
    return f"format {name} needs {package}, which is not installed: pip install 'heartseg[{extra}]'"


def formats_in(folder: Path) -> tuple[str, ...]:
    """The formats of the files of a result folder."""
    return tuple(name for name, text in FORMATS.items() if any(folder.glob(text.partition(":")[0].rstrip("/"))))


def is_installed(module: str) -> bool:
    """Whether a module can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@lru_cache(maxsize=1)
def _has_pango() -> bool:
    """Whether WeasyPrint finds the library that sets its text."""
    try:
        import weasyprint  # noqa: F401
    except OSError:
        return False
    return True


def check_output_folder(folder: str | Path, overwrite: bool = False) -> Path:
    """Check that a result can be written to a folder, before a long computation.

    Raises:
        OutputError: the folder is a file, is not empty (without ``overwrite``), contains other files than a result,
            which overwriting would delete, or is not writable.
    """
    return check_folder(folder, RESULT_FOLDER, overwrite)
