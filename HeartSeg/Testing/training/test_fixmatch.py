"""Confident pseudo-labels: their source and weight; a network learns from scans without labels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from heartseg.training.fixmatch import (
    FixMatchSettings,
    fixmatch_loss,
    pseudo_labels,
    rising_weight,
    strong_view,
    weak_view,
)

STILL = FixMatchSettings(shift=0.0, contrast=0.0, brightness=0.0, noise=0.0, erased=0.0, threshold=0.8)
"""Return the image itself as both views."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Scores(nn.Module):
    """Logits are the channels of the image times one trainable weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x


def test_only_voxels_above_the_threshold_teach() -> None:
    p = torch.tensor([0.95, 0.6, 0.1, 0.5])
    logits = torch.stack([p.log(), (1 - p).log()])[None]
    labels, sure = pseudo_labels(logits, 0.9)
    assert labels.tolist() == [[0, 0, 1, 0]]
    assert sure.tolist() == [[True, False, True, False]]


def test_the_loss_is_the_cross_entropy_of_the_sure_voxels_over_all_voxels() -> None:
    p = torch.tensor([0.95, 0.6, 0.1, 0.5])
    images = torch.stack([p.log(), (1 - p).log()])[None, :, None]  # (1, 2 channels, 1, 4)
    found = fixmatch_loss(Scores(), images, replace(STILL, weight=2.0), 0, seeded())
    assert float(found.loss.detach()) == pytest.approx(2.0 * -(math.log(0.95) + math.log(0.9)) / 4, rel=1e-5)
    assert found.confident == 0.5


def test_gradients_flow_through_the_strong_view_alone() -> None:
    network, teacher = Scores(), Scores()
    images = torch.randn(2, 3, 8, 8, generator=seeded()) * 4
    fixmatch_loss(network, images, STILL, 0, seeded(), teacher).loss.backward()
    assert network.weight.grad is not None
    assert network.weight.grad.abs() > 0
    assert teacher.weight.grad is None


def test_the_weight_rises_to_its_full_value() -> None:
    settings = FixMatchSettings(weight=3.0, ramp_steps=100)
    weights = [rising_weight(settings, step) for step in (0, 50, 100, 500)]
    assert weights == pytest.approx([3 * math.exp(-5), 3 * math.exp(-1.25), 3.0, 3.0])
    assert rising_weight(FixMatchSettings(weight=3.0), 0) == 3.0


@pytest.mark.parametrize("shape", [(2, 1, 24, 30), (2, 1, 12, 16, 20)])
def test_views_work_in_2d_and_3d_and_repeat_with_their_seed(shape: tuple[int, ...]) -> None:
    images, settings = torch.randn(shape, generator=seeded()), FixMatchSettings()
    for view in (weak_view, strong_view):
        once, again, other = (view(images, settings, seeded(s)) for s in (1, 1, 2))
        assert once.shape == images.shape
        assert torch.equal(once, again)
        assert not torch.equal(once, other)


def test_a_weak_view_is_shifted_and_nothing_else() -> None:
    image = torch.zeros(1, 1, 40, 40)
    image[..., 20, 20] = 1
    view = weak_view(image, FixMatchSettings(shift=0.1), seeded(3))
    place = torch.nonzero(view[0, 0])
    assert len(place) == 1
    assert (place[0] - 20).abs().max() <= 4


def test_a_strong_view_keeps_every_voxel_in_its_place() -> None:
    """Grey values change by a linear function and noise: outside the box, the result correlates with the image."""
    settings = FixMatchSettings(noise=0.0, erased=0.25)
    image = torch.randn(1, 1, 40, 40, generator=seeded())
    view = strong_view(image, settings, seeded(5))
    erased = view[0, 0] == image.mean()
    assert int(erased.sum()) == 10 * 10
    kept = torch.stack([image[0, 0][~erased], view[0, 0][~erased]])
    assert float(torch.corrcoef(kept)[0, 1]) > 0.9999


MANY = 400
"""Images whose random changes are checked together; 400 uniform draws miss the outer 5 % with probability 1e-9."""


def images_of(seed: int, size: int = 12) -> torch.Tensor:
    """Return noise of mean 5 and standard deviation 3."""
    return 5 + 3 * torch.randn(MANY, 1, size, size, generator=seeded(seed))


def moments(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return images.mean((1, 2, 3)), images.std((1, 2, 3))


def test_contrast_stretches_around_the_mean() -> None:
    images = images_of(1)
    view = strong_view(images, replace(STILL, contrast=0.4), seeded(2))
    (mean, spread), (new_mean, new_spread) = moments(images), moments(view)
    torch.testing.assert_close(new_mean, mean, atol=1e-4, rtol=0)
    factor = new_spread / spread
    assert 0.6 <= factor.min() < 0.64 and 1.36 < factor.max() <= 1.4
    torch.testing.assert_close(
        view, (images - mean.view(-1, 1, 1, 1)) * factor.view(-1, 1, 1, 1) + mean.view(-1, 1, 1, 1)
    )


def test_brightness_shifts_by_shares_of_the_standard_deviation() -> None:
    images = images_of(1)
    view = strong_view(images, replace(STILL, brightness=0.5), seeded(2))
    shift = (view - images) / moments(images)[1].view(-1, 1, 1, 1)
    assert (shift.amax((1, 2, 3)) - shift.amin((1, 2, 3))).max() < 1e-5  # the same for all pixels of an image
    assert -0.5 <= shift.min() < -0.45 and 0.45 < shift.max() <= 0.5


def test_noise_has_a_strength_of_its_own_in_every_image() -> None:
    images = images_of(1, 40)
    view = strong_view(images, replace(STILL, noise=0.3), seeded(2))
    strength = (view - images).std((1, 2, 3)) / moments(images)[1]
    assert strength.min() < 0.02 and 0.28 < strength.max() < 0.3 * 1.1  # standard deviation from 1600 draws: within 2 %
    assert strength.mean() == pytest.approx(0.15, abs=4 * 0.3 / 12**0.5 / MANY**0.5)


def test_erased_boxes_have_their_size_and_reach_both_borders() -> None:
    images = images_of(1)
    view = strong_view(images, replace(STILL, erased=0.3), seeded(2))
    erased = torch.isclose(view, moments(images)[0].view(-1, 1, 1, 1), atol=1e-5)
    changed = erased & ~torch.isclose(view, images, atol=1e-6)
    rows = [torch.nonzero(c[0].any(1)).flatten() for c in changed]
    assert {int(r.max() - r.min()) + 1 for r in rows} == {4}  # 0.3 of 12, rounded
    assert {int(r.min()) for r in rows} == set(range(9))
    assert erased.sum((1, 2, 3)).min() >= 16
    assert torch.equal(view[~changed], images[~changed]) or torch.allclose(view[~changed], images[~changed], atol=1e-5)


def test_a_tiny_box_is_one_pixel() -> None:
    images = images_of(1)
    view = strong_view(images, replace(STILL, erased=0.01), seeded(2))
    assert ((view - images).abs() > 1e-4).sum((1, 2, 3)).max() == 1


def test_an_image_of_one_grey_value_is_no_division_by_zero() -> None:
    flat = torch.full((2, 1, 4, 4), 3.0)
    assert torch.allclose(strong_view(flat, FixMatchSettings(), seeded()), flat, atol=1e-5)


def test_shifts_reach_their_limit_along_every_axis_and_repeat_the_border() -> None:
    grid = torch.arange(20.0)
    images = torch.stack(torch.broadcast_tensors(grid[:, None], 100 * grid[None, :])).expand(MANY, 2, 20, 20)
    view = weak_view(images, replace(STILL, shift=0.16), seeded(2))
    down, across = view[:, 0, 10, 10] - 10, view[:, 1, 10, 10] / 100 - 10
    for shifts in (down, across):
        assert set(shifts.int().tolist()) == set(range(-3, 4))  # 0.16 of 20 is 3.2
    assert not torch.equal(down, across)
    assert view[:, 0].min() == 0 and view[:, 0].max() == 19
    moved = view[int(torch.argmax(down)), 0, :, 0]
    assert moved[-4:].tolist() == [19, 19, 19, 19]


def test_the_default_settings_are_fixmatchs() -> None:
    settings = FixMatchSettings()
    assert (settings.threshold, settings.weight, settings.ramp_steps) == (0.95, 1.0, 0)
    assert (settings.shift, settings.contrast, settings.brightness) == (0.06, 0.4, 0.4)
    assert (settings.noise, settings.erased) == (0.3, 0.3)
    FixMatchSettings(0.0, 0.0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)  # the lowest values allowed
    FixMatchSettings(1.0, 1e9, 10**9, 0.5, 0.99, 9.0, 9.0, 0.9)  # the highest


def test_several_resolutions_are_taught_at_the_finest() -> None:
    class Deep(Scores):
        def forward(self, x: torch.Tensor) -> Any:
            return [self.weight * x, x[..., ::2]]

    images = torch.randn(2, 3, 8, 8, generator=seeded()) * 4
    deep = fixmatch_loss(Deep(), images, STILL, 0, seeded())
    flat = fixmatch_loss(Scores(), images, STILL, 0, seeded())
    assert (deep.loss.item(), deep.confident) == (flat.loss.item(), flat.confident)
    half = fixmatch_loss(Scores(), images, replace(STILL, ramp_steps=10, weight=4.0), 5, seeded())
    assert half.weight == pytest.approx(4 * math.exp(-1.25))
    assert half.loss.item() == pytest.approx(half.weight * flat.loss.item())


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"weight": -1.0}, {"erased": 1.0}, {"noise": float("nan")}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        FixMatchSettings(**wrong)


def discs(count: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return bright discs on grey, each with its own noise, contrast and brightness."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    u = torch.rand(count, 5, generator=rng)
    inside = [(y - 7 - 10 * a) ** 2 + (x - 7 - 10 * b) ** 2 < (3 + 3 * c) ** 2 for a, b, c, *_ in u]
    labels = torch.stack(inside).long()
    grey = labels * (0.7 + u[:, 3, None, None]) + 1.6 * u[:, 4, None, None] - 0.8
    return (grey + 0.3 * torch.randn(grey.shape, generator=rng))[:, None], labels


def test_a_network_learns_from_images_without_labels() -> None:
    """With equal labelled images, start and steps, pseudo-labels reduce the error on unseen images (three starts)."""
    few, labels = discs(2, seeded(1))
    many, _ = discs(24, seeded(2))
    unseen, truth = discs(40, seeded(3))
    settings = FixMatchSettings(threshold=0.8, noise=0.3, erased=0.2, ramp_steps=20)

    def error(start: int, with_unlabelled: bool) -> float:
        torch.manual_seed(start)
        network = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.Conv2d(6, 2, 5, padding=2))
        optimiser, rng = torch.optim.Adam(network.parameters(), 1e-2), seeded(4)
        for step in range(60):
            loss = nnf.cross_entropy(network(few), labels)
            if with_unlabelled:
                pick = torch.randint(len(many), (8,), generator=rng)
                loss = loss + fixmatch_loss(network, many[pick], settings, step, rng).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            return float((network(unseen).argmax(1) != truth).float().mean())

    gains = [error(start, False) - error(start, True) for start in range(3)]
    assert min(gains) > 0
    assert sum(gains) / 3 > 0.02
