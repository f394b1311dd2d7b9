"""Walk through folders: links are followed, and each folder is visited once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """List the regular files in a folder and its subfolders, sorted by name within each folder.

    Links to folders are followed. A folder that several links point to is visited once, so that a link to a parent
    folder does not make the walk endless. Dangling links, pipes and devices are omitted.
    """
    visited: set[tuple[int, int]] = set()
    for root, below, names in os.walk(folder, followlinks=True):
        mark = identity(Path(root))
        if mark is None or mark in visited:
            below.clear()
            continue
        visited.add(mark)
        below.sort()
        yield from (path for name in sorted(names) if (path := Path(root, name)).is_file())


def identity(folder: Path) -> tuple[int, int] | None:
    """Return device and inode of a folder, which do not depend on its path; ``None`` if it cannot be read."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
