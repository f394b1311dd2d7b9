"""Models from an address: fetched only when the user asked for it, resumed where it stopped, verified, installed.

What arrives lies in a hidden folder of the user's model folder: the content in ``download.part`` and, beside it, a
small ``download.json`` that says which version of the file it is part of (its ETag or date, never the address). A
download that breaks or is cancelled stays there and goes on the next time; one that is wrong is deleted.
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

from ..errors import ModelError, OutputError
from ..progress import Reporter
from .archive import MAX_BYTES
from .card import sha256_of
from .fetch import Fetch, Head, NotServed, TransferBroken, check_address, shown
from .folder import ModelFolder
from .install import HASHED_HERE, install_model
from .labels import LabelMap
from .store import user_folder

FOLDER = ".downloads"
"""Hidden folder of the model folder; the search for models passes over it."""

RESERVE = 256 * 2**20
"""Bytes that stay free on the disk whatever happens."""

_PART, _STATE = "download.part", "download.json"
_FREE_EVERY = 32 * 2**20  # bytes between two looks at the free space
_OLD_S = 14 * 86400.0  # unfinished downloads older than this are deleted at the next one
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_MB = 1e6


@dataclass(frozen=True)
class Rules:
    """How to download.

    Attributes:
        max_bytes: larger files are refused.
        timeout_s: how long the server may be silent.
        attempts: connections in a row that may fail without bringing a byte.
        pause_s: wait before the second attempt; doubled from one to the next, at most 30 s.
        allow_http: also fetch unencrypted from other machines.
    """

    max_bytes: int = MAX_BYTES
    timeout_s: float = 30.0
    attempts: int = 4
    pause_s: float = 1.0
    allow_http: bool = False


@dataclass(frozen=True)
class Installed:
    """A model that was installed, and how sure it is to be the one that was meant.

    Attributes:
        model: the installed model.
        sha256: of the file it came in; ``""`` for a folder.
        verified: ``"sha256"``: the file has the hash that was given; ``"card"``: its files have the hashes of the card
            inside, which tells damage but not exchange; ``""``: nothing to compare with.
    """

    model: ModelFolder
    sha256: str
    verified: str

    @property
    def note(self) -> str:
        """One sentence for the user on what was verified."""
        if self.verified == "sha256":
            return "Verified: the file has the SHA-256 that was given."
        if self.verified == "card":
            said = "Its files have the SHA-256 of its own card: it is undamaged, but who made it is not shown"
        else:
            said = "Not verified: neither a SHA-256 nor a card with hashes came with it"
        return f"{said}. SHA-256 of the file: {self.sha256}" if self.sha256 else f"{said}."


class _Useless(ModelError):
    """What arrived is not what was wanted: nothing of it is worth keeping."""


def is_address(source: str | Path) -> bool:
    """Whether a source is meant as an address rather than a path."""
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
    """Install a model from an address, a zip file or a folder into the user's model folder.

    Args:
        source: ``https://.../model.zip``, with ``#sha256=...`` at its end if the publisher gives it; or a path.
        name, label_map, overwrite: as for :func:`~heartseg.models.install.install_model`.
        sha256: hash of the file, hex.
        rules: limits of a download.
        reporter: progress (stage ``download`` counts bytes) and cancellation.

    Raises:
        ModelError: the address, the file or the model is refused, with the reason.
        OutputError: no space, or the model folder cannot be written.
        Cancelled: the reporter's token was set; a download goes on from there the next time.
    """
    reporter = reporter or Reporter()
    if is_address(source):
        address, expected = _split(str(source), sha256)
        file = download(address, expected, rules, reporter)
        try:
            model = install_model(file, name, label_map, overwrite, reporter=reporter)
            digest = expected or _hash(file, reporter)  # a given hash was compared when the file arrived
            return Installed(model, digest, _how(digest, expected, model))
        finally:
            if not reporter.cancel.cancelled:  # cancelled while unpacking: the file is whole and is kept
                shutil.rmtree(file.parent, ignore_errors=True)
                with contextlib.suppress(OSError):
                    file.parent.parent.rmdir()
    path = Path(source).expanduser()
    digest, expected = "", _checked_hash(sha256)
    if path.is_file():
        digest = _hash(path, reporter)
        _compare(digest, expected, str(path))
    elif expected:
        raise ModelError(f"'{path}' is no file: a SHA-256 can be compared with a .zip file only")
    model = install_model(path, name, label_map, overwrite, reporter=reporter)
    return Installed(model, digest, _how(digest, expected, model))


def download(
    url: str,
    sha256: str | None = None,
    rules: Rules | None = None,
    reporter: Reporter | None = None,
    store: str | Path | None = None,
) -> Path:
    """Fetch a zip file into the hidden folder of the user's model folder, or go on with one that was begun.

    Args:
        url: https address; http for this machine itself, or where the rules allow it.
        sha256: hash that the file must have, hex.
        rules: limits.
        reporter: progress (stage ``download``, bytes) and cancellation.
        store: model folder instead of the user's.

    Returns:
        The file, alone in a folder that the caller deletes when it is done.

    Raises:
        ModelError: not found, not a zip file, wrong hash, too large, unsafe address or redirect, no connection.
        OutputError: too little space, or the folder cannot be written.
        Cancelled: the token was set; what arrived is kept.
    """
    rules, reporter = rules or Rules(), reporter or Reporter()
    url, expected = _split(url, sha256)
    check_address(url, rules.allow_http)
    root = (Path(store).expanduser() if store is not None else user_folder()) / FOLDER
    folder = root / hashlib.sha256(url.encode()).hexdigest()[:16]
    with _writing(root):
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
            except _Useless as error:
                for name in (file.name, _PART, _STATE):
                    (folder / name).unlink(missing_ok=True)
                raise ModelError(str(error)) from None
            (folder / _STATE).unlink(missing_ok=True)
    return file


def forget(url: str, store: str | Path | None = None) -> bool:
    """Delete what an unfinished download left; returns whether there was anything."""
    root = (Path(store).expanduser() if store is not None else user_folder()) / FOLDER
    folder = root / hashlib.sha256(urldefrag(url).url.encode()).hexdigest()[:16]
    there = folder.is_dir()
    shutil.rmtree(folder, ignore_errors=True)
    return there


# --- the transfer -----------------------------------------------------------------------------------------------------


@dataclass
class _State:
    """Which version of a file the part belongs to; written beside it."""

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
    """Connect until the whole content lies in the part file."""
    failures, pause, most = 0, rules.pause_s, _size(folder / _PART)
    while True:
        try:
            return _connect_once(url, folder, has_hash, rules, reporter)
        except (TransferBroken, NotServed) as error:
            arrived = _size(folder / _PART)
            better = arrived > most  # than ever: a server that lies about its file must not keep us for ever
            failures, pause = (1, rules.pause_s) if better else (failures + 1, pause)
            most = max(most, arrived)
            helps = error.retry if isinstance(error, NotServed) else True
            if not helps or failures >= rules.attempts:
                raise _given_up(error, url, arrived, _State.read(folder).total) from None
            reporter.announce(f"{error}: trying again in {pause:.0f} s")
            reporter.cancel.wait(pause)
            reporter.check()
            pause = min(2 * pause, 30.0)


def _connect_once(url: str, folder: Path, has_hash: bool, rules: Rules, reporter: Reporter) -> None:
    """One connection: from where the part file ends, or from the start where the file on the server has changed."""
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
                part.unlink(missing_ok=True)  # another version than ours: the next connection asks for all of it
                raise TransferBroken("the file on the server has changed, it is fetched from the start")
            _receive(fetch, head, url, folder, start, rules, reporter)
    except NotServed as error:
        if error.status != 416 or not have:
            raise
        part.unlink(missing_ok=True)  # our part reaches beyond the server's file
        raise TransferBroken("the file on the server has changed, it is fetched from the start") from None


def _continues(head: Head, state: _State, have: int) -> bool:
    """Whether an answer is the rest of the very file that the part file began."""
    span = head.range
    if not have or head.status != 206 or span is None or span[0] != have:
        return False
    same_version = not state.validator or head.validator in ("", state.validator)
    same_size = state.total is None or span[1] in (None, state.total)
    return same_version and same_size


def _receive(fetch: Fetch, head: Head, url: str, folder: Path, start: int, rules: Rules, reporter: Reporter) -> None:
    """Write what arrives behind the first ``start`` bytes of the part file."""
    if head.is_web_page:
        raise _not_a_zip(url, folder)
    total = head.range[1] if start and head.range else None
    if total is None and head.length is not None:
        total = start + head.length
    _check_size(total or 0, url, rules)
    _check_space(folder, 0 if total is None else 3 * total - start)  # the file, unpacked, and the copy that is kept
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
            raise TransferBroken(f"the server ended at {done / _MB:.1f} of {total / _MB:.1f} MB")
    _State(head.validator, done).write(folder)


# --- checks -----------------------------------------------------------------------------------------------------------


def _check_size(size: int, url: str, rules: Rules) -> None:
    if size > rules.max_bytes:
        raise _Useless(
            f"'{shown(url)}' is larger than {rules.max_bytes / 2**30:.3g} GiB and is refused: "
            "this is not the size of a model"
        )


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free - needed < RESERVE:
        raise OutputError(
            f"{(needed + RESERVE) / _MB:.0f} MB of free space are needed in '{folder.parent.parent}' and "
            f"{free / _MB:.0f} MB are there: make room, or choose another folder with the variable "
            "HEARTSEG_MODELS"
        )


def _check_zip(folder: Path, url: str) -> None:
    """The first bytes decide, and an empty file is none; the whole archive is judged when it is unpacked."""
    with (folder / _PART).open("rb") as stream:
        if stream.read(4) not in _ZIP_STARTS:
            raise _not_a_zip(url, folder)


def _not_a_zip(url: str, folder: Path) -> ModelError:
    """What the user can do about it; a good part file of an earlier connection outlives a sign-in page."""
    text = (
        f"'{shown(url)}' gives no zip file but something else, such as a web page: open it in a browser (a sign-in "
        "page of your network? a page about the model instead of the file?), download there and install the file"
    )
    with contextlib.suppress(OSError), (folder / _PART).open("rb") as stream:
        if stream.read(4) in _ZIP_STARTS:
            return ModelError(text)
    return _Useless(text)


def _given_up(error: TransferBroken | NotServed, url: str, arrived: int, total: int | None) -> ModelError:
    if isinstance(error, NotServed):
        if 300 <= error.status < 400:
            return ModelError(f"'{shown(url)}' leads elsewhere than to https ({error}): use another address")
        ways = {
            401: "the file needs a sign-in: download it with a browser and install the file",
            403: "the file needs a sign-in or is not public: download it with a browser and install the file",
            404: "there is no such file: check the address",
            407: "the proxy wants a user name and password: set HTTPS_PROXY to http://USER:PASSWORD@HOST",
            410: "the file was removed: look for a newer address",
        }
        way = ways.get(error.status, "the server has a problem: try again later")
        return ModelError(f"'{shown(url)}' was not served ({error}): {way}")
    of = f" of {total / _MB:.1f}" if total else ""
    kept = f"{arrived / _MB:.1f}{of} MB are kept; the same command goes on from there" if arrived else "try again later"
    return ModelError(f"'{shown(url)}' could not be fetched ({error}): {kept}")


def _split(url: str, sha256: str | None) -> tuple[str, str | None]:
    """The address without its fragment, and the hash from it or from the argument; they must agree."""
    plain, fragment = urldefrag(url)
    given = _checked_hash(sha256)
    inside = None
    if fragment:
        key, _, value = fragment.partition("=")
        inside = _checked_hash(value) if key.lower() == "sha256" else None
    if given and inside and given != inside:
        raise ModelError(f"two different SHA-256 were given for '{shown(plain)}': leave the wrong one away")
    return plain, given or inside


def _checked_hash(text: str | None) -> str | None:
    if text is None:
        return None
    plain = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ModelError(f"'{text:.80}' is no SHA-256: it has 64 digits from 0-9 and a-f")
    return plain


def _compare(digest: str, expected: str | None, what: str) -> None:
    if expected is not None and digest != expected:
        raise _Useless(
            f"SHA-256 of '{what}' is {digest[:16]}... and not {expected[:16]}... as expected: the file is "
            "damaged or another one; it was not installed, get it again from its publisher"
        )


def _how(digest: str, expected: str | None, model: ModelFolder) -> str:
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

        return sha256_of(file, tick)


# --- the folder -------------------------------------------------------------------------------------------------------


def _file_name(url: str) -> str:
    """Name of the file in the address, made safe; the model is named after it where it has no card."""
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
    """Refuse a second download of the same address at the same time: both would write the same file."""
    lock = folder / "lock"
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        if _is_running(lock):
            raise ModelError(f"'{shown(url)}' is being downloaded already: wait for it, or stop it") from None
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
    """Whether the process that wrote the lock lives; where that cannot be told, whether the lock is fresh."""
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


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write to '{root}' ({os.strerror(error.errno or 0)}): check permissions and free "
            "space, or choose another folder with the variable HEARTSEG_MODELS"
        ) from error


def facts_of(installed: Installed) -> Mapping[str, Any]:
    """JSON-ready facts about an installation's verification."""
    return {"sha256": installed.sha256, "verified": installed.verified or None, "note": installed.note}
