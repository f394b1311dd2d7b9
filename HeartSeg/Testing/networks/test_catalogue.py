"""Costs in the catalogue, against a manual count and docs/reference/networks.md."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from heartseg.networks.catalogue import NETWORKS, build, count_flops, count_parameters, table, unet_plan


@pytest.fixture(scope="module")
def program(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("network_table", repository / "benchmarks" / "network_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "reference" / "networks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("configuration", ["2d", "3d"])
def test_the_page_has_the_costs_that_the_code_has(configuration: str, program: ModuleType, page: str) -> None:
    """The table equals the output of ``benchmarks/network_table.py``; run it again when a network changes."""
    assert program.markdown(configuration, program.PATCHES[configuration]) in page


def test_the_page_has_the_catalogue(program: ModuleType, page: str) -> None:
    assert program.catalogue() in page


def test_the_smallest_unet_is_counted_as_by_hand() -> None:
    """Two stages with one convolution each, 2 and 3 features, on 4 x 4 pixels."""
    network = build("plain", unet_plan((2, 3), 2, convolutions=1), 1, 5)
    down, below = 9 * 1 * 2 + 2 + 4, 9 * 2 * 3 + 3 + 6  # weights, bias, scale and shift
    up, join, head = 4 * 3 * 2 + 2, 9 * 4 * 2 + 2 + 4, 2 * 5 + 5
    assert count_parameters(network) == down + below + up + join + head
    steps = 9 * 1 * 2 * 16 + 9 * 2 * 3 * 4 + 4 * 3 * 2 * 4 + 9 * 4 * 2 * 16 + 2 * 5 * 16
    assert count_flops(network.to("meta"), 1, (4, 4)) == 2 * steps


def test_every_network_is_counted_and_keeps_its_parameters_off_the_meta_device() -> None:
    plan = unet_plan((4, 8), 2)
    costs = table(plan, (16, 16), keys=NETWORKS)
    assert [c.key for c in costs] == list(NETWORKS)
    for cost in costs:
        assert cost.parameters == count_parameters(build(cost.key, plan, 1, 8))
        assert cost.flops > 0


def test_edge_channels_cost_next_to_nothing_and_fusion_does_not() -> None:
    costs = {
        c.key: c for c in table(unet_plan((16, 32, 64), 2), (32, 32), keys=("plain", "csfbu-edge", "csfbu-fusion"))
    }
    assert costs["csfbu-edge"].parameters < 1.005 * costs["plain"].parameters
    assert costs["csfbu-fusion"].flops > 1.5 * costs["plain"].flops


def test_networks_start_from_nnunets_weights() -> None:
    """He initialisation for leaky ReLU with slope 0.01: standard deviation sqrt(2 / ((1 + 1e-4) 9 c)), bias zero."""
    torch.manual_seed(0)
    for key in NETWORKS:
        network = build(key, unet_plan((32, 64), 2), 1, 8)
        wide = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight[0].numel() == 9 * 64]
        for layer in wide:
            assert layer.weight.std().item() == pytest.approx((2 / (1.0001 * 9 * 64)) ** 0.5, rel=0.05)
            assert layer.bias is None or not layer.bias.any()
        assert wide or key == "tutorial-3d", key  # the stages of tutorial-3d have no second convolution


def test_patches_of_the_program_are_read_and_checked(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.read_patches(["3d=32,48,64"]) == {"2d": (256, 256), "3d": (32, 48, 64)}
    monkeypatch.setattr(sys, "argv", ["network_table.py", "--patch", "2d=32"])
    assert program.main() == 2
    assert "patch '2d=32' is not valid" in capsys.readouterr().err
