"""Write label maps and images, completely or not at all.

ITK does not notice a full disk when it writes compressed files. A file is therefore written under a temporary name in
the same folder, read back (header and the whole data stream), and only then renamed.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import HeartSegError, InputError, OutputError, writing
from . import itk
from .geometry import Geometry
from .headers import image_suffix
from .image_header import read_header
from .stored import check_data
from .types import Volume

log = logging.getLogger(__name__)

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")


def write_labels(
    labels: np.ndarray, geometry: Geometry, path: str | Path, fields: Mapping[str, str] | None = None
) -> Path:
    """Write a label map as compressed NIfTI (``.nii.gz``), NRRD or MHA, chosen by the suffix.

    Args:
        labels: uint8 ``(z, y, x)``.
        geometry: grid of the labels, which is that of the scan; stored within 1e-4 mm (NIfTI stores 32-bit floats).
        path: output file; an existing file is replaced completely or not at all.
        fields: names and values for the header, each on one line; only NRRD stores all of them.

    Returns:
        The path.

    Raises:
        OutputError: unknown suffix, folder missing or not writable, disk full.
        ValueError: the labels are not uint8, or their shape differs from that of the grid.
    """
    if labels.dtype != np.uint8:
        raise ValueError(f"labels are {labels.dtype}: uint8 is needed")
    return _write(labels, geometry, Path(path), fields or {})


def write_volume(volume: Volume, path: str | Path) -> Path:
    """Write a scan in its stored dtype; see :func:`write_labels` for formats and errors."""
    return _write(volume.array, volume.geometry, Path(path), {})


def check_target(path: Path) -> str:
    """Check the name and folder of a file to write, and return its suffix.

    Raises:
        OutputError: the suffix is unknown, the folder does not exist, or the path is a folder.
    """
    suffix = image_suffix(path)
    if suffix not in WRITABLE:
        raise OutputError(f"cannot write {path.name!r}: its name must end in {', '.join(WRITABLE)}")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: folder {str(path.parent)!r} does not exist: create it first")
    if path.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: it is a folder, choose another name")
    return suffix


def _write(array: np.ndarray, geometry: Geometry, path: Path, fields: Mapping[str, str]) -> Path:
    if tuple(array.shape) != tuple(geometry.shape):
        raise ValueError(f"array shape {array.shape} differs from the geometry's {geometry.shape}")
    suffix = check_target(path)
    with writing(path):
        handle, name = tempfile.mkstemp(suffix=suffix, prefix=f".{path.name[: -len(suffix)]}-", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            _write_checked(array, geometry, temporary, path, fields)
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes files private
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    log.debug("wrote %s", path)
    return path


def _write_checked(
    array: np.ndarray, geometry: Geometry, temporary: Path, path: Path, fields: Mapping[str, str]
) -> None:
    import SimpleITK as sitk

    image = itk.image_of(np.ascontiguousarray(array), geometry)
    for name, value in fields.items():
        image.SetMetaData(name, value)
    try:
        with itk.quiet():
            sitk.WriteImage(image, str(temporary), True)
        header = read_header(temporary)
        check_data(header)
        if tuple(header.size) != tuple(geometry.size):
            raise InputError(f"it has {header.size} voxels")
    except (RuntimeError, HeartSegError) as error:
        raise itk.not_written(path, temporary, error) from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
