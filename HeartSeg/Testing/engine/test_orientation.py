"""The labels are the same in world space for any storage order: the default model on the shipped sample scan.

Rotated and resampled copies are made with cubic splines, to preserve the content of the scan like a second acquisition;
linear interpolation of 3 mm voxels would blur it.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from heartseg import STRUCTURES, Segmenter, Volume
from heartseg.volume.itk import geometry_of, image_of
from near_ties import assert_equal_but_few


@pytest.fixture(scope="module")
def reference(segmenter: Segmenter, volume: Volume) -> np.ndarray:
    labels = segmenter.segment(volume).labels
    for s in STRUCTURES:
        assert (labels == s.label).any(), f"{s.name} is empty: the comparison would be void"
    return labels


def as_volume(image: sitk.Image, modality: str) -> Volume:
    return Volume(sitk.GetArrayFromImage(image), geometry_of(image), "copy", modality)


def rotated_grid(image: sitk.Image, degrees: tuple[float, float, float], spacing: float) -> sitk.Image:
    """Return an empty grid with rotated axes about the centre of the scan that covers the scan."""
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*(float(np.deg2rad(d)) for d in degrees))
    matrix = np.array(turn.GetMatrix()).reshape(3, 3)
    corners = [
        image.TransformIndexToPhysicalPoint([c * (n - 1) for c, n in zip(pick, image.GetSize(), strict=True)])
        for pick in itertools.product((0, 1), repeat=3)
    ]
    local = np.array(corners) @ matrix
    low, high = local.min(0), local.max(0)
    size = [int(v) for v in np.ceil((high - low) / spacing) + 1]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing([spacing] * 3)
    grid.SetDirection(matrix.ravel())
    grid.SetOrigin(matrix @ low)
    return grid


def dice_on(grid: sitk.Image, found: sitk.Image, reference: np.ndarray) -> dict[str, float]:
    """Return Dice per structure at the voxels of ``grid``; borders of ``found`` are interpolated, not rounded."""
    mapped = sitk.GetArrayFromImage(sitk.Resample(found, grid, sitk.Transform(), sitk.sitkLabelLinear, 0))
    scores = {}
    for s in STRUCTURES:
        a, b = mapped == s.label, reference == s.label
        scores[s.key] = 2 * float((a & b).sum()) / float(a.sum() + b.sum())
    return scores


COPIES = [
    (order, flips)
    for k, order in enumerate(itertools.permutations(range(3)))
    for flips in [((k & 1) == 0, (k & 2) == 0, k % 3 == 0)]
]


@pytest.mark.parametrize(("order", "flips"), COPIES)
def test_permuted_and_flipped_copies_give_the_same_labels(
    order: tuple[int, ...], flips: tuple[bool, ...], segmenter: Segmenter, volume: Volume, reference: np.ndarray
) -> None:
    image = sitk.Flip(sitk.PermuteAxes(image_of(volume.array, volume.geometry), order), flips)
    found = segmenter.segment(as_volume(image, volume.modality)).labels
    back = sitk.PermuteAxes(sitk.Flip(sitk.GetImageFromArray(found), flips), [order.index(k) for k in range(3)])
    assert_equal_but_few(sitk.GetArrayFromImage(back), reference)


@pytest.fixture(scope="module")
def base(volume: Volume) -> sitk.Image:
    """The sample with 1.5 mm voxels: at 3 mm, rounding borders to voxels alone reduces the Dice of a vessel by 5 %."""
    return on_spacing(image_of(volume.array, volume.geometry), (1.5, 1.5, 1.5))


@pytest.fixture(scope="module")
def base_labels(segmenter: Segmenter, base: sitk.Image, volume: Volume) -> np.ndarray:
    return segmenter.segment(as_volume(base, volume.modality)).labels


def spline_copy(image: sitk.Image, grid: sitk.Image) -> sitk.Image:
    low = float(sitk.GetArrayViewFromImage(image).min())
    return sitk.Resample(image, grid, sitk.Transform(), sitk.sitkBSpline, low, sitk.sitkFloat32)


def on_spacing(image: sitk.Image, spacing: tuple[float, float, float]) -> sitk.Image:
    """Return a grid of the same extent with other voxels (x, y, z), mm."""
    old = image.GetSpacing()
    grid = sitk.Image([int(n * o / s) for n, o, s in zip(image.GetSize(), old, spacing, strict=True)], sitk.sitkUInt8)
    grid.SetSpacing(spacing)
    first = [s / o / 2 - 0.5 for s, o in zip(spacing, old, strict=True)]
    grid.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(first))
    grid.SetDirection(image.GetDirection())
    return spline_copy(image, grid)


@pytest.mark.parametrize("degrees", [(0, 0, 30), (15, -20, 10)])
def test_copies_with_turned_axes_agree(
    degrees: tuple[int, int, int], segmenter: Segmenter, volume: Volume, base: sitk.Image, base_labels: np.ndarray
) -> None:
    copy = spline_copy(base, rotated_grid(base, degrees, 1.5))
    found = segmenter.segment(as_volume(copy, volume.modality))
    scores = dice_on(base, image_of(found.labels, found.geometry), base_labels)
    assert min(scores.values()) >= 0.95, scores


@pytest.mark.parametrize("spacing", [(1.3, 1.7, 2.1), (0.9, 0.9, 2.5)])
def test_resampled_copies_agree(
    spacing: tuple[float, float, float], segmenter: Segmenter, volume: Volume, base: sitk.Image, base_labels: np.ndarray
) -> None:
    found = segmenter.segment(as_volume(on_spacing(base, spacing), volume.modality))
    scores = dice_on(base, image_of(found.labels, found.geometry), base_labels)
    assert min(scores.values()) >= 0.95, scores


def test_the_same_scan_twice_gives_the_same_labels(segmenter: Segmenter, volume: Volume, reference: np.ndarray) -> None:
    assert np.array_equal(segmenter.segment(volume).labels, reference)
