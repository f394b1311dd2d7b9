"""Grad-CAM on networks with known heat maps: by formula, finite differences and symmetry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from heartseg.errors import Cancelled, DeviceError, SettingsError
from heartseg.explain import gradcam
from heartseg.explain.gradcam import seg_grad_cam
from heartseg.explain.layers import layers_of
from heartseg.inference.slicewise import SliceWise
from heartseg.progress import CancelToken, ProgressEvent, Reporter
from tiny_models import _plans, build_tiny_network

CPU = torch.device("cpu")


class TwoChannels(nn.Module):
    """Features 1·x and −2·x (+ 0.5), logits of two classes by a 1x1x1 convolution: all values are known."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(1, 2, 1)
        self.head = nn.Conv3d(2, 2, 1)
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1, 1))
            self.features.bias.copy_(torch.tensor([0.0, 0.5]))
            self.head.weight.copy_(torch.tensor([[0.3, 0.7], [2.0, -1.5]]).reshape(2, 2, 1, 1, 1))
            self.head.bias.copy_(torch.tensor([5.0, -5.0]))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.head(self.features(x))


class Round(nn.Module):
    """Circular convolutions with a stride of two and a normalisation over the whole image."""

    def __init__(self) -> None:
        super().__init__()
        around: dict[str, Any] = {"padding": 1, "padding_mode": "circular"}
        self.down = nn.Sequential(nn.Conv3d(1, 4, 3, 2, **around), nn.InstanceNorm3d(4), nn.LeakyReLU(inplace=True))
        self.up = nn.ConvTranspose3d(4, 4, 2, 2)
        self.head = nn.Conv3d(4, 3, 1)
        self.unused = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.unused(x)
        return self.head(self.up(self.down(x)))


def seeded(network_class: type[nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network_class().eval().requires_grad_(False)


def image_of(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32))


def box_in(shape: tuple[int, int, int], *box: slice) -> torch.Tensor:
    region = torch.zeros(shape, dtype=torch.bool)
    region[box] = True
    return region


def heat(
    network: nn.Module | list[nn.Module],
    layer: str,
    image: torch.Tensor,
    region: torch.Tensor,
    channel: int = 1,
    patch: tuple[int, ...] | None = None,
    reporter: Reporter | None = None,
    **more: Any,
) -> torch.Tensor:
    networks = network if isinstance(network, list) else [network]
    patch = patch or tuple(image.shape[1:])
    place = layers_of(networks[0], image.new_zeros(1, 1, *patch)).find(layer)
    return seg_grad_cam(networks, place, image, region, [channel], patch, CPU, reporter or Reporter(), **more)


def test_a_network_by_hand() -> None:
    """Gradients equal the head's weights inside the region: channel k has weight w_k |M| / N, so the map is known."""
    shape = (6, 7, 8)
    image, region = image_of(shape), box_in(shape, slice(1, 4), slice(2, 6), slice(0, 5))
    share = float(region.sum()) / region.numel()
    expected = share * (2.0 * image[0] - 1.5 * (-2.0 * image[0] + 0.5))

    found = heat(seeded(TwoChannels), "last", image, region)

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # a few rounding errors of values up to 20


@pytest.mark.parametrize("length", [4, 6, 8, 12])
def test_tiles_blend_into_one_map_whatever_their_number(length: int) -> None:
    """A channel has the weight of the head times the region's fraction of a tile, summed over the tiles."""
    shape = (4, 4, length)
    image, region = image_of(shape), box_in(shape, slice(1, 4))
    expected = float(region.sum()) / 4**3 * (2.0 * image[0] - 1.5 * (-2.0 * image[0] + 0.5))
    found = heat(seeded(TwoChannels), "last", image, region, patch=(4, 4, 4))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_progress_counts_every_tile_of_every_network_twice() -> None:
    """One pass for the channel weights and one for the map; two networks with two tiles take eight steps."""
    seen = []
    image, region = image_of((4, 4, 8)), box_in((4, 4, 8), slice(0, 2))
    reporter = Reporter(lambda event: seen.append((event.done, event.total)))
    heat([seeded(TwoChannels), seeded(TwoChannels, 1)], "last", image, region, patch=(4, 4, 4), reporter=reporter)
    done = [d for d, _ in seen if d]
    assert {total for _, total in seen} == {2 * 2 * len(set(done)) // 4}
    assert sorted(set(done)) == list(range(1, max(done) + 1)) and done == sorted(done)
    assert max(done) == seen[-1][1]


def test_the_background_is_a_class_as_any_other() -> None:
    image, region = image_of((4, 4, 4)), box_in((4, 4, 4), slice(0, 2))
    expected = 0.5 * (0.3 * image[0] + 0.7 * (-2.0 * image[0] + 0.5))
    torch.testing.assert_close(heat(seeded(TwoChannels), "last", image, region, 0), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", ["bottleneck", "last", "encoder.stages.1", "encoder.stages.1.0.convs.0.norm"])
def test_channels_weigh_what_finite_differences_say(layer: str) -> None:
    """The mean gradient of a channel is the change of the score per position for a small increase of the channel."""
    plans = _plans((16,) * 3, (4, 6, 8), "ZScoreNormalization", (1.0,) * 3, False, (0, 1, 2), False, ("3d_fullres",))
    network = build_tiny_network(plans, 4).eval().double().requires_grad_(False)
    image, region = image_of((16,) * 3).double(), box_in((16,) * 3, slice(3, 9), slice(4, 12), slice(5, 9))
    place = layers_of(network, image[None]).find(layer)
    module, taken = network.get_submodule(place.name), []
    raised: dict[str, Any] = {"channel": 0, "by": 0.0}

    def raise_channel(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        taken.append(output.clone())
        output = output.clone()
        output[:, raised["channel"]] += raised["by"]
        return output

    def score(channel: int, by: float) -> float:
        raised.update(channel=channel, by=by)
        return float(network(image[None])[0, 2][region].sum())

    step, weights = 1e-6, []
    with torch.no_grad():
        handle = module.register_forward_hook(raise_channel)
        for channel in range(place.shape[0]):
            weights.append((score(channel, step) - score(channel, -step)) / (2 * step) / np.prod(place.shape[1:]))
        handle.remove()
        coarse = (torch.tensor(weights)[:, None, None, None] * taken[0][0]).sum(0)
        expected = functional.interpolate(coarse[None, None], (16,) * 3, mode="trilinear", align_corners=False)[0, 0]

    found = heat(network, layer, image, region, channel=2)

    # Remaining differences: kinks of the leaky ReLU within the step, and maps stored as float32.
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert float(expected.abs().max()) > 0


def test_tiles_share_one_score() -> None:
    """A network of single voxels gives the same map in tiles, except that the mean is taken over a tile."""
    shape, patch = (12, 12, 12), (6, 6, 6)
    image, region = image_of(shape), box_in(shape, slice(2, 11), slice(2, 11), slice(2, 11))
    whole = heat(seeded(TwoChannels), "last", image, region)

    tiled = heat(seeded(TwoChannels), "last", image, region, patch=patch)

    torch.testing.assert_close(tiled, whole * 12**3 / 6**3, rtol=0, atol=1e-4)


def test_tiles_that_the_region_does_not_reach_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = seeded(TwoChannels), []
    monkeypatch.setattr(TwoChannels, "forward", lambda self, x: (seen.append(1), self.head(self.features(x)))[1])
    image, region = image_of((6, 6, 30)), box_in((6, 6, 30), slice(None), slice(None), slice(0, 2))

    found = heat(network, "last", image, region, patch=(6, 6, 6))

    assert len(seen) == 1 + 1  # layers_of, and the single tile that begins at 0
    assert bool(found[..., :3].any()) and not bool(found[..., 6:].any())


def test_an_image_smaller_than_the_patch_is_padded_and_cut_again() -> None:
    image, region = image_of((3, 4, 5)), box_in((3, 4, 5), slice(0, 2))
    found = heat(seeded(TwoChannels), "last", image, region, patch=(8, 8, 8))
    small = heat(seeded(TwoChannels), "last", image, region)
    torch.testing.assert_close(found, small * 60 / 512, rtol=0, atol=1e-5)  # the mean is over the padded patch


@pytest.mark.parametrize("layer", ["last", "bottleneck"])
def test_a_shifted_image_has_a_shifted_map(layer: str) -> None:
    shape, shift = (8, 8, 8), (2, 4, -2)  # multiples of the stride
    image, region = image_of(shape), box_in(shape, slice(1, 4), slice(2, 5), slice(3, 6))
    moved = (torch.roll(image, shift, (1, 2, 3)), torch.roll(region, shift, (0, 1, 2)))
    network = seeded(Round)

    before, after = heat(network, layer, image, region), heat(network, layer, *moved)

    inner = (slice(3, 7), slice(5, 7), slice(1, 5))  # upsampling of a coarse map is not circular
    rolled = torch.roll(before, shift, (0, 1, 2))
    limits = inner if layer == "bottleneck" else ()
    torch.testing.assert_close(after[limits], rolled[limits], rtol=0, atol=1e-5)
    assert not torch.allclose(after[limits], before[limits], atol=1e-3)


def test_folds_are_averaged() -> None:
    image, region = image_of((8,) * 3), box_in((8,) * 3, slice(1, 4))
    networks = [seeded(Round, k) for k in range(3)]
    together = heat(networks, "last", image, region)
    apart = sum(heat(n, "last", image, region) for n in networks) / 3
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)


def test_the_network_is_left_as_it_was() -> None:
    network = seeded(Round)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    heat(network, "bottleneck", image_of((8,) * 3), box_in((8,) * 3, slice(1, 4)))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_a_network_made_under_inference_mode_can_be_explained() -> None:
    """Networks of the engine after they were moved to a graphics card in a run."""
    with torch.inference_mode():
        network = seeded(Round)
    heat(network, "last", image_of((8,) * 3), box_in((8,) * 3, slice(1, 4)))


def test_a_layer_without_influence_is_named() -> None:
    with pytest.raises(SettingsError, match="'unused' has no influence on the output"):
        heat(seeded(Round), "unused", image_of((8,) * 3), box_in((8,) * 3, slice(1, 4)))


def test_progress_counts_tiles_twice_and_a_cancel_stops_between_them() -> None:
    image, region = image_of((6, 6, 12)), box_in((6, 6, 12), slice(None))
    events: list[ProgressEvent] = []
    token = CancelToken()
    heat(seeded(TwoChannels), "last", image, region, patch=(6, 6, 6), reporter=Reporter(events.append))
    assert [(e.done, e.total) for e in events] == [(k, 6) for k in (*range(7), 6)]

    def stop(event: ProgressEvent) -> None:
        if event.done == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        heat(seeded(TwoChannels), "last", image, region, patch=(6, 6, 6), reporter=Reporter(stop, token))


@pytest.mark.parametrize("layer", ["last", "bottleneck"])
def test_a_2d_network_has_the_map_of_its_3d_twin_that_sees_single_slices(layer: str) -> None:
    def stack(conv: Any, norm: Any, up: Any, kernel: tuple[int, ...], stride: tuple[int, ...]) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            down = nn.Sequential(conv(1, 4, kernel, stride, tuple(k // 2 for k in kernel)), norm(4), nn.LeakyReLU())
            return nn.Sequential(down, up(4, 4, stride, stride), conv(4, 3, 1)).eval().requires_grad_(False)

    flat = stack(nn.Conv2d, nn.InstanceNorm2d, nn.ConvTranspose2d, (3, 3), (2, 2))
    deep = stack(nn.Conv3d, nn.InstanceNorm3d, nn.ConvTranspose3d, (1, 3, 3), (1, 2, 2))
    deep.load_state_dict({k: v.reshape(deep.state_dict()[k].shape) for k, v in flat.state_dict().items()})
    image, region, patch = image_of((5, 12, 14)), box_in((5, 12, 14), slice(1, 4), slice(2, 9), slice(3, 8)), (1, 8, 8)
    place = layers_of(flat, image.new_zeros(1, 1, 8, 8)).find(layer)

    found = gradcam.seg_grad_cam([SliceWise(flat)], place, image, region, [1], patch, CPU, Reporter())

    torch.testing.assert_close(found, heat(deep, layer, image, region, patch=patch), rtol=1e-4, atol=1e-6)
    assert bool(found[1:4].any()) and not bool(found[0].any() or found[4].any())


class Hungry(TwoChannels):
    """Runs out of memory when gradients are requested."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")
        return super().forward(x)


def test_out_of_memory_on_the_cpu_says_what_helps() -> None:
    with pytest.raises(DeviceError, match="4x4x4 voxels: close other programs, or use the layer 'last'"):
        heat(seeded(Hungry), "last", image_of((4,) * 3), box_in((4,) * 3, slice(0, 2)))


def test_out_of_memory_on_a_graphics_card_ends_on_the_cpu_with_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a real card, the stand-in fails like torch on a card, after the first tile."""
    image, region = image_of((6, 6, 12)), box_in((6, 6, 12), slice(1, 4))
    events: list[ProgressEvent] = []
    network = seeded(TwoChannels)
    wanted = heat(network, "last", image, region, patch=(6, 6, 6))
    real = gradcam._mean_map

    def small_card(
        networks: Any, layer: Any, tiles: Any, channels: Any, device: torch.device, reporter: Reporter
    ) -> Any:
        if device.type == "cuda":
            reporter.advance(1)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
        return real(networks, layer, tiles, channels, device, reporter)

    monkeypatch.setattr(gradcam, "_mean_map", small_card)
    reporter, cuda = Reporter(events.append), torch.device("cuda")
    place = layers_of(network, image.new_zeros(1, 1, 6, 6, 6)).find("last")

    found = seg_grad_cam([network], place, image, region, [1], (6, 6, 6), cuda, reporter)

    assert torch.equal(found, wanted)
    assert any("out of memory on cuda: making the heat map on the CPU" in text for text in reporter.announcements)
    assert events[-1].done == events[-1].total
