"""``heartseg evaluate``: single cases, folders, output files and errors."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from heartseg.cli.main import main
from heartseg.training.nnunet.references import read_reference
from heartseg.volume import write_labels, write_volume
from label_boxes import SHAPE, box

if TYPE_CHECKING:
    from evaluation.conftest import Outcome


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_case_prints_a_table_and_writes_three_files(
    command: Callable[..., Outcome], save: Callable[..., Path], tmp_path: Path
) -> None:
    pred, truth = save("p.nrrd", box(shift=2)), save("t.nii.gz", box())
    done = command(pred, truth, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    head, line, mean = done.out.splitlines()[:3]
    assert head.split()[:3] == ["structure", "Dice", "IoU"]
    assert "HD95 (mm)" in head and "NSD 2 mm" in head and "reference (mL)" in head
    assert line.split()[:6] == ["LV", "0.667", "0.500", "0.667", "0.667", "2.00"]
    assert mean.split()[:2] == ["mean", "0.667"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "evaluation.csv",
        "evaluation.json",
        "evaluation.png",
    ]
    rows = read_csv(tmp_path / "out" / "evaluation.csv")
    assert [(r["row"], r["structure"]) for r in rows] == [("structure", "LV"), ("case mean", "mean")]
    assert float(rows[0]["dice"]) == pytest.approx(2 / 3, abs=1e-4)
    assert float(rows[0]["hd95_mm"]) == 2
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    (case,) = content["cases"]
    assert case["structures"]["LV"]["surface_dice_2mm"] == 1
    assert case["truth"] == str(truth)
    assert content["tolerances_mm"] == [1.0, 2.0]


def test_the_figure_is_a_picture_with_the_structures_colours(
    command: Callable[..., Outcome], save: Callable[..., Path], tmp_path: Path
) -> None:
    from matplotlib.image import imread

    pred, truth = save("p.nrrd", box()), save("t.nrrd", box())
    assert command(pred, truth, "--figure", tmp_path / "a.png").code == 0
    pixels = (imread(tmp_path / "a.png")[..., :3] * 255).round()
    assert pixels.shape == (750, 1650, 3)
    assert (np.abs(pixels - (200, 40, 45)).max(axis=2) < 2).sum() > 1000  # bar of the LV


def test_a_missing_structure_is_empty_in_csv_and_null_in_json(
    command: Callable[..., Outcome], save: Callable[..., Path], tmp_path: Path
) -> None:
    pred, truth = save("p.nrrd", box()), save("t.nrrd", box(label=6, shift=8, array=box()))
    done = command(pred, truth, "--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json")
    assert done.code == 0
    assert "AO" in done.err
    row = next(r for r in read_csv(tmp_path / "a.csv") if r["structure"] == "AO")
    assert (row["status"], row["dice"], row["hd95_mm"], row["surface_dice_1mm"]) == ("missing", "0.0000", "", "")
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["cases"][0]["structures"]["AO"]
    assert (found["dice"], found["hd95_mm"]) == (0, None)


def test_mask_tolerance_labels_and_structures_are_options(
    command: Callable[..., Outcome], save: Callable[..., Path]
) -> None:
    pred, truth = save("p.nrrd", box(shift=2)), save("t.nrrd", box().astype(np.int16) * 500)
    mask = np.ones(SHAPE, np.uint8)
    mask[:, :, 11:] = 0
    done = command(
        pred,
        truth,
        "--mask",
        save("m.nrrd", mask),
        "--truth-labels",
        "mmwhs",
        "--tolerance",
        "0.5,3",
        "--structures",
        "LV",
    )
    assert done.code == 0, done.err
    assert "NSD 0.5 mm" in done.out and "NSD 3 mm" in done.out
    assert done.out.splitlines()[1].split()[:2] == ["LV", "0.800"]


@pytest.mark.parametrize("value", [420, 421])
def test_mmwhs_420_and_421_are_the_left_atrium_in_evaluation_and_training(
    command: Callable[..., Outcome], save: Callable[..., Path], value: int
) -> None:
    truth = save("t.nrrd", box().astype(np.int16) * value)
    done = command(save("p.nrrd", box(label=3)), truth, "--truth-labels", "mmwhs")
    assert done.out.splitlines()[1].split()[:2] == ["LA", "1.000"]
    assert np.array_equal(read_reference(truth).labels, box(label=3))


def test_a_result_folder_is_accepted_as_prediction(command: Callable[..., Outcome], save: Callable[..., Path]) -> None:
    save("out/patient/labels.nii.gz", box())
    truth = save("t/patient_reference.nii.gz", box())
    assert command(truth.parents[1] / "out" / "patient", truth).code == 0
    done = command(truth.parents[1] / "out", truth.parent)
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].split()[:2] == ["patient", "1.000"]


def test_folders_are_paired_by_name_and_summarized(
    command: Callable[..., Outcome], save: Callable[..., Path], tmp_path: Path
) -> None:
    for name, shift in (("a", 0), ("b", 2), ("c", 3)):
        save(f"pred/{name}_labels.nii.gz", box(shift=shift))
        save(f"truth/{name}_reference.nrrd", box())
        save(f"truth/{name}.nrrd", np.full(SHAPE, 0.5, np.float32))  # the scan: ignored
        save(f"truth/{name}_confidence.nrrd", np.ones(SHAPE, np.uint8))
    save("pred/alone.mha", box())
    save("truth/other_gt.mha", box())
    done = command(tmp_path / "pred", tmp_path / "truth", "--mask", tmp_path / "truth", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert all(name in done.err for name in ("alone", "other"))
    dice = [1.0, 80 / 120, 60 / 120]
    rows = read_csv(tmp_path / "out" / "evaluation.csv")
    of = {r["row"]: r for r in rows if r["structure"] == "LV" and not r["case"]}
    assert float(of["mean over cases"]["dice"]) == pytest.approx(statistics.mean(dice), abs=1e-4)
    assert float(of["SD over cases"]["dice"]) == pytest.approx(statistics.stdev(dice), abs=1e-4)
    assert of["n over cases"]["dice"] == "3"
    assert "0.722 ± 0.255" in done.out
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in content["cases"]] == ["a", "b", "c"]
    distances = content["summary"]["LV"]["hd95_mm"]  # of 0, 2 and 3 mm
    assert distances == {"mean": pytest.approx(5 / 3), "sd": pytest.approx(1.5275, abs=1e-4), "n": 3}
    assert (content["pred_only"], content["truth_only"]) == (["alone"], ["other"])


def test_a_missing_structure_is_excluded_from_the_mean_distances_only(
    command: Callable[..., Outcome], save: Callable[..., Path], tmp_path: Path
) -> None:
    truth = box(label=2, shift=8, array=box())
    for name, pred in (("a", truth), ("b", box())):
        save(f"pred/{name}.mha", pred)
        save(f"truth/{name}.mha", truth)
    done = command(tmp_path / "pred", tmp_path / "truth", "--json", tmp_path / "a.json")
    summary = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["summary"]["RV"]
    assert summary["dice"]["n"] == 2 and summary["dice"]["mean"] == 0.5
    assert summary["hd95_mm"] == {"mean": 0.0, "sd": None, "n": 1}
    assert "0.00 (n=1)" in done.out


def test_a_failed_case_is_reported_and_the_others_are_evaluated(
    command: Callable[..., Outcome], save: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        save(f"pred/{name}.mha", box())
        save(f"truth/{name}.mha", box())
    (tmp_path / "pred" / "b.mha").write_bytes(b"broken")
    done = command(tmp_path / "pred", tmp_path / "truth", "--json", tmp_path / "a.json")
    assert done.code == 1
    assert "b.mha" in done.err
    assert list(json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["failed"]) == ["b"]


def test_existing_files_are_replaced_only_with_overwrite(
    command: Callable[..., Outcome], save: Callable[..., Path], tmp_path: Path
) -> None:
    pred = save("p.nrrd", box())
    (tmp_path / "a.csv").write_text("mine")
    refused = command(pred, pred, "--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json")
    assert (refused.code, refused.out) == (2, "")
    assert "a.csv'" in refused.err
    assert "--overwrite" in refused.err
    assert (tmp_path / "a.csv").read_text() == "mine"
    assert not (tmp_path / "a.json").exists()
    assert command(pred, pred, "--csv", tmp_path / "a.csv", "--overwrite").code == 0
    assert (tmp_path / "a.csv").read_text().startswith("row,case")


def test_a_failed_write_leaves_no_files(
    command: Callable[..., Outcome], save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartseg.evaluation import files

    def full(found: object, path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(files._WRITERS, "json", full)
    pred = save("p.nrrd", box())
    failed = command(pred, pred, "-o", tmp_path / "new" / "out")
    assert failed.code == 2
    assert "disk is full" in failed.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.nrrd"]


# --- invalid input ----------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(command: Callable[..., Outcome], tmp_path: Path) -> Callable[..., None]:
    """Check that the command prints one line with ``named`` to standard error, exits with 2 and writes nothing."""

    def check(*arguments: object, named: str) -> None:
        before = sorted(tmp_path.rglob("*"))
        done = command(*arguments, "-o", tmp_path / "evaluation")
        lines = [line for line in done.err.splitlines() if not line.endswith(" ...")]
        assert (done.code, done.out, len(lines)) == (2, "", 1), done
        assert lines[0].startswith("heartseg: ")
        assert named in lines[0]
        assert sorted(tmp_path.rglob("*")) == before

    return check


def test_a_missing_file(refused: Callable[..., None], save: Callable[..., Path], tmp_path: Path) -> None:
    refused(tmp_path / "none.nrrd", save("t.nrrd", box()), named="none.nrrd'")


def test_a_file_that_is_not_an_image(refused: Callable[..., None], save: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no")
    refused(tmp_path / "a.txt", save("t.nrrd", box()), named="a.txt'")


def test_an_empty_reference(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    refused(save("p.nrrd", box()), save("t.nrrd", np.zeros(SHAPE, np.uint8)), named="'t.nrrd'")


def test_an_image_with_fractional_values(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    refused(save("p.nrrd", image), save("t.nrrd", box()), named="'p.nrrd'")


def test_an_image_with_many_values(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    image = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    refused(save("p.nrrd", image), save("t.nrrd", box()), named="256")


def test_undefined_voxels(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    labels = box().astype(np.float32)
    labels[0, 0, 0] = np.nan
    refused(save("p.nii.gz", labels), save("t.nrrd", box()), named="NaN")


def test_a_4d_file(refused: Callable[..., None], save: Callable[..., Path], tmp_path: Path) -> None:
    import SimpleITK as sitk

    frame = sitk.GetImageFromArray(box())
    sitk.WriteImage(sitk.JoinSeries([frame] * 3), str(tmp_path / "p.nii.gz"))
    refused(tmp_path / "p.nii.gz", save("t.nrrd", box()), named="'p.nii.gz'")


def test_wrong_labels(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    refused(
        save("p.nrrd", box()),
        save("t.nrrd", box().astype(np.int16) * 420),
        named="420",
    )


def test_an_invalid_label_map(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    pred = save("p.nrrd", box())
    refused(pred, pred, "--labels", "1:LV", named="'1:LV'")


def test_an_invalid_tolerance(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    pred = save("p.nrrd", box())
    refused(pred, pred, "--tolerance", "-1", named="'-1'")


def test_grids_that_do_not_overlap(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    refused(save("p.nrrd", box(), origin=(900.0, 0.0, 0.0)), save("t.nrrd", box()), named="overlap")


def test_folders_without_a_common_name(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    pred, truth = save("pred/a.nrrd", box()), save("truth/b.nrrd", box())
    refused(pred.parent, truth.parent, named="truth'")


def test_a_file_and_a_folder(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    pred, truth = save("p.nrrd", box()), save("truth/p.nrrd", box())
    refused(pred, truth.parent, named="truth'")
    refused(truth.parent, pred, named="truth'")


def test_two_predictions_for_one_case(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    save("pred/a_labels.nrrd", box())
    pred, truth = save("pred/a_labels.mha", box()), save("truth/a.nrrd", box())
    refused(pred.parent, truth.parent, named="'a'")


def test_a_missing_mask(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    pred, truth = save("pred/a.nrrd", box()), save("truth/a.nrrd", box())
    mask = save("masks/b.nrrd", box())
    refused(pred.parent, truth.parent, "--mask", mask.parent, named="masks'")


def test_folders_without_a_valid_case(refused: Callable[..., None], save: Callable[..., Path]) -> None:
    pred, truth = save("pred/a.nrrd", box()), save("truth/a.nrrd", np.zeros(SHAPE, np.uint8))
    refused(pred.parent, truth.parent, named="'a.nrrd'")


def test_a_picture_shows_scan_reference_and_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import SimpleITK as sitk

    from heartseg.training.toy import toy_scan

    scan, labels = toy_scan(np.random.default_rng(0), "CT", 5.0)
    for name, array in (("truth", labels), ("pred", np.roll(labels, 1, axis=2))):
        write_labels(array, scan.geometry, tmp_path / f"{name}.nii.gz")
    write_volume(scan, tmp_path / "scan.nii.gz")
    command = ["evaluate", str(tmp_path / "pred.nii.gz"), str(tmp_path / "truth.nii.gz")]
    picture = tmp_path / "new" / "slice.png"
    assert main([*command, "--picture", str(picture), "--image", str(tmp_path / "scan.nii.gz")]) == 0
    assert sitk.ReadImage(str(picture)).GetSize() == (990, 367)
    assert main([*command, "--picture", str(picture)]) == 2
    assert "--picture and --image" in capsys.readouterr().err
    assert main([*command, "--picture", str(picture), "--image", str(tmp_path / "scan.nii.gz")]) == 2  # it exists
