"""Model folders with CSFBU-Net in their plans: stock nnU-Net and our engine give the same C structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.errors import ModelError
from heartseg.inference.engine import Engine
from heartseg.models.folder import ModelFolder
from heartseg.networks.catalogue import build, find, unet_plan
from heartseg.progress import Reporter
from heartseg.settings import Settings
from heartseg.training.edges import split_interior_edge
from heartseg.training.losses import RegionAndEdgeLoss
from heartseg.volume import Geometry, Volume
from near_ties import assert_equal_but_few, assert_equal_but_near_ties
from stock_nnunet import predict_stock
from tiny_models import make_tiny_model_folder, normalize_tiny, synthetic_volume

FEATURES, SPACING, K = (8, 12, 16), 1.5, 3
STOCK_CLASS = find("plain").stock_class


def folder_with(path: Path, key: str) -> Path:
    """Return an untrained folder whose plans contain a network of the catalogue."""
    plan, entry = unet_plan(FEATURES, 3, convolutions=1), find(key)
    architecture = {
        "network_class_name": entry.class_path,
        "arch_kwargs": entry.arguments(plan),
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    make_tiny_model_folder(path, features=FEATURES, configuration_changes={"architecture": architecture})
    return path


def train(key: str, plans: dict[str, Any], steps: int = 90) -> Any:
    """Take a few training steps with regions and edges on ellipsoids, enough to find every structure."""
    torch.manual_seed(0)
    network: Any = build(key, unet_plan(FEATURES, 3, convolutions=1), 1, K + 1).train()
    loss, rng = RegionAndEdgeLoss(network.edge, K), np.random.default_rng(0)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    image, truth = synthetic_volume(K, seed=1000)
    x, y = torch.from_numpy(normalize_tiny(image, plans)).float(), torch.from_numpy(truth)
    channels = split_interior_edge(y[None], (SPACING,) * 3, 1, K)[0]
    for _ in range(steps):
        window = tuple(slice(c, c + 24) for c in rng.integers(0, 17, 3))
        value = loss(network(x[window][None, None]), channels[window][None])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def put_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save(content | {"network_weights": weights}, path)


def predict_ours(folder: Path, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    settings = Settings(device="cpu", locate=False, clean_up=False, reorient=False)
    model = ModelFolder.open(folder)
    return Engine(model, settings).predict(volume, Reporter()).labels, model.structure_lut()


@pytest.fixture(scope="module")
def scan() -> Volume:
    array, _ = synthetic_volume(K, (40, 44, 42), seed=7)
    return Volume(array, Geometry(array.shape, (1.6, 1.5, 1.4)))


@pytest.mark.parametrize("key", ["csfbu", "csfbu-head"])
def test_stock_nnunet_and_ours_give_the_same_labels(key: str, tmp_path: Path, scan: Volume) -> None:
    folder = folder_with(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", key)
    network = train(key, dict(ModelFolder.open(folder).plans))
    put_weights(folder, network.state_dict())
    stock = predict_stock(folder, scan.array, scan.geometry.spacing[::-1])
    ours, lut = predict_ours(folder, scan)
    assert set(np.unique(stock.labels)) == {0, 1, 2, 3}  # no edge labels in the output
    assert min((stock.labels == value).mean() for value in range(1, K + 1)) > 0.01, "a structure is not found"
    assert_equal_but_near_ties(ours, lut[stock.labels], stock.margin)


def test_the_head_variant_exports_to_a_stock_class_with_the_same_output(tmp_path: Path, scan: Volume) -> None:
    folder = folder_with(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", "csfbu-head")
    torch.manual_seed(1)
    network: Any = build("csfbu-head", unet_plan(FEATURES, 3, convolutions=1), 1, K + 1).eval()
    put_weights(folder, network.state_dict())
    exported = folder_with(tmp_path / "stock" / "nnUNetTrainer__nnUNetPlans__3d_fullres", "plain")
    plans = (exported / "plans.json").read_text()
    (exported / "plans.json").write_text(plans.replace(find("plain").class_path, STOCK_CLASS))
    put_weights(exported, network.stock_weights())
    image = torch.randn(1, 1, 32, 32, 32)
    theirs = build("plain", unet_plan(FEATURES, 3, convolutions=1), 1, K + 1).eval()
    theirs.load_state_dict(network.stock_weights())
    with torch.inference_mode():
        torch.testing.assert_close(theirs(image), network(image), rtol=0, atol=1e-5)
    spacing = scan.geometry.spacing[::-1]
    ours, stock = (predict_stock(path, scan.array, spacing) for path in (folder, exported))
    assert_equal_but_few(ours.labels, stock.labels)


@pytest.mark.parametrize(("key", "part"), [("csfbu", "attention fusion"), ("csfbu-edge", "inner-edge channels")])
def test_what_cannot_be_exported_says_why(key: str, part: str) -> None:
    network: Any = build(key, unet_plan(FEATURES, 2), 1, K + 1)
    with pytest.raises(ModelError, match=f"{part}, which no class of nnU-Net has: export one with"):
        network.stock_weights()
