"""DICOM folders: which series lie in them, and one of them as a volume.

Headers and pixels come from SimpleITK (GDCM); the order of the slices and the grid are worked out here from Image
Position and Image Orientation (DICOM PS3.3 C.7.6.2.1.1), because file names and instance numbers lie.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..findings import Finding, Severity
from . import itk
from .checks import MIN_EXTENT_MM, MIN_SLICES, check_frame, check_volume
from .geometry import Geometry
from .headers import is_dicom, is_text, stem
from .types import Source, Volume

log = logging.getLogger(__name__)

GAP_TOLERANCE = 0.05  # share of the slice distance by which gaps may differ without a word
GAP_LIMIT = 2.5  # one missing slice makes a gap of twice the distance and is reported; more is refused
TILT_DEG = 0.5
SAME_POSITION_MM = 0.01
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_MODALITIES = ("CT", "MR")


@dataclass(frozen=True)
class Series:
    """One stack of slices in a folder, in slice order (towards the cross product of row and column directions).

    Attributes:
        uid: series instance UID.
        number: series number, ``None`` if the files have none.
        description: series description.
        modality: as stored (``"CT"``, ``"MR"``, ``"OT"``, ...).
        slices: number of slice positions.
        size: voxels (x, y, z).
        spacing: mm (x, y, z).
        files: files in slice order, frame after frame: frame ``k`` is ``files[k * slices : (k + 1) * slices]``. A
            multi-frame file stands alone.
        frames: images at every position: more than one for a time series (cine).
        part: 0, or 1, 2, ... where one series holds stacks of different size or direction, which are listed apart.
        joined: keys of the series that were put together, where only together they make an even stack.
        geometry: grid of the stack; ``None`` for a multi-frame file (known after reading) or with a ``problem``.
        problem: why it cannot be segmented, or ``""``.
        mirror: for MONOCHROME1 (white is the lowest value) the sum of a voxel's value and what GDCM makes of it.
        whole_numbers: whether rescaling keeps whole numbers and is the same in every slice.
        findings: what was noticed: gaps, tilt, duplicates.
    """

    uid: str
    number: int | None
    description: str
    modality: str
    slices: int
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    files: tuple[Path, ...]
    frames: int = 1
    part: int = 0
    joined: tuple[str, ...] = ()
    geometry: Geometry | None = None
    problem: str = ""
    mirror: float | None = None
    whole_numbers: bool = True
    findings: tuple[Finding, ...] = ()

    @property
    def key(self) -> str:
        """What selects it: number, ``number/part`` where it falls apart, ``2+3`` where joined; UID without a number."""
        if self.joined:
            return "+".join(self.joined)
        name = self.uid if self.number is None else str(self.number)
        return f"{name}/{self.part}" if self.part else name

    def __str__(self) -> str:
        size = "x".join(str(n) for n in self.size)
        spacing = "x".join(f"{s:.3g}" for s in self.spacing)
        frames = f", {self.frames} frames" if self.frames > 1 else ""
        text = f"{self.key}: {self.modality or '?'} {self.description!r}, {self.slices} slices{frames}, {size}"
        return f"{text} voxels of {spacing} mm" + (f" ({self.problem})" if self.problem else "")


@dataclass(frozen=True, eq=False)
class _Slice:
    """What one file says."""

    path: Path
    tags: dict[str, str]
    spacing: tuple[float, float]
    size: tuple[int, int, int]

    def numbers(self, tag: str) -> tuple[float, ...]:
        try:
            return tuple(float(v) for v in self.tags.get(tag, "").split("\\") if v.strip())
        except ValueError:
            return ()

    @property
    def orientation(self) -> tuple[float, ...]:
        return self.numbers("0020|0037")

    @property
    def position(self) -> tuple[float, ...]:
        return self.numbers("0020|0032")

    @property
    def rescale(self) -> tuple[float, float]:
        """Slope and intercept."""
        return (self.numbers("0028|1053") or (1.0,))[0], (self.numbers("0028|1052") or (0.0,))[0]

    @property
    def when(self) -> tuple[float, ...]:
        """Order of the images at one position: temporal position, trigger time, acquisition, instance."""
        tags = ("0020|0100", "0018|1060", "0020|0012", "0020|0013")
        return tuple((self.numbers(tag) or (0.0,))[0] for tag in tags)

    def same_stack(self, other: _Slice) -> bool:
        """Whether both can be slices of one volume."""
        if self.size != other.size or self.size[2] > 1 or len(self.orientation) != len(other.orientation):
            return False
        return np.allclose(self.orientation, other.orientation, atol=1e-3) and np.allclose(
            self.spacing, other.spacing, atol=1e-4
        )

    def same_scan(self, other: _Slice) -> bool:
        """Whether both come from one scan of one patient, perhaps reconstructed differently."""
        tags = ("0020|000d", "0020|0052", "0008|0060")  # study, frame of reference, modality
        same = all(self.tags.get(tag, "") == other.tags.get(tag, "") for tag in tags)
        return same and bool(self.tags.get("0020|0052")) and self.same_stack(other)


# --- listing ----------------------------------------------------------------------------------------------------------


def list_series(folder: str | Path) -> tuple[Series, ...]:
    """Every image series in a folder and the folders below it, by series number.

    Raises:
        InputError: the folder does not exist or holds no DICOM image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder: give one that holds a DICOM series")
    slices, broken = _scan(path for path in sorted(folder.rglob("*")) if path.is_file())
    if not slices:
        why = f"none of its {len(broken)} DICOM files holds a readable image" if broken else "no file in it is DICOM"
        raise InputError(f"folder {str(folder)!r} holds no DICOM image: {why}")
    by_uid: dict[str, list[_Slice]] = {}
    for one in slices:
        by_uid.setdefault(one.tags.get("0020|000e", ""), []).append(one)
    stacks = [pair for group in by_uid.values() for pair in _series_of(group)]
    found = [series for series, _ in stacks] + _joined(stacks)
    left_out = _left_out(broken)
    found = [replace(series, findings=series.findings + left_out) for series in found]
    return tuple(sorted(found, key=lambda s: (s.number is None, s.number or 0, s.uid, s.part)))


def _scan(paths: Iterable[Path]) -> tuple[list[_Slice], list[Path]]:
    """Headers of the DICOM images among the files, and the DICOM files without a readable image."""
    import SimpleITK as sitk

    slices, broken = [], []
    with itk.quiet():
        for path in paths:
            if path.name.upper() == "DICOMDIR" or not is_dicom(path):
                continue
            if not is_text(path):
                broken.append(path)
                continue
            reader = sitk.ImageFileReader()
            reader.SetImageIO("GDCMImageIO")
            reader.SetFileName(str(path))
            try:
                reader.ReadImageInformation()
            except RuntimeError as error:
                log.debug("no image in %s: %s", path, itk.reason(error))
                broken.append(path)
                continue
            tags = {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys() if key[4] == "|"}
            x, y, z = (*reader.GetSize(), 1)[:3]
            slices.append(_Slice(path, tags, tuple(reader.GetSpacing()[:2]), (x, y, z)))
    return slices, broken


def study_of(path: Path) -> tuple[str, str]:
    """Patient ID and study instance UID of a DICOM file; empty where it has none or cannot be read."""
    slices, _ = _scan([path])
    tags = slices[0].tags if slices else {}
    return tags.get("0010|0020", ""), tags.get("0020|000d", "")


def _left_out(broken: list[Path]) -> tuple[Finding, ...]:
    if not broken:
        return ()
    names = ", ".join(repr(path.name) for path in broken[:3]) + (", ..." if len(broken) > 3 else "")
    text = f"{len(broken)} DICOM files without a readable image were left out ({names}): slices may be missing"
    return (Finding("files-left-out", Severity.WARNING, text, values={"files": len(broken)}),)


def _series_of(slices: list[_Slice]) -> list[tuple[Series, list[_Slice]]]:
    """The stacks of one series: one, or several where size or direction differ."""
    slices, repeated = _without_repeats(slices)
    stacks: list[list[_Slice]] = []
    for one in slices:
        home = next((stack for stack in stacks if one.same_stack(stack[0])), None)
        if home is None:
            stacks.append([one])
        else:
            home.append(one)
    found = []
    for part, stack in enumerate(stacks, 1):
        series = _stacked(stack)
        findings = series.findings + repeated
        found.append((replace(series, part=part if len(stacks) > 1 else 0, findings=findings), stack))
    return found


def _joined(stacks: list[tuple[Series, list[_Slice]]]) -> list[Series]:
    """Series that fill each other's gaps to one even stack: two reconstructions of one scan, mixed up on export."""
    groups: list[list[tuple[Series, list[_Slice]]]] = []
    for series, stack in stacks:
        if series.geometry is None or not series.problem:
            continue
        home = next((g for g in groups if stack[0].same_scan(g[0][1][0])), None)
        if home is None:
            groups.append([(series, stack)])
        else:
            home.append((series, stack))
    found = []
    for group in groups:
        group.sort(key=lambda pair: pair[0].number or 0)
        whole = _stacked([one for _, stack in group for one in stack])
        if len(group) < 2 or whole.problem or whole.frames > 1 or whole.findings:
            continue
        keys = tuple(series.key for series, _ in group)
        text = (
            f"series {' and '.join(keys)} lack slices that the others have; they were joined to one even stack of "
            f"{whole.slices} slices: their reconstructions may differ, export them again if you can"
        )
        finding = Finding("series-joined", Severity.WARNING, text, values={"series": list(keys)})
        uid = "+".join(series.uid for series, _ in group)
        found.append(replace(whole, uid=uid, joined=keys, findings=(finding,)))
    return found


def _without_repeats(slices: list[_Slice]) -> tuple[list[_Slice], tuple[Finding, ...]]:
    """The same image twice (equal SOP instance UID) counts once."""
    unique: dict[str, _Slice] = {}
    for one in slices:
        unique.setdefault(one.tags.get("0008|0018") or str(one.path), one)
    repeated = len(slices) - len(unique)
    if not repeated:
        return slices, ()
    text = f"{repeated} files are copies of others in the series and were left out"
    return list(unique.values()), (Finding("slices-repeated", Severity.INFO, text, values={"files": repeated}),)


def _stacked(stack: list[_Slice]) -> Series:
    """One stack as a series: ordered, with its grid, or with the problem that forbids it."""
    first = stack[0]
    tags = first.tags
    number = first.numbers("0020|0011")
    series = Series(
        uid=tags.get("0020|000e", ""),
        number=int(number[0]) if number else None,
        description=tags.get("0008|103e", ""),
        modality=tags.get("0008|0060", ""),
        slices=first.size[2] if len(stack) == 1 else len(stack),
        size=(first.size[0], first.size[1], max(first.size[2], len(stack))),
        spacing=(*first.spacing, first.numbers("0018|0050")[0] if first.numbers("0018|0050") else 1.0),
        files=tuple(one.path for one in stack),
        problem=_content_problem(first) or _inversion_problem(stack),
        mirror=_mirror(first) if tags.get("0028|0004", "") == "MONOCHROME1" else None,
        whole_numbers=_whole_numbers(stack),
    )
    if series.problem or first.size[2] > 1:
        return series
    if any(len(one.position) != 3 or len(one.orientation) != 6 for one in stack):
        return replace(series, problem="its slices have no position in the patient")
    return _ordered(series, stack)


def _content_problem(first: _Slice) -> str:
    photometric = first.tags.get("0028|0004", "MONOCHROME2")
    modality = first.tags.get("0008|0060", "")
    if not photometric.startswith("MONOCHROME"):
        return f"it holds colour pictures ({photometric}), not a scan"
    if first.tags.get("0008|0016", "").startswith(_SECONDARY_CAPTURE) or modality == "SC":
        return "it is a secondary capture (a picture of a screen), not a scan"
    if modality not in _MODALITIES:
        return f"its modality is {modality or 'missing'}, HeartSeg reads CT and MR"
    if "LOCALIZER" in first.tags.get("0008|0008", "").upper():
        return "it is a localizer"
    return ""


def _inversion_problem(stack: list[_Slice]) -> str:
    """GDCM turns MONOCHROME1 round on reading, which can be undone for unsigned values with one rescaling only."""
    if stack[0].tags.get("0028|0004", "") != "MONOCHROME1":
        return ""
    if len({one.rescale for one in stack}) == 1 and stack[0].tags.get("0028|0103", "0") == "0":
        return ""
    return "it is stored inverted (MONOCHROME1) with signed or unevenly scaled values; export it as MONOCHROME2"


def _mirror(first: _Slice) -> float:
    slope, add = first.rescale
    bits = int((first.numbers("0028|0101") or (16.0,))[0])
    return slope * (2**bits - 1) + 2 * add


def _whole_numbers(stack: list[_Slice]) -> bool:
    rescales = {one.rescale for one in stack}
    return len(rescales) == 1 and all(slope.is_integer() and add.is_integer() for slope, add in rescales)


def _ordered(series: Series, stack: list[_Slice]) -> Series:
    """Slices along the normal, frame after frame; gaps and tilt judged."""
    row, column = np.array(stack[0].orientation).reshape(2, 3)
    normal = np.cross(row, column)
    normal = normal / (np.linalg.norm(normal) or 1.0)
    along = np.array([np.dot(normal, one.position) for one in stack])
    places: list[list[_Slice]] = []
    last = -np.inf
    for k in np.argsort(along, kind="stable"):
        if along[k] - last > SAME_POSITION_MM:
            places.append([])
            last = along[k]
        places[-1].append(stack[int(k)])
    counts = {len(place) for place in places}
    problem = ""
    if len(counts) > 1:
        problem = f"its slice positions hold from {min(counts)} to {max(counts)} images each: it is incomplete or mixed"
    for place in places:
        place.sort(key=lambda one: one.when)
    frames = min(counts)
    files = tuple(place[k].path for k in range(frames) for place in places)
    series = replace(
        series, files=files, frames=frames, slices=len(places), size=(*series.size[:2], len(places)), problem=problem
    )
    if problem or len(places) < 2:
        return series
    return _with_grid(series, np.array([place[0].position for place in places]), row, column, normal)


def _with_grid(
    series: Series, positions: np.ndarray, row: np.ndarray, column: np.ndarray, normal: np.ndarray
) -> Series:
    """The grid through the slice positions (n, 3) in LPS mm."""
    gaps = np.diff(positions @ normal)
    usual, widest = float(np.median(gaps)), float(gaps.max())
    distance = float(gaps.mean())
    z, y, x = len(positions), series.size[1], series.size[0]
    spacing = (series.spacing[0], series.spacing[1], distance)
    ox, oy, oz = (float(v) for v in positions[0])
    direction = tuple(float(v) for v in np.stack([row, column, normal], axis=1).ravel())
    series = replace(series, spacing=spacing, geometry=Geometry((z, y, x), spacing, (ox, oy, oz), direction))
    if widest > GAP_LIMIT * usual:
        return replace(
            series, problem=f"slices are missing: its widest gap is {widest:.3g} mm where {usual:.3g} mm are usual"
        )
    findings = series.findings + _gap_findings(gaps, usual) + _tilt_findings(positions, normal)
    return replace(series, findings=findings)


def _gap_findings(gaps: np.ndarray, usual: float) -> tuple[Finding, ...]:
    odd = int(np.count_nonzero(np.abs(gaps - usual) > GAP_TOLERANCE * usual))
    if not odd:
        return ()
    text = (
        f"{odd} of {gaps.size} gaps between slices differ from the usual {usual:.3g} mm ({gaps.min():.3g} to "
        f"{gaps.max():.3g} mm): slices are missing or unevenly spaced, positions are off by up to "
        f"{_position_error(gaps):.1f} mm"
    )
    values = {"gaps": odd, "usual_mm": round(usual, 3), "widest_mm": round(float(gaps.max()), 3)}
    return (Finding("slices-uneven", Severity.WARNING, text, values=values),)


def _position_error(gaps: np.ndarray) -> float:
    true = np.concatenate([[0.0], np.cumsum(gaps)])
    return float(np.abs(true - np.linspace(0.0, true[-1], true.size)).max())


def _tilt_findings(positions: np.ndarray, normal: np.ndarray) -> tuple[Finding, ...]:
    step = positions[-1] - positions[0]
    angle = float(np.degrees(np.arccos(np.clip(np.dot(step, normal) / np.linalg.norm(step), -1.0, 1.0))))
    if angle < TILT_DEG:
        return ()
    text = (
        f"gantry was tilted: slices are shifted by {angle:.1f}° against their stack, which was read as if it were "
        "straight, so shapes are sheared; convert the series with dcm2niix or Slicer's DICOM module to correct it"
    )
    return (Finding("gantry-tilt", Severity.WARNING, text, values={"tilt_deg": round(angle, 2)}),)


# --- choosing ---------------------------------------------------------------------------------------------------------


def looks_like_volume(series: Series) -> bool:
    """Whether a series has no problem and covers enough to hold a heart."""
    if series.problem or series.slices < MIN_SLICES:
        return False
    return series.geometry is None or min(series.geometry.extent_mm) >= MIN_EXTENT_MM


def choose_series(found: tuple[Series, ...], wanted: str | int | None, folder: str) -> Series:
    """The series that was asked for by number, ``number/part`` or UID, or the only one that is a volume.

    Raises:
        InputError: none or several fit; the message lists them all.
    """
    if wanted is not None:
        hits = [s for s in found if str(wanted) in (s.key, s.uid) or (not s.joined and wanted == s.number)]
        if len(hits) > 1 and sum(map(looks_like_volume, hits)) == 1:
            hits = [s for s in hits if looks_like_volume(s)]
        if len(hits) == 1:
            return hits[0]
        what = f"no series {wanted!r}" if not hits else f"{len(hits)} series {wanted!r}"
        raise InputError(f"folder {folder!r} holds {what}: pick one with --series; {_listed(found)}")
    if len(found) == 1:
        return found[0]
    fit = [s for s in found if looks_like_volume(s)]
    if len(fit) != 1:
        count = f"{len(fit)} of them volumes" if fit else "none of them a volume of CT or MR"
        raise InputError(
            f"folder {folder!r} holds {len(found)} series, {count}: pick one with --series NUMBER; {_listed(found)}"
        )
    chosen = fit[0]
    if len(chosen.joined) == len(found) - 1:
        return chosen
    text = f"folder holds {len(found)} series; series {chosen.key} {chosen.description!r} was taken, the only volume"
    finding = Finding("series-chosen", Severity.INFO, text, values={"series": chosen.key, "found": len(found)})
    return replace(chosen, findings=(finding, *chosen.findings))


def _listed(found: tuple[Series, ...]) -> str:
    return "; ".join(f"[{series}]" for series in found)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_series(series: Series, *, frame: int | None = None, name: str = "", path: str = "") -> Volume:
    """One series (one frame of it) as a checked volume, rescaled to HU for CT.

    Args:
        series: from :func:`list_series`.
        frame: which frame of a time series, from 0.
        name: name of the volume; the series description if empty.
        path: what the user named, for the report; the first file's folder if empty.

    Raises:
        InputError: the series has a problem, is a time series and no frame was picked, or a file cannot be read.
    """
    name = name or series.description or "series"
    if series.problem:
        raise InputError(
            f"series {series.key} of {name!r} cannot be segmented: {series.problem}; choose another series"
        )
    frame = check_frame(name, series.frames, frame)
    start = (frame or 0) * series.slices
    files = series.files if series.geometry is None else series.files[start : start + series.slices]
    array, geometry = _pixels(series, files, name)
    array, findings = _display_corrected(array, series)
    source = Source(path or str(files[0].parent), _sha256(files), series.uid, frame)
    modality = series.modality if series.modality in _MODALITIES else ""
    return check_volume(Volume(array, geometry, name, modality, source, series.findings + findings))


def read_file(path: Path, *, frame: int | None = None) -> Volume:
    """A single DICOM file: a multi-frame scan; one slice is refused with the advice to give its folder."""
    slices, _ = _scan([path])
    if not slices:
        raise InputError(f"{path.name!r} holds no readable DICOM image: copy or export it again")
    series = _series_of(slices)[0][0]
    if not series.problem and series.slices == 1:
        raise InputError(f"{path.name!r} is one slice of a DICOM series: give the folder {str(path.parent)!r} instead")
    return read_series(series, frame=frame, name=stem(path), path=str(path))


def _pixels(series: Series, files: tuple[Path, ...], name: str) -> tuple[np.ndarray, Geometry]:
    import SimpleITK as sitk

    try:
        with itk.quiet():
            if len(files) == 1:
                image = sitk.ReadImage(str(files[0]), imageIO="GDCMImageIO")
            else:
                reader = sitk.ImageSeriesReader()
                reader.SetImageIO("GDCMImageIO")
                reader.SetFileNames([str(path) for path in files])
                if not series.whole_numbers:
                    reader.SetOutputPixelType(sitk.sitkFloat32)
                image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"series {series.key} of {name!r} cannot be read: {itk.reason(error)}; export it again"
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(f"series {series.key} of {name!r} is not a stack of grey slices: choose another series")
    return _narrowed(itk.array_of(image)), series.geometry or itk.geometry_of(image)


def _display_corrected(array: np.ndarray, series: Series) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """MONOCHROME1 shows the lowest value white. HU mean the same all the same; MR is turned round to look as meant."""
    if series.mirror is None:
        return array, ()
    if series.modality == "CT":
        return _narrowed(
            int(series.mirror) - array.astype(np.int64) if series.whole_numbers else series.mirror - array
        ), ()
    stored_low = series.mirror - float(array.max())
    text = "series is stored inverted (MONOCHROME1); its values were turned round"
    moved = array - array.min() + array.dtype.type(stored_low)
    return moved, (Finding("values-inverted", Severity.INFO, text),)


def _narrowed(array: np.ndarray) -> np.ndarray:
    """16-bit CT that ITK widened for its rescaling goes back into 16 bits where it fits: half the memory."""
    limits = np.iinfo(np.int16)
    if array.dtype.kind == "i" and array.dtype.itemsize > 2 and limits.min <= array.min() and array.max() <= limits.max:
        return array.astype(np.int16)
    return array


def _sha256(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
