"""Downloading models from a local web server that fails, sends wrong headers and changes its content."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heartseg.errors import Cancelled, ModelError, OutputError
from heartseg.models import download as downloading
from heartseg.models.download import FOLDER, Rules, download, forget, install_from
from heartseg.models.fetch import check_address, shown
from heartseg.progress import CancelToken, ProgressEvent, Reporter
from tiny_models import add_to_zip, zip_folder
from web_sites import Site, serve

QUICK = Rules(timeout_s=10, attempts=3, pause_s=0.01)  # generous timeout for a busy machine
QUICK_HTTP = replace(QUICK, allow_http=True)


@pytest.fixture(scope="session")
def zipped(_carded: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A zip file of a model with a card, larger than one chunk of a download."""
    archive = zip_folder(_carded, tmp_path_factory.mktemp("zip") / "m.zip", "some/where/")
    add_to_zip(archive, "some/where/README.md", bytes(range(256)) * 4000)
    return archive.read_bytes()


@pytest.fixture
def site(zipped: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve(Site(zipped)) as running:
        yield running


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def left(user_models: Path) -> list[str]:
    """Names of the files in the hidden download folder."""
    hidden = user_models / FOLDER
    return sorted(p.name for p in hidden.rglob("*") if p.is_file())


def fetched(site: Site, **choices: Any) -> bytes:
    return download(site.url, rules=QUICK, **choices).read_bytes()


def test_a_model_is_installed_from_a_url_without_leftover_files(site: Site, zipped: bytes, user_models: Path) -> None:
    installed = install_from(site.url, sha256=sha256(zipped).upper(), rules=QUICK)
    assert installed.model.path == user_models / "Tiny"
    assert (installed.verified, installed.sha256) == ("sha256", sha256(zipped))
    assert [p.name for p in user_models.iterdir()] == ["Tiny"]


def test_the_hash_can_be_part_of_the_url(site: Site, zipped: bytes) -> None:
    assert install_from(f"{site.url}#sha256={sha256(zipped)}", rules=QUICK).verified == "sha256"
    assert "#" not in site.requests[0]["path"]


def test_two_different_hashes_are_refused_before_the_download(site: Site) -> None:
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1"):
        install_from(f"{site.url}#sha256={'0' * 64}", sha256="1" * 64, rules=QUICK)
    assert not site.requests


def test_a_wrong_hash_leaves_no_model_and_no_files(site: Site, user_models: Path) -> None:
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1.* 0{16}\.\.\."):
        install_from(site.url, sha256="0" * 64, rules=QUICK)
    assert not list(user_models.iterdir())


def test_without_a_hash_the_files_are_verified_against_the_card(site: Site, zipped: bytes) -> None:
    installed = install_from(site.url, rules=QUICK)
    assert installed.verified == "card"
    assert sha256(zipped) in installed.note


def test_without_hash_and_card_the_model_is_not_verified(site: Site, cardless: Path, tmp_path: Path) -> None:
    site.content = zip_folder(cardless, tmp_path / "m.zip").read_bytes()
    installed = install_from(site.url, label_map={1: "LV"}, rules=QUICK)
    assert installed.verified == ""
    assert installed.model.path.name == "Heart-One"


def test_the_hash_of_a_local_file_is_verified(tmp_path: Path, zipped: bytes, user_models: Path) -> None:
    file = tmp_path / "m.zip"
    file.write_bytes(zipped)
    with pytest.raises(ModelError, match=r"m\.zip.* 0{16}\.\.\."):
        install_from(file, sha256="0" * 64)
    assert file.read_bytes() == zipped
    assert install_from(file, sha256=sha256(zipped)).verified == "sha256"


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 64, "0" * 65])
def test_an_invalid_sha256_is_refused(site: Site, wrong: str) -> None:
    with pytest.raises(ModelError, match=f"'{wrong}'"):
        install_from(site.url, sha256=wrong, rules=QUICK)
    assert not site.requests


def test_an_interrupted_connection_is_resumed(site: Site, zipped: bytes) -> None:
    site.cut_after = [70_000, 400_000]
    said: list[str] = []
    content = fetched(site, reporter=Reporter(lambda event: said.append(event.message)))
    assert content == zipped
    assert [r.get("range") for r in site.requests] == [None, "bytes=70000-", "bytes=470000-"]
    assert [r.get("if-range") for r in site.requests] == [None, '"one"', '"one"']
    sizes = [match[1] for text in said if (match := re.search(r"(\S+) of 1\.\d MB", text))]
    assert sizes == ["0.1", "0.5"]


def test_a_download_is_resumed_in_the_next_session(site: Site, zipped: bytes, user_models: Path) -> None:
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError, match=r"0\.3 of 1\.\d MB"):
        fetched(site)
    assert left(user_models) == ["download.json", "download.part"]
    state = next((user_models / FOLDER).rglob("download.json")).read_text()
    assert json.loads(state) == {"validator": '"one"', "total": len(zipped)}
    site.requests.clear()
    site.cut_after = []
    assert fetched(site) == zipped
    assert [r["range"] for r in site.requests] == ["bytes=300000-"]


def test_progress_of_a_resumed_download_starts_at_the_resumed_byte(site: Site, zipped: bytes) -> None:
    site.cut_after = [300_000]
    seen: list[tuple[int, int]] = []
    fetched(site, reporter=Reporter(lambda e: seen.append((e.done, e.total)) if e.stage == "download" else None))
    assert {total for _, total in seen} == {len(zipped)}
    assert seen[-1][0] == len(zipped)
    assert (300_000, len(zipped)) in seen


@pytest.mark.parametrize("respects", [True, False])
def test_the_download_of_a_changed_file_starts_over(site: Site, zipped: bytes, respects: bool) -> None:
    """Even if the server ignores If-Range and sends the rest of the new file."""
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError):
        fetched(site)
    site.content, site.etag, site.respects_if_range, site.cut_after = zipped + b"new", '"two"', respects, []
    assert fetched(site) == zipped + b"new"


def test_the_download_of_a_shortened_file_starts_over(site: Site, zipped: bytes) -> None:
    site.cut_after = [600_000, 0, 0, 0]
    with pytest.raises(ModelError):
        fetched(site)
    site.content, site.respects_if_range, site.cut_after = zipped[:500_000], False, []
    assert fetched(site) == zipped[:500_000]


def test_without_a_validator_a_download_is_resumed_only_with_a_hash(site: Site, zipped: bytes) -> None:
    site.etag, site.cut_after = "", [300_000]
    assert fetched(site) == zipped
    assert [r.get("range") for r in site.requests] == [None, None]
    shutil.rmtree(download(site.url, rules=QUICK).parent)
    site.requests.clear()
    site.cut_after = [300_000]
    assert fetched(site, sha256=sha256(zipped)) == zipped
    assert [r.get("range") for r in site.requests] == [None, "bytes=300000-"]


def test_a_date_but_not_a_weak_etag_allows_resuming(site: Site, zipped: bytes) -> None:
    site.etag, site.cut_after = 'W/"one"', [300_000]
    site.last_modified = "Tue, 01 Sep 2026 10:00:00 GMT"
    assert fetched(site) == zipped
    assert site.requests[1]["if-range"] == site.last_modified


def test_the_download_starts_over_if_the_server_has_no_ranges(site: Site, zipped: bytes) -> None:
    site.ranges, site.cut_after = False, [300_000]
    assert fetched(site) == zipped


def test_a_content_length_that_is_too_large_is_detected(site: Site, zipped: bytes) -> None:
    site.announced = len(zipped) + 1000
    with pytest.raises(ModelError, match=r"1\.\d of 1\.\d MB"):
        fetched(site)


def test_a_content_length_that_is_too_small_is_detected(site: Site, zipped: bytes, user_models: Path) -> None:
    site.announced = 400_000
    with pytest.raises(ModelError, match=r"\.zip"):
        install_from(site.url, rules=QUICK)
    assert not list(user_models.iterdir())


def test_a_response_without_content_length_is_read_to_its_end(site: Site, zipped: bytes) -> None:
    site.announced = 0
    assert fetched(site) == zipped


def test_a_silent_server_causes_a_timeout(site: Site) -> None:
    site.hang_at = -1
    with pytest.raises(ModelError, match=r"0\.3 s"):
        download(site.url, rules=replace(QUICK, timeout_s=0.3))
    assert len(site.requests) <= QUICK.attempts


@pytest.mark.parametrize("hang_at", [-1, 200_000])
def test_cancelling_while_the_server_hangs_keeps_the_partial_file(
    site: Site, zipped: bytes, user_models: Path, hang_at: int
) -> None:
    site.hang_at = hang_at
    token = CancelToken()

    def cancel_soon(event: ProgressEvent | None = None) -> None:
        if event is None or event.done == hang_at:
            threading.Timer(0.2, token.cancel).start()

    if hang_at < 0:
        cancel_soon()
    with pytest.raises(Cancelled):
        download(site.url, rules=Rules(timeout_s=600), reporter=Reporter(cancel_soon, token))
    assert left(user_models) == (["download.json", "download.part"] if hang_at > 0 else [])
    site.hang_at = None
    assert fetched(site) == zipped


def test_cancelling_while_unpacking_keeps_the_complete_file(site: Site, zipped: bytes, user_models: Path) -> None:
    token = CancelToken()

    def stop(event: ProgressEvent) -> None:
        if event.stage == "unpack":
            token.cancel()

    with pytest.raises(Cancelled):
        install_from(site.url, rules=QUICK, reporter=Reporter(stop, token))
    assert left(user_models) == ["Heart-One.zip"]
    site.requests.clear()
    install_from(site.url, rules=QUICK)
    assert not site.requests
    assert [p.name for p in user_models.iterdir()] == ["Tiny"]


def test_forgetting_a_download_deletes_its_files(site: Site, user_models: Path) -> None:
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError):
        fetched(site)
    assert forget(site.url)
    assert left(user_models) == []
    assert not forget(site.url)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_permanent_error_status_is_not_retried(site: Site, user_models: Path, status: int) -> None:
    site.statuses = [status]
    with pytest.raises(ModelError, match=f"HTTP {status}"):
        fetched(site)
    assert len(site.requests) == 1
    assert left(user_models) == []


def test_a_busy_server_is_retried(site: Site, zipped: bytes) -> None:
    site.statuses = [503, 429]
    assert fetched(site) == zipped


def test_the_number_of_attempts_is_limited(site: Site) -> None:
    site.statuses = [500] * 10
    with pytest.raises(ModelError, match="HTTP 500"):
        fetched(site)
    assert len(site.requests) == QUICK.attempts


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/zip"])
def test_a_web_page_instead_of_the_file_is_refused(site: Site, user_models: Path, content_type: str) -> None:
    """The sign-in page of a guest network, with the right or a wrong content type."""
    site.content, site.content_type = b"<!DOCTYPE html><html>Welcome to the guest network</html>", content_type
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1"):
        fetched(site)
    assert left(user_models) == []


def test_a_sign_in_page_keeps_the_partial_file(site: Site, zipped: bytes) -> None:
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError):
        fetched(site)
    good = (site.content, site.content_type, site.etag)
    site.content, site.content_type, site.etag, site.cut_after = b"<html>", "text/html", "", []
    with pytest.raises(ModelError):
        fetched(site)
    site.content, site.content_type, site.etag = good
    assert fetched(site) == zipped
    assert site.requests[-1]["range"] == "bytes=300000-"


def test_redirects_are_followed(site: Site, zipped: bytes) -> None:
    site.redirect = {"/a": f"{site.address}/b", "/b": f"{site.address}/models/x.zip"}
    assert download(f"{site.address}/a", rules=QUICK).read_bytes() == zipped


def test_endless_redirects_are_refused(site: Site) -> None:
    site.redirect = {"/a": f"{site.address}/b", "/b": f"{site.address}/a"}
    with pytest.raises(ModelError, match=" 5 "):
        download(f"{site.address}/a", rules=QUICK)


@pytest.mark.parametrize("target", ["http://models.example/x.zip", "ftp://models.example/x.zip", "file:///etc/passwd"])
def test_a_redirect_to_an_unsupported_url_is_refused(site: Site, target: str) -> None:
    site.redirect = {"/a": target}
    with pytest.raises(ModelError):
        download(f"{site.address}/a", rules=QUICK)


def test_a_redirect_from_https_to_http_is_refused() -> None:
    from urllib.request import Request

    from heartseg.models.fetch import _Redirects

    handler, request = _Redirects(allow_http=True), Request("https://models.example/a.zip")
    with pytest.raises(ModelError, match=r"'http://models.example/b.zip'"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://models.example/b.zip?token=1")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://cdn.example/b.zip").host == "cdn.example"


@pytest.mark.parametrize(
    "url",
    [
        "http://models.example/x.zip",
        "ftp://models.example/x.zip",
        "file:///etc/passwd",
        "https:///x.zip",
        "https://me:secret@models.example/x.zip",
        "https://models.example/x y.zip",
        "https://models.example:port/x.zip",
    ],
)
def test_unsafe_or_invalid_urls_are_refused(url: str) -> None:
    with pytest.raises(ModelError) as refused:
        check_address(url)
    assert "secret" not in str(refused.value)


def test_http_is_allowed_for_this_machine_and_with_allow_http() -> None:
    for url in ("http://localhost:8000/x", "http://127.0.0.1/x", "http://[::1]:80/x"):
        assert check_address(url) == url
    assert check_address("http://models.example/x", allow_http=True)


def test_secrets_in_a_url_are_not_shown(site: Site, user_models: Path) -> None:
    assert (
        shown("https://me:secret@models.example:8443/x.zip?token=secret#secret") == "https://models.example:8443/x.zip"
    )
    site.statuses = [404]
    with pytest.raises(ModelError) as missing:
        download(site.url + "?token=secret", rules=QUICK)
    assert "secret" not in str(missing.value)


def test_https_to_a_server_without_encryption_fails(site: Site) -> None:
    with pytest.raises(ModelError, match=r"'127\.0\.0\.1'"):
        download(site.url.replace("http:", "https:"), rules=QUICK)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A self-signed certificate for 127.0.0.1, created here to keep keys out of the repository."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, file = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", file], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context


def test_certificates_are_verified_and_can_be_trusted_with_ssl_cert_file(
    zipped: bytes, certificate: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Site(zipped), certificate) as site:
        with pytest.raises(ModelError, match=r"'127\.0\.0\.1'.*self.signed"):
            download(site.url, rules=QUICK)
        assert not site.requests
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        assert download(site.url, rules=QUICK).read_bytes() == zipped
        site.redirect = {"/a": site.url.replace("https:", "http:")}
        with pytest.raises(ModelError, match=r"'http://127\.0\.0\.1"):
            download(f"{site.address}/a", rules=QUICK)


def test_an_unknown_host_and_a_closed_port_are_reported(site: Site) -> None:
    with pytest.raises(ModelError, match=r"'models\.invalid'"):
        download("https://models.invalid/x.zip", rules=QUICK)
    with serve(Site()) as gone:
        pass
    with pytest.raises(ModelError, match=r"'127\.0\.0\.1'"):
        download(gone.url, rules=QUICK)


def test_the_proxy_of_the_environment_is_used(site: Site, zipped: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local server acts as the proxy and receives the full URL of another host."""
    monkeypatch.setenv("http_proxy", site.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    url = "http://models.invalid/heart.zip"
    assert download(url, rules=Rules(timeout_s=2, allow_http=True)).read_bytes() == zipped
    assert site.requests[0]["path"] == url
    monkeypatch.setenv("no_proxy", "models.invalid")
    shutil.rmtree(download(url, rules=QUICK_HTTP).parent)
    with pytest.raises(ModelError, match=r"models\.invalid"):
        download(url, rules=QUICK_HTTP)


def test_the_size_limit_applies_before_and_during_the_download(site: Site, user_models: Path) -> None:
    small = Rules(max_bytes=500_000, timeout_s=1)
    with pytest.raises(ModelError, match="GiB"):
        download(site.url, rules=small)
    site.announced = 0  # no content length
    with pytest.raises(ModelError, match="GiB"):
        download(site.url, rules=small)
    assert left(user_models) == []


def test_too_little_space_is_reported_before_the_download(
    site: Site, user_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=downloading.RESERVE + 1_000_000)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=" 269 MB"):
        download(site.url, rules=QUICK)
    assert left(user_models) == []


def test_a_disk_that_fills_up_stops_the_download_and_keeps_the_partial_file(
    site: Site, user_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "_FREE_EVERY", 200_000)
    free = iter([10**12])
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: SimpleNamespace(free=next(free, 1000)))
    with pytest.raises(OutputError, match=" MB"):
        download(site.url, rules=QUICK)
    assert left(user_models) == ["download.json", "download.part"]


def test_an_unwritable_model_folder_is_reported(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HEARTSEG_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(OutputError, match=r"file.*HEARTSEG_MODELS"):
        download(site.url, rules=QUICK)


def test_a_concurrent_download_of_the_same_file_is_refused(site: Site, user_models: Path) -> None:
    site.hang_at = 200_000
    token = CancelToken()
    errors: list[BaseException] = []

    def first() -> None:
        try:
            download(site.url, rules=Rules(timeout_s=20), reporter=Reporter(cancel=token))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    while "lock" not in left(user_models):
        time.sleep(0.01)
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1"):
        download(site.url, rules=QUICK)
    token.cancel()
    thread.join()
    assert isinstance(errors[0], Cancelled)


def test_the_lock_of_a_killed_process_is_ignored(
    site: Site, zipped: bytes, user_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError):
        fetched(site)
    folder = next((user_models / FOLDER).iterdir())
    (folder / "lock").write_text("999999999")  # larger than any process ID
    site.cut_after = []
    assert fetched(site) == zipped


def test_an_old_unfinished_download_is_deleted(site: Site, user_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = user_models / FOLDER / "0123456789abcdef"
    old.mkdir(parents=True)
    (old / "download.part").write_bytes(b"PK\x03\x04")
    monkeypatch.setattr(downloading, "_OLD_S", -1.0)
    fetched(site)
    assert not old.exists()


def test_an_unsafe_zip_file_from_the_web_is_refused_and_deleted(
    site: Site, carded: Path, tmp_path: Path, user_models: Path
) -> None:
    bad = add_to_zip(zip_folder(carded, tmp_path / "m.zip"), "../evil.txt")
    site.content = bad.read_bytes()
    with pytest.raises(ModelError, match=r"'\.\./evil\.txt'"):
        install_from(site.url, rules=QUICK)
    assert not list(user_models.iterdir())
    assert not list(tmp_path.rglob("evil*"))


def test_the_download_folder_is_not_a_model(site: Site, user_models: Path) -> None:
    from heartseg.models.store import model_paths

    fetched(site)
    assert model_paths() == {}
