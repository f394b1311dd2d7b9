"""A scan with two atria whose border is wrong, and a prior that doubts it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from heartseg.refinement import Mender, Prior
from heartseg.volume import Geometry, Volume

RV, RA = 2, 4


@dataclass(frozen=True)
class Case:
    """Labels whose border between RV and RA lies too far in the RA, the truth, and the prior."""

    truth: np.ndarray
    labels: np.ndarray
    geometry: Geometry
    prior: Prior

    @property
    def scan(self) -> Volume:
        return Volume(np.zeros(self.truth.shape, np.int16), self.geometry, "scan", "MR")

    def mender(self) -> Mender:
        return Mender(self.labels, self.geometry, self.prior)

    def dice(self, labels: np.ndarray, label: int = RA) -> float:
        a, b = labels == label, self.truth == label
        return 2 * float((a & b).sum()) / float(a.sum() + b.sum())

    def world(self, *index: int) -> tuple[float, float, float]:
        x, y, z = (float(v) for v in self.geometry.index_to_world(np.array(index)))
        return x, y, z


def make_case(direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> Case:
    """A cylinder of 40 mm along x: RA below x = 30 mm, RV above; the labels and the network put the border at 20."""
    spacing = (1.0, 1.25, 2.0)
    geometry = Geometry((32, 48, 60), spacing, (-20.0, 12.0, 7.0), direction)
    z, y, x = np.indices(geometry.shape)
    inside = ((z * 2.0 - 31) ** 2 + (y * 1.25 - 29) ** 2 < 20**2) & (x > 4) & (x < 56)
    truth = np.where(inside, np.where(x < 30, RA, RV), 0).astype(np.uint8)
    labels = np.where(inside, np.where(x < 20, RA, RV), 0).astype(np.uint8)
    grid = Geometry(geometry.shape, spacing, geometry.origin)
    chances = np.full((8, *geometry.shape), 0.01, np.float32)
    slope = 1 / (1 + np.exp((x - 20) / 6))
    chances[RA] += inside * slope
    chances[RV] += inside * (1 - slope)
    chances[0] += ~inside
    prior = Prior((chances / chances.sum(0)).astype(np.float32), grid, "made up")
    return Case(truth, labels, geometry, prior)


@pytest.fixture
def case() -> Case:
    return make_case()
