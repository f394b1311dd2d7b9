"""One HTTP request that can be cancelled at any moment: name look-up, connection, waiting and reading.

Standard library only. The request runs on a thread of its own that hands over what arrives; who asked for it waits on a
queue and never on a socket, so that a cancel takes effect at once also while a server hangs. ``urllib`` respects the
machine's proxies (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``, and the system's settings on Windows and macOS).
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import queue
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..errors import ModelError
from ..progress import CancelToken

CHUNK = 1 << 18
MAX_REDIRECTS = 5
_WAITING_CHUNKS = 16  # 4 MiB that may wait to be written
_LOOK_S = 0.1  # how often a waiting caller looks whether it was cancelled
_SCHEMES = ("https", "http")


class TransferBroken(Exception):
    """The connection failed in a way that trying again may mend; the message is a phrase for people."""


class NotServed(Exception):
    """The server answered with an error status.

    Attributes:
        status: HTTP status.
        retry: whether trying again may help (408, 429, 5xx).
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status
        self.retry = status in (408, 429) or status >= 500


@dataclass(frozen=True)
class Head:
    """What a server says before the content.

    Attributes:
        status: 200 (from the start) or 206 (from the offset that was asked for).
        url: final address, after redirects.
        headers: names in lower case.
    """

    status: int
    url: str
    headers: Mapping[str, str]

    @property
    def validator(self) -> str:
        """What identifies this very version of the file: a strong ETag, else Last-Modified, else ``""`` (RFC 9110)."""
        etag = self.headers.get("etag", "")
        return etag if etag.startswith('"') else self.headers.get("last-modified", "")

    @property
    def range(self) -> tuple[int, int | None] | None:
        """First byte and total size of a 206 answer (``Content-Range: bytes 5-9/10``); ``None`` without a valid one."""
        unit, _, rest = self.headers.get("content-range", "").partition(" ")
        span, _, total = rest.partition("/")
        start = span.partition("-")[0]
        if unit.lower() != "bytes" or not start.isdecimal():
            return None
        return int(start), int(total) if total.isdecimal() else None

    @property
    def length(self) -> int | None:
        """Bytes that follow, where the server says so."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() else None

    @property
    def is_web_page(self) -> bool:
        """Whether the content is HTML: a sign-in page of the network, or a page about the file."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() in (
            "text/html",
            "application/xhtml+xml",
        )


def shown(url: str) -> str:
    """An address for people and logs: without user name, password, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


def check_address(url: str, allow_http: bool = False) -> str:
    """The address itself if it may be fetched.

    Raises:
        ModelError: not https (http is taken from this machine itself, or where it was allowed), no host, or with a
            password in it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ModelError(f"address '{url:.200}' is none ({error}): give https://...") from None
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise ModelError(f"address '{shown(url):.200}' holds blanks or control characters: copy it again")
    if parts.scheme.lower() not in _SCHEMES or not host:
        raise ModelError(f"address '{shown(url):.200}' cannot be fetched: give one that begins with https://")
    if parts.username is not None or parts.password is not None:
        raise ModelError(
            f"address of '{host}' holds a user name or password: download the file with a browser and install the file"
        )
    if parts.scheme.lower() == "http" and not allow_http and not is_loopback(host):
        raise ModelError(
            f"'{shown(url):.200}' is not encrypted (http): anybody on the way can exchange the model; use "
            "https, or --allow-http if you trust the whole network"
        )
    return url


def is_loopback(host: str) -> bool:
    """Whether a host name or number means this machine itself."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    """At most :data:`MAX_REDIRECTS`, never from https to http, and only to what could have been asked for directly."""

    max_redirections = max_repeats = 10 * MAX_REDIRECTS  # urllib's own limits: ours comes first, with a better line

    def __init__(self, allow_http: bool) -> None:
        self.allow_http, self.count = allow_http, 0

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.count += 1
        if self.count > MAX_REDIRECTS:
            raise ModelError(
                f"'{shown(req.full_url)}' leads through more than {MAX_REDIRECTS} redirects: use the final address"
            )
        if req.full_url.lower().startswith("https:") and not newurl.lower().startswith("https:"):
            raise ModelError(
                f"'{shown(req.full_url)}' redirects from https to '{shown(newurl)}' and is refused: use another address"
            )
        check_address(newurl, self.allow_http)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(allow_http: bool) -> urllib.request.OpenerDirector:
    """An opener for https and http alone (``build_opener`` would also open files and FTP)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        _Redirects(allow_http),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class Fetch:
    """A GET request under way; a context manager that ends it.

    Args:
        url: address, see :func:`check_address`.
        headers: of the request.
        timeout_s: how long the server may be silent.
        cancel: checked several times a second while waiting.
        allow_http: also fetch unencrypted from other machines.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], timeout_s: float, cancel: CancelToken, allow_http: bool = False
    ) -> None:
        self._cancel = cancel
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(_WAITING_CHUNKS)
        self._stopped = threading.Event()
        self._response: http.client.HTTPResponse | None = None
        request = urllib.request.Request(check_address(url, allow_http), headers=dict(headers))
        arguments = (request, timeout_s, _opener(allow_http))
        threading.Thread(target=self._run, args=arguments, name="heartseg-download", daemon=True).start()

    def __enter__(self) -> Fetch:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go: the thread ends at its next piece, or when its socket gives up; nobody waits for it."""
        self._stopped.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def head(self) -> Head:
        """The answer's head.

        Raises:
            Cancelled: the token was set.
            NotServed: the server said no.
            TransferBroken: no connection, or a silent server.
            ModelError: trying again will not help: unknown host, broken certificate, refused redirect.
        """
        return self._next("head")

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces; raises as :meth:`head`."""
        while piece := self._next("data"):
            yield piece

    def _next(self, expected: str) -> Any:
        while True:
            self._cancel.check()
            try:
                kind, value = self._queue.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if kind == "error":
                raise value
            assert kind == expected
            return value

    def _put(self, kind: str, value: Any) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put((kind, value), timeout=_LOOK_S)
                return

    def _run(self, request: urllib.request.Request, timeout_s: float, opener: urllib.request.OpenerDirector) -> None:
        try:
            with opener.open(request, timeout=timeout_s) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                self._put("head", Head(response.status, response.url, headers))
                while not self._stopped.is_set():
                    piece = response.read1(CHUNK)
                    self._put("data", piece)
                    if not piece:
                        return
        except BaseException as error:  # handed over: it is raised where the content is waited for
            self._put("error", _explained(error, request.full_url, timeout_s))


def _explained(error: BaseException, url: str, timeout_s: float) -> BaseException:
    """An error of urllib, http.client, ssl or socket as what the user can do about it."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return NotServed(error.code, error.reason if isinstance(error.reason, str) else "")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    host = urlsplit(url).hostname
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ModelError(
            f"the certificate of '{host}' cannot be verified ({reason.verify_message}): behind a proxy "
            "that opens encrypted traffic, set SSL_CERT_FILE to its certificate; otherwise do not use "
            "this address"
        )
    if isinstance(reason, ssl.SSLError):
        return ModelError(
            f"no encrypted connection to '{host}' ({reason.reason or reason}): check the address, and "
            "whether a proxy is needed (HTTPS_PROXY)"
        )
    if isinstance(reason, socket.gaierror):
        return ModelError(
            f"host '{host}' is not found: check the address and the network, and whether a proxy is "
            "needed (HTTPS_PROXY)"
        )
    if isinstance(reason, ConnectionRefusedError):
        return ModelError(f"'{host}' refuses the connection: check the address, and the proxy if one is set")
    if isinstance(reason, TimeoutError):
        return TransferBroken(f"'{host}' was silent for {timeout_s:g} s")
    if isinstance(reason, http.client.IncompleteRead | ConnectionError | http.client.HTTPException):
        return TransferBroken(f"the connection to '{host}' broke ({type(reason).__name__})")
    if isinstance(reason, str):
        return TransferBroken(f"no connection to '{host}' ({reason})")
    if isinstance(reason, OSError):  # among them "Tunnel connection failed: 407" of a proxy
        if "407" in str(reason):
            return ModelError(
                "the proxy wants a user name and password: set HTTPS_PROXY to http://USER:PASSWORD@HOST, "
                "or download with a browser and install the file"
            )
        return TransferBroken(f"no connection to '{host}' ({reason.strerror or reason})")
    return error
