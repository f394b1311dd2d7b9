"""Join series that belong together: cine studies with one series per slice, and series that fill each other's gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ...findings import Finding, Severity
from ...wording import _
from ..checks import MIN_SLICES
from .frames import Plane
from .grid import depths_of, places_of
from .phases import Phase
from .series import Series, Stack, stack_of
from .split import differences, patients

FEWEST_SLICES = 3
"""Minimum number of parallel slices of a stack."""


def joined(found: Sequence[Series]) -> list[Series]:
    """Return the series that can be made by joining others, which stay available."""
    return [*_cine_stacks(found), *_filled_gaps(found), *_single_slices(found)]


def _grouped(series: Sequence[Series], same: Callable[[Series, Series], bool]) -> list[list[Series]]:
    groups: list[list[Series]] = []
    for one in series:
        home = next((group for group in groups if same(one, group[0])), None)
        if home is None:
            groups.append([one])
        else:
            home.append(one)
    return groups


def _same_scan(a: Series, b: Series) -> bool:
    """Return whether both may be slices of one volume: same study, patient, frame of reference, matrix, grid."""
    one, other = a.stacks[0].planes[0], b.stacks[0].planes[0]
    if not one.file.frame_of_reference or one.file.study_uid != other.file.study_uid:
        return False
    kernels = {"kernel"} if a.modality == "CT" else set()
    return len(patients([one, other])) == 1 and set(differences(one, other)) <= kernels


# --- cine: a series per slice -----------------------------------------------------------------------------------------


def _cine_stacks(found: Sequence[Series]) -> list[Series]:
    """Join series of one slice each, with equal numbers of phases, to stacks over time."""
    slices = [s for s in found if s.slices == 1 and s.frames > 1 and not s.problem]
    groups = _grouped(slices, lambda a, b: a.frames == b.frames and _same_scan(a, b))
    return [stack for group in groups if (stack := _cine_stack(group)) is not None]


def _cine_stack(group: list[Series]) -> Series | None:
    by_plane = {id(series.stacks[0].planes[0]): series for series in group}
    places = places_of([series.stacks[0].planes[0] for series in group])
    if len(places) < FEWEST_SLICES:
        return None
    kept = [max((by_plane[id(plane)] for plane in place), key=_recency) for place in places]
    repeated = [series for series in group if series not in kept]
    stacks = []
    for k in range(group[0].frames):
        planes = tuple(series.stacks[k].planes[0] for series in kept)
        phases = [series.stacks[k].phase for series in kept]
        stacks.append(stack_of(planes, _cine_phase(phases, k, group[0].frames)))
    keys = tuple(series.key for series in kept)
    return _joined_series(kept, tuple(stacks), _cine_finding(keys, group[0].frames, repeated), repeated)


def _recency(series: Series) -> tuple[float, int]:
    """Return a sort key by which, of repeated acquisitions of a slice, the latest is used."""
    return series.stacks[0].planes[0].times.get("acquisition time", 0.0), series.number or 0


def _cine_phase(phases: list[Phase], index: int, count: int) -> Phase:
    delays = [p.delay_ms for p in phases if p.delay_ms is not None]
    text = f"{index + 1} of {count}"
    percent, beat = _middle([p.percent for p in phases]), _middle([p.beat_ms for p in phases])
    middle = _middle([p.delay_ms for p in phases])
    if middle is None:
        return Phase(f"{text} in the order of each slice's own phases", phases[0].source, percent)
    span = f"{min(delays):.0f} to {max(delays):.0f} ms" if max(delays) - min(delays) >= 1 else f"{middle:.0f} ms"
    return Phase(f"{text}, {span} after the R wave", phases[0].source, percent, middle, beat)


def _middle(values: list[float | None]) -> float | None:
    known = sorted(v for v in values if v is not None)
    return known[len(known) // 2] if known else None


def _cine_finding(keys: tuple[str, ...], frames: int, repeated: list[Series]) -> Finding:
    text = _("{count} series of one slice each ({series}) were joined to one stack over {frames} phases").format(
        count=len(keys), series=", ".join(keys), frames=frames
    )
    if repeated:
        text += f"; {', '.join(series.key for series in repeated)} repeat slices and were left out"
    return Finding("slices-joined", Severity.INFO, text, values={"series": list(keys), "frames": frames})


# --- a series UID per slice, as some anonymisers write ----------------------------------------------------------------


def _single_slices(found: Sequence[Series]) -> list[Series]:
    """Join series of one image each to a volume, if they have one description and lie on an even grid."""
    slices = [s for s in found if s.slices == 1 and s.frames == 1 and not s.problem and _places(s)]
    groups = _grouped(slices, lambda a, b: a.description == b.description and _same_scan(a, b))
    whole = (_single_stack(group) for group in groups if len(group) >= MIN_SLICES)
    return [series for series in whole if series is not None]


def _single_stack(group: list[Series]) -> Series | None:
    planes = [series.stacks[0].planes[0] for series in group]
    if len(places_of(planes)) < len(planes):
        return None
    order = depths_of(planes).argsort()
    stack = stack_of(tuple(planes[int(k)] for k in order), Phase())
    if stack.problem or stack.grid is None or stack.grid.resample:
        return None
    keys = tuple(group[int(k)].key for k in order)
    text = _("{count} series of one image each and with the same description were joined: check their order").format(
        count=len(keys)
    )
    finding = Finding("series-joined", Severity.WARNING, text, values={"series": list(keys)})
    return _joined_series([group[int(k)] for k in order], (stack,), finding, [])


# --- gaps: two reconstructions of one scan, mixed up on export --------------------------------------------------------


def _filled_gaps(found: Sequence[Series]) -> list[Series]:
    """Join series that fill each other's gaps to one even stack."""
    gappy = [s for s in found if s.frames == 1 and _places(s) and (s.problem or _uneven(s))]
    groups = _grouped(gappy, _same_scan)
    return [whole for group in groups if len(group) > 1 and (whole := _filled_gap(group)) is not None]


def _places(series: Series) -> bool:
    planes = series.stacks[0].planes
    return all(p.position and p.orientation and p.spacing for p in planes) and len(places_of(planes)) == len(planes)


def _uneven(series: Series) -> bool:
    grid = series.stacks[0].grid
    return grid is not None and grid.uneven > 0


def _filled_gap(group: list[Series]) -> Series | None:
    group = sorted(group, key=lambda series: series.number or 0)
    planes: list[Plane] = [plane for series in group for plane in series.stacks[0].planes]
    if len(places_of(planes)) < len(planes):
        return None
    order = depths_of(planes).argsort()
    stack = stack_of(tuple(planes[int(k)] for k in order), Phase())
    if stack.problem or stack.grid is None or stack.grid.resample:
        return None
    keys = tuple(series.key for series in group)
    text = _(
        "series {keys} lack slices that the others have; they were joined to one even stack of "
        "{count} slices: their reconstructions may differ, export them again if you can"
    ).format(keys=" and ".join(keys), count=len(planes))
    finding = Finding("series-joined", Severity.WARNING, text, values={"series": list(keys)})
    return _joined_series(group, (stack,), finding, [])


def _joined_series(
    parts: Sequence[Series], stacks: tuple[Stack, ...], finding: Finding, repeated: list[Series]
) -> Series:
    first = parts[0]
    more = tuple(f for series in parts for f in series.findings)
    return replace(
        first,
        uid="+".join(dict.fromkeys(series.uid for series in parts)),
        stacks=stacks,
        part=0,
        told_by="",
        joined=tuple(series.key for series in parts),
        problem=stacks[0].problem if len({s.problem for s in stacks}) == 1 else "",
        findings=(finding, *more),
        left_out=tuple(f"series {series.key}: repeats a slice" for series in repeated),
        repeated=tuple(series.key for series in repeated),
    )
