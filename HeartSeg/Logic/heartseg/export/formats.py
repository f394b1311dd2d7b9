"""What can be written, and one way to write it: for a fresh result as for one that is exported later."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..anatomy import Structure
from ..errors import DependencyError, OutputError, SettingsError
from ..findings import Finding
from ..progress import Reporter
from ..report import write_measurements, write_page, write_preview
from ..volume.writing import write_labels
from .dicom_seg import write_dicom_seg
from .printing import WALL_MM, check_wall, write_print_set
from .segmentation_file import write_segmentation
from .solidity import check_solidity
from .subject import Subject
from .surface_files import SURFACE_FORMATS, write_surfaces
from .surfaces import COORDINATES, SMOOTHING, Mesh, label_surfaces

FORMATS: dict[str, str] = {
    "seg": "segmentation.seg.nrrd: opens in 3D Slicer with names and colours",
    "labels": "labels.nii.gz: label map on the scan's grid",
    "stl": "surfaces/*.stl: closed surfaces, mm",
    "ply": "surfaces/*.ply: the same with colours",
    "obj": "surfaces/*.obj: the same with colours (and *.mtl)",
    "print": "print/: hollow blood pool and solid myocardium for 3D printing, STL, checked watertight",
    "csv": "measurements.csv: volumes, mass, diameters, intensities with units",
    "preview": "preview.png: three slices with contours and a 3D view",
    "html": "report.html: one page with pictures, measures and findings, to read and print",
    "dicom-seg": "segmentation.dcm: DICOM Segmentation; needs the scan's DICOM series",
}
"""Format -> what it writes: the file or folder, and what that is."""

FILES = tuple(dict.fromkeys(text.partition(":")[0].partition("/")[0] for text in FORMATS.values()))
"""Everything that the formats make at a folder's top."""

_NEEDS = {
    **dict.fromkeys((*SURFACE_FORMATS, "print"), ("vtk", "vtk", "app")),
    **dict.fromkeys(("preview", "html"), ("matplotlib", "matplotlib", "app")),
    "dicom-seg": ("highdicom", "highdicom", "dicom"),
}
"""Format -> module, package and extra that it needs."""

_DRAWING = "surfaces-to-draw"  # STL files for the pictures where none were asked for; never stays


@dataclass(frozen=True)
class ExportOptions:
    """How to write.

    Attributes:
        coordinates: world axes of surfaces and print set, ``"LPS"`` or ``"RAS"``.
        smoothing: of the surfaces, 0 (none) to 1.
        wall_mm: thickness of the print set's blood pool.
    """

    coordinates: str = "LPS"
    smoothing: float = SMOOTHING
    wall_mm: float = WALL_MM

    def check(self) -> ExportOptions:
        """The options themselves; raises ``SettingsError`` with the first that cannot work, and what would be right."""
        if self.coordinates.upper() not in COORDINATES:
            raise SettingsError(f"coordinates {self.coordinates!r} are unknown: use {' or '.join(COORDINATES)}")
        if not 0 <= self.smoothing <= 1:
            raise SettingsError(f"smoothing {self.smoothing:g} is outside 0 to 1: {SMOOTHING:g} suits most")
        check_wall(self.wall_mm)
        return self


@dataclass(frozen=True)
class Written:
    """What came of it.

    Attributes:
        skipped: formats that could not be written for want of a package, and why.
        findings: what was noticed in drawing.
        facts: JSON-ready: what was measured on the surfaces and on the print set.
    """

    skipped: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def check_formats(formats: Sequence[str] | None) -> None:
    """Make sure that what was asked for by name can be written, before an hour is spent on it.

    Raises:
        OutputError: a format is unknown.
        DependencyError: a format that was asked for needs a package that is not installed.
    """
    unknown = [f for f in formats or () if f not in FORMATS]
    if unknown:
        raise OutputError(f"format {', '.join(unknown)} is unknown: choose from {', '.join(FORMATS)}")
    for name in formats or ():
        if why := missing_package(name):
            raise DependencyError(f"{why}, or leave it out of --format")


def missing_package(name: str) -> str:
    """Why a format cannot be written on this machine, with the command that helps; ``""`` if it can."""
    module, package, extra = _NEEDS.get(name, ("", "", ""))
    if not module or _is_installed(module):
        return ""
    return f"format {name} needs {package}, which is not installed: pip install 'heartseg[{extra}]'"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def write_formats(
    subject: Subject,
    folder: Path,
    formats: Sequence[str],
    options: ExportOptions | None = None,
    strict: bool = True,
    reporter: Reporter | None = None,
) -> Written:
    """Write formats into an existing, empty folder (of :func:`heartseg.staging.staged_folder`).

    Args:
        subject: what to write.
        folder: where to.
        formats: keys of :data:`FORMATS`.
        options: coordinates, smoothing, wall.
        strict: whether a missing package is an error; else the format is skipped.
        reporter: progress (a stage ``"write"``) and cancel, looked at between the files.

    Raises:
        OutputError: a file cannot be written, or there is nothing to write (a print set without a heart).
        DependencyError: a package is missing, and ``strict``.
        OSError: the disk is full.
    """
    options, reporter = (options or ExportOptions()).check(), reporter or Reporter()
    skipped = {name: why for name in formats if (why := missing_package(name))}
    if skipped and strict:
        raise DependencyError(next(iter(skipped.values())))
    wanted = [name for name in FORMATS if name in formats and name not in skipped]
    writer = _Writer(subject, folder, options, wanted, reporter)
    with reporter.stage("write", len(wanted) + 1):
        surfaces = writer.surfaces()
        for done, name in enumerate(wanted, 1):
            reporter.advance(done)
            if name not in SURFACE_FORMATS:
                writer.write(name, surfaces)
    shutil.rmtree(folder / _DRAWING, ignore_errors=True)
    return Written(skipped, writer.findings, writer.facts)


class _Writer:
    """One folder being filled: keeps what was found on the way."""

    def __init__(
        self, subject: Subject, folder: Path, options: ExportOptions, wanted: Sequence[str], reporter: Reporter
    ) -> None:
        self._subject, self._folder, self._options, self._wanted = subject, folder, options, wanted
        self._reporter = reporter
        self.findings: tuple[Finding, ...] = ()
        self.facts: dict[str, Any] = {}

    def surfaces(self) -> list[tuple[Structure, Path]]:
        """Write the surfaces in the formats that were asked for; STL files for the pictures in any case."""
        asked = [kind for kind in SURFACE_FORMATS if kind in self._wanted]
        draw = bool({"preview", "html"} & set(self._wanted)) and _is_installed("vtk")
        if not asked and not draw:
            return []
        meshes = self._meshes()
        coordinates = self._options.coordinates.upper()
        written = write_surfaces(meshes, self._folder / "surfaces", asked, coordinates) if asked else {}
        if draw and "stl" not in written:
            written |= write_surfaces(meshes, self._folder / _DRAWING, ["stl"])
        if asked:
            solid = {s.key: check_solidity(mesh).to_dict() for s, mesh in meshes}
            self.facts["surfaces"] = {
                "coordinates": coordinates,
                "smoothing": self._options.smoothing,
                "method": "surface nets of all structures together, windowed sinc smoothing; thick slices interpolated",
                "structures": solid,
            }
        return [(s, written["stl"][s.key]) for s, _ in meshes] if "stl" in written else []

    def _meshes(self) -> list[tuple[Structure, Mesh]]:
        result = self._subject.result
        self._reporter.check()
        found = label_surfaces(result.labels, result.geometry, result.structures, self._options.smoothing)
        return [(structure, found[structure.key]) for structure in result.structures if structure.key in found]

    def write(self, name: str, surfaces: list[tuple[Structure, Path]]) -> None:
        """Write one format that is no surface."""
        subject, folder = self._subject, self._folder
        result = subject.result
        writers: dict[str, Callable[[], Any]] = {
            "seg": lambda: write_segmentation(result, folder / "segmentation.seg.nrrd"),
            "labels": lambda: write_labels(result.labels, result.geometry, folder / "labels.nii.gz"),
            "csv": lambda: write_measurements(result, folder / "measurements.csv"),
            "preview": lambda: self._preview(surfaces),
            "html": lambda: write_page(
                subject.scan(), result, surfaces, folder / "report.html", subject.name, subject.notices
            ),
            "print": self._print,
            "dicom-seg": lambda: write_dicom_seg(subject, folder / "segmentation.dcm"),
        }
        writers[name]()

    def _preview(self, surfaces: list[tuple[Structure, Path]]) -> None:
        subject = self._subject
        scan = replace(subject.scan(), name=subject.name)
        self.findings += write_preview(scan, subject.result, surfaces, self._folder / "preview.png")

    def _print(self) -> None:
        self.facts["print"] = write_print_set(
            self._subject.result,
            self._folder / "print",
            self._options.wall_mm,
            self._options.coordinates,
            self._reporter,
        )
