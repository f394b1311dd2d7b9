"""Our class replaces that of nnU-Net: same weights, same logits, without importing its package."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
import torch

from heartseg.networks.stock import equivalent_class
from near_ties import assert_equal_but_rounding

STOCK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def arguments_of(folder: Path) -> tuple[str, dict]:
    """Return class name and arguments from a model folder's plans, with classes in place of their names."""
    plans = json.loads((folder / "plans.json").read_text(encoding="utf-8"))
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    kwargs = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        kwargs[key] = locate(kwargs[key]) if kwargs[key] else None
    return architecture["network_class_name"], kwargs


@pytest.mark.parametrize("part", ["", "finder"])
def test_the_default_model_gives_the_same_logits_without_nnunets_class(part: str, repository: Path) -> None:
    theirs_class: Any = locate(STOCK)
    if theirs_class is None:
        pytest.skip("dynamic-network-architectures is not installed")
    folder = repository / "Models" / "HeartSeg-Default" / part
    name, kwargs = arguments_of(folder)
    checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", map_location="cpu", weights_only=True)
    weights = {key: value.float() for key, value in checkpoint["network_weights"].items()}
    labels = weights["decoder.seg_layers.0.weight"].shape[0]
    ours = equivalent_class(name)(input_channels=1, num_classes=labels, **kwargs).eval()
    theirs = theirs_class(input_channels=1, num_classes=labels, **kwargs).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(weights)
    theirs.load_state_dict(weights)
    image = torch.randn(1, 1, 32, 48, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        found, wanted = ours(image), theirs(image)
    assert wanted.std() > 0.1
    assert_equal_but_rounding(found, wanted)


def test_every_argument_of_nnunets_class_means_the_same(plan: dict[str, Any], image: torch.Tensor, dims: int) -> None:
    theirs_class: Any = locate(STOCK)
    if theirs_class is None:
        pytest.skip("dynamic-network-architectures is not installed")
    kwargs = {key: locate(value) if isinstance(value, str) else value for key, value in plan.items()}
    unusual = {
        "conv_bias": False,
        "norm_op": locate(f"torch.nn.BatchNorm{dims}d"),
        "norm_op_kwargs": {"eps": 1e-3},
        "dropout_op": locate(f"torch.nn.Dropout{dims}d"),
        "dropout_op_kwargs": {"p": 0.5},
        "nonlin": torch.nn.ReLU,
        "nonlin_kwargs": None,
        "nonlin_first": True,
        "kernel_sizes": 5,
        "n_conv_per_stage": 1,
        "n_conv_per_stage_decoder": 3,
        "deep_supervision": True,
    }
    ours = equivalent_class(STOCK)(input_channels=1, num_classes=3, **kwargs | unusual)
    theirs = theirs_class(input_channels=1, num_classes=3, **kwargs | unusual)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]
    ours.load_state_dict(theirs.state_dict())
    for network in (ours, theirs):
        torch.manual_seed(4)  # drops the same channels
        network(image)  # updates the running statistics
    with torch.inference_mode():
        found, wanted = ours.eval()(image), theirs.eval()(image)
    assert len(found) == len(wanted) == 3
    for a, b in zip(found, wanted, strict=True):
        assert_equal_but_rounding(a, b)


def test_it_is_built_where_nnunets_package_is_not_installed(
    plan: dict[str, Any], image: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("dynamic_network_architectures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures", None)
    kwargs = {key: locate(value) if isinstance(value, str) else value for key, value in plan.items()}
    network = equivalent_class(STOCK)(input_channels=1, num_classes=5, **kwargs)
    assert network(image).shape == (2, 5, *image.shape[2:])


@pytest.mark.parametrize(
    ("name", "known"),
    [
        (STOCK, True),
        ("dynamic_network_architectures.architectures.somewhere_else.PlainConvUNet", True),
        ("dynamic_network_architectures.architectures.unet.ResidualEncoderUNet", False),
        ("elsewhere.PlainConvUNet", False),
        ("heartseg.networks.plain_unet.UNet", False),
    ],
)
def test_only_the_class_that_we_rebuilt_has_an_equivalent(name: str, known: bool) -> None:
    assert (equivalent_class(name) is not None) == known
