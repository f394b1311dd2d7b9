"""Pixel data: decoded by pydicom, else by GDCM (through SimpleITK), and converted to values plane by plane.

Each frame has its own modality transformation (DICOM PS3.3 C.11.1, and C.7.6.16.2.9 for multi-frame objects).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from .. import itk
from ..checks import available_memory
from .files import quiet
from .frames import Plane

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

_PIXEL_TAGS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_END_OF_IMAGE = b"\xff\xd9"


def read_planes(planes: Sequence[Plane]) -> tuple[np.ndarray, str]:
    """Return the values of the planes, and the SHA-256 of the bytes of their files in the order of the planes.

    Args:
        planes: planes of equal size.

    Returns:
        Array ``(n, rows, columns)``: int16 if all values are integers and fit, int32 for larger integers, float32 for
        fractions.

    Raises:
        InputError: pixel data are missing, shorter than stated in the header, or cannot be decoded.
    """
    digest = hashlib.sha256()
    columns, rows = planes[0].file.size
    _check_memory(len(planes) * rows * columns * 2, planes[0].path)
    whole = all(float(p.slope).is_integer() and float(p.intercept).is_integer() for p in planes)
    out = np.empty((len(planes), rows, columns), np.int16 if whole else np.float32)
    for k, (plane, stored) in enumerate(_stored(planes, digest)):
        if stored.shape != (rows, columns):
            raise InputError(f"{plane.path.name!r} holds {_shape(stored)} pixels instead of {columns}x{rows}")
        values = _values(stored, plane)
        out = _widened(out, values, k)
        out[k] = values
    return out, digest.hexdigest()


def _check_memory(need: int, path: Path) -> None:
    free = available_memory()
    if free is not None and need > free:
        raise InputError(
            f"series of {path.name!r} takes {need / 2**30:.3g} GiB of memory and {free / 2**30:.1f} GiB are free: crop "
            "it around the heart, or close other programs"
        )


def digest(plane: Plane) -> bytes:
    """Return a hash of a plane's values; planes that cannot be decoded get distinct hashes."""
    try:
        (_, stored), *_ = _stored([plane], hashlib.sha256())
    except InputError:
        return f"{plane.path}:{plane.index}".encode()
    values = np.ascontiguousarray(_values(stored, plane).astype(np.float64))
    return hashlib.sha256(values.tobytes()).digest()


def _values(stored: np.ndarray, plane: Plane) -> np.ndarray:
    """Apply the modality transformation to stored values; integers stay integers."""
    slope, intercept = plane.slope, plane.intercept
    if (slope, intercept) == (1.0, 0.0):
        return stored
    if stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        small = stored.dtype.itemsize <= 2 and 65536 * abs(slope) + abs(intercept) < 2**31
        values = stored.astype(np.int32 if small else np.int64)
        values *= int(slope)
        values += int(intercept)
        return values
    return stored.astype(np.float64) * slope + intercept


def _widened(out: np.ndarray, values: np.ndarray, filled: int) -> np.ndarray:
    """Convert the array to a type that also holds these values; keeps the first ``filled`` planes."""
    if out.dtype.kind == "f":
        return out
    wanted: Any = out.dtype
    if values.dtype.kind == "f":
        wanted = np.float32
    elif values.size and not np.iinfo(out.dtype).min <= values.min() <= values.max() <= np.iinfo(out.dtype).max:
        wanted = np.int32 if np.abs(values).max() <= np.iinfo(np.int32).max else np.float32
    if wanted == out.dtype:
        return out
    wider = np.empty(out.shape, wanted)
    wider[:filled] = out[:filled]
    return wider


def _stored(planes: Sequence[Plane], digest: Any) -> Iterator[tuple[Plane, np.ndarray]]:
    """Yield each plane with its stored values; every file is read and hashed once."""
    start = 0
    while start < len(planes):
        stop = start + 1
        while stop < len(planes) and planes[stop].path == planes[start].path:
            stop += 1
        run = planes[start:stop]
        yield from zip(run, _frames(run, digest), strict=True)
        start = stop


def _frames(run: Sequence[Plane], digest: Any) -> Iterator[np.ndarray]:
    """Yield frames of one file, in the order of the planes."""
    streamed = run[0].file.frames > 1 and not run[0].file.lut
    if streamed:
        done = 0
        for values in _streamed(run, digest):
            yield values
            done += 1
        run = run[done:]
    if run:
        yield from _loaded(run, hashlib.sha256() if streamed else digest)


def _streamed(run: Sequence[Plane], digest: Any) -> Iterator[np.ndarray]:
    """Yield frames of a multi-frame file, read one by one; stops early if that fails."""
    from pydicom.pixels import iter_pixels

    with run[0].path.open("rb") as stream:
        while piece := stream.read(1 << 22):
            digest.update(piece)
    frames = iter_pixels(run[0].path, indices=[plane.index for plane in run])
    while True:
        try:
            with quiet(), _whole_images_only():
                values = next(frames)
        except StopIteration:
            return
        except Exception:  # no preamble, no decoder, damaged: reading the whole file finds the reason
            return
        yield values


def _loaded(run: Sequence[Plane], digest: Any) -> Iterator[np.ndarray]:
    """Yield frames of a file that is read completely."""
    path = run[0].path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name!r} cannot be read: {error.strerror or error}") from error
    digest.update(data)
    with quiet():
        dataset = _dataset(data, path)
        _check_length(dataset, run[0])
    for plane in run:
        with quiet():
            yield _decoded(dataset, plane)


def _dataset(data: bytes, path: Path) -> Dataset:
    import pydicom

    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    except Exception as error:  # pydicom raises nearly every type of exception for damaged files
        raise InputError(f"{path.name!r} is damaged ({_reason(error)}): copy or export it again") from error
    if not any(tag in dataset for tag in _PIXEL_TAGS):
        raise InputError(f"{path.name!r} holds no pixel data, or is cut short: copy or export it again")
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
    if not dataset.file_meta.TransferSyntaxUID.is_transfer_syntax:
        raise InputError(
            f"{path.name!r} states the transfer syntax {dataset.file_meta.TransferSyntaxUID}, which is none: copy or "
            "export it again"
        )
    return dataset


def _guessed_syntax(dataset: Dataset) -> UID:
    """Return the transfer syntax of a data set without file meta information (PS3.10, 7.1)."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check_length(dataset: Dataset, plane: Plane) -> None:
    """Refuse native pixel data that are shorter than stated in the header (PS3.5, 8.1.1)."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed and not dataset.file_meta.TransferSyntaxUID.is_deflated:
        return
    columns, rows = plane.file.size
    try:
        bits, samples = int(dataset.get("BitsAllocated") or 0), int(dataset.get("SamplesPerPixel") or 1)
        found = max(len(dataset[tag].value or b"") for tag in _PIXEL_TAGS if tag in dataset)
    except Exception as error:  # values are converted on access
        raise InputError(f"{plane.path.name!r} is damaged ({_reason(error)}): copy or export it again") from error
    promised = columns * rows * plane.file.frames * samples * bits // 8
    if not promised or found < promised:
        raise InputError(
            f"{plane.path.name!r} is cut short: its header promises {promised} bytes of pixel data and {found} are "
            "there; copy or export it again"
        )


def _check_end(dataset: Dataset, plane: Plane) -> None:
    """Refuse a JPEG-LS stream without its end, on which the decoder (CharLS) may spend many seconds."""
    from pydicom.encaps import get_frame

    if dataset.file_meta.TransferSyntaxUID not in _JPEG_LS:
        return
    with contextlib.suppress(ValueError):  # decoding says what is wrong with the encapsulation
        frame = get_frame(dataset.PixelData, plane.index, number_of_frames=plane.file.frames)
        if frame.rstrip(b"\0").endswith(_END_OF_IMAGE):
            return
        raise InputError(f"{plane.path.name!r} is cut short: its JPEG-LS stream has no end; copy or export it again")


@contextlib.contextmanager
def _whole_images_only() -> Iterator[None]:
    """Have Pillow refuse images that are cut short; an import of WeasyPrint allows them in the whole process."""
    pillow: Any = sys.modules.get("PIL.ImageFile")
    if pillow is None:
        yield
        return
    before, pillow.LOAD_TRUNCATED_IMAGES = pillow.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        pillow.LOAD_TRUNCATED_IMAGES = before


def _decoded(dataset: Dataset, plane: Plane) -> np.ndarray:
    from pydicom.pixels import pixel_array

    _check_end(dataset, plane)
    try:
        with _whole_images_only():
            values = pixel_array(dataset, index=plane.index)
    except Exception as error:  # decoders raise nearly every type of exception for damaged data
        try:
            values = _decoded_by_gdcm(dataset, plane)
        except Exception as second:
            syntax = dataset.file_meta.TransferSyntaxUID.name
            raise InputError(
                f"pixel data of {plane.path.name!r} ({syntax}) cannot be decoded ({_reason(error)}; GDCM: "
                f"{_reason(second)}): export the series uncompressed"
            ) from error
    if "ModalityLUTSequence" in dataset:
        from pydicom.pixels import apply_modality_lut

        values = apply_modality_lut(values, dataset)
    return values


def _decoded_by_gdcm(dataset: Dataset, plane: Plane) -> np.ndarray:
    """Decode a frame of compressed pixel data in a temporary file of its own, without a transformation of values."""
    import SimpleITK as sitk
    from pydicom import Dataset
    from pydicom.encaps import encapsulate, get_frame
    from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

    wrapped = Dataset()
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        setattr(wrapped, keyword, dataset[keyword].value)
    wrapped.SamplesPerPixel, wrapped.PhotometricInterpretation = 1, "MONOCHROME2"
    wrapped.SOPClassUID, wrapped.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    wrapped.PixelData = encapsulate([get_frame(dataset.PixelData, plane.index, number_of_frames=plane.file.frames)])
    wrapped["PixelData"].VR = "OB"
    wrapped["PixelData"].is_undefined_length = True
    wrapped.file_meta = _meta_of(dataset)
    with tempfile.TemporaryDirectory() as folder, itk.quiet():
        path = Path(folder, "frame.dcm")
        wrapped.save_as(path, enforce_file_format=True)
        image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    return itk.array_of(image).reshape(image.GetSize()[1], image.GetSize()[0])


def _meta_of(dataset: Dataset) -> Any:
    from pydicom.dataset import FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    return meta


def _shape(stored: np.ndarray) -> str:
    return "x".join(map(str, stored.shape[::-1]))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120].rstrip(" .:") or type(error).__name__
