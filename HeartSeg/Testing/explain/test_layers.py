"""Finding layers of a network: the last, the bottleneck, and valid and invalid names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from heartseg.errors import ModelError, SettingsError
from heartseg.explain import list_layers
from heartseg.explain.gradcam import seg_grad_cam
from heartseg.explain.layers import Layers, layers_of
from heartseg.models.folder import ModelFolder
from heartseg.networks.catalogue import NETWORKS, build, unet_plan
from heartseg.networks.plain_unet import PlainUNet
from heartseg.progress import Reporter
from tiny_models import make_tiny_model_folder


@pytest.fixture(scope="module")
def layers(bare_model: Path) -> Layers:
    return list_layers(ModelFolder.open(bare_model))


def test_a_model_folders_last_and_bottleneck(layers: Layers) -> None:
    assert layers.last.name == "decoder.stages.0"
    assert layers.last.shape == (4, 24, 24, 24)
    assert layers.bottleneck.name == "encoder.stages.1"
    assert layers.bottleneck.shape == (8, 12, 12, 12)


def test_every_name_that_is_listed_can_be_chosen(layers: Layers) -> None:
    assert len(layers.all) > 5
    for layer in layers.all:
        assert layers.find(layer.name) == layer


@pytest.mark.parametrize(
    ("choices", "last", "bottleneck"),
    [
        ({"residual": True}, ("decoder.stages.1", (4, 16, 16, 16)), ("encoder.stages.2", (8, 4, 4, 4))),
        ({"anisotropic": True}, ("decoder.stages.1", (4, 16, 16, 16)), ("encoder.stages.2", (8, 8, 4, 4))),
        (
            {"features": (4, 4, 4, 4, 8), "patch": (32, 32, 32)},
            ("decoder.stages.3", (4, 32, 32, 32)),
            ("encoder.stages.4", (8, 2, 2, 2)),
        ),
    ],
    ids=["residual", "anisotropic", "deep"],
)
def test_other_networks(
    tmp_path: Path,
    choices: dict[str, Any],
    last: tuple[str, tuple[int, int, int, int]],
    bottleneck: tuple[str, tuple[int, int, int, int]],
) -> None:
    folder = make_tiny_model_folder(
        tmp_path / "m__3d_fullres", **{"features": (4, 6, 8), "patch": (16, 16, 16), **choices}
    )
    found = list_layers(ModelFolder.open(folder))
    assert (found.last.name, found.last.shape) == last
    assert (found.bottleneck.name, found.bottleneck.shape) == bottleneck


def test_our_own_u_net_names_them_alike() -> None:
    network = PlainUNet((4, 6, 8), deep_supervision=False).eval()
    found = layers_of(network, torch.zeros(1, 1, 8, 8, 8))
    assert (found.last.name, found.bottleneck.name) == ("decoder.stages.1", "encoder.stages.2")


@pytest.mark.parametrize("key", NETWORKS)
def test_every_network_that_can_be_trained_has_a_map_at_both(key: str) -> None:
    network = build(key, unet_plan((4, 6, 8), 3), 1, 4).eval().requires_grad_(False)
    image = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    region = torch.zeros(16, 16, 16, dtype=torch.bool)
    region[4:9, 5:12, 3:8] = True
    found = layers_of(network, image[None])
    shallow = key == "tutorial-3d"
    assert found.last.name == ("decoder.stages.0" if shallow else "decoder.stages.1")
    stage, shape = ("encoder.stages.1", (6, 8, 8, 8)) if shallow else ("encoder.stages.2", (8, 4, 4, 4))
    if key == "mobile":  # inside the last block of this network, the convolution has twice the channels
        stage, shape = "encoder.stages.2.1.each", (16, 4, 4, 4)
    assert (found.bottleneck.name, found.bottleneck.shape) == (stage, shape)
    for layer in (found.last, found.bottleneck):
        heat = seg_grad_cam([network], layer, image, region, [2], (16, 16, 16), torch.device("cpu"), Reporter())
        assert heat.shape == (16, 16, 16) and bool(torch.isfinite(heat).all()) and bool(heat.any())


class Attentive(nn.Module):
    """Features of a convolution times a gate that depends on a map pooled to two voxels per side."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv3d(1, 4, 3, 2, padding=1)
        self.pool = nn.AdaptiveAvgPool3d(2)
        self.key = nn.Conv3d(4, 4, 1)
        self.head = nn.Conv3d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        return self.head(x * self.key(self.pool(x)).mean((2, 3, 4), keepdim=True).sigmoid())


def test_pooled_maps_inside_of_attention_are_no_bottleneck() -> None:
    found = layers_of(Attentive(), torch.zeros(1, 1, 16, 16, 16))
    assert found.bottleneck.name == "body"
    assert (found.last.name, found.last.at_input) == (
        "head",
        True,
    )  # the product is not the output of a module, so the input of its consumer is used


class Repeated(nn.Module):
    """A convolution inside two wrappers, one that runs twice, and a map pooled to a single voxel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Sequential(nn.Conv3d(1, 4, 3, padding=1)), nn.ReLU())
        self.twice = nn.Conv3d(4, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Conv3d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.twice(self.first(x)))
        return self.head(x * self.pool(x))


def test_maps_of_one_voxel_and_modules_that_run_twice_cannot_be_chosen() -> None:
    found = layers_of(Repeated(), torch.zeros(1, 1, 8, 8, 8))
    assert set(found.named) == {"first.0.0", "first.0", "first.1", "first"}
    assert [layer.name for layer in found.all] == ["first.0", "first"]  # the outermost with the same output
    assert [layer.kind for layer in found.all] == ["Sequential", "Sequential"]
    assert {layer.shape for layer in found.all} == {(4, 8, 8, 8)}


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "decoder",
        "__class__",
        "decoder.stages.0.__dict__",
        "../../etc/passwd",
        "last\n",
        "LAST",
        "a" * 100_000,
        "\x1b[31mred",
        "decoder.seg_layers.0",
        "encoder.stages.*",
        "0; rm -rf /",
        "١",
    ],
)
def test_a_name_that_is_none_is_refused_in_one_short_line(layers: Layers, name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        layers.find(name)
    said = str(refused.value)
    assert "--list-layers" in said and "last, bottleneck" in said
    assert len(said) < 250 and said.isprintable()


def test_a_misspelt_name_is_put_right(layers: Layers) -> None:
    with pytest.raises(SettingsError, match=r"use .*encoder\.stages\.1"):
        layers.find("encoder.stage.1")


def test_a_network_that_cannot_be_followed_is_named(bare_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heartseg.explain import layers as module

    monkeypatch.setattr(module, "build_network", lambda folder, device: nn.Sequential(nn.ReLU()))
    with pytest.raises(ModelError, match=r"\(it has no convolution\)"):
        list_layers(ModelFolder.open(bare_model))
