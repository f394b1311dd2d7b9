"""With finder, clean-up and reorientation off, ours and stock nnU-Net v2 give the same labels from the same folder."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from heartseg import STRUCTURES, read_volume
from heartseg.inference.engine import Engine
from heartseg.models.folder import ModelFolder
from heartseg.progress import Reporter
from heartseg.settings import Settings
from heartseg.volume import Geometry, Volume
from tiny_models import make_tiny_model_folder, synthetic_volume

CASES = {
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


@pytest.fixture
def stock_predictor(monkeypatch):
    """nnU-Net's own predictor; its trainer look-up would import torchvision, whose CPU wheels are broken."""
    name = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    def predict(folder, array, spacing_zyx, mirroring, step):
        predictor = nnUNetPredictor(
            tile_step_size=step,
            use_mirroring=mirroring,
            perform_everything_on_device=False,
            device=torch.device("cpu"),
            allow_tqdm=False,
        )
        real_load = torch.load  # nnU-Net's own files hold numpy scalars; this test made them
        monkeypatch.setattr(torch, "load", lambda *a, **k: real_load(*a, **{**k, "weights_only": False}))
        folds = tuple(int(f) for f in ModelFolder.open(folder).folds)
        predictor.initialize_from_trained_model_folder(str(folder), folds, "checkpoint_final.pth")
        return predictor.predict_single_npy_array(array[None].astype(np.float32), {"spacing": list(spacing_zyx)})

    return predict


@pytest.mark.parametrize("name", CASES)
def test_ours_and_stock_agree(name, tmp_path, stock_predictor):
    case = CASES[name]
    configuration = case["options"].get("configuration", "3d_fullres")
    path = make_tiny_model_folder(
        tmp_path / f"nnUNetTrainer__nnUNetPlans__{configuration}", train_steps=80, **case["options"]
    )
    array, _ = synthetic_volume(3, (40, 44, 42), seed=7)
    geometry = Geometry(array.shape, case["spacing"])
    stock = stock_predictor(path, array, geometry.spacing[::-1], case["mirroring"], 0.5)
    settings = Settings(device="cpu", locate=False, clean_up=False, reorient=False, accurate=case["mirroring"])
    folder = ModelFolder.open(path)
    ours = Engine(folder, settings).predict(Volume(array, geometry), Reporter()).labels
    lut = folder.structure_lut()
    stock = lut[stock]
    for value in lut[1:]:
        assert (stock == value).mean() > 0.01, "the network does not find this label: nothing is compared"
        dice = 2 * ((stock == value) & (ours == value)).sum() / ((stock == value).sum() + (ours == value).sum())
        assert dice >= 0.999, f"label {value}: Dice {dice:.5f} between ours and stock"


def test_stock_runs_the_model_that_ships_and_agrees(default_model, sample_scan, stock_predictor):
    """The default model's folder as it is, on the sample's heart: several tiles, stored axes, mirroring off.

    The rest of the scan is left out, as stock takes a tile for every half patch: minutes on one core.
    """
    volume = read_volume(sample_scan)
    truth = read_volume(str(sample_scan).replace(".nii.gz", "-labels.nii.gz")).array
    middle = np.argwhere(truth > 0).mean(0).round().astype(int)
    box = tuple(slice(max(0, m - n), m + n) for m, n in zip(middle, (32, 32, 45), strict=True))
    array = np.ascontiguousarray(volume.array[box])
    volume = Volume(array, Geometry(array.shape, volume.geometry.spacing), "heart", "CT")
    stock = stock_predictor(default_model, volume.array, volume.geometry.spacing[::-1], False, 0.5)
    settings = Settings(device="cpu", locate=False, clean_up=False, reorient=False)
    ours = Engine(ModelFolder.open(default_model), settings).predict(volume, Reporter()).labels
    for s in STRUCTURES:
        dice = 2 * ((stock == s.label) & (ours == s.label)).sum() / ((stock == s.label).sum() + (ours == s.label).sum())
        assert dice >= 0.999, f"{s.name}: Dice {dice:.5f} between ours and stock"
