"""DICOM Segmentation objects for archives and viewers, written with highdicom (Bridge et al., J Digit Imaging 2022).

A DICOM Segmentation refers to its source images and takes patient, study and frame of reference from them, so it
requires the DICOM series.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..anatomy import STRUCTURES, Structure
from ..errors import DependencyError, OutputError
from ..provenance import ModelFacts
from ..result import Result
from ..version import __version__
from ..volume.dicom import Series, list_series
from ..volume.geometry import Geometry
from ..wording import _
from .subject import Subject, source_of
from .terminology import CATEGORY

SEG_FILE = "segmentation.dcm"
SERIES_NUMBER = 9000
"""Series number of the segmentation; high, so that it is listed after the images."""

MANUFACTURER, SERIES_DESCRIPTION = "HeartSeg", "HeartSeg whole heart segmentation, research use only"

_TYPE_2 = ("StudyDate", "StudyTime", "AccessionNumber", "PatientBirthDate", "PatientSex", "StudyID")
"""Type 2 attributes: required, but may be empty."""

_TEXTS = ("AE", "AS", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT")
"""Value representations of free text, names and ages (PS3.5, 6.2)."""


def check_highdicom() -> None:
    """Raise ``DependencyError`` if highdicom is not installed."""
    try:
        found = importlib.util.find_spec("highdicom") is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise DependencyError(_("DICOM SEG needs highdicom, which is not installed: pip install 'heartseg[dicom]'"))


@contextmanager
def writing_dicom(what: str, name: str) -> Iterator[None]:
    """Turn errors of highdicom into ``OutputError``, and ignore its warnings about anonymized names.

    Args:
        what: name of the object, for the message.
        name: its format.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            yield
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            why = " ".join(str(error).split())[:200]
            raise OutputError(
                _(
                    "the DICOM series is not suitable for {what} ({why}): export it from the archive again, or "
                    "omit {name} from --format"
                ).format(what=what, why=why, name=name)
            ) from error


def source_series(subject: Subject) -> Series:
    """Find the DICOM series that the scan was read from.

    Raises:
        OutputError: there is no scan, it is not a DICOM series, or the series no longer exists.
    """
    source = source_of(subject)
    if subject.volume is None:
        raise OutputError(
            _(
                "DICOM SEG needs the DICOM series that was segmented, but the scan is not available: give "
                "its folder with --scan"
            )
        )
    folder = Path(source.path)
    if not source.series_uid or not folder.exists():
        raise OutputError(
            _(
                "DICOM SEG needs the DICOM series that was segmented, but the scan is {path!r}: give the "
                "folder of its DICOM files with --scan, or omit the DICOM formats from --format"
            ).format(path=source.path)
        )
    listed = list_series(folder if folder.is_dir() else folder.parent)
    found = [s for s in listed if s.uid == source.series_uid and s.size == subject.volume.geometry.size]
    if not found:
        raise OutputError(
            _("DICOM series {series_uid} is not in {folder!r}: give its folder with --scan").format(
                series_uid=source.series_uid, folder=str(folder)
            )
        )
    return found[0]


def write_dicom_seg(subject: Subject, path: Path) -> Path:
    """Write a binary DICOM Segmentation with one segment per structure found.

    Segments have the SNOMED CT codes and colours of the structures and the algorithm type AUTOMATIC, and name HeartSeg,
    its version and the model. Frames have the position and orientation of their source images, including oblique ones.

    Args:
        subject: segmentation with its scan, which must have been read from a DICOM series.
        path: file to write.

    Raises:
        DependencyError: highdicom is not installed.
        OutputError: the series is missing or unsuitable, or no structure was found.
        OSError: the disk is full.
    """
    check_highdicom()
    series, images = source_series(subject), evidence_images(subject)
    present = [s for s in STRUCTURES if (subject.result.labels == s.label).any()]
    if not present:
        raise OutputError(_("DICOM SEG needs at least one structure, but none was found: omit dicom-seg from --format"))
    numbers = np.zeros(256, np.uint8)
    numbers[[s.label for s in present]] = np.arange(1, len(present) + 1)  # DICOM segment numbers are consecutive
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


def evidence_images(subject: Subject) -> list[Any]:
    """Read the headers of the images that were segmented, in slice order; without the patient if it is anonymized.

    Raises:
        OutputError: the series is missing or lacks what a DICOM object needs.
    """
    source = source_of(subject)
    images = _images(source_series(subject), source.frame)
    if source.anonymize:
        _remove_patient(images)
    return images


def _images(series: Series, frame: int | None) -> list[Any]:
    """Read the headers of the images, one per file, in slice order."""
    import pydicom

    images = [pydicom.dcmread(file, stop_before_pixels=True) for file in series.files_of(frame)]
    lacking = [n for n in ("FrameOfReferenceUID", "StudyInstanceUID", "PatientID") if not images[0].get(n)]
    if lacking:
        raise OutputError(
            _(
                "DICOM series {key} lacks {lacking}, required by DICOM SEG: export the series from the archive again"
            ).format(key=series.key, lacking=", ".join(lacking))
        )
    for image in images:
        for name in _TYPE_2:
            if name not in image:
                setattr(image, name, "")
    return images


def _remove_patient(images: list[Any]) -> None:
    """Take whatever may name the patient or the visit out of the headers that a segmentation repeats.

    That is every text, age, size and weight, and the birth date. UIDs, codes, and dates of the study stay: a
    segmentation must refer to its images (PS3.3 C.8.20.2).
    """
    for image in images:
        for element in list(image):
            if element.VR in _TEXTS or element.keyword in ("PatientSize", "PatientWeight"):
                del image[element.tag]
        for name in _TYPE_2:
            if name not in image:
                setattr(image, name, "")
        image.PatientName, image.PatientID, image.PatientBirthDate = "Anonymous", "ANONYMOUS", ""


def _labels_on_images(labels: np.ndarray, images: list[Any], geometry: Geometry) -> np.ndarray:
    """Labels on the pixels of the image frames, ``(frames, rows, columns)``.

    A scan with uneven slice spacing is segmented on a resampled grid; the nearest voxel is used.

    Raises:
        OutputError: an image has no matching slice.
    """
    starts = np.rint(geometry.world_to_index(_positions(images))).astype(int)
    if starts[:, 0].min() < 0 or starts[:, 0].max() >= geometry.shape[0]:
        raise OutputError(
            _(
                "some of the {count} images of the DICOM series are outside the {slices} slices of the "
                "segmentation: give the series that was segmented with --scan"
            ).format(count=len(starts), slices=geometry.shape[0])
        )
    out = np.zeros((len(starts), int(images[0].Rows), int(images[0].Columns)), labels.dtype)
    for frame, (z, y, x) in zip(out, starts, strict=True):
        rows, columns = np.arange(frame.shape[0]) + y, np.arange(frame.shape[1]) + x
        inside_y = (rows >= 0) & (rows < labels.shape[1])
        inside_x = (columns >= 0) & (columns < labels.shape[2])
        frame[np.ix_(inside_y, inside_x)] = labels[z][np.ix_(rows[inside_y], columns[inside_x])]
    return out


def _positions(images: list[Any]) -> np.ndarray:
    """Image Position (Patient) of each frame, ``(n, 3)``, LPS, mm."""
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
    """Write slices of several series, or one phase of a multi-frame file: the grid defines the frame positions.

    All images are referenced; highdicom requires the source images that define frame positions to be from one series.
    """
    import highdicom as hd

    affine = geometry.affine[:, [2, 1, 0, 3]]  # from (slice, row, column) to LPS
    uid = images[0].FrameOfReferenceUID
    grid = hd.Volume(labels, affine, hd.CoordinateSystemNames.PATIENT, frame_of_reference_uid=uid)
    first = [image for image in images if image.SeriesInstanceUID == images[0].SeriesInstanceUID]
    rest = [image for image in images if image.SeriesInstanceUID != images[0].SeriesInstanceUID]
    return _segmentation(first, grid, segments, further_source_images=rest)


def _segmentation(images: list[Any], pixels: Any, segments: list[Any], **more: Any) -> Any:
    """Create the data set from segment numbers: uint8 ``(frames, rows, columns)`` in image order, or a volume."""
    import highdicom as hd

    with writing_dicom("DICOM SEG", "dicom-seg"):
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
    dataset.SeriesDescription = SERIES_DESCRIPTION
    return dataset
