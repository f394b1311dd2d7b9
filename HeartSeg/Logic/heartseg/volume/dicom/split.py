"""Separate scans that share a series UID.

Only in theory does a series contain images of one kind. Images of different patients, sizes, orientations, kernels or
frames of reference never belong to the same volume. Images of different acquisitions, echoes or slice thicknesses do
not belong to the same volume if they lie at or between the same positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from .frames import MARKS, Plane
from .grid import depths_of, geometry_problem, grid_of, places_of
from .phases import explicit_phases

MANY_ACQUISITIONS = 4
"""Minimum number of acquisitions of the same positions that form the time points of one dynamic scan."""


@dataclass(frozen=True, eq=False)
class Group:
    """Planes of one scan, and the attribute that separated them from others with the same UID (empty if none did)."""

    planes: tuple[Plane, ...]
    told_by: str = ""


def hard_groups(planes: Sequence[Plane]) -> list[Group]:
    """Group planes by the constants of a volume: size, orientation, spacing, kernel, frame of reference, modality."""
    kernels = {plane.kernel for plane in planes if plane.kernel}
    if len(kernels) == 1:  # images that do not state it have the same
        planes = [replace(plane, kernel=next(iter(kernels))) for plane in planes]
    groups: list[list[Plane]] = []
    for plane in planes:
        home = next((group for group in groups if not differences(plane, group[0])), None)
        if home is None:
            groups.append([plane])
        else:
            home.append(plane)
    if len(groups) == 1:
        return [Group(tuple(groups[0]))]
    first = groups[0][0]
    names = sorted({name for group in groups[1:] for name in differences(group[0], first)})
    return [Group(tuple(group), " and ".join(names)) for group in groups]


def differences(a: Plane, b: Plane) -> tuple[str, ...]:
    """Return the names of the attributes that prevent two planes from being slices of one volume."""
    checks = (
        ("matrix", a.file.size == b.file.size),
        ("orientation", _close(a.orientation, b.orientation, 2e-3)),
        ("pixel spacing", _close(a.spacing, b.spacing, 1e-3)),
        ("kernel", a.kernel == b.kernel),
        ("frame of reference", a.file.frame_of_reference == b.file.frame_of_reference),
        ("modality", a.file.modality == b.file.modality),
        ("photometric interpretation", a.file.photometric == b.file.photometric),
    )
    return tuple(name for name, same in checks if not same)


def _close(a: Sequence[float] | None, b: Sequence[float] | None, tolerance: float) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.allclose(a, b, rtol=0, atol=tolerance))


def soft_groups(group: Group) -> Iterator[Group]:
    """Split a group by acquisition, image type, echo and so on, if the parts lie at or between the same positions."""
    planes = group.planes
    if geometry_problem(planes) or explicit_phases(planes):
        yield group
        return
    for name in ("image type", *MARKS):
        parts: dict[str, list[Plane]] = {}
        for plane in planes:
            value = plane.image_type if name == "image type" else plane.marks.get(name, "")
            parts.setdefault(value, []).append(plane)
        if len([value for value in parts if value]) > 1 and _are_scans(list(parts.values()), name):
            told = f"{group.told_by} and {name}" if group.told_by else name
            for part in parts.values():
                yield from soft_groups(Group(tuple(part), told))
            return
    yield group


def _are_scans(parts: list[list[Plane]], name: str) -> bool:
    """Return whether the parts are separate scans rather than parts of one."""
    whole = places_of([plane for part in parts for plane in part])
    number = {id(plane): k for k, part in enumerate(parts) for plane in part}
    if any(len({number[id(plane)] for plane in place}) > 1 for place in whole):
        several = name == "acquisition number" and len(parts) >= MANY_ACQUISITIONS
        return not (several and all(len(places_of(part)) == len(whole) for part in parts))
    if min(map(len, parts)) < 2:
        return False
    first = parts[0][0]
    ranges = sorted((d.min(), d.max()) for d in (depths_of([first, *part])[1:] for part in parts))
    if any(low < high for (_, high), (low, _) in pairwise(ranges)):
        return not _are_concatenations(whole, first)
    if any(len(place) > 1 for place in whole):
        return False
    return grid_of([place[0] for place in whole])[0] is None and all(_has_grid(part) for part in parts)


def _are_concatenations(whole: list[list[Plane]], first: Plane) -> bool:
    """Return whether the parts are the interleaved halves of one MR stack, whose adjacent slices touch."""
    if first.file.modality != "MR" or any(len(place) > 1 for place in whole):
        return False
    grid, _ = grid_of([place[0] for place in whole])
    thickness = float(first.marks.get("slice thickness", "0") or 0)
    return grid is not None and not grid.resample and grid.usual_mm > 0.9 * thickness > 0


def _has_grid(part: list[Plane]) -> bool:
    places = places_of(part)
    return all(len(place) == 1 for place in places) and grid_of([place[0] for place in places])[0] is not None


def patients(planes: Sequence[Plane]) -> list[str]:
    """Return names or IDs of the patients of the planes; two only if ID, name or birth date contradict each other."""
    distinct: list[tuple[str, str, str]] = []
    for plane in planes:
        mine = plane.file.patient
        if not any(all(not a or not b or a == b for a, b in zip(mine, other, strict=True)) for other in distinct):
            distinct.append(mine)
    return [patient[0] or patient[1] or "unnamed" for patient in distinct]
