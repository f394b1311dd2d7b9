"""Without finder, clean-up and reorientation, HeartSeg and stock nnU-Net v2 give the same labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg import STRUCTURES, read_volume
from heartseg.inference.engine import Engine
from heartseg.models.folder import ModelFolder
from heartseg.progress import Reporter
from heartseg.settings import Settings
from heartseg.volume import Geometry, Volume
from near_ties import assert_equal_but_near_ties
from stock_nnunet import predict_stock
from tiny_models import make_tiny_model_folder, synthetic_volume

CASES: dict[str, dict[str, Any]] = {
    "isotropic z-score, mirrored": {"options": {}, "spacing": (1.2, 1.3, 1.1), "mirroring": True},
    "CT normalisation, not mirrored": {
        "options": {"normalization": "CTNormalization"},
        "spacing": (1.8, 1.7, 1.9),
        "mirroring": False,
    },
    "anisotropic": {
        "options": {"anisotropic": True, "spacing": (4.0, 1.2, 1.2), "patch": (16, 32, 32)},
        "spacing": (1.1, 1.1, 4.4),
        "mirroring": False,
    },
    "transposed axes, two folds, stripped half checkpoint": {
        "options": {"transpose_forward": (2, 0, 1), "folds": (0, 1), "full_checkpoint": False, "half": True},
        "spacing": (1.6, 1.5, 1.4),
        "mirroring": False,
    },
    "2D, in-plane tiles, thick slices, mirrored": {
        "options": {"configuration": "2d", "mirroring_axes": (0, 1)},
        "spacing": (1.4, 1.6, 5.0),
        "mirroring": True,
    },
    "2D, transposed axes": {
        "options": {"configuration": "2d", "transpose_forward": (1, 0, 2)},
        "spacing": (1.4, 1.7, 1.6),
        "mirroring": False,
    },
}


@pytest.mark.parametrize("name", CASES)
def test_ours_and_stock_agree(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    configuration = case["options"].get("configuration", "3d_fullres")
    path = make_tiny_model_folder(
        tmp_path / f"nnUNetTrainer__nnUNetPlans__{configuration}", train_steps=80, **case["options"]
    )
    array, _ = synthetic_volume(3, (40, 44, 42), seed=7)
    geometry = Geometry(array.shape, case["spacing"])
    stock = predict_stock(path, array, geometry.spacing[::-1], case["mirroring"])
    settings = Settings(device="cpu", locate=False, clean_up=False, reorient=False, accurate=case["mirroring"])
    folder = ModelFolder.open(path)
    ours = Engine(folder, settings).predict(Volume(array, geometry), Reporter()).labels
    wanted = folder.structure_lut()[stock.labels]
    assert min((wanted == value).mean() for value in folder.structure_lut()[1:]) > 0.01, "a label is not found"
    assert_equal_but_near_ties(ours, wanted, stock.margin)


def test_stock_runs_the_model_that_ships_and_agrees(default_model: Path, sample_scan: Path) -> None:
    """The unchanged folder of the default model on the heart of the sample: several tiles, stored axes, no mirroring.

    The rest of the scan is omitted, because nnU-Net uses a tile for every half patch, which takes minutes on one core.
    """
    volume = read_volume(sample_scan)
    truth = read_volume(str(sample_scan).replace(".nii.gz", "-labels.nii.gz")).array
    middle = np.argwhere(truth > 0).mean(0).round().astype(int)
    box = tuple(slice(max(0, m - n), m + n) for m, n in zip(middle, (32, 32, 45), strict=True))
    array = np.ascontiguousarray(volume.array[box])
    volume = Volume(array, Geometry(array.shape, volume.geometry.spacing), "heart", "CT")
    stock = predict_stock(default_model, volume.array, volume.geometry.spacing[::-1])
    settings = Settings(device="cpu", backend="torch", locate=False, clean_up=False, reorient=False)
    ours = Engine(ModelFolder.open(default_model), settings).predict(volume, Reporter()).labels
    assert {s.label for s in STRUCTURES} <= set(np.unique(stock.labels)), "a structure is not found"
    assert_equal_but_near_ties(ours, stock.labels, stock.margin)
