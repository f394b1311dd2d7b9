"""Safe unpacking of untrusted zip files: no entry outside the target folder, no entry that fills the disk."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import ModelError
from ..progress import Reporter
from ..wording import _
from .card import is_inside

MAX_ENTRIES = 2000
MAX_BYTES = 8 * 2**30
MAX_RATIO = 100.0
"""Largest ratio of unpacked to packed size, checked for entries over 1 MiB. Weights hardly compress; JSON compresses
5 to 30 times."""

CHUNK = 1 << 20


def unpack(archive: Path, target: Path, reporter: Reporter) -> None:
    """Unpack ``archive`` into ``target``, an existing empty folder, after checking every entry.

    Raises:
        ModelError: the file is not a zip file, is damaged or encrypted, or has an entry that is too large or unsafe (a
            path outside the target, an absolute path, a link, a duplicate). The message names the entry.
    """
    try:
        with zipfile.ZipFile(archive) as z:
            entries = _checked_files(z.infolist(), archive.name)
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
        raise ModelError(
            _("'{archive}' is not a usable zip file ({error}): download or copy it again").format(
                archive=archive, error=error
            )
        ) from None


def _checked_files(entries: list[zipfile.ZipInfo], archive: str) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Return the entries that are files, with their relative paths; raise ``ModelError`` for an unsafe entry."""
    if len(entries) > MAX_ENTRIES:
        raise ModelError(
            _("'{archive}' is refused because it has {entries} entries: a model has at most {most}").format(
                archive=archive, entries=len(entries), most=MAX_ENTRIES
            )
        )
    total = sum(e.file_size for e in entries)
    if total > MAX_BYTES:
        raise ModelError(
            _(
                "'{archive}' is refused because it would unpack to {total:.1f} GiB: a model has at most {most:.0f} GiB"
            ).format(archive=archive, total=total / 2**30, most=MAX_BYTES / 2**30)
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
                _("'{archive}' is refused because its entry '{filename:.100}' {problem}: do not use this file").format(
                    archive=archive, filename=entry.filename, problem=problem
                )
            )
        seen.add(str(relative).casefold())
        if not entry.is_dir():
            files.append((entry, relative))
    return files


def _problem(entry: zipfile.ZipInfo) -> str | None:
    name = entry.filename.replace("\\", "/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if not is_inside(name.rstrip("/")) or "\0" in entry.orig_filename:
        return "points outside the model folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device file"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.file_size > CHUNK and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
        return f"unpacks to {entry.file_size / max(1, entry.compress_size):.0f} times its packed size"
    return None
