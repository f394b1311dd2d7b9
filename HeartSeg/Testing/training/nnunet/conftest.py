"""One small real training for all tests: names of MM-WHS, CSFBU-Net in 2D, one of two folds, on the CPU."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.progress import Reporter
from heartseg.training.nnunet.presets import CSFBU
from labelled_scans import make_mmwhs

SPACING = (7.0, 7.0, 9.0)


def base_plans() -> dict[str, Any]:
    """Return nnU-Net's plans for CT scans of 512 x 512 pixels of 0.4 mm."""

    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    intensities = {"mean": 200.0, "std": 150.0, "percentile_00_5": -300.0, "percentile_99_5": 900.0}

    def configuration(dims: int, patch: list[int], stages: int, most: int, batch: int) -> dict[str, Any]:
        return {
            "data_identifier": f"nnUNetPlans_{'2d' if dims == 2 else '3d_fullres'}",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": batch,
            "patch_size": patch,
            "spacing": [0.6, 0.4, 0.4][-dims:],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": resampling,
            "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": stages,
                    "features_per_stage": [min(32 * 2**i, most) for i in range(stages)],
                    "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
                    "kernel_sizes": [[3] * dims] * stages,
                    "strides": [[1] * dims] + [[2] * dims] * (stages - 1),
                    "n_conv_per_stage": [2] * stages,
                    "n_conv_per_stage_decoder": [2] * (stages - 1),
                    "conv_bias": True,
                    "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
                    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
            "batch_dice": dims == 2,
        }

    return {
        "dataset_name": "Dataset501_HeartSeg",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "original_median_spacing_after_transp": [0.6, 0.4, 0.4],
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "configurations": {
            "2d": configuration(2, [512, 512], 8, 512, 12),
            "3d_fullres": configuration(3, [96, 160, 160], 6, 320, 2),
        },
    }


def build_from(plans: dict[str, Any], structures: int) -> torch.nn.Module:
    """Return the network of plans with one configuration, on the meta device, as built by nnU-Net."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    (configuration,) = plans["configurations"].values()
    entry = configuration["architecture"]
    with torch.device("meta"):
        return get_network_from_plans(
            entry["network_class_name"],
            entry["arch_kwargs"],
            entry["_kw_requires_import"],
            1,
            1 + structures,
            allow_init=False,
            deep_supervision=True,
        )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are fastest with one thread, which also fixes the order of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Trained:
    """A finished training: its options, its model folder, and nnU-Net's variables before and after."""

    training: Any
    model: Path
    environment_before: dict[str, str]
    environment_after: dict[str, str]
    stages: dict[str, float]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two epochs of two steps: enough to run all code, too few to learn."""
    pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")
    from heartseg.training.nnunet.job import DataOptions, Machine, Training
    from heartseg.training.nnunet.run import train

    home = tmp_path_factory.mktemp("training")
    data = make_mmwhs(home / "data", 3, SPACING)
    preset = CSFBU.with_changes(epochs=2, iterations=2, validation_iterations=1, batch=2)
    options = DataOptions(data, orientation="lps", folds=3)
    training = Training(options, home / "out", preset, Machine("cpu"), "Tiny-CSFBU", only_folds=(0,), seed=1)
    before, reporter = dict(os.environ), Reporter()
    model = train(training, reporter)
    return Trained(training, model, before, dict(os.environ), reporter.seconds)


@pytest.fixture
def again(trained: Trained) -> Any:
    """Return a function that trains another network in the same folder: ``again("name", reporter, epochs=...)`` gives
    its fold."""
    from heartseg.training.nnunet import planning
    from heartseg.training.nnunet.job import fold_folder
    from heartseg.training.nnunet.run import plans_of, prepared, train_fold

    def train_again(name: str, reporter: Reporter | None = None, **changes: Any) -> Path:
        training = replace(trained.training, preset=trained.training.preset)
        preset = training.preset.with_changes(**changes)
        with prepared(training, Reporter()) as base:
            plans = plans_of(training, base, preset, name, training.seed)
            planning.preprocess(training.out, plans, 1, Reporter())
            train_fold(training, plans, 0, reporter or Reporter())
            return fold_folder(training, plans, 0)

    return train_again


@pytest.fixture
def stock_labels(monkeypatch: pytest.MonkeyPatch) -> Callable[..., np.ndarray]:
    """Return labels of nnU-Net's own predictor, initialised from a folder like ``nnUNetv2_predict``."""
    name = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"  # needs a torchvision that matches torch
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    from nnunetv2.inference import predict_from_raw_data as stock

    def predict(folder: Path, array: np.ndarray, spacing_zyx: Any, full_precision: bool) -> np.ndarray:
        predictor = stock.nnUNetPredictor(
            use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(folder), (0,), "checkpoint_final.pth")
        with monkeypatch.context() as patch:
            if full_precision:  # nnU-Net sums the tiles in float16
                patch.setattr(torch, "half", torch.float32)
                patch.setattr(stock, "compute_gaussian", partial(stock.compute_gaussian, dtype=torch.float32))
            return predictor.predict_single_npy_array(array[None].astype(np.float32), {"spacing": list(spacing_zyx)})

    return predict
