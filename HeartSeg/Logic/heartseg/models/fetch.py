"""An HTTP request that can be cancelled at any time: during name resolution, connection, waiting and reading.

Uses the standard library only. The request runs on a separate thread that passes the data through a queue. The caller
waits on the queue rather than on a socket, so a cancel takes effect immediately even if the server hangs. ``urllib``
respects the proxy settings (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``, and the system settings on Windows and
macOS).
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
from ..wording import _

CHUNK = 1 << 18
MAX_REDIRECTS = 5
_WAITING_CHUNKS = 16  # buffer of 4 MiB
_POLL_S = 0.1  # how often a waiting caller checks for cancellation
_SCHEMES = ("https", "http")


class TransferBroken(Exception):
    """The connection failed, and another attempt may succeed; the message is a phrase for the user."""


class NotServed(Exception):
    """The server answered with an error status.

    Attributes:
        status: HTTP status.
        retry: whether another attempt may succeed (408, 429, 5xx).
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status
        self.retry = status in (408, 429) or status >= 500


@dataclass(frozen=True)
class Head:
    """Status and headers of a response.

    Attributes:
        status: 200 (from the start) or 206 (from the requested offset).
        url: final address, after redirects.
        headers: response headers, names in lower case.
    """

    status: int
    url: str
    headers: Mapping[str, str]

    @property
    def validator(self) -> str:
        """Identifier of this version of the file: a strong ETag, else Last-Modified, else ``""`` (RFC 9110)."""
        etag = self.headers.get("etag", "")
        return etag if etag.startswith('"') else self.headers.get("last-modified", "")

    @property
    def range(self) -> tuple[int, int | None] | None:
        """First byte and total size from ``Content-Range: bytes 5-9/10``; ``None`` if missing or invalid."""
        unit, _, rest = self.headers.get("content-range", "").partition(" ")
        span, _, total = rest.partition("/")
        start = span.partition("-")[0]
        if unit.lower() != "bytes" or not start.isdecimal():
            return None
        return int(start), int(total) if total.isdecimal() else None

    @property
    def length(self) -> int | None:
        """Content length in bytes, if the server states it."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() else None

    @property
    def is_web_page(self) -> bool:
        """Whether the content is HTML, e.g. a sign-in page of the network or a page about the file."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() in (
            "text/html",
            "application/xhtml+xml",
        )


def shown(url: str) -> str:
    """A URL for messages and logs, without user name, password, query and fragment, which may contain secrets."""
    parts = urlsplit(url)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


def check_address(url: str, allow_http: bool = False) -> str:
    """Return the URL if it may be downloaded.

    Raises:
        ModelError: the URL is not https (http is accepted for this machine, or with ``allow_http``), has no host, or
            contains a password.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise ModelError(
            _("URL '{url:.200}' is not valid ({error}): give one that begins with https://").format(
                url=url, error=error
            )
        ) from None
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise ModelError(
            _("URL '{url:.200}' contains spaces or control characters: copy it again").format(url=shown(url))
        )
    if parts.scheme.lower() not in _SCHEMES or not host:
        raise ModelError(
            _("URL '{url:.200}' is not supported: give one that begins with https://").format(url=shown(url))
        )
    if parts.username is not None or parts.password is not None:
        raise ModelError(
            _(
                "the URL of '{host}' contains a user name or password: download the file with a browser and install it"
            ).format(host=host)
        )
    if parts.scheme.lower() == "http" and not allow_http and not is_loopback(host):
        raise ModelError(
            _(
                "URL '{url:.200}' is not encrypted (http), so the model could be replaced in transit: use "
                "https, or --allow-http if you trust the network"
            ).format(url=shown(url))
        )
    return url


def is_loopback(host: str) -> bool:
    """Whether a host name or address refers to this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow at most :data:`MAX_REDIRECTS`, never from https to http, and only to URLs that may be downloaded."""

    max_redirections = max_repeats = 10 * MAX_REDIRECTS  # limits of urllib, higher so that ours applies first

    def __init__(self, allow_http: bool) -> None:
        self.allow_http, self.count = allow_http, 0

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.count += 1
        if self.count > MAX_REDIRECTS:
            raise ModelError(
                _("'{url}' has more than {most} redirects: use the final URL").format(
                    url=shown(req.full_url), most=MAX_REDIRECTS
                )
            )
        if req.full_url.lower().startswith("https:") and not newurl.lower().startswith("https:"):
            raise ModelError(
                _("'{url}' redirects to '{target}', which is not https: use another URL").format(
                    url=shown(req.full_url), target=shown(newurl)
                )
            )
        check_address(newurl, self.allow_http)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(allow_http: bool) -> urllib.request.OpenerDirector:
    """Create an opener for https and http only (``build_opener`` would also open files and FTP)."""
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
    """A running GET request; leaving the context ends it.

    Args:
        url: URL, see :func:`check_address`.
        headers: request headers.
        timeout_s: time without data after which the request fails.
        cancel: checked several times per second while waiting.
        allow_http: allow unencrypted downloads from other machines.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], timeout_s: float, cancel: CancelToken, allow_http: bool = False
    ) -> None:
        self._cancel = cancel
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(_WAITING_CHUNKS)
        self._stopped = threading.Event()
        request = urllib.request.Request(check_address(url, allow_http), headers=dict(headers))
        arguments = (request, timeout_s, _opener(allow_http))
        threading.Thread(target=self._run, args=arguments, name="heartseg-download", daemon=True).start()

    def __enter__(self) -> Fetch:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop without waiting: the thread ends at its next chunk or at the timeout of its socket."""
        self._stopped.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def head(self) -> Head:
        """Wait for status and headers.

        Raises:
            Cancelled: the token was set.
            NotServed: the server answered with an error status.
            TransferBroken: the connection failed or timed out.
            ModelError: a permanent failure: unknown host, invalid certificate, refused redirect.
        """
        return self._next("head")

    def chunks(self) -> Iterator[bytes]:
        """Iterate over the content in chunks; raises as :meth:`head`."""
        while piece := self._next("data"):
            yield piece

    def _next(self, expected: str) -> Any:
        while True:
            self._cancel.check()
            try:
                kind, value = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if kind == "error":
                raise value
            assert kind == expected
            return value

    def _put(self, kind: str, value: Any) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put((kind, value), timeout=_POLL_S)
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
        except BaseException as error:  # raised in the waiting thread
            self._put("error", _explained(error, request.full_url, timeout_s))


def _explained(error: BaseException, url: str, timeout_s: float) -> BaseException:
    """Translate an error of urllib, http.client, ssl or socket into one that tells the user what to do."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return NotServed(error.code, error.reason if isinstance(error.reason, str) else "")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    host = urlsplit(url).hostname
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ModelError(
            _(
                "the certificate of '{host}' cannot be verified ({reason}): behind a proxy that "
                "decrypts traffic, set SSL_CERT_FILE to its certificate; otherwise do not use this URL"
            ).format(host=host, reason=reason.verify_message)
        )
    if isinstance(reason, ssl.SSLError):
        return ModelError(
            _(
                "no encrypted connection to '{host}' ({reason}): check the URL, and whether a proxy is "
                "needed (HTTPS_PROXY)"
            ).format(host=host, reason=reason.reason or reason)
        )
    if isinstance(reason, socket.gaierror):
        return ModelError(
            _(
                "host '{host}' was not found: check the URL and the network, and whether a proxy is needed "
                "(HTTPS_PROXY)"
            ).format(host=host)
        )
    if isinstance(reason, ConnectionRefusedError):
        return ModelError(
            _("'{host}' refuses the connection: check the URL, and the proxy if one is set").format(host=host)
        )
    if isinstance(reason, TimeoutError):
        return TransferBroken(f"'{host}' sent no data for {timeout_s:g} s")
    if isinstance(reason, http.client.IncompleteRead | ConnectionError | http.client.HTTPException):
        return TransferBroken(f"the connection to '{host}' was lost ({type(reason).__name__})")
    if isinstance(reason, str):
        return TransferBroken(f"no connection to '{host}' ({reason})")
    if isinstance(reason, OSError):  # includes "Tunnel connection failed: 407" from a proxy
        if "407" in str(reason):
            return ModelError(
                _(
                    "the proxy requires a user name and password: set HTTPS_PROXY to http://USER:PASSWORD@HOST, "
                    "or download the file with a browser and install it"
                )
            )
        return TransferBroken(f"no connection to '{host}' ({reason.strerror or reason})")
    return error
