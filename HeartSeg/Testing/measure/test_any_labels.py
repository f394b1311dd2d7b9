"""For any labels of a network, measuring gives values or reasons, never an error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from heartseg.measure import heart_measures, measure_heart
from heartseg.volume.geometry import Geometry
from phantoms import heart_phantom
from triples import triple


@pytest.mark.parametrize("seed", range(12))
def test_random_blobs_are_measured_without_an_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, y, x = (int(n) for n in rng.integers(1, 40, 3))
    noise = ndimage.gaussian_filter(rng.normal(size=(8, z, y, x)), (0, *[float(rng.uniform(0.5, 4))] * 3))
    labels = noise.argmax(axis=0).astype(np.uint8)
    labels[np.isin(labels, rng.integers(1, 8, 2))] = 0
    heart = measure_heart(labels, Geometry((z, y, x), triple(rng.uniform(0.3, 9.0, 3))))
    for m in heart_measures(heart) if heart else ():
        assert m.note or m.value is not None
        assert m.value is None or math.isfinite(m.value)


@pytest.mark.parametrize("missing", range(1, 8))
def test_a_heart_without_one_structure_is_measured(missing: int) -> None:
    labels, geometry, _ = heart_phantom((2.0, 2.0, 2.0))
    labels[labels == missing] = 0
    for m in heart_measures(measure_heart(labels, geometry)):
        assert m.note or m.value is not None
