"""Test-time augmentation: shifts by whole voxels, gamma curves and mean probabilities, against manual calculations."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.inference.test_time import (
    AUGMENTATIONS,
    SHIFT_MM,
    MeanProbabilities,
    apply_gamma,
    shared_box,
    shifted,
    softmax,
)
from heartseg.volume import Geometry

GRID = Geometry((4, 5, 6), (3.0, 3.0, 3.0), (-9.0, 6.0, 12.0))


def test_the_shifts_add_up_to_zero_and_move_every_axis_alike() -> None:
    directions = np.array([a.direction for a in AUGMENTATIONS])
    assert not directions.sum(0).any()
    assert len(set(np.abs(directions).sum(0))) == 1
    assert not any(any(a.direction) and a.gamma != 1 for a in AUGMENTATIONS)


@pytest.mark.parametrize(("spacing", "voxels"), [(3.0, 3), (1.5, 5), (8.0, 1), (20.0, 1)])
def test_a_window_moves_by_whole_voxels_near_the_shift(spacing: float, voxels: int) -> None:
    grid = Geometry((4, 4, 4), (spacing,) * 3)
    moved = shifted(grid, (1, -1, 0))
    assert moved.origin == (voxels * spacing, -voxels * spacing, 0.0)
    assert moved.shape == grid.shape
    assert spacing > SHIFT_MM or abs(voxels * spacing - SHIFT_MM) <= spacing / 2


@pytest.mark.parametrize("gamma", [0.8, 1.25])
def test_a_gamma_curve_keeps_mean_sd_and_order(gamma: float) -> None:
    image = np.random.default_rng(0).normal(0.3, 1.4, (12, 12, 12)).astype(np.float32)
    inside = np.ones(image.shape, bool)
    inside[:2] = False
    curved = apply_gamma(image, inside, gamma)
    assert float(curved[inside].mean()) == pytest.approx(float(image[inside].mean()), abs=1e-4)
    assert float(curved[inside].std()) == pytest.approx(float(image[inside].std()), rel=1e-3)
    order = image[inside].argsort()
    assert (np.diff(curved[inside][order]) >= 0).all()
    middle = (image[inside].min() + image[inside].max()) / 2  # a smaller gamma raises the middle above the line
    line = np.polyfit(image[inside], curved[inside], 1)
    near = np.abs(image - middle) < 0.2
    assert (float(curved[near].mean()) > np.polyval(line, float(image[near].mean()))) == (gamma < 1)


def test_a_grey_scale_without_a_range_stays_as_it_is() -> None:
    image, inside = np.full((4, 4, 4), 2.0, np.float32), np.ones((4, 4, 4), bool)
    assert np.array_equal(apply_gamma(image, inside, 0.8), image)
    assert np.array_equal(apply_gamma(image, ~inside, 0.8), image)
    assert apply_gamma(image, inside, 1.0) is image


def test_one_window_alone_gives_its_probabilities_back() -> None:
    logits = np.random.default_rng(0).normal(size=(3, *GRID.shape)).astype(np.float32)
    assert np.allclose(softmax(MeanProbabilities(GRID, logits).logits()), softmax(logits), atol=1e-6)


def test_the_mean_is_taken_where_windows_overlap_in_the_world() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 3, *GRID.shape)).astype(np.float32)
    moved = Geometry(GRID.shape, GRID.spacing, (-9.0 + 2 * 3.0, 6.0 - 3.0, 12.0))  # +2 voxels along x, -1 along y
    mean = MeanProbabilities(GRID, first)
    mean.add(moved, second)
    found = softmax(mean.logits())
    for z, y, x in np.ndindex(*GRID.shape):
        votes = [softmax(first[:, z, y, x])]
        if x >= 2 and y + 1 < 5:
            votes.append(softmax(second[:, z, y + 1, x - 2]))
        assert np.allclose(found[:, z, y, x], np.mean(votes, 0), atol=1e-6)


def test_probabilities_are_averaged_not_logits() -> None:
    """Three windows that slightly favour one class outvote one that is certain of the other."""
    grid = Geometry((1, 1, 1), (3.0,) * 3)
    lean, shout = (np.array(v, np.float32).reshape(2, 1, 1, 1) for v in ((1, 0), (0, 50)))
    mean = MeanProbabilities(grid, lean)
    mean.add(grid, lean)
    mean.add(grid, lean)
    mean.add(grid, shout)
    assert mean.logits().argmax(0).item() == 0
    assert (3 * lean + shout).argmax(0).item() == 1


def test_certainty_stays_finite() -> None:
    logits = np.array([500, -500], np.float32).reshape(2, 1, 1, 1)
    assert np.isfinite(MeanProbabilities(Geometry((1, 1, 1), (3.0,) * 3), logits).logits()).all()


def test_grids_share_the_voxels_at_the_same_place() -> None:
    moved = Geometry((4, 5, 6), (3.0, 3.0, 3.0), (-9.0 + 6.0, 6.0 - 3.0, 12.0 + 9.0))
    here, there = shared_box(GRID, moved)
    assert here == (slice(3, 4), slice(0, 4), slice(2, 6))
    assert there == (slice(0, 1), slice(1, 5), slice(0, 4))
    assert shared_box(GRID, Geometry((4, 5, 6), (3.0, 3.0, 3.0), (9.0, 6.0, 12.0))) is None
