"""The raw data set has the format of nnU-Net, and positions in the patient do not change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hearts import read
from heartseg.errors import InputError
from heartseg.training.nnunet.checking import CheckedData, check_cases, refuse_bad_data
from heartseg.training.nnunet.convert import Layout, convert
from heartseg.training.nnunet.datasets import find_cases
from heartseg.training.nnunet.run import split
from labelled_scans import make_mmwhs

SEVEN = ("LV", "RV", "LA", "RA", "MYO", "AO", "PA")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CheckedData:
    """Three cases with the names, values and orientations of MM-WHS."""
    home = make_mmwhs(tmp_path_factory.mktemp("mmwhs"), 3, (6.0, 6.0, 8.0))
    return check_cases(find_cases(home), None, None)


def centres(path: Path) -> dict[int, np.ndarray]:
    """Return the world LPS centroid of every label."""
    labels, geometry = read(path)
    return {int(v): geometry.index_to_world(np.argwhere(labels == v)).mean(0) for v in np.unique(labels) if v}


def test_the_folder_has_the_layout_of_nnunet(data: CheckedData, tmp_path: Path) -> None:
    home = convert(data, Layout(SEVEN, "CT"), tmp_path)
    description = json.loads((home / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "LV": 1, "RV": 2, "LA": 3, "RA": 4, "MYO": 5, "AO": 6, "PA": 7}
    assert description["channel_names"] == {"0": "CT"}
    assert description["numTraining"] == 3
    assert sorted(p.name for p in (home / "imagesTr").iterdir()) == [f"ct_train_100{k}_0000.nii.gz" for k in (1, 2, 3)]
    assert all((home / e["label"]).is_file() for e in description["dataset"].values())


def test_scans_are_linked_and_keep_their_grid(data: CheckedData, tmp_path: Path) -> None:
    home = convert(data, Layout(SEVEN), tmp_path)
    for checked in data.cases:
        name = checked.case.name
        image = home / "imagesTr" / f"{name}_0000.nii.gz"
        assert image.is_symlink() and image.resolve() == checked.case.image.resolve()
        labels, geometry = read(home / "labelsTr" / f"{name}.nii.gz")
        assert geometry.same_grid(checked.geometry)
        for value, key in enumerate(SEVEN, 1):
            found = (labels == value).sum() * geometry.voxel_volume_ml
            assert found == pytest.approx(checked.volumes_ml[key], abs=0.01)


def test_copied_scans_are_independent_files(data: CheckedData, tmp_path: Path) -> None:
    home = convert(data, Layout(SEVEN, copy=True), tmp_path)
    image = home / "imagesTr" / "ct_train_1001_0000.nii.gz"
    assert not image.is_symlink()
    assert image.read_bytes() == data.cases[0].case.image.read_bytes()


def test_reorientation_to_lps_keeps_the_world_positions_of_structures(data: CheckedData, tmp_path: Path) -> None:
    kept, turned = (
        convert(data, Layout(SEVEN), tmp_path / "a"),
        convert(data, Layout(SEVEN, orientation="lps"), tmp_path / "b"),
    )
    for checked in data.cases:
        name = checked.case.name
        labels = Path("labelsTr") / f"{name}.nii.gz"
        assert read(turned / labels)[1].orientation == "LPS"
        image, grid = read(turned / "imagesTr" / f"{name}_0000.nii.gz")
        original, stored = read(checked.case.image)
        assert grid.orientation == "LPS"
        assert sorted(image.shape) == sorted(original.shape) and image.sum() == original.sum()
        before, after = centres(kept / labels), centres(turned / labels)
        for value, place in before.items():
            assert np.abs(after[value] - place).max() < 1e-3  # NIfTI stores positions as 32-bit floats
        assert stored.orientation == checked.geometry.orientation


def test_fewer_structures_get_consecutive_labels(data: CheckedData, tmp_path: Path) -> None:
    chosen = check_cases(data.listing, None, ["MYO", "LV", "PA"])
    assert chosen.structures == ("LV", "MYO", "PA")
    home = convert(chosen, Layout(chosen.structures), tmp_path)
    labels, geometry = read(home / "labelsTr" / "ct_train_1002.nii.gz")
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    ml = (labels == 2).sum() * geometry.voxel_volume_ml
    assert ml == pytest.approx(chosen.cases[1].volumes_ml["MYO"], abs=0.01)


def test_a_second_conversion_writes_only_what_is_missing(data: CheckedData, tmp_path: Path) -> None:
    home = convert(data, Layout(SEVEN), tmp_path)
    label = home / "labelsTr" / "ct_train_1001.nii.gz"
    before = label.stat().st_mtime_ns
    (home / "labelsTr" / "ct_train_1002.nii.gz").unlink()
    convert(data, Layout(SEVEN), tmp_path)
    assert label.stat().st_mtime_ns == before
    assert (home / "labelsTr" / "ct_train_1002.nii.gz").is_file()


def test_train_only_cases_are_in_the_training_set_of_every_fold_and_never_held_out(data: CheckedData) -> None:
    made, *real = data.cases
    mixed = replace(data, cases=(replace(made, case=replace(made.case, train_only=True)), *real))
    folds = split(mixed, len(real), seed=5)
    assert sorted(n for f in folds for n in f["val"]) == sorted(c.case.name for c in real)
    assert all(made.case.name in f["train"] for f in folds)
    with pytest.raises(InputError, match=r"there are \d+ \(translated and train-only ones are never held out"):
        refuse_bad_data(mixed, len(data.cases), skip_bad=True)


def test_every_case_is_held_out_once(data: CheckedData) -> None:
    folds = split(data, 2, seed=5)
    names = sorted(c.case.name for c in data.cases)
    assert sorted(folds[0]["val"] + folds[1]["val"]) == names
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == names
    assert split(data, 2, seed=5) == folds
