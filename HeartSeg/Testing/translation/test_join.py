"""Translated labelled MR in a training set: pairing by name, same grid, no overwriting, resuming."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heartseg.errors import Cancelled, InputError, OutputError
from heartseg.progress import ProgressEvent, Reporter
from heartseg.translation.apply import Translator
from heartseg.translation.join import RECORD, join_training_set, pair_labels, without_label_maps
from heartseg.volume import read_volume, write_labels, write_volume

from .conftest import scan


@pytest.fixture(scope="module")
def translator(trained: Path) -> Translator:
    return Translator(trained, device="cpu")


@pytest.fixture
def labels(scans: dict[str, list[Path]]) -> Path:
    return scans["MR"][0].parents[1] / "labels"


def test_labelled_mr_joins_a_ct_training_set(
    translator: Translator, scans: dict[str, list[Path]], labels: Path, tmp_path: Path
) -> None:
    for kind in ("images", "labels"):  # an existing training set
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "ct_01.nii.gz").write_bytes(b"untouched")
    names = join_training_set(translator, pair_labels(scans["MR"], labels), tmp_path)
    assert names == ["mr2ct_mr0", "mr2ct_mr1", "mr2ct_mr2"]
    for name, source in zip(names, scans["MR"], strict=True):
        image, target = (read_volume(tmp_path / k / f"{name}.nii.gz") for k in ("images", "labels"))
        assert image.geometry == target.geometry == read_volume(source).geometry
        assert image.array.dtype == np.int16
        before = read_volume(labels / source.name.replace("_image", "_label"))
        assert np.array_equal(target.array, before.array)
        assert target.array.dtype == before.array.dtype
    assert (tmp_path / "images" / "ct_01.nii.gz").read_bytes() == b"untouched"
    assert set(json.loads((tmp_path / RECORD).read_text())) == set(names)


def test_a_slicer_segmentation_is_read_by_its_segments_names(
    translator: Translator, scans: dict[str, list[Path]], labels: Path, tmp_path: Path
) -> None:
    image = scans["MR"][0]
    stored = read_volume(labels / image.name.replace("_image", "_label"))
    values = [int(v) for v in np.unique(stored.array) if v]
    (tmp_path / "labels").mkdir()
    path = tmp_path / "labels" / "mr0.seg.nrrd"

    def join(*names: str) -> tuple[np.ndarray, list[str]]:
        fields: dict[str, str] = {}
        for number, (value, name) in enumerate(zip(values, names, strict=False)):
            fields |= {f"Segment{number}_Name": name, f"Segment{number}_LabelValue": str(value)}
        write_labels(stored.array.astype(np.uint8), stored.geometry, path, fields)
        reporter = Reporter()
        pairs = pair_labels([image], path.parent)
        (name,) = join_training_set(translator, pairs, tmp_path / "set", overwrite=True, reporter=reporter)
        return read_volume(tmp_path / "set" / "labels" / f"{name}.nii.gz").array, reporter.announcements

    assert len(values) > 1
    made, said = join("Pulmonary artery", "spine")
    assert np.array_equal(made, np.where(stored.array == values[0], 7, 0))
    assert "mean no structure and count as background" in said[0]
    with pytest.raises(InputError, match=r"no segment of 'mr0\.seg\.nrrd' has the name of a structure"):
        join("spine")


def test_heartseg_train_takes_the_joined_set(
    translator: Translator, scans: dict[str, list[Path]], labels: Path, tmp_path: Path
) -> None:
    from heartseg.training.nnunet.datasets import find_cases

    names = join_training_set(translator, pair_labels(scans["MR"], labels), tmp_path)
    found = find_cases(tmp_path)
    assert [c.name for c in found.cases] == names
    assert not found.problems


def test_a_stopped_call_goes_on_and_a_finished_one_does_nothing(
    translator: Translator, scans: dict[str, list[Path]], labels: Path, tmp_path: Path
) -> None:
    pairs = pair_labels(scans["MR"], labels)

    def stop(event: ProgressEvent) -> None:
        if event.stage == "join" and event.done == 1:
            reporter.cancel.cancel()

    reporter = Reporter(stop)
    with pytest.raises(Cancelled):
        join_training_set(translator, pairs, tmp_path, reporter=reporter)
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["mr2ct_mr0.nii.gz"]
    join_training_set(translator, pairs, tmp_path)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nii.gz")}
    assert len(times) == 6
    join_training_set(translator, pairs, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_a_case_from_elsewhere_is_not_overwritten_unasked(
    translator: Translator, scans: dict[str, list[Path]], labels: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mr2ct_mr0.nii.gz").write_bytes(b"mine")
    pairs = pair_labels(scans["MR"][:1], labels)
    with pytest.raises(OutputError, match="exists and was not made from"):
        join_training_set(translator, pairs, tmp_path)
    assert (tmp_path / "images" / "mr2ct_mr0.nii.gz").read_bytes() == b"mine"
    join_training_set(translator, pairs, tmp_path, overwrite=True)
    assert read_volume(tmp_path / "images" / "mr2ct_mr0.nii.gz").array.ndim == 3


def test_labels_on_another_grid_are_refused_and_nothing_is_written(
    translator: Translator, scans: dict[str, list[Path]], tmp_path: Path
) -> None:
    volume, labels = scan("MR", 0, spacing_mm=(6.0, 6.0, 12.0))
    write_labels(labels, volume.geometry, tmp_path / "mr0_label.nii.gz")
    with pytest.raises(InputError, match=r"grid of labels .* scan 'mr0_image'"):
        join_training_set(translator, pair_labels(scans["MR"][:1], tmp_path), tmp_path / "set")
    assert not list((tmp_path / "set").rglob("*.nii.gz"))


def test_an_image_in_place_of_labels_is_refused(
    translator: Translator, scans: dict[str, list[Path]], tmp_path: Path
) -> None:
    shutil.copy(scans["MR"][1], tmp_path / "mr0_label.nii.gz")
    with pytest.raises(InputError, match="fractional values"):
        join_training_set(translator, pair_labels(scans["MR"][:1], tmp_path), tmp_path / "set")


def test_mmwhs_label_values_stay(translator: Translator, tmp_path: Path) -> None:
    volume, labels = scan("MR", 0)
    values = np.array([0, 500, 600, 420, 550, 205, 820, 850], np.int16)[labels]
    write_volume(volume, tmp_path / "mr_train_1001_image.nii.gz")
    write_volume(replace(volume, array=values), tmp_path / "mr_train_1001_label.nii.gz")
    both = [tmp_path / f"mr_train_1001_{kind}.nii.gz" for kind in ("image", "label")]
    assert without_label_maps(both) == both[:1]
    pairs = pair_labels(both, tmp_path)  # both in one folder, as in MM-WHS
    assert [p.name for p in pairs] == ["mr_train_1001"]
    join_training_set(translator, pairs, tmp_path / "set")
    assert np.array_equal(read_volume(tmp_path / "set" / "labels" / "mr2ct_mr_train_1001.nii.gz").array, values)


def test_a_scan_without_labels_and_labels_that_mean_one_case_are_refused(
    scans: dict[str, list[Path]], labels: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"has no labels in .*: add mr0_label\.nii\.gz"):
        pair_labels(scans["MR"][:1], tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        pair_labels(scans["MR"], tmp_path / "none")
    for ending in ("seg", "label"):
        shutil.copy(labels / "mr0_label.nii.gz", tmp_path / f"mr0_{ending}.nii.gz")
    with pytest.raises(InputError, match="are both labels of 'mr0'"):
        pair_labels(scans["MR"][:1], tmp_path)
