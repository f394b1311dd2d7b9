"""A wider field of view around the same heart changes nothing: steps after the network work in the heart's box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.postprocess import clean_labels, remove_dark
from heartseg.quality import measured_and_checked
from heartseg.volume import Geometry, Volume
from phantoms import heart_phantom
from triples import triple

AIR_HU = -1000.0
AROUND = ((3, 6), (40, 25), (30, 45))
"""Voxels of air before and after the scan along each axis."""
SPACING = (1.5, 1.5, 2.0)


def broken_heart() -> tuple[np.ndarray, Volume]:
    """A heart with a separate piece, a hole and dark voxels, not at the border of its scan."""
    labels, geometry, image = heart_phantom(SPACING, shape=(80, 100, 110))
    z, y, x = (int(v) for v in np.argwhere(labels == 1).mean(0))
    labels[z - 1 : z + 1, y, x] = 0
    labels[3:5, 3:7, 3:7] = 2
    image[labels == 6] = np.where(np.arange((labels == 6).sum()) % 9, image[labels == 6], -300.0)
    return labels, Volume(image, geometry, modality="CT")


def padded(labels: np.ndarray, volume: Volume) -> tuple[np.ndarray, Volume]:
    origin = volume.geometry.index_to_world([-before for before, _ in AROUND])
    image = np.pad(volume.array, AROUND, constant_values=AIR_HU)
    geometry = Geometry(image.shape, SPACING, triple(origin), volume.geometry.direction)
    return np.pad(labels, AROUND), replace(volume, array=image, geometry=geometry)


@pytest.fixture
def scans() -> list[tuple[np.ndarray, Volume]]:
    """The scan, and the same with more air around it."""
    scan = broken_heart()
    return [scan, padded(*scan)]


def test_clean_up_measures_and_findings_are_the_same_to_the_last_digit(scans: list[tuple[np.ndarray, Volume]]) -> None:
    seen = []
    for labels, volume in scans:
        lit, dark = remove_dark(labels, volume)
        cleaned, pieces = clean_labels(lit, volume.geometry)
        removals = (*dark, *pieces)
        found = measured_and_checked(cleaned, volume.geometry, STRUCTURES, volume, removals=removals)
        seen.append((cleaned, removals, found.measures, found.findings))
    (small, *narrow), (large, *wide) = seen
    assert len(narrow[0]) >= 2 and len(narrow[1]) > 100
    assert narrow == wide
    inside = tuple(slice(before, before + n) for (before, _), n in zip(AROUND, small.shape, strict=True))
    assert np.array_equal(large[inside], small)
    assert np.count_nonzero(large) == np.count_nonzero(small)


def test_clean_up_in_place_is_that_of_a_copy(scans: list[tuple[np.ndarray, Volume]]) -> None:
    labels, volume = scans[0]
    before = labels.copy()
    lit, dark = remove_dark(labels, volume)
    copy, pieces = clean_labels(lit, volume.geometry)
    assert np.array_equal(labels, before)
    changed, same_dark = remove_dark(labels, volume, in_place=True)
    assert changed is labels and same_dark == dark
    assert np.array_equal(labels, lit)
    cleaned, same = clean_labels(labels, volume.geometry, in_place=True)
    assert cleaned is labels and same == pieces
    assert np.array_equal(labels, copy)
