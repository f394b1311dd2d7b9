"""Generators, discriminators, the pool and the losses, against what their sources say and hand-computed values."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from heartseg.errors import SettingsError
from heartseg.translation.losses import adversarial_loss, edge_loss
from heartseg.translation.networks import PatchDiscriminator, ResNetGenerator, initialise
from heartseg.translation.pool import ImagePool
from heartseg.translation.presets import DOCUMENT, PRESETS, REFERENCE, Settings


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_networks_have_the_papers_size():
    """Counted from the layers: weights and biases of every convolution, no norm has any."""
    down = 64 * 49 + 64 + (128 * 64 + 256 * 128) * 9 + 128 + 256
    up = (256 * 128 + 128 * 64) * 9 + 128 + 64 + 64 * 49 + 1
    block = 2 * (256 * 256 * 9 + 256)
    assert parameters(ResNetGenerator(64, 9)) == down + 9 * block + up == 11_365_633
    assert parameters(ResNetGenerator(64, 6)) == down + 6 * block + up
    critic = 16 * (1 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 1) + 64 + 128 + 256 + 512 + 1
    assert parameters(PatchDiscriminator(64)) == critic


def test_a_generator_keeps_the_size_and_range():
    x = torch.rand(2, 1, 36, 48) * 2 - 1
    made = ResNetGenerator(4, 1)(x)
    assert made.shape == x.shape
    assert made.abs().max() <= 1


def test_a_discriminator_judges_patches_of_70_pixels():
    """The gradient of one logit reaches 70 x 70 pixels and no more (without norms, which see everything)."""
    critic = PatchDiscriminator(2)
    critic.body = torch.nn.Sequential(*(m for m in critic.body if not isinstance(m, torch.nn.InstanceNorm2d)))
    x = torch.rand(1, 1, 160, 160, requires_grad=True)
    logits = critic(x)
    assert logits.shape[-2:] == (160 // 8 - 2, 160 // 8 - 2)
    logits[0, 0, 9, 9].backward()
    touched = torch.nonzero(x.grad[0, 0])
    assert (touched.max(0).values - touched.min(0).values + 1).tolist() == [70, 70]


def test_weights_start_small_and_repeat_with_their_seed():
    one, same, other = (
        initialise(ResNetGenerator(8, 2), torch.Generator().manual_seed(s)).state_dict() for s in (1, 1, 2)
    )
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["body.1.weight"], other["body.1.weight"])
    inner = one["body.10.body.1.weight"]  # 32 * 32 * 9 weights: their SD is within 5 SE of 0.02
    assert abs(float(inner.std()) - 0.02) < 5 * 0.02 / math.sqrt(2 * inner.numel())


def test_adversarial_losses_are_those_of_the_papers():
    judged = torch.tensor([0.0, 2.0])
    assert float(adversarial_loss(judged, True, "lsgan")) == pytest.approx((1 + 1) / 2)
    assert float(adversarial_loss(judged, False, "lsgan")) == pytest.approx((0 + 4) / 2)
    sure = 1 / (1 + math.exp(-2))
    assert float(adversarial_loss(judged, True, "log")) == pytest.approx(-(math.log(0.5) + math.log(sure)) / 2)
    assert float(adversarial_loss(judged, False, "log")) == pytest.approx(-(math.log(0.5) + math.log(1 - sure)) / 2)
    with pytest.raises(ValueError, match="must be one of lsgan, log"):
        adversarial_loss(judged, True, "hinge")


def test_edges_that_stay_cost_nothing_and_edges_that_move_do():
    image = torch.full((1, 1, 32, 32), -1.0)
    image[..., 8:20, 10:24] = 0.6
    assert float(edge_loss(image, -0.5 * image)) == pytest.approx(0, abs=1e-3)  # dark and bright changed places
    assert float(edge_loss(image, image.roll(5, -1))) > 0.3


def test_a_pool_gives_old_images_half_of_the_time():
    pool, rng = ImagePool(3), np.random.default_rng(0)
    numbered = [torch.full((1, 1, 2, 2), float(i)) for i in range(400)]
    handed = [float(pool.exchange(x, rng)[0, 0, 0, 0]) for x in numbered]
    assert handed[:3] == [0, 1, 2]  # while it fills up
    old = sum(h != i for i, h in enumerate(handed[3:], 3))
    assert abs(old - 397 / 2) < 4 * math.sqrt(397) / 2  # binomial, 4 SD
    assert len(pool.images) == 3
    assert torch.equal(ImagePool(0).exchange(numbered[7], rng), numbered[7])


def test_presets_are_exactly_the_sources():
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
        optimiser="adam",
        learning_rate=2e-4,
        momentum=0.5,
        epochs=200,
        constant_epochs=100,
        steps=0,
        batch=1,
        patch=256,
        spacing=1.0,
        ct_window=(-500.0, 1000.0),
        mr_percentiles=(0.5, 99.5),
        ema=0.0,
        seed=0,
    )
    assert paper == REFERENCE
    document = {
        "loss": "log",
        "cycle": 1.0,
        "identity": 0.0,
        "optimiser": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "epochs": 50,
        "constant_epochs": 0,
        "batch": 2,
        "patch": 384,
    }
    assert replace(REFERENCE, **document) == DOCUMENT


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"patch": 50}, "patch is 50 pixels: it must be a multiple of 4"),
        ({"batch": 0}, "batch is 0: it must be between 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"constant_epochs": 200}, "constant_epochs is 200: it must be below epochs, 200"),
        ({"ct_window": (300.0, -100.0)}, "ct_window is 300 to -100 HU: it must rise"),
        ({"loss": "wgan"}, "loss is 'wgan'"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, said):
    with pytest.raises(SettingsError, match=said):
        replace(REFERENCE, **wrong)


def test_settings_survive_json():
    import json

    assert Settings.from_dict(json.loads(json.dumps(DOCUMENT.to_dict()))) == DOCUMENT
    with pytest.raises(SettingsError, match="unknown setting 'colour'"):
        Settings.from_dict({"colour": 3})
