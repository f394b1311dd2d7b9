"""Recognition of single and multiple scans, and their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartseg.cli.cases import Case, _unique, is_batch, list_cases, plain_name
from heartseg.errors import InputError


def names(path: Path, **more: Any) -> list[str]:
    return [c.name for c in list_cases(path, **more)]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.MHD", "a.dcm", "a"])
def test_a_file_is_one_scan(tmp_path: Path, name: str) -> None:
    assert not is_batch(touch(tmp_path / name))


def test_what_is_not_there_is_one_scan_and_fails_when_read(tmp_path: Path) -> None:
    assert not is_batch(tmp_path / "nothing")


def test_a_folder_with_dicom_slices_is_one_scan(save_dicom: Callable[..., Path]) -> None:
    assert not is_batch(save_dicom(slices=2))


def test_a_dicom_folder_with_stray_files_is_one_scan(save_dicom: Callable[..., Path]) -> None:
    folder = save_dicom(slices=2)
    for stray in ("notes.txt", "export.nii.gz", "thumbs/0.jpg", ".hidden", "broken.dcm"):
        touch(folder / stray)
    (folder / "gone").symlink_to(folder / "nowhere")
    assert not is_batch(folder)
    assert names(folder) == ["dicom"]


def test_a_dicom_series_nested_in_folders_is_one_scan(save_dicom: Callable[..., Path], tmp_path: Path) -> None:
    save_dicom("disc/patient/study/series", slices=2)
    touch(tmp_path / "disc" / "README.txt")
    touch(tmp_path / "disc" / "viewer" / "start.exe")
    assert not is_batch(tmp_path / "disc")
    assert names(tmp_path / "disc") == ["disc"]


def test_the_directory_of_a_dicom_disc_is_no_slice(save_dicom: Callable[..., Path], tmp_path: Path) -> None:
    for patient in "AB":
        save_dicom(f"disc/{patient}", slices=2, patient=patient, study=f"1.{ord(patient)}")
    (tmp_path / "disc" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert is_batch(tmp_path / "disc")
    assert names(tmp_path / "disc") == ["A", "B"]


def test_folders_with_the_series_of_one_study_are_one_scan(save_dicom: Callable[..., Path], tmp_path: Path) -> None:
    save_dicom("study/arterial", slices=2, number=1)
    save_dicom("study/venous", slices=2, number=2)
    assert not is_batch(tmp_path / "study")


def test_folders_of_patients_are_many(save_dicom: Callable[..., Path], tmp_path: Path) -> None:
    save_dicom("patients/anna/ct", slices=2, patient="A", study="1.1")
    save_dicom("patients/bert", slices=2, patient="B", study="1.2")
    save_dicom("patients/carl/2024/ct", slices=2, patient="C", study="1.3")
    save_dicom("patients/carl/2025/ct", slices=2, patient="C", study="1.4")
    assert is_batch(tmp_path / "patients")
    assert names(tmp_path / "patients") == ["anna", "bert", "carl_2024", "carl_2025"]


def test_folders_without_patient_or_study_are_many(save_dicom: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_dicom(f"anonymous/{name}", slices=1, patient="", study="1.2.3")
    assert names(tmp_path / "anonymous") == ["a", "b"]


def test_a_folder_with_volume_files_is_many_also_with_one(tmp_path: Path) -> None:
    touch(tmp_path / "scans" / "a.nii.gz")
    assert is_batch(tmp_path / "scans")


def test_volume_files_dicom_folders_and_folders_of_both_together(
    save_dicom: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("b.nii.gz", "a.nrrd", "deep/x.mha", "deep/deeper/y.nii", "notes.txt", "empty/readme.txt"):
        touch(tmp_path / "scans" / name)
    save_dicom("scans/patient", slices=2)
    assert names(tmp_path / "scans") == ["a", "b", "deep_deeper_y", "deep_x", "patient"]


def test_results_among_the_scans_are_no_scans(tmp_path: Path) -> None:
    touch(tmp_path / "scans" / "a.nii.gz")
    for name in ("report.json", "labels.nii.gz", "segmentation.seg.nrrd"):
        touch(tmp_path / "scans" / "out" / "a" / name)
    touch(tmp_path / "scans" / "model.seg.nrrd")
    assert names(tmp_path / "scans") == ["a"]


def test_the_output_folder_among_the_scans_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path / "scans" / "a.nii.gz")
    touch(tmp_path / "scans" / "out" / "leftover" / "labels.nii.gz")
    assert names(tmp_path / "scans", without=tmp_path / "scans" / "out") == ["a"]


def test_a_list_gives_paths_relative_to_itself_and_overrides(tmp_path: Path) -> None:
    touch(tmp_path / "data" / "a.nii.gz")
    (tmp_path / "data" / "list.csv").write_text(
        "Path,name,series,frame,modality\na.nii.gz,,,2,\n\n/else/where.nii,Größe 1,7,,mr\n", encoding="utf-8-sig"
    )
    first, second = list_cases(tmp_path / "data" / "list.csv", series="3", modality="CT")
    assert first == Case(tmp_path / "data" / "a.nii.gz", "a", "3", 2, "CT")
    assert second == Case(Path("/else/where.nii"), "Größe_1", "7", None, "MR")


def test_a_list_with_semicolons(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("name;path\none;a.nii\ntwo;b.nii\n")
    assert names(tmp_path / "list.csv") == ["one", "two"]


def test_a_list_without_paths_holds_no_scan(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,name\n,a\n")
    with pytest.raises(InputError, match="contains no scan"):
        list_cases(tmp_path / "list.csv")


def test_all_frames_become_cases_and_a_bad_scan_among_good_ones_stays_one(
    save_series: Callable[..., Path], save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "scans").mkdir()
    save_series("scans/cine.nrrd", frames=3)
    save_scan("scans/plain.nii.gz")
    touch(tmp_path / "scans" / "bad.nii.gz")
    found = list_cases(tmp_path / "scans", frame="all")
    assert [(c.name, c.frame) for c in found] == [
        ("bad", None),
        ("cine_frame0", 0),
        ("cine_frame1", 1),
        ("cine_frame2", 2),
        ("plain", None),
    ]


def test_no_two_scans_get_one_name(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz", "A.nrrd", "a_2.nii", "summary.csv.nii"):
        touch(tmp_path / name)
    found = [n.casefold() for n in names(tmp_path)]
    assert len(set(found)) == 5
    assert "summary.csv" not in found
    assert "a_2" in found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "A", "a_2", "A_2", "a_3", "a_2_2", "summary.csv"]), max_size=8))
def test_names_are_unique_whatever_they_were(wanted: list[str]) -> None:
    found = [c.name.casefold() for c in _unique([Case(Path(n), n) for n in wanted])]
    assert len(set(found)) == len(wanted)
    assert "summary.csv" not in found


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("scan.nii.gz", "scan"),
        ("pat 1 (CT).nrrd", "pat_1_CT"),
        ("1.2.840.mha", "1.2.840"),
        ("Über größe.nii", "Über_größe"),
        ("心臓.nii", "心臓"),
        ("...nii", "scan"),
        ("a\nb.nii", "a_b"),
    ],
)
def test_names_are_safe_as_folders(name: str, plain: str) -> None:
    assert plain_name(Path(name)) == plain


def test_long_names_leave_room_for_a_temporary_folder() -> None:
    assert len(plain_name(Path("心" * 80 + ".nii")).encode()) <= 150
