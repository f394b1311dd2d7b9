"""A folder of files that appears whole or not at all.

Files are made in a hidden folder beside the one that the user named, which takes its place when all is written. A full
disk, a kill or a mistake half-way leaves what was there before.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import OutputError
from .volume.headers import is_text

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system calls a full disk, a full quota and a file that may not grow."""

_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
_PARTIAL = ".partial-"
_RETIRED = "old"
_TIGHT_BYTES = 1 << 24  # free space below which a failure to write is put down to the disk: one set of surfaces


@dataclass(frozen=True)
class FolderKind:
    """A folder that HeartSeg writes.

    Attributes:
        what: what it is to the user, ``"a result of HeartSeg"``.
        names: everything that it may hold at its top; with anything else in it, it is not overwritten.
        last: the file that is written last, and without which the folder counts as unfinished.
    """

    what: str
    names: tuple[str, ...]
    last: str


def check_folder(folder: str | Path, kind: FolderKind, overwrite: bool = False) -> Path:
    """Make sure that a folder could be written, before the work is done.

    Raises:
        OutputError: the folder is a file, is not empty (and ``overwrite`` is off), holds other things than its kind
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
        foreign = [name for name in held if name not in kind.names]
        if foreign:
            names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise OutputError(
                f"output folder {folder} holds more than {kind.what} ({names}), and --overwrite would delete it: "
                "choose another folder"
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
def staged_folder(folder: Path, kind: FolderKind, overwrite: bool = False) -> Iterator[Path]:
    """A temporary sibling of ``folder`` that takes its place when the block ends well, and vanishes otherwise.

    Where ``folder`` is a mount, or its parent may not be written to, the temporary folder lies inside it and its files
    are moved one by one, ``kind.last`` last.

    Raises:
        OutputError: as :func:`check_folder`; the disk is full, or the folder cannot be written to.
    """
    folder = check_folder(folder, kind, overwrite).resolve()
    made = [p for p in folder.parents if not p.exists()]
    stage: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        stage = _temporary(folder)
        stage.chmod(0o777 & ~_umask())  # mkdtemp makes folders private
        yield stage
        _take_place(stage, folder, kind)
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

    A run that was killed in the instant between taking the old folder away and putting the new one in its place has
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


def _take_place(stage: Path, folder: Path, kind: FolderKind) -> None:
    """Rename ``stage`` to ``folder``; an earlier folder goes only once the new one stands."""
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
    """Replace file by file; without its last file a folder counts as unfinished."""
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


def _output_error(error: OSError, folder: Path) -> OutputError:
    if error.errno in DISK_FULL:
        return OutputError(f"disk full while writing {folder}: free some space or choose another folder")
    return OutputError(f"cannot write {folder} ({error.strerror or error}): choose another folder")


def _in_terms_of(folder: Path, stage: Path, error: OutputError) -> OutputError:
    """The error with the folder that the user named, not the temporary one; a full disk is called so."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            return _output_error(cause, folder)
        cause = cause.__cause__
    text = str(error).replace(str(stage), str(folder))
    unnamed = "free space" in text and shutil.disk_usage(folder.parent).free < _TIGHT_BYTES  # VTK does not say why
    if unnamed or any(os.strerror(number) in text for number in DISK_FULL):
        return _output_error(OSError(errno.ENOSPC, ""), folder)
    return OutputError(text)
