"""Every network of the ablation gives a usable model folder, here with untrained weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")

from heartseg import Segmenter
from heartseg.cli.main import main
from heartseg.explain import Explainer
from heartseg.inference.engine import Engine
from heartseg.models.folder import ModelFolder
from heartseg.progress import Reporter
from heartseg.result import Result
from heartseg.settings import Settings
from heartseg.training.nnunet.ablate import CONFIGURATIONS, configured, draw_figures, heat_map, model_folder, plans_name
from heartseg.training.nnunet.ablation_table import Trial
from heartseg.training.nnunet.convert import DATASET_NAME, write_json
from heartseg.training.nnunet.environment import nnunet_environment
from heartseg.training.nnunet.finish import write_model
from heartseg.training.nnunet.job import DataOptions, Training, fold_folder
from heartseg.training.nnunet.planning import adapted_plans
from heartseg.training.nnunet.presets import CSFBU, NETWORK_NAMES, Preset
from heartseg.volume import Geometry, Volume, write_labels, write_volume

from .conftest import base_plans

KEYS = ("LV", "MYO", "AO")
SMALL = CSFBU.with_changes(patch=(32, 32), batch=2)
EVERY = {n: {"network": n} for n in NETWORK_NAMES}
"""Networks of all configurations; other settings affect only the card in the folder."""


def scan(side: int = 40) -> Volume:
    """Eight slices of noise, in HU, on LPS axes, with the pixel size of the plans."""
    array = np.random.default_rng(0).normal(200, 150, (8, side, side)).astype(np.float32)
    axes = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    geometry = Geometry((8, side, side), (2.0, 2.0, 8.0), (0.0, 0.0, 0.0), axes)
    return Volume(array, geometry, "noise", "CT")


def finished(out: Path, preset: Preset, name: str) -> tuple[Training, dict]:
    """Make a training with one complete fold: the checkpoint is HeartSegTrainer's, with few channels."""
    training = Training(DataOptions(out / "data", folds=2), out, preset, name=name, only_folds=(0,))
    plans = adapted_plans(base_plans(), preset, name, 0)
    (configuration,) = plans["configurations"].values()
    kwargs = configuration["architecture"]["arch_kwargs"]
    configuration["spacing"] = [2.0, 2.0]
    kwargs["features_per_stage"] = [4] * kwargs["n_stages"]
    labels = {"background": 0, **{k: i for i, k in enumerate(KEYS, start=1)}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
    fold = fold_folder(training, plans, 0)
    for folder in (out / "raw" / DATASET_NAME, fold / "validation"):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(out / "raw" / DATASET_NAME / "dataset.json", dataset)
    facts = {"channel": "CT", "structures": KEYS, "layout": "folders", "n": 2, "cases": {"a": {}, "b": {}}}
    write_json(out / "cases.json", facts | {"stored_orientations": {"LPS": 2}, "orientation": "keep"})
    data = out / "preprocessed" / DATASET_NAME / configuration["data_identifier"]
    data.mkdir(parents=True, exist_ok=True)
    (data / "a.b2nd").touch()
    with nnunet_environment(out, 0, 1):
        from heartseg.training.nnunet.trainers import HeartSegTrainer

        trainer = HeartSegTrainer({**plans, "continue_training": False}, "2d", 0, dataset, torch.device("cpu"))
        trainer.initialize()
        trainer.save_checkpoint(str(fold / "checkpoint_final.pth"))
    write_json(fold / "validation" / "summary.json", {"metric_per_case": []})
    (fold / "progress.png").write_bytes(b"curves")
    return training, plans


@pytest.mark.parametrize("name", EVERY)
def test_a_model_folder_passes_the_check_segments_has_heat_maps_and_runs_in_stock_nnunet(
    name: str, tmp_path: Path, stock_labels: Callable[..., np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    training, plans = finished(tmp_path, configured(SMALL, EVERY[name], name), plans_name(name, 0))
    folder = write_model(training, plans, Reporter(), model_folder(training, name, 0))
    assert folder == tmp_path / "models" / plans_name(name, 0)
    assert (folder.parent / f"{folder.name}-progress_fold_0.png").read_bytes() == b"curves"
    assert main(["models", "check", str(folder)]) == 0
    capsys.readouterr()

    model, image = ModelFolder.open(folder), scan()
    assert model.name == plans_name(name, 0)
    settings = Settings(device="cpu", threads=1, clean_up=False, precision="float32")
    ours = Engine(model, settings).predict(image, Reporter()).labels
    assert len(np.unique(ours)) > 1
    stock = stock_labels(folder, image.array, image.geometry.spacing[::-1], full_precision=True)
    assert (ours == model.structure_lut()[stock.astype(np.uint8)]).mean() > 0.999  # near-ties of rounded sums

    labels = np.zeros(image.array.shape, np.uint8)
    labels[:, 8:20, 8:20] = 6
    explainer = Explainer(Segmenter(folder, settings))
    found = explainer.explain(image, "AO", result=Result(labels, image.geometry))
    assert found.heat.shape == image.array.shape
    assert 0 <= found.heat.min() <= found.heat.max() <= 1
    np.testing.assert_allclose(heat_map(folder, image, labels, "AO", "cpu"), found.heat, rtol=0, atol=1e-4)  # of 1
    assert heat_map(folder, image, labels * 0, "AO", "cpu") is None


def test_a_model_with_an_edge_head_is_saved_as_a_stock_network(tmp_path: Path) -> None:
    training, plans = finished(tmp_path, configured(SMALL, CONFIGURATIONS["edge-head"], "edge-head"), "head")
    folder = write_model(training, plans, Reporter(), tmp_path / "models" / "head")
    content = json.loads((folder / "plans.json").read_text(encoding="utf-8"))
    name = content["configurations"]["2d"]["architecture"]["network_class_name"]
    assert name.startswith("dynamic_network_architectures.")


def test_the_figure_shows_the_predictions_of_the_first_seed(tmp_path: Path) -> None:
    """Two configurations, the second without the aorta; the figure shows the first case."""
    import SimpleITK as sitk

    image, labels = scan(), np.zeros((8, 40, 40), np.uint8)
    labels[2:6, 8:20, 8:20], labels[3:5, 25:35, 25:35] = 3, 1  # AO and LV as numbered in the data set
    trials = []
    for name in ("baseline", "edge"):
        own, plans = finished(tmp_path, configured(SMALL, CONFIGURATIONS[name], name), plans_name(name, 0))
        write_model(own, plans, Reporter(), model_folder(own, name, 0))
        predicted = np.where(labels == 3, 0, labels) if name == "edge" else labels
        write_labels(predicted, image.geometry, fold_folder(own, plans, 0) / "validation" / "a.nii.gz")
        trials += [Trial(name, seed, {case: {"LV": 0.5} for case in ("b", "a")}, {}, 1.0, 1) for seed in (0, 1)]
    raw = tmp_path / "raw" / DATASET_NAME
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir()
    write_volume(image, raw / "imagesTr" / "a_0000.nii.gz")
    write_labels(labels, image.geometry, raw / "labelsTr" / "a.nii.gz")
    reporter = Reporter()
    draw_figures(own, trials, reporter)
    assert sitk.ReadImage(str(tmp_path / "comparison.png")).GetSize() == (4 * 330, 735)
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert "draw comparison" in reporter.seconds
