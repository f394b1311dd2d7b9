"""Training with scans without references: real preprocessing, nnU-Net's loop, resuming."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")

from heartseg.errors import Cancelled, InputError, SettingsError
from heartseg.models.card import ModelCard, read_json
from heartseg.progress import CancelToken, ProgressEvent, Reporter
from heartseg.training.nnunet.ablate import ablate
from heartseg.training.nnunet.datasets import find_unlabelled
from heartseg.training.nnunet.job import DataOptions, Machine, Training
from heartseg.training.nnunet.presets import CSFBU, Preset
from heartseg.training.nnunet.run import train
from heartseg.training.nnunet.unlabelled import UnlabelledTeacher
from heartseg.volume import read_volume
from labelled_scans import make_mmwhs

PRESET = CSFBU.with_changes(epochs=2, iterations=2, validation_iterations=1, batch=2, pseudo_threshold=0.2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mmwhs(tmp_path_factory.mktemp("labelled") / "data", 3, (7.0, 7.0, 9.0))


@pytest.fixture(scope="module")
def scans(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans without references, one of them in a subfolder."""
    folder = tmp_path_factory.mktemp("unlabelled")
    (folder / "more").mkdir()
    shutil.copy(data / "ct_train_1001_image.nii.gz", folder / "ct_test_2001_image.nii.gz")
    shutil.copy(data / "ct_train_1003_image.nii.gz", folder / "more" / "ct_test_2002_image.nii.gz")
    return folder


def training(data: Path, scans: Path | None, out: Path, **changes: Any) -> Training:
    options = DataOptions(data, orientation="lps", folds=3, unlabelled=scans)
    return replace(Training(options, out, PRESET, Machine("cpu"), "Taught", only_folds=(0,), seed=1), **changes)


@pytest.fixture(scope="module")
def taught(data: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    done = training(data, scans, tmp_path_factory.mktemp("taught") / "out")
    train(done)
    return done


def weights(of: Training) -> dict[str, torch.Tensor]:
    return torch.load(of.out / "model" / "fold_0" / "checkpoint_final.pth", weights_only=True)["network_weights"]


def test_unlabelled_scans_are_preprocessed_like_labelled_ones(taught: Training, scans: Path) -> None:
    """A scan is preprocessed identically with and without its reference, reoriented to LPS if requested."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    home = taught.out / "preprocessed" / "Dataset501_HeartSeg"
    (unlabelled,) = home.glob("unlabelled_*")
    labelled = home / unlabelled.name.removeprefix("unlabelled_")
    assert read_volume(scans / "more" / "ct_test_2002_image.nii.gz").geometry.orientation != "LPS"
    found = nnUNetDatasetBlosc2(str(unlabelled)).load_case("more_ct_test_2002_image")[0]
    same = nnUNetDatasetBlosc2(str(labelled)).load_case("ct_train_1003")[0]
    assert np.array_equal(found[:], same[:])


def test_unlabelled_scans_contribute_to_the_loss_and_are_recorded(taught: Training, data: Path, tmp_path: Path) -> None:
    without = training(data, None, tmp_path / "out")
    train(without)
    mine, theirs = weights(taught), weights(without)
    assert mine.keys() == theirs.keys() and any(not torch.equal(mine[k], theirs[k]) for k in mine)
    assert ModelCard.read(taught.out / "model").trained_on["unlabelled"] == 2
    assert ModelCard.read(without.out / "model").trained_on["unlabelled"] == 0
    log = (taught.out / "train.log").read_text(encoding="utf-8")
    assert log.count("of the unlabelled voxels") == 2
    held_out = json.loads((taught.out / "preprocessed" / "Dataset501_HeartSeg" / "splits_final.json").read_text())
    assert all("test" not in name for fold in held_out for name in (*fold["train"], *fold["val"]))


def test_an_interrupted_training_with_unlabelled_scans_ends_with_identical_weights(
    taught: Training, data: Path, scans: Path, tmp_path: Path
) -> None:
    token, seen = CancelToken(), []

    def stop(event: ProgressEvent) -> None:
        if event.stage == "csfbu, fold 0":
            seen.append(event.done)
            if event.done == 4:  # in the second epoch: an epoch has two steps and one validation batch
                token.cancel()

    again = training(data, scans, tmp_path / "out")
    with pytest.raises(Cancelled):
        train(again, Reporter(stop, token))
    assert seen
    train(again)
    mine, first = weights(again), weights(taught)
    assert all(torch.equal(mine[k], first[k]) for k in first)


def test_only_confident_predictions_contribute_to_the_loss() -> None:
    net = torch.nn.Conv2d(1, 3, 1)
    images = torch.rand(2, 1, 32, 32)
    for threshold, taught in ((1e-6, True), (1.0, False)):
        preset = Preset(network="plain", pseudo_threshold=threshold)
        teacher = UnlabelledTeacher(iter([images]), preset, 10, 3, torch.device("cpu"))
        loss = teacher.loss(net, 9)
        (gradient,) = torch.autograd.grad(loss, [net.weight])
        assert bool(gradient.abs().sum() > 0) == taught and teacher.mean_sure() == float(taught)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("scan_label.nii.gz", "looks like a label map"),
        ("scan.seg.nrrd", "looks like a label map"),
        ("labelsTr/scan.nii.gz", "looks like a label map"),
        ("case1/mask.nii.gz", "looks like a label map"),
        ("a.txt", "no scans"),
    ],
)
def test_a_folder_without_scans_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=words):
        find_unlabelled(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unlabelled.*does not exist"):
        find_unlabelled(tmp_path / "nowhere")


def test_a_damaged_scan_is_named_and_can_be_omitted(data: Path, scans: Path, tmp_path: Path) -> None:
    bad = tmp_path / "scans"
    shutil.copytree(scans, bad)
    whole = (bad / "ct_test_2001_image.nii.gz").read_bytes()
    (bad / "broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    wanted = training(data, bad, tmp_path / "out")
    with pytest.raises(InputError, match=r"unlabelled scan broken.nii.gz: .*--skip-bad"):
        train(wanted)
    train(replace(wanted, data=replace(wanted.data, skip_bad=True)))
    assert ModelCard.read(wanted.out / "model").trained_on["unlabelled"] == 2


def test_a_label_map_with_another_name_is_refused(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    shutil.copy(data / "ct_train_1001_label.nii.gz", folder / "case.nii.gz")
    with pytest.raises(InputError, match=r"case.nii.gz: it looks like a label map"):
        train(training(data, folder, tmp_path / "out"))


def test_names_with_a_common_prefix_keep_their_scans(data: Path, scans: Path, tmp_path: Path) -> None:
    """``scan-1`` is sorted before ``scan`` in a folder, and a pattern for ``scan`` would match its files."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("scan-1", "scan"):
        shutil.copy(scans / "ct_test_2001_image.nii.gz", folder / f"{name}.nii.gz")
    wanted = training(data, folder, tmp_path / "out", preset=PRESET.with_changes(epochs=1))
    reporter = Reporter()
    train(wanted, reporter)
    assert ModelCard.read(wanted.out / "model").trained_on["unlabelled"] == 2
    assert any("is the labelled case ct_train_1001" in text for text in reporter.announcements)


def test_changed_scans_are_refused_and_deleted_ones_are_no_longer_needed(
    taught: Training, scans: Path, tmp_path: Path
) -> None:
    shutil.copytree(taught.out, tmp_path / "out", symlinks=True)
    again = replace(taught, out=tmp_path / "out")
    moved = scans.rename(scans.with_name("moved"))
    try:
        reporter = Reporter()
        assert train(again, reporter).is_dir() and "csfbu, fold 0" not in reporter.seconds
    finally:
        moved.rename(scans)
    added = scans / "new.nii.gz"
    shutil.copy(scans / "ct_test_2001_image.nii.gz", added)
    try:
        with pytest.raises(InputError, match=r"unlabelled scan new .* is new since"):
            train(again)
    finally:
        added.unlink()


def test_another_folder_of_unlabelled_scans_is_another_setting(taught: Training, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unlabelled"):
        train(replace(taught, data=replace(taught.data, unlabelled=None)))


def test_several_gpus_are_refused(data: Path, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="several GPUs"):
        training(data, scans, tmp_path / "out", machine=Machine("cuda", gpus=2)).check()


def test_an_ablation_uses_unlabelled_scans_only_in_configurations_that_ask_for_them(
    data: Path, scans: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"configuration 'unlabelled' .* --unlabelled"):
        ablate(training(data, None, tmp_path / "none"), {"unlabelled": {"unlabelled": True}}, [0])
    with pytest.raises(SettingsError, match="--unlabelled"):
        ablate(training(data, scans, tmp_path / "some"), {"baseline": {"network": "plain"}}, [0])
    wanted = training(data, scans, tmp_path / "out", preset=PRESET.with_changes(network="plain", epochs=1))
    trials = ablate(wanted, {"baseline": {}, "unlabelled": {"unlabelled": True}}, [0])
    assert [t.configuration for t in trials] == ["baseline", "unlabelled"]
    home = wanted.out / "preprocessed" / "Dataset501_HeartSeg"
    assert "unlabelled" not in read_json(home / "baseline-seed0.json")["heartseg"]
    assert len(read_json(home / "unlabelled-seed0.json")["heartseg"]["unlabelled"]) == 2
