"""Attention modules against their formulas in plain tensor arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from heartseg.networks.attention import ChannelWeights, SpatialWeights
from heartseg.networks.attention_unet import AttentionGate
from heartseg.networks.blocks import Operators
from heartseg.networks.csfbu_net import AttentionFusion
from heartseg.networks.integrated_attention import IntegratedAttention, PooledSelfAttention, ScaleFeatures
from heartseg.networks.tutorial_unet import pad_to
from near_ties import assert_equal_but_rounding


@pytest.fixture
def ops(dims: int) -> Operators:
    torch.manual_seed(0)
    return Operators(nn.Conv2d if dims == 2 else nn.Conv3d)


def features(dims: int, channels: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.randn(2, channels, *(8, 6, 4)[:dims], generator=torch.Generator().manual_seed(seed))


def test_channel_weights_are_the_shared_perceptron_of_mean_and_maximum(ops: Operators, dims: int) -> None:
    module: Any = ChannelWeights(ops, 6)
    x = features(dims)
    first, second = module.mlp[0], module.mlp[2]

    def mlp(v: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(v @ first.weight.flatten(1).T + first.bias)
        return hidden @ second.weight.flatten(1).T + second.bias

    wanted = torch.sigmoid(mlp(x.flatten(2).mean(2)) + mlp(x.flatten(2).max(2).values))
    torch.testing.assert_close(module(x).flatten(1), wanted)
    assert module(x).shape == (2, 6, *(1,) * dims)


def test_spatial_weights_are_a_wide_convolution_of_mean_and_maximum(ops: Operators, dims: int) -> None:
    module: Any = SpatialWeights(ops)
    x = features(dims)
    maps = torch.stack((x.mean(1), x.max(1).values), 1)
    convolve = nnf.conv2d if dims == 2 else nnf.conv3d
    wanted = torch.sigmoid(convolve(maps, module.conv.weight, module.conv.bias, padding=3))
    torch.testing.assert_close(module(x), wanted)
    assert module.conv.weight.shape[2:] == (7,) * dims


def test_spatial_weights_do_not_look_across_slices_that_the_stage_leaves_apart(ops: Operators, dims: int) -> None:
    module: Any = SpatialWeights(ops, [1] + [3] * (dims - 1))
    assert module.conv.weight.shape[2:] == (1,) + (7,) * (dims - 1)


def test_fusion_adds_the_attended_features_and_convolves_each_with_the_sum(ops: Operators, dims: int) -> None:
    module = AttentionFusion(ops, 6, 3)
    low, high = features(dims), features(dims, seed=2)
    by_channel = low * module.channel_low(low) + high * module.channel_high(high)
    by_place = low * module.spatial_low(low) + high * module.spatial_high(high)
    wanted = torch.cat(
        (
            module.by_channel(torch.cat((by_channel, low + high), 1)),
            module.by_place(torch.cat((by_place, low + high), 1)),
        ),
        1,
    )
    assert_equal_but_rounding(module(low, high, high), wanted)
    assert wanted.shape[1] == 12


def test_fusion_by_concatenation_puts_side_by_side_what_the_other_adds(ops: Operators, dims: int) -> None:
    module = AttentionFusion(ops, 6, 3, "concatenate")
    low, high = features(dims), features(dims, seed=2)
    both = torch.cat((low, high), 1)
    by_channel = torch.cat((low * module.channel_low(low), high * module.channel_high(high), both), 1)
    by_place = torch.cat((low * module.spatial_low(low), high * module.spatial_high(high), both), 1)
    wanted = torch.cat((module.by_channel(by_channel), module.by_place(by_place)), 1)
    assert_equal_but_rounding(module(low, high, high), wanted)
    with pytest.raises(ValueError, match="fuse is 'mix': it must be one of add, concatenate"):
        AttentionFusion(ops, 6, 3, "mix")


def test_a_gate_is_its_formula(ops: Operators, dims: int) -> None:
    """skip * up(sigmoid(psi(ReLU(W_x skip + W_g below)))): the kernel of W_x equals its stride, and it has no bias."""
    gate: Any = AttentionGate(ops, 6, 10, 2)
    skip, up = features(dims), features(dims, seed=2)
    below = torch.randn(2, 10, *(n // 2 for n in skip.shape[2:]), generator=torch.Generator().manual_seed(3))
    axes = tuple(range(2, 2 + dims))
    blocks = skip
    for axis in axes:  # (b, c, n, ...) to blocks of 2 voxels, moved to the end
        blocks = blocks.unfold(axis, 2, 2)
    shape = "bchwij,ocij->bohw" if dims == 2 else "bcdhwijk,ocijk->bodhw"
    of_skip = torch.einsum(shape, blocks, gate.of_skip.weight)
    weights, bias = gate.of_below.weight.flatten(1), gate.of_below.bias
    of_below = torch.einsum("bc...,oc->bo...", below, weights) + bias.view(-1, *(1,) * dims)
    asked = torch.relu(of_skip + of_below)
    assert asked.shape[1] == 3  # half of the skip's channels
    psi = torch.einsum("bo...,po->bp...", asked, gate.psi.weight.flatten(1)) + gate.psi.bias
    raised = psi
    for axis, wanted in zip(axes, skip.shape[2:], strict=True):
        raised = linear_interpolation(raised, axis, wanted)
    torch.testing.assert_close(gate(skip, up, below), torch.cat((up, skip * torch.sigmoid(raised)), 1))


def linear_interpolation(x: torch.Tensor, axis: int, wanted: int) -> torch.Tensor:
    """Along one axis: pixel centres lie half a pixel inside the border; constant beyond the outermost ones."""
    n = x.shape[axis]
    at = ((torch.arange(wanted) + 0.5) * n / wanted - 0.5).clamp(0, n - 1)
    low = at.floor().long()
    high, share = (low + 1).clamp(max=n - 1), at - low
    share = share.view(-1, *(1,) * (x.dim() - axis - 1))
    return x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share


def test_a_gate_weighs_every_voxel_of_the_skip_alike_in_all_channels(ops: Operators, dims: int) -> None:
    gate: Any = AttentionGate(ops, 6, 10, 2)
    skip, up = features(dims), features(dims, seed=2)
    below = torch.randn(2, 10, *(n // 2 for n in skip.shape[2:]))
    joined = gate(skip, up, below)
    assert torch.equal(joined[:, :6], up)
    share = joined[:, 6:] / skip
    torch.testing.assert_close(share, share[:, :1].expand_as(share), rtol=1e-4, atol=1e-5)
    assert (share > 0).all()
    assert (share < 1).all()


def test_self_attention_on_few_positions_is_the_full_one(ops: Operators, dims: int) -> None:
    """With at most as many positions as keys, there is no pooling: x + softmax(x xT / sqrt(c)) x over all positions."""
    module = PooledSelfAttention(ops)
    few: Any = (..., *(slice(0, 4),) * dims)
    x = features(dims)[few]
    flat = x.flatten(2).transpose(1, 2)
    wanted = flat + torch.softmax(flat @ flat.transpose(1, 2) / 6**0.5, -1) @ flat
    torch.testing.assert_close(module(x).flatten(2).transpose(1, 2), wanted)


def test_self_attention_compares_with_64_positions_at_most(ops: Operators, dims: int) -> None:
    x = torch.randn(1, 3, *(24, 20, 16)[:dims])
    module: Any = PooledSelfAttention(ops)
    sizes: list[tuple[int, ...]] = []
    original = module.pool
    module.pool = lambda value, size: sizes.append(size) or original(value, size)
    assert module(x).shape == x.shape
    assert sizes == [(8, 8) if dims == 2 else (4, 4, 4)]


def test_integrated_attention_adds_channel_attention_to_spatial(ops: Operators, dims: int) -> None:
    module = IntegratedAttention(ops, 6)
    skip, up = features(dims), features(dims, seed=2)
    attended = module.spatial(skip)
    wanted = torch.cat((up, attended + attended * module.channel(attended)), 1)
    assert_equal_but_rounding(module(skip, up, up), wanted)


def test_scale_features_add_three_receptive_fields(ops: Operators, dims: int) -> None:
    """With one non-zero input voxel, the branches reach 5, 3 and 1 voxels."""
    module = ScaleFeatures(ops, 1, 2, 3, 1)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 1.0 if parameter.dim() > 1 else 0.0)
    x = torch.zeros(1, 1, *(9,) * dims)
    middle_voxel = (0, 0, *(4,) * dims)
    across = (0, 0, slice(None), *(4,) * (dims - 1))
    x[middle_voxel] = 1
    line = module(x)[across]
    assert torch.nonzero(line).flatten().tolist() == [2, 3, 4, 5, 6]
    far, middle, near = (branch(x)[middle_voxel].item() for branch in (module.far, module.middle, module.near))
    assert (near, middle) == (1, 2)
    assert far == 4 * 3**dims  # two channels twice, and as many two-step paths back to the centre
    assert line[4].item() == near + middle + far


def test_scale_features_are_pooled_before_and_each_branch_has_its_own_convolutions(ops: Operators, dims: int) -> None:
    module: Any = ScaleFeatures(ops, 2, 3, 3, 2)
    x = features(dims, 2)
    pooled = (nnf.max_pool2d if dims == 2 else nnf.max_pool3d)(x, 2)
    wanted = module.far(pooled) + module.middle(pooled) + module.near(pooled)
    assert_equal_but_rounding(module(x), wanted)
    kernels = [[b.conv.kernel_size[0] for b in branch] for branch in (module.far, module.middle, [module.near])]
    assert kernels == [[1, 3, 3], [1, 3], [1]]
    blocks = [*module.far, *module.middle, module.near]
    assert len({id(b) for b in blocks}) == 6
    assert {b.conv.out_channels for b in blocks} == {3}


def test_the_perceptron_has_an_eighth_of_the_channels_and_four_at_least(ops: Operators) -> None:
    assert [ChannelWeights(ops, n).mlp[0].out_channels for n in (6, 32, 40, 128)] == [4, 4, 5, 16]


def test_padding_reaches_the_size_from_both_sides() -> None:
    padded = pad_to(torch.ones(1, 1, 2, 3), torch.Size((5, 4)))
    assert padded[0, 0].tolist() == [[0] * 4, [1, 1, 1, 0], [1, 1, 1, 0], [0] * 4, [0] * 4]
