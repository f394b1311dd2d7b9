"""Find the scans of a command: one scan, its frames, a folder of scans, or a list."""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HeartSegError, InputError
from ..formats import COHORT_FILES, REPORT_FILE, REVIEW_FILE, SUMMARY_FILE
from ..progress import Reporter
from ..volume.folders import files_below, identity
from ..volume.headers import Spacing
from .processes import answers, value_of

if TYPE_CHECKING:
    from ..volume.types import Volume

_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_LONGEST_NAME = 150  # bytes; a temporary folder name of at most 255 bytes extends it


@dataclass(frozen=True)
class Case:
    """One scan to segment.

    Attributes:
        path: file or DICOM folder.
        name: name of its folder in the output folder.
        series, frame, modality, spacing: arguments of :func:`heartseg.read_volume`.
        named: whether a list gives the name; otherwise it comes from the path.
    """

    path: Path
    name: str
    series: str | None = None
    frame: int | None = None
    modality: str | None = None
    spacing: Spacing | None = None
    named: bool = field(default=False, compare=False)

    def read(self) -> Volume:
        """Read the scan; raises as :func:`heartseg.read_volume`."""
        from ..volume.reading import read_volume

        return read_volume(
            self.path, series=self.series, frame=self.frame, modality=self.modality, spacing=self.spacing
        )


def is_scan_file(path: Path) -> bool:
    """Whether the name of a file is that of a volume (not DICOM, which is found by folder, and not .seg.nrrd)."""
    name = path.name.lower()
    return name.endswith(_SUFFIXES) and not name.endswith(".seg.nrrd") and path.is_file()


def is_batch(path: Path) -> bool:
    """Whether an input contains several scans.

    This holds for CSV lists, for folders with volume files, and for folders with subfolders of different patients or
    studies. A folder that directly contains DICOM files is one scan, regardless of other files. A tree of folders with
    DICOM files of a single study is one scan too; the series is chosen when it is read.
    """
    try:
        folder = path.is_dir()
    except OSError:  # name too long, or no permission for a parent folder: reading the scan reports it
        return False
    return not _is_one_scan(path) if folder else path.suffix.lower() == ".csv"


def _is_one_scan(folder: Path, seen: set[tuple[int, int] | None] | None = None) -> bool:
    """Whether a folder is one DICOM scan (or empty, which reading it reports).

    Args:
        seen: folders visited before; links may lead to them repeatedly.
    """
    seen = set() if seen is None else seen
    if identity(folder) in seen:
        return True
    seen.add(identity(folder))
    entries = _entries(folder)
    if any(_dicom_among(entries)):
        return True
    if any(is_scan_file(p) or _is_dangling(p) for p in entries):
        return False
    below = [p for p in entries if p.is_dir() and _holds_scans(p)]
    if not all(_is_one_scan(p, seen) for p in below):
        return False
    return len(below) < 2 or _is_one_study(below)


def _is_one_study(folders: list[Path]) -> bool:
    from ..volume.dicom import study_of

    readable = [(study for file in _dicom_files(p) if all(study := study_of(file))) for p in folders]
    studies = {next(found, None) for found in readable}
    return len(studies) == 1 and None not in studies


def _entries(folder: Path) -> list[Path]:
    """List a folder by name, without hidden entries and without links to its parent folders."""
    try:
        above = {identity(p) for p in (folder.resolve(), *folder.resolve().parents)}
        entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
        return [p for p in entries if not (p.is_symlink() and p.is_dir() and identity(p) in above)]
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be read: {error.strerror or error}") from error


def _dicom_among(entries: list[Path]) -> Iterator[Path]:
    """Yield the DICOM files among the entries, except DICOMDIR."""
    return (p for p in entries if p.is_file() and p.name.upper() != "DICOMDIR" and _is_dicom(p))


def _is_dicom(path: Path) -> bool:
    from ..volume.headers import is_dicom

    try:
        return is_dicom(path)
    except OSError:
        return False


def _dicom_files(folder: Path) -> Iterator[Path]:
    """Yield the DICOM files in a folder and its subfolders."""
    return (p for p in files_below(folder) if p.name.upper() != "DICOMDIR" and _is_dicom(p))


def _holds_scans(folder: Path, seen: set[tuple[int, int] | None] | None = None) -> bool:
    """Whether a folder or its subfolders contain a scan; results of HeartSeg do not count.

    Args:
        seen: folders visited before; links may lead to them repeatedly.
    """
    seen = set() if seen is None else seen
    if identity(folder) in seen:
        return False
    seen.add(identity(folder))
    entries = _entries(folder)
    if any(p.name == REPORT_FILE for p in entries):
        return False
    if any(is_scan_file(p) or _is_dangling(p) for p in entries) or any(_dicom_among(entries)):
        return True
    return any(_holds_scans(p, seen) for p in entries if p.is_dir())


def _is_dangling(path: Path) -> bool:
    """Whether a path is a broken link with the name of a scan or folder; the summary reports such links."""
    return path.is_symlink() and not path.exists() and (path.name.lower().endswith(_SUFFIXES) or not path.suffix)


def list_cases(
    path: Path,
    series: str | None = None,
    frame: int | str | None = None,
    modality: str | None = None,
    without: Path | None = None,
    spacing: Spacing | None = None,
    anonymize: bool = False,
    time_limit: float | None = None,
) -> list[Case]:
    """List the scans of an input in a stable order, with unique names.

    Args:
        path: file, folder or CSV list.
        series, modality, spacing: default for every scan.
        frame: frame of every scan, or ``"all"`` to make each frame a case.
        without: output folder to skip, which may be inside the input folder.
        anonymize: whether to number the scans that no list names, instead of naming them by their paths.
        time_limit: seconds to count the frames of a scan, ``None`` for no limit.

    Raises:
        InputError: the list is unreadable or empty.
    """
    if path.is_dir() and without is not None and without.resolve() == path.resolve():
        raise InputError(f"output folder {path} is the folder of the scans: choose another with -o")
    if not is_batch(path):
        cases = [Case(path, plain_name(path))]
    elif path.is_dir():
        cases = list(_in_folder(path, "", without.resolve() if without else None, set()))
    else:
        cases = _from_csv(path)
    if not cases:
        raise InputError(f"{path} contains no scan: give {', '.join(_SUFFIXES)} files or DICOM folders")
    cases = [replace(c, series=c.series or series, modality=c.modality or modality, spacing=spacing) for c in cases]
    if anonymize:
        digits = len(str(len(cases)))
        cases = [c if c.named else replace(c, name=f"scan_{k:0{digits}d}") for k, c in enumerate(cases, 1)]
    if frame == "all":
        cases = _frames_of_all(cases, time_limit)
    elif frame is not None:
        cases = [replace(c, frame=int(frame) if c.frame is None else c.frame) for c in cases]
    return _unique(cases)


def _in_folder(folder: Path, prefix: str, without: Path | None, visited: set[tuple[int, int] | None]) -> Iterator[Case]:
    """Yield the scans of a folder and its subfolders; scans in subfolders get the name of the subfolder as a prefix.

    A folder that several links point to is visited once.
    """
    if identity(folder) in visited:
        return
    visited.add(identity(folder))
    for path in _entries(folder):
        if is_scan_file(path) or _is_dangling(path):
            yield Case(path, plain_name(path, prefix))
        elif path.is_dir() and path.resolve() != without and _holds_scans(path):
            name = plain_name(path, prefix)
            if not _is_one_scan(path):
                yield from _in_folder(path, f"{name}_", without, visited)
            elif identity(path) not in visited:
                visited.add(identity(path))
                yield Case(path, name)


def plain_name(path: Path, prefix: str = "") -> str:
    """Return the file name without extensions, usable as a folder name."""
    name = path.resolve().name if path.name in ("", "..") else path.name
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix) and not path.is_dir():
            name = name[: -len(suffix)]
            break
    return _safe(prefix + name) or "scan"


def _safe(name: str) -> str:
    name = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode("utf-8"))
    plain = re.sub(r"[^\w.+-]+", "_", name).strip("._")
    return plain.encode()[:_LONGEST_NAME].decode("utf-8", "ignore").rstrip("._")


def _from_csv(path: Path) -> list[Case]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            rows = list(csv.DictReader(file, delimiter=";" if ";" in head and "," not in head else ","))
    except FileNotFoundError as error:
        raise InputError(f'list {str(path)!r} does not exist: give a CSV file with a column "path"') from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"list {str(path)!r} cannot be read ({error}): save it as CSV in UTF-8") from error
    if not rows or "path" not in _row(rows[0]):
        raise InputError(f'list {str(path)!r} has no column "path" in its first line, or no line after it')
    return [_listed(path, number, _row(row)) for number, row in enumerate(rows, 2) if _row(row).get("path")]


def _row(row: dict) -> dict[str, str]:
    """Normalise the keys of a row of the list and drop cells beyond the last column."""
    return {k.strip().lower(): (v or "").strip() for k, v in row.items() if isinstance(k, str)}


def _listed(path: Path, number: int, row: dict[str, str]) -> Case:
    """Return the case of one row; paths are relative to the list."""
    frame = row.get("frame", "")
    if frame and not frame.isdecimal():
        raise InputError(f"list {str(path)!r}, line {number}: frame {frame!r} is not a number")
    modality = row.get("modality", "").upper()
    if modality not in ("", "CT", "MR"):
        raise InputError(f"list {str(path)!r}, line {number}: modality {modality!r} is unknown: use CT or MR")
    scan = path.parent / row["path"]
    name = _safe(row.get("name", ""))
    series = row.get("series") or None
    return Case(
        scan, name or plain_name(scan), series, int(frame) if frame else None, modality or None, named=bool(name)
    )


def _frames_of_all(cases: list[Case], time_limit: float | None) -> list[Case]:
    """Return one case per frame. An unreadable scan stays one case that fails later; if it is the only one, it raises.

    A child process counts the frames, because a damaged file may end it.
    """
    open_cases = [case for case in cases if case.frame is None]
    with contextlib.closing(answers((partial(_count_frames, case) for case in open_cases), limit=time_limit)) as coming:
        counts = dict(zip(open_cases, coming, strict=False))
    found: list[Case] = []
    for case in cases:
        try:
            found += _frames(case, value_of(counts[case])) if case in counts else [case]
        except (HeartSegError, OSError):
            if len(cases) == 1:
                raise
            found.append(case)
    return found


def _frames(case: Case, count: int) -> list[Case]:
    """Return one case per frame."""
    if count == 1:
        return [case]
    digits = len(str(count - 1))
    return [replace(case, name=f"{case.name}_frame{k:0{digits}d}", frame=k) for k in range(count)]


def _count_frames(case: Case, reporter: Reporter) -> int:
    from ..volume.reading import count_frames

    with reporter.stage("read"):
        return count_frames(case.path, series=case.series if case.path.is_dir() else None)


@dataclass(frozen=True)
class Part:
    """One of several parts of a cohort, for processes that do not know of each other.

    A scan belongs to a part by its name, not by its place in the list: scans that arrive while the parts run change
    nothing for the others.

    Attributes:
        number: from 1.
        count: number of parts.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Parse ``I/N``."""
        first, _, last = text.partition("/")
        if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise argparse.ArgumentTypeError(f"part {text!r} is not I/N with I from 1 to N, such as 3/100")
        return cls(int(first), int(last))

    def of(self, cases: list[Case]) -> list[Case]:
        """The cases of this part."""
        return [case for case in cases if self._number_of(case.name) == self.number]

    def _number_of(self, name: str) -> int:
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % self.count + 1

    @property
    def summary_file(self) -> str:
        """Name of the summary of this part."""
        stem, dot, suffix = SUMMARY_FILE.partition(".")
        return f"{stem}-part-{self.number}-of-{self.count}{dot}{suffix}"


def _unique(cases: list[Case]) -> list[Case]:
    """Make names unique, also on file systems that ignore case."""
    wanted = {c.name.casefold() for c in cases}
    taken = {SUMMARY_FILE, REVIEW_FILE, *COHORT_FILES}
    unique = []
    for case in cases:
        name, count = case.name, 1
        while name.casefold() in taken or (count > 1 and name.casefold() in wanted):
            count += 1
            name = f"{case.name}_{count}"
        taken.add(name.casefold())
        unique.append(replace(case, name=name))
    return unique
