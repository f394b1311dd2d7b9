"""Installation of models from a URL, at the user's request: resumable download, verification, installation.

Downloads are stored in a hidden folder of the user's model folder: the content in ``download.part``, and the version of
the file (ETag or date, never the URL) in ``download.json``. An interrupted download stays there and is resumed the next
time; one with the wrong content is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

from ..errors import ModelError, OutputError, writing
from ..hashes import sha256_of
from ..progress import Reporter
from ..wording import _
from .archive import MAX_BYTES
from .fetch import Fetch, Head, NotServed, TransferBroken, check_address, shown
from .folder import ModelFolder
from .install import HASHED_HERE, install_model
from .labels import LabelMap
from .store import ELSEWHERE, user_folder

FOLDER = ".downloads"
"""Hidden folder in the model folder; ignored by the search for models."""

RESERVE = 256 * 2**20
"""Bytes that must stay free on the disk."""

_PART, _STATE = "download.part", "download.json"
_FREE_EVERY = 32 * 2**20  # bytes between two checks of the free space
_OLD_S = 14 * 86400.0  # older unfinished downloads are deleted by the next download
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_MB = 1e6


@dataclass(frozen=True)
class Rules:
    """Limits of a download.

    Attributes:
        max_bytes: maximum file size.
        timeout_s: time without data after which a connection fails.
        attempts: maximum number of consecutive connections that receive no data.
        pause_s: pause before the second attempt; doubles with each attempt, up to 30 s.
        allow_http: allow unencrypted downloads from other machines.
    """

    max_bytes: int = MAX_BYTES
    timeout_s: float = 30.0
    attempts: int = 4
    pause_s: float = 1.0
    allow_http: bool = False


@dataclass(frozen=True)
class Installed:
    """An installed model and how it was verified.

    Attributes:
        model: the installed model.
        sha256: hash of the installed archive; ``""`` for a folder.
        verified: ``"sha256"``: the archive has the expected hash; ``"card"``: the files have the hashes in their own
            card, which detects damage but not a substituted model; ``""``: there was no hash to compare with.
    """

    model: ModelFolder
    sha256: str
    verified: str

    @property
    def note(self) -> str:
        """One sentence for the user about the verification."""
        if self.verified == "sha256":
            return "Verified: the file has the expected SHA-256."
        if self.verified == "card":
            text = "Undamaged: the files match the SHA-256 in the model's own card, but its origin is not verified"
        else:
            text = "Not verified: neither a SHA-256 nor a card with hashes was given"
        return f"{text}. SHA-256 of the file: {self.sha256}" if self.sha256 else f"{text}."


class _WrongContent(ModelError):
    """The downloaded content is wrong and must be deleted."""


def is_address(source: str | Path) -> bool:
    """Whether a source is a URL rather than a path."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def install_from(
    source: str | Path,
    name: str | None = None,
    label_map: LabelMap | None = None,
    overwrite: bool = False,
    sha256: str | None = None,
    rules: Rules | None = None,
    reporter: Reporter | None = None,
) -> Installed:
    """Install a model from a URL, a zip file or a folder into the user's model folder.

    Args:
        source: ``https://.../model.zip``, optionally followed by ``#sha256=...``; or a path.
        name, label_map, overwrite: as for :func:`~heartseg.models.install.install_model`.
        sha256: expected hash of the file, hex.
        rules: limits of a download.
        reporter: progress (stage ``download`` counts bytes) and cancellation.

    Raises:
        ModelError: the URL, the file or the model is refused.
        OutputError: the disk is full, or the model folder cannot be written.
        Cancelled: the reporter's token was set; the download resumes the next time.
    """
    reporter = reporter or Reporter()
    if is_address(source):
        address, expected = _split(str(source), sha256)
        file = download(address, expected, rules, reporter)
        try:
            model = install_model(file, name, label_map, overwrite, reporter=reporter)
            digest = expected or _hash(file, reporter)  # an expected hash was verified by the download
            return Installed(model, digest, _verification(digest, expected, model))
        finally:
            if not reporter.cancel.cancelled:  # after a cancel while unpacking, the complete file is kept
                shutil.rmtree(file.parent, ignore_errors=True)
                with contextlib.suppress(OSError):
                    file.parent.parent.rmdir()
    path = Path(source).expanduser()
    digest, expected = "", _checked_hash(sha256)
    if path.is_file():
        digest = _hash(path, reporter)
        _compare(digest, expected, str(path))
    elif expected:
        raise ModelError(_("'{path}' is not a file: use a SHA-256 with .zip files only").format(path=path))
    model = install_model(path, name, label_map, overwrite, reporter=reporter)
    return Installed(model, digest, _verification(digest, expected, model))


def download(
    url: str,
    sha256: str | None = None,
    rules: Rules | None = None,
    reporter: Reporter | None = None,
    store: str | Path | None = None,
) -> Path:
    """Download a zip file into the hidden download folder, resuming an earlier download.

    Args:
        url: https URL; http only for this machine, or where the rules allow it.
        sha256: expected hash of the file, hex.
        rules: limits.
        reporter: progress (stage ``download``, bytes) and cancellation.
        store: model folder to use instead of the user's.

    Returns:
        The file, alone in a folder that the caller deletes after use.

    Raises:
        ModelError: the file was not found, is not a zip file, has the wrong hash or is too large; the URL or a redirect
            is unsafe; or there is no connection.
        OutputError: there is too little space, or the folder cannot be written.
        Cancelled: the token was set; the partial file is kept.
    """
    rules, reporter = rules or Rules(), reporter or Reporter()
    url, expected = _split(url, sha256)
    check_address(url, rules.allow_http)
    root = (Path(store).expanduser() if store is not None else user_folder()) / FOLDER
    folder = root / hashlib.sha256(url.encode()).hexdigest()[:16]
    with writing(root, elsewhere=ELSEWHERE):
        _delete_old(root)
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, url):
            file = folder / _file_name(url)
            try:
                if not file.is_file():
                    _transfer(url, folder, expected is not None, rules, reporter)
                    _check_zip(folder, url)
                    (folder / _PART).replace(file)
                if expected is not None:
                    _compare(_hash(file, reporter), expected, shown(url))
            except _WrongContent as error:
                for name in (file.name, _PART, _STATE):
                    (folder / name).unlink(missing_ok=True)
                raise ModelError(str(error)) from None
            (folder / _STATE).unlink(missing_ok=True)
    return file


def forget(url: str, store: str | Path | None = None) -> bool:
    """Delete an unfinished download; return whether there was one."""
    root = (Path(store).expanduser() if store is not None else user_folder()) / FOLDER
    folder = root / hashlib.sha256(urldefrag(url).url.encode()).hexdigest()[:16]
    existed = folder.is_dir()
    shutil.rmtree(folder, ignore_errors=True)
    return existed


# --- the transfer -----------------------------------------------------------------------------------------------------


@dataclass
class _State:
    """Version of the file that the partial download belongs to; stored next to it."""

    validator: str = ""
    total: int | None = None

    @classmethod
    def read(cls, folder: Path) -> _State:
        try:
            content = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            total = content["total"]
            return cls(str(content["validator"]), int(total) if total is not None else None)
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def write(self, folder: Path) -> None:
        (folder / _STATE).write_text(json.dumps(asdict(self)), encoding="utf-8")


def _transfer(url: str, folder: Path, has_hash: bool, rules: Rules, reporter: Reporter) -> None:
    """Connect until the partial file is complete."""
    failures, pause, largest = 0, rules.pause_s, _size(folder / _PART)
    while True:
        try:
            return _connect_once(url, folder, has_hash, rules, reporter)
        except (TransferBroken, NotServed) as error:
            arrived = _size(folder / _PART)
            progressed = (
                arrived > largest
            )  # compared with the maximum, so that a faulty server cannot cause endless retries
            failures, pause = (1, rules.pause_s) if progressed else (failures + 1, pause)
            largest = max(largest, arrived)
            retry = error.retry if isinstance(error, NotServed) else True
            if not retry or failures >= rules.attempts:
                raise _failed(error, url, arrived, _State.read(folder).total) from None
            reporter.announce(f"{error}: next attempt in {pause:.0f} s")
            reporter.cancel.wait(pause)
            reporter.check()
            pause = min(2 * pause, 30.0)


def _connect_once(url: str, folder: Path, has_hash: bool, rules: Rules, reporter: Reporter) -> None:
    """Make one connection: resume the partial file, or start over if the file on the server has changed."""
    state, part = _State.read(folder), folder / _PART
    have = _size(part)
    if have and state.total == have:
        return
    headers = {"User-Agent": "HeartSeg", "Accept-Encoding": "identity", "Accept": "application/zip, */*;q=0.5"}
    if have and (state.validator or has_hash):
        headers["Range"] = f"bytes={have}-"
        if state.validator:
            headers["If-Range"] = state.validator
    try:
        with Fetch(url, headers, rules.timeout_s, reporter.cancel, rules.allow_http) as fetch:
            head = fetch.head()
            start = have if _continues(head, state, have) else 0
            if head.status == 206 and start != have:
                part.unlink(missing_ok=True)  # a different version: the next connection requests the whole file
                raise TransferBroken("the file on the server has changed, the download starts over")
            _receive(fetch, head, url, folder, start, rules, reporter)
    except NotServed as error:
        if error.status != 416 or not have:
            raise
        part.unlink(missing_ok=True)  # the partial file is longer than the file on the server
        raise TransferBroken("the file on the server has changed, the download starts over") from None


def _continues(head: Head, state: _State, have: int) -> bool:
    """Whether the response continues the partial file: same version, size and offset."""
    span = head.range
    if not have or head.status != 206 or span is None or span[0] != have:
        return False
    same_version = not state.validator or head.validator in ("", state.validator)
    same_size = state.total is None or span[1] in (None, state.total)
    return same_version and same_size


def _receive(fetch: Fetch, head: Head, url: str, folder: Path, start: int, rules: Rules, reporter: Reporter) -> None:
    """Write the response to the partial file, from byte ``start`` on."""
    if head.is_web_page:
        raise _not_a_zip(url, folder)
    total = head.range[1] if start and head.range else None
    if total is None and head.length is not None:
        total = start + head.length
    _check_size(total or 0, url, rules)
    _check_space(folder, 0 if total is None else 3 * total - start)  # archive, unpacked files and installed copy
    pieces = fetch.chunks()
    piece = next(pieces, b"")
    if not start and not piece.startswith(tuple(magic[: len(piece)] for magic in _ZIP_STARTS)):
        raise _not_a_zip(url, folder)
    _State(head.validator, total).write(folder)
    done = start
    with (folder / _PART).open("r+b" if start else "wb") as sink, reporter.stage("download", total or 1):
        sink.seek(start)
        while piece:
            sink.write(piece)
            before, done = done, done + len(piece)
            _check_size(done, url, rules)
            if before // _FREE_EVERY != done // _FREE_EVERY:
                _check_space(folder, 0)
            reporter.advance(done if total else 0)
            piece = next(pieces, b"")
        if total is not None and done < total:
            raise TransferBroken(f"the server stopped after {done / _MB:.1f} of {total / _MB:.1f} MB")
    _State(head.validator, done).write(folder)


# --- checks -----------------------------------------------------------------------------------------------------------


def _check_size(size: int, url: str, rules: Rules) -> None:
    if size > rules.max_bytes:
        raise _WrongContent(
            f"'{shown(url)}' is refused because it is larger than {rules.max_bytes / 2**30:.3g} GiB: "
            "check that the URL points to a model"
        )


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free - needed < RESERVE:
        raise OutputError(
            _(
                "'{parent}' has {free:.0f} MB of free space, but {need:.0f} MB are needed: free some space, or "
                "{elsewhere}"
            ).format(parent=folder.parent.parent, free=free / _MB, need=(needed + RESERVE) / _MB, elsewhere=ELSEWHERE)
        )


def _check_zip(folder: Path, url: str) -> None:
    """Check the first bytes only; the archive is checked when it is unpacked."""
    with (folder / _PART).open("rb") as stream:
        if stream.read(4) not in _ZIP_STARTS:
            raise _not_a_zip(url, folder)


def _not_a_zip(url: str, folder: Path) -> ModelError:
    """Return the error; the partial file of an earlier connection is kept when the network shows a sign-in page."""
    text = (
        f"'{shown(url)}' returns a web page or other content instead of a zip file: open it in a browser (it may be "
        "the sign-in page of your network or a page about the model), download the file there and install it"
    )
    with contextlib.suppress(OSError), (folder / _PART).open("rb") as stream:
        if stream.read(4) in _ZIP_STARTS:
            return ModelError(text)
    return _WrongContent(text)


def _failed(error: TransferBroken | NotServed, url: str, arrived: int, total: int | None) -> ModelError:
    if isinstance(error, NotServed):
        if 300 <= error.status < 400:
            return ModelError(
                _("'{url}' redirects to an address that is not https ({error}): use another URL").format(
                    url=shown(url), error=error
                )
            )
        advice = {
            401: "sign in and download the file with a browser, then install the file",
            403: "sign in and download the file with a browser, then install the file",
            404: "check the URL",
            407: "set HTTPS_PROXY to http://USER:PASSWORD@HOST for the proxy",
            410: "the file was removed; look for a newer URL",
        }
        what_to_do = advice.get(error.status, "try again later")
        return ModelError(
            _("'{url}' cannot be downloaded ({error}): {advice}").format(url=shown(url), error=error, advice=what_to_do)
        )
    of = f" of {total / _MB:.1f}" if total else ""
    kept = f"run the same command to resume after {arrived / _MB:.1f}{of} MB" if arrived else "try again later"
    return ModelError(
        _("'{url}' cannot be downloaded ({error}): {kept}").format(url=shown(url), error=error, kept=kept)
    )


def _split(url: str, sha256: str | None) -> tuple[str, str | None]:
    """Return the URL without its fragment, and the expected hash from the fragment or the argument."""
    plain, fragment = urldefrag(url)
    given = _checked_hash(sha256)
    inside = None
    if fragment:
        key, _sign, value = fragment.partition("=")
        inside = _checked_hash(value) if key.lower() == "sha256" else None
    if given and inside and given != inside:
        raise ModelError(_("two different SHA-256 are given for '{url}': omit the wrong one").format(url=shown(plain)))
    return plain, given or inside


def _checked_hash(text: str | None) -> str | None:
    if text is None:
        return None
    plain = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ModelError(_("SHA-256 '{text:.80}' is not valid: give 64 hexadecimal digits").format(text=text))
    return plain


def _compare(digest: str, expected: str | None, what: str) -> None:
    if expected is not None and digest != expected:
        raise _WrongContent(
            f"'{what}' has SHA-256 {digest[:16]}..., but {expected[:16]}... is expected: it was not installed; "
            "download it again from its publisher"
        )


def _verification(digest: str, expected: str | None, model: ModelFolder) -> str:
    if expected is not None and digest == expected:
        return "sha256"
    return "card" if model.card is not None and HASHED_HERE not in model.card.extra else ""


def _hash(file: Path, reporter: Reporter) -> str:
    with reporter.stage("verify", file.stat().st_size):
        done = 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            reporter.advance(done)

        return sha256_of(file, tick=tick)


# --- the folder -------------------------------------------------------------------------------------------------------


def _file_name(url: str) -> str:
    """Safe file name from the URL; a model without a card is named after it."""
    plain = re.sub(r"[^\w.+-]+", "-", PurePosixPath(unquote(urlsplit(url).path)).name).strip("-. ")
    stem = plain[:-4] if plain.lower().endswith(".zip") else plain
    return f"{stem[:80] or 'model'}.zip"


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _delete_old(root: Path) -> None:
    for left in root.iterdir() if root.is_dir() else ():
        newest = max((p.stat().st_mtime for p in (left, *left.glob("*"))), default=0.0)
        if time.time() - newest > _OLD_S:
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _alone(folder: Path, url: str) -> Iterator[None]:
    """Refuse a concurrent download of the same URL, which would write the same file."""
    lock = folder / "lock"
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        if _is_running(lock):
            raise ModelError(
                _("'{url}' is already being downloaded: wait for that download or stop it").format(url=shown(url))
            ) from None
        lock.unlink(missing_ok=True)
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    try:
        os.write(handle, str(os.getpid()).encode())
        os.close(handle)
        yield
    finally:
        lock.unlink(missing_ok=True)
        if _size(folder / _PART) == 0:
            (folder / _PART).unlink(missing_ok=True)
            (folder / _STATE).unlink(missing_ok=True)
        for empty in (folder, folder.parent):
            with contextlib.suppress(OSError):
                empty.rmdir()


def _is_running(lock: Path) -> bool:
    """Whether the process that wrote the lock is alive; if unknown, whether the lock is less than an hour old."""
    try:
        pid = int(lock.read_text() or 0)
        if os.name == "posix" and pid:
            os.kill(pid, 0)
            return True
        return time.time() - lock.stat().st_mtime < 3600
    except ProcessLookupError:
        return False
    except (OSError, ValueError):
        return True


def facts_of(installed: Installed) -> Mapping[str, Any]:
    """JSON-serializable facts about the verification of an installation."""
    return {"sha256": installed.sha256, "verified": installed.verified or None, "note": installed.note}
