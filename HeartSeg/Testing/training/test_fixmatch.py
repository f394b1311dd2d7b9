"""Confident pseudo-labels: who teaches, how much, and that a network really learns from scans without labels."""

from __future__ import annotations

import math
from dataclasses import replace

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
"""Both views are the image itself."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Scores(nn.Module):
    """Logits are the image's channels times one trainable weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x


def test_only_voxels_above_the_threshold_teach():
    p = torch.tensor([0.95, 0.6, 0.1, 0.5])
    logits = torch.stack([p.log(), (1 - p).log()])[None]
    labels, sure = pseudo_labels(logits, 0.9)
    assert labels.tolist() == [[0, 0, 1, 0]]
    assert sure.tolist() == [[True, False, True, False]]


def test_the_loss_is_the_cross_entropy_of_the_sure_voxels_over_all_voxels():
    p = torch.tensor([0.95, 0.6, 0.1, 0.5])
    images = torch.stack([p.log(), (1 - p).log()])[None, :, None]  # (1, 2 channels, 1, 4)
    found = fixmatch_loss(Scores(), images, replace(STILL, weight=2.0), 0, seeded())
    assert float(found.loss.detach()) == pytest.approx(2.0 * -(math.log(0.95) + math.log(0.9)) / 4, rel=1e-5)
    assert found.confident == 0.5


def test_gradients_flow_through_the_strong_view_alone():
    network, teacher = Scores(), Scores()
    images = torch.randn(2, 3, 8, 8, generator=seeded()) * 4
    fixmatch_loss(network, images, STILL, 0, seeded(), teacher).loss.backward()
    assert network.weight.grad is not None
    assert network.weight.grad.abs() > 0
    assert teacher.weight.grad is None


def test_the_weight_rises_to_its_full_value():
    settings = FixMatchSettings(weight=3.0, ramp_steps=100)
    weights = [rising_weight(settings, step) for step in (0, 50, 100, 500)]
    assert weights == pytest.approx([3 * math.exp(-5), 3 * math.exp(-1.25), 3.0, 3.0])
    assert rising_weight(FixMatchSettings(weight=3.0), 0) == 3.0


@pytest.mark.parametrize("shape", [(2, 1, 24, 30), (2, 1, 12, 16, 20)])
def test_views_work_in_2d_and_3d_and_repeat_with_their_seed(shape):
    images, settings = torch.randn(shape, generator=seeded()), FixMatchSettings()
    for view in (weak_view, strong_view):
        once, again, other = (view(images, settings, seeded(s)) for s in (1, 1, 2))
        assert once.shape == images.shape
        assert torch.equal(once, again)
        assert not torch.equal(once, other)


def test_a_weak_view_is_shifted_and_nothing_else():
    image = torch.zeros(1, 1, 40, 40)
    image[..., 20, 20] = 1
    view = weak_view(image, FixMatchSettings(shift=0.1), seeded(3))
    place = torch.nonzero(view[0, 0])
    assert len(place) == 1
    assert (place[0] - 20).abs().max() <= 4


def test_a_strong_view_keeps_every_voxel_in_its_place():
    """Grey values change by one line and noise: what is left of the image correlates with it, but for the box."""
    settings = FixMatchSettings(noise=0.0, erased=0.25)
    image = torch.randn(1, 1, 40, 40, generator=seeded())
    view = strong_view(image, settings, seeded(5))
    erased = view[0, 0] == image.mean()
    assert int(erased.sum()) == 10 * 10
    kept = torch.stack([image[0, 0][~erased], view[0, 0][~erased]])
    assert float(torch.corrcoef(kept)[0, 1]) > 0.9999


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"weight": -1.0}, {"erased": 1.0}, {"noise": float("nan")}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        FixMatchSettings(**wrong)


def discs(count: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright discs on grey, with noise, contrast and brightness of their own."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    u = torch.rand(count, 5, generator=rng)
    inside = [(y - 7 - 10 * a) ** 2 + (x - 7 - 10 * b) ** 2 < (3 + 3 * c) ** 2 for a, b, c, *_ in u]
    labels = torch.stack(inside).long()
    grey = labels * (0.7 + u[:, 3, None, None]) + 1.6 * u[:, 4, None, None] - 0.8
    return (grey + 0.3 * torch.randn(grey.shape, generator=rng))[:, None], labels


def test_a_network_learns_from_images_without_labels():
    """With the same labelled images, start and steps, pseudo-labels lower the error on unseen images (three starts)."""
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
