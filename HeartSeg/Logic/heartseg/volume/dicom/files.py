"""Files of a folder: DICOM images, other DICOM objects, and damaged files.

pydicom reads the data set without pixel data. Recognition requires neither a preamble nor a suffix: DICOM PS3.10, 7.1
requires the preamble, but many archives export data sets without it.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DependencyError
from ..folders import files_below
from ..headers import is_dicom, is_text
from .frames import Plane, planes_of
from .tags import HEADER_TAGS

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)

_STANDARD = "1.2.840.10008"
"""Root of the UIDs that the standard defines; pydicom knows them all."""

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
"""Media Storage Directory (DICOMDIR): the index of a disc, which contains no images."""


@dataclass(frozen=True, eq=False)
class Inventory:
    """DICOM files by content.

    Attributes:
        images: planes of every readable image file.
        others: path and kind of every object that is not an image (structured report, presentation state, ...).
        damaged: DICOM files that cannot be read.
    """

    images: tuple[tuple[Plane, ...], ...] = ()
    others: tuple[tuple[Path, str], ...] = ()
    damaged: tuple[Path, ...] = ()


def require_pydicom() -> None:
    """Raise ``DependencyError`` if pydicom is not installed."""
    if importlib.util.find_spec("pydicom") is None:
        raise DependencyError(
            "reading DICOM files needs pydicom, which is not installed: pip install 'heartseg[dicom]' (3D Slicer "
            "loads DICOM itself)"
        )


def take_inventory(paths: Iterable[Path]) -> Inventory:
    """Read the data sets of the DICOM files among ``paths``; other files are ignored.

    Raises:
        DependencyError: pydicom is not installed.
    """
    require_pydicom()
    images: list[tuple[Plane, ...]] = []
    others: list[tuple[Path, str]] = []
    damaged: list[Path] = []
    for path in paths:
        if not _may_be_dicom(path):
            continue
        try:
            with quiet():
                found = _read(path)
        except Exception as error:  # pydicom raises nearly every type of exception for damaged files
            log.debug("%s is damaged: %s", path, error)
            damaged.append(path)
            continue
        if isinstance(found, str):
            others.append((path, found))
        elif found:
            images.append(found)
    return Inventory(tuple(images), tuple(others), tuple(damaged))


def _read(path: Path) -> tuple[Plane, ...] | str:
    """Return the planes of a file (none for a DICOMDIR), or the kind of another object; raises if damaged."""
    if not is_text(path):
        raise ValueError("its name is not valid UTF-8")
    head = _head(path)
    sop_class = str(head.get("SOPClassUID") or "")
    if head.get("Rows") and head.get("Columns"):
        return tuple(planes_of(path, head))
    if sop_class == MEDIA_DIRECTORY or _is_directory(head):
        return ()
    name = _name_of(sop_class)
    cut_short = name == sop_class and _STANDARD.startswith(sop_class[: len(_STANDARD)])  # the file ends in its class
    if sop_class and "Image Storage" not in name and not cut_short:
        return name
    raise ValueError("it has no image and is no other object")


def dicom_files(folder: Path) -> Iterator[Path]:
    """Return every regular file in and below a folder, sorted, without DICOMDIR."""
    return (path for path in files_below(folder) if path.name.upper() != "DICOMDIR")


def read_head(path: Path) -> Dataset | None:
    """Return the data set of a file without its pixel data, or ``None`` if it cannot be read."""
    try:
        with quiet():
            return _head(path)
    except Exception as error:  # see take_inventory
        log.debug("%s is damaged: %s", path, error)
        return None


def _head(path: Path) -> Dataset:
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(HEADER_TAGS))


def is_media_directory(path: Path) -> bool:
    """Return whether a file is the index of a DICOM disc."""
    return path.name.upper() == "DICOMDIR" or _is_directory(read_head(path))


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress pydicom's warnings; findings contain what is relevant for the user."""
    import pydicom

    logger, settings = pydicom.config.logger, pydicom.config.settings
    before, mode = logger.disabled, settings.reading_validation_mode
    logger.disabled, settings.reading_validation_mode = True, pydicom.config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled, settings.reading_validation_mode = before, mode


def _may_be_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except OSError as error:
        log.debug("%s cannot be read: %s", path, error)
        return False


def _is_directory(head: Dataset | None) -> bool:
    meta = getattr(head, "file_meta", None)
    return meta is not None and str(meta.get("MediaStorageSOPClassUID", "")) == MEDIA_DIRECTORY


def _name_of(uid: str) -> str:
    from pydicom.uid import UID

    return UID(uid).name
