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
        margin: evidence of a mark at its place beyond what speaks for the present label there, log-probability.
        weakest, strength: limits of the evidence at its place.
        reach: reach of a mark, as a multiple of the distance to the nearest voxel that is right already.
        shortest_mm, longest_mm: limits of the reach.
        default_mm: reach where the region holds nothing that is right already.
        present: weight of the present label beside the network's probabilities.
        support: share of the evidence of earlier marks of the same structure.
        least: evidence below which nothing changes, log-probability: bounds a mark's region.
        region_mm: edge length of the region around a point; no voxel outside of it changes.
    """

    margin: float = 3.0
    weakest: float = 2.0
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
        strength: its evidence at its place, log-probability.
    """

    mark: Mark
    voxels: np.ndarray
    reach_mm: float
    strength: float


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


@dataclass(frozen=True, eq=False)
class Edit:
    """Labels that were changed by other means, for instance painted.

    Attributes:
        box: region of the scan's array.
        before: labels uint8 ``(z, y, x)`` in the box.
        where: bool ``(z, y, x)`` in the box: what was changed.
        labels: uint8 ``(z, y, x)`` in the box: the new labels there.
    """

    box: Box
    before: np.ndarray
    where: np.ndarray
    labels: np.ndarray


@dataclass(eq=False)
class Mender:
    """Labels of a scan while they are mended.

    Attributes:
        labels: uint8 ``(z, y, x)``; a copy, changed in place by :meth:`add`, :meth:`edit`, :meth:`obey`, :meth:`undo`
            and :meth:`redo`.
        geometry: grid of the labels.
        prior: probabilities of the network.
        method: constants.
        done: marks and edits in order.
        undone: marks that were taken back, the last one at the end.
        held: marks of earlier mends.
    """

    labels: np.ndarray
    geometry: Geometry
    prior: Prior
    method: Method = METHOD
    done: list[Change | Edit] = field(default_factory=list)
    held: list[Placed] = field(default_factory=list)
    undone: list[Mark] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.labels = np.array(self.labels, np.uint8)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks that are obeyed, in order."""
        return tuple(step.placed.mark for step in self.done if isinstance(step, Change))

    def add(self, mark: Mark) -> Change:
        """Obey a mark; the labels change in its region only.

        Raises:
            InputError: the mark lies outside of the scan.
        """
        voxels = voxels_of(mark, self.geometry)
        box = self._region(voxels, self.method.region_mm / 2)
        placed = Placed(mark, voxels, self._reach(mark, voxels, box), self._strength(mark, voxels))
        box = self._region(voxels, self._radius(placed))
        before, demands = self.labels[box].copy(), self._demands(box, placed)
        after = demands.obeyed(self._relabelled(placed, box, before, demands))
        after = without_new_islands(before, after, demands.anywhere)
        change = Change(placed, box, before, after)
        self.labels[box] = after
        self.done.append(change)
        self.undone.clear()
        return change

    def edit(self, labels: np.ndarray) -> bool:
        """Continue from labels that were changed by other means.

        They stay when an earlier mark is taken back. Later marks treat them like all other labels.

        Args:
            labels: uint8 ``(z, y, x)``.

        Returns:
            whether they differ from the labels so far.
        """
        changed = labels != self.labels
        if not changed.any():
            return False
        ends = [np.flatnonzero(changed.any(tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
        z, y, x = (slice(int(a), int(b) + 1) for a, b in ends)
        self._edit((z, y, x), changed[z, y, x].copy(), np.array(labels[z, y, x], np.uint8))
        self.undone.clear()
        return True

    def _edit(self, box: Box, where: np.ndarray, labels: np.ndarray) -> None:
        self.done.append(Edit(box, self.labels[box].copy(), where, labels))
        self.labels[box][where] = labels[where]

    def hold(self, marks: Sequence[Mark]) -> None:
        """Protect the marks of an earlier mend, where the labels still follow them; nothing changes now."""
        for mark in marks:
            voxels = voxels_of(mark, self.geometry)
            voxels = voxels[(self.labels[tuple(voxels.T)] == mark.label) == mark.positive]
            self.held.append(Placed(mark, voxels, self.method.shortest_mm, self.method.strength))

    def obey(self, marks: Sequence[Mark]) -> dict[int, InputError]:
        """Obey these marks instead of those so far. Edits keep their place among the marks that stay.

        Returns:
            why marks are not obeyed, by their index: they lie outside of the scan.
        """
        steps: list[int | Edit] = []
        rest = 0
        for step in self.done:
            if isinstance(step, Edit):
                steps.append(step)
            elif step.placed.mark in marks[rest:]:
                upto = rest + list(marks[rest:]).index(step.placed.mark) + 1
                steps += range(rest, upto)
                rest = upto
        steps += range(rest, len(marks))
        same = 0
        while same < min(len(steps), len(self.done)) and _is_step(self.done[same], steps[same], marks):
            same += 1
        for done in reversed(self.done[same:]):
            self.labels[done.box] = done.before
        del self.done[same:]
        refused = {}
        for wanted in steps[same:]:
            if isinstance(wanted, Edit):
                self._edit(wanted.box, wanted.where, wanted.labels)
                continue
            try:
                self.add(marks[wanted])
            except InputError as error:
                refused[wanted] = error
        self.undone.clear()
        return refused

    def undo(self) -> Mark | None:
        """Take back the last mark; ``None`` if there is none."""
        marks, undone = self.marks, self.undone.copy()
        if not marks:
            return None
        self.obey(marks[:-1])
        self.undone = [*undone, marks[-1]]
        return marks[-1]

    def redo(self) -> Mark | None:
        """Obey the mark again that was taken back last; ``None`` if there is none."""
        if not self.undone:
            return None
        *rest, mark = self.undone
        self.add(mark)
        self.undone = rest
        return mark

    def _earlier_marks(self) -> list[Placed]:
        """The marks so far; of those of earlier mends, the ones that hold a voxel."""
        held = [placed for placed in self.held if len(placed.voxels)]
        return [*held, *(step.placed for step in self.done if isinstance(step, Change))]

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
        its radius. Across thick slices, it is the distance to the slice's edge.
        """
        m, labels = self.method, self.labels[box]
        spacing = self.geometry.spacing[::-1]
        beyond = [(s - min(spacing)) / 2 for s in spacing]
        right = labels == mark.label if mark.positive else labels != mark.label
        if not right.any():
            return m.default_mm
        nearest = 0.0
        for voxel in _spread(voxels, 16):
            squared = squared_distance(labels.shape, voxel[None] - _start(box), spacing, beyond)
            nearest = max(nearest, float(squared[right].min()))
        return float(np.clip(m.reach * np.sqrt(nearest), m.shortest_mm, m.longest_mm))

    def _strength(self, mark: Mark, voxels: np.ndarray) -> float:
        """Evidence of a mark at its place: what it takes to change the labels there, and a margin.

        The farther a mark lies off the middle of an error, the surer the network is of another label there, and of
        what lies beyond. There, a mark of fixed strength would change what is right.
        """
        m, present = self.method, self.labels[tuple(voxels.T)]
        wrong = (present != mark.label) == mark.positive
        if not wrong.any():
            return m.strength
        _new, cost = self._cost(mark, voxels[wrong], present[wrong], 1 << mark.label)
        return float(np.clip(cost.mean() + m.margin, m.weakest, m.strength))

    def _cost(
        self, mark: Mark, voxels: np.ndarray, present: np.ndarray, denied: int
    ) -> tuple[np.ndarray | int, np.ndarray]:
        """New labels of voxels ``(n, 3)`` that a mark changes, and what speaks for the present ones, ``(n,)``."""
        m, sampler = self.method, self.prior.at(self.geometry.index_to_world(voxels))
        new: np.ndarray | int = mark.label
        if mark.positive:
            likely = sampler.of(mark.label)
        else:
            new, likely = sampler.best_but(denied)
        stays = m.present + (1 - m.present) * sampler.of_each(present)
        return new, np.log(stays / ((1 - m.present) * likely + _TINY))

    def _evidence(self, placed: Placed, box: Box) -> np.ndarray:
        """float32 ``(z, y, x)``: evidence of a mark in a box."""
        shape = tuple(s.stop - s.start for s in box)
        spacing = self.geometry.spacing[::-1]
        squared = squared_distance(shape, placed.voxels - _start(box), spacing)
        return placed.strength * np.exp(-squared / placed.reach_mm**2)

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
        present, denied = before[candidates], int(np.bitwise_or.reduce(demands.denied[under]))
        new, cost = self._cost(mark, np.argwhere(candidates) + _start(box), present, denied)
        cost = cost + self._earlier(placed, box, candidates, present)
        flips = (evidence[candidates] > np.maximum(cost, m.least)) | under[candidates]
        after[candidates] = np.where(flips, new, present)
        return after

    def _earlier(self, placed: Placed, box: Box, candidates: np.ndarray, present: np.ndarray) -> np.ndarray:
        """float32 ``(n,)``: evidence of earlier marks for the present labels, less that for the mark's structure."""
        mark, against, support = placed.mark, np.zeros(len(present), np.float32), np.zeros(len(present), np.float32)
        for one in self._earlier_marks():
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
        margin = self._radius(placed) / np.asarray(self.geometry.spacing[::-1])
        low, high = placed.voxels.min(0) - margin, placed.voxels.max(0) + margin
        return bool((high >= _start(box)).all() and (low < [s.stop for s in box]).all())

    def _radius(self, placed: Placed) -> float:
        """Distance at which the evidence of a mark falls to the least that changes anything, mm."""
        m = self.method
        return float(min(m.region_mm / 2, placed.reach_mm * np.sqrt(np.log(placed.strength / m.least))))

    def _demands(self, box: Box, placed: Placed) -> Demands:
        """What the marks demand in a box; a later mark overrules an earlier one, and so does an edit."""
        shape = tuple(s.stop - s.start for s in box)
        wanted, denied = np.full(shape, -1, np.int16), np.zeros(shape, np.uint8)
        for step in [*self.held, *self.done, placed]:
            if isinstance(step, Edit):
                here, there = _overlap(box, step.box)
                wanted[here][step.where[there]], denied[here][step.where[there]] = -1, 0
                continue
            one = step.placed if isinstance(step, Change) else step
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


def squared_distance(
    shape: Sequence[int], voxels: np.ndarray, spacing: Sequence[float], slack: Sequence[float] = (0.0, 0.0, 0.0)
) -> np.ndarray:
    """float32 of a shape: squared distance (mm²) of each voxel to the nearest of ``voxels`` ``(n, 3)``.

    Args:
        shape: ``(z, y, x)``.
        voxels: indices.
        spacing: mm, z, y, x.
        slack: taken off the distance along each axis, mm.
    """
    best = np.full(tuple(shape), np.inf, np.float32)
    for voxel in _spread(voxels, 64):
        z, y, x = (
            np.maximum(0, np.abs(np.arange(n) - v) * s - off).astype(np.float32) ** 2
            for n, v, s, off in zip(shape, voxel, spacing, slack, strict=True)
        )
        np.minimum(best, z[:, None, None] + y[None, :, None] + x[None, None], out=best)
    return best


def _spread(voxels: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the voxels, evenly spread along a stroke, its ends included."""
    return voxels[np.unique(np.linspace(0, len(voxels) - 1, min(most, len(voxels))).astype(int))]


def _start(box: Box) -> np.ndarray:
    return np.array([s.start for s in box])


def _is_step(done: Change | Edit, step: int | Edit, marks: Sequence[Mark]) -> bool:
    """Whether a step was done already: the same edit, or the mark with that index."""
    if isinstance(done, Edit) or isinstance(step, Edit):
        return done is step
    return done.placed.mark == marks[step]


def _overlap(box: Box, other: Box) -> tuple[Box, Box]:
    """The common part of two boxes, as indices in each of them; empty slices if there is none."""
    common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, other, strict=True)]

    def within(one: Box) -> Box:
        z, y, x = (slice(lo - s.start, max(lo, hi) - s.start) for s, (lo, hi) in zip(one, common, strict=True))
        return z, y, x

    return within(box), within(other)
