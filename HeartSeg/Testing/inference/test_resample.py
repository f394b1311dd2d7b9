"""Resampling preserves world positions for any axes."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import binary_erosion

from heartseg.inference.resample import (
    area_weights,
    interpolate,
    likeliest,
    nearest_weights,
    reduced_on_grid,
    reduced_separable,
    running_argmax,
    sample_image,
    window_grid,
    world_grid,
)
from heartseg.inference.views import box_of
from heartseg.volume import Geometry, to_nearest_lps


def rotation(*degrees: float) -> tuple[float, ...]:
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*(float(np.deg2rad(d)) for d in degrees))
    return tuple(transform.GetMatrix())


def smooth_function(world: np.ndarray) -> np.ndarray:
    """A field that varies over about 60 mm, so that linear interpolation at 3 mm errs by less than 1 %."""
    return 100 * np.sin(world[..., 0] / 20) + 80 * np.cos(world[..., 1] / 25) + world[..., 2]


def scan(geometry: Geometry) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), -1)
    return smooth_function(geometry.index_to_world(index)).astype(np.float32)


def centered(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], direction: tuple[float, ...]
) -> Geometry:
    geometry = Geometry(shape, spacing, (0, 0, 0), direction)
    return Geometry(shape, spacing, tuple(-geometry.center()), direction)


def test_area_weights_average_what_a_new_voxel_covers() -> None:
    weights = area_weights(np.array([0.5, 2.5]), 2.0, 4)
    assert weights.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]


def test_area_weights_are_linear_interpolation_when_going_up() -> None:
    assert area_weights(np.array([1.25]), 0.5, 4).tolist() == [[0, 0.75, 0.25, 0]]


def test_positions_beyond_the_end_take_the_end() -> None:
    assert area_weights(np.array([-3.0, 9.0]), 1.0, 3).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert nearest_weights(np.array([-3.0, 1.6]), 3).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("angles", [(0, 0, 0), (10, -5, 30), (0, 0, 45)])
def test_a_scan_is_sampled_at_the_right_places(angles: tuple[int, int, int]) -> None:
    geometry = centered((50, 90, 80), (1.0, 1.1, 2.0), rotation(*angles))
    flip, lps = to_nearest_lps(geometry)
    target = world_grid(lps, (3.0, 3.0, 3.0))
    sampled = sample_image(flip.apply(scan(geometry)), lps, target)
    expected = scan(target)
    # two voxels from the edge, where averaging does not reach the border
    inside = binary_erosion(sampled.inside, np.ones((5, 5, 5)))
    assert inside.sum() > 5000
    error = np.abs(sampled.image - expected)[inside]
    assert error.max() < 1.5  # of a range of 400: curvature within 3 mm and two linear interpolations


def test_outside_the_scan_takes_the_smallest_value_inside() -> None:
    geometry = centered((20, 20, 20), (2.0, 2.0, 2.0), rotation(0, 0, 30))
    sampled = sample_image(
        scan(geometry) + 1000, geometry, window_grid(np.full(3, -60), np.full(3, 60), (3.0,) * 3, (40, 40, 40))
    )
    assert not sampled.inside.all()
    assert np.unique(sampled.image[~sampled.inside]).size == 1
    assert sampled.image[~sampled.inside].min() == sampled.image[sampled.inside].min()


@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 0, 30), (12, 20, -8)])
def test_labels_come_back_to_the_voxels_they_belong_to(angles: tuple[int, int, int]) -> None:
    """A ball in the logits covers the voxels of the ball on the scan's grid."""
    grid = world_grid(centered((60, 60, 60), (2.0,) * 3, rotation(0, 0, 0)), (2.0, 2.0, 2.0))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    radius = np.linalg.norm(grid.index_to_world(index) - [5, -3, 4], axis=-1)
    logits = np.stack([radius - 25, 25 - radius]).astype(np.float32)
    target = centered((70, 120, 110), (0.9, 0.8, 1.5), rotation(*angles))
    flip, lps = to_nearest_lps(target)
    found, box = reduced_on_grid(logits, grid, lps, running_argmax)
    labels = np.zeros(lps.shape, np.uint8)
    labels[box] = found
    labels = flip.undo(labels)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in target.shape], indexing="ij"), -1)
    truth = np.linalg.norm(target.index_to_world(index) - [5, -3, 4], axis=-1) < 25
    dice = 2 * (truth & (labels == 1)).sum() / (truth.sum() + (labels == 1).sum())
    assert dice > 0.99


@pytest.mark.parametrize("angles", [(0, 0, 0), (12, 20, -8)])
def test_labels_in_the_box_of_the_labelled_part_are_those_of_the_whole_window(angles: tuple[int, int, int]) -> None:
    grid = world_grid(centered((40, 40, 40), (3.0,) * 3, rotation(0, 0, 0)), (3.0, 3.0, 3.0))
    logits = np.random.default_rng(3).normal(size=(4, *grid.shape)).astype(np.float32)
    logits[0] += 9  # background, but in a part at the border of the window
    logits[0, :9, 12:20, 30:] -= 9
    _, lps = to_nearest_lps(centered((70, 120, 110), (0.9, 0.8, 1.5), rotation(*angles)))
    maps = []
    for within in (None, box_of(likeliest(logits))):
        part, box = reduced_on_grid(logits, grid, lps, running_argmax, within=within)
        maps.append(np.zeros(lps.shape, np.uint8))
        maps[-1][box] = part
        size = part.size
    assert maps[0].any() and np.array_equal(maps[0], maps[1])
    assert size < maps[0].size / 5


def test_permuted_and_flipped_copies_give_identical_samples_and_labels() -> None:
    geometry = Geometry((24, 30, 36), (1.5, 1.2, 2.0), (-20.3, 4.7, 11.9), rotation(3, -2, 5))
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=geometry.shape).astype(np.float32))
    image.SetSpacing(geometry.spacing), image.SetOrigin(geometry.origin), image.SetDirection(geometry.direction)
    seen = []
    for order, flips in itertools.product(itertools.permutations(range(3)), ((False,) * 3, (True, False, True))):
        copy = sitk.Flip(sitk.PermuteAxes(image, order), flips)
        stored = Geometry(copy.GetSize()[::-1], copy.GetSpacing(), copy.GetOrigin(), copy.GetDirection())
        flip, lps = to_nearest_lps(stored)
        target = world_grid(lps, (3.0, 3.0, 3.0))
        seen.append((target, sample_image(flip.apply(sitk.GetArrayFromImage(copy)), lps, target).image))
    assert all(grid == seen[0][0] for grid, _ in seen)
    for _, values in seen:
        np.testing.assert_allclose(values, seen[0][1], rtol=0, atol=1e-5)


def test_a_window_is_centred_and_never_smaller_than_the_patch() -> None:
    grid = window_grid(np.array([0.0, 0, 0]), np.array([90.0, 100, 300]), (3.0, 3.0, 3.0), (64, 64, 64))
    assert grid.shape == (100, 64, 64)
    assert np.abs(grid.center() - [45, 50, 150]).max() <= 1.5


def test_running_argmax_equals_argmax_of_interpolated_logits() -> None:
    logits = np.random.default_rng(1).normal(size=(5, 6, 7, 8)).astype(np.float32)
    shape = (13, 9, 21)
    z, y, x = (area_weights((np.arange(n) + 0.5) * o / n - 0.5, 1.0, o) for n, o in zip(shape, (6, 7, 8), strict=True))
    channels = torch.from_numpy(logits)[None]
    stock = torch.nn.functional.interpolate(channels, shape, mode="trilinear", align_corners=False)[0].argmax(0)
    ours = reduced_separable(logits, (z, y, x), running_argmax)
    assert (ours == stock.numpy()).mean() > 0.9999  # ties within float rounding


def test_the_likeliest_channel_is_argmax_and_leaves_the_logits_alone() -> None:
    logits = np.random.default_rng(2).integers(0, 4, (8, 6, 7, 8)).astype(np.float32)  # many ties
    before = logits.copy()
    assert np.array_equal(likeliest(logits), logits.argmax(0))
    assert np.array_equal(logits, before)


@pytest.mark.parametrize("without_torch", [False, True])
def test_both_ways_to_interpolate_give_the_same_values(monkeypatch: pytest.MonkeyPatch, without_torch: bool) -> None:
    """A linear function comes back exactly between voxel centres, and the ends are extended; with and without torch."""
    rng = np.random.default_rng(3)
    shape, slope = np.array([9, 10, 11]), np.array([3.0, -2.0, 0.5])
    image = (np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) @ slope).astype(np.float32)
    index = rng.uniform(-3, shape + 2, (4, 5, 6, 3)).astype(np.float32)
    if without_torch:
        monkeypatch.delitem(sys.modules, "torch")
    found = interpolate(image, index)
    assert found.shape == (4, 5, 6) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.clip(index, 0, shape - 1) @ slope, rtol=0, atol=1e-4)
