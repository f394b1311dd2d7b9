"""DICOM Segmentation objects, by highdicom (Bridge et al., J Digit Imaging 2022), for archives and other viewers.

A segmentation refers to the images it was drawn on and takes patient, study and frame of reference from them: without
the DICOM series there is none.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..anatomy import STRUCTURES, Structure
from ..errors import DependencyError, OutputError
from ..result import Result
from ..volume.dicom import Series, list_series
from ..volume.geometry import Geometry
from .subject import Subject, source_of
from .terminology import CATEGORY

SERIES_NUMBER = 9000
"""Series number of what is written: high, so that it stands below the images in a list."""

MANUFACTURER, SERIES_DESCRIPTION = "HeartSeg", "HeartSeg whole heart segmentation, research use only"

_LACKING = ("StudyDate", "StudyTime", "AccessionNumber", "PatientBirthDate", "PatientSex", "StudyID")
"""Type 2 attributes: they must be there but may be empty."""


def check_highdicom() -> None:
    """Raise ``DependencyError`` if highdicom is not installed."""
    try:
        found = importlib.util.find_spec("highdicom") is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise DependencyError("DICOM SEG needs highdicom, which is not installed: pip install 'heartseg[dicom]'")


def source_series(subject: Subject) -> Series:
    """The DICOM series that the scan was read from.

    Raises:
        OutputError: says what is missing: the scan, or that it is no DICOM series, or no longer there.
    """
    source = source_of(subject)
    if subject.volume is None:
        raise OutputError(
            "DICOM SEG needs the DICOM series that was segmented, and the scan is not at hand: give its folder with "
            "--scan"
        )
    folder = Path(source.path)
    if not source.series_uid or not folder.exists():
        raise OutputError(
            f"DICOM SEG needs the DICOM series that was segmented, and the scan is {source.path!r}: give the folder of "
            "its DICOM files with --scan, or leave dicom-seg out of --format"
        )
    listed = list_series(folder if folder.is_dir() else folder.parent)
    found = [s for s in listed if s.uid == source.series_uid and s.size == subject.volume.geometry.size]
    if not found:
        raise OutputError(f"series {source.series_uid} is no longer in {str(folder)!r}: give its folder with --scan")
    return found[0]


def write_dicom_seg(subject: Subject, path: Path) -> Path:
    """Write a binary DICOM Segmentation with a segment per structure that was found.

    Segments have the structures' SNOMED CT codes and colours, are AUTOMATIC, and name HeartSeg, its version and the
    model; frames have the position and orientation of the images they refer to, oblique ones too.

    Args:
        subject: segmentation with the scan it was made on, which must have been read from a DICOM series.
        path: file to write.

    Raises:
        DependencyError: highdicom is not installed.
        OutputError: the series is not there, nothing is labelled, or the series cannot carry a segmentation.
        OSError: the disk is full.
    """
    check_highdicom()
    series = source_series(subject)
    images = _images(series, source_of(subject).frame)
    order = _slice_of_each_frame(images, subject)
    present = [s for s in STRUCTURES if (subject.result.labels == s.label).any()]
    if not present:
        raise OutputError("DICOM SEG needs at least one structure, and none was found: leave dicom-seg out of --format")
    numbers = np.zeros(256, np.uint8)
    numbers[[s.label for s in present]] = np.arange(1, len(present) + 1)  # DICOM numbers segments without a gap
    labels = numbers[subject.result.labels]
    segments = [_description(k, s, subject.result) for k, s in enumerate(present, 1)]
    if len({image.SeriesInstanceUID for image in images}) == 1:
        dataset = _segmentation(images, labels[order], segments)
    else:
        dataset = _of_joined_series(images, labels, subject.result.geometry, segments)
    dataset.save_as(path)
    return path


def _images(series: Series, frame: int | None) -> list[Any]:
    """Headers of the images (without pixels) in slice order, one per file."""
    import pydicom

    start = (frame or 0) * series.slices
    files = series.files if len(series.files) == 1 else series.files[start : start + series.slices]
    images = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    lacking = [n for n in ("FrameOfReferenceUID", "StudyInstanceUID", "PatientID") if not images[0].get(n)]
    if lacking:
        raise OutputError(
            f"DICOM series {series.key} lacks {', '.join(lacking)}, which a DICOM SEG must repeat: export the series "
            "from the archive again"
        )
    for image in images:
        for name in _LACKING:
            if name not in image:
                setattr(image, name, "")
    return images


def _slice_of_each_frame(images: list[Any], subject: Subject) -> np.ndarray:
    """Which slice of the labels belongs to each frame of the images.

    Raises:
        OutputError: an image lies where no slice is.
    """
    geometry = subject.result.geometry
    positions = _positions(images)
    index = geometry.world_to_index(positions)[:, 0]
    order = np.rint(index).astype(int)
    # Unevenly spaced slices were read as even ones: the nearest in order is meant, and the images keep their places.
    if len(order) == geometry.shape[0] and len(set(order.tolist())) != len(order):
        order = np.argsort(np.argsort(index))
    if len(order) != geometry.shape[0] or order.min() < 0 or order.max() >= geometry.shape[0]:
        raise OutputError(
            f"DICOM SEG needs one image for every slice: the series has {len(order)}, the segmentation "
            f"{geometry.shape[0]}; give the series that was segmented with --scan"
        )
    return order


def _positions(images: list[Any]) -> np.ndarray:
    """Image Position (Patient) of every frame, LPS mm ``(n, 3)``."""
    if len(images) == 1 and "PerFrameFunctionalGroupsSequence" in images[0]:
        frames = images[0].PerFrameFunctionalGroupsSequence
        return np.array([f.PlanePositionSequence[0].ImagePositionPatient for f in frames], float)
    return np.array([image.ImagePositionPatient for image in images], float)


def _description(number: int, structure: Structure, result: Result) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    scheme, code, meaning = CATEGORY
    model = result.provenance.get("model")
    model = model if isinstance(model, dict) else {}
    parameters = {key: str(model[key]) for key in ("name", "version") if model.get(key)}
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=structure.name,
        segmented_property_category=hd.sr.CodedConcept(code, scheme, meaning),
        segmented_property_type=hd.sr.CodedConcept(structure.snomed_code, "SCT", structure.snomed_meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="HeartSeg",
            family=codes.DCM.ArtificialIntelligence,
            version=__version__,
            parameters={f"model {key}": value for key, value in parameters.items()} or None,
        ),
        tracking_uid=hd.UID(),
        tracking_id=f"HeartSeg {structure.key}",
        display_color=hd.color.CIELabColor.from_rgb(*structure.color),
    )


def _of_joined_series(images: list[Any], labels: np.ndarray, geometry: Geometry, segments: list[Any]) -> Any:
    """Where slices of two series make one even stack: frames are placed by the grid, and all images are named.

    highdicom wants the images that frames are placed by to be of one series.
    """
    import highdicom as hd

    affine = geometry.affine[:, [2, 1, 0, 3]]  # from (slice, row, column) to LPS
    uid = images[0].FrameOfReferenceUID
    grid = hd.Volume(labels, affine, hd.CoordinateSystemNames.PATIENT, frame_of_reference_uid=uid)
    first = [image for image in images if image.SeriesInstanceUID == images[0].SeriesInstanceUID]
    rest = [image for image in images if image.SeriesInstanceUID != images[0].SeriesInstanceUID]
    return _segmentation(first, grid, segments, further_source_images=rest)


def _segmentation(images: list[Any], pixels: Any, segments: list[Any], **more: Any) -> Any:
    """``pixels``: segment numbers, uint8 ``(frames, rows, columns)`` in the images' order, or a highdicom volume."""
    import highdicom as hd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about names that were made unrecognisable
        try:
            dataset = hd.seg.Segmentation(
                source_images=images,
                pixel_array=pixels,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=hd.UID(),
                series_number=SERIES_NUMBER,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer=MANUFACTURER,
                manufacturer_model_name=MANUFACTURER,
                software_versions=__version__,
                device_serial_number="none",
                content_label="HEART",
                content_description="Whole heart segmentation",
                **more,
            )
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            why = " ".join(str(error).split())[:200]
            raise OutputError(
                f"this DICOM series cannot carry a segmentation ({why}): export it from the archive again, or leave "
                "dicom-seg out of --format"
            ) from error
    dataset.SeriesDescription = SERIES_DESCRIPTION
    return dataset
