"""DICOM SR: pydicom and highdicom read every number with its unit and code, and the segment that it refers to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES, structure
from heartseg.export import Subject, measured, study_of, write_report_files
from heartseg.export.dicom_seg import write_dicom_seg
from heartseg.export.dicom_sr import OWN_SCHEME, write_dicom_sr
from heartseg.export.subject import subject_of
from heartseg.measure import Circumstances, Patient
from heartseg.measure.norms import Norm
from heartseg.measure.study import Study
from heartseg.quantities import quantity
from heartseg.report.model import Interval, Number
from heartseg.report.numbers import numbers_of
from heartseg.result import Measure, Result
from heartseg.volume import read_volume
from volume.conftest import dicom_series as _dicom_series

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom", reason='needs highdicom: pip install "heartseg[dicom]"')

dicom_series = _dicom_series
Written = tuple[tuple[Number, ...], Path, Path, Subject]


@pytest.fixture
def written(dicom_series: Callable[..., Path], tmp_path: Path) -> Written:
    """Numbers, segmentation and structured report of four boxes."""
    volume = read_volume(dicom_series(slices=24, PatientID="7", PatientName="A^B"))
    labels = np.zeros(volume.geometry.shape, np.uint8)
    labels[2:14, 3:18, 5:20], labels[14:20, 20:28, 6:15], labels[6:16, 24:30, 22:41] = 1, 5, 3
    subject = measured(subject_of(Result(labels, volume.geometry, STRUCTURES), volume))
    numbers = numbers_of(study_of(subject), ())
    segmentation = write_dicom_seg(subject, tmp_path / "segmentation.dcm")
    return numbers, segmentation, write_dicom_sr(numbers, subject, segmentation, tmp_path / "measurements.dcm"), subject


def numbers_in(path: Path) -> dict[tuple[str, str], tuple[float, str]]:
    """Structure key and code value -> value and unit, from the content tree alone."""
    keys = {s.snomed_code: s.key for s in STRUCTURES}
    found = {}
    report = hd.sr.srread(path)
    for group in (
        *report.content.get_volumetric_roi_measurement_groups(),
        *report.content.get_image_measurement_groups(),
    ):
        key = keys[group.finding_type.value]
        for m in group.get_measurements():
            name = m.name.value + "".join(site.value.value for site in m.finding_sites)
            assert (key, name) not in found
            found[key, name] = (m.value, m.unit.value)
    return found


def test_every_value_of_the_report_is_there_once(written: Written) -> None:
    numbers, _, path, _ = written
    found = numbers_in(path)
    expected = [n for n in numbers if n.value is not None]
    assert len(found) == len(expected)
    for n in expected:
        known = quantity(n.structure, n.quantity)
        assert known is not None
        site = known.site.value if known.site.value != structure(n.structure).snomed_code else ""
        value, unit = found[n.structure, (known.code.value if known.code else n.quantity) + site]
        assert value == pytest.approx(n.value, rel=1e-12)
        assert unit == {"HU": "[hnsf'U]", "": "1", "cm²": "cm2"}.get(n.unit, n.unit)


def test_groups_refer_to_the_segments_of_the_segmentation(written: Written) -> None:
    _, segmentation, path, _ = written
    segments = pydicom.dcmread(segmentation)
    codes = {int(s.SegmentNumber): s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in segments.SegmentSequence}
    groups = hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 3
    for group in groups:
        (item,) = [item for item in group[0].ContentSequence if "ReferencedSOPSequence" in item and _segment(item)]
        assert item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == segments.SOPInstanceUID
        assert codes[_segment(item)] == group.finding_type.value


def _segment(item: Any) -> int | None:
    """Return the number of the segment to which a content item refers."""
    number = item.ReferencedSOPSequence[0].get("ReferencedSegmentNumber")
    return None if number is None else int(number)


def test_patient_and_study_are_those_of_the_images(written: Written) -> None:
    _, segmentation, path, _ = written
    one, other = pydicom.dcmread(segmentation), pydicom.dcmread(path)
    for name in ("PatientID", "PatientName", "StudyInstanceUID"):
        assert one[name].value == other[name].value
    assert one.SeriesInstanceUID != other.SeriesInstanceUID


def test_the_function_of_a_series_has_groups_without_a_segment(written: Written, tmp_path: Path) -> None:
    _, segmentation, _, subject = written
    measures = (
        Measure("LV", "edv", 188.25, "mL"),
        Measure("LV", "ejection_fraction", 62.5, "%"),
        Measure("LA", "max_volume", 80.0, "mL"),
        Measure("LV", "cardiac_output", None, "L/min"),
    )
    study = Study(measures, None, None, Patient(), Circumstances("MR", "cycle"))
    found = numbers_in(write_dicom_sr(numbers_of(study, ()), subject, segmentation, tmp_path / "function.dcm"))
    assert found == {
        ("LV", "8821-1"): (188.25, "mL"),
        ("LV", "70822001"): (62.5, "%"),
        ("LA", "max_volume"): (80.0, "mL"),
    }


def test_a_number_has_its_reference_range_and_interval(written: Written, tmp_path: Path) -> None:
    numbers, segmentation, _, subject = written
    norm = Norm("LV", "volume", "mL", "F", "any", "CT", 50.5, 150.0, "97.5th percentile", 10, "A et al. 2016", "10.1/2")
    upper = replace(norm, structure="LA", low=None)
    compared = [
        replace(n, norm=norm, position="within", interval=Interval(n.value - 1, n.value + 2))
        if (n.structure, n.quantity) == ("LV", "volume") and n.value is not None
        else replace(n, norm=upper, position="above")
        if (n.structure, n.quantity) == ("LA", "volume")
        else n
        for n in numbers
    ]
    path = write_dicom_sr(compared, subject, segmentation, tmp_path / "ranges.dcm")
    found = {}
    for group in hd.sr.srread(path).content.get_volumetric_roi_measurement_groups():
        for m in group.get_measurements():
            parts = {i.ConceptNameCodeSequence[0].CodeMeaning: i for i in m[0].get("ContentSequence", [])}
            if "Normal Range Upper Limit" in parts:
                found[group.finding_type.value] = parts
    lv, la = (found[structure(key).snomed_code] for key in ("LV", "LA"))
    for parts, limits in ((lv, {"Lower": 50.5, "Upper": 150.0}), (la, {"Upper": 150.0})):
        limit_items = {k: i for k, i in parts.items() if k.startswith("Normal Range") and k.endswith("Limit")}
        values = {k: float(i.MeasuredValueSequence[0].NumericValue) for k, i in limit_items.items()}
        assert values == {f"Normal Range {k} Limit": v for k, v in limits.items()}
        assert parts["Normal Range Authority"].TextValue == "A et al. 2016, doi:10.1/2"
    assert [p["Normality"].ConceptCodeSequence[0].CodeValue for p in (lv, la)] == ["281301001", "281302008"]
    uncertainty = [float(i.MeasuredValueSequence[0].NumericValue) for k, i in lv.items() if "uncertainty" in k]
    assert sorted(uncertainty) == pytest.approx([1, 2])
    assert errors_of(path) == []


def test_numbers_are_written_without_pictures(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither matplotlib nor VTK is needed."""
    for name in ("matplotlib", "contourpy", "vtk", "vtkmodules"):
        monkeypatch.setitem(sys.modules, name, None)
    numbers, _, _, subject = written
    files = write_report_files(subject, study_of(subject), tmp_path / "report", ["dicom-sr"])
    assert files == ("measurements.dcm", "measures.json", "segmentation.dcm")
    assert len(numbers_in(tmp_path / "report" / "measurements.dcm")) == len([n for n in numbers if n.value is not None])


def test_own_codes_name_their_scheme(written: Written) -> None:
    schemes = set()
    for group in hd.sr.srread(written[2]).content.get_volumetric_roi_measurement_groups():
        schemes |= {m.name.scheme_designator for m in group.get_measurements()}
    assert schemes <= {"SCT", "LN", "DCM", OWN_SCHEME}


def errors_of(path: Path) -> list[str]:
    """Errors that dciodvfy finds in a file; none where it is not installed (Debian: dicom3tools)."""
    if shutil.which("dciodvfy") is None:
        return []
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    assert len(lines) > 0
    return [line for line in lines if line.startswith("Error")]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian: dicom3tools)")
def test_dciodvfy_finds_no_error(written: Written) -> None:
    assert [errors_of(path) for path in written[1:3]] == [[], []]
