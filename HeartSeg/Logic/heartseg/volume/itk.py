"""Helpers for SimpleITK: suppressed output, short messages, arrays without copies."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import HeartSegError, OutputError, write_error
from .geometry import Geometry

if TYPE_CHECKING:
    import SimpleITK as sitk


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the output of ITK and its libraries; findings and errors contain the relevant information."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with _standard_error_closed():
            yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    """Discard what C libraries print on standard error; does nothing without a file descriptor for it."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, ValueError, AttributeError):
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def sheared_nifti_allowed(allowed: bool) -> Iterator[None]:
    """Allow ITK to read the voxels of a NIfTI file with a sheared sform; its geometry is taken from the header."""
    name = "ITK_NIFTI_SFORM_PERMISSIVE"
    before = os.environ.get(name)
    if allowed:
        os.environ[name] = "YES"
    try:
        yield
    finally:
        if allowed and before is None:
            del os.environ[name]
        elif allowed and before is not None:
            os.environ[name] = before


def reason(error: Exception) -> str:
    """Return the message of an ITK exception on one line, without addresses and source files."""
    text = re.split(r"(?:ITK ERROR|sitk::ERROR|itk::ERROR):", str(error))[-1]
    text = re.sub(r"\w+\(0x[0-9a-f]+\):\s*", "", text)
    return " ".join(text.split())[:200].rstrip(" .!;")


class _Buffer:
    """Return the array interface of an image; keeps the image alive while an array refers to its voxels."""

    def __init__(self, image: sitk.Image) -> None:
        import SimpleITK as sitk

        self._image = image
        interface = dict(sitk.GetArrayViewFromImage(image).__array_interface__)
        interface["data"] = (interface["data"][0], False)  # writable, because this image has no other owner
        self.__array_interface__ = interface


def array_of(image: sitk.Image) -> np.ndarray:
    """Return the voxels ``(z, y, x)`` in the stored dtype, without a copy."""
    return np.asarray(_Buffer(image))


def geometry_of(image: sitk.Image | sitk.ImageFileReader) -> Geometry:
    """Return the grid of a 3D image, or of one whose header was read."""
    (x, y, z), (sx, sy, sz), (ox, oy, oz) = image.GetSize(), image.GetSpacing(), image.GetOrigin()
    return Geometry((z, y, x), (sx, sy, sz), (ox, oy, oz), tuple(image.GetDirection()))


def image_of(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """Return a SimpleITK image (a copy) of an array ``(z, y, x)`` on its grid."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def write_picture(pixels: np.ndarray, path: Path) -> Path:
    """Write a grey-scale image, uint8 (rows, columns), as PNG, completely or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    import SimpleITK as sitk

    part = path.with_name(f".{path.stem}-part.png")
    try:
        sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(pixels, np.uint8)), str(part))
        part.replace(path)
    except (RuntimeError, OSError) as error:
        raise not_written(path, part, error) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def not_written(path: Path, part: Path, error: Exception) -> OutputError:
    """Return the error for a file that was not written, or not completely.

    ITK does not tell the cause: a few more bytes are written to find it.

    Args:
        path: the file.
        part: its temporary file, in the same folder.
        error: of ITK, of the system, or of reading back what was written.
    """
    try:
        if isinstance(error, OSError):
            raise error
        with part.open("ab") as stream:
            stream.write(b"\0" * (1 << 16))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as cause:
        return write_error(cause, path)
    why = "it could not be read back" if isinstance(error, HeartSegError) else reason(error)
    return OutputError(f"cannot write {path} ({why}): free some space or choose another folder")
