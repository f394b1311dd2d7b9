"""One result, one folder: everything a run writes appears at once, or not at all."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DependencyError, InputError, OutputError
from .progress import Reporter
from .report import write_measurements, write_preview, write_report
from .result import Result
from .volume.headers import check_data, is_text, read_header
from .volume.types import Volume
from .volume.writing import write_labels, write_volume

if TYPE_CHECKING:
    from .explain import Explanation

FORMATS: dict[str, str] = {
    "seg": "segmentation.seg.nrrd: opens in 3D Slicer with names and colours",
    "labels": "labels.nii.gz: label map on the scan's grid",
    "stl": "surfaces/*.stl: closed surfaces, LPS mm",
    "csv": "measurements.csv: volumes, mass, diameters, intensities with units",
    "preview": "preview.png: three slices with contours and a 3D view",
    "confidence": "confidence.nii.gz: how sure the network was, percent; only when asked for",
}
"""What can be written besides ``report.json``, which always is."""

CONFIDENCE = "confidence"
"""The format that is written only for runs with the setting ``confidence_map``."""

REPORT_FILE = "report.json"
RESULT_FILES = (
    "segmentation.seg.nrrd",
    "labels.nii.gz",
    "surfaces",
    "measurements.csv",
    "preview.png",
    "confidence.nii.gz",
    REPORT_FILE,
)
"""Everything that a result folder may hold at its top."""

EXPLANATION_FILE = "explanation.json"
EXPLANATION_FILES = ("heat_map.nii.gz", "heat_map.nrrd", "heat_map.png", EXPLANATION_FILE)
"""Everything that an explanation's folder may hold."""

_NEEDS = {"seg": ("slicer", "slicer-core"), "stl": ("slicer", "slicer-core"), "preview": ("matplotlib", "matplotlib")}
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
_PARTIAL = ".partial-"
_RETIRED = "old"
_TIGHT_BYTES = 1 << 24  # free space below which a failure to write is put down to the disk: one set of surfaces
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_formats(formats: Sequence[str] | None) -> None:
    """Make sure that what was asked for by name can be written, before an hour is spent on it.

    Raises:
        OutputError: a format is unknown.
        DependencyError: a format that was asked for needs a package that is not installed.
    """
    unknown = [f for f in formats or () if f not in FORMATS]
    if unknown:
        raise OutputError(f"format {', '.join(unknown)} is unknown: choose from {', '.join(FORMATS)}")
    for name in formats or ():
        module, package = _NEEDS.get(name, ("", ""))
        if module and not _is_installed(module):
            raise DependencyError(
                f"format {name} needs {package}, which is not installed: pip install 'heartseg[app]', or leave it out "
                "of --format"
            )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def check_output_folder(folder: str | Path, overwrite: bool = False, names: Sequence[str] = RESULT_FILES) -> Path:
    """Make sure that a result could be written there, before an hour is spent on it.

    Args:
        names: what ``overwrite`` may replace, the last one written last.

    Raises:
        OutputError: the folder is a file, is not empty (and ``overwrite`` is off), holds other things than a result
            (which overwriting would delete), or cannot be written to.
    """
    folder = Path(folder)
    if not is_text(folder.resolve()):
        raise OutputError(f"name of the output folder {str(folder)!r} is not valid UTF-8: choose another one")
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"output {folder} is a file: choose a folder")
        held = _held(folder)
        if held and not overwrite:
            raise OutputError(f"output folder {folder} is not empty: choose another one, or add --overwrite")
        foreign = [name for name in held if name not in names]
        if foreign:
            others = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise OutputError(
                f"output folder {folder} holds more than HeartSeg writes there ({others}), and --overwrite would "
                "delete it: choose another folder"
            )
        home = _home(folder.resolve())
        with tempfile.TemporaryFile(dir=next(p for p in (home, *home.parents) if p.exists())):
            pass
    except OSError as error:
        raise OutputError(
            f"output folder {folder} cannot be written to ({error.strerror}): choose another one"
        ) from error
    return folder


def _held(folder: Path) -> list[str]:
    """Names of what a folder holds, but for what systems scatter and killed runs leave; none if it does not exist."""
    if not folder.is_dir():
        return []
    mark = f".{folder.resolve().name}{_PARTIAL}"
    return sorted(p.name for p in folder.iterdir() if p.name not in _LITTER and not p.name.startswith(mark))


def _home(folder: Path) -> Path:
    """Where the temporary folder is made: beside ``folder``, but inside it where it cannot be renamed (a mount)."""
    if folder.is_dir() and (os.path.ismount(folder) or not os.access(folder.parent, os.W_OK)):
        return folder
    return folder.parent


@contextmanager
def staged_folder(folder: Path, overwrite: bool = False, names: Sequence[str] = RESULT_FILES) -> Iterator[Path]:
    """A temporary sibling of ``folder`` that takes its place when the block ends well, and vanishes otherwise.

    Where ``folder`` is a mount, or its parent may not be written to, the temporary folder lies inside it and its files
    are moved one by one, the report last.

    Args:
        names: as in :func:`check_output_folder`.

    Raises:
        OutputError: the disk is full, or the folder cannot be written to.
    """
    folder = check_output_folder(folder, overwrite, names).resolve()
    made = [p for p in folder.parents if not p.exists()]
    stage: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        stage = _temporary(folder)
        stage.chmod(0o777 & ~_umask())  # mkdtemp makes folders private
        yield stage
        _take_place(stage, folder, names)
    except BaseException as error:
        said: OutputError | None
        if isinstance(error, OutputError) and stage is not None:
            said = _in_terms_of(folder, stage, error)
        else:
            said = _output_error(error, folder) if isinstance(error, OSError) else None
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        for parent in made:  # nearest first; only those that are empty again
            _remove_if_empty(parent)
        if said is not None:
            raise said from error
        raise


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty; say nothing otherwise."""
    try:
        folder.rmdir()
    except OSError:
        return


def _temporary(folder: Path) -> Path:
    """A fresh hidden folder for ``folder``, named after this process."""
    return Path(tempfile.mkdtemp(prefix=f".{folder.name}{_PARTIAL}{os.getpid()}-", dir=_home(folder)))


def _remove_leftovers(folder: Path) -> None:
    """Delete what killed runs left beside ``folder``; what belongs to a living process is spared.

    A run that was killed in the instant between taking the old result away and putting the new one in its place has
    left the old one: it is put back.
    """
    prefix = f".{folder.name}{_PARTIAL}"
    for old in [p for p in _home(folder).iterdir() if p.name.startswith(prefix)]:
        owner = old.name[len(prefix) :].split("-")[0]
        if not owner.isdigit() or (_is_alive(int(owner)) and int(owner) != os.getpid()):
            continue
        if (old / _RETIRED).is_dir() and not folder.exists():
            (old / _RETIRED).rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end the process: leave its folder alone
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _take_place(stage: Path, folder: Path, names: Sequence[str]) -> None:
    """Rename ``stage`` to ``folder``; an earlier result goes only once the new one stands."""
    if not folder.is_dir():
        stage.rename(folder)
        return
    if stage.parent == folder:
        _move_in(stage, folder, names)
        return
    keep = _temporary(folder)
    try:
        folder.rename(keep / _RETIRED)
        stage.rename(folder)
    except BaseException:
        with suppress(OSError):
            (keep / _RETIRED).rename(folder)
        _remove_if_empty(keep)
        raise
    shutil.rmtree(keep, ignore_errors=True)


def _move_in(stage: Path, folder: Path, names: Sequence[str]) -> None:
    """Replace a result file by file; without its report, the last one, a folder counts as unfinished."""
    (folder / names[-1]).unlink(missing_ok=True)
    for name in names:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        if (stage / name).exists():
            (stage / name).replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    stage.rmdir()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _output_error(error: OSError, folder: Path) -> OutputError:
    if error.errno in _DISK_FULL:
        return OutputError(f"disk full while writing {folder}: free some space or choose another folder")
    return OutputError(f"cannot write {folder} ({error.strerror or error}): choose another folder")


def _in_terms_of(folder: Path, stage: Path, error: OutputError) -> OutputError:
    """The error with the folder that the user named, not the temporary one; a full disk is called so."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _DISK_FULL:
            return _output_error(cause, folder)
        cause = cause.__cause__
    text = str(error).replace(str(stage), str(folder))
    unnamed = "free space" in text and shutil.disk_usage(folder.parent).free < _TIGHT_BYTES  # VTK does not say why
    if unnamed or any(os.strerror(number) in text for number in _DISK_FULL):
        return _output_error(OSError(errno.ENOSPC, ""), folder)
    return OutputError(text)


def write_result(
    result: Result,
    volume: Volume,
    folder: str | Path,
    formats: Sequence[str] | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write a result's files into a new folder.

    Args:
        result: what :func:`heartseg.segment` returned.
        volume: the scan it was made from.
        folder: created; must be empty or absent unless ``overwrite``.
        formats: keys of :data:`FORMATS`; ``None`` writes all that the result has and the installed packages allow,
            and notes the rest in the report.
        reporter: progress and cancel.

    Returns:
        ``"files"``: names written, relative to the folder; ``"skipped"``: formats that could not be, and why;
        ``"seconds"``: what writing took.

    Raises:
        OutputError: the folder cannot be used, the disk is full, or a confidence map is asked for that was not made;
            nothing is left behind and an earlier result stays.
        DependencyError: a format that was asked for needs a package that is not installed.
    """
    reporter = reporter or Reporter()
    wanted = tuple(f for f in FORMATS if f != CONFIDENCE) if formats is None else tuple(formats)
    if formats is None and result.confidence_map is not None:
        wanted = (*wanted, CONFIDENCE)
    check_formats(formats)
    if CONFIDENCE in wanted and result.confidence_map is None:
        raise OutputError("this result has no confidence map: run it again with the setting confidence_map")
    folder = Path(folder)
    started = time.perf_counter()
    with staged_folder(folder, overwrite) as stage, reporter.stage("write", 4):
        skipped: dict[str, str] = {}
        if "labels" in wanted:
            write_labels(result.labels, result.geometry, stage / "labels.nii.gz")
        if CONFIDENCE in wanted and result.confidence_map is not None:
            write_labels(result.confidence_map, result.geometry, stage / "confidence.nii.gz")
        if "csv" in wanted:
            write_measurements(result, stage / "measurements.csv")
        reporter.advance(1)
        surfaces = _write_scene(result, volume, stage, wanted, formats is not None, skipped)
        reporter.advance(2)
        if "preview" in wanted:
            result = _write_preview(result, volume, surfaces, stage, formats is not None, skipped)
        if "stl" not in wanted:
            shutil.rmtree(stage / "surfaces", ignore_errors=True)
        reporter.advance(3)
        files = sorted(str(p.relative_to(stage).as_posix()) for p in stage.rglob("*") if p.is_file())
        seconds = {"write": round(time.perf_counter() - started, 3)}  # all but the report itself
        written = {"files": [*files, REPORT_FILE], "skipped": skipped, "seconds": seconds}
        write_report(result, stage / REPORT_FILE, extra={"output": written})
    return written


def write_explanation(
    explanation: Explanation,
    volume: Volume,
    folder: str | Path,
    suffix: str = ".nii.gz",
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write an explanation's files into a new folder: ``heat_map.nii.gz``, ``heat_map.png``, ``explanation.json``.

    Args:
        explanation: what :func:`heartseg.explain.explain` returned.
        volume: the scan it was made from.
        folder: created; must be empty or absent unless ``overwrite``.
        suffix: of the heat map's file: ``.nii.gz`` or ``.nrrd``.
        reporter: progress and cancel.

    Returns:
        ``"files"``: names written; ``"skipped"``: ``{"picture": why}`` where matplotlib is not installed.

    Raises:
        OutputError: the folder cannot be used, or the disk is full; nothing is left behind.
    """
    from .explain import write_picture

    reporter, skipped = reporter or Reporter(), {}
    with staged_folder(Path(folder), overwrite, EXPLANATION_FILES) as stage, reporter.stage("write", 2):
        write_volume(Volume(explanation.heat, explanation.geometry), stage / f"heat_map{suffix}")
        reporter.advance(1)
        try:
            write_picture(volume, explanation, stage / "heat_map.png")
        except DependencyError as error:
            skipped["picture"] = str(error)
        files = [*sorted(p.name for p in stage.iterdir()), EXPLANATION_FILE]
        written = {"files": files, "skipped": skipped}
        content = {**explanation.details, "notices": list(explanation.notices), "output": written}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (stage / EXPLANATION_FILE).write_text(text + "\n", encoding="utf-8")
    return written


def _write_scene(
    result: Result, volume: Volume, stage: Path, wanted: Sequence[str], strict: bool, skipped: dict[str, str]
) -> dict[str, Path]:
    """Slicer's own files, through its scene; surfaces also for the preview."""
    if not {"seg", "stl", "preview"} & set(wanted):
        return {}
    try:
        from .scene import host, write_scene_outputs

        host.import_slicer()
        with host.quiet_vtk():
            written = write_scene_outputs(
                volume, result, stage, segmentation="seg" in wanted, surfaces=bool({"stl", "preview"} & set(wanted))
            )
    except DependencyError as error:
        if strict and {"seg", "stl"} & set(wanted):
            raise
        skipped.update({f: str(error) for f in ("seg", "stl") if f in wanted})
        return {}
    for path in written.values():
        _check_complete(path)
    return written


def _check_complete(path: Path) -> None:
    """VTK's writers do not notice every full disk: a binary STL holds 50 bytes a triangle, an NRRD all its voxels."""
    if path.suffix == ".stl":
        with path.open("rb") as file:
            head = file.read(84)
        whole = len(head) == 84 and path.stat().st_size == 84 + 50 * int.from_bytes(head[80:], "little")
    else:
        try:
            check_data(read_header(path))
            whole = True
        except InputError:
            whole = False
    if not whole:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _write_preview(
    result: Result, volume: Volume, surfaces: dict[str, Path], stage: Path, strict: bool, skipped: dict[str, str]
) -> Result:
    """Draw the picture; the result comes back with what was found in doing so (a simplified 3D view, say)."""
    pairs = [(s, surfaces[s.key]) for s in result.structures if s.key in surfaces]
    try:
        found = write_preview(volume, result, pairs, stage / "preview.png")
    except DependencyError as error:
        if strict:
            raise
        skipped["preview"] = str(error)
        return result
    return replace(result, findings=result.findings + found)
