"""The predictor of nnU-Net with float32 sums; by default, it sums tiles in float16, which changes some voxels."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.models.folder import ModelFolder


@dataclass(frozen=True)
class StockLabels:
    """Return labels (z, y, x) in the values of the model, and the margin: largest minus second-largest probability."""

    labels: np.ndarray
    margin: np.ndarray


@contextmanager
def importable() -> Iterator[Any]:
    """Yield the module ``predict_from_raw_data`` of nnU-Net without its trainer search, which needs torchvision."""
    pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")
    name = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, types.ModuleType(name))
        from nnunetv2.inference import predict_from_raw_data

        yield predict_from_raw_data


def predict_stock(
    folder: str | Path, array: np.ndarray, spacing_zyx: tuple[float, ...], mirroring: bool = False
) -> StockLabels:
    """Predict an array (z, y, x) with a spacing in mm, using all folds of a model folder."""
    import torch

    real_load = torch.load  # checkpoints of nnU-Net contain NumPy scalars; these were written by the tests
    with importable() as stock, pytest.MonkeyPatch.context() as patch:
        predictor = stock.nnUNetPredictor(
            use_mirroring=mirroring, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
        )
        patch.setattr(torch, "load", lambda *a, **k: real_load(*a, **{**k, "weights_only": False}))
        patch.setattr(torch, "half", torch.float32)
        patch.setattr(stock, "compute_gaussian", partial(stock.compute_gaussian, dtype=torch.float32))
        folds = tuple(int(f) for f in ModelFolder.open(folder).folds)
        predictor.initialize_from_trained_model_folder(str(folder), folds, "checkpoint_final.pth")
        labels, probabilities = predictor.predict_single_npy_array(
            array[None].astype(np.float32), {"spacing": list(spacing_zyx)}, save_or_return_probabilities=True
        )
    second, first = np.partition(probabilities, -2, axis=0)[-2:]
    return StockLabels(labels, first - second)
