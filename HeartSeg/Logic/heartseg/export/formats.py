"""Output formats and their writers, for new results and for exports."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..anatomy import Structure
from ..errors import DependencyError, SettingsError
from ..findings import Finding
from ..formats import EXPORT_FORMATS, SURFACE_FORMATS, is_installed, missing_package
from ..progress import Reporter
from ..report import Report, write_measurements, write_page, write_pdf, write_preview
from ..report.numbers import numbers_of
from ..volume.writing import write_labels
from ..wording import _
from .dicom_seg import SEG_FILE, write_dicom_seg
from .dicom_sr import SR_FILE, write_dicom_sr
from .printing import WALL_MM, check_wall, write_print_set
from .report_files import report_of, study_of, surfaces_of
from .segmentation_file import write_segmentation
from .solidity import check_solidity
from .subject import Subject
from .surface_files import write_surfaces
from .surfaces import COORDINATES, SMOOTHING, Mesh

FORMATS = EXPORT_FORMATS
"""Format -> file or folder that it writes, with a description."""

_DRAWING = "surfaces-to-draw"  # temporary STL files for the pictures


@dataclass(frozen=True)
class ExportOptions:
    """Options of surfaces and print models.

    Attributes:
        coordinates: world axes of surfaces and print models, ``"LPS"`` or ``"RAS"``.
        smoothing: smoothing of the surfaces, 0 (none) to 1.
        wall_mm: wall thickness of the printed blood pool, mm.
        title: heading of the report; empty for one that names nobody.
    """

    coordinates: str = "LPS"
    smoothing: float = SMOOTHING
    wall_mm: float = WALL_MM
    title: str = ""

    def check(self) -> ExportOptions:
        """Return the options if they are valid; ``SettingsError`` names the first invalid one and its limits."""
        if self.coordinates.upper() not in COORDINATES:
            raise SettingsError(
                _("coordinates {coordinates!r} are unknown: use {known}").format(
                    coordinates=self.coordinates, known=" or ".join(COORDINATES)
                )
            )
        if not 0 <= self.smoothing <= 1:
            raise SettingsError(
                _("smoothing {smoothing:g} is outside 0 to 1: use {default:g} for most purposes").format(
                    smoothing=self.smoothing, default=SMOOTHING
                )
            )
        check_wall(self.wall_mm)
        return self


@dataclass(frozen=True)
class Written:
    """Outcome of writing formats.

    Attributes:
        skipped: format -> reason, for formats whose package is missing.
        findings: findings about the pictures.
        facts: JSON-serializable statistics of the surfaces and the print models.
    """

    skipped: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def write_formats(
    subject: Subject,
    folder: Path,
    formats: Sequence[str],
    options: ExportOptions | None = None,
    strict: bool = True,
    reporter: Reporter | None = None,
) -> Written:
    """Write formats into an existing, empty folder (see :func:`heartseg.staging.staged_folder`).

    Args:
        subject: segmentation to write.
        folder: output folder.
        formats: keys of :data:`FORMATS`.
        options: coordinates, smoothing, wall thickness.
        strict: raise an error for a missing package instead of skipping the format.
        reporter: progress (stage ``"write"``) and cancellation, checked between files.

    Raises:
        OutputError: a file cannot be written, or there is nothing to write (print models without a heart).
        DependencyError: a package is missing and ``strict`` is set.
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
    """Writes the formats of one folder and collects findings and statistics."""

    def __init__(
        self, subject: Subject, folder: Path, options: ExportOptions, wanted: Sequence[str], reporter: Reporter
    ) -> None:
        self._subject, self._folder, self._options, self._wanted = subject, folder, options, wanted
        self._reporter = reporter
        self.findings: tuple[Finding, ...] = ()
        self.facts: dict[str, Any] = {}

    def surfaces(self) -> list[tuple[Structure, Path]]:
        """Write the requested surface formats, and STL files if pictures need them; return the STL files."""
        requested = [kind for kind in SURFACE_FORMATS if kind in self._wanted]
        draw = "preview" in self._wanted and is_installed("vtk")
        if not requested and not draw:
            return []
        meshes = self._meshes
        coordinates = self._options.coordinates.upper()
        written = write_surfaces(meshes, self._folder / "surfaces", requested, coordinates) if requested else {}
        if draw and "stl" not in written:
            written |= write_surfaces(meshes, self._folder / _DRAWING, ["stl"])
        if requested:
            solid = {s.key: check_solidity(mesh).to_dict() for s, mesh in meshes}
            self.facts["surfaces"] = {
                "coordinates": coordinates,
                "smoothing": self._options.smoothing,
                "method": "surface nets of all structures, windowed sinc smoothing; thick slices are interpolated",
                "structures": solid,
            }
        return [(s, written["stl"][s.key]) for s, _ in meshes] if "stl" in written else []

    @cached_property
    def _meshes(self) -> list[tuple[Structure, Mesh]]:
        self._reporter.check()
        return surfaces_of(self._subject, self._options.smoothing)

    @cached_property
    def _report(self) -> Report:
        self._reporter.check()
        return report_of(self._subject, study_of(self._subject), self._meshes, self._options.title)

    def write(self, name: str, surfaces: list[tuple[Structure, Path]]) -> None:
        """Write a format other than a surface format."""
        subject, folder = self._subject, self._folder
        result = subject.result
        writers: dict[str, Callable[[], Any]] = {
            "seg": lambda: write_segmentation(result, folder / "segmentation.seg.nrrd"),
            "labels": lambda: write_labels(result.labels, result.geometry, folder / "labels.nii.gz"),
            "csv": lambda: write_measurements(result, folder / "measurements.csv"),
            "preview": lambda: self._preview(surfaces),
            "html": lambda: write_page(self._report, folder / "report.html"),
            "pdf": lambda: write_pdf(self._report, folder / "report.pdf"),
            "print": self._print,
            "dicom-seg": lambda: write_dicom_seg(subject, folder / SEG_FILE),
            "dicom-sr": self._structured_report,
        }
        writers[name]()

    def _preview(self, surfaces: list[tuple[Structure, Path]]) -> None:
        subject = self._subject
        scan = replace(subject.scan(), name=subject.name)
        self.findings += write_preview(scan, subject.result, surfaces, self._folder / "preview.png")

    def _structured_report(self) -> None:
        segmentation = self._folder / SEG_FILE
        if not segmentation.is_file():
            write_dicom_seg(self._subject, segmentation)
        write_dicom_sr(numbers_of(study_of(self._subject), ()), self._subject, segmentation, self._folder / SR_FILE)

    def _print(self) -> None:
        self.facts["print"] = write_print_set(
            self._subject.result,
            self._folder / "print",
            self._options.wall_mm,
            self._options.coordinates,
            self._reporter,
        )
