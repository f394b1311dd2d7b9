"""Read the header of an image file in any supported format."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

from ..errors import InputError
from . import metaimage, nifti, nrrd
from .headers import FORMATS, READABLE, Header, image_suffix


def read_header(path: Path) -> Header:
    """Read the header of a NIfTI, NRRD or MetaImage file.

    Raises:
        InputError: the suffix is unknown, or the content does not match the suffix.
    """
    kind = FORMATS.get(image_suffix(path))
    if kind is None:
        raise InputError(f"{path.name!r} is not an image file that HeartSeg reads: {_advice(path)}")
    if not path.is_file():  # a pipe or device would block
        raise InputError(f"{path.name!r} is not a regular file: copy the scan to a file")
    read = {"NIfTI": nifti.read, "NRRD": nrrd.read, "MetaImage": metaimage.read}[kind]
    try:
        return read(path)
    except (struct.error, ValueError, KeyError, IndexError, EOFError, OverflowError, zlib.error) as error:
        reason = "cut short or damaged" if isinstance(error, EOFError | zlib.error) else f"broken ({_why(error)})"
        raise _unreadable(path, kind, reason) from error
    except gzip.BadGzipFile as error:
        raise _unreadable(path, kind, "cut short or damaged") from error


_ADVICE = {
    (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"): "unpack it, and give the file or folder inside",
    (
        ".png",
        ".jpg",
        ".jpeg",
        ".tif",
        ".tiff",
        ".bmp",
        ".npy",
        ".npz",
    ): "it states no voxel size; convert it to NIfTI or NRRD, with the voxel size",
    (".hdr", ".img", ".mgz", ".mgh", ".mnc", ".par", ".rec", ".mat", ".vti"): "convert it to NIfTI (one .nii file)",
}
"""Suffixes -> what to do with such a file."""


def _advice(path: Path) -> str:
    found = (text for suffixes, text in _ADVICE.items() if path.name.lower().endswith(suffixes))
    return next(found, f"use {READABLE}")


def _unreadable(path: Path, kind: str, reason: str) -> InputError:
    return InputError(f"{path.name!r} is not a readable {kind} file, its header is {reason}: export or copy it again")


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())[:100]
    return f"field {text} is missing" if isinstance(error, KeyError) else text or type(error).__name__
