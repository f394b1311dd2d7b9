"""Checks that a scan must pass before it is segmented: it is refused with one line, or accepted with findings.

The limits (module constants) and their reasons:

* :data:`MIN_SLICES`: fewer slices show too little of the heart's shape to tell its top from its bottom.
* :data:`MIN_EXTENT_MM`: an adult heart is about 120 mm long and 80 mm deep. A stack of less than 60 mm may cut the
  ventricles; short-axis stacks of 7 slices at 8 mm are common, so it is accepted with a finding.
* :data:`LEAST_EXTENT_MM`: below 10 mm no chamber fits.
* :data:`MAX_EXTENT_MM`: longer than any patient; the unit of such a grid is wrong.
* :data:`WIDEST_CM`: the bore of a scanner is no wider; a grid below it, and thinner than 1 cm, may be in centimetres.
* :data:`SHEAR_SILENT_DEG`, :data:`SHEAR_LIMIT_DEG`: rounding in headers stays far below 0.01°. A shear of 2° moves the
  far edge of a 300 mm field by 10 mm, about the thickness of a wall.
* :data:`MAX_LABEL`, :data:`FLAT`: values of label maps end at 7 (HeartSeg's) or 12 (with walls), and 99 % of their
  voxels have the value of the next one; in a noisy image of as few grey levels, about half.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..findings import Finding, Severity
from ..wording import _, as_phrase
from .geometry import Geometry, is_singular
from .headers import READABLE, Header, Spacing, is_text, mm
from .types import Volume
from .values import ValueScale, is_picture, replace_nonfinite, slabs

log = logging.getLogger(__name__)

MIN_SLICES = 5
MIN_EXTENT_MM = 60.0
LEAST_EXTENT_MM = 10.0
MAX_EXTENT_MM = 2000.0
WIDEST_CM = 70.0
THICK_SLICE_MM = 5.0
ROUNDING = 1e-6  # of direction cosines stored as 32-bit floats (NIfTI): such a grid is not changed
SHEAR_SILENT_DEG = 0.01
SHEAR_LIMIT_DEG = 2.0
RUN_BYTES = 700 * 2**20  # packages, networks and one tile: 470 MiB with OpenVINO in bfloat16 to 640 MiB with torch
FEW_VALUES = 32
MAX_LABEL = 12
FLAT = 0.95

_AXES = "xyz"


def check_path(path: Path) -> None:
    """Refuse a path that does not exist, an empty file or folder, and a name that would crash ITK."""
    if not is_text(path):
        raise InputError(_name_problem(path))
    if not path.exists():
        raise InputError(_("{path!r} does not exist: give {readable}").format(path=str(path), readable=READABLE))
    if path.is_dir():
        if not any(path.iterdir()):
            raise InputError(
                _("folder {path!r} is empty: give a folder that holds scans or a DICOM series").format(path=str(path))
            )
    elif path.stat().st_size == 0:
        raise InputError(_("{name!r} is empty (0 bytes): copy or export it again").format(name=path.name))


def _name_problem(path: Path) -> str:
    """Return the message for a name that is not UTF-8, or that the current locale cannot decode."""
    try:
        name = os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        return f"name {str(path)!r} is not valid UTF-8: rename the file or folder"
    encoding = sys.getfilesystemencoding()
    return f"name {name!r} cannot be used under this locale ({encoding}): set LC_ALL=C.UTF-8, or PYTHONUTF8=1"


def check_header(header: Header, frame: int | None = None) -> int | None:
    """Check a header before reading any voxel.

    Args:
        header: header of the file.
        frame: requested frame, from 0.

    Returns:
        The frame to read, or ``None`` for a file with one frame.

    Raises:
        InputError: the file cannot be segmented, whatever its voxels contain.
    """
    name = header.path.name
    _check_pixel(name, header.pixel, header.components)
    if len(header.size) < 3 or min(header.size) == 1:
        size = "x".join(str(n) for n in header.size)
        raise InputError(
            _("{name!r} is a 2D image ({size}): HeartSeg needs a 3D volume of at least {least} slices").format(
                name=name, size=size, least=MIN_SLICES
            )
        )
    frame = check_frame(name, header.frames, frame)
    check_size(header)
    return frame


def check_size(header: Header) -> None:
    """Refuse a scan that does not fit into memory, before decoding any part of it."""
    free = available_memory()
    if header.frame_bytes > (2**40 if free is None else free):
        size = "x".join(map(str, header.size))
        raise InputError(
            (
                _("{name!r} holds {size} voxels, which take {need:.3g} GiB of memory: crop or resample it")
                if free is None
                else _(
                    "{name!r} holds {size} voxels, which take {need:.3g} GiB of memory and {free:.1f} GiB are free: "
                    "crop or resample it"
                )
            ).format(name=header.path.name, size=size, need=header.frame_bytes / 2**30, free=(free or 0) / 2**30)
        )


def left_over_finding(header: Header, extra: int) -> tuple[Finding, ...]:
    """Return a finding on a file with at least one slice more than its header promises: its size or type is wrong."""
    x, y = header.size[:2]
    if extra < x * y * max(1, header.bytes_per_value):
        return ()
    text = _(
        "the file holds {extra} bytes more than its header promises: its size or voxel type may be "
        "wrong, look at the scan"
    ).format(extra=extra)
    return (Finding("voxels-left-over", Severity.WARNING, text, values={"bytes": extra}),)


def _check_pixel(name: str, pixel: str, components: int) -> None:
    if components > 1:
        raise InputError(
            _(
                "{name!r} holds {components} values a voxel ({pixel}): HeartSeg needs one; a colour picture "
                "or a vector field cannot be segmented, export the grey values"
            ).format(name=name, components=components, pixel=pixel)
        )
    if pixel.startswith("NIfTI type"):
        raise InputError(
            _("{name!r} stores voxels of a type that cannot be read ({pixel}): save it as int16 or float32").format(
                name=name, pixel=pixel
            )
        )
    if pixel.startswith("complex") or "COMPLEX" in pixel:
        raise InputError(
            _("{name!r} holds complex numbers ({pixel}): export the magnitude image").format(name=name, pixel=pixel)
        )


def check_frame(name: str, frames: int, frame: int | None) -> int | None:
    """Return the frame to read from a file or series with ``frames`` frames; ``None`` if there is only one."""
    if frames == 1:
        if frame in (None, 0):
            return None
        raise InputError(
            _("{name!r} has no frame {frame}: it holds one frame only, leave out --frame").format(
                name=name, frame=frame
            )
        )
    if frame is None:
        raise InputError(
            _(
                "{name!r} is a time series of {frames} frames: pick one with --frame N (0 to {last}) or "
                "take every one with --frame all"
            ).format(name=name, frames=frames, last=frames - 1)
        )
    if not 0 <= frame < frames:
        raise InputError(
            _("{name!r} has no frame {frame}: its {frames} frames are numbered 0 to {last}").format(
                name=name, frame=frame, frames=frames, last=frames - 1
            )
        )
    return frame


GIVE_SPACING = _("give it with --spacing X,Y,Z, in mm")


def with_spacing(header: Header, given: Spacing | None) -> Header:
    """Return the header with the voxel size given by the user, for a file that states none.

    A size of 1x1x1 mm counts as none, because programs write it where they know none.

    Raises:
        InputError: the file states no voxel size and none is given, or it states one and another is given.
    """
    name, stated = header.path.name, header.spacing
    missing = not header.sized or not all(math.isfinite(s) and s > 0 for s in stated)
    if given is None:
        if not header.sized:
            raise InputError(_("{name!r} states no voxel size: {advice}").format(name=name, advice=GIVE_SPACING))
        if missing:
            raise InputError(
                _("spacing of {name!r} is {spacing} mm: every entry must be positive; {advice}").format(
                    name=name, spacing=mm(stated), advice=GIVE_SPACING
                )
            )
        return header
    if not missing and any(s != 1.0 for s in stated):
        raise InputError(
            _("{name!r} states a voxel size of {spacing} mm: leave out --spacing").format(name=name, spacing=mm(stated))
        )
    return replace(header, spacing=given, disagreement="")


def check_given(found: Spacing, given: Spacing, name: str) -> None:
    """Refuse a given slice distance that contradicts the positions of the slices."""
    if abs(found[2] / given[2] - 1) > 0.02:
        raise InputError(
            _(
                "slices of {name} lie {found:.4g} mm apart by their positions, and --spacing says "
                "{given:.4g} mm: correct it"
            ).format(name=name, found=found[2], given=given[2])
        )


def spacing_finding(given: Spacing | None) -> tuple[Finding, ...]:
    """Return the finding that the user stated the voxel size."""
    if given is None:
        return ()
    text = _("voxel size of {spacing} mm was given by the user, not by the scan: every measure depends on it").format(
        spacing=mm(given)
    )
    return (Finding("spacing-given", Severity.INFO, text, values={"spacing_mm": list(given)}),)


def check_spacing(spacing: tuple[float, ...], name: str) -> None:
    """Refuse a voxel size with a zero, negative or undefined entry."""
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise InputError(
            _("spacing of {name!r} is {spacing} mm: every entry must be positive").format(
                name=name, spacing=mm(spacing)
            )
        )


def header_findings(header: Header) -> tuple[Finding, ...]:
    """Return findings on a header that is incomplete or contradicts itself."""
    findings = []
    if not header.oriented and all(s == 1.0 for s in header.spacing):
        findings.append(
            Finding(
                "spacing-unknown",
                Severity.WARNING,
                _(
                    "the file states voxels of 1x1x1 mm and no orientation, as files do whose voxel size is not "
                    "known: if it is another, {advice}"
                ).format(advice=GIVE_SPACING),
            )
        )
    if not header.oriented:
        findings.append(
            Finding(
                "orientation-unknown",
                Severity.WARNING,
                _(
                    "the file does not say how the patient lies in it; its axes were taken as they are: check "
                    "left and right"
                ),
            )
        )
    if header.disagreement:
        findings.append(
            Finding(
                "spacing-disagrees",
                Severity.WARNING,
                _("the file's header contradicts itself: {disagreement}; check measured volumes").format(
                    disagreement=header.disagreement
                ),
            )
        )
    return tuple(findings)


def check_volume(volume: Volume) -> Volume:
    """Check a scan in memory, from a file, a Slicer node or an array.

    Args:
        volume: array ``(z, y, x)`` of any real dtype, with its grid.

    Returns:
        The volume with findings added. Its array is shared unless NaN or infinite voxels had to be replaced (then a
        copy); its direction is replaced by the nearest orthonormal one if it was sheared slightly.

    Raises:
        InputError: the scan does not contain real numbers, has too few slices, covers too little, has a wrong unit of
            the spacing, is strongly sheared, contains too many NaN, or has the same value everywhere.
    """
    name, array = volume.name, volume.array
    if array.ndim != 3 or array.dtype.kind not in "iuf":
        raise InputError(
            _("{name!r} is an array of {ndim}D {dtype}: HeartSeg needs 3D real numbers").format(
                name=name, ndim=array.ndim, dtype=array.dtype
            )
        )
    check_spacing(volume.geometry.spacing, name)
    geometry, findings = _check_direction(volume.geometry, name)
    findings += _check_extent(geometry, name)
    array, more = _check_values(array, name)
    findings += more + (() if more else _check_depth(array)) + _check_slices(geometry)
    if all(finding.code != "memory-tight" for finding in volume.findings):  # said once, although the number changes
        findings += _check_memory(array)
    for finding in findings:
        log.info("%s: %s", finding.code, finding.message)
    return replace(volume, array=array, geometry=geometry).with_findings(*findings)


def check_for_run(volume: Volume) -> Volume:
    """As :func:`check_volume`, for a scan that the network is to look at: a label map is refused too."""
    checked = check_volume(volume)
    for finding in checked.findings:
        if finding.severity is Severity.ERROR:
            text = _("{name!r} cannot be segmented: {reason}")
            raise InputError(text.format(name=volume.name, reason=as_phrase(finding.message)))
    return checked


# --- geometry ---------------------------------------------------------------------------------------------------------


def shear_degrees(direction: np.ndarray) -> float:
    """Return the largest deviation from a right angle between the columns of a 3x3 matrix, degrees."""
    unit = direction / np.linalg.norm(direction, axis=0)
    cosines = np.abs(unit.T @ unit)[np.triu_indices(3, 1)]
    return float(np.degrees(np.arcsin(min(1.0, cosines.max()))))


def _check_direction(geometry: Geometry, name: str) -> tuple[Geometry, tuple[Finding, ...]]:
    matrix = geometry.direction_matrix
    if is_singular(matrix) or not np.isfinite(geometry.origin).all():
        raise InputError(
            _(
                "direction of {name!r} is {direction}: its axes must be three different directions; convert the "
                "scan again from DICOM"
            ).format(name=name, direction=mm(geometry.direction))
        )
    angle = shear_degrees(matrix)
    if angle > SHEAR_LIMIT_DEG:
        raise InputError(
            _(
                "axes of {name!r} are sheared by {angle:.1f}°: at most {limit:g}° can be "
                "straightened; resample it onto a rectangular grid (in Slicer: harden the transform or "
                "'Resample Scalar Volume')"
            ).format(name=name, angle=angle, limit=SHEAR_LIMIT_DEG)
        )
    if np.abs(matrix.T @ matrix - np.eye(3)).max() < ROUNDING:
        return geometry, ()
    straight = _straightened(geometry)
    if angle <= SHEAR_SILENT_DEG:
        return straight, ()
    moved = float(np.abs(straight.corners() - geometry.corners()).max())
    finding = Finding(
        "direction-sheared",
        Severity.WARNING,
        _(
            "axes of the scan are sheared by {angle:.2f}°; they were straightened, which moves its "
            "corners by up to {moved:.1f} mm"
        ).format(angle=angle, moved=moved),
        values={"shear_deg": round(angle, 3), "moved_mm": round(moved, 2)},
    )
    return straight, (finding,)


def _straightened(geometry: Geometry) -> Geometry:
    """Return the grid with the nearest orthonormal direction (polar decomposition), rotated about its centre."""
    unit = geometry.direction_matrix / np.linalg.norm(geometry.direction_matrix, axis=0)
    left, _scale, right = np.linalg.svd(unit)
    straight = replace(geometry, direction=tuple(float(v) for v in (left @ right).ravel()))
    x, y, z = (float(v) for v in np.asarray(geometry.origin) + geometry.center() - straight.center())
    return replace(straight, origin=(x, y, z))


def _check_extent(geometry: Geometry, name: str) -> tuple[Finding, ...]:
    extent = geometry.extent_mm
    if max(extent) < 5.0:
        _refuse_unit(geometry, name, 1000.0, _("metres"))
    if max(extent) > MAX_EXTENT_MM:
        _refuse_unit(geometry, name, 0.001, _("micrometres"))
    axis = int(np.argmin(geometry.size))
    if geometry.size[axis] < MIN_SLICES:
        raise InputError(
            _("{name!r} has {count} slices along {axis}: needs at least {least}").format(
                name=name, count=geometry.size[axis], axis=_AXES[axis], least=MIN_SLICES
            )
        )
    if min(extent) < LEAST_EXTENT_MM:
        if max(extent) < WIDEST_CM:
            _refuse_unit(geometry, name, 10.0, _("centimetres"))
        axis = int(np.argmin(extent))
        raise InputError(
            _(
                "{name!r} covers {extent:.3g} mm along {axis} ({count} slices of {spacing:.3g} mm): needs at "
                "least {least:g} mm to hold a part of a heart"
            ).format(
                name=name,
                extent=extent[axis],
                axis=_AXES[axis],
                count=geometry.size[axis],
                spacing=geometry.spacing[axis],
                least=LEAST_EXTENT_MM,
            )
        )
    findings = _check_short(geometry)
    if max(extent) <= MAX_EXTENT_MM:
        return findings
    finding = Finding(
        "field-of-view-implausible",
        Severity.WARNING,
        _("scan measures {extent} mm, more than a patient does: check the unit of its spacing").format(
            extent=mm(extent)
        ),
        values={"extent_mm": [round(e, 1) for e in extent]},
    )
    return (*findings, finding)


def _refuse_unit(geometry: Geometry, name: str, factor: float, unit: str) -> None:
    """Refuse a grid that has the size of a patient in another unit."""
    if all(MIN_EXTENT_MM <= e * factor <= MAX_EXTENT_MM for e in geometry.extent_mm):
        raise InputError(
            _(
                "spacing of {name!r} is {spacing}, which looks like {unit}: it must be in mm, multiply it by {factor:g}"
            ).format(name=name, spacing=mm(geometry.spacing), unit=unit, factor=factor)
        )


def _check_short(geometry: Geometry) -> tuple[Finding, ...]:
    """Return a finding on a stack that covers less than a heart, as short-axis stacks often do."""
    axis = int(np.argmin(geometry.extent_mm))
    extent = geometry.extent_mm[axis]
    if extent >= MIN_EXTENT_MM:
        return ()
    finding = Finding(
        "field-of-view-short",
        Severity.WARNING,
        _(
            "scan covers {extent:.3g} mm along {axis} ({count} slices of {spacing:.3g} mm), less than a "
            "heart (about {least:g} mm): structures may be cut, and their volumes are then those "
            "of the part inside"
        ).format(
            extent=extent,
            axis=_AXES[axis],
            count=geometry.size[axis],
            spacing=geometry.spacing[axis],
            least=MIN_EXTENT_MM,
        ),
        values={"extent_mm": round(extent, 1)},
    )
    return (finding,)


def _check_slices(geometry: Geometry) -> tuple[Finding, ...]:
    thickest = max(geometry.spacing)
    if thickest <= THICK_SLICE_MM:
        return ()
    finding = Finding(
        "slices-thick",
        Severity.WARNING,
        _(
            "slices lie {thickest:.3g} mm apart (more than {limit:g} mm): thin walls and valves "
            "are not resolved and volumes are less certain"
        ).format(thickest=thickest, limit=THICK_SLICE_MM),
        values={"spacing_mm": round(thickest, 3)},
    )
    return (finding,)


# --- voxels -----------------------------------------------------------------------------------------------------------


def _check_values(array: np.ndarray, name: str) -> tuple[np.ndarray, tuple[Finding, ...]]:
    array, findings = replace_nonfinite(array, name)
    low = min(slab.min() for slab in slabs(array))
    high = max(slab.max() for slab in slabs(array))
    if low == high:
        raise InputError(
            _("every voxel of {name!r} is {low:g}: it holds no image, export the scan again").format(name=name, low=low)
        )
    return array, findings + _check_labels(array, low >= 0 and high <= MAX_LABEL)


def _check_labels(array: np.ndarray, small: bool) -> tuple[Finding, ...]:
    """Return a finding if the scan has few, integer values and may be a label map; uses a coarse and a fine sample.

    Args:
        array: ``(z, y, x)``, finite.
        small: whether all values lie in 0 to :data:`MAX_LABEL`; the finding of a flat image is then an error.
    """
    values: set[float] = set()
    for per_axis in (32, 128):
        z, y, x = (max(1, n // per_axis) for n in array.shape)
        values = set(np.unique(array[::z, ::y, ::x]).tolist())
        if len(values) > FEW_VALUES or not all(float(v).is_integer() for v in values):
            return ()
    text = _(
        "scan holds {count} different values only, all whole numbers: is it a label map rather than an image?"
    ).format(count=len(values))
    severity, middle = Severity.WARNING, array[len(array) // 2]
    if small and (middle[:, 1:] == middle[:, :-1]).mean() > FLAT:
        text = _("scan is a label map (its values are {values}): give the scan from which it was made").format(
            values=[f"{value:g}" for value in sorted(values)]
        )
        severity = Severity.ERROR
    finding = Finding("looks-like-labels", severity, text, values={"values": len(values)})
    return (finding,)


def check_scale(volume: Volume) -> tuple[Finding, ...]:
    """Return a finding on a scan that is said to be CT but is not in Hounsfield units."""
    scale = volume.value_scale
    if volume.modality != "CT" or scale is ValueScale.HOUNSFIELD:
        return ()
    low, high = float(volume.array.min()), float(volume.array.max())
    offset = _(", but Hounsfield units with an offset") if scale is ValueScale.OFFSET else ""
    text = _(
        "the scan is said to be CT, but its values of {low:g} to {high:g} are not Hounsfield units "
        "(air is -1000){offset}: intensities have no unit; use the original if there is one"
    ).format(low=low, high=high, offset=offset)
    return (Finding("not-hounsfield", Severity.WARNING, text, values={"lowest": low, "highest": high}),)


def _check_depth(array: np.ndarray) -> tuple[Finding, ...]:
    """Return a finding on a copy for viewing."""
    if not is_picture(array):
        return ()
    finding = Finding(
        "grey-values-8-bit",
        Severity.WARNING,
        _(
            "scan holds 8-bit grey values, a copy made for viewing: what its window cut off is lost, so "
            "that fat, lung and muscle may look alike and the ventricle's wall come out too thick; use "
            "the original if you can"
        ),
    )
    return (finding,)


def _check_memory(array: np.ndarray) -> tuple[Finding, ...]:
    """Return a finding if a run with one tile, labels and a copy of them to write exceed the free memory."""
    need = RUN_BYTES + 2 * array.size
    free = available_memory()
    if free is None or need <= free:
        return ()
    finding = Finding(
        "memory-tight",
        Severity.WARNING,
        _(
            "a run on {size:.0f} million voxels needs about {need:.1f} GiB more memory and {free:.1f} GiB "
            "are free: close other programs or crop it around the heart"
        ).format(size=array.size / 1e6, need=need / 2**30, free=free / 2**30),
        values={"need_gib": round(need / 2**30, 2), "free_gib": round(free / 2**30, 2)},
    )
    return (finding,)


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory available without swapping (Linux), or ``None`` if the system does not say.

    A container or a job of Slurm may have less than the machine: the limits of its control groups count, too, and those
    of the process (``ulimit -v``, ``ulimit -d``).
    """
    found = [*_free_in_groups(root), *_free_in_limits(root)]
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    return max(0, min(found)) if found else None


def _free_in_limits(root: Path) -> Iterator[int]:
    """Yield the bytes that the limits of this process leave for its address space and for its data."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        told = (line.split(":") for line in (root / "proc/self/status").read_text().splitlines())
        used = {name: int(value.split()[0]) * 1024 for name, value in told if name in ("VmSize", "VmData")}
        for line in (root / "proc/self/limits").read_text().splitlines():
            for name, what in (("Max address space", "VmSize"), ("Max data size", "VmData")):
                if line.startswith(name) and (soft := line.removeprefix(name).split()[0]) != "unlimited":
                    yield int(soft) - used[what]


_GROUP_FILES = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Controller in ``/proc/self/cgroup`` (version 2 names none) -> folder, files of limit and use, and cache in use."""


def _free_in_groups(root: Path) -> Iterator[int]:
    """Yield the bytes that each control group of this process, and each group above, may still use."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _number, controllers, path in (line.split(":", 2) for line in lines):
        top, limit, used, cache = _GROUP_FILES.get(controllers, ("", "", "", ""))
        group = root / top / path.lstrip("/")
        for folder in (group, *group.parents) if top else ():
            with contextlib.suppress(OSError, ValueError, KeyError):  # "max" is no limit
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                yield int((folder / limit).read_text()) - int((folder / used).read_text()) + int(stat[cache])
            if folder == root / top:
                break
