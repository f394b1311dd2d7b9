"""One record per image plane, which is a separate file or a frame of a multi-frame file.

Classic objects store attributes in the data set (PS3.3 C.7.6.1, C.7.6.2). Enhanced and legacy-converted objects store
them in functional groups: per frame or shared by all frames (PS3.3 C.7.6.16). Converters store attributes without
another place in "unassigned converted attributes" (PS3.3 C.7.6.16.2.25.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..patient import Patient, stated_patient

if TYPE_CHECKING:
    from pydicom import Dataset

_SPATIAL_DIMENSIONS = ("StackID", "InStackPositionNumber", "ImagePositionPatient", "SliceLocation")
SECONDS_PER_DAY = 86400.0
MOST_FRAMES = 20_000
"""A number of frames above this is regarded as damaged."""


@dataclass(frozen=True, eq=False)
class ImageFile:
    """Attributes of one file that apply to all of its frames.

    Attributes:
        path: the file.
        uid: SOP instance UID.
        series_uid, study_uid, frame_of_reference: UIDs, empty if missing.
        patient: patient ID, name (upper case, without separators) and birth date.
        patient_age: years, ``None`` if missing.
        body: sex and body size.
        modality, description: as stored.
        number: series number, ``None`` if missing.
        sop_class: SOP class UID.
        photometric: photometric interpretation.
        size: columns and rows.
        frames: number of frames.
        multi_frame: whether attributes are in functional groups or the file contains several frames.
        lut: whether a lookup table converts its stored values (PS3.3 C.11.1), instead of slope and intercept.
    """

    path: Path
    uid: str
    series_uid: str
    study_uid: str
    frame_of_reference: str
    patient: tuple[str, str, str]
    patient_age: float | None
    body: Patient
    modality: str
    description: str
    number: int | None
    sop_class: str
    photometric: str
    size: tuple[int, int]
    frames: int
    multi_frame: bool
    lut: bool = False


@dataclass(frozen=True, eq=False)
class Plane:
    """One image plane.

    Attributes:
        file: file that contains the plane.
        index: index of the frame in the file, from 0.
        position: LPS mm of the centre of the first voxel; ``None`` if missing (PS3.3 C.7.6.2.1.1).
        orientation: direction cosines of row and column, 6 numbers; ``None`` if missing.
        spacing: mm between columns (x) and between rows (y); ``None`` if missing or not positive.
        slope, intercept: modality transformation (PS3.3 C.11.1); NaN if they are not numbers.
        image_type, kernel: as stored, joined.
        marks: further attributes that may separate scans with one series UID: name -> value.
        times: attributes that may distinguish phases: name (see :mod:`.phases`) -> number; the ``"beat"``,
            ms, and the ``"heart rate"``, beats per minute.
        instance: instance number, ``None`` if missing.
        rescaled: whether a slope, an intercept or a lookup table is stated.
    """

    file: ImageFile
    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    slope: float
    intercept: float
    image_type: str
    kernel: str
    marks: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)
    instance: int | None = None
    rescaled: bool = True

    @property
    def path(self) -> Path:
        return self.file.path


def planes_of(path: Path, head: Dataset) -> list[Plane]:
    """Return the planes of one file, in stored order."""
    frames = max(1, int(_number(head.get("NumberOfFrames")) or 1))
    groups = head.get("PerFrameFunctionalGroupsSequence") or []
    if frames > MOST_FRAMES or (groups and frames != len(groups)):
        raise ValueError(f"number of frames {frames}, functional groups of {len(groups)}")
    shared = head.get("SharedFunctionalGroupsSequence") or []
    base = _Attributes([*(_layers(shared[0]) if shared else ()), head])
    file = _image_file(path, head, frames, bool(groups) or frames > 1)
    dimensions = _time_dimensions(head)
    planes = []
    for k in range(frames):
        own = _Attributes(list(_layers(groups[k])), base) if k < len(groups) else base
        planes.append(_plane(file, k, own, dimensions))
    return planes


class _Attributes:
    """Attributes of a frame: its own functional groups first, then those shared by all frames."""

    def __init__(self, layers: list[Dataset], base: _Attributes | None = None) -> None:
        self._layers, self._base = layers, base
        self._known: dict[str, Any] = {}

    def get(self, keyword: str) -> Any:
        """Return the first value that is not empty, or ``None``."""
        if self._base is None and keyword in self._known:
            return self._known[keyword]
        value = next((v for layer in self._layers if not _empty(v := _value(layer, keyword))), None)
        if value is None and self._base is not None:
            return self._base.get(keyword)
        self._known[keyword] = value
        return value

    def text(self, keyword: str) -> str:
        value = self.get(keyword)
        if value is None:
            return ""
        return "\\".join(map(str, value)) if _is_list(value) else str(value).strip()

    def number(self, keyword: str) -> float | None:
        return _number(self.get(keyword))

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Return exactly ``count`` finite numbers, or ``None``."""
        value = self.get(keyword)
        if not _is_list(value) or len(value) != count:
            return None
        found = [_number(v) for v in value]
        return None if None in found else tuple(v for v in found if v is not None)


def _layers(group: Dataset) -> Iterator[Dataset]:
    """Return the items of a frame's functional groups, and of sequences in converted attributes, each a data set."""
    for element in group:
        if element.VR == "SQ" and element.value:
            yield element.value[0]


@cache
def _tag(keyword: str) -> Any:
    from pydicom.tag import Tag

    return Tag(keyword)


def _value(data: Dataset, keyword: str) -> Any:
    try:
        tag = _tag(keyword)  # three times as fast as access by keyword
        return data[tag].value if tag in data else None
    except Exception:  # pydicom converts values on access, and raises many exception types for damaged ones
        return None


def _empty(value: Any) -> bool:
    return value is None or value == "" or (_is_list(value) and len(value) == 0)


def _is_list(value: Any) -> bool:
    return not isinstance(value, str | bytes) and hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _image_file(path: Path, head: Dataset, frames: int, multi_frame: bool) -> ImageFile:
    attributes = _Attributes([head])
    number = attributes.number("SeriesNumber")
    return ImageFile(
        path=path,
        uid=attributes.text("SOPInstanceUID"),
        series_uid=attributes.text("SeriesInstanceUID"),
        study_uid=attributes.text("StudyInstanceUID"),
        frame_of_reference=attributes.text("FrameOfReferenceUID"),
        patient=(
            attributes.text("PatientID"),
            " ".join(attributes.text("PatientName").replace("^", " ").upper().split()),
            attributes.text("PatientBirthDate"),
        ),
        patient_age=_years(attributes.text("PatientAge")),
        body=_body(attributes),
        modality=attributes.text("Modality"),
        description=attributes.text("SeriesDescription"),
        number=None if number is None else int(number),
        sop_class=attributes.text("SOPClassUID"),
        photometric=attributes.text("PhotometricInterpretation") or "MONOCHROME2",
        size=(int(head.Columns), int(head.Rows)),
        frames=frames,
        multi_frame=multi_frame,
        lut=not _empty(attributes.get("ModalityLUTSequence")),
    )


def _body(attributes: _Attributes) -> Patient:
    """Return sex, size (stored in m) and weight (PS3.3 C.7.1.1, C.7.2.2)."""
    size = attributes.number("PatientSize")
    return stated_patient(
        attributes.text("PatientSex"),
        None if size is None else round(100.0 * size, 3),
        attributes.number("PatientWeight"),
    )


def _plane(file: ImageFile, index: int, own: _Attributes, dimensions: tuple[int, ...]) -> Plane:
    gaps = own.numbers("PixelSpacing", 2)
    stated = {} if file.lut else {name: own.get(name) for name in ("RescaleSlope", "RescaleIntercept")}
    instance = own.number("InstanceNumber")
    return Plane(
        file=file,
        index=index,
        position=own.numbers("ImagePositionPatient", 3),
        orientation=own.numbers("ImageOrientationPatient", 6),
        spacing=(gaps[1], gaps[0]) if gaps and min(gaps) > 0 else None,
        slope=_or_default(stated.get("RescaleSlope"), 1.0),
        intercept=_or_default(stated.get("RescaleIntercept"), 0.0),
        image_type=own.text("FrameType") or own.text("ImageType"),
        kernel=own.text("ConvolutionKernel"),
        marks={name: text for name, keyword in MARKS.items() if (text := _rounded(own.text(keyword)))},
        times=_times(own, dimensions),
        instance=None if instance is None else int(instance),
        rescaled=file.lut or any(value is not None for value in stated.values()),
    )


def _or_default(stored: Any, default: float) -> float:
    """Return the stored number, the default if nothing is stored, and NaN for something that is not a number."""
    number = _number(stored)
    return number if number is not None else default if stored is None else math.nan


MARKS = {
    "acquisition number": "AcquisitionNumber",
    "stack": "StackID",
    "echo time": "EchoTime",
    "effective echo time": "EffectiveEchoTime",
    "inversion time": "InversionTime",
    "b-value": "DiffusionBValue",
    "slice thickness": "SliceThickness",
    "tube voltage": "KVP",
    "complex component": "ComplexImageComponent",
}
"""Attributes that may separate scans with one series UID: displayed name -> keyword."""


def _rounded(text: str) -> str:
    """Format fractions with three digits, so that the last digits of an echo time do not separate images."""
    number = _number(text) if text else None
    return text if number is None else f"{number:.0f}" if number.is_integer() else f"{number:.3g}"


def _times(own: _Attributes, dimensions: tuple[int, ...]) -> dict[str, float]:
    found = {name: _first_number(own, keywords) for name, keywords in _TIME_NUMBERS.items()}
    found["acquisition time"] = _moment(own, ("FrameAcquisitionDateTime", "AcquisitionDateTime"), "Acquisition")
    found["content time"] = _moment(own, (), "Content")
    values = own.get("DimensionIndexValues")
    if dimensions and values is not None:
        values = values if _is_list(values) else [values]
        if max(dimensions) < len(values):
            found["dimension index"] = sum(float(values[d]) * 1e5**-k for k, d in enumerate(dimensions))
    return {name: value for name, value in found.items() if value is not None}


_TIME_NUMBERS = {
    "temporal position": ("TemporalPositionIdentifier", "TemporalPositionIndex", "TemporalPositionTimeOffset"),
    "cardiac phase": ("NominalPercentageOfCardiacPhase",),
    "trigger delay": ("NominalCardiacTriggerDelayTime", "TriggerTime", "ActualCardiacTriggerDelayTime"),
    "beat": ("RRIntervalTimeNominal", "NominalInterval", "CardiacRRIntervalSpecified"),
    "heart rate": ("HeartRate",),
}


def _first_number(own: _Attributes, keywords: tuple[str, ...]) -> float | None:
    return next((n for keyword in keywords if (n := own.number(keyword)) is not None), None)


def _moment(own: _Attributes, moments: tuple[str, ...], prefix: str) -> float | None:
    """Return seconds of a DT, or of a DA and a TM attribute (PS3.5, 6.2), from an arbitrary zero."""
    for keyword in moments:
        if text := own.text(keyword):
            return _seconds(text[:8], text[8:])
    time = own.text(f"{prefix}Time")
    return _seconds(own.text(f"{prefix}Date"), time) if time else None


def _seconds(day: str, time: str) -> float | None:
    digits = time.split("+")[0].split("-")[0].strip().replace(":", "")
    whole = digits.split(".")[0].ljust(6, "0")
    try:
        fraction = float("0." + digits.split(".")[1]) if "." in digits else 0.0
        seconds = 3600.0 * int(whole[:2]) + 60.0 * int(whole[2:4]) + int(whole[4:6]) + fraction
        return seconds + (date(int(day[:4]), int(day[4:6]), int(day[6:8])).toordinal() * SECONDS_PER_DAY if day else 0)
    except (ValueError, IndexError):
        return None


def _time_dimensions(head: Dataset) -> tuple[int, ...]:
    """Return which dimension indices of the frames are not spatial (PS3.3 C.7.6.17)."""
    from pydicom.datadict import keyword_for_tag

    found = []
    for k, item in enumerate(head.get("DimensionIndexSequence") or []):
        pointer = _value(item, "DimensionIndexPointer")
        if pointer is None or keyword_for_tag(pointer) not in _SPATIAL_DIMENSIONS:
            found.append(k)
    return tuple(found)


def _years(age: str) -> float | None:
    """Return the years of an AS value such as ``"053Y"``, ``"018M"``, ``"003W"``, ``"002D"`` (PS3.5, 6.2)."""
    days = {"Y": 365.25, "M": 30.44, "W": 7.0, "D": 1.0}.get(age[-1:].upper())
    number = _number(age[:-1])
    return None if days is None or number is None else number * days / 365.25
