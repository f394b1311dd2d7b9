"""Read scans from image files and DICOM folders."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..hashes import sha256_of
from . import dicom, itk, nrrd
from .checks import (
    check_header,
    check_path,
    check_volume,
    header_findings,
    left_over_finding,
    spacing_finding,
    with_spacing,
)
from .dicom.files import is_media_directory
from .geometry import Geometry, is_singular
from .headers import Header, Spacing, image_suffix, is_dicom, stem
from .image_header import read_header
from .nifti import form_findings, readable_copy
from .stored import check_data
from .types import Source, Volume

log = logging.getLogger(__name__)

_IO = {"NIfTI": "NiftiImageIO", "NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO"}


def read_volume(
    path: str | Path,
    *,
    frame: int | None = None,
    series: str | int | None = None,
    modality: str | None = None,
    spacing: Spacing | None = None,
) -> Volume:
    """Read a scan and check it.

    Args:
        path: NIfTI, NRRD or MetaImage file, multi-frame DICOM file, or folder (with subfolders) of DICOM files.
        frame: index of the frame of a time series, from 0.
        series: number, ``"number/part"`` or UID of the DICOM series; required if a folder contains several volumes.
        modality: ``"CT"`` or ``"MR"``, for files that do not state it; overrides DICOM.
        spacing: voxel size (x, y, z) in mm, for files that state none.

    Returns:
        The volume: array ``(z, y, x)`` in the stored dtype and axes (CT from DICOM in HU), with findings.

    Raises:
        InputError: the message, one line, names the file, the problem and the solution.
    """
    path = Path(path)
    if modality not in (None, "", "CT", "MR"):
        raise InputError(f"modality {modality!r} is not known: use CT or MR")
    try:
        check_path(path)
        volume = _read(path, frame, series, modality or "", spacing)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    return replace(volume, modality=modality) if modality else volume


def _read(path: Path, frame: int | None, series: str | int | None, modality: str, spacing: Spacing | None) -> Volume:
    if folder := _dicom_folder(path):
        found = dicom.list_series(folder)
        chosen = dicom.choose_series(found, series, str(path))
        alone = len(found) == 1
        name = folder.resolve().name
        return dicom.read_series(
            chosen, frame=frame, name=name, path=str(path), modality=modality, spacing=spacing, alone=alone
        )
    if series is not None:
        raise InputError(f"{path.name!r} is one file and has no series {series!r}: leave out --series")
    if not image_suffix(path) and is_dicom(path):
        return dicom.read_file(path, frame=frame, modality=modality, spacing=spacing)
    return _read_image(with_spacing(read_header(path), spacing), frame, spacing)


def _dicom_folder(path: Path) -> Path | None:
    """Return the folder to search for DICOM files: the path itself, or that of a DICOMDIR."""
    if path.is_dir():
        return path
    directory = not image_suffix(path) and is_dicom(path) and is_media_directory(path)
    return path.parent if directory else None


def list_dicom(path: str | Path) -> tuple[dicom.Series, ...]:
    """Return the series of a DICOM folder, DICOMDIR or multi-frame file; empty for other kinds of scans.

    Raises:
        InputError, DependencyError: as :func:`read_volume`.
    """
    path = Path(path)
    check_path(path)
    if folder := _dicom_folder(path):
        return dicom.list_series(folder)
    if not image_suffix(path) and is_dicom(path):
        return (dicom.series_of_file(path),)
    return ()


def count_frames(path: str | Path, *, series: str | int | None = None) -> int:
    """Return the number of frames of a scan: 1 for a volume, more for a time series.

    Raises:
        InputError: as :func:`read_volume`.
    """
    path = Path(path)
    check_path(path)
    if folder := _dicom_folder(path):
        return dicom.choose_series(dicom.list_series(folder), series, str(path)).frames
    if not image_suffix(path) and is_dicom(path):
        return dicom.series_of_file(path).frames
    return read_header(path).frames


def _read_image(header: Header, frame: int | None, given: Spacing | None) -> Volume:
    frame = check_header(header, frame)
    kept = _empty_voxels(header)
    undefined, extra = check_data(header, kept)
    stored = _stored_grid(header)
    grid, array = _frame_of(header, frame, kept)
    geometry = stored or _in_mm(grid, header.unit_mm)
    if given is not None:
        geometry = replace(geometry, spacing=given)
    source = Source(
        path=str(header.path),
        sha256=sha256_of(*header.files),
        frame=frame,
        frames=header.frames,
        spacing_given=given is not None,
    )
    if undefined is not None:
        start = (frame or 0) * array.size
        array.reshape(-1)[undefined[start : start + array.size]] = np.nan
    findings = (
        header_findings(header)
        + left_over_finding(header, extra)
        + spacing_finding(given)
        + form_findings(header, geometry)
    )
    volume = Volume(array, geometry, stem(header.path), "", source, findings)
    return check_volume(volume)


def _readable(header: Header, frame: int) -> AbstractContextManager[Path]:
    """Return a context manager of a path that SimpleITK can read."""
    return nrrd.frame_copy(header, frame) if header.recode == "4d" else readable_copy(header)


def _empty_voxels(header: Header) -> np.ndarray | None:
    """Return an array ``(z, y, x)`` for the voxels of a file that is decoded once; ``None`` where ITK reads them."""
    return np.empty(header.size[::-1], header.data.voxels) if header.data is not None and header.data.voxels else None


def _frame_of(header: Header, frame: int | None, kept: np.ndarray | None) -> tuple[Geometry, np.ndarray]:
    """Read a 3D image, or one frame of a time series: grid and array; ``kept`` holds voxels that are read already."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(_IO[header.format])
    try:
        with _readable(header, frame or 0) as path, itk.quiet(), itk.sheared_nifti_allowed(header.steps is not None):
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            size = reader.GetSize()
            if kept is not None and len(size) == 3:
                return itk.geometry_of(reader), kept.astype(kept.dtype.newbyteorder("="), copy=False)
            if len(size) > 3:
                reader.SetExtractSize([*size[:3], *([0] * (len(size) - 3))])
                reader.SetExtractIndex([0, 0, 0, frame or 0, *([0] * (len(size) - 4))])
            image = reader.Execute()
            if header.frames_inside:
                image = sitk.VectorIndexSelectionCast(image, frame or 0)
    except RuntimeError as error:
        raise InputError(f"{header.path.name!r} cannot be read: {itk.reason(error)}; export it again") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{header.path.name!r} is not a plain 3D volume: export it as one")
    return itk.geometry_of(image), itk.array_of(image)


def _in_mm(geometry: Geometry, unit_mm: float) -> Geometry:
    """Return the grid with its lengths in mm."""
    if unit_mm == 1.0:
        return geometry
    sx, sy, sz = (unit_mm * s for s in geometry.spacing)
    ox, oy, oz = (unit_mm * v for v in geometry.origin)
    return replace(geometry, spacing=(sx, sy, sz), origin=(ox, oy, oz))


def _stored_grid(header: Header) -> Geometry | None:
    """Return the stored grid of a NIfTI file with a sheared sform; :func:`check_volume` straightens or refuses it."""
    if header.steps is None:
        return None
    if is_singular(header.steps):
        what = "sform" if header.format == "NIfTI" else "space directions"
        raise InputError(
            f"{what} of {header.path.name!r} is singular: its axes must be three different directions; convert the "
            "scan again from DICOM"
        )
    lengths = np.linalg.norm(header.steps, axis=0)
    x, y, z = header.size
    sx, sy, sz = (float(v) for v in lengths)
    direction = tuple(float(v) for v in (header.steps / lengths).ravel())
    return Geometry((z, y, x), (sx, sy, sz), header.origin, direction)
