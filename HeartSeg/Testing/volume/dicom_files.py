"""DICOM files as written by scanners and archives, from a phantom with known values and positions."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

from heartseg.volume import Geometry, Volume

STUDY, FRAME_OF_REFERENCE = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
GRID = Geometry((16, 20, 22), (4.0, 4.5, 4.0), (-40.5, -50.25, 100.0))
COS, SIN = np.cos(0.4), np.sin(0.4)
OBLIQUE = replace(GRID, direction=(COS, 0.0, SIN, 0.0, 1.0, 0.0, -SIN, 0.0, COS))


def phantom(geometry: Geometry = GRID, radius: float = 28.0, seed: int = 3) -> Volume:
    """Return a ball of blood (300 HU) with a radius in mm in the centre of noisy soft tissue, surrounded by air."""
    index = np.moveaxis(np.indices(geometry.shape), 0, -1)
    distance = np.linalg.norm(geometry.index_to_world(index) - geometry.center(), axis=-1)
    noise = np.random.default_rng(seed).integers(-20, 21, geometry.shape)
    values = np.where(distance < radius, 300, np.where(distance < 1.5 * radius, 40, -1000)) + noise
    return Volume(values.astype(np.int16), geometry, "phantom", "CT")


def ball_ml(volume: Volume) -> float:
    """Return the volume of the ball from its voxels, mL."""
    return float(np.count_nonzero(volume.array > 170) * volume.geometry.voxel_volume_ml)


@dataclass
class Image:
    """One plane to write: stored values, position and further attributes."""

    stored: np.ndarray
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    slope: float = 1.0
    intercept: float = -1024.0
    tags: dict[str, Any] = field(default_factory=dict)


def planes(volume: Volume, **tags: Any) -> list[Image]:
    """Return the slices of a volume, in order."""
    geometry = volume.geometry
    row, column = geometry.direction_matrix[:, 0], geometry.direction_matrix[:, 1]
    out = []
    for k, values in enumerate(volume.array):
        place = geometry.index_to_world(np.array([k, 0, 0]))
        stored = (values.astype(np.int32) + 1024).astype(np.uint16)
        sx, sy, _ = geometry.spacing
        out.append(Image(stored, tuple(place), (*row, *column), (sx, sy), tags=dict(tags)))
    return out


# --- classic ----------------------------------------------------------------------------------------------------------


def write_classic(
    folder: Path,
    images: Sequence[Image],
    *,
    series: str = "",
    number: int = 1,
    modality: str = "CT",
    syntax: UID = ExplicitVRLittleEndian,
    change: Callable[[int, Dataset], None] | None = None,
    start: int = 0,
) -> Path:
    """Write one file per image; file names do not indicate the order."""
    folder.mkdir(parents=True, exist_ok=True)
    series = series or generate_uid()
    names = np.random.default_rng(number + 7 * start).permutation(len(images))
    for k, image in enumerate(images):
        data = classic(image, k, series, number, modality)
        if change is not None:
            change(k, data)
        save(data, folder / f"{number}_{start + names[k]:04}.dcm", syntax)
    return folder


def classic(image: Image, k: int, series: str, number: int, modality: str) -> Dataset:
    """Return a CT or MR Image object without file meta information."""
    data = Dataset()
    data.SOPClassUID = MRImageStorage if modality == "MR" else CTImageStorage
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    _common(data, series, number, modality)
    data.InstanceNumber, data.SliceThickness = k + 1, 3.0
    data.ImagePositionPatient, data.ImageOrientationPatient = _ds(image.position), _ds(image.orientation)
    data.PixelSpacing = [image.spacing[1], image.spacing[0]]
    data.RescaleSlope, data.RescaleIntercept = image.slope, image.intercept
    _pixels(data, image.stored[None])
    for name, value in image.tags.items():
        setattr(data, name, value)
    return data


def _common(data: Dataset, series: str, number: int, modality: str) -> None:
    data.SOPInstanceUID = generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = STUDY, series, FRAME_OF_REFERENCE
    data.Modality, data.SeriesNumber, data.SeriesDescription = modality, number, f"series {number}"
    data.PatientName, data.PatientID, data.PatientBirthDate = "Test^One", "T1", "19600101"


def _ds(values: Sequence[float]) -> list[str]:
    return [f"{v:.9g}" for v in values]


def _pixels(data: Dataset, stack: np.ndarray) -> None:
    frames, data.Rows, data.Columns = stack.shape
    if frames > 1 or "Enhanced" in data.SOPClassUID.name:
        data.NumberOfFrames = frames
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, int(stack.dtype.kind == "i")
    data.PixelData = np.ascontiguousarray(stack).tobytes()
    data["PixelData"].VR = "OW"


# --- enhanced ---------------------------------------------------------------------------------------------------------


def nested(**items: Any) -> Dataset:
    """Return a data set; nested data sets become sequences of one item."""
    data = Dataset()
    for name, value in items.items():
        setattr(data, name, [value] if isinstance(value, Dataset) else value)
    return data


def enhanced(
    images: Sequence[Image],
    *,
    series: str = "",
    number: int = 1,
    modality: str = "CT",
    legacy: bool = False,
    frame: Callable[[int, Image], dict[str, Any]] | None = None,
) -> Dataset:
    """Return an enhanced (or legacy-converted) multi-frame object.

    Args:
        frame: returns further functional groups of a frame.
    """
    data = Dataset()
    data.SOPClassUID = LegacyConvertedEnhancedCTImageStorage if legacy else EnhancedCTImageStorage
    if modality == "MR":
        data.SOPClassUID = EnhancedMRImageStorage
    _common(data, series or generate_uid(), number, modality)
    data.InstanceNumber, data.ImageType = 1, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data.SharedFunctionalGroupsSequence = [nested(FrameAnatomySequence=nested(FrameLaterality="U"))]
    groups = []
    for k, image in enumerate(images):
        group = nested(
            PlanePositionSequence=nested(ImagePositionPatient=_ds(image.position)),
            PlaneOrientationSequence=nested(ImageOrientationPatient=_ds(image.orientation)),
            PixelMeasuresSequence=nested(PixelSpacing=[image.spacing[1], image.spacing[0]], SliceThickness=3.0),
            PixelValueTransformationSequence=nested(
                RescaleSlope=image.slope, RescaleIntercept=image.intercept, RescaleType="HU"
            ),
            FrameContentSequence=nested(FrameAcquisitionNumber=1),
        )
        if legacy and image.tags:
            group.UnassignedPerFrameConvertedAttributesSequence = [nested(**image.tags)]
        for name, value in (frame(k, image) if frame else {}).items():
            setattr(group, name, [value] if isinstance(value, Dataset) else value)
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    _pixels(data, np.stack([image.stored for image in images]))
    return data


def temporal(index: int) -> dict[str, Dataset]:
    """Return the functional group with a frame's temporal position."""
    return {"FrameContentSequence": nested(TemporalPositionIndex=index, FrameAcquisitionNumber=1)}


def cardiac(percent: float | None = None, delay: float | None = None) -> dict[str, Dataset]:
    """Return the functional group with a frame's cardiac phase."""
    group = Dataset()
    if percent is not None:
        group.NominalPercentageOfCardiacPhase = percent
    if delay is not None:
        group.NominalCardiacTriggerDelayTime = delay
    return {"CardiacSynchronizationSequence": group}


def at_phase(percent: float) -> Callable[[object, object], dict[str, Dataset]]:
    """Return the functional groups of frames that all belong to one cardiac phase."""
    return lambda *_: cardiac(percent)


# --- files ------------------------------------------------------------------------------------------------------------


def save(data: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian, preamble: bool = True) -> Path:
    """Write a data set in a transfer syntax, with encoded pixel data if the syntax requires it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), data, file_meta=meta, preamble=b"\0" * 128)
    if syntax == ExplicitVRBigEndian:
        file["PixelData"].value = np.frombuffer(file.PixelData, "<u2").astype(">u2").tobytes()
        meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, file, little_endian=False, implicit_vr=False, force_encoding=True)
        return path
    if syntax in (RLELossless, JPEGLSLossless):
        file.compress(syntax, generate_instance_uid=False)
    elif syntax in (JPEG2000Lossless, JPEGLosslessSV1):
        encode = _jpeg_2000 if syntax == JPEG2000Lossless else _jpeg_lossless
        frames = np.frombuffer(file.PixelData, "<u2").reshape(-1, file.Rows, file.Columns)
        file.PixelData = pydicom.encaps.encapsulate([encode(frame) for frame in frames])
        file["PixelData"].VR, file["PixelData"].is_undefined_length = "OB", True
        meta.TransferSyntaxUID = syntax
    elif syntax == ImplicitVRLittleEndian or not preamble:
        meta.TransferSyntaxUID = syntax
    if preamble:
        file.save_as(path, enforce_file_format=True)
    else:
        bare = Dataset(data)
        bare.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return path


def _jpeg_2000(frame: np.ndarray) -> bytes:
    from PIL import Image as Picture

    buffer = io.BytesIO()
    Picture.fromarray(frame).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    return buffer.getvalue()


def _jpeg_lossless(frame: np.ndarray) -> bytes:
    """Encode with GDCM, because pydicom has no encoder and, without further packages, no decoder."""
    import tempfile

    import SimpleITK as sitk

    with tempfile.TemporaryDirectory() as folder:
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(f"{folder}/one.dcm")
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(sitk.GetImageFromArray(frame.astype(np.uint16)))
        data = pydicom.dcmread(f"{folder}/one.dcm")
        assert data.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        return pydicom.encaps.get_frame(data.PixelData, 0, number_of_frames=1)
