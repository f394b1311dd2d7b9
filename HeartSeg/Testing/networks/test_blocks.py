"""Building blocks of the U-Nets against their formulas in plain tensor arithmetic."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from heartseg.networks.attention_unet import AttentionGate
from heartseg.networks.blocks import ConvBlock, Decoder, Encoder, Operators, Shape, StackedBlocks, read_shape
from heartseg.networks.catalogue import NETWORKS, Cost, build, find, unet_plan
from heartseg.networks.csfbu_net import AttentionFusion
from heartseg.networks.integrated_attention import IntegratedAttention, ScaleFeatures
from heartseg.networks.mobile_unet import InvertedResidual
from heartseg.networks.tutorial_unet import DoubleConv, InterpolatingDecoder, PoolingEncoder
from near_ties import assert_equal_but_rounding


@pytest.fixture
def ops(dims: int) -> Operators:
    torch.manual_seed(0)
    conv, norm = (nn.Conv2d, nn.InstanceNorm2d) if dims == 2 else (nn.Conv3d, nn.InstanceNorm3d)
    return Operators(
        conv, True, norm, {"eps": 1e-3, "affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"negative_slope": 0.2}
    )


def noise(*size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def test_a_block_convolves_normalises_and_activates(ops: Operators, dims: int) -> None:
    block: Any = ConvBlock(ops, 2, 3, 3, 2)
    with torch.no_grad():
        block.norm.weight.copy_(torch.tensor([0.5, 2.0, 1.0]))
        block.norm.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    x = noise(2, 2, *(8, 6, 4)[:dims])
    y = (nnf.conv2d if dims == 2 else nnf.conv3d)(x, block.conv.weight, block.conv.bias, stride=2, padding=1)
    axes = tuple(range(2, 2 + dims))
    y = (y - y.mean(axes, keepdim=True)) / torch.sqrt(y.var(axes, correction=0, keepdim=True) + 1e-3)
    y = y * block.norm.weight.view(-1, *(1,) * dims) + block.norm.bias.view(-1, *(1,) * dims)
    torch.testing.assert_close(block(x), torch.where(y > 0, y, 0.2 * y))


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_odd_kernels_keep_the_grid(ops: Operators, dims: int, kernel: int) -> None:
    x = noise(1, 2, *(9, 7, 5)[:dims])
    assert ops.convolution(2, 4, kernel)(x).shape == (1, 4, *x.shape[2:])


def test_a_plans_convolutions_have_a_bias_only_where_it_says_so(dims: int) -> None:
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    for bias in (True, False):
        ops = Operators(conv, bias)
        assert (ConvBlock(ops, 2, 3).conv.bias is not None) == bias
        assert (ops.transposed(4, 2, 2).bias is not None) == bias
        assert ops.convolution(2, 3).bias is not None  # heads and gates always have a bias
    assert Operators(conv, True).dims == dims


def test_stacked_blocks_take_the_stride_once(ops: Operators, dims: int) -> None:
    stack: Any = StackedBlocks(ops, 3, 2, 5, 3, 2)
    assert [(b.conv.in_channels, b.conv.out_channels, b.conv.stride[0]) for b in stack.convs] == [
        (2, 5, 2),
        (5, 5, 1),
        (5, 5, 1),
    ]
    x = noise(1, 2, *(8, 8, 8)[:dims])
    wanted = x
    for block in stack.convs:
        wanted = block(wanted)
    assert_equal_but_rounding(stack(x), wanted)


def shape_of(ops: Operators) -> Shape:
    """Arguments of three stages, as in plans, with unequal kernels, strides and numbers of blocks."""
    return read_shape(ops, 2, 3, [3, 4, 5], [1, 3, 3], [1, 2, 2], [1, 2, 3], [2, 1])


def test_one_number_in_a_plan_stands_for_all_stages(ops: Operators, dims: int) -> None:
    shape = read_shape(ops, 2, 3, 6, 3, 2, 2, 1)
    axes = (3,) * dims
    assert shape == Shape(2, (6, 6, 6), (axes,) * 3, ((2,) * dims,) * 3, (2, 2, 2), (1, 1))


def test_the_decoder_joins_each_stage_with_its_skip(ops: Operators, dims: int) -> None:
    """Manual calculation: transposed convolution, concatenation (up, skip), blocks, head; coarsest first."""
    shape = shape_of(ops)
    encoder: Any = Encoder(ops, shape)
    decoder: Any = Decoder(encoder, ops, shape, 7, True)
    assert [len(s[0].convs) for s in encoder.stages] == [1, 2, 3]
    assert [len(s.convs) for s in decoder.stages] == [2, 1]
    assert [s.convs[0].conv.kernel_size[0] for s in decoder.stages] == [3, 1]
    x = noise(1, 2, *(8, 8, 8)[:dims])
    skips = encoder(x)
    assert [s.shape[1] for s in skips] == [3, 4, 5]
    middle = decoder.stages[0](torch.cat((decoder.transpconvs[0](skips[2]), skips[1]), 1))
    fine = decoder.stages[1](torch.cat((decoder.transpconvs[1](middle), skips[0]), 1))
    found = decoder([*skips])
    assert_equal_but_rounding(found[0], decoder.seg_layers[1](fine))
    assert_equal_but_rounding(found[1], decoder.seg_layers[0](middle))
    decoder.deep_supervision = False
    assert_equal_but_rounding(decoder([*skips]), found[0])


def test_features_are_free_before_the_last_stage_of_the_decoder_runs(ops: Operators, dims: int) -> None:
    """The peak of memory is there: a copy of the finest features more would be a quarter of it."""
    shape = shape_of(ops)
    encoder = Encoder(ops, shape)
    decoder: Any = Decoder(encoder, ops, shape, 7, False)
    alive: list[bool] = []
    with torch.no_grad():
        skips = encoder(noise(1, 2, *(8, 8, 8)[:dims]))
        features = [weakref.ref(skip) for skip in skips]
        decoder.stages[-1].register_forward_pre_hook(lambda *_: alive.extend(f() is not None for f in features))
        decoder(skips)
    assert alive == [False, False, False]


def test_joins_stand_in_for_side_by_side(ops: Operators, dims: int) -> None:
    shape = shape_of(ops)
    seen = []

    class Join(nn.Module):
        def forward(self, skip: torch.Tensor, up: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
            seen.append((skip, up, below))
            return torch.cat((skip, up), 1)

    encoder = Encoder(ops, shape)
    decoder = Decoder(encoder, ops, shape, 7, False, [Join(), Join()])
    skips = encoder(noise(1, 2, *(8, 8, 8)[:dims]))
    decoder([*skips])
    (skip, up, below), (fine, fine_up, fine_below) = seen
    assert skip is skips[1] and fine is skips[0]
    assert_equal_but_rounding(up, decoder.transpconvs[0](below))
    assert_equal_but_rounding(fine_up, decoder.transpconvs[1](fine_below))
    assert below is skips[2]


JOINS = {
    "plain": None,
    "attention": AttentionGate,
    "integrated-attention": IntegratedAttention,
    "mobile": None,
    "csfbu": AttentionFusion,
    "csfbu-concatenate": AttentionFusion,
    "csfbu-edge": None,
    "csfbu-fusion": AttentionFusion,
    "csfbu-head": None,
}


@pytest.mark.parametrize("key", JOINS)
def test_every_name_of_the_catalogue_builds_its_parts(key: str, dims: int) -> None:
    network = build(key, unet_plan((8, 16, 32), dims), 2, 4, deep_supervision=True)
    joins = getattr(network.decoder, "joins", None)
    assert [type(j) for j in joins or ()] == [JOINS[key]] * (2 if JOINS[key] else 0)
    channels = [{"inner": 7, "head": 7, "none": 4}[NETWORKS[key].extra.get("edge", "none")]] * 2
    assert [h.out_channels for h in network.decoder.seg_layers] == channels
    if key.startswith("csfbu") and joins is not None:
        assert {j.fuse for j in joins} == {"concatenate" if key == "csfbu-concatenate" else "add"}
    if key == "csfbu":  # coarsest first, each with the channels of its skip
        assert [j.by_channel.conv.out_channels for j in joins] == [16, 8]
    if key == "attention":
        assert [(j.of_skip.in_channels, j.of_below.in_channels) for j in joins] == [(16, 32), (8, 16)]
    if key == "integrated-attention":
        assert [type(s) for s in network.encoder.stages] == [ScaleFeatures] * 3
        assert [j.channel.mlp[2].out_channels for j in joins] == [16, 8]


def test_the_tutorials_network_is_double_convolutions_pooling_and_interpolation(dims: int) -> None:
    network: Any = build("tutorial", unet_plan((4, 6, 8, 10), dims), 2, 3)
    encoder, decoder = network.encoder, network.decoder
    assert (type(encoder), type(decoder)) == (PoolingEncoder, InterpolatingDecoder)
    assert len(encoder.stages) == (4 if dims == 2 else 3)
    for stage in (*encoder.stages, *decoder.stages):
        assert type(stage) is DoubleConv
        for block in stage:
            kinds = [type(m).__name__.rstrip("d") for m in block.all_modules]
            assert kinds == [f"Conv{dims}", f"BatchNorm{dims}", "ReLU"]
            assert block.conv.bias is None
    network.eval()
    x = noise(1, 2, *(16, 16, 16)[:dims])
    skips = encoder(x)
    pool = nnf.max_pool2d if dims == 2 else nnf.max_pool3d
    assert_equal_but_rounding(skips[1], encoder.stages[1](pool(skips[0], 2)))
    up, out = skips[-1], None
    mode = "bilinear" if dims == 2 else "trilinear"
    for level, stage in enumerate(decoder.stages):
        raised = nnf.interpolate(up, scale_factor=2.0, mode=mode, align_corners=False)
        up = stage(torch.cat((skips[-(level + 2)], raised), 1))
        out = decoder.seg_layers[level](up)
    assert_equal_but_rounding(network(x), out)


def test_the_tutorials_variants_are_as_their_names_say(dims: int) -> None:
    plan = unet_plan((4, 6, 8, 10), dims)
    printed: Any
    corners: Any
    printed, corners, usual = (build(k, plan, 1, 3) for k in ("tutorial-3d", "tutorial-corners", "tutorial"))
    stages = [*printed.encoder.stages, *printed.decoder.stages]
    assert {len(stage) for stage in stages} == {1}
    assert len(printed.encoder.stages) == (2 if dims == 3 else 4)
    usual.load_state_dict(corners.state_dict())
    x = noise(1, 1, *(16, 16, 16)[:dims])
    found, other = (n.eval()(x) for n in (corners, usual))
    assert not torch.allclose(found, other)
    corners.decoder.align_corners = False
    assert_equal_but_rounding(corners(x), other)
    assert (printed.decoder.align_corners, usual.decoder.align_corners) == (False, False)


def test_a_mobile_block_is_its_formula(ops: Operators, dims: int) -> None:
    """Expand, depthwise with stride, squeeze and excitation, project; the input is added if shapes match."""
    x = noise(2, 3, *(8, 6, 4)[:dims])
    convolve = nnf.conv2d if dims == 2 else nnf.conv3d
    axes = tuple(range(2, 2 + dims))
    for channels, stride in ((3, 1), (5, 1), (3, 2)):
        block: Any = InvertedResidual(ops, 3, channels, 3, stride)
        inside = block.expand(x)
        assert inside.shape[1] == 6
        each = convolve(inside, block.each.weight, None, stride=stride, padding=1, groups=6)
        each = nnf.hardswish(block.norm(each))
        squeeze, _, excite, _ = block.excite.weigh
        mean = each.mean(axes)
        hidden = torch.relu(mean @ squeeze.weight.flatten(1).T + squeeze.bias)
        assert hidden.shape[1] == 8
        weights = nnf.hardsigmoid(hidden @ excite.weight.flatten(1).T + excite.bias)
        weighed = each * weights.view(*weights.shape, *(1,) * dims)
        wanted = block.last_norm(convolve(weighed, block.project.weight))
        if channels == 3 and stride == 1:
            wanted = wanted + x
        torch.testing.assert_close(block(x), wanted)


def test_the_mobile_encoder_begins_with_a_convolution_and_has_the_plans_blocks(dims: int) -> None:
    network: Any = build("mobile", unet_plan((8, 16, 32), dims), 2, 4)
    kinds = [[type(m) for m in stage] for stage in network.encoder.stages]
    assert kinds == [[ConvBlock, InvertedResidual, InvertedResidual]] + [[InvertedResidual] * 2] * 2
    blocks: list[list[Any]] = [[b for b in s if isinstance(b, InvertedResidual)] for s in network.encoder.stages]
    assert [[b.each.stride[0] for b in stage] for stage in blocks] == [
        [1, 1],
        [2, 1],
        [2, 1],
    ]
    assert isinstance(network.encoder.stages[0][0].nonlin, nn.Hardswish)
    assert isinstance(network.decoder.stages[0].convs[0].nonlin, nn.LeakyReLU)
    plain: Any = build("plain", unet_plan((8, 16, 32), dims), 2, 4)
    count = [sum(w.numel() for w in n.encoder.parameters()) for n in (network, plain)]
    assert count[0] < count[1]


def test_without_levels_in_3d_the_tutorials_network_is_a_single_grid() -> None:
    network: Any = build("tutorial", unet_plan((4, 6, 8), 3), 1, 3)
    deeper = type(network)(1, 3, 4, [4, 6, 8, 10], nn.Conv3d, 3, [1, 2, 2, 2], 2, 2, levels_3d=3, deep_supervision=True)
    assert len(network.encoder.stages) == 3
    assert len(deeper.encoder.stages) == 4


def test_a_plan_has_the_sizes_that_are_asked_for(dims: int) -> None:
    plan = unet_plan(iter((8, 16, 32)), dims, convolutions=3)
    assert plan["n_stages"] == 3
    assert plan["features_per_stage"] == [8, 16, 32]
    assert plan["kernel_sizes"] == [[3] * dims] * 3
    assert plan["strides"] == [[1] * dims, [2] * dims, [2] * dims]
    assert (plan["n_conv_per_stage"], plan["n_conv_per_stage_decoder"]) == ([3, 3, 3], [3, 3])
    assert plan["norm_op_kwargs"] == {"eps": 1e-5, "affine": True}
    assert plan["conv_bias"] is True


def test_entries_that_are_nnunets_own_say_so() -> None:
    assert [k for k, e in NETWORKS.items() if e.needs_nnunet] == ["residual"]
    assert find("residual").arguments({"n_conv_per_stage": [1, 2], "n_stages": 2}) == {
        "n_blocks_per_stage": [1, 2],
        "n_stages": 2,
    }
    assert find("csfbu").arguments({"n_conv_per_stage": [1]}) == {
        "n_conv_per_stage": [1],
        "edge": "inner",
        "fusion": True,
    }
    assert Cost("a", 1, 2) == Cost("a", 1, 2)
