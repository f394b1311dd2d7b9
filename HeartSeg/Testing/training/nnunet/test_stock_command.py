"""A trained 2D CSFBU-Net folder: nnU-Net's command gives the same labels, and heat maps are made slice by slice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")

from heartseg import Segmenter
from heartseg.explain import Explainer
from heartseg.inference.engine import Engine
from heartseg.models.folder import ModelFolder
from heartseg.progress import Reporter
from heartseg.result import Result
from heartseg.settings import Settings
from heartseg.volume import Geometry, Volume, read_volume, write_volume

if TYPE_CHECKING:
    from training.nnunet.conftest import Trained

COMMAND = """
import functools, torch
from nnunetv2.inference import predict_from_raw_data as stock
torch.half = torch.float32  # stock sums tiles in float16
gaussian = stock.compute_gaussian
stock.compute_gaussian = functools.partial(gaussian, dtype=torch.float32)
stock.compute_gaussian.cache_clear = gaussian.cache_clear
stock.predict_entry_point_modelfolder()
"""
"""Content of the script ``nnUNetv2_predict_from_modelfolder``; it loads the class named in plans.json."""


def test_stock_nnunet_and_heartseg_predict_the_same_labels(trained: Trained, tmp_path: Path) -> None:
    """CSFBU-Net in 2D, with edges and fusion; the card declares LPS, and the scan is stored in LPS."""
    raw = trained.training.out / "raw" / "Dataset501_HeartSeg" / "imagesTr"
    scan = read_volume(sorted(raw.glob("*_0000.nii.gz"))[0])
    assert scan.geometry.orientation == "LPS"
    (tmp_path / "in").mkdir()
    write_volume(scan, tmp_path / "in" / "case_0000.nii.gz")
    arguments = [
        "-i",
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "out"),
        "-m",
        str(trained.model),
        "-f",
        "0",
        "-chk",
        "checkpoint_final.pth",
        "-device",
        "cpu",
        "--disable_tta",
        "-npp",
        "1",
        "-nps",
        "1",
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "nnUNet_compile": "f"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]

    stock = read_volume(tmp_path / "out" / "case.nii.gz").array
    model = ModelFolder.open(trained.model)
    ours = Engine(model, Settings(device="cpu", threads=1, precision="float32")).predict(scan, Reporter()).labels
    lut = model.structure_lut()
    differ = np.mean(lut[stock.astype(np.uint8)] != ours)
    assert differ <= 1e-3  # near-ties, which are frequent after only four steps
    assert len(np.unique(ours)) > 1


def test_a_2d_model_has_heat_maps_in_any_orientation(trained: Trained) -> None:
    raw = trained.training.out / "raw" / "Dataset501_HeartSeg" / "imagesTr"
    scan = read_volume(sorted(raw.glob("*_0000.nii.gz"))[0])
    explainer = Explainer(Segmenter(trained.model, Settings(device="cpu", threads=1)))
    labels = np.zeros(scan.array.shape, np.uint8)
    labels[tuple(slice(n // 4, n // 2) for n in scan.geometry.shape)] = 6  # two epochs are too few to find this label
    found = explainer.explain(scan, "AO", result=Result(labels, scan.geometry))
    assert found.heat.shape == scan.array.shape and 0 < found.heat.max() <= 1
    assert found.details["run"]["mode"] == "slice by slice, LPS axes"
    slices = np.flatnonzero(found.heat.any((1, 2)))
    assert set(slices) <= set(np.flatnonzero(labels.any((1, 2))))

    flip = (slice(None), slice(None, None, -1), slice(None))
    x, y, z = scan.geometry.origin
    turned = Geometry(
        scan.geometry.shape,
        scan.geometry.spacing,
        (x, y + (scan.geometry.shape[1] - 1) * scan.geometry.spacing[1], z),
        (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0),
    )
    copy = Volume(np.ascontiguousarray(scan.array[flip]), turned, "turned", scan.modality)
    again = explainer.explain(copy, "AO", result=Result(np.ascontiguousarray(labels[flip]), turned))
    assert np.allclose(again.heat[flip], found.heat, atol=1e-5)
