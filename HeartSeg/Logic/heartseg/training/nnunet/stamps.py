"""Check whether the files of a training have changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import InputError

Stamp = list[list[int]]


def stamp(*files: Path) -> Stamp:
    """Return size and modification time (s) of each file; empty if a file does not exist."""
    try:
        return [[found.st_size, int(found.st_mtime)] for found in (file.stat() for file in files)]
    except OSError:
        return []


def refuse_changes(
    what: str, before: Mapping[str, Stamp | None], now: Mapping[str, Stamp], data: Path, out: Path
) -> None:
    """Raise for the first name that is new, missing, or whose files have changed.

    Args:
        what: kind of the names for messages, such as ``"case"``.
        before: name -> stamp at the start of the training; ``None`` if an older version did not record it.
        now: name -> current stamp.
        data: folder of the files; out: folder of the training.

    Raises:
        InputError: a file is new, missing or changed; the message names it.
    """
    for name in sorted(before.keys() | now.keys()):
        if name not in before:
            change = "is new"
        elif not now.get(name):
            change = "is missing"
        elif before[name] not in (None, now[name]):
            change = "has changed"
        else:
            continue
        raise InputError(
            f"{what} {name} in {str(data)!r} {change} since {str(out)!r} was started: choose another folder "
            "with -o, or put the data back"
        )
