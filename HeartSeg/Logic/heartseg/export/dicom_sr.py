"""DICOM structured reports with the numbers of a result (TID 1500), referring to the DICOM Segmentation beside them.

Written with highdicom (Bridge et al., J Digit Imaging 2022). Measures without a code of SNOMED CT, LOINC or DICOM have
one of the scheme ``99HEARTSEG``, whose code values are the quantities of ``report.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..anatomy import Structure, structure
from ..errors import OutputError
from ..quantities import quantity
from ..report.model import Number
from ..version import __version__
from ..wording import _
from .dicom_seg import MANUFACTURER, SERIES_NUMBER, check_highdicom, evidence_images, writing_dicom
from .subject import Subject

if TYPE_CHECKING:
    from pydicom import Dataset

SR_FILE = "measurements.dcm"
SERIES_DESCRIPTION = "HeartSeg measurements, research use only"
OWN_SCHEME = "99HEARTSEG"
_LOWER = ("385524004", "SCT", "Normal Range Lower Limit")
_UPPER = ("371933006", "SCT", "Normal Range Upper Limit")
_NORMALITY = {
    "below": ("281300000", "SCT", "Below reference range"),
    "within": ("281301001", "SCT", "Within reference range"),
    "above": ("281302008", "SCT", "Above reference range"),
}
_UNITS = {
    "mL": ("mL", "milliliter"),
    "g": ("g", "gram"),
    "mm": ("mm", "millimeter"),
    "cm²": ("cm2", "square centimeter"),
    "%": ("%", "percent"),
    "deg": ("deg", "degree"),
    "HU": ("[hnsf'U]", "Hounsfield unit"),
    "": ("1", "no units"),
    "mL/m²": ("mL/m2", "milliliter per square meter"),
    "g/m²": ("g/m2", "gram per square meter"),
    "L/min": ("L/min", "liter per minute"),
    "L/min/m²": ("L/min/m2", "liter per minute per square meter"),
}


def write_dicom_sr(numbers: Sequence[Number], subject: Subject, segmentation: Path, path: Path) -> Path:
    """Write a Comprehensive 3D SR with every number that has a value.

    Args:
        numbers: the numbers, see :func:`heartseg.report.numbers.numbers_of`.
        subject: segmentation with its scan, which must have been read from a DICOM series.
        segmentation: DICOM Segmentation of the subject; its segments are recognized by their SNOMED CT codes.
        path: file to write.

    Raises:
        DependencyError: highdicom is not installed.
        OutputError: the series is missing or unsuitable, or there is no number.
    """
    check_highdicom()
    import highdicom as hd
    import pydicom

    images, segments = evidence_images(subject), pydicom.dcmread(segmentation)
    groups = _groups(numbers, segments)
    if not groups:
        raise OutputError(_("DICOM SR needs at least one number, but none was measured: omit dicom-sr from --format"))
    with writing_dicom("DICOM SR", "dicom-sr"):
        dataset = hd.sr.Comprehensive3DSR(
            evidence=[segments, *images],
            content=_content(groups),
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER + 1,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            is_complete=True,
            is_verified=False,
        )
    dataset.SeriesDescription = SERIES_DESCRIPTION
    dataset.SoftwareVersions = __version__
    dataset.ManufacturerModelName = MANUFACTURER
    dataset.save_as(path)
    return path


def _content(groups: Sequence[Any]) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    device = hd.sr.ObserverContext(
        codes.DCM.Device,
        hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(), name=f"HeartSeg {__version__}", manufacturer_name=MANUFACTURER, model_name=MANUFACTURER
        ),
    )
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=hd.sr.CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )


def _groups(measured: Sequence[Number], segments: Dataset) -> list[Any]:
    """Return a group for each segment, and one for each structure that has numbers of the cardiac cycle."""
    import highdicom as hd

    numbers = {s.SegmentedPropertyTypeCodeSequence[0].CodeValue: int(s.SegmentNumber) for s in segments.SegmentSequence}
    groups: list[Any] = []
    for key in dict.fromkeys(n.structure for n in measured):
        known = structure(key)
        own = [n for n in measured if n.structure == key and n.value is not None]
        cycle = [n for n in own if _is_of_cycle(n)]
        still = [n for n in own if not _is_of_cycle(n)]
        code = hd.sr.CodedConcept(known.snomed_code, "SCT", known.snomed_meaning)
        if still and known.snomed_code in numbers:
            groups.append(
                hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                    tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), f"HeartSeg {key}"),
                    referenced_segment=hd.sr.ReferencedSegment.from_segmentation(segments, numbers[known.snomed_code]),
                    finding_type=code,
                    algorithm_id=hd.sr.AlgorithmIdentification("HeartSeg", __version__),
                    measurements=[_measurement(n) for n in still],
                )
            )
        if cycle:
            groups.append(_group_of_the_cycle(known, cycle))
    return groups


def _is_of_cycle(number: Number) -> bool:
    known = quantity(number.structure, number.quantity)
    return known is not None and known.of_cycle


def _group_of_the_cycle(known: Structure, numbers: Sequence[Number]) -> Any:
    import highdicom as hd

    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), f"HeartSeg {known.key} cardiac cycle"),
        finding_type=hd.sr.CodedConcept(known.snomed_code, "SCT", known.snomed_meaning),
        algorithm_id=hd.sr.AlgorithmIdentification("HeartSeg", __version__),
        measurements=[_measurement(n) for n in numbers],
    )


def _measurement(number: Number) -> Any:
    import highdicom as hd

    assert number.value is not None
    known = quantity(number.structure, number.quantity)
    code = None if known is None else known.code
    name = (code.value, code.scheme, code.meaning) if code else (number.quantity, OWN_SCHEME, number.name[:64])
    site = None
    if known is not None and known.site.value != structure(number.structure).snomed_code:  # one of the 17 segments
        site = [hd.sr.FindingSite(hd.sr.CodedConcept(known.site.value, known.site.scheme, known.site.meaning))]
    unit, meaning = _UNITS[number.unit]
    units = hd.sr.CodedConcept(unit, "UCUM", meaning)
    return hd.sr.Measurement(
        name=hd.sr.CodedConcept(*name),
        value=number.value,
        unit=units,
        properties=_properties(number, number.value, units),
        finding_sites=site,
    )


def _properties(number: Number, value: float, units: Any) -> Any:
    """Return the interval of a number and the range to which it is compared; ``None`` without both."""
    import highdicom as hd

    known: dict[str, Any] = {}
    if number.interval is not None:
        known["upper_measurement_uncertainty"] = max(0.0, number.interval.high - value)
        known["lower_measurement_uncertainty"] = max(0.0, value - number.interval.low)
    if number.norm is not None:
        norm, within = number.norm, hd.sr.RelationshipTypeValues.HAS_PROPERTIES
        known["normality"] = hd.sr.CodedConcept(*_NORMALITY[number.position])
        known["normal_range_properties"] = hd.sr.NormalRangeProperties(
            values=[
                hd.sr.NumContentItem(
                    hd.sr.CodedConcept(*name),
                    limit,
                    units,
                    relationship_type=within,
                )
                for name, limit in ((_LOWER, norm.low), (_UPPER, norm.high))
                if limit is not None
            ],
            description=f"{norm.text} ({norm.basis})",
            authority=f"{norm.source}, doi:{norm.doi}" if norm.doi else norm.source,
        )
    return hd.sr.MeasurementProperties(**known) if known else None
