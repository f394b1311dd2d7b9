"""Results of ``--anonymize`` do not identify the patient: names, IDs, dates, descriptions and file names are absent."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from heartseg import read_volume
from heartseg.cli.cases import list_cases
from heartseg.export import open_subject
from heartseg.export.formats import FORMATS
from heartseg.marks import Mark, write_marks
from heartseg.output import write_result
from heartseg.pipeline import input_facts
from heartseg.provenance import Provenance
from heartseg.result import Result
from heartseg.volume import Geometry, Volume, write_volume
from tiny_models import synthetic_volume

if TYPE_CHECKING:
    from cli.conftest import Outcome

SECRETS = ("Qwertz", "Zugspitz", "PID7Q7Q", "19310203", "Kolibri", "Pinguin", "Narwal", "Okapi", "Wombat")
"""Name, ID and birth date of the patient, series description, folder, file, other series, other texts."""
TEXTS = ("PatientComments", "InstitutionName", "StudyDescription", "OtherPatientIDs", "AccessionNumber", "StudyID")
MORE_TEXTS = ("ReferringPhysicianName", "OperatorsName", "ProtocolName", "StationName", "PatientAddress", "Occupation")


def identify(folder: Path, description: str = "Kolibri chest") -> Path:
    """Give the files of a DICOM series the secrets, in headers and names."""
    for k, path in enumerate(sorted(folder.glob("*.dcm"))):
        data = pydicom.dcmread(path)
        data.PatientName, data.PatientID, data.PatientBirthDate = "Qwertz^Zugspitz", "PID7Q7Q", "19310203"
        data.PatientSex, data.StudyDate, data.StudyTime = "O", "20260101", "120000"
        data.SeriesDescription = description
        for keyword in (*TEXTS, *MORE_TEXTS):
            setattr(data, keyword, "Wombat")
        data.save_as(path.rename(path.with_name(f"Narwal{k:03}.dcm")))
    return folder


@pytest.fixture
def patient(save_dicom: Callable[..., Path]) -> Path:
    """A folder with a scan, a damaged file and a series of one slice, which leads to findings and reading reports."""
    folder = identify(save_dicom("Pinguin"))
    for path in save_dicom("other", slices=1, number=7).glob("*.dcm"):
        data = pydicom.dcmread(path)
        data.SeriesDescription = "Okapi"
        data.save_as(folder / "Narwal_other.dcm")
        path.unlink()
    whole = (folder / "Narwal000.dcm").read_bytes()
    (folder / "Okapi.dcm").write_bytes(whole[:200])
    return folder


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, as stored and decompressed."""
    stored = path.read_bytes()
    yield stored
    if path.name.endswith(".gz"):
        yield gzip.decompress(stored)
    for stream in re.findall(rb"/FlateDecode.*?stream\n(.*?)\nendstream", stored, re.DOTALL):  # PDF
        yield zlib.decompress(stream)
    start = 0
    while stored.startswith(b"\x89PNG") and (start := stored.find(b"zTXt", start + 1)) > 0:
        length = int.from_bytes(stored[start - 4 : start], "big")
        yield zlib.decompress(stored[start + 4 : start + 4 + length].split(b"\0", 1)[1][1:])


def assert_anonymous(out: Path, *printed: str) -> None:
    """Check names and contents of all files in a folder, and printed texts."""
    files = [path for path in out.rglob("*") if path.is_file()]
    assert files
    for path in files:
        for content in (str(path.relative_to(out)).encode(), *contents(path)):
            found = [secret for secret in SECRETS if secret.lower().encode() in content.lower()]
            assert not found, f"{path.name}: {found}"
    assert not [secret for secret in SECRETS for text in printed if secret.lower() in text.lower()]


def test_no_file_of_a_run_and_of_an_export_identifies_the_patient(
    heartseg: Callable[..., Outcome], patient: Path, tmp_path: Path, tiny_model: Path
) -> None:
    arguments = ("segment", patient, "-o", tmp_path / "out", "--model", tiny_model, "--anonymize")
    outcome = heartseg("-v", *arguments, "--format", ",".join([*FORMATS, "confidence"]))
    assert outcome.code == 0, outcome
    assert (tmp_path / "out" / "segmentation.dcm").is_file()
    assert {"series-chosen", "files-left-out"} <= {
        f["code"] for f in json.loads((tmp_path / "out" / "report.json").read_text())["findings"]
    }
    assert_anonymous(tmp_path / "out", outcome.out, outcome.err)
    formats = ("--format", "dicom-seg,seg,labels,csv,preview")
    outcome = heartseg("export", tmp_path / "out", "-o", tmp_path / "export", "--scan", patient, *formats)
    assert outcome.code == 0, outcome
    assert (tmp_path / "export" / "segmentation.dcm").is_file()
    assert_anonymous(tmp_path / "export", outcome.out, outcome.err)


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """A NIfTI file of 1 mm voxels without orientation and with a slice too many: findings on the file."""
    image, _ = synthetic_volume(3, (56, 56, 56), 5)
    folder = tmp_path / "Pinguin"
    folder.mkdir()
    volume = Volume(image.astype(np.int16), Geometry(image.shape, (1.0, 1.0, 1.0)))
    path = write_volume(volume, folder / "Narwal_PID7Q7Q.nii")
    stored = bytearray(path.read_bytes())
    stored[252:256] = bytes(4)  # qform_code and sform_code of NIfTI-1
    path.write_bytes(bytes(stored) + bytes(image[0].size * 2))
    return path


def test_no_file_that_any_command_writes_for_an_anonymized_image_file_holds_its_name(
    heartseg: Callable[..., Outcome], doubtful: Path, tmp_path: Path, tiny_model: Path
) -> None:
    out, every = tmp_path / "out", ",".join([*FORMATS, "confidence"])
    every = every.replace("dicom-seg,", "").replace("dicom-sr,", "")  # of DICOM images only
    first = out / "first"
    assert heartseg("segment", doubtful, "-o", first, "--model", tiny_model, "--anonymize", "--format", every).code == 0
    found = {f["code"] for f in json.loads((first / "report.json").read_text())["findings"]}
    assert {"spacing-unknown", "voxels-left-over"} <= found
    voxel = read_volume(first / "labels.nii.gz")
    x, y, z = (float(v) for v in voxel.geometry.index_to_world(np.argwhere(voxel.array > 0)[0]))
    marks = write_marks([Mark("RV", ((x, y, z),))], tmp_path / "marks.mrk.json")
    given = ("--scan", doubtful)
    for command in (
        ("refine", first, "--marks", marks, *given, "--device", "cpu", "-o", out / "mended"),
        ("export", first, *given, "--format", "seg,csv,html", "-o", out / "export"),
        ("report", first, *given, "--format", "html,pdf", "-o", out / "report"),
        ("compare", first, out / "mended", "-o", out / "comparison"),
        ("measure", first, "-o", out / "measures"),
        ("segment", doubtful.parent, "--anonymize", "--model", tiny_model, "-o", out / "many", "--format", "csv"),
    ):
        outcome = heartseg(*command)
        assert outcome.code == 0, (command, outcome)
    assert_anonymous(out)


def test_without_anonymize_name_birth_date_and_id_are_in_the_dicom_objects_only(
    heartseg: Callable[..., Outcome], patient: Path, tmp_path: Path, tiny_model: Path
) -> None:
    identity = ("Qwertz", "Zugspitz", "PID7Q7Q", "19310203")
    every = ",".join([*FORMATS, "confidence"])
    out = tmp_path / "out"
    assert heartseg("segment", patient, "-o", out, "--model", tiny_model, "--format", every).code == 0
    assert heartseg("report", out, "-o", tmp_path / "report", "--format", "html,pdf,dicom-sr").code == 0
    assert heartseg("compare", out, out, "-o", tmp_path / "comparison").code == 0
    holding = {
        path.name
        for folder in ("out", "report", "comparison")
        for path in (tmp_path / folder).rglob("*")
        if path.is_file()
        and any(secret.lower().encode() in content.lower() for content in contents(path) for secret in identity)
    }
    assert holding == {"segmentation.dcm", "measurements.dcm"}
    stored = (out / "segmentation.dcm").read_bytes()
    assert all(secret.encode() in stored for secret in (*identity, "Wombat"))
    assert all(secret in (out / "report.json").read_text() for secret in ("Kolibri", "Pinguin", "Okapi"))
    with pytest.raises(AssertionError):
        assert_anonymous(out)
    (tmp_path / "pages").mkdir()
    for name in ("report.html", "report.pdf"):  # name neither scan nor series
        (out / name).rename(tmp_path / "pages" / name)
    assert_anonymous(tmp_path / "pages")


@pytest.mark.parametrize("choice", [{"series": 2}, {"frame": 1, "modality": "MR"}], ids=["series", "frame"])
def test_an_anonymized_result_is_paired_with_its_series_and_frame_and_not_named_after_its_folder(
    save_dicom: Callable[..., Path], save_series: Callable[..., Path], tmp_path: Path, choice: dict[str, Any]
) -> None:
    if "series" in choice:
        save_dicom("study/one", seed=5)
        path = save_dicom("study/two", seed=6, number=2).parent
    else:
        path = save_series()
    volume = read_volume(path, **choice).anonymized()
    facts = input_facts(volume)
    assert (facts.name, facts.path) == ("", "")
    result = Result(np.ones(volume.array.shape, np.uint8), volume.geometry, provenance=Provenance(input=facts))
    folder = tmp_path / "out" / "Pinguin"
    write_result(result, volume, folder, ["labels"])
    alone, paired = open_subject(folder), open_subject(folder, path)
    assert alone.volume is None and alone.name == paired.name == "scan"
    assert paired.volume is not None and paired.volume.source.sha256 == facts.sha256
    np.testing.assert_array_equal(paired.volume.array, volume.array)


@pytest.mark.usefixtures("batch_in_one_process")
def test_no_file_of_a_cohort_identifies_a_patient(
    heartseg: Callable[..., Outcome],
    save_scan: Callable[..., Path],
    save_dicom: Callable[..., Path],
    tmp_path: Path,
    tiny_model: Path,
) -> None:
    identify(save_dicom("scans/Pinguin"))
    save_scan("scans/Narwal.nii.gz")
    (tmp_path / "scans" / "Okapi.nii.gz").write_bytes(b"no image")
    outcome = heartseg("segment", tmp_path / "scans", "-o", tmp_path / "out", "--model", tiny_model, "--anonymize")
    assert outcome.code == 1, outcome
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scan_1", "scan_3", "summary.csv"}
    assert_anonymous(tmp_path / "out", outcome.out, outcome.err)


def test_scans_are_numbered_in_their_order_unless_a_list_names_them(
    save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        save_scan(f"{name}.nii.gz")
    (tmp_path / "list.csv").write_text("path,name\na.nii.gz,\nb.nii.gz,case_7\nc.nii.gz,\n")
    found = {case.path.name: case.name for case in list_cases(tmp_path / "list.csv", anonymize=True)}
    assert found == {"a.nii.gz": "scan_1", "b.nii.gz": "case_7", "c.nii.gz": "scan_3"}


def test_a_heat_map_of_an_anonymized_scan_names_neither_scan_nor_path(
    save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    from heartseg.explain import explain, write_explanation

    volume = read_volume(save_scan("Narwal.nii.gz")).anonymized()
    write_explanation(explain(volume, "LV", model=tiny_model), volume, tmp_path / "out")
    assert_anonymous(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "explanation.json").read_text())["input"]["sha256"] == volume.source.sha256


@pytest.mark.parametrize("description", ["CT", "the", "s"])
def test_findings_stay_as_they_are_whatever_the_scan_is_called(
    save_dicom: Callable[..., Path], description: str
) -> None:
    folder = identify(save_dicom(description), description)
    (folder / "broken.dcm").write_bytes((folder / "Narwal000.dcm").read_bytes()[:200])
    volume = read_volume(folder)
    assert volume.findings
    assert volume.anonymized().findings == volume.findings


def test_the_array_is_shared() -> None:
    volume = Volume(np.zeros((2, 2, 2)), Geometry((2, 2, 2), (1, 1, 1)), "Jane")
    assert volume.anonymized().array is volume.array
    assert volume.anonymized().name == "scan"


def test_every_text_of_a_header_is_removed_but_codes_dates_and_uids() -> None:
    from heartseg.export.dicom_seg import _remove_patient

    image = Dataset()
    for keyword in ("PatientName", "PatientAge", "PatientSize", "DeviceSerialNumber", "StudyInstanceUID", "StudyDate"):
        values = {"PatientAge": "077Y", "PatientSize": 1.77, "StudyInstanceUID": "1.2.3", "StudyDate": "20260101"}
        setattr(image, keyword, values.get(keyword, "Wombat"))
    _remove_patient([image])
    assert (image.PatientName, image.PatientID, image.AccessionNumber) == ("Anonymous", "ANONYMOUS", "")
    assert (image.StudyInstanceUID, image.StudyDate) == ("1.2.3", "20260101")
    assert not {"PatientAge", "PatientSize", "DeviceSerialNumber"} & set(image.dir())
