"""Toy hearts: position and size of every structure, variation between scans, reproducibility."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from heartseg.cli.main import main
from heartseg.errors import OutputError, SettingsError
from heartseg.training.nnunet.checking import check_cases
from heartseg.training.nnunet.datasets import find_cases
from heartseg.training.toy import make_toy_data, rotation, toy_scan
from heartseg.volume import Geometry, read_volume, write_labels


def test_a_full_disk_leaves_no_part_of_the_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def full(labels: np.ndarray, geometry: Geometry, path: Path) -> Path:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(write_labels(labels, geometry, path))
        return path

    monkeypatch.setattr("heartseg.training.toy.write_labels", full)
    with pytest.raises(OutputError, match="disk is full"):
        make_toy_data(tmp_path / "data" / "toy", 2, "CT", 10.0)
    assert written and not list(tmp_path.iterdir())


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_command_makes_a_data_set_that_can_be_trained_on(
    tmp_path: Path, modality: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "--labelled", "3", "--modality", modality, "-o", str(tmp_path / "toy")]) == 0
    data = check_cases(find_cases(tmp_path / "toy"), None, None, modality=modality)
    assert not data.problems
    assert {c.modality for c in data.cases} == {modality}
    assert data.structures == ("LV", "RV", "LA", "RA", "MYO", "AO", "PA")
    for case in data.cases:  # a small normal heart, with edges scaled by 0.85 to 1.15
        assert 50 * 0.85**3 < case.volumes_ml["LV"] < 130 * 1.15**3
        assert 80 * 0.85**3 < case.volumes_ml["MYO"] < 180 * 1.15**3
    assert len({case.volumes_ml["LV"] for case in data.cases}) == 3
    assert main(["sample", "--labelled", "3", "-o", str(tmp_path / "toy")]) != 0
    assert "is not empty" in capsys.readouterr().err


def test_a_scan_repeats_with_its_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_toy_data(tmp_path / name, 2, "CT", 5.0, seed)
    first, same, other = (read_volume(tmp_path / n / "images" / "ct_01.nii.gz").array for n in "abc")
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, read_volume(tmp_path / "a" / "images" / "ct_00.nii.gz").array)


def test_blood_is_brighter_than_the_wall_in_both_modalities_and_fat_in_mr_alone() -> None:
    for modality, dark in (("CT", True), ("MR", False)):
        volume, labels = toy_scan(np.random.default_rng(0), modality, 4.0)
        blood, wall = volume.array[labels == 1].mean(), volume.array[labels == 5].mean()
        fat = volume.array[(labels == 0) & (volume.array > (-400 if dark else 200))].mean()
        assert blood > 1.5 * wall
        assert (fat < wall) == dark


def test_rotations_turn_about_x_then_y_then_z() -> None:
    quarter = np.pi / 2
    assert np.allclose(rotation(np.array([quarter, 0, 0])) @ [0, 1, 0], [0, 0, 1])
    assert np.allclose(rotation(np.array([0, 0, quarter])) @ [1, 0, 0], [0, 1, 0])
    turned = rotation(np.array([0.3, -0.2, 0.5]))
    assert np.allclose(turned @ turned.T, np.eye(3)) and np.linalg.det(turned) == pytest.approx(1)


@pytest.mark.parametrize(
    ("count", "modality", "spacing"), [(0, "CT", 3.0), (2, "US", 3.0), (2, "CT", 0.1), (2, "CT", float("nan"))]
)
def test_values_that_cannot_work_are_refused(tmp_path: Path, count: int, modality: str, spacing: float) -> None:
    with pytest.raises(SettingsError):
        make_toy_data(tmp_path / "toy", count, modality, spacing)
    assert not (tmp_path / "toy").exists()
