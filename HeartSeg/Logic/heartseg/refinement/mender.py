"""Mend labels with marks, one after the other, each in a local region; undo and redo.

A mark is evidence for its structure that fades with the distance: ``strength * exp(-(distance / reach)^2)``, in units
of log-probability. A voxel takes the structure of the mark where this evidence exceeds what speaks for its present
label: the network's log-probabilities, the present label itself, and earlier marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ..errors import InputError
from ..marks import Mark
from ..volume.geometry import Geometry
from ..wording import _
from .prior import Prior
from .topology import without_new_islands

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Method:
    """Constants of the method, chosen on the development data (``benchmarks/mending.py``).

    Attributes:
        strength: evidence of a mark at its place, log-probability.
        reach: reach of a mark, as a multiple of the distance to the nearest voxel that is right already.
        shortest_mm, longest_mm: limits of the reach.
        default_mm: reach where the region holds nothing that is right already.
        present: weight of the present label beside the network's probabilities.
        support: share of the evidence of earlier marks of the same structure.
        least: evidence below which nothing changes, log-probability: bounds a mark's region.
        region_mm: edge length of the region around a point; no voxel outside of it changes.
    """

    strength: float = 8.0
    reach: float = 2.2
    shortest_mm: float = 4.0
    longest_mm: float = 20.0
    default_mm: float = 10.0
    present: float = 0.15
    support: float = 0.5
    least: float = 1.0
    region_mm: float = 60.0


METHOD = Method()
_TINY = 1e-6  # probability of a label that the network rules out


@dataclass(frozen=True, eq=False)
class Placed:
    """A mark on a scan's grid.

    Attributes:
        mark: the mark.
        voxels: ``(n, 3)`` indices ``(z, y, x)`` of the voxels that it covers.
        reach_mm: how far its evidence reaches.
    """

    mark: Mark
    voxels: np.ndarray
    reach_mm: float


@dataclass(frozen=True, eq=False)
class Change:
    """What one mark changed.

    Attributes:
        placed: the mark on the grid.
        box: region of the scan's array; nothing outside of it changed.
        before, after: labels uint8 ``(z, y, x)`` in the box.
    """

    placed: Placed
    box: Box
    before: np.ndarray
    after: np.ndarray

    @property
    def voxels(self) -> int:
        """Number of voxels that changed."""
        return int((self.before != self.after).sum())


@dataclass(eq=False)
class Mender:
    """Labels of a scan while they are mended.

    Attributes:
        labels: uint8 ``(z, y, x)``; a copy, changed in place by :meth:`add`, :meth:`undo` and :meth:`redo`.
        geometry: grid of the labels.
        prior: probabilities of the network.
        method: constants.
        done, undone: changes in order.
        held: marks of earlier mends.
    """

    labels: np.ndarray
    geometry: Geometry
    prior: Prior
    method: Method = METHOD
    done: list[Change] = field(default_factory=list)
    held: list[Placed] = field(default_factory=list)
    undone: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.labels = np.array(self.labels, np.uint8)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks that are obeyed, in order."""
        return tuple(change.placed.mark for change in self.done)

    def add(self, mark: Mark) -> Change:
        """Obey a mark; the labels change in its region only.

        Raises:
            InputError: the mark lies outside of the scan.
        """
        voxels = voxels_of(mark, self.geometry)
        box = self._region(voxels, self.method.region_mm / 2)
        reach = self._reach(mark, voxels, box)
        placed = Placed(mark, voxels, reach)
        box = self._region(voxels, self._radius(reach))
        before, demands = self.labels[box].copy(), self._demands(box, placed)
        after = demands.obeyed(self._relabelled(placed, box, before, demands))
        after = without_new_islands(before, after, demands.anywhere)
        change = Change(placed, box, before, after)
        self._apply(change)
        return change

    def hold(self, marks: Sequence[Mark]) -> None:
        """Protect the marks of an earlier mend. The labels follow them already, so nothing changes now."""
        for mark in marks:
            voxels = voxels_of(mark, self.geometry)
            self.held.append(Placed(mark, voxels, self.method.shortest_mm))

    def undo(self) -> Change | None:
        """Take back the last mark; ``None`` if there is none."""
        if not self.done:
            return None
        change = self.done.pop()
        self.labels[change.box] = change.before
        self.undone.append(change)
        return change

    def redo(self) -> Change | None:
        """Obey the mark again that was taken back last; ``None`` if there is none."""
        if not self.undone:
            return None
        change = self.undone.pop()
        self.labels[change.box] = change.after
        self.done.append(change)
        return change

    def _apply(self, change: Change) -> None:
        self.labels[change.box] = change.after
        self.done.append(change)
        self.undone.clear()

    def _region(self, voxels: np.ndarray, margin_mm: float) -> Box:
        """Box of the scan within a margin of the voxels."""
        margin = np.floor(margin_mm / np.asarray(self.geometry.spacing[::-1])).astype(int) + 1
        low = np.maximum(0, voxels.min(0) - margin)
        high = np.minimum(self.geometry.shape, voxels.max(0) + margin + 1)
        z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return z, y, x

    def _reach(self, mark: Mark, voxels: np.ndarray, box: Box) -> float:
        """How far a mark reaches: its largest distance to a voxel of the region that needs no change, times a factor.

        A user marks the middle of an error. The error ends where the labels are right again, so that this distance is
        its radius.
        """
        m, labels = self.method, self.labels[box]
        right = labels == mark.label if mark.positive else labels != mark.label
        if not right.any():
            return m.default_mm
        nearest = 0.0
        for voxel in _spread(voxels, 16):
            squared = squared_distance(labels.shape, voxel[None] - _start(box), self.geometry.spacing[::-1])
            nearest = max(nearest, float(squared[right].min()))
        return float(np.clip(m.reach * np.sqrt(nearest), m.shortest_mm, m.longest_mm))

    def _evidence(self, placed: Placed, box: Box) -> np.ndarray:
        """float32 ``(z, y, x)``: evidence of a mark in a box."""
        shape = tuple(s.stop - s.start for s in box)
        spacing = self.geometry.spacing[::-1]
        squared = squared_distance(shape, placed.voxels - _start(box), spacing)
        return self.method.strength * np.exp(-squared / placed.reach_mm**2)

    def _relabelled(self, placed: Placed, box: Box, before: np.ndarray, demands: Demands) -> np.ndarray:
        """The labels of a box after a mark, before islands are removed."""
        mark, m, after = placed.mark, self.method, before.copy()
        under = np.zeros(before.shape, bool)
        under[tuple((placed.voxels - _start(box)).T)] = True
        wrong = before != mark.label if mark.positive else before == mark.label
        if not wrong[under].any():
            return after  # it is right already: the mark only holds it
        evidence = self._evidence(placed, box)
        candidates = wrong & ((evidence > m.least) | under)
        index = np.argwhere(candidates)
        sampler = self.prior.at(self.geometry.index_to_world(index + _start(box)))
        new: np.ndarray | int = mark.label
        if mark.positive:
            likely = sampler.of(mark.label)
        else:
            new, likely = sampler.best_but(int(np.bitwise_or.reduce(demands.denied[under])))
        stays = m.present + (1 - m.present) * sampler.of_each(before[candidates])
        goes = (1 - m.present) * likely + _TINY
        cost = np.log(stays / goes) + self._earlier(placed, box, candidates, before[candidates])
        flips = (evidence[candidates] > np.maximum(cost, m.least)) | under[candidates]
        after[candidates] = np.where(flips, new, before[candidates])
        return after

    def _earlier(self, placed: Placed, box: Box, candidates: np.ndarray, present: np.ndarray) -> np.ndarray:
        """float32 ``(n,)``: evidence of earlier marks for the present labels, less that for the mark's structure."""
        mark, against, support = placed.mark, np.zeros(len(present), np.float32), np.zeros(len(present), np.float32)
        for one in [*self.held, *(change.placed for change in self.done)]:
            if not self._touches(one, box):
                continue
            same, evidence = one.mark.label == mark.label, self._evidence(one, box)[candidates]
            if one.mark.positive and same and mark.positive:
                np.maximum(support, evidence, out=support)
            elif one.mark.positive:
                np.maximum(against, np.where(present == one.mark.label, evidence, 0), out=against)
            elif same and mark.positive:
                np.maximum(against, evidence, out=against)
        return against - self.method.support * support

    def _touches(self, placed: Placed, box: Box) -> bool:
        """Whether a mark's evidence reaches a box."""
        margin = self._radius(placed.reach_mm) / np.asarray(self.geometry.spacing[::-1])
        low, high = placed.voxels.min(0) - margin, placed.voxels.max(0) + margin
        return bool((high >= _start(box)).all() and (low < [s.stop for s in box]).all())

    def _radius(self, reach_mm: float) -> float:
        """Distance at which the evidence of a mark falls to the least that changes anything, mm."""
        m = self.method
        return float(min(m.region_mm / 2, reach_mm * np.sqrt(np.log(m.strength / m.least))))

    def _demands(self, box: Box, placed: Placed) -> Demands:
        """What the marks demand in a box; a later mark overrules an earlier one."""
        shape = tuple(s.stop - s.start for s in box)
        wanted, denied = np.full(shape, -1, np.int16), np.zeros(shape, np.uint8)
        for one in [*self.held, *(change.placed for change in self.done), placed]:
            inside = one.voxels - _start(box)
            at = tuple(inside[((inside >= 0) & (inside < shape)).all(1)].T)
            bit = 1 << one.mark.label
            if one.mark.positive:
                wanted[at], denied[at] = one.mark.label, denied[at] & ~np.uint8(bit)
            else:
                wanted[at] = np.where(wanted[at] == one.mark.label, -1, wanted[at])
                denied[at] |= bit
        return Demands(wanted, denied)


@dataclass(frozen=True, eq=False)
class Demands:
    """What marks demand of the voxels of a box.

    Attributes:
        wanted: int16 ``(z, y, x)``: label, or -1.
        denied: uint8 ``(z, y, x)``: one bit per label.
    """

    wanted: np.ndarray
    denied: np.ndarray

    @property
    def anywhere(self) -> np.ndarray:
        """Voxels under any mark."""
        return (self.wanted >= 0) | (self.denied > 0)

    def obeyed(self, labels: np.ndarray) -> np.ndarray:
        """The labels as demanded; background instead of a structure that is denied."""
        labels = np.where(self.wanted >= 0, self.wanted, labels).astype(np.uint8)
        is_denied = (self.denied >> labels) & 1 == 1
        return np.where(is_denied & (self.wanted < 0), 0, labels).astype(np.uint8)


def voxels_of(mark: Mark, geometry: Geometry) -> np.ndarray:
    """Indices ``(n, 3)``, z, y, x, of the voxels under a mark, without doubles; a stroke is a chain of straight lines.

    Raises:
        InputError: a point lies outside of the scan.
    """
    index = geometry.world_to_index(np.asarray(mark.points, float))
    limit = np.asarray(geometry.shape) - 0.5
    outside = ~((index >= -0.5) & (index <= limit)).all(1)
    if outside.any():
        x, y, z = mark.points[int(np.argmax(outside))]
        raise InputError(
            _("mark {text!r} at ({x:.1f}, {y:.1f}, {z:.1f}) mm LPS lies outside of the scan: remove it").format(
                text=mark.text, x=x, y=y, z=z
            )
        )
    pieces = [index[:1]]
    for a, b in pairwise(index):
        count = int(np.ceil(np.abs(b - a).max() * 2)) + 1
        pieces.append(a + (b - a) * np.linspace(0, 1, count)[:, None])
    rounded = np.floor(np.concatenate(pieces) + 0.5).astype(int)
    rounded = np.clip(rounded, 0, np.asarray(geometry.shape) - 1)
    return rounded[np.sort(np.unique(rounded, axis=0, return_index=True)[1])]


def squared_distance(shape: Sequence[int], voxels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """float32 of a shape: squared distance (mm²) of each voxel to the nearest of ``voxels`` ``(n, 3)``."""
    best = np.full(tuple(shape), np.inf, np.float32)
    for voxel in _spread(voxels, 64):
        z, y, x = (
            ((np.arange(n) - v) * s).astype(np.float32) ** 2 for n, v, s in zip(shape, voxel, spacing, strict=True)
        )
        np.minimum(best, z[:, None, None] + y[None, :, None] + x[None, None], out=best)
    return best


def _spread(voxels: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the voxels, evenly spread along a stroke, its ends included."""
    return voxels[np.unique(np.linspace(0, len(voxels) - 1, min(most, len(voxels))).astype(int))]


def _start(box: Box) -> np.ndarray:
    return np.array([s.start for s in box])
