"""Inner edges: eroded voxels for a given spacing, and exact reconstruction of the regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heartseg.networks.edge_channels import region_labels
from heartseg.training.edges import edge_map, erosion_schedule, split_interior_edge

K = 3
label_maps = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=7),
    elements=st.sampled_from([0, 1, 2, 3, 255]),
)


def inner_edges(labels: torch.Tensor, spacing: tuple[float, ...], m: int) -> torch.Tensor:
    """Return the inner edge of each structure as a bool mask, ``(b, K, ...)``."""
    edges = edge_map(labels, spacing, m, K)
    return torch.stack([edges == k for k in range(1, K + 1)], 1)


def blocks(dims: int, seed: int) -> np.ndarray:
    """Return overlapping boxes of three labels on a grid of 18 voxels per axis."""
    rng, labels = np.random.default_rng(seed), np.zeros((18,) * dims, np.uint8)
    for _ in range(6):
        corner, size = rng.integers(0, 12, dims), rng.integers(3, 10, dims)
        labels[tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))] = rng.integers(1, K + 1)
    return labels


@pytest.mark.parametrize("m", [0, 1, 2, 3])
@pytest.mark.parametrize("dims", [2, 3])
def test_on_an_isotropic_grid_it_is_scipys_erosion_m_times(dims: int, m: int) -> None:
    for seed in range(5):
        labels = blocks(dims, seed)
        found = inner_edges(torch.from_numpy(labels)[None], (0.7,) * dims, m)[0].numpy()
        for k in range(1, K + 1):
            mask = labels == k
            eroded = ndi.binary_erosion(mask, iterations=m, border_value=1) if m else mask
            assert np.array_equal(found[k - 1], mask & ~eroded)


def test_thick_slices_are_eroded_when_the_steps_add_up_to_half_of_one() -> None:
    assert erosion_schedule((5, 1, 1), 3) == [(0, 1, 1), (0, 1, 1), (1, 1, 1)]
    assert erosion_schedule((2, 1, 1), 3) == [(0, 1, 1), (1, 1, 1), (0, 1, 1)]  # a tie is rounded down
    assert erosion_schedule((1.25, 1, 1), 2) == [(1, 1, 1), (1, 1, 1)]
    assert erosion_schedule((1.2, 2.4), 2) == [(1, 0), (1, 1)]


def test_thin_slices_are_eroded_several_at_a_step() -> None:
    assert erosion_schedule((0.5, 1, 1), 2) == [(2, 1, 1), (2, 1, 1)]
    labels = torch.zeros(1, 20, 9, 9, dtype=torch.uint8)
    labels[:, 4:16, 1:8, 1:8] = 1
    column = edge_map(labels, (0.5, 1.0, 1.0), 1, 1)[0, :, 4, 4]
    assert torch.nonzero(column).flatten().tolist() == [4, 5, 14, 15]


def test_the_edge_is_about_as_deep_in_mm_along_every_axis() -> None:
    """A ball of 20 mm radius on slices of 3 mm: the depth along each axis is within half a voxel of m steps."""
    spacing = (3.0, 1.0, 1.0)
    z, y, x = (torch.arange(-n, n + 1) * s for n, s in zip((10, 25, 25), spacing, strict=True))
    ball = ((z[:, None, None] ** 2 + y[:, None] ** 2 + x**2) <= 400)[None].to(torch.uint8)
    for m in (1, 2, 3):
        edge = edge_map(ball, spacing, m, 1)[0]
        for line, s in ((edge[:, 25, 25], 3.0), (edge[10, :, 25], 1.0), (edge[10, 25], 1.0)):
            assert abs(line.sum().item() / 2 * s - m) <= s / 2


@settings(max_examples=150, deadline=None)
@given(label_maps, st.integers(0, 3), st.sampled_from([1.0, 0.4, 3.0]))
def test_interior_and_edge_make_the_region_and_edges_never_overlap(
    labels: np.ndarray, m: int, thickness: float
) -> None:
    spacing = (thickness, 1.0, 1.3)[-(labels.ndim - 1) :]
    given_labels = torch.from_numpy(labels)
    channels = split_interior_edge(given_labels, spacing, m, K)
    assert channels.dtype == torch.uint8
    assert torch.equal(region_labels(channels, K, 255), given_labels)
    edges = inner_edges(given_labels, spacing, m)
    for k in range(1, K + 1):
        assert torch.equal(channels == K + k, edges[:, k - 1])
    assert torch.equal(channels == 255, given_labels == 255)


@settings(max_examples=50, deadline=None)
@given(label_maps, st.integers(1, 3))
def test_a_deeper_edge_holds_the_shallower_one(labels: np.ndarray, m: int) -> None:
    spacing = (2.0, 1.0, 1.0)[-(labels.ndim - 1) :]
    outer, deeper = (inner_edges(torch.from_numpy(labels), spacing, n) for n in (m - 1, m))
    assert not (outer & ~deeper).any()


def test_touching_structures_each_have_their_own_side() -> None:
    labels = torch.zeros(1, 7, 12, dtype=torch.uint8)
    labels[:, :, 1:6], labels[:, :, 6:11] = 1, 2
    assert edge_map(labels, (1.0, 1.0), 1, 2)[0, 3].tolist() == [0, 1, 0, 0, 0, 1, 2, 0, 0, 0, 2, 0]


def test_what_is_unknown_makes_no_edge() -> None:
    """Neither the image border nor ignored voxels form an edge, because the structure may continue there."""
    labels = torch.ones(1, 5, 9, dtype=torch.uint8)
    assert not edge_map(labels, (1.0, 1.0), 2, 1).any()
    labels[:, :, 6:] = 255
    labels[:, :, 0] = 0
    assert edge_map(labels, (1.0, 1.0), 2, 1)[0, 2].tolist() == [0, 1, 1, 0, 0, 0, 255, 255, 255]


def test_any_dtype_and_a_channel_of_other_label_for_ignore() -> None:
    labels = torch.tensor([[[0, 1, 1, 1, -1]]])
    for dtype in (torch.int16, torch.int64, torch.float32):
        channels = split_interior_edge(labels.to(dtype), (1.0, 1.0), 1, 2, ignore=-1)
        assert channels.dtype == dtype
        assert channels.flatten().tolist() == [0, 3, 1, 1, -1]


@pytest.mark.parametrize(
    ("labels", "spacing", "m", "message"),
    [
        (torch.zeros(1, 4, 4), (1, 1, 1), 1, "labels have 3 axes and spacing 3 entries"),
        (torch.full((1, 4, 4), 421), (1, 1), 1, "label 421 found: labels must be 0 to 3, or 255"),
        (torch.full((1, 4, 4), -1), (1, 1), 1, "label -1 found"),
        (torch.zeros(1, 4, 4), (0, 1), 1, r"spacing is \(0, 1\)"),
        (torch.zeros(1, 4, 4), (1, 1), 4, "m is 4: it must be a whole number from 0 to 3"),
        (torch.zeros(1, 4, 4), (1, 1), 0.5, "m is 0.5"),
    ],
)
def test_what_does_not_fit_is_named(labels: torch.Tensor, spacing: tuple[int, ...], m: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edge_map(labels, spacing, m, K)
    with pytest.raises(ValueError, match="n_classes is 200: with 400 channels the ignore label 255 is taken"):
        edge_map(torch.zeros(1, 4, 4), (1, 1), 1, 200)
