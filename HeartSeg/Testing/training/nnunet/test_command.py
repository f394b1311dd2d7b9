"""``heartseg train``: the list of a dry run, and a one-line message with the solution for invalid input."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from hearts import read
from heartseg.cli.exits import CONTINUES, EXIT_CANCELLED, NOTHING_LEFT
from heartseg.cli.main import main
from heartseg.errors import Cancelled
from heartseg.volume import Geometry, write_labels
from heartseg.workshop.training_options import logged_on_stderr
from labelled_scans import make_folder_pair, make_mmwhs

COARSE = (8.0, 8.0, 10.0)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Write three pairs in two folders."""
    return make_folder_pair(tmp_path / "data", 3, COARSE)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the only line on standard error, without progress, of a command that exits with 2."""
    assert main(["train", *map(str, arguments)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("heartseg: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_dry_run_lists_cases_volumes_and_orientations_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_mmwhs(tmp_path / "data", 3, COARSE)
    assert main(["train", str(data), "-o", str(tmp_path / "out"), "--folds", "3", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "MM-WHS: 3 case(s), 1 scan(s) without reference" in said.out
    assert "ct_train_1002" in said.out and "mL: LV " in said.out
    assert "--orientation lps" in said.err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_with_orientation_lps_has_no_note_on_orientations_and_counts_unlabelled_scans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_mmwhs(tmp_path / "data", 3, COARSE)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "scan.nii.gz").write_bytes((data / "ct_train_1001_image.nii.gz").read_bytes())
    command = ["train", str(data), "-o", str(tmp_path / "out"), "--folds", "3", "--dry-run", "--unlabelled"]
    assert main([*command, str(tmp_path / "more"), "--orientation", "lps"]) == 0
    said = capsys.readouterr()
    assert "orientations" not in said.err and "1 scan(s) to learn from" in said.out
    assert main([*command, str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_dry_run_lists_every_problem(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pairs / "labels" / "heart_00.nii.gz").unlink()
    labels, geometry = read(pairs / "labels" / "heart_01.nii.gz")
    moved = Geometry(geometry.shape, geometry.spacing, (0.0, 0.0, 0.0))
    write_labels(labels, moved, pairs / "labels" / "heart_01.nii.gz")
    assert main(["train", str(pairs), "-o", str(tmp_path / "out"), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "heart_00.nii.gz' has no reference" in said
    assert "'heart_01.nii.gz' does not lie on the grid of" in said


def test_bad_data_are_refused_before_training(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, geometry = read(pairs / "labels" / "heart_02.nii.gz")
    write_labels(np.where(labels == 3, 9, labels).astype(np.uint8), geometry, pairs / "labels" / "heart_02.nii.gz")
    said = refused(capsys, pairs, "-o", tmp_path / "new" / "out", "--folds", 3, "--device", "cpu")
    assert "labels 9" in said and "--labels" in said and "--dry-run" in said
    assert not (tmp_path / "new").exists()


def test_one_case_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_folder_pair(tmp_path / "data", 1, COARSE)
    assert "one case only" in refused(capsys, data, "-o", tmp_path / "out", "--device", "cpu")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--folds", "1"], "folds is 1"),
        (["--only-folds", "7"], "fold 7 does not exist: choose 0 to 4"),
        (["--only-folds", "a"], "--only-folds 'a' is not a list"),
        (["--patch", "big"], "patch 'big' is not a size"),
        (["--network", "vit"], "network 'vit' is unknown"),
        (["--structures", "LV,SPINE"], "structure SPINE is unknown"),
        (["--delta", "0"], "delta 0.0 must be above 0"),
        (["--loss", "focal", "--beta", "0.5"], "beta 0.5 has no place in the loss 'focal'"),
        (["--loaders", "-1"], "loaders -1 is too few"),
        (["--num-gpus", "2", "--device", "cpu"], "exclude each other"),
    ],
)
def test_invalid_options_are_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert said in refused(capsys, pairs, "-o", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_with_other_files_is_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    said = refused(capsys, pairs, "-o", tmp_path / "out", "--folds", 3, "--device", "cpu")
    assert "is not empty" in said
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_after_a_refusal_the_same_folder_can_be_used_with_other_options(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [pairs, "-o", tmp_path / "out", "--device", "cpu"]
    assert "5 folds need 5 cases" in refused(capsys, *command)
    assert "4 folds need 4 cases" in refused(capsys, *command, "--folds", 4)


def test_a_model_of_another_dimension_is_refused_as_start(default_model: Path) -> None:
    from pathlib import Path

    from heartseg.errors import SettingsError
    from heartseg.training.nnunet.finetune import start_from_model
    from heartseg.training.nnunet.presets import CSFBU

    with pytest.raises(SettingsError, match="is 3d and the training 2d: add --dimension 3d"):
        start_from_model(str(default_model), CSFBU, Path("nowhere"))


def test_a_stopped_training_says_that_the_same_command_continues(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: object) -> None:
        raise Cancelled

    monkeypatch.setattr("heartseg.training.nnunet.run.check_cases", stopped)
    assert main(["train", str(pairs), "-o", str(tmp_path / "out"), "--folds", "3"]) == EXIT_CANCELLED
    said = capsys.readouterr().err
    assert CONTINUES in said and NOTHING_LEFT not in said


def test_a_scan_instead_of_a_folder_is_not_taken_for_a_data_list(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = pairs / "images" / "heart_00.nii.gz"
    said = refused(capsys, scan, "-o", tmp_path / "out")
    assert said.startswith(f"heartseg: {str(scan)!r} is a single file: ")


def test_messages_of_a_training_are_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    log, root = logging.getLogger("heartseg.training"), logging.StreamHandler(sys.stderr)
    before = log.level, log.propagate
    logging.getLogger().addHandler(root)
    try:
        with logged_on_stderr("%(message)s", "heartseg.training", "heartseg.synthesis"):
            log.info("42 scenes")
    finally:
        logging.getLogger().removeHandler(root)
    assert capsys.readouterr().err.splitlines() == ["42 scenes"]
    assert (log.level, log.propagate) == before and not log.handlers
