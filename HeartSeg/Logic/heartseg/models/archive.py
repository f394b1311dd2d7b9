"""Unpacking a zip file from anywhere: nothing may land outside the target folder, nothing may fill the disk."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import ModelError
from ..progress import Reporter
from .card import is_inside

MAX_ENTRIES = 2000
MAX_BYTES = 8 * 2**30
MAX_RATIO = 100.0
"""Unpacked over packed size; checked for entries over 1 MiB. Weights hardly compress, JSON does by 5 to 30."""

CHUNK = 1 << 20


def unpack(archive: Path, target: Path, reporter: Reporter) -> None:
    """Unpack ``archive`` into ``target`` (existing, empty) after all its entries have been judged.

    Raises:
        ModelError: not a zip file, damaged, encrypted, or an entry that is unsafe (outside the target, absolute, a
            link, twice) or too large; one line that names the entry.
    """
    try:
        with zipfile.ZipFile(archive) as z:
            entries = _judged(z.infolist(), archive.name)
            with reporter.stage("unpack", sum(e.file_size for e, _ in entries)):
                done = 0
                for entry, relative in entries:
                    file = target / relative
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with z.open(entry) as source, file.open("xb") as sink:
                        while piece := source.read(CHUNK):
                            sink.write(piece)
                            done += len(piece)
                            reporter.advance(done)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ModelError(f"'{archive}' is not a usable zip file ({error}): download or copy it again") from None


def _judged(entries: list[zipfile.ZipInfo], archive: str) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The files among the entries with their safe relative paths."""
    if len(entries) > MAX_ENTRIES:
        raise ModelError(f"'{archive}' has {len(entries)} entries and is refused: a model has at most {MAX_ENTRIES}")
    total = sum(e.file_size for e in entries)
    if total > MAX_BYTES:
        raise ModelError(
            f"'{archive}' would unpack to {total / 2**30:.1f} GiB and is refused: "
            f"a model has at most {MAX_BYTES / 2**30:.0f} GiB"
        )
    files: list[tuple[zipfile.ZipInfo, PurePosixPath]] = []
    seen: set[str] = set()
    for entry in entries:
        problem = _problem(entry)
        name = entry.filename.replace("\\", "/")
        relative = PurePosixPath(name)
        if problem is None and str(relative).casefold() in seen:
            problem = "occurs twice"
        if problem:
            raise ModelError(
                f"entry '{entry.filename:.100}' of '{archive}' {problem} and is refused: do not use this file"
            )
        seen.add(str(relative).casefold())
        if not entry.is_dir():
            files.append((entry, relative))
    return files


def _problem(entry: zipfile.ZipInfo) -> str | None:
    name = entry.filename.replace("\\", "/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if not is_inside(name.rstrip("/")) or "\0" in entry.orig_filename:
        return "leads outside the model's folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.file_size > CHUNK and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
        return f"unpacks to {entry.file_size / max(1, entry.compress_size):.0f} times its size"
    return None
