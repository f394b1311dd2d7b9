"""From labelled scans to an installed model, through nnU-Net's real planning, preprocessing and training."""

from __future__ import annotations

import copy
import csv
import json
import os
import re
import shutil
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from hearts import read
from heartseg.cli.main import main
from heartseg.errors import Cancelled, DeviceError, InputError, SettingsError
from heartseg.inference.engine import Engine
from heartseg.models.card import ModelCard, read_json
from heartseg.models.folder import ModelFolder
from heartseg.progress import CancelToken, ProgressEvent, Reporter
from heartseg.settings import Settings
from heartseg.training.nnunet.config import read_config
from heartseg.training.nnunet.presets import Preset
from heartseg.training.nnunet.testing import score_test_set
from heartseg.volume import Geometry, Volume, read_volume
from near_ties import assert_equal_but_near_ties
from stock_nnunet import predict_stock

if TYPE_CHECKING:
    from training.nnunet.conftest import Trained

pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")


def test_the_model_folder_is_complete_and_its_card_describes_the_training(trained: Trained) -> None:
    card = ModelCard.read(trained.model)
    assert card.name == "Tiny-CSFBU"
    assert card.labels == {1: "LV", 2: "RV", 3: "LA", 4: "RA", 5: "MYO", 6: "AO", 7: "PA"}
    assert card.orientation == "LPS"
    assert card.modalities == ("CT",)
    assert card.trained_on["n"] == 3 and card.trained_on["steps"] == 4 and card.trained_on["batch"] == 2
    (test,) = card.tested_on
    assert test["n"] == 1, "one fold of three holds one case out"
    assert set(test["dice"]) == set(card.labels.values())
    assert set(card.files) == {"plans.json", "dataset.json", "fold_0/checkpoint_final.pth"}
    assert "MM-WHS" in " ".join(card.citation)


def test_the_checkpoint_contains_weights_and_no_code(trained: Trained) -> None:
    content = torch.load(trained.model / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert set(content) == {
        "network_weights",
        "trainer_name",
        "init_args",
        "inference_allowed_mirroring_axes",
    }
    assert content["trainer_name"] == "nnUNetTrainer"


def test_curves_and_log_exist_and_files_of_nnunet_are_removed(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    out = trained.training.out
    picture = (out / "progress_fold_0.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    with (out / "history_fold_0.csv").open(encoding="utf-8") as stream:
        history = list(csv.DictReader(stream))
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert all(np.isfinite(float(row["loss"])) for row in history)
    assert read_config(out / "config.yaml", Preset()) == trained.training.preset
    log = (out / "train.log").read_text(encoding="utf-8")
    assert "epoch 2 of 2" in log and "Mean Validation Dice" in log
    gone_or_new = trained.environment_after.items() ^ trained.environment_before.items()
    assert not [k for k, _ in gone_or_new if k.lower().startswith("nnunet")]  # torch and blosc2 set some
    assert not [p for p in out.rglob("*") if ".part-" in p.name]


def test_every_step_reports_progress(trained: Trained) -> None:
    folds = ("csfbu, fold 0", "csfbu, validate fold 0")
    assert {"check data", "convert", "fingerprint", "preprocess", *folds, "write model"} <= set(trained.stages)


def test_the_installed_model_segments_a_scan_in_any_orientation(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEARTSEG_MODELS", str(tmp_path / "models"))
    assert main(["models", "install", str(trained.model), "--name", "Mine"]) == 0
    scan = trained.training.data.data / "ct_train_1003_image.nii.gz"
    command = ["segment", str(scan), "--model", "Mine", "-o", str(tmp_path / "out"), "--format", "labels"]
    assert main(command) in (0, 3), capsys.readouterr().err  # exit code 3: four steps find no heart
    labels, geometry = read(tmp_path / "out" / "labels.nii.gz")
    assert geometry.same_grid(read_volume(scan).geometry)
    assert set(np.unique(labels)) <= set(range(8))


def test_reorientation_of_a_scan_does_not_change_its_labels(trained: Trained) -> None:
    """The card declares LPS, so a 2D model receives LPS slices."""
    from heartseg.volume.geometry import to_nearest_lps

    volume = read_volume(trained.training.data.data / "ct_train_1003_image.nii.gz")
    flip, turned = to_nearest_lps(volume.geometry)
    assert volume.geometry.orientation != "LPS"
    engine = Engine(ModelFolder.open(trained.model), Settings(device="cpu", clean_up=False))
    stored = engine.predict(volume, Reporter()).labels
    lps = engine.predict(Volume(np.ascontiguousarray(flip.apply(volume.array)), turned), Reporter()).labels
    assert len(np.unique(lps)) > 1, "the network finds one label everywhere: nothing is compared"
    assert np.mean(flip.apply(stored) != lps) <= 1e-3  # near-ties, which are frequent after only four steps


def test_stock_nnunet_gives_the_same_labels_with_a_2d_model(trained: Trained) -> None:
    labels = trained.training.out / "raw" / "Dataset501_HeartSeg" / "imagesTr" / "ct_train_1002_0000.nii.gz"
    volume = read_volume(labels)  # reoriented to LPS by the conversion
    stock = predict_stock(trained.model, volume.array, volume.geometry.spacing[::-1])
    settings = Settings(device="cpu", clean_up=False, precision="float32")
    ours = Engine(ModelFolder.open(trained.model), settings).predict(volume, Reporter()).labels
    assert len(np.unique(stock.labels)) > 2, "the network finds hardly anything: nothing is compared"
    assert_equal_but_near_ties(ours, stock.labels, stock.margin)


def test_a_network_with_an_edge_head_is_exported_as_a_stock_network(trained: Trained, tmp_path: Path) -> None:
    """The edges were used only for training; the folder requires no class of HeartSeg and gives the same labels."""
    from heartseg.networks.catalogue import build
    from heartseg.training.nnunet.run import train

    preset = trained.training.preset.with_changes(network="csfbu-head", epochs=1)
    training = replace(trained.training, out=tmp_path / "out", preset=preset)
    folder = ModelFolder.open(train(training))
    assert folder.network.class_name == "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    assert not {"edge", "fusion"} & set(folder.network.kwargs)

    (file,) = (training.out / "results").rglob("checkpoint_final.pth")
    weights = torch.load(file, weights_only=False)["network_weights"]  # from the training of this test
    whole = build("csfbu-head", folder.network.kwargs, 1, 8, deep_supervision=False)
    whole.load_state_dict(weights)
    (stock,) = Engine(folder, Settings(device="cpu")).networks
    image = torch.rand(2, 1, 1, *folder.patch_size)
    with torch.inference_mode():
        assert torch.allclose(whole.eval()(image[:, :, 0]), stock(image)[:, :, 0], atol=1e-6)


def test_from_an_exported_model_region_channels_are_loaded_and_edge_channels_initialised(tmp_path: Path) -> None:
    """The model lacks the edge channels: region channels are loaded, edge channels are initialised."""
    from heartseg.networks.catalogue import build, unet_plan
    from heartseg.training.nnunet.trainers import load_start_weights

    finished, network = (build(key, unet_plan((8, 16), 2), 1, 8) for key in ("plain", "csfbu-head"))
    torch.save({"network_weights": finished.state_dict()}, tmp_path / "start.pth")
    edges = {k: v[8:].clone() for k, v in network.state_dict().items() if ".seg_layers." in k}
    load_start_weights(network, tmp_path / "start.pth")
    assert edges
    for key, weight in network.state_dict().items():
        assert torch.equal(weight[:8] if key in edges else weight, finished.state_dict()[key])
        assert key not in edges or torch.equal(weight[8:], edges[key])


@pytest.fixture(scope="module")
def csfbu_3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 3D CSFBU-Net with inner edges, trained briefly on ellipsoids, as a folder of nnU-Net."""
    from heartseg.networks.catalogue import find
    from heartseg.training.nnunet.presets import CSFBU
    from heartseg.training.nnunet.supervision import TrainingLoss
    from tiny_models import build_tiny_network, make_tiny_model_folder, normalize_tiny, synthetic_volume

    path = make_tiny_model_folder(tmp_path_factory.mktemp("csfbu") / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    plans = read_json(path / "plans.json")
    architecture, entry = plans["configurations"]["3d_fullres"]["architecture"], find("csfbu")
    architecture["network_class_name"] = entry.class_path
    architecture["arch_kwargs"] = entry.arguments(architecture["arch_kwargs"])
    (path / "plans.json").write_text(json.dumps(plans))
    network = build_tiny_network(plans, 4, seed=2).train()
    loss = TrainingLoss(CSFBU, 3, (1.5, 1.5, 1.5))
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    image, truth = synthetic_volume(3, (40, 40, 40), seed=1)
    x = torch.from_numpy(normalize_tiny(image, plans)).float()[None, None]
    y = torch.from_numpy(truth.astype(np.int64))[None, None]
    for _ in range(25):
        optimizer.zero_grad()
        loss(network(x), y).backward()
        optimizer.step()
    checkpoint = torch.load(path / "fold_0" / "checkpoint_final.pth", weights_only=False)  # written by this test
    checkpoint["network_weights"] = network.state_dict()
    torch.save(checkpoint, path / "fold_0" / "checkpoint_final.pth")
    return path


def test_stock_nnunet_and_heartseg_agree_on_a_3d_model(csfbu_3d: Path) -> None:
    """On the spacing of the plans, so nothing is resampled."""
    from tiny_models import synthetic_volume

    folder = ModelFolder.open(csfbu_3d)
    assert folder.needs_fallback is None, "our own loop must run it"
    array, _ = synthetic_volume(3, (40, 44, 42), seed=7)
    geometry = Geometry(array.shape, (1.5, 1.5, 1.5))
    settings = Settings(device="cpu", locate=False, clean_up=False, reorient=False)
    ours = Engine(folder, settings).predict(Volume(array, geometry), Reporter()).labels
    stock = predict_stock(csfbu_3d, array, (1.5, 1.5, 1.5))
    wanted = folder.structure_lut()[stock.labels]
    assert all((wanted == value).mean() > 0.005 for value in folder.structure_lut()[1:]), "nothing is compared"
    assert_equal_but_near_ties(ours, wanted, stock.margin)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoint_final.pth", weights_only=False)["network_weights"]


def test_an_interrupted_training_ends_with_identical_weights(again: Any) -> None:
    whole = again("whole", epochs=2)
    token = CancelToken()

    def stop_in_the_second_epoch(event: ProgressEvent) -> None:
        if event.stage == "stopped, fold 0" and event.done == 4:  # an epoch has two steps and one validation batch
            token.cancel()

    with pytest.raises(Cancelled):
        again("stopped", Reporter(stop_in_the_second_epoch, token), epochs=2)
    stopped = whole.parent.with_name(whole.parent.name.replace("whole", "stopped")) / "fold_0"
    assert (stopped / "checkpoint_latest.pth").is_file() and not (stopped / "checkpoint_final.pth").exists()
    assert again("stopped", epochs=2) == stopped
    expected, found = weights_of(whole), weights_of(stopped)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def test_a_finished_training_is_not_repeated(trained: Trained) -> None:
    from heartseg.training.nnunet.run import train

    checkpoint = next((trained.training.out / "results").rglob("fold_0/checkpoint_final.pth"))
    before = checkpoint.stat().st_mtime_ns
    reporter = Reporter()
    assert train(trained.training, reporter) == trained.model
    assert checkpoint.stat().st_mtime_ns == before
    assert set(reporter.seconds) == {"write model"}


def test_a_changed_setting_in_the_same_folder_is_refused(trained: Trained) -> None:
    from heartseg.training.nnunet.run import train

    other = replace(trained.training, seed=2)
    with pytest.raises(SettingsError, match=r"holds a training with seed '?1'?, not '?2'?"):
        train(other)


def test_the_changed_setting_is_named(trained: Trained) -> None:
    from heartseg.training.nnunet.run import train

    with pytest.raises(SettingsError, match="holds a training with batch 2, not 1: choose another folder"):
        train(replace(trained.training, preset=trained.training.preset.with_changes(batch=1)))


def test_batch_and_patch_may_be_reduced_before_the_first_checkpoint(tmp_path: Path) -> None:
    from heartseg.training.nnunet.convert import write_json
    from heartseg.training.nnunet.job import DataOptions, Training
    from heartseg.training.nnunet.presets import CSFBU
    from heartseg.training.nnunet.run import _fingerprint, _refuse_another_training

    begun = Training(DataOptions(tmp_path / "data"), tmp_path)
    record = tmp_path / "training.json"
    write_json(record, _fingerprint(begun))
    with pytest.raises(SettingsError, match="with epochs 200, not 100"):
        _refuse_another_training(replace(begun, preset=CSFBU.with_changes(batch=7, epochs=100)))
    _refuse_another_training(replace(begun, preset=CSFBU.with_changes(batch=7, patch=(64, 64))))
    assert read_json(record)["preset"]["batch"] == 7
    (tmp_path / "results" / "fold_0").mkdir(parents=True)
    (tmp_path / "results" / "fold_0" / "checkpoint_latest.pth").touch()
    with pytest.raises(SettingsError, match="with batch 7, not 14"):
        _refuse_another_training(replace(begun, preset=CSFBU.with_changes(patch=(64, 64))))


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that converts and splits two pairs from ``tmp_path/data`` into ``tmp_path/out``."""
    from heartseg.training.nnunet import planning
    from heartseg.training.nnunet.job import DataOptions, Machine, Training
    from heartseg.training.nnunet.run import prepared
    from labelled_scans import make_folder_pair

    monkeypatch.setattr(planning, "plan", lambda *_: {})
    training = Training(
        DataOptions(make_folder_pair(tmp_path / "data", 2, (8.0, 8.0, 10.0)), folds=2),
        tmp_path / "out",
        machine=Machine("cpu"),
    )

    def convert() -> None:
        with prepared(training, Reporter()):
            pass

    convert()
    return convert


def test_scans_in_several_orientations_are_announced_unless_they_are_reoriented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartseg.training.nnunet import planning
    from heartseg.training.nnunet.job import DataOptions, Machine, Training
    from heartseg.training.nnunet.run import prepared
    from labelled_scans import make_mmwhs

    monkeypatch.setattr(planning, "plan", lambda *_: {})
    data = make_mmwhs(tmp_path / "data", 3, (8.0, 8.0, 10.0))
    notice = "scans are stored in 3 orientations (LPS, PIL, RAS): train with --orientation lps"
    for orientation, said in (("keep", [notice]), ("lps", [])):
        options, reporter = DataOptions(data, orientation=orientation, folds=3), Reporter()
        with prepared(Training(options, tmp_path / orientation, machine=Machine("cpu")), reporter):
            assert reporter.announcements == said


@pytest.mark.parametrize(
    "lost", ["cases.json", "raw/Dataset501_HeartSeg/dataset.json", "preprocessed/Dataset501_HeartSeg/splits_final.json"]
)
def test_an_interrupted_conversion_is_repeated(converted: Callable[[], None], tmp_path: Path, lost: str) -> None:
    before = (tmp_path / "out" / lost).read_text()
    (tmp_path / "out" / lost).unlink()
    converted()
    assert (tmp_path / "out" / lost).read_text() == before


def test_data_changed_after_the_conversion_are_refused_and_may_be_deleted(
    converted: Callable[[], None], tmp_path: Path
) -> None:
    data, label = tmp_path / "data", tmp_path / "data" / "labels" / "heart_01.nii.gz"

    def refused() -> str:
        with pytest.raises(InputError, match="choose another folder with -o") as error:
            converted()
        return str(error.value)

    converted()
    times = label.stat().st_atime, label.stat().st_mtime
    os.utime(label, (times[0], times[1] + 5))
    assert refused().startswith(f"case heart_01 in '{data}' has changed since")
    os.utime(label, times)
    for kind in ("images", "labels"):
        shutil.copy2(data / kind / "heart_01.nii.gz", data / kind / "heart_00b.nii.gz")
    assert refused().startswith("case heart_00b in") and "is new" in refused()
    for kind in ("images", "labels"):
        (data / kind / "heart_00b.nii.gz").unlink()
        (data / kind / "heart_00.nii.gz").rename(tmp_path / f"{kind}.nii.gz")
    assert "heart_00 in" in refused() and "is missing" in refused()
    shutil.rmtree(data)
    converted()


def test_folds_trained_in_several_calls_form_one_model(trained: Trained, tmp_path: Path) -> None:
    from heartseg.training.nnunet.run import train

    shutil.copytree(trained.training.out, tmp_path / "out", symlinks=True)
    card = ModelCard.read(train(replace(trained.training, out=tmp_path / "out", only_folds=(1,))))
    assert card.trained_on["folds"] == [0, 1]
    assert {f for f in card.files if f.startswith("fold")} == {f"fold_{k}/checkpoint_final.pth" for k in (0, 1)}
    assert card.tested_on[0]["n"] == 2


@pytest.fixture
def trainer(trained: Trained) -> Any:
    """Return an initialised trainer of the finished training, made as for a resumed run."""
    from heartseg.training.nnunet.run import plans_of, prepared
    from heartseg.training.nnunet.trainers import HeartSegTrainer

    training = trained.training
    with prepared(training, Reporter()) as base:
        plans = plans_of(training, base, training.preset, training.preset.name, training.seed)
        dataset = read_json(training.out / "preprocessed" / "Dataset501_HeartSeg" / "dataset.json")
        found = HeartSegTrainer({**plans, "continue_training": True}, "2d", 0, dataset, torch.device("cpu"))
        found.initialize()
        yield found


def test_a_test_set_that_cannot_be_scored_is_refused_before_the_training(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartseg.training.nnunet.run import train
    from heartseg.training.nnunet.testing import check_test_set

    monkeypatch.setattr("heartseg.training.nnunet.run.train_fold", pytest.fail)
    shutil.copytree(trained.training.out, tmp_path / "out", symlinks=True, ignore=shutil.ignore_patterns("test"))
    training = replace(trained.training, out=tmp_path / "out", only_folds=(1,))
    for test in (tmp_path / "nowhere", Path(trained.training.data.data)):
        with pytest.raises(InputError, match=re.escape(str(test))):
            train(replace(training, test=test))
    own = replace(training, test=tmp_path / "nowhere", preset=replace(training.preset, network="mine.nets.Net"))
    with pytest.raises(SettingsError, match="HEARTSEG_TRUSTED_PACKAGES=mine,"):
        check_test_set(own, Reporter())
    monkeypatch.setenv("HEARTSEG_TRUSTED_PACKAGES", "mine")
    with pytest.raises(InputError, match="nowhere"):
        check_test_set(own, Reporter())


def test_an_independent_test_set_is_scored_once(trained: Trained, tmp_path: Path) -> None:
    from labelled_scans import make_mmwhs

    test = make_mmwhs(tmp_path / "more", 2, (9.0, 9.0, 9.0))
    for name in sorted(p.name for p in test.iterdir()):
        (test / name).rename(test / name.replace("_100", "_200"))
    (trained.training.out / "test").mkdir(exist_ok=True)
    seen = Path(trained.training.data.data)
    with pytest.raises(InputError, match="is among the training's cases"):
        score_test_set(replace(trained.training, test=seen), trained.model, Reporter())
    reporter = Reporter()
    out = score_test_set(replace(trained.training, test=test), trained.model, reporter)
    content = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in content["cases"]] == ["ct_train_2001", "ct_train_2002"]
    assert (out / "evaluation.csv").is_file() and (out / "evaluation.png").is_file()
    truth = read_volume(out / "references" / "ct_train_2001.nii.gz")
    assert set(np.unique(truth.array)) == set(range(8))
    written = (out / "evaluation.json").stat().st_mtime_ns
    assert score_test_set(replace(trained.training, test=test), trained.model, reporter) == out
    assert (out / "evaluation.json").stat().st_mtime_ns == written
    assert "scored before" in reporter.announcements[-1]
    assert score_test_set(trained.training, trained.model, reporter) is None


def test_out_of_memory_names_the_setting_to_reduce(trainer: Any) -> None:
    with (
        pytest.raises(DeviceError, match=r"lower --batch \(now 2\), then --patch \(now \d+x\d+\)"),
        trainer._memory_advice(),
    ):
        torch.empty(1 << 60)  # a real failure of torch's allocator


def test_other_errors_are_raised_unchanged(trainer: Any) -> None:
    with pytest.raises(RuntimeError, match="size of tensor"), trainer._memory_advice():
        torch.zeros(3) + torch.zeros(4)


def test_optimiser_and_schedule_are_those_of_the_preset(trainer: Any) -> None:
    from heartseg.training.nnunet.presets import CSFBU, INTEGRATED_ATTENTION

    group = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.01, 0.99, True, 3e-5)

    def rates(preset: Any, epochs: tuple[int, ...]) -> list[float]:
        trainer.preset, trainer.num_epochs = preset, preset.epochs
        optimizer, schedule = trainer.configure_optimizers()
        found = []
        for epoch in epochs:
            schedule.step(epoch)
            found.append(optimizer.param_groups[0]["lr"])
        return found

    assert rates(CSFBU, (0, 100, 199)) == pytest.approx([0.01, 0.005, 0.01 / 200])
    assert rates(INTEGRATED_ATTENTION, (0, 250, 499)) == pytest.approx([1e-4] * 3)
    adam = trainer.configure_optimizers()[0]
    assert type(adam) is torch.optim.Adam
    assert adam.param_groups[0]["weight_decay"] == 1e-5


def test_edges_are_separate_in_training_and_part_of_their_region_in_evaluation(trainer: Any) -> None:
    x = torch.randn(1, 1, *trainer.configuration_manager.patch_size)
    with torch.no_grad():
        assert trainer.network.train()(x)[0].shape[1] == 1 + 2 * 7
        assert trainer.network.eval()(x)[0].shape[1] == 1 + 7


@pytest.mark.parametrize(("batch", "share"), [(1, 0.33), (2, 0.5)])
def test_batches_of_one_sample_contain_structures_at_the_rate_of_the_preset(
    trainer: Any, batch: int, share: float
) -> None:
    """nnU-Net's own loader decides; because of its rounding, a batch of one would never be centred on a structure."""
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

    from heartseg.training.nnunet.trainers import HeartSegTrainer

    plans = copy.deepcopy(trainer.plans_manager.plans)
    plans["configurations"]["2d"]["batch_size"] = batch
    plans["continue_training"] = True
    one = HeartSegTrainer(plans, "2d", 0, trainer.dataset_json, torch.device("cpu"))
    loader = nnUNetDataLoader(
        types.SimpleNamespace(identifiers=["a"]),
        batch,
        (8, 8),
        (8, 8),
        one.label_manager,
        oversample_foreground_percent=one.oversample_foreground_percent,
        probabilistic_oversampling=one.probabilistic_oversampling,
    )
    np.random.seed(0)  # noqa: NPY002
    chosen = [loader.get_do_oversample(k) for _ in range(2000) for k in range(batch)]
    assert np.mean(chosen) == pytest.approx(share, abs=0.04)


def test_omitted_cases_are_in_no_batch(trainer: Any) -> None:
    training, held_out = trainer.do_split()
    assert len(training) == 2 and len(held_out) == 1
    trainer.left_out = frozenset(training[:1])
    assert trainer.do_split() == (training[1:], held_out)


def test_mixed_precision_on_a_cpu_changes_only_the_training_and_by_little(trainer: Any) -> None:
    from heartseg.training.nnunet.trainers import train_in_bfloat16

    network = copy.deepcopy(trainer.network)
    network.__dict__.pop("forward", None)  # on a CPU with AMX, the trainer's own forward already uses mixed precision
    mixed = copy.deepcopy(network)
    train_in_bfloat16(mixed)
    x = torch.randn(2, 1, *trainer.configuration_manager.patch_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for a, b in zip(network.train()(x), mixed.train()(x), strict=True):
            assert b.dtype == torch.float32
            assert not torch.equal(a, b)
            assert (a - b).norm() < 0.05 * a.norm()
        torch.testing.assert_close(network.eval()(x)[0], mixed.eval()(x)[0], rtol=0, atol=1e-5)
    sum(o.square().mean() for o in mixed.train()(x)).backward()
    assert all(p.grad.dtype == torch.float32 for p in mixed.parameters() if p.grad is not None)


def test_the_commands_of_nnunet_find_the_trainer(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Like DDP processes and nnUNetv2_train: find the trainer by name, with nnUNet_extTrainer set."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    from heartseg.training.nnunet.environment import EXTERNAL, trainer_lookup_without_torchvision

    monkeypatch.setenv("nnUNet_extTrainer", str(EXTERNAL))
    with trainer_lookup_without_torchvision():
        found = recursive_find_trainer_class_by_name("HeartSegTrainer")
    assert found.__module__ == "heartseg.training.nnunet.trainers"


def test_the_training_command_of_nnunet_continues_a_training(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the documented command up to nnU-Net's loop: the trainer is found and built, and its checkpoint loaded."""
    from heartseg.training.nnunet import trainers
    from heartseg.training.nnunet.stock import run_stock_command

    steps = []
    monkeypatch.setattr(trainers.HeartSegTrainer, "run_training", lambda self: steps.append(self.current_epoch))
    monkeypatch.setattr(
        trainers.HeartSegTrainer, "perform_actual_validation", lambda self, *_: steps.append(self.preset.name)
    )
    arguments = ["501", "2d", "0", "-tr", "HeartSegTrainer", "-p", "csfbu", "--c", "-device", "cpu"]
    threads = torch.get_num_threads()
    try:
        run_stock_command(trained.training.out, "nnUNetv2_train", arguments)
    finally:
        torch.set_num_threads(threads)  # nnU-Net's command changes the number of threads
    assert steps == [2, "csfbu"]
    with pytest.raises(SettingsError, match="has no command 'nnUNetv2_dance'"):
        run_stock_command(trained.training.out, "nnUNetv2_dance", [])
    with pytest.raises(SettingsError, match="holds no training"):
        run_stock_command(trained.model, "nnUNetv2_train", arguments)


def test_more_gpus_than_available_are_refused(trained: Trained) -> None:
    from heartseg.training.nnunet.job import Machine
    from heartseg.training.nnunet.run import plans_of, prepared, train_fold

    training = replace(trained.training, machine=Machine("cuda", gpus=64, loaders=0), only_folds=(1,))
    with prepared(trained.training, Reporter()) as base, pytest.raises(DeviceError, match="lower --num-gpus"):
        plans = plans_of(training, base, training.preset, training.preset.name, training.seed)
        train_fold(training, plans, 1, Reporter())


def test_start_weights_are_used_if_they_fit_and_refused_otherwise(tmp_path: Path, trainer: Any) -> None:
    from heartseg.errors import ModelError
    from heartseg.training.nnunet.trainers import load_start_weights

    weights = {k: v + 1 for k, v in trainer.network.state_dict().items()}
    torch.save({"network_weights": weights}, tmp_path / "start.pth")
    load_start_weights(trainer.network, tmp_path / "start.pth")
    assert all(torch.equal(v, weights[k]) for k, v in trainer.network.state_dict().items())
    name = next(iter(weights))
    torch.save({"network_weights": {**weights, name: weights[name][:1]}}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="do not fit the network"):
        load_start_weights(trainer.network, tmp_path / "other.pth")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csfbu", "integrated-attention", "nnunet"])
def test_every_preset_runs_twenty_steps_at_full_size(name: str, tmp_path: Path) -> None:
    """Patch, batch and network of the full preset on CT-like phantoms of 1.5 mm; takes minutes per test on one core."""
    from heartseg.training.nnunet.job import DataOptions, Machine, Training
    from heartseg.training.nnunet.presets import PRESETS
    from heartseg.training.nnunet.run import train
    from labelled_scans import make_folder_pair

    data = make_folder_pair(tmp_path / "data", 2, (0.8, 0.8, 3.0))
    preset = PRESETS[name].with_changes(epochs=1, iterations=20, validation_iterations=1)
    full = PRESETS[name]
    assert (preset.batch, preset.patch) == (full.batch, full.patch)
    training = Training(DataOptions(data, folds=2), tmp_path / "out", preset, Machine("cpu"), only_folds=(0,))
    model = train(training)
    card = ModelCard.read(model)
    assert card.trained_on["steps"] == 20
    logged = torch.load(next((tmp_path / "out" / "results").rglob("checkpoint_final.pth")), weights_only=False)[
        "logging"
    ]
    assert np.isfinite(logged["train_losses"]).all()
    print(f"{name}: {(logged['epoch_end_timestamps'][0] - logged['epoch_start_timestamps'][0]) / 21:.2f} s a step")


@pytest.mark.slow
def test_fine_tuning_starts_from_the_default_models_weights(tmp_path: Path, default_model: Path) -> None:
    from heartseg.models.loading import load_model
    from heartseg.training.nnunet.job import DataOptions, Machine, Training
    from heartseg.training.nnunet.presets import NNUNET
    from heartseg.training.nnunet.run import train
    from labelled_scans import make_folder_pair

    data = make_folder_pair(tmp_path / "data", 2, (3.0, 3.0, 4.0))
    preset = NNUNET.with_changes(epochs=1, iterations=1, validation_iterations=1, learning_rate=1e-9)
    training = Training(
        DataOptions(data, orientation="lps", folds=2),
        tmp_path / "out",
        preset,
        Machine("cpu"),
        only_folds=(0,),
        start_from=str(default_model),
    )
    tuned = load_model(ModelFolder.open(train(training))).networks[0].state_dict()
    for name, tensor in load_model(ModelFolder.open(default_model)).networks[0].state_dict().items():
        assert torch.allclose(tensor, tuned[name], atol=1e-5), name
