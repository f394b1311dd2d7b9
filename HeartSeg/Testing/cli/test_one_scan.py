"""One scan on the command line: files, output and exit code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk

from command_lines import tree
from heartseg.cli.exits import EXIT_CODES

if TYPE_CHECKING:
    from cli.conftest import Outcome

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.fixture
def segment(heartseg: Callable[..., Outcome], tiny_model: Path) -> Callable[..., Outcome]:
    """Run ``heartseg segment`` with the tiny model."""
    return lambda *arguments: heartseg("segment", *arguments, "--model", tiny_model)


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_a_folder_with_everything_and_a_report_that_tells_how(
    segment: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path, temporary: Path
) -> None:
    scan = save_scan()
    outcome = segment(scan, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome
    report = report_of(tmp_path / "out")
    files = {p for p in tree(tmp_path / "out") if (tmp_path / "out" / p).is_file()}
    assert files == set(report["output"]["files"])
    assert {"segmentation.seg.nrrd", "labels.nii.gz", "measurements.csv", "report.json", "preview.png"} < files
    assert sum(name.endswith(".stl") for name in files) == 3
    provenance = report["provenance"]
    assert provenance["input"]["sha256"] == hashlib.sha256(scan.read_bytes()).hexdigest()
    assert provenance["model"]["name"] == "Tiny" and provenance["model"]["version"] == "0.1"
    assert all(len(value) == 64 for value in provenance["model"]["checkpoints"].values())
    assert provenance["run"]["device"]
    assert {"read", "load model", "predict", "measure"} <= set(provenance["seconds"])
    assert report["output"]["seconds"]["write"] > 0
    assert {"torch", "numpy", "SimpleITK"} <= set(provenance["packages"])
    assert isinstance(report["findings"], list)
    one, two = (sitk.ReadImage(str(p)) for p in (scan, tmp_path / "out" / "labels.nii.gz"))
    assert one.GetSize() == two.GetSize() and one.GetSpacing() == two.GetSpacing()
    assert one.GetOrigin() == two.GetOrigin() and one.GetDirection() == two.GetDirection()
    assert set(np.unique(sitk.GetArrayFromImage(two))) == {0, 1, 2, 5}
    assert "left ventricle" in outcome.out and "volume (mL)" in outcome.out and str(tmp_path / "out") in outcome.out
    assert not CONTROL.search(outcome.out) and not CONTROL.search(outcome.err)
    assert outcome.err.startswith("read ...\n")
    assert outcome.complaints == []
    assert tree(temporary) == set()


def test_json_is_all_that_is_printed_on_standard_output(
    segment: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    outcome = segment(save_scan(), "-o", tmp_path / "out", "--json", "--format", "seg,stl,labels,csv")
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out) == report_of(tmp_path / "out")
    assert "predict ..." in outcome.err
    assert not CONTROL.search(outcome.err)


def test_json_of_a_bad_scan_prints_nothing_on_standard_output(segment: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = segment(tmp_path / "none.nii", "-o", tmp_path / "out", "--json")
    assert (outcome.code, outcome.out) == (2, "")


def test_a_choice_of_structures_and_formats(
    segment: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert segment(save_scan(), "-o", out, "--structures", "lv,MYO", "--format", "labels,csv").code == 0
    assert tree(out) == {"labels.nii.gz", "measurements.csv", "report.json"}
    found = np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(out / "labels.nii.gz"))))
    assert set(found) <= {0, 1, 5}


def test_no_heart_exits_with_3_and_writes_the_files(
    heartseg: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path, blind_model: Path
) -> None:
    outcome = heartseg("segment", save_scan(), "-o", tmp_path / "out", "--model", blind_model, "--format", "labels,csv")
    assert outcome.code == 3, outcome
    report = report_of(tmp_path / "out")
    assert [f["code"] for f in report["findings"]].count("no-heart") == 1
    assert report["heart_found"] is False
    assert "no-heart" in outcome.out
    assert tree(tmp_path / "out") == {"labels.nii.gz", "measurements.csv", "report.json"}


def test_a_frame_of_a_time_series(
    segment: Callable[..., Outcome], save_series: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert segment(save_series(frames=2), "-o", out, "--frame", "1", "--format", "labels").code == 0
    assert report_of(out)["provenance"]["input"]["frame"] == 1


def test_a_dicom_folder_with_stray_files_and_a_second_series(
    segment: Callable[..., Outcome], save_dicom: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save_dicom("study/ct", number=3)
    save_dicom("study/scout", number=1, slices=2)
    for name in ("notes.txt", "export.nii.gz", "broken.dcm", ".DS_Store"):
        (folder / name).write_bytes(b"no scan")
    (folder / "gone.dcm").symlink_to(folder / "nowhere")
    outcome = segment(tmp_path / "study", "-o", tmp_path / "out", "--format", "labels")
    assert outcome.code == 0, outcome
    report = report_of(tmp_path / "out")
    assert report["provenance"]["input"]["modality"] == "CT"
    codes = {f["code"] for f in report["findings"]}
    assert {"series-chosen", "files-left-out"} <= codes


def test_spaces_and_letters_of_any_alphabet(
    segment: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    scan = save_scan("Größe 1/心臓 scan (1).nii.gz")
    out = tmp_path / "Ergebnis für Ω/out 1"
    outcome = segment(scan, "-o", out)
    assert outcome.code == 0, outcome
    report = report_of(out)
    assert report["provenance"]["input"]["path"] == str(scan)
    assert sum(name.endswith(".stl") for name in report["output"]["files"]) == 3
    assert (out / "segmentation.seg.nrrd").is_file() and (out / "preview.png").is_file()


def test_a_path_that_is_no_text(
    segment: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    scan = save_scan()
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xf6sse.nii.gz"))
    try:
        scan.rename(odd)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    outcome = segment(odd, "-o", tmp_path / "out")
    assert outcome.code == 2 and len(outcome.complaints) == 1, outcome
    assert "not valid UTF-8: rename" in outcome.complaints[0]
    odd.rename(scan)
    outcome = segment(scan, "-o", odd.parent / odd.stem)
    assert outcome.code == 2 and "not valid UTF-8: choose another" in outcome.complaints[0], outcome


def test_a_slice_whose_name_is_no_text_is_left_out(
    segment: Callable[..., Outcome], save_dicom: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save_dicom()
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/gr\xf6sse.dcm"))
    try:
        (folder / "s1_039.dcm").rename(odd)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    assert segment(folder, "-o", tmp_path / "out", "--format", "csv").code == 0
    assert "files-left-out" in {f["code"] for f in report_of(tmp_path / "out")["findings"]}


def test_overwriting_an_earlier_result(
    segment: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    scan = save_scan()
    assert segment(scan, "-o", tmp_path / "out", "--format", "labels,csv").code == 0
    assert segment(scan, "-o", tmp_path / "out", "--format", "csv", "--overwrite").code == 0
    assert tree(tmp_path / "out") == {"measurements.csv", "report.json"}


def test_the_help_suffices(heartseg: Callable[..., Outcome]) -> None:
    for arguments in (("--help",), ("segment", "--help")):
        outcome = heartseg(*arguments)
        assert outcome.code == 0
        assert "heartseg segment scan.nii.gz -o out/scan" in outcome.out
        assert EXIT_CODES in outcome.out
        for unit in ("mL", "mm"):
            assert unit in outcome.out


def test_the_shipped_model_is_taken_when_none_is_named(
    heartseg: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path, shipped_model: Path
) -> None:
    outcome = heartseg("segment", save_scan(), "-o", tmp_path / "out", "--format", "csv")
    assert outcome.code in (0, 3), outcome
    assert report_of(tmp_path / "out")["provenance"]["model"]["path"].startswith(str(shipped_model))


def test_a_fault_of_ours_is_said_in_one_line(
    segment: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import heartseg.pipeline

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(heartseg.pipeline, "measured_and_checked", broken)
    outcome = segment(save_scan(), "-o", tmp_path / "out")
    assert outcome.code == 1
    assert len(outcome.complaints) == 1
    assert "ZeroDivisionError" in outcome.complaints[0] and "heartseg -v" in outcome.complaints[0]
    assert not (tmp_path / "out").exists()
