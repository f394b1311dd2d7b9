"""Assign the images of a stack to phases of the heart or time points.

Attributes are tried in this order: temporal position (DICOM PS3.3 C.7.6.16.2.2, Frame Content), nominal percentage of
the cardiac phase and trigger delay (C.7.6.16.2.7, Cardiac Synchronization; Trigger Time of the classic MR Image,
C.8.3.1), acquisition time, content time, and attributes that only number the images. An attribute distinguishes phases
if it yields exactly one image per phase at every position. If no attribute does, the images are not ordered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..patient import HEART_RATE_SPREAD
from .frames import Plane
from .grid import depths_of, places_of

EXPLICIT = ("temporal position", "cardiac phase", "trigger delay")
"""Attributes that identify the phase directly."""

IMPLICIT = (
    "trigger delay",
    "acquisition time",
    "content time",
    "acquisition number",
    "dimension index",
    "instance number",
)
"""Attributes whose order at each position is that of the phases."""

SOURCES = {
    "temporal position": "Temporal Position",
    "cardiac phase": "Nominal Percentage of Cardiac Phase",
    "trigger delay": "Trigger Time",
    "acquisition time": "Acquisition Time",
    "content time": "Content Time",
    "acquisition number": "Acquisition Number",
    "dimension index": "Dimension Index",
    "instance number": "Instance Number",
}
"""Name of a time attribute -> DICOM attribute (tags: docs/reference/dicom.md)."""

MS_PER_MINUTE = 60_000.0
FEWEST_PHASES = 5
"""Minimum number of different phases that cover a cycle: steps of 20 %."""
WIDEST_STEP = 2.5
"""Largest step between phases that cover a cycle, relative to the median; 30 % to 80 % in steps of 10 % has 5."""
WIDEST_STEP_PERCENT = 25.0
"""Largest step between phases that cover a cycle, percent of the cycle: a wider gap may hide end-systole."""


@dataclass(frozen=True)
class Phase:
    """Phase of a stack, and the attribute that determined it.

    Attributes:
        text: description for the user, e.g. ``"75 % of the heart beat"``.
        source: DICOM attribute that determined the phase.
        percent: nominal percentage of the cardiac phase, ``None`` if unknown.
        delay_ms: trigger delay, median over the planes; ``None`` if unknown.
        beat_ms: length of the heart beat (RR interval), median over the planes; ``None`` if unknown.
    """

    text: str = ""
    source: str = ""
    percent: float | None = None
    delay_ms: float | None = None
    beat_ms: float | None = None

    @property
    def percent_of_beat(self) -> float | None:
        """The nominal percentage, or else the trigger delay as a percentage of the beat; ``None`` if unknown."""
        if self.percent is not None:
            return self.percent
        return None if self.delay_ms is None or not self.beat_ms else 100.0 * self.delay_ms / self.beat_ms


@dataclass(frozen=True, eq=False)
class Phases:
    """Phases of a stack: planes of each in slice order, or the reason why they cannot be distinguished."""

    stacks: tuple[tuple[Plane, ...], ...]
    phases: tuple[Phase, ...] = ()
    problem: str = ""


def value_of(plane: Plane, name: str) -> float | None:
    """Return a time attribute of a plane as a number."""
    if name == "instance number":
        return None if plane.instance is None else float(plane.instance)
    if name == "acquisition number":
        text = plane.marks.get(name, "")
        return float(text) if text.lstrip("-").isdecimal() else None
    return plane.times.get(name)


def explicit_phases(planes: Sequence[Plane]) -> tuple[str, list[list[Plane]]] | None:
    """Return the attribute that identifies the phases, and the planes of each, ascending; ``None`` if there is none."""
    places = places_of(planes)
    shared = sum(len(place) > 1 for place in places)
    for name in EXPLICIT:
        groups = _by_value(planes, name)
        if groups is None or len(groups) < 2:
            continue
        if name == "trigger delay" and 2 * shared < len(places):
            continue  # slices of one gated stack may have different delays
        if len(places) == 1 or _are_stacks(groups):
            distinct = all(len(place) == 1 for group in groups for place in places_of(group))
            if distinct:
                return name, groups
    return None


def phases_of(planes: Sequence[Plane]) -> Phases:
    """Sort the planes of one stack into phases.

    Args:
        planes: planes with position and one common orientation.
    """
    places = places_of(planes)
    if found := explicit_phases(planes):
        return _phases(*found)
    counts = sorted({len(place) for place in places})
    if counts == [1]:
        stack = tuple(place[0] for place in places)
        return Phases((stack,), (_phase("", stack, 0, 1),))
    if len(counts) > 1:
        text = f"its slice positions hold from {counts[0]} to {counts[-1]} images each: it is incomplete or mixed"
        return Phases((), problem=text)
    for name in IMPLICIT:
        groups = _by_order(places, name)
        if groups is not None:
            return _phases(name, groups)
    return Phases((), problem=_indistinct(places))


def without_copies(planes: Sequence[Plane], digest: Callable[[Plane], bytes]) -> tuple[list[Plane], list[Plane]]:
    """Separate planes from exact duplicates at the same position; returns both.

    Pixels are compared only if positions have different numbers of images, or if images at the first position are
    equal.

    Args:
        planes: planes with position and one common orientation.
        digest: hash of a plane's stored pixel data.
    """
    places = places_of(planes)
    counts = {len(place) for place in places}
    if counts == {1}:
        return list(planes), []
    if len(counts) == 1 and len({digest(plane) for plane in places[0]}) == len(places[0]):
        return list(planes), []
    kept: list[Plane] = []
    copies: list[Plane] = []
    for place in places:
        seen: set[tuple] = set()
        for plane in place:
            key = (digest(plane), *(plane.times.get(name) for name in EXPLICIT)) if len(place) > 1 else ()
            (copies if key in seen else kept).append(plane)
            seen.add(key)
    return kept, copies


def cover_cycle(phases: Sequence[Phase]) -> bool:
    """Return whether phases, in order, cover one cardiac cycle in about even steps.

    Their places in the cycle are percentages, or trigger delays with the length of the beat; delays alone do not tell
    a whole cycle from a part. Delays of perfusion series repeat, or grow over many beats.
    """
    places = [place for phase in phases if (place := phase.percent_of_beat) is not None]
    if len(places) < max(len(phases), FEWEST_PHASES):
        return False
    inner = np.diff(places)
    usual = float(np.median(inner))
    around = places[0] + 100.0 - places[-1]
    if inner.min() <= 0 or around < -usual:  # up to a step, the last phases repeat the first ones
        return False
    different = len(places) - (around < 0.5 * usual)
    widest = float(max(*inner, around))
    return different >= FEWEST_PHASES and widest <= min(WIDEST_STEP * usual, WIDEST_STEP_PERCENT)


def _by_value(planes: Sequence[Plane], name: str) -> list[list[Plane]] | None:
    groups: dict[float, list[Plane]] = {}
    for plane in planes:
        value = value_of(plane, name)
        if value is None:
            return None
        groups.setdefault(round(value, 3), []).append(plane)
    return [groups[value] for value in sorted(groups)]


def _are_stacks(groups: list[list[Plane]]) -> bool:
    """Return whether each group covers most of the extent of the largest one, as phases of one stack do."""
    largest = max(groups, key=len)
    normal_order = [depths_of([largest[0], *group])[1:] for group in groups]
    low, high = depths_of(largest).min(), depths_of(largest).max()
    for group, depths in zip(groups, normal_order, strict=True):
        common = min(high, depths.max()) - max(low, depths.min())
        if len(group) < max(2, len(largest) / 2) or common < 0.5 * (high - low):
            return False
    return True


def _by_order(places: list[list[Plane]], name: str) -> list[list[Plane]] | None:
    """Return phases by the order of an attribute at each position, or ``None`` if that order is unreliable."""
    values = [[value_of(plane, name) for plane in place] for place in places]
    if any(value is None for row in values for value in row):
        return None
    table = np.array(values, float)
    order = np.argsort(table, axis=1, kind="stable")
    table = np.take_along_axis(table, order, axis=1)
    if (np.diff(table, axis=1) <= 0).any() or not (name == "trigger delay" or _in_blocks(table)):
        return None
    return [[place[int(k)] for place, k in zip(places, column, strict=True)] for column in order.T]


def _in_blocks(table: np.ndarray) -> bool:
    """Return whether phases or positions follow each other in time: ``(places, phases)``, ascending along rows.

    Only then does the same rank at two positions identify the same phase.
    """
    if (table.max(axis=0)[:-1] < table.min(axis=0)[1:]).all():
        return True
    rows = table[np.argsort(table[:, 0])]
    return bool((rows[:-1, -1] < rows[1:, 0]).all())


def _phases(name: str, groups: list[list[Plane]]) -> Phases:
    stacks = tuple(tuple(place[0] for place in places_of(group)) for group in groups)
    return Phases(stacks, tuple(_phase(name, stack, k, len(stacks)) for k, stack in enumerate(stacks)))


def _phase(name: str, stack: Sequence[Plane], index: int, count: int) -> Phase:
    """Return the phase of a stack; ``name`` is the attribute that distinguishes it from the others, if any."""
    percent, delay = _common(stack, "cardiac phase"), _common(stack, "trigger delay")
    parts = []
    if percent is not None:
        parts.append(f"{percent:g} % of the heart beat")
    if delay is not None:
        parts.append(f"{delay:.0f} ms after the R wave")
    if name and name not in ("cardiac phase", "trigger delay"):
        parts.append(f"{index + 1} of {count} by {name}")
    source = name or ("cardiac phase" if percent is not None else "trigger delay" if delay is not None else "")
    beats = [beat for plane in stack if (beat := beat_ms(plane)) is not None]
    beat = float(np.median(beats)) if beats else None
    return Phase(", ".join(parts), SOURCES.get(source, ""), percent, delay, beat)


def beat_ms(plane: Plane) -> float | None:
    """Return the RR interval of a plane from its stated interval or heart rate; ``None`` if these contradict."""
    stated, rate = (plane.times.get(name, 0.0) for name in ("beat", "heart rate"))
    beats = [beat for beat in (stated, MS_PER_MINUTE / rate if rate > 0 else 0.0) if beat > 0]
    if not beats or max(beats) > (1 + HEART_RATE_SPREAD) * min(beats):
        return None
    return beats[0]


def _common(stack: Sequence[Plane], name: str) -> float | None:
    values = [value_of(plane, name) for plane in stack]
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known and len(known) == len(values) else None


def _indistinct(places: list[list[Plane]]) -> str:
    where = ", ".join("(" + ", ".join(f"{v:.4g}" for v in place[0].position or ()) + ")" for place in places[:3])
    return (
        f"{len(places[0])} images lie at each of its {len(places)} slice positions ({where}"
        f"{', ...' if len(places) > 3 else ''}) and no attribute tells their phases apart (temporal position, cardiac "
        "phase, trigger, acquisition and content time): export each phase as a series of its own"
    )
