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
from ..provenance import ModelFacts
from ..result import Result
from ..scene.terminology import CATEGORY
from ..volume.dicom import Series, list_series
from ..volume.geometry import Geometry
from .subject import Subject, source_of

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
    present = [s for s in STRUCTURES if (subject.result.labels == s.label).any()]
    if not present:
        raise OutputError("DICOM SEG needs at least one structure, and none was found: leave dicom-seg out of --format")
    numbers = np.zeros(256, np.uint8)
    numbers[[s.label for s in present]] = np.arange(1, len(present) + 1)  # DICOM numbers segments without a gap
    labels = numbers[subject.result.labels]
    segments = [_description(k, s, subject.result) for k, s in enumerate(present, 1)]
    geometry = subject.result.geometry
    one_series = len({image.SeriesInstanceUID for image in images}) == 1
    if one_series and sum(int(image.get("NumberOfFrames", 1)) for image in images) == series.slices:
        dataset = _segmentation(images, _labels_on_images(labels, images, geometry), segments)
    else:
        dataset = _of_joined_series(images, labels, geometry, segments)
    dataset.save_as(path)
    return path


def _images(series: Series, frame: int | None) -> list[Any]:
    """Headers of the images (without pixels) in slice order, one per file."""
    import pydicom

    images = [pydicom.dcmread(file, stop_before_pixels=True) for file in series.files_of(frame)]
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


def _labels_on_images(labels: np.ndarray, images: list[Any], geometry: Geometry) -> np.ndarray:
    """Labels on the pixels of each frame of the images, ``(frames, rows, columns)``.

    A scan whose slices are uneven is segmented on another grid than the images have: the nearest voxel counts.

    Raises:
        OutputError: an image lies where no slice is.
    """
    starts = np.rint(geometry.world_to_index(_positions(images))).astype(int)
    if starts[:, 0].min() < 0 or starts[:, 0].max() >= geometry.shape[0]:
        raise OutputError(
            f"DICOM SEG needs images where the segmentation is: of the series' {len(starts)} images some lie outside "
            f"its {geometry.shape[0]} slices; give the series that was segmented with --scan"
        )
    out = np.zeros((len(starts), int(images[0].Rows), int(images[0].Columns)), labels.dtype)
    for frame, (z, y, x) in zip(out, starts, strict=True):
        rows, columns = np.arange(frame.shape[0]) + y, np.arange(frame.shape[1]) + x
        inside_y = (rows >= 0) & (rows < labels.shape[1])
        inside_x = (columns >= 0) & (columns < labels.shape[2])
        frame[np.ix_(inside_y, inside_x)] = labels[z][np.ix_(rows[inside_y], columns[inside_x])]
    return out


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
    model = result.provenance.model or ModelFacts()
    parameters = {key: value for key, value in (("name", model.name), ("version", model.version)) if value}
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
    """For slices of several series, or one phase of a multi-frame file: frames are placed by the grid.

    All images are named; highdicom wants the images that frames are placed by to be of one series.
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
