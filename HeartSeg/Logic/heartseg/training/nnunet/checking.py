"""Check whether a case can be trained on: one grid, known labels, at least one structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...anatomy import KEYS, structure
from ...errors import HeartSegError, InputError
from ...progress import Reporter
from ...volume.geometry import Geometry
from ...volume.label_maps import LabelMap
from ...volume.reading import read_volume
from ...volume.types import Volume
from ...volume.values import evident_modality
from .datasets import Case, Listing
from .references import read_reference

SAME_GRID = 0.01
"""Tolerance for the equality of the grids of scan and reference, as a fraction of the smallest voxel edge."""


@dataclass(frozen=True)
class CheckedCase:
    """Properties of a case that has been read.

    Attributes:
        case: files of the case.
        geometry: stored grid.
        volumes_ml: volume of each structure in the reference, mL; absent structures are omitted.
        notices: omissions and assumptions made when reading the files.
        modality: ``"CT"`` or ``"MR"`` from the DICOM tag or grey values, else ``""``.
    """

    case: Case
    geometry: Geometry
    volumes_ml: Mapping[str, float]
    notices: tuple[str, ...] = ()
    modality: str = ""


@dataclass(frozen=True)
class CheckedData:
    """All cases of a data set.

    Attributes:
        listing: all listed cases.
        cases: usable cases.
        problems: reason why a case is unusable, by case name; the key of a general problem is its own text.
    """

    listing: Listing
    cases: tuple[CheckedCase, ...]
    problems: Mapping[str, str]

    @property
    def structures(self) -> tuple[str, ...]:
        """Keys of the structures in any reference, in label order."""
        return tuple(k for k in KEYS if any(k in c.volumes_ml for c in self.cases))

    @property
    def translated(self) -> tuple[str, ...]:
        """Names of the translated cases."""
        return tuple(c.case.name for c in self.cases if c.case.translated)

    @property
    def train_only(self) -> tuple[str, ...]:
        """Names of the cases that no fold holds out."""
        return tuple(c.case.name for c in self.cases if c.case.train_only)

    @property
    def orientations(self) -> dict[str, int]:
        """Number of cases by stored orientation."""
        found = [c.geometry.orientation for c in self.cases]
        return {o: found.count(o) for o in sorted(set(found))}


def check_cases(
    listing: Listing,
    labels: Mapping[int, str] | None,
    structures: Sequence[str] | None,
    reporter: Reporter | None = None,
    modality: str = "",
) -> CheckedData:
    """Read every scan and reference once; an unusable case is recorded as a problem and does not stop the others.

    Args:
        listing: cases to read.
        labels, structures: see :func:`load_case`.
        reporter: receives progress and cancels.
        modality: ``"CT"`` or ``"MR"`` that every scan must have; ``""`` derives it from the file names, or requires the
            same modality for all scans.
    """
    reporter = reporter or Reporter()
    checked, problems = [], {text: text for text in listing.problems}
    with reporter.stage("check data", len(listing.cases)):
        for done, case in enumerate(listing.cases):
            reporter.advance(done)
            try:
                checked.append(check_case(case, labels, structures, modality))
            except HeartSegError as error:
                problems[case.name] = f"case {case.name}: {error}"
    for name, problem in among_others(checked, modality).items():
        problems[name] = problem
    return CheckedData(listing, tuple(c for c in checked if c.case.name not in problems), problems)


def among_others(checked: Sequence[CheckedCase], modality: str) -> dict[str, str]:
    """Return problems, by case name, of scans with the rarer modality, unless both modalities are intended.

    Both modalities are intended if the file names contain them (MM-WHS).
    """
    unnamed = [c for c in checked if not (modality or c.case.modality)]
    kinds = {kind: [c for c in unnamed if c.modality == kind] for kind in ("CT", "MR")}
    if not all(kinds.values()):
        return {}
    rarer, other = sorted(kinds, key=lambda kind: len(kinds[kind]))
    return {
        c.case.name: f"case {c.case.name}: {c.case.image.name!r} appears to be {rarer}, but {len(kinds[other])} other "
        f"scan(s) {other}: train each modality in a separate folder, or omit the case with --skip-bad"
        for c in kinds[rarer]
    }


def check_case(
    case: Case, labels: Mapping[int, str] | None, structures: Sequence[str] | None, modality: str = ""
) -> CheckedCase:
    """Read a case and return its properties; see :func:`load_case`.

    Raises:
        InputError: as :func:`load_case`; or the scan clearly has a different modality than ``modality`` or its file
            name.
    """
    volume, reference = load_case(case, labels, structures)
    wanted, found = modality or case.modality, evident_modality(volume.array, volume.modality)
    if wanted and found and found != wanted:
        why = f"its DICOM tag says {found}" if volume.modality else f"its values look like {found}"
        if found == "MR" and not volume.modality:
            why = "it has no value below 0, so it is MR, or CT that is not in HU"
        raise InputError(
            f"{case.image.name!r} is to be trained on as {wanted}, but {why}: leave it out (--skip-bad), or "
            "correct --modality"
        )
    ml = reference.geometry.voxel_volume_ml
    counts = np.bincount(reference.labels.ravel(), minlength=len(KEYS) + 1)
    volumes = {k: round(float(counts[structure(k).label]) * ml, 2) for k in KEYS if counts[structure(k).label]}
    return CheckedCase(case, volume.geometry, volumes, reference.notices, found)


def load_case(
    case: Case, labels: Mapping[int, str] | None, structures: Sequence[str] | None
) -> tuple[Volume, LabelMap]:
    """Return the scan and the reference of a case, on one grid; unselected structures become background.

    Raises:
        InputError: a file cannot be read, the grids differ, a label value is unknown, or no selected structure remains.
    """
    volume = read_scan(case)
    reference = read_reference(case.label, labels)
    if not volume.geometry.same_grid(reference.geometry, SAME_GRID * min(volume.geometry.spacing)):
        raise InputError(
            f"{case.label.name!r} does not lie on the grid of {case.image.name!r}: the reference has "
            f"{describe_grid(reference.geometry)}, the scan {describe_grid(volume.geometry)}; export the "
            "reference again with the scan as its geometry"
        )
    wanted = {structure(k).label for k in structures or KEYS}
    kept = np.where(np.isin(reference.labels, sorted(wanted)), reference.labels, 0).astype(np.uint8)
    if not kept.any():
        raise InputError(
            f"{case.label.name!r} holds none of {', '.join(structures or KEYS)}: nothing can be learnt from "
            "it, remove the case"
        )
    return volume, LabelMap(kept, reference.geometry, reference.name, reference.path, reference.notices)


def read_scan(case: Case) -> Volume:
    """Read the scan of a case; that of a mended result as it was read when it was segmented.

    Raises:
        InputError: the scan cannot be read, or has changed since it was segmented.
    """
    if case.facts is None:
        return read_volume(case.image)
    volume = case.facts.read_scan()
    if not case.facts.describes(volume):
        raise InputError(f"scan {str(case.image)!r} has changed since it was segmented: segment and mend it again")
    return volume


def describe_grid(geometry: Geometry) -> str:
    """Format a grid in one line: size, spacing, origin, orientation; world LPS mm."""
    size = "x".join(str(n) for n in geometry.size)
    spacing = "x".join(f"{s:.4g}" for s in geometry.spacing)
    origin = ", ".join(f"{v:.1f}" for v in geometry.origin)
    return f"{size} voxels of {spacing} mm at ({origin}), axes {geometry.orientation}"


def orientation_notice(data: CheckedData) -> str:
    """Return advice if the scans are stored in several orientations, else an empty string."""
    if len(data.orientations) < 2:
        return ""
    names = ", ".join(data.orientations)
    return f"scans are stored in {len(data.orientations)} orientations ({names}): train with --orientation lps"


def refuse_problems(data: CheckedData, skip_bad: bool) -> None:
    """Check that the data contain usable cases and, unless ``skip_bad`` omits them, no unusable ones.

    Raises:
        InputError: the data contain a problem; the message describes the first one.
    """
    if data.problems and not skip_bad:
        more = f" (and {len(data.problems) - 1} more)" if len(data.problems) > 1 else ""
        first = next(iter(data.problems.values()))
        raise InputError(f"{first}{more}; --dry-run lists everything, --skip-bad trains without what cannot be used")
    if not data.cases:
        raise InputError("no case can be used: --dry-run says why for each")


def refuse_bad_data(data: CheckedData, folds: int, skip_bad: bool) -> None:
    """Check that the data are suitable for training, before writing any file.

    Raises:
        InputError: there are problems and ``skip_bad`` is off, there are fewer cases than folds or only one case, or
            the number of folds differs from that of the data list.
    """
    refuse_problems(data, skip_bad)
    if len(data.cases) == 1:
        raise InputError(f"there is one case only ({data.cases[0].case.name}): training needs one more to test on")
    _refuse_other_folds(data, folds)
    real = len(data.cases) - len(data.train_only)
    if folds > real:
        text = f"{folds} folds need {folds} cases and there are {real}"
        raise InputError(
            f"{text}{' (translated and train-only ones are never held out)' * bool(data.train_only)}: lower --folds"
        )


def _refuse_other_folds(data: CheckedData, folds: int) -> None:
    """Check that the number of folds is that of the data list, whose split it would otherwise replace."""
    given = {c.case.fold for c in data.cases if not c.case.train_only}
    if None in given or given == set(range(folds)):
        return
    numbers = sorted(f for f in given if f is not None)
    fits = len(numbers) > 1 and numbers == list(range(len(numbers)))
    raise InputError(
        f"the data list has fold {', '.join(map(str, numbers))}, which are not {folds} folds from 0: "
        + (f"give --folds {len(numbers)}" if fits else "number two or more from 0 without gaps, then give --folds")
    )
