"""Reports of a segmentation: the model of :mod:`heartseg.report` from a subject, written as page, PDF and DICOM SR."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..anatomy import Structure
from ..formats import is_installed
from ..measure import Circumstances, MeasuredLabels, Patient, measure_heart
from ..measure.study import MEASURES_FILE, Study, scan_study, write_measures
from ..provenance import InputFacts
from ..report import Material, Report, build_report, write_page, write_pdf
from ..report.model import Surface
from ..report.numbers import numbers_of
from ..report.preview import front_picture
from ..staging import FolderKind, check_folder, staged_folder
from .dicom_seg import SEG_FILE, source_series, write_dicom_seg
from .dicom_sr import SR_FILE, write_dicom_sr
from .subject import Subject
from .surface_files import write_surfaces
from .surfaces import SMOOTHING, Mesh, label_surfaces

REPORT_FOLDER = FolderKind(
    "a report of HeartSeg", ("report.html", "report.pdf", SR_FILE, SEG_FILE, MEASURES_FILE), MEASURES_FILE
)
WRITERS = {"html": write_page, "pdf": write_pdf}
"""Format of a page -> writer."""
TRIANGLES = 6000
"""Triangles of a surface in the interactive view."""


def study_of(subject: Subject) -> Study:
    """Return the measures of a subject with what its scan states about the patient."""
    result = subject.result
    source = result.provenance.input or InputFacts()
    patient = source.patient if subject.result.provenance.input else Patient()
    heart = measure_heart(result.labels, result.geometry)
    measured = MeasuredLabels(result.measures, heart, findings=result.findings)
    modality = source.modality or (subject.volume.modality if subject.volume is not None else "")
    circumstances = Circumstances(modality, source.phase, patient.sex)
    return scan_study((result.labels, result.geometry), measured, patient, circumstances)


def report_of(
    subject: Subject, study: Study, meshes: Sequence[tuple[Structure, Mesh]] | None = None, title: str = ""
) -> Report:
    """Return the report of a subject.

    Args:
        subject: labels and scan; of a time series, those of the frame to show.
        study: its measures, see :func:`study_of`.
        meshes: surfaces of the structures; made if omitted and VTK is installed.
        title: heading; empty for one that names nobody.
    """
    if meshes is None:
        meshes = surfaces_of(subject)
    with tempfile.TemporaryDirectory(prefix="heartseg-report-") as folder:
        files = write_surfaces(meshes, Path(folder), ["stl"])["stl"] if meshes else {}
        front = front_picture(subject.result, [(s, files[s.key]) for s, _ in meshes])
    surfaces = tuple(_surface(s, mesh) for s, mesh in meshes)
    return build_report(Material(study, subject.result, subject.volume, surfaces, front, title, subject.notices))


def surfaces_of(subject: Subject, smoothing: float = SMOOTHING) -> list[tuple[Structure, Mesh]]:
    """Return the surfaces of all structures; empty if VTK is not installed."""
    if not is_installed("vtk"):
        return []
    result = subject.result
    found = label_surfaces(result.labels, result.geometry, result.structures, smoothing)
    return [(structure, found[structure.key]) for structure in result.structures if structure.key in found]


def check_report_folder(folder: Path, overwrite: bool) -> None:
    """Check that a report can be written to a folder.

    Raises:
        OutputError: see :func:`heartseg.staging.check_folder`.
    """
    check_folder(folder, REPORT_FOLDER, overwrite)


def write_report_files(
    subject: Subject,
    study: Study,
    folder: Path,
    formats: Sequence[str] = ("html",),
    title: str = "",
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Write a report in several formats, and its measures as ``measures.json``, into a new folder.

    Args:
        subject, study, title: as for :func:`report_of`.
        folder: folder to create.
        formats: of ``html``, ``pdf`` and ``dicom-sr``; the last writes the DICOM Segmentation too.
        overwrite: whether to replace an earlier report.

    Returns:
        Names of the files.

    Raises:
        OutputError: the folder cannot be used, or the input of a format is missing; no file is left behind.
        DependencyError: a format needs a package that is not installed.
    """
    if "dicom-sr" in formats:
        source_series(subject)  # refused before the pages are made
    pages = [f for f in formats if f != "dicom-sr"]
    report = report_of(subject, study, title=title) if pages else None
    with staged_folder(folder, REPORT_FOLDER, overwrite) as stage:
        if report is not None:
            for name in pages:
                WRITERS[name](report, stage / f"report.{name}")
        if "dicom-sr" in formats:
            write_dicom_seg(subject, stage / SEG_FILE)
            write_dicom_sr(numbers_of(study, ()), subject, stage / SEG_FILE, stage / SR_FILE)
        write_measures(study, stage / MEASURES_FILE)
        return tuple(sorted(p.name for p in stage.iterdir()))


def _surface(structure: Structure, mesh: Mesh) -> Surface:
    """Return a surface with at most about :data:`TRIANGLES` triangles."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkQuadricDecimation

    points, cells, poly = vtkPoints(), vtkCellArray(), vtkPolyData()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(mesh.points, np.float32), deep=True))
    corners = np.ascontiguousarray(mesh.triangles, np.int64).ravel()
    starts = np.arange(0, len(corners) + 1, 3, dtype=np.int64)
    cells.SetData(numpy_to_vtkIdTypeArray(starts, deep=True), numpy_to_vtkIdTypeArray(corners, deep=True))
    poly.SetPoints(points)
    poly.SetPolys(cells)
    coarse = vtkQuadricDecimation()
    coarse.SetInputData(poly)
    coarse.SetTargetReduction(max(0.0, 1.0 - TRIANGLES / max(1, len(mesh))))
    coarse.Update()
    out = coarse.GetOutput()
    triangles = vtk_to_numpy(out.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return Surface(
        structure.key, vtk_to_numpy(out.GetPoints().GetData()).astype(np.float32), triangles.astype(np.int32)
    )
