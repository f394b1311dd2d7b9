"""Generators, discriminators, pool and losses, against their sources and hand-calculated values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.errors import SettingsError
from heartseg.translation.losses import adversarial_loss, edge_loss
from heartseg.translation.networks import PatchDiscriminator, ResidualBlock, ResNetGenerator, initialise
from heartseg.translation.pool import ImagePool
from heartseg.translation.presets import DOCUMENT, PRESETS, REFERENCE, Settings


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_networks_have_the_papers_size() -> None:
    """Parameters counted from the layers: weights and biases of every convolution; norms have none."""
    down = 64 * 49 + 64 + (128 * 64 + 256 * 128) * 9 + 128 + 256
    up = (256 * 128 + 128 * 64) * 9 + 128 + 64 + 64 * 49 + 1
    block = 2 * (256 * 256 * 9 + 256)
    assert parameters(ResNetGenerator(64, 9)) == down + 9 * block + up == 11_365_633
    assert parameters(ResNetGenerator(64, 6)) == down + 6 * block + up
    critic = 16 * (1 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 1) + 64 + 128 + 256 + 512 + 1
    assert parameters(PatchDiscriminator(64)) == critic


def instance_norm(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean((2, 3), keepdim=True)) / torch.sqrt(x.var((2, 3), correction=0, keepdim=True) + 1e-5)


def convolve(x: torch.Tensor, layer: torch.nn.Conv2d | torch.nn.ConvTranspose2d, border: int) -> torch.Tensor:
    """Convolution after reflecting the image at its border."""
    return torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (border,) * 4, mode="reflect"), layer.weight, layer.bias
    )


def test_a_residual_block_adds_two_convolutions_to_its_input() -> None:
    """x + N(conv(relu(N(conv x)))), N the instance norm without scale; borders are reflected."""
    torch.manual_seed(0)
    block, x = ResidualBlock(3), torch.randn(2, 3, 9, 7)
    first, second = (layer for layer in block.body if isinstance(layer, torch.nn.Conv2d))
    wanted = x + instance_norm(convolve(torch.relu(instance_norm(convolve(x, first, 1))), second, 1))
    torch.testing.assert_close(block(x), wanted)


def test_a_generator_is_the_papers_layer_by_layer() -> None:
    torch.manual_seed(0)
    network, x = ResNetGenerator(4, 2), torch.rand(1, 1, 16, 24)
    layers = [m for m in network.body if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    first, *down, up_first, up_second, last = layers
    y = torch.relu(instance_norm(convolve(x, first, 3)))
    for layer in down:
        y = torch.relu(instance_norm(torch.nn.functional.conv2d(y, layer.weight, layer.bias, stride=2, padding=1)))
    assert y.shape == (1, 16, 4, 6)
    for block in (m for m in network.body if isinstance(m, ResidualBlock)):
        y = block(y)
    for layer in (up_first, up_second):
        raised = torch.nn.functional.conv_transpose2d(
            y, layer.weight, layer.bias, stride=2, padding=1, output_padding=1
        )
        y = torch.relu(instance_norm(raised))
    torch.testing.assert_close(network(x), torch.tanh(convolve(y, last, 3)))


def test_a_discriminator_is_the_papers_layer_by_layer() -> None:
    torch.manual_seed(0)
    network, x = PatchDiscriminator(3), torch.rand(2, 1, 40, 48)
    first, *middle, last = (m for m in network.body if isinstance(m, torch.nn.Conv2d))
    leaky = torch.nn.functional.leaky_relu
    y = leaky(torch.nn.functional.conv2d(x, first.weight, first.bias, stride=2, padding=1), 0.2)
    for layer, stride in zip(middle, (2, 2, 1), strict=True):
        y = torch.nn.functional.conv2d(y, layer.weight, layer.bias, stride=stride, padding=1)
        y = leaky(instance_norm(y), 0.2)
    wanted = torch.nn.functional.conv2d(y, last.weight, last.bias, padding=1)
    torch.testing.assert_close(network(x), wanted)
    assert wanted.shape == (2, 1, 40 // 8 - 2, 48 // 8 - 2)


def test_biases_start_at_zero() -> None:
    for network in (ResNetGenerator(4, 1), PatchDiscriminator(4)):
        made = initialise(network, torch.Generator().manual_seed(0))
        assert made is network
        biases = [weights for name, weights in network.named_parameters() if name.endswith("bias")]
        assert biases and not any(b.any() for b in biases)


def test_a_generator_keeps_the_size_and_range() -> None:
    x = torch.rand(2, 1, 36, 48) * 2 - 1
    made = ResNetGenerator(4, 1)(x)
    assert made.shape == x.shape
    assert made.abs().max() <= 1


def test_a_discriminator_judges_patches_of_70_pixels() -> None:
    """The gradient of one logit reaches exactly 70 x 70 pixels (without norms, which see the whole image)."""
    critic = PatchDiscriminator(2)
    critic.body = torch.nn.Sequential(*(m for m in critic.body if not isinstance(m, torch.nn.InstanceNorm2d)))
    x = torch.rand(1, 1, 160, 160, requires_grad=True)
    logits = critic(x)
    assert logits.shape[-2:] == (160 // 8 - 2, 160 // 8 - 2)
    logits[0, 0, 9, 9].backward()
    touched = torch.nonzero(x.grad[0, 0])
    assert (touched.max(0).values - touched.min(0).values + 1).tolist() == [70, 70]


def test_weights_start_small_and_repeat_with_their_seed() -> None:
    one, same, other = (
        initialise(ResNetGenerator(8, 2), torch.Generator().manual_seed(s)).state_dict() for s in (1, 1, 2)
    )
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["body.1.weight"], other["body.1.weight"])
    inner = one["body.10.body.1.weight"]  # 32 * 32 * 9 weights: their SD is within 5 SE of 0.02
    assert abs(float(inner.std()) - 0.02) < 5 * 0.02 / math.sqrt(2 * inner.numel())


def test_adversarial_losses_are_those_of_the_papers() -> None:
    judged = torch.tensor([0.0, 2.0])
    assert float(adversarial_loss(judged, True, "lsgan")) == pytest.approx((1 + 1) / 2)
    assert float(adversarial_loss(judged, False, "lsgan")) == pytest.approx((0 + 4) / 2)
    sure = 1 / (1 + math.exp(-2))
    assert float(adversarial_loss(judged, True, "log")) == pytest.approx(-(math.log(0.5) + math.log(sure)) / 2)
    assert float(adversarial_loss(judged, False, "log")) == pytest.approx(-(math.log(0.5) + math.log(1 - sure)) / 2)
    with pytest.raises(ValueError, match="must be one of lsgan, log"):
        adversarial_loss(judged, True, "hinge")


def test_edges_that_stay_cost_nothing_and_edges_that_move_do() -> None:
    image = torch.full((1, 1, 32, 32), -1.0)
    image[..., 8:20, 10:24] = 0.6
    assert float(edge_loss(image, -0.5 * image)) == pytest.approx(0, abs=1e-3)  # bright and dark are exchanged
    assert float(edge_loss(image, image.roll(5, -1))) > 0.3


def test_the_edge_term_is_one_minus_a_correlation() -> None:
    """Mean over two images with different agreement, calculated with NumPy."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2, 1, 6, 5))
    b = np.stack([0.3 * a[0] + rng.normal(size=(1, 6, 5)), -2 * a[1]])

    def magnitudes(x: np.ndarray) -> np.ndarray:
        down, across = x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1]
        return np.sqrt(down**2 + across**2 + 1e-6).ravel()

    wanted = np.mean([np.corrcoef(magnitudes(x[0]), magnitudes(y[0]))[0, 1] for x, y in zip(a, b, strict=True)])
    found = edge_loss(torch.from_numpy(a), torch.from_numpy(b))
    assert float(found) == pytest.approx(1 - wanted, abs=1e-9)
    flat = torch.zeros(1, 1, 6, 5)
    assert float(edge_loss(flat, flat)) == 1  # nothing to compare; no division by zero


def test_a_pool_swaps_what_it_hands_out() -> None:
    """With a generator that always draws "old", each new image replaces the old one that is returned."""

    class Old:
        random = staticmethod(lambda: 0.4999)
        integers = staticmethod(lambda n: n - 1)

    class New(Old):
        random = staticmethod(lambda: 0.5)

    old: Any = Old()
    new: Any = New()
    pool = ImagePool(2)
    images = torch.arange(4.0).view(4, 1, 1, 1).requires_grad_()
    handed = pool.exchange(images, old)
    assert handed.flatten().tolist() == [0, 1, 1, 2]  # two images fill the pool; 2 and 3 each replace the last one
    assert not handed.requires_grad
    assert [i.item() for i in pool.images] == [0, 3]
    assert pool.exchange(images[:2] + 7, new).flatten().tolist() == [7, 8]
    assert [i.item() for i in pool.images] == [0, 3]
    assert not ImagePool(0).exchange(images, new).requires_grad


def test_a_pool_survives_a_file() -> None:
    pool, other = ImagePool(2), ImagePool(2)
    pool.exchange(torch.arange(3.0).view(3, 1, 1, 1), np.random.default_rng(0))
    other.restore(pool.state(), torch.device("cpu"))
    assert [i.item() for i in other.images] == [i.item() for i in pool.images]
    assert ImagePool().size == 50


def test_a_pool_gives_old_images_half_of_the_time() -> None:
    pool, rng = ImagePool(3), np.random.default_rng(0)
    numbered = [torch.full((1, 1, 2, 2), float(i)) for i in range(400)]
    handed = [float(pool.exchange(x, rng)[0, 0, 0, 0]) for x in numbered]
    assert handed[:3] == [0, 1, 2]  # while the pool fills
    old = sum(h != i for i, h in enumerate(handed[3:], 3))
    assert abs(old - 397 / 2) < 4 * math.sqrt(397) / 2  # binomial, 4 SD
    assert len(pool.images) == 3
    assert torch.equal(ImagePool(0).exchange(numbered[7], rng), numbered[7])


def test_presets_are_exactly_the_sources() -> None:
    assert PRESETS == {"reference": REFERENCE, "document": DOCUMENT}
    paper = Settings(
        blocks=9,
        filters=64,
        critic_filters=64,
        loss="lsgan",
        cycle=10.0,
        identity=0.5,
        edges=0.0,
        pool=50,
        optimizer="adam",
        learning_rate=2e-4,
        momentum=0.5,
        epochs=200,
        constant_epochs=100,
        steps=0,
        batch=1,
        patch=256,
        spacing=0.75,
        ct_window=(-500.0, 1000.0),
        mr_percentiles=(0.5, 99.5),
        ema=0.0,
        seed=0,
    )
    assert paper == REFERENCE
    document: dict[str, Any] = {
        "loss": "log",
        "cycle": 1.0,
        "identity": 0.0,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "epochs": 50,
        "constant_epochs": 0,
        "batch": 2,
        "patch": 384,
        "spacing": 0.5,
    }
    assert replace(REFERENCE, **document) == DOCUMENT


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"patch": 50}, "patch is 50 pixels: it must be a multiple of 4"),
        ({"batch": 0}, "batch is 0: it must be between 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"constant_epochs": 200}, "constant_epochs is 200: it must be below epochs, 200"),
        ({"ct_window": (300.0, -100.0)}, "ct_window is 300 to -100 HU"),
        ({"loss": "wgan"}, "loss is 'wgan'"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        replace(REFERENCE, **wrong)


def test_settings_survive_json() -> None:
    import json

    assert Settings.from_dict(json.loads(json.dumps(DOCUMENT.to_dict()))) == DOCUMENT
    assert Settings.from_dict({"optimiser": "sgd", "momentum": 0.9}).optimizer == "sgd"  # as in models of 0.1
    with pytest.raises(SettingsError, match="setting 'colour'"):
        Settings.from_dict({"colour": 3})
