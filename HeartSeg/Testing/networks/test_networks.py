"""Interface of all networks in the catalogue: nnU-Net's arguments, logits on the grid of the image."""

from __future__ import annotations

from pydoc import locate
from typing import Any

import pytest
import torch
from torch import nn

from heartseg.networks.catalogue import NETWORKS, build, find
from heartseg.networks.edge_channels import region_logits

every_network = pytest.mark.parametrize("key", NETWORKS)
LABELS = 4


@every_network
def test_logits_have_the_images_grid_and_one_channel_per_label(
    key: str, plan: dict[str, Any], image: torch.Tensor
) -> None:
    network = build(key, plan, 1, LABELS).eval()
    with torch.inference_mode():
        assert network(image).shape == (2, LABELS, *image.shape[2:])


@every_network
def test_deep_supervision_halves_the_grid_and_is_switched_as_nnunet_does(
    key: str, plan: dict[str, Any], image: torch.Tensor, dims: int
) -> None:
    network = build(key, plan, 1, LABELS, deep_supervision=True).eval()
    levels = {"tutorial": 2, "tutorial-corners": 2, "tutorial-3d": 1}.get(key, 3) if dims == 3 else 3
    with torch.inference_mode():
        deep = network(image)
        network.decoder.deep_supervision = False
        torch.testing.assert_close(network(image), deep[0], rtol=0, atol=1e-5)
    assert [d.shape[2:] for d in deep] == [tuple(n // 2**i for n in image.shape[2:]) for i in range(levels)]
    assert {d.shape[1] for d in deep} == {LABELS}


@every_network
def test_every_weight_learns(key: str, plan: dict[str, Any], image: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = build(key, plan, 1, LABELS, deep_supervision=True).train()
    for name, weight in network.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.ones_(weight)  # nnU-Net initialises it with 0, so the branch has no gradient
    outputs = network(image)
    assert {o.shape[1] for o in outputs} == {getattr(network, "training_channels", LABELS)}
    sum((o * torch.randn(o.shape)).sum() for o in outputs).backward()
    idle = [name for name, w in network.named_parameters() if w.grad is None or not w.grad.abs().sum() > 0]
    # A bias before instance or batch normalisation has no effect; its gradient consists of rounding errors.
    assert not [name for name in idle if not name.endswith(".conv.bias")]


@every_network
def test_thick_slices_keep_their_grid_where_the_plan_says_so(
    key: str, anisotropic: dict[str, Any], image: torch.Tensor
) -> None:
    network = build(key, anisotropic, 1, LABELS, deep_supervision=True).eval()
    with torch.inference_mode():
        deep = network(image)
    if len(deep) > 1:  # the 3D network with two resolutions has a single output
        assert deep[1].shape[2:] == (image.shape[2], *(n // 2 for n in image.shape[3:]))


@every_network
def test_nnunet_builds_it_from_the_plan_alone(key: str, plan: dict[str, Any], image: torch.Tensor) -> None:
    """Build a network with ``get_network_from_plans`` as nnU-Net does, with class names."""
    stock = pytest.importorskip("nnunetv2.utilities.get_network_from_plans")
    entry = find(key)
    names = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    theirs = stock.get_network_from_plans(
        entry.class_path, entry.arguments(plan), names, 1, LABELS, allow_init=True, deep_supervision=False
    ).eval()
    ours = build(key, plan, 1, LABELS).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("key", [k for k, e in NETWORKS.items() if e.stock_class])
def test_checkpoints_exchange_with_the_stock_class_that_is_named(
    key: str, plan: dict[str, Any], image: torch.Tensor
) -> None:
    entry = find(key)
    theirs_class: Any = locate(entry.stock_class)
    theirs = theirs_class(
        input_channels=1,
        num_classes=LABELS,
        deep_supervision=False,
        **{k: locate(v) if isinstance(v, str) else v for k, v in entry.arguments(plan).items()},
    ).eval()
    ours = build(key, plan, 1, LABELS).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=1e-5)


def test_a_network_with_inner_edges_returns_them_in_training_only(plan: dict[str, Any], image: torch.Tensor) -> None:
    network: Any = build("csfbu", plan, 1, LABELS)
    assert network.training_channels == 1 + 2 * 3
    with torch.inference_mode():
        raw = network.train()(image)
        joined = network.eval()(image)
        torch.testing.assert_close(network.forward_training(image), raw, rtol=0, atol=1e-5)
    assert raw.shape[1] == 7
    torch.testing.assert_close(joined, region_logits(raw, "inner"), rtol=0, atol=1e-5)


def test_without_its_parts_csfbu_net_is_the_plain_unet(plan: dict[str, Any], image: torch.Tensor) -> None:
    plain = build("plain", plan, 1, LABELS).eval()
    csfbu: Any = locate(find("csfbu").class_path)
    bare = csfbu(
        **{k: locate(v) if isinstance(v, str) else v for k, v in plan.items()},
        input_channels=1,
        num_classes=LABELS,
        edge="none",
        fusion=False,
    ).eval()
    bare.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(bare(image), plain(image), rtol=0, atol=1e-5)


def test_what_the_plan_gets_wrong_is_named(plan: dict[str, Any]) -> None:
    for change, message in (
        ({"strides": plan["strides"][1:]}, "strides has 3 entries for 4 stages"),
        ({"features_per_stage": [8]}, "features_per_stage has 1 entries for 4 stages"),
        ({"n_conv_per_stage_decoder": [2]}, "n_conv_per_stage_decoder has 1 entries for 4 stages: it must have 3"),
        ({"conv_op": "torch.nn.Conv1d"}, "Conv2d or torch.nn.Conv3d"),
    ):
        with pytest.raises(ValueError, match=message):
            build("plain", plan | change, 1, LABELS)
    with pytest.raises(ValueError, match="network is 'unet': it must be one of plain, residual"):
        build("unet", plan, 1, LABELS)
    build_csfbu: Any = locate(find("csfbu").class_path)
    with pytest.raises(ValueError, match="edge is 'outer': it must be one of inner, head, none"):
        build_csfbu(**plan, input_channels=1, num_classes=LABELS, edge="outer")


def test_the_tutorials_network_takes_any_size(dims: int) -> None:
    from heartseg.networks.catalogue import unet_plan

    network = build("tutorial", unet_plan((4, 8, 8, 8), dims), 1, LABELS).eval()
    size = (31, 22, 17)[:dims]
    with torch.inference_mode():
        assert network(torch.randn(1, 1, *size)).shape == (1, LABELS, *size)
