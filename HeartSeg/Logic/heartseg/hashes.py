"""SHA-256 of files, read in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash


def sha256_of(*paths: Path, tick: Callable[[int], None] | None = None) -> str:
    """SHA-256 of the bytes of the files, one after the other, as lower-case hex.

    Args:
        paths: the files.
        tick: called with the number of bytes of each piece read.
    """
    digest = hashlib.sha256()
    for path in paths:
        add_file(digest, path, tick)
    return digest.hexdigest()


def add_file(digest: _Hash, path: Path, tick: Callable[[int], None] | None = None) -> None:
    """Add the bytes of a file to a hash."""
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
            if tick is not None:
                tick(len(piece))
