"""The confidence map: probability of the predicted label at the scan's voxels, near the heart, with little memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heartseg.inference.axes import NetworkAxes
from heartseg.inference.resample import (
    area_weights,
    reduced_on_grid,
    reduced_separable,
    running_argmax,
    running_percent,
    world_grid,
)
from heartseg.inference.views import NEAR_MM, WorldView, confidence_on_scan
from heartseg.progress import Reporter
from heartseg.volume import Geometry, to_nearest_lps

GRID = Geometry((30, 30, 30), (4.0, 4.0, 4.0), (-60.0, -60.0, -60.0))


def heart_logits(grid: Geometry, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Logits of background (0), a ball of 24 mm (1 per 2 mm of depth), and a class that is never predicted."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1)
    distance = np.linalg.norm(grid.index_to_world(index) - center, axis=-1)
    ball = ((24 - distance) / 2).astype(np.float32)
    return np.stack([np.zeros_like(ball), ball, ball - 3])


def view_of(scan: Geometry, grid: Geometry = GRID) -> WorldView:
    flip, geometry = to_nearest_lps(scan)
    return WorldView(grid, geometry, flip, NetworkAxes.of("LPS"))


def turned(degrees: float) -> tuple[float, ...]:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)


SCANS = {
    "aligned": Geometry((50, 40, 45), (2.5, 3.0, 2.0), (-55.0, -58.0, -49.0)),
    "flipped": Geometry((50, 40, 45), (2.5, 3.0, 2.0), (55.0, -58.0, 49.0), (-1.0, 0, 0, 0, 1.0, 0, 0, 0, -1.0)),
    "oblique": Geometry((50, 40, 45), (2.5, 3.0, 2.0), (-30.0, -70.0, -49.0), turned(25)),
}


@pytest.mark.parametrize("name", SCANS)
def test_it_is_the_winners_probability_at_every_voxel_near_the_heart(name: str) -> None:
    scan = SCANS[name]
    logits, view = heart_logits(GRID), view_of(scan)
    percent = confidence_on_scan(logits, view, Reporter())
    assert percent.dtype == np.uint8 and percent.shape == scan.shape
    index = np.stack(np.meshgrid(*(np.arange(n) for n in scan.shape), indexing="ij"), -1)
    world = scan.index_to_world(index)
    inside = (np.abs(world) < 57).all(-1)
    distance = np.linalg.norm(world, axis=-1)
    exact = np.exp(np.maximum(0, (24 - distance) / 2))
    exact /= 1 + np.exp((24 - distance) / 2) * (1 + np.exp(-3))
    near = inside & (distance < 24 + NEAR_MM - 7)  # one voxel of the network's grid, along its diagonal
    # The distance is curved between the network's voxels of 4 mm: linear interpolation errs by up to 4² / 8 / distance.
    solid = near & (distance > 10)
    assert np.abs(percent[solid] / 100 - exact[solid]).max() < 0.06
    assert np.abs(percent[solid] / 100 - exact[solid]).mean() < 0.01
    far = distance > (24 + NEAR_MM) * 3**0.5 + 8  # "near" is a box around each voxel of the heart
    assert not percent[far].any() and far.any()


def test_it_belongs_to_the_labels() -> None:
    """Voxels as likely as background have at most 50 %, the middle of the heart has almost 100 %."""
    scan = SCANS["aligned"]
    logits, view = heart_logits(GRID), view_of(scan)
    percent = confidence_on_scan(logits, view, Reporter())
    found, box = reduced_on_grid(logits, GRID, scan, running_argmax)
    labels = np.zeros(scan.shape, np.uint8)
    labels[box] = found
    assert percent[labels == 1].min() >= 33 and percent[labels == 1].max() >= 95
    edge = (labels == 1) & (np.roll(labels, 1, 2) == 0)
    assert percent[edge].mean() < 70


def test_the_running_percent_is_the_softmax_of_interpolated_logits() -> None:
    logits = 5 * np.random.default_rng(1).normal(size=(5, 6, 7, 8)).astype(np.float32)
    shape = (13, 9, 21)
    z, y, x = (area_weights((np.arange(n) + 0.5) * o / n - 0.5, 1.0, o) for n, o in zip(shape, (6, 7, 8), strict=True))
    channels = torch.from_numpy(logits)[None]
    stock = torch.nn.functional.interpolate(channels, shape, mode="trilinear", align_corners=False)[0].softmax(0)
    percent = reduced_separable(logits, (z, y, x), running_percent)
    assert np.abs(percent - 100 * stock.max(0).values.numpy()).max() <= 0.5 + 1e-3  # rounding to integer percent
    winner = torch.from_numpy(reduced_separable(logits, (z, y, x), running_argmax).astype(np.int64))
    assert np.abs(percent - 100 * stock.gather(0, winner[None])[0].numpy()).max() <= 0.5 + 1e-3


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([[[[1e4]]], [[[-1e4]]], [[[1e4]]]], np.float32)
    one = np.ones((1, 1), np.float32)
    assert reduced_separable(logits, (one, one, one), running_percent).item() == 50


def test_without_a_heart_nothing_is_confident() -> None:
    scan = SCANS["aligned"]
    nothing = np.zeros((3, *GRID.shape), np.float32)
    nothing[0] = 9.0
    assert not confidence_on_scan(nothing, view_of(scan), Reporter()).any()


def test_outside_of_the_window_it_is_zero() -> None:
    small = Geometry((10, 10, 10), (4.0, 4.0, 4.0), (-20.0, -20.0, -20.0))
    scan = SCANS["aligned"]
    percent = confidence_on_scan(heart_logits(small), view_of(scan, small), Reporter())
    world = scan.index_to_world(np.argwhere(percent > 0))
    assert np.abs(world[:, 0] + 2).max() <= 20 and world.size  # half width of the window around its centre


def test_the_world_grid_of_a_scan_covers_it() -> None:
    grid = world_grid(SCANS["aligned"], (4.0, 4.0, 4.0))
    percent = confidence_on_scan(heart_logits(grid), view_of(SCANS["aligned"], grid), Reporter())
    assert percent[tuple(n // 2 for n in percent.shape)] > 90
