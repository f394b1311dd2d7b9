"""Atomic writing of folders.

Files are written to a hidden folder next to the output folder, which it replaces when it is complete. A full disk, a
killed process or an error leaves an earlier folder unchanged.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import DISK_FULL, OutputError, write_error
from .volume.headers import is_text
from .wording import _

_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
_PARTIAL = ".partial-"
_RETIRED = "old"
_LONGEST_MACHINE = 60
_TIGHT_BYTES = 1 << 24  # one set of surfaces: with less free space, a failed write is attributed to a full disk


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that HeartSeg writes.

    Attributes:
        what: name for messages, e.g. ``"a result of HeartSeg"``.
        names: allowed top-level entries; a folder with other entries is not overwritten.
        last: file that is written last; a folder without it is incomplete.
    """

    what: str
    names: tuple[str, ...]
    last: str


def check_folder(folder: str | Path, kind: FolderKind, overwrite: bool = False) -> Path:
    """Check that a folder can be written, before a long computation.

    Raises:
        OutputError: the folder is a file, is not empty (without ``overwrite``), contains other entries than its kind,
            which overwriting would delete, or is not writable.
    """
    folder = Path(folder)
    if not is_text(folder.resolve()):
        raise OutputError(
            _("name of the output folder {folder!r} is not valid UTF-8: choose another name").format(folder=str(folder))
        )
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(_("output {folder} is a file: choose a folder").format(folder=folder))
        entries = _entries(folder)
        foreign = [name for name in entries if name not in kind.names]
        if foreign:
            names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            deleted = ", which --overwrite would delete" if overwrite else ""
            raise OutputError(
                _(
                    "output folder {folder} contains files other than {what} ({names}){deleted}: choose another folder"
                ).format(folder=folder, what=kind.what, names=names, deleted=deleted)
            )
        if entries and not overwrite:
            raise OutputError(
                _("output folder {folder} is not empty: choose another folder, or add --overwrite").format(
                    folder=folder
                )
            )
        home = _home(folder.resolve())
        with tempfile.TemporaryFile(dir=next(p for p in (home, *home.parents) if p.exists())):
            pass
    except OSError as error:
        raise OutputError(
            _("output folder {folder} is not writable ({strerror}): choose another folder").format(
                folder=folder, strerror=error.strerror
            )
        ) from error
    return folder


def _entries(folder: Path) -> list[str]:
    """Entries of a folder, without files of the operating system and leftovers of killed runs; may be missing."""
    if not folder.is_dir():
        return []
    mark = f".{folder.resolve().name}{_PARTIAL}"
    return sorted(p.name for p in folder.iterdir() if p.name not in _LITTER and not p.name.startswith(mark))


def _home(folder: Path) -> Path:
    """Parent of the temporary folder: that of ``folder``, or ``folder`` itself if it cannot be renamed (a mount)."""
    if folder.is_dir() and (os.path.ismount(folder) or not os.access(folder.parent, os.W_OK)):
        return folder
    return folder.parent


@contextmanager
def staged_folder(folder: Path, kind: FolderKind, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of ``folder`` that replaces it on success and is deleted on failure.

    If ``folder`` is a mount or its parent is not writable, the temporary folder is created inside ``folder``, and its
    files are moved one by one, ``kind.last`` last.

    Raises:
        OutputError: as :func:`check_folder`; or the disk is full, or the folder is not writable.
    """
    folder = check_folder(folder, kind, overwrite).resolve()
    made = [p for p in folder.parents if not p.exists()]
    stage: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        stage = _temporary(folder)
        stage.chmod(0o777 & ~_umask())  # mkdtemp creates private folders
        yield stage
        _take_place(stage, folder, kind)
    except BaseException as error:
        reported: OutputError | None
        if isinstance(error, OutputError) and stage is not None:
            reported = _with_output_folder(folder, stage, error)
        else:
            reported = write_error(error, folder) if isinstance(error, OSError) else None
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        for parent in made:  # innermost first, if empty
            _remove_if_empty(parent)
        if reported is not None:
            raise reported from error
        raise


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    try:
        folder.rmdir()
    except OSError:
        return


def _temporary(folder: Path) -> Path:
    """Create a hidden folder for ``folder`` with process ID and machine in its name."""
    prefix = f".{folder.name}{_PARTIAL}{os.getpid()}-{_machine()}-"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_home(folder)))


def _machine() -> str:
    """Name of this machine, short enough for the name of a folder."""
    return platform.node()[:_LONGEST_MACHINE]


def _remove_leftovers(folder: Path) -> None:
    """Delete temporary folders of killed runs next to ``folder``, except those of running processes of this machine.

    On a shared disk, another machine's folder was left by a worker that died, or that is taken for dead: its case was
    given to this one. If a run was killed between moving the old folder away and renaming the new one, the old folder
    is restored.
    """
    prefix = f".{folder.name}{_PARTIAL}"
    for old in [p for p in _home(folder).iterdir() if p.name.startswith(prefix)]:
        owner, _, rest = old.name[len(prefix) :].partition("-")
        here = rest.rpartition("-")[0] == _machine()
        if not owner.isdigit() or (here and _is_alive(int(owner)) and int(owner) != os.getpid()):
            continue
        if (old / _RETIRED).is_dir() and not folder.exists():
            (old / _RETIRED).rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process: keep its folder
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _take_place(stage: Path, folder: Path, kind: FolderKind) -> None:
    """Rename ``stage`` to ``folder``; an earlier folder is deleted only after that."""
    if not folder.is_dir():
        stage.rename(folder)
        return
    if stage.parent == folder:
        _move_in(stage, folder, kind)
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


def _move_in(stage: Path, folder: Path, kind: FolderKind) -> None:
    """Replace the files one by one; the folder is incomplete until its last file is moved."""
    (folder / kind.last).unlink(missing_ok=True)
    for name in sorted(kind.names, key=lambda n: n == kind.last):
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


def _with_output_folder(folder: Path, stage: Path, error: OutputError) -> OutputError:
    """Name the output folder instead of the temporary one in an error, and report a full disk as such."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            return write_error(cause, folder)
        cause = cause.__cause__
    text = str(error).replace(str(stage), str(folder))
    full = "free space" in text and shutil.disk_usage(folder.parent).free < _TIGHT_BYTES  # VTK gives no reason
    if full or any(os.strerror(number) in text for number in DISK_FULL):
        return write_error(OSError(errno.ENOSPC, ""), folder)
    return OutputError(text if str(stage) in str(error) else str(error))
