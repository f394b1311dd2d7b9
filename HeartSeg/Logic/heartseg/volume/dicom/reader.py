"""Read DICOM folders and files: choose a series and a phase, and read its voxels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...findings import Finding, Severity
from ...wording import _
from ..checks import MIN_EXTENT_MM, MIN_SLICES, check_frame, check_given, check_volume, spacing_finding
from ..headers import Spacing, mm, stem
from ..types import ReadingReport, Source, Volume
from . import files, pixels
from .frames import Plane
from .grid import axes_of, resampled
from .join import joined
from .phases import cover_cycle
from .rate import patient_of
from .series import MODALITIES, Series, Stack, content_problem, copies_finding, grid_findings, series_of

ADULT_YEARS = 18.0
"""Below this age, in years, a heart may be much smaller than those used to train the default model."""

NEARLY_PARALLEL = 0.94
"""Cosine of the angle (20 degrees) up to which a slice may be one of a short-axis stack."""

MOST_LISTED = 8
"""Number of series in a message; ``heartseg check`` lists all."""

_PACKED = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def list_series(folder: str | Path) -> tuple[Series, ...]:
    """List every image series in a folder and its subfolders, by series number.

    Links to folders are followed. Scans that share a series UID are listed separately. Series that form a stack only
    together (slices of a cine study, gaps filled by another series) are listed in addition as one series.

    Raises:
        InputError: the folder does not exist or contains no DICOM image.
        DependencyError: pydicom is not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder: give one that holds a DICOM series")
    inventory = files.take_inventory(files.dicom_files(folder))
    found = _series_in(inventory)
    if not found:
        raise InputError(f"folder {str(folder)!r} holds no DICOM image: {_why_none(inventory, folder)}")
    return found


def _series_in(inventory: files.Inventory) -> tuple[Series, ...]:
    by_uid: dict[str, list[Plane]] = {}
    unique, copies = _unique(inventory)
    for plane in unique:
        by_uid.setdefault(plane.file.series_uid, []).append(plane)
    found: list[Series] = []
    for uid, planes in by_uid.items():
        more = copies_finding(copies.get(uid, 0))
        found += [replace(series, findings=series.findings + more) for series in series_of(planes)]
    numbers = Counter(number for number, _ in {(s.number, s.uid) for s in found})
    found = [replace(s, number_shared=s.number is not None and numbers[s.number] > 1) for s in found]
    found.sort(key=_listing_order)
    found += joined(found)
    findings, left_out = _left_out(inventory)
    found = [replace(s, findings=s.findings + findings, left_out=s.left_out + left_out) for s in found]
    return tuple(sorted(found, key=_listing_order))


def _listing_order(series: Series) -> tuple[bool, int, str, int]:
    return series.number is None, series.number or 0, series.uid, series.part


def _unique(inventory: files.Inventory) -> tuple[list[Plane], dict[str, int]]:
    """Return planes without duplicate files (same SOP instance UID, frame, position), and their number per series."""
    seen: dict[tuple, Plane] = {}
    unique: list[Plane] = []
    copies: dict[str, int] = {}
    for planes in inventory.images:
        marks = [(p.file.uid, p.index, p.position, tuple(p.times.items())) for p in planes if p.file.uid]
        known = [seen[mark] for mark in marks if mark in seen]
        if planes and len(known) == len(planes) and pixels.digest(planes[0]) == pixels.digest(known[0]):
            copies[planes[0].file.series_uid] = copies.get(planes[0].file.series_uid, 0) + 1
            continue
        seen.update(zip(marks, planes, strict=False))
        unique += planes
    return unique, copies


def _why_none(inventory: files.Inventory, folder: Path) -> str:
    if inventory.damaged:
        return f"none of its {len(inventory.damaged)} DICOM files can be read: copy or export them again"
    if inventory.others:
        kinds = ", ".join(sorted({kind for _, kind in inventory.others}))
        return f"it holds only {kinds}: give the folder of the images"
    names = [path.name.lower() for path in files.dicom_files(folder)]
    if packed := next((name for name in names if name.endswith(_PACKED)), ""):
        return f"it holds the archive {packed!r}: unpack it"
    if any(name.endswith(_PICTURES) for name in names):
        return "it holds pictures, which state no voxel size: convert them to NIfTI or NRRD, with the voxel size"
    return "no file in it is DICOM"


def _left_out(inventory: files.Inventory) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    kinds = sorted({kind for _, kind in inventory.others})
    left_out = tuple(f"{sum(k == kind for _, k in inventory.others)} x {kind}: not an image" for kind in kinds)
    damaged = inventory.damaged
    if not damaged:
        return (), left_out
    text = _("{count} damaged DICOM files were left out: slices may be missing").format(count=len(damaged))
    finding = Finding("files-left-out", Severity.WARNING, text, values={"files": len(damaged)})
    return (finding,), (*left_out, *(f"{path.name}: damaged" for path in damaged))


# --- choosing ---------------------------------------------------------------------------------------------------------


def looks_like_volume(series: Series) -> bool:
    """Return whether a series has no problem and enough slices."""
    return not series.problem and any(not s.problem for s in series.stacks) and series.slices >= MIN_SLICES


def _covers_heart(series: Series) -> bool:
    return series.geometry is None or min(series.geometry.extent_mm) >= MIN_EXTENT_MM


def choose_series(found: tuple[Series, ...], wanted: str | int | None, folder: str) -> Series:
    """Return the series with the requested key, number or UID; without a request, the only one that is a volume.

    Raises:
        InputError: no series matches, or more than one; the message lists up to :data:`MOST_LISTED` series.
    """
    if wanted is not None:
        hits = [s for s in found if str(wanted) in (s.key, s.uid) or (not s.joined and str(wanted) == str(s.number))]
        if len(hits) > 1 and sum(map(looks_like_volume, hits)) == 1:
            hits = [s for s in hits if looks_like_volume(s)]
        if len(hits) == 1:
            return hits[0]
        what = f"no series {wanted!r}" if not hits else f"{len(hits)} series {wanted!r}"
        raise InputError(f"folder {folder!r} holds {what}: pick one with --series; {_listed(found)}")
    if len(found) == 1:
        return found[0]
    fit = [s for s in found if looks_like_volume(s)]
    fit = [s for s in fit if _covers_heart(s)] or fit
    if len(fit) != 1:
        count = f"{len(fit)} of them volumes" if fit else "none of them a volume of CT or MR"
        advice = "pick one with --series NUMBER" if fit else "give another folder, or --series NUMBER for the reason"
        raise InputError(f"folder {folder!r} holds {len(found)} series, {count}: {advice}; {_listed(found)}")
    return _alone(fit[0], found)


def _alone(chosen: Series, found: tuple[Series, ...]) -> Series:
    """Return the chosen series, with a note on the omitted ones."""
    others = [s for s in found if s is not chosen and s.key not in chosen.joined]
    if not others:
        return chosen
    keys = ", ".join(s.key for s in others[:6]) + (", ..." if len(others) > 6 else "")
    text = _("series {key} was taken, the only volume; left out: series {keys}").format(key=chosen.key, keys=keys)
    findings = [Finding("series-chosen", Severity.INFO, text, values={"series": chosen.key, "found": len(found)})]
    if parts := [s for s in others if s.uid == chosen.uid and not content_problem(s.stacks[0].planes[0])]:
        count = sum(len(stack.planes) for s in parts for stack in s.stacks)
        why = next((s.told_by for s in parts if s.told_by), _("another attribute"))
        text = _(
            "{count} images of the same series differ in {why} and were left out: part of the scan may be missing"
        ).format(count=count, why=why)
        findings.append(Finding("series-divided", Severity.WARNING, text, values={"images": count, "by": why}))
    if slices := _slices_beside(chosen, others):
        names = ", ".join(s.key for s in slices)
        text = _(
            "slices of nearly the same orientation (series {names}) were left out, because their number "
            "of phases, orientation or frame of reference differs: part of the heart may be missing"
        ).format(names=names)
        findings.append(Finding("series-divided", Severity.WARNING, text, values={"series": [s.key for s in slices]}))
    left_out = tuple(f"series {s.key} {s.description!r}: {s.problem or 'not a volume'}" for s in others)
    return replace(chosen, findings=(*findings, *chosen.findings), left_out=chosen.left_out + left_out)


def _slices_beside(chosen: Series, others: Sequence[Series]) -> list[Series]:
    """Return cine slices that are nearly parallel to a joined stack but not part of it, nor repeat its slices."""
    if not chosen.joined or chosen.frames == 1:
        return []
    normal = axes_of(chosen.stacks[0].planes[0])[2]
    slices = (s for s in others if s.slices == 1 and s.frames > 1 and not s.problem and s.key not in chosen.repeated)
    return [s for s in slices if abs(float(axes_of(s.stacks[0].planes[0])[2] @ normal)) > NEARLY_PARALLEL]


def _listed(found: Sequence[Series]) -> str:
    """List the series for a message, volumes first, at most :data:`MOST_LISTED`."""
    first = sorted(found, key=lambda series: (not looks_like_volume(series), -series.slices))[:MOST_LISTED]
    more = f"; and {len(found) - len(first)} more" if len(found) > len(first) else ""
    return "; ".join(f"[{series}]" for series in first) + more


# --- reading ----------------------------------------------------------------------------------------------------------


def read_series(
    series: Series,
    *,
    frame: int | None = None,
    name: str = "",
    path: str = "",
    modality: str = "",
    spacing: Spacing | None = None,
    alone: bool = True,
) -> Volume:
    """Read one series (one phase of it) as a checked volume, with its modality transformation applied (HU for CT).

    Args:
        series: series from :func:`list_series`.
        frame: index of the phase of a time series, from 0.
        name: name of the volume; the series description if empty.
        path: path given by the user, for the report; the folder of the first file if empty.
        modality: ``"CT"`` or ``"MR"`` for a series that does not state its modality.
        spacing: voxel size (x, y, z) in mm for a series without Pixel Spacing; z must agree with its positions.
        alone: whether there is no other series to choose.

    Raises:
        InputError: the series has a problem, is a time series without a chosen frame, or a file cannot be read.
    """
    name = name or series.description or "series"
    way_out = "export it again" if alone else "choose another series"
    series, given = _with_spacing(_with_modality(series, modality), spacing)
    if series.problem:
        raise InputError(f"series {series.key} of {name!r} cannot be segmented: {series.problem}; {way_out}")
    if series.slices == 1 and series.frames > 1:
        raise InputError(
            f"series {series.key} of {name!r} cannot be segmented: its {series.frames} images lie at the same "
            f"place: it is one slice over time, not a volume; {way_out}"
        )
    frame = check_frame(name, series.frames, frame)
    stack = series.stacks[frame or 0]
    if stack.problem or stack.grid is None:
        what = f"series {series.key} of {name!r}" + ("" if frame is None else f", frame {frame}")
        raise InputError(f"{what} cannot be segmented: {stack.problem}; {way_out}")
    array, digest = pixels.read_planes(stack.planes)
    if stack.grid.resample:
        array = resampled(array, stack.grid)
    if given:
        check_given(stack.grid.geometry.spacing, given, f"series {series.key} of {name!r}")
    findings = (
        series.findings
        + spacing_finding(given)
        + grid_findings(stack.grid)
        + _phase_finding(stack, frame)
        + _age_finding(series)
    )
    if stack.planes[0].file.photometric == "MONOCHROME1" and series.modality == "MR":
        array, inverted = _inverted(array)
        findings += (inverted,)
    known = series.modality if series.modality in MODALITIES else ""
    folder = path or str(stack.planes[0].path.parent)
    source = Source(
        path=folder,
        sha256=digest,
        series_uid=series.uid,
        frame=frame,
        phase=stack.phase.text,
        reading=_report(series, stack),
        frames=series.frames,
        cardiac_cycle=cover_cycle([s.phase for s in series.stacks]),
        patient=patient_of([plane for s in series.stacks for plane in s.planes]),
        spacing_given=given is not None,
    )
    return check_volume(Volume(array, stack.grid.geometry, name, known, source, findings))


def read_file(path: Path, *, frame: int | None = None, modality: str = "", spacing: Spacing | None = None) -> Volume:
    """Read a multi-frame scan from one DICOM file; a single slice is refused with the advice to give its folder."""
    series = series_of_file(path)
    return read_series(series, frame=frame, name=stem(path), path=str(path), modality=modality, spacing=spacing)


def series_of_file(path: Path) -> Series:
    """Return the scan in a multi-frame DICOM file.

    Raises:
        InputError: the file contains no readable image, only one slice, or several scans.
    """
    inventory = files.take_inventory([path])
    if inventory.others:
        raise InputError(f"{path.name!r} is a {inventory.others[0][1]} and no image: give the images' folder")
    found = _series_in(inventory)
    if not found:
        raise InputError(f"{path.name!r} holds no readable DICOM image: copy or export it again")
    fit = [series for series in found if looks_like_volume(series)]
    if len(fit) != 1 and len(found) > 1:
        raise InputError(
            f"{path.name!r} holds {len(found)} scans: give the folder {str(path.parent)!r} and pick one with --series; "
            f"{_listed(found)}"
        )
    series = fit[0] if fit else found[0]
    if series.slices == 1 and not series.problem:
        what = "one slice of a DICOM series" if series.frames == 1 else f"one slice at {series.frames} phases"
        raise InputError(f"{path.name!r} is {what}: give the folder {str(path.parent)!r} instead")
    return series


def study_of(path: Path) -> tuple[str, str]:
    """Return patient ID and study instance UID of a DICOM file; empty if missing or unreadable."""
    files.require_pydicom()
    head = files.read_head(path)
    if head is None:
        return "", ""
    return str(head.get("PatientID") or ""), str(head.get("StudyInstanceUID") or "")


def _with_modality(series: Series, modality: str) -> Series:
    """Return the series with the modality given by the user, if its DICOM modality is none that HeartSeg reads."""
    if not modality or series.modality in MODALITIES:
        return series
    return _again(series, [replace(p, file=replace(p.file, modality=modality)) for p in _planes(series)])


def _with_spacing(series: Series, spacing: Spacing | None) -> tuple[Series, Spacing | None]:
    """Return the series with the given spacing where it states none, and that spacing."""
    if spacing is None:
        return series, None
    planes = _planes(series)
    if all(plane.spacing for plane in planes):
        edges = mm(planes[0].spacing or ())
        raise InputError(f"series {series.key} states a Pixel Spacing of {edges} mm: leave out --spacing")
    return _again(series, [p if p.spacing else replace(p, spacing=spacing[:2]) for p in planes]), spacing


def _planes(series: Series) -> list[Plane]:
    return [plane for stack in series.stacks for plane in stack.planes]


def _again(series: Series, planes: list[Plane]) -> Series:
    """Return the series with changed planes."""
    again = series_of(planes)
    return replace(again[0], part=series.part, left_out=series.left_out) if len(again) == 1 else series


def _phase_finding(stack: Stack, frame: int | None) -> tuple[Finding, ...]:
    if frame is None:
        return ()
    text = _("frame {frame} is {phase} (known from {source})").format(
        frame=frame, phase=stack.phase.text, source=stack.phase.source
    )
    values = {"frame": frame, "percent": stack.phase.percent, "delay_ms": stack.phase.delay_ms}
    return (Finding("phase-taken", Severity.INFO, text, values={k: v for k, v in values.items() if v is not None}),)


def _age_finding(series: Series) -> tuple[Finding, ...]:
    age = series.stacks[0].planes[0].file.patient_age
    if age is None or age >= ADULT_YEARS:
        return ()
    text = _(
        "patient is {age:.3g} years old, and the default model knows adult hearts only: check every "
        "border, and do not compare volumes with limits for adults"
    ).format(age=age)
    return (Finding("patient-is-child", Severity.WARNING, text, values={"age_years": round(age, 2)}),)


def _inverted(array: np.ndarray) -> tuple[np.ndarray, Finding]:
    """Invert MR stored as MONOCHROME1 (lowest value white, PS3.3 C.7.6.3.1.2)."""
    text = _("series is stored inverted (MONOCHROME1); its values were turned round")
    turned = (array.max().astype(np.int64) + array.min() - array) if array.dtype.kind in "iu" else array
    turned = turned.astype(array.dtype) if array.dtype.kind in "iu" else array.max() + array.min() - array
    return turned, Finding("values-inverted", Severity.INFO, text)


def _report(series: Series, stack: Stack) -> ReadingReport:
    grid = stack.grid
    edges = "x".join(f"{s:.4g}" for s in grid.geometry.spacing) if grid else "?"
    return ReadingReport(
        taken=f"series {series.key} {series.description!r}: {len(stack.planes)} images, grid of {edges} mm",
        phase=stack.phase.text,
        phase_known_from=stack.phase.source if stack.phase.text else "",
        split=f"told from the other scans of its series by {series.told_by}" if series.told_by else "",
        joined=tuple(series.joined),
        left_out=series.left_out,
        resampled="" if grid is None else " ".join(f.message for f in grid_findings(grid)),
    )
