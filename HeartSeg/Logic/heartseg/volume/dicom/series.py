"""Series of a folder: files → planes → sub-series → phases → a grid, or a reason to refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...findings import Finding, Severity
from ...wording import _, joined
from ..geometry import Geometry
from . import pixels
from .frames import Plane
from .grid import Grid, geometry_problem, grid_of, places_of
from .phases import Phase, phases_of, without_copies
from .split import Group, hard_groups, patients, soft_groups

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MODALITIES = ("CT", "MR")


LONGEST_KEY = 240
"""Characters up to which the key of joined series lists all of them."""


@dataclass(frozen=True, eq=False)
class Stack:
    """One phase of a series.

    Attributes:
        planes: planes in slice order, in the direction of the cross product of row and column directions.
        grid: grid of the planes; ``None`` if there is a problem.
        problem: reason why the phase cannot be segmented, or ``""``.
        phase: description of the phase and of the attribute that determined it.
    """

    planes: tuple[Plane, ...]
    grid: Grid | None = None
    problem: str = ""
    phase: Phase = field(default_factory=Phase)


@dataclass(frozen=True, eq=False)
class Series:
    """One scan in a folder: a stack of slices, or several phases of one.

    Attributes:
        uid: series instance UID; for joined series, all UIDs separated by ``+``.
        number: series number, ``None`` if the files contain none.
        number_shared: whether another series of the folder has the same number, which then selects none of them.
        description: series description.
        modality: as stored (``"CT"``, ``"MR"``, ``"OT"``, ...).
        stacks: one stack per phase, in order of time; never empty.
        part: 0, or 1, 2, ... if one series contains several scans, which are listed separately.
        told_by: attribute that separated the parts.
        joined: keys of the joined series.
        repeated: keys of the series whose slices the joined ones repeat, left out.
        problem: reason why no phase can be segmented, or ``""``.
        findings: findings on the whole series.
        left_out: omitted series and files, one phrase each.
    """

    uid: str
    number: int | None
    description: str
    modality: str
    stacks: tuple[Stack, ...]
    part: int = 0
    told_by: str = ""
    joined: tuple[str, ...] = ()
    problem: str = ""
    findings: tuple[Finding, ...] = ()
    left_out: tuple[str, ...] = ()
    number_shared: bool = False
    repeated: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Key that selects the series and no other: number, ``number/part`` if split, ``2+3`` if joined.

        The UID stands for a number that is missing or shared. Keys do not depend on the names or the order of files.
        """
        if self.joined:
            key = "+".join(self.joined)
            return f"{self.joined[0]}+...+{self.joined[-1]}" if len(key) > LONGEST_KEY else key
        name = self.uid if self.number is None or self.number_shared else str(self.number)
        return f"{name}/{self.part}" if self.part else name

    @property
    def frames(self) -> int:
        """Number of phases; 1 for a single volume."""
        return len(self.stacks)

    @property
    def slices(self) -> int:
        """Number of slice positions in the first phase."""
        return len(self.stacks[0].planes)

    @property
    def geometry(self) -> Geometry | None:
        """Grid of the first phase; ``None`` if there is a problem."""
        grid = self.stacks[0].grid
        return None if grid is None else grid.geometry

    @property
    def size(self) -> tuple[int, int, int]:
        """Number of voxels (x, y, z)."""
        x, y = self.stacks[0].planes[0].file.size
        return self.geometry.size if self.geometry else (x, y, self.slices)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (x, y, z), mm; NaN if unknown."""
        x, y = self.stacks[0].planes[0].spacing or (float("nan"), float("nan"))
        return self.geometry.spacing if self.geometry else (x, y, float("nan"))

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, each once: slice by slice, phase after phase."""
        return tuple(dict.fromkeys(plane.path for stack in self.stacks for plane in stack.planes))

    def files_of(self, frame: int | None) -> tuple[Path, ...]:
        """Return the files of one phase in slice order, each once."""
        return tuple(dict.fromkeys(plane.path for plane in self.stacks[frame or 0].planes))

    def __str__(self) -> str:
        size = "x".join(str(n) for n in self.size)
        spacing = "x".join(f"{s:.3g}" for s in self.spacing)
        frames = f", {self.frames} frames" if self.frames > 1 else ""
        text = f"{self.key}: {self.modality or '?'} {self.description!r}, {self.slices} slices{frames}, {size}"
        problem = self.problem or (self.stacks[0].problem if self.frames == 1 else "")
        told = f", told apart by {self.told_by}" if self.told_by else ""
        return f"{text} voxels of {spacing} mm{told}" + (f" ({problem})" if problem else "")


def series_of(planes: Sequence[Plane]) -> list[Series]:
    """Return the scans with one series UID.

    Args:
        planes: all planes with one series instance UID, without duplicate files.
    """
    planes = sorted(planes, key=_own_order)
    owners = patients(planes)
    problem = "" if len(owners) < 2 else f"its images belong to {len(owners)} patients ({', '.join(map(repr, owners))})"
    groups = [part for group in hard_groups(planes) for part in soft_groups(group)]
    found = [_series(group, problem) for group in groups]
    if len(found) == 1:
        return found
    return [replace(series, part=part) for part, series in enumerate(found, 1)]


def _own_order(plane: Plane) -> tuple[bool, int, str, int]:
    """Return a sort key of a plane that depends on the images only, not on their files."""
    return plane.instance is None, plane.instance or 0, plane.file.uid, plane.index


def _series(group: Group, problem: str) -> Series:
    planes, first = group.planes, group.planes[0]
    problem = problem or content_problem(first) or geometry_problem(planes) or value_problem(planes)
    stacks, findings = ((Stack(tuple(planes)),), ()) if problem else _stacks(planes)
    if not problem and len(stacks) == 1:
        problem = stacks[0].problem
    file = first.file
    return Series(
        uid=file.series_uid,
        number=file.number,
        description=file.description,
        modality=file.modality,
        stacks=stacks,
        told_by=group.told_by,
        problem=problem,
        findings=findings,
    )


def _stacks(planes: Sequence[Plane]) -> tuple[tuple[Stack, ...], tuple[Finding, ...]]:
    """Return the phases with their grids, and the findings."""
    kept, copies = without_copies(planes, pixels.digest)
    phases = phases_of(kept)
    if phases.problem:
        ordered = tuple(plane for place in places_of(kept) for plane in place)
        return (Stack(ordered, problem=phases.problem),), copies_finding(len(copies))
    return tuple(map(stack_of, phases.stacks, phases.phases)), copies_finding(len(copies))


def stack_of(planes: tuple[Plane, ...], phase: Phase) -> Stack:
    """Return a phase with its grid, or with the reason why there is none."""
    if problem := geometry_problem(planes):
        return Stack(planes, None, problem, phase)
    grid, problem = grid_of(planes)
    return Stack(planes, grid, problem, phase)


def content_problem(first: Plane) -> str:
    """Return why images of this kind are not segmented, or ``""``."""
    file = first.file
    if not file.photometric.startswith("MONOCHROME"):
        return f"it holds colour pictures ({file.photometric}), not a scan"
    if file.sop_class.startswith(SECONDARY_CAPTURE) or file.modality == "SC":
        return "it is a secondary capture (a picture of a screen), not a scan"
    if file.modality not in MODALITIES:
        return f"its modality is {file.modality or 'missing'}, HeartSeg reads CT and MR"
    if "LOCALIZER" in first.image_type.upper():
        return "it is a localizer"
    if "MOSAIC" in first.image_type.upper().split("\\"):
        return "its images are mosaics (all slices of a volume in one picture)"
    return ""


def value_problem(planes: Sequence[Plane]) -> str:
    """Return why stored values cannot be converted to real values, or ``""``."""
    if not all(np.isfinite((plane.slope, plane.intercept)).all() and plane.slope != 0 for plane in planes):
        return "its Rescale Slope or Intercept is not a number, or the slope is 0"
    without = sum(not plane.rescaled for plane in planes)
    if 0 < without < len(planes):
        return f"Rescale Slope and Intercept are missing in {without} of its {len(planes)} images"
    return ""


def copies_finding(copies: int) -> tuple[Finding, ...]:
    """Return the finding ``slices-repeated`` if there are duplicate images."""
    if not copies:
        return ()
    text = _("{count} images are copies of others in the series and were left out").format(count=copies)
    return (Finding("slices-repeated", Severity.INFO, text, values={"files": copies}),)


def grid_findings(grid: Grid) -> tuple[Finding, ...]:
    """Return a finding on the correction of planes that do not form an even, straight grid."""
    if not grid.resample:
        return ()
    text = _("the scan was resampled onto an even grid from the true positions (error without: {error:.1f} mm)")
    done = text.format(error=grid.error_mm)
    values: dict[str, float | int] = {"position_error_mm": round(grid.error_mm, 2)}
    if grid.tilt_deg:
        text = _("gantry was tilted by {angle:.1f}°, so that slices are displaced against each other: {done}")
        text = text.format(angle=grid.tilt_deg, done=done)
        return (Finding("gantry-tilt", Severity.WARNING, text, values={**values, "tilt_deg": round(grid.tilt_deg, 2)}),)
    values |= {"gaps": grid.uneven, "usual_mm": round(grid.usual_mm, 3), "widest_mm": round(grid.widest_mm, 3)}
    if grid.uneven:
        what = _(
            "{count} of {gaps} distances between slices differ from the usual {usual:.3g} mm (widest: {widest:.3g} "
            "mm): slices are missing or unevenly spaced"
        ).format(count=grid.uneven, gaps=len(grid.depths) - 1, usual=grid.usual_mm, widest=grid.widest_mm)
    else:
        shift = float(np.linalg.norm(grid.shifts, axis=1).max())
        what = _("slices are displaced against each other by up to {shift:.1f} mm").format(shift=shift)
    return (Finding("slices-uneven", Severity.WARNING, joined("; ", (what, done)), values=values),)
