"""``heartseg refine`` on a result folder, and what ``heartseg train`` learns from it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import scan_volume
from command_lines import tree
from heartseg.cli.main import main
from heartseg.errors import InputError
from heartseg.marks import Mark, read_marks, write_marks
from heartseg.output import write_result
from heartseg.pipeline import segment
from heartseg.provenance import Mend
from heartseg.refinement import refine
from heartseg.settings import Settings
from heartseg.training.nnunet.datasets import find_cases
from heartseg.volume import read_volume, write_volume


@pytest.fixture(scope="module")
def segmented(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``scan.nii.gz`` and its result of the tiny model in ``out/first``."""
    folder = tmp_path_factory.mktemp("segmented")
    volume = read_volume(write_volume(scan_volume(), folder / "scan.nii.gz"))
    found = segment(volume, tiny_model, Settings(device="cpu", confidence_map=True))
    write_result(found, volume, folder / "out" / "first", ["labels", "csv", "confidence"])
    return folder


@pytest.fixture
def result(segmented: Path, tmp_path: Path) -> Path:
    """A result folder of the tiny model, with its scan, for this test alone."""
    shutil.copytree(segmented, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "out" / "first"
    report = report_in(folder)
    report["provenance"]["input"]["path"] = str(tmp_path / "scan.nii.gz")
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return folder


def labels_in(folder: Path) -> np.ndarray:
    return read_volume(folder / "labels.nii.gz").array.astype(np.uint8)


def report_in(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def marks_for(folder: Path, path: Path) -> tuple[tuple[int, int, int], Path]:
    """A file with a mark "RV" on a voxel of another structure, and that voxel."""
    volume = read_volume(folder / "labels.nii.gz")
    candidates = np.argwhere((volume.array != 2) & (volume.array > 0))
    z, y, x = (int(v) for v in candidates[len(candidates) // 2])
    x_mm, y_mm, z_mm = (float(v) for v in volume.geometry.index_to_world(np.array((z, y, x))))
    return (z, y, x), write_marks([Mark("RV", ((x_mm, y_mm, z_mm),))], path)


def test_a_result_is_mended_in_place_with_its_formats_and_says_so(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, files, old = labels_in(result), tree(result), {**report_in(result), "case": {"content": "kept"}}
    (result / "report.json").write_text(json.dumps(old), encoding="utf-8")
    at, marks = marks_for(result, tmp_path / "marks.mrk.json")
    assert main(["refine", str(result), "--marks", str(marks), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    after, report = labels_in(result), report_in(result)
    assert after[at] == 2 and (after != before).sum() > 0
    assert sorted(tree(result)) == sorted(files)
    (mend,) = report["provenance"]["mends"]
    assert mend["marks"] == json.loads(
        json.dumps([{"structure": "RV", "points": [list(read_marks(marks)[0].points[0])], "positive": True}])
    )
    assert mend["voxels"] == (after != before).sum() and mend["model"].startswith("Tiny")
    assert mend["model_note"] == ""
    ml = read_volume(result / "labels.nii.gz").geometry.voxel_volume_ml
    assert mend["volumes_ml_before"]["RV"] == pytest.approx((before == 2).sum() * ml, abs=1e-3)
    assert mend["volumes_ml_after"]["RV"] == pytest.approx((after == 2).sum() * ml, abs=1e-3)
    measured = {(m["structure"], m["quantity"]): m["value"] for m in report["measures"]}
    assert measured["RV", "volume"] == pytest.approx((after == 2).sum() * ml, abs=1e-3)
    assert report["case"] == old["case"] and report["schema"] == old["schema"]
    assert f"{mend['voxels']} voxels" in said.out


@pytest.mark.usefixtures("one_process")
def test_another_folder_leaves_the_first_as_it_is_and_mends_add_up(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at, marks = marks_for(result, tmp_path / "marks.mrk.json")
    before, target = labels_in(result), tmp_path / "out" / "second"
    command = ["refine", str(result), "--marks", str(marks), "--device", "cpu"]
    assert main([*command, "-o", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["marks"][0]["structure"] == "RV"
    assert np.array_equal(labels_in(result), before) and labels_in(target)[at] == 2
    assert main([*command, "-o", str(target)]) == 2  # not empty
    assert main(["refine", str(target), "--marks", str(marks), "--device", "cpu"]) == 0
    mends = report_in(target)["provenance"]["mends"]
    assert [m["voxels"] > 0 for m in mends] == [True, False]  # it was right already


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("what", ["marks", "label", "outside", "scan", "folder"])
def test_bad_input_is_one_line_and_nothing_is_written(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    _at, marks = marks_for(result, tmp_path / "marks.mrk.json")
    source = result
    if what == "marks":
        marks = tmp_path / "gone.mrk.json"
    elif what == "label":
        marks.write_text(marks.read_text(encoding="utf-8").replace('"RV"', '"F-1"'), encoding="utf-8")
    elif what == "outside":
        write_marks([Mark("RV", ((9e3, 0.0, 0.0),))], marks)
    elif what == "scan":
        Path(report_in(result)["provenance"]["input"]["path"]).unlink()
    else:
        source = result / "labels.nii.gz"
    before = tree(result)
    assert main(["refine", str(source), "--marks", str(marks), "--device", "cpu"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("heartseg: ")]
    assert len(lines) == 1
    assert tree(result) == before


def test_without_the_model_the_labels_alone_guide_it_and_a_finding_says_so(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEARTSEG_MODELS", str(tmp_path))
    report = report_in(result)
    volume = read_volume(report["provenance"]["input"]["path"])
    first = segment(volume, report["provenance"]["model"]["path"], Settings(device="cpu"))
    facts = first.provenance.model
    assert facts is not None
    lost = replace(first, provenance=replace(first.provenance, model=replace(facts, path="gone", name="Gone")))
    at, marks = marks_for(result, tmp_path / "marks.mrk.json")
    mended = refine(volume, lost, read_marks(marks))
    assert mended.labels[at] == 2 and mended.provenance.mends[0].model == ""
    assert "mended-without-network" in {f.code for f in mended.findings}
    assert first.labels[at] != 2


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_the_use_of_another_version_or_of_other_weights_is_recorded(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    report = report_in(result)
    made_by = report["provenance"]["model"]
    made_by["version"], made_by["checkpoints"] = version, dict.fromkeys(made_by["checkpoints"], "0" * 64)
    (result / "report.json").write_text(json.dumps(report), encoding="utf-8")
    _at, marks = marks_for(result, tmp_path / "marks.mrk.json")
    assert main(["refine", str(result), "--marks", str(marks), "--device", "cpu"]) == 0
    (mend,) = report_in(result)["provenance"]["mends"]
    assert f"Tiny {version}," in mend["model_note"] and "Tiny 0.1" in mend["model_note"].split(",")[1]
    assert "mended-with-other-model" in {f["code"] for f in report_in(result)["findings"]}
    assert mend["model_note"] in capsys.readouterr().err


@pytest.mark.usefixtures("one_process")
def test_mended_results_are_a_training_set_and_others_are_not(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="mended"):
        find_cases(tmp_path / "out")
    _at, marks = marks_for(result, tmp_path / "marks.mrk.json")
    assert main(["refine", str(result), "--marks", str(marks), "--device", "cpu", "-o", str(tmp_path / "out/b")]) == 0
    listing = find_cases(tmp_path / "out")
    assert [(c.name, c.label.parent.name) for c in listing.cases] == [("b", "b")] and not listing.problems
    assert listing.cases[0].image == Path(report_in(result)["provenance"]["input"]["path"])
    capsys.readouterr()
    assert main(["train", str(tmp_path / "out"), "-o", str(tmp_path / "learnt"), "--dry-run"]) == 2  # one case only
    assert capsys.readouterr().out.startswith("mended results (1 not mended, left out): 1 case(s)")
    listing.cases[0].image.unlink()
    assert len(find_cases(tmp_path / "out").problems) == 1


def test_a_mend_without_marks_is_not_learnt_from(result: Path, tmp_path: Path) -> None:
    report = report_in(result)
    for marks, count in (([], 0), ([asdict(Mark("RV", ((1.0, 2.0, 3.0),)))], 1)):
        report["provenance"]["mends"] = [asdict(Mend()) | {"marks": marks}]
        (result / "report.json").write_text(json.dumps(report), encoding="utf-8")
        if count:
            assert len(find_cases(tmp_path / "out").cases) == count
        else:
            with pytest.raises(InputError, match="mended"):
                find_cases(tmp_path / "out")
