"""A local web server that serves one file and can simulate failures."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """Behaviour of the server, which tests can change while it runs.

    Attributes:
        content: bytes of the file.
        etag, last_modified: validators; not sent if empty.
        ranges: whether Range requests are answered with 206.
        respects_if_range: whether a Range with an outdated If-Range is answered with the whole file, as required.
        cut_after: number of bytes after which each connection is closed; later connections are complete.
        announced: false Content-Length (``0``: send none and close at the end).
        statuses: error statuses of the next requests.
        content_type: content type of the response.
        redirect: path -> URL.
        hang_at: number of bytes after which the connection hangs (-1: before the response).
        requests: headers of all requests, names in lower case, with ``path``.
    """

    content: bytes = b""
    etag: str = '"one"'
    last_modified: str = ""
    ranges: bool = True
    respects_if_range: bool = True
    cut_after: list[int] = field(default_factory=list)
    announced: int | None = None
    statuses: list[int] = field(default_factory=list)
    content_type: str = "application/zip"
    redirect: dict[str, str] = field(default_factory=dict)
    hang_at: int | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    address: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.address}/models/Heart%20One.zip"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.site
        site.requests.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        self.close_connection = True
        if site.hang_at == -1:
            site.released.wait(30)
            return
        if self.path in site.redirect:
            self.send_response(302)
            self.send_header("Location", site.redirect[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        self._serve(site)

    def _serve(self, site: Site) -> None:
        start = self._start(site)
        if start is not None and start >= len(site.content):
            self.send_error(416)
            return
        body = site.content[start or 0 :]
        self.send_response(200 if start is None else 206)
        self.send_header("Content-Type", site.content_type)
        if site.etag:
            self.send_header("ETag", site.etag)
        if site.last_modified:
            self.send_header("Last-Modified", site.last_modified)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        length = len(body) if site.announced is None else site.announced
        if length:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self._send(body, site)

    def _start(self, site: Site) -> int | None:
        wanted = self.headers.get("Range")
        if not site.ranges or wanted is None:
            return None
        condition = self.headers.get("If-Range")
        outdated = condition is not None and condition not in (site.etag, site.last_modified)
        if outdated and site.respects_if_range:
            return None
        return int(wanted.removeprefix("bytes=").partition("-")[0])

    def _send(self, body: bytes, site: Site) -> None:
        if site.cut_after:
            self.wfile.write(body[: site.cut_after.pop(0)])
            self.wfile.flush()
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        with contextlib.suppress(OSError):
            if site.hang_at is not None:
                self.wfile.write(body[: site.hang_at])
                self.wfile.flush()
                site.released.wait(30)
                return
            self.wfile.write(body)


@contextlib.contextmanager
def serve(site: Site, certificate: ssl.SSLContext | None = None) -> Iterator[Site]:
    """Serve the site on a free port of 127.0.0.1, over https if a certificate is given."""
    handler = type("Handler", (_Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        if certificate is not None:
            server.socket = certificate.wrap_socket(server.socket, server_side=True)
            # Clients that do not trust the certificate are ignored.
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
        site.address = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            site.released.set()
            server.shutdown()
            thread.join()
