"""The plain U-Net equals nnU-Net's in names, sizes and outputs."""

from __future__ import annotations

from pydoc import locate
from typing import Any

import pytest
import torch

from heartseg.networks.plain_unet import PlainUNet
from heartseg.training.stages import CLASS_KEYS, NETWORK_CLASS, architecture_kwargs, build_network

FEATURES = (4, 8, 16, 24, 32)


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    kwargs = architecture_kwargs(FEATURES)
    for key in CLASS_KEYS:
        kwargs[key] = locate(kwargs[key]) if kwargs[key] else None
    torch.manual_seed(0)
    network_class: Any = locate(NETWORK_CLASS)
    return network_class(input_channels=1, num_classes=8, deep_supervision=True, **kwargs)


def test_weights_have_the_same_names_and_shapes(theirs: torch.nn.Module) -> None:
    ours = build_network(FEATURES)
    mine, other = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(other)
    assert [v.shape for v in mine.values()] == [v.shape for v in other.values()]


@pytest.mark.parametrize("deep", [True, False])
def test_outputs_are_equal(theirs: torch.nn.Module, deep: bool) -> None:
    ours = PlainUNet(FEATURES, deep_supervision=deep)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 1, 32, 16, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, wanted = ours(x), theirs(x)
    if not deep:
        found, wanted = [found], wanted[:1]
    assert len(found) == len(wanted) == (4 if deep else 1)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_the_shipped_sizes_have_the_stated_parameters() -> None:
    for features, millions in (((8, 16, 32, 64, 128), 1.41), ((16, 32, 64, 128, 256), 5.65)):
        count = sum(p.numel() for p in build_network(features).parameters())
        assert count / 1e6 == pytest.approx(millions, abs=0.01)
