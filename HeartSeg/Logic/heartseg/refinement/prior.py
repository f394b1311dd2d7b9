"""What the network knows about a scan while it is mended: a probability per structure at any point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..anatomy import STRUCTURES
from ..volume.geometry import Geometry

if TYPE_CHECKING:
    from ..inference.network import Window

LABELS = len(STRUCTURES) + 1
"""Background and structures."""
TEMPERATURE = 2.0
"""Divides the logits: networks are too sure of themselves where they err (Guo et al. 2017)."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Probabilities of the structures on a grid.

    Attributes:
        probabilities: float32 ``(8, z, y, x)``, background and structures by label.
        grid: LPS-aligned.
        source: name of the model; empty if only the labels are known.
        note: how the model differs from the one that made the labels; empty if it does not.
    """

    probabilities: np.ndarray
    grid: Geometry
    source: str = ""
    note: str = ""

    @classmethod
    def of_window(cls, window: Window, table: np.ndarray, source: str, note: str = "") -> Prior:
        """The prior of a network's window.

        Args:
            window: logits on a grid.
            table: HeartSeg label of each channel.
            source: name of the model.
            note: how it differs from the one that made the labels.
        """
        logits = window.logits
        scaled = logits / TEMPERATURE
        np.exp(scaled - scaled.max(0), out=scaled)
        scaled /= scaled.sum(0)
        merged = np.zeros((LABELS, *logits.shape[1:]), np.float32)
        for channel, values in enumerate(scaled):
            merged[table[channel]] += values
        return cls(merged, window.grid, source, note)

    @classmethod
    def unknown(cls) -> Prior:
        """The prior without a model: every structure is equally likely everywhere."""
        everywhere = Geometry((1, 1, 1), (1.0, 1.0, 1.0))
        return cls(np.full((LABELS, 1, 1, 1), 1 / LABELS, np.float32), everywhere)

    def at(self, points: np.ndarray) -> Sampler:
        """The prior at world points ``(n, 3)``, LPS mm."""
        return Sampler(self, points)


class Sampler:
    """Probabilities at fixed points, interpolated label by label; outside of the grid all are equal."""

    def __init__(self, prior: Prior, points: np.ndarray) -> None:
        self._prior = prior
        index = prior.grid.world_to_index(points)
        limit = np.asarray(prior.grid.shape) - 0.5
        self._index: np.ndarray = index.T.astype(np.float32)
        self._inside: np.ndarray = np.all((index >= -0.5) & (index <= limit), axis=1)

    def of(self, label: int) -> np.ndarray:
        """float32 ``(n,)``: probability of one label at all points."""
        return self._interpolated(label, np.ones(len(self._inside), bool))

    def of_each(self, labels: np.ndarray) -> np.ndarray:
        """float32 ``(n,)``: probability of ``labels[i]`` at point ``i``."""
        found = np.empty(len(labels), np.float32)
        for label in np.unique(labels):
            where = labels == label
            found[where] = self._interpolated(int(label), where)
        return found

    def best_but(self, denied: int) -> tuple[np.ndarray, np.ndarray]:
        """The most probable of the labels whose bit is not set, uint8 ``(n,)``, and its probability, ``(n,)``."""
        best, winner = np.full(len(self._inside), -1, np.float32), np.zeros(len(self._inside), np.uint8)
        for other in (k for k in range(LABELS) if not denied >> k & 1):
            values = self.of(other)
            winner[values > best] = other
            np.maximum(best, values, out=best)
        return winner, best

    def _interpolated(self, label: int, where: np.ndarray) -> np.ndarray:
        from scipy.ndimage import map_coordinates

        values = map_coordinates(self._prior.probabilities[label], self._index[:, where], order=1, mode="nearest")
        return np.where(self._inside[where], values, np.float32(1 / LABELS))
