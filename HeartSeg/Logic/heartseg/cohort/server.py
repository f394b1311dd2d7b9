"""A server on the loopback interface for one page and its verdicts: ``heartseg cohort OUT --review``.

It listens on 127.0.0.1 only. Every address begins with a token that only the person who started it knows, so that
neither other users of the machine nor pages of other sites can read results or write verdicts. It serves the page and
the files of the listed cases, and writes nothing but ``review.csv``.
"""

from __future__ import annotations

import json
import mimetypes
import secrets
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import HeartSegError
from .cases import CohortCase
from .page import PAGE_FILE
from .review import VERDICTS, Review, read_reviews, record_review

_MOST_BYTES = 65536
_HOSTS = ("127.0.0.1", "localhost")


class ReviewServer(ThreadingHTTPServer):
    """The server; ``serve_forever`` runs it.

    Args:
        folder: folder of the cohort.
        cases: its cases.
        port: port on 127.0.0.1; 0 chooses one.
    """

    daemon_threads = True

    def __init__(self, folder: Path, cases: tuple[CohortCase, ...], port: int = 0) -> None:
        self.folder = folder
        self.files = {case.name: case.files for case in cases}
        self.token = secrets.token_urlsafe(24)
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing about a browser that closed its connection early; other errors as usual."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self.token}/{PAGE_FILE}"


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer with the page, the reviews or a file of a case."""
        parts = self._parts()
        if parts == ("review",):
            self._reviews()
        elif parts == (PAGE_FILE,):
            self._file(self.server.folder / PAGE_FILE)
        elif parts is not None and len(parts) == 2 and parts[1] in self.server.files.get(parts[0], ()):
            self._file(self.server.folder / parts[0] / parts[1])
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"not found")

    def do_POST(self) -> None:
        """Record a verdict."""
        if self._parts() != ("review",):
            self._answer(HTTPStatus.NOT_FOUND, b"not found")
            return
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 <= length <= _MOST_BYTES:
                raise ValueError(f"{length} bytes")
            name, review = _review_of(json.loads(self.rfile.read(length)), self.server.files)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.close_connection = True  # what is left of the body is not the next request
            self._answer(HTTPStatus.BAD_REQUEST, b"not a verdict on a case of this cohort")
            return
        try:
            with self.server.lock:
                record_review(self.server.folder, name, review)
        except HeartSegError as error:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode())
            return
        self._answer(HTTPStatus.OK, b"saved")

    def _parts(self) -> tuple[str, ...] | None:
        """Return the path after the token; ``None`` without the token, or from another host's page."""
        token, _, rest = self.path.partition("?")[0].removeprefix("/").partition("/")
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in _HOSTS or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            return None
        return tuple(unquote(part) for part in rest.split("/"))

    def _reviews(self) -> None:
        try:
            with self.server.lock:
                found = {name: asdict(review) for name, review in read_reviews(self.server.folder).items()}
        except HeartSegError as error:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode())
            return
        self._answer(HTTPStatus.OK, json.dumps(found).encode(), "application/json")

    def _file(self, path: Path) -> None:
        if not path.resolve().is_relative_to(self.server.folder.resolve()) or not path.is_file():
            self._answer(HTTPStatus.NOT_FOUND, b"not found")
            return
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self._answer(HTTPStatus.OK, path.read_bytes(), f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)

    def _answer(self, status: HTTPStatus, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal shows the address only."""


def _review_of(content: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[str, Review]:
    """Return the case and the review of a request; raises ``ValueError``, ``KeyError`` or ``TypeError``."""
    fields = {key: content[key] for key in ("verdict", "comment", "time", "result")}
    if content["case"] not in known or fields["verdict"] not in VERDICTS:
        raise ValueError("unknown case or verdict")
    if not all(isinstance(value, str) for value in fields.values()):
        raise TypeError("a field is not text")
    return content["case"], Review(**fields)
