"""Models from an address: a real web server on this machine that breaks, lies and changes its mind."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from heartseg.errors import Cancelled, ModelError, OutputError
from heartseg.models import download as downloading
from heartseg.models.download import FOLDER, Rules, download, forget, install_from
from heartseg.models.fetch import check_address, shown
from heartseg.progress import CancelToken, Reporter
from tiny_models import add_to_zip, zip_folder
from web_sites import Site, serve

QUICK = Rules(timeout_s=10, attempts=3, pause_s=0.01)  # patient: the machine may be busy
QUICK_HTTP = replace(QUICK, allow_http=True)


@pytest.fixture(scope="session")
def zipped(_carded, tmp_path_factory) -> bytes:
    """A model with a card, as a zip file that is larger than one piece of a download."""
    archive = zip_folder(_carded, tmp_path_factory.mktemp("zip") / "m.zip", "some/where/")
    add_to_zip(archive, "some/where/README.md", bytes(range(256)) * 4000)
    return archive.read_bytes()


@pytest.fixture
def site(zipped, monkeypatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve(Site(zipped)) as running:
        yield running


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def left(user_models: Path) -> list[str]:
    """Names of what lies in the hidden folder."""
    hidden = user_models / FOLDER
    return sorted(p.name for p in hidden.rglob("*") if p.is_file())


def fetched(site: Site, **choices) -> bytes:
    return download(site.url, rules=QUICK, **choices).read_bytes()


def test_a_model_is_installed_from_an_address_and_nothing_else_is_left(site, zipped, user_models):
    installed = install_from(site.url, sha256=sha256(zipped).upper(), rules=QUICK)
    assert installed.model.path == user_models / "Tiny"
    assert (installed.verified, installed.sha256) == ("sha256", sha256(zipped))
    assert [p.name for p in user_models.iterdir()] == ["Tiny"]


def test_the_hash_may_stand_in_the_address(site, zipped):
    assert install_from(f"{site.url}#sha256={sha256(zipped)}", rules=QUICK).verified == "sha256"
    assert "#" not in site.requests[0]["path"]


def test_two_different_hashes_are_refused_before_anything_is_fetched(site):
    with pytest.raises(ModelError, match="two different SHA-256"):
        install_from(f"{site.url}#sha256={'0' * 64}", sha256="1" * 64, rules=QUICK)
    assert not site.requests


def test_a_wrong_hash_installs_nothing_and_leaves_nothing(site, user_models):
    with pytest.raises(ModelError, match=r"SHA-256 of 'http://127.0.0.1.* and not 0000000000000000... as expected"):
        install_from(site.url, sha256="0" * 64, rules=QUICK)
    assert not list(user_models.iterdir())


def test_without_a_hash_the_card_is_compared_and_the_user_is_told(site, zipped):
    installed = install_from(site.url, rules=QUICK)
    assert installed.verified == "card"
    assert sha256(zipped) in installed.note


def test_without_hash_and_card_the_user_is_told_that_nothing_was_verified(site, cardless, tmp_path):
    site.content = zip_folder(cardless, tmp_path / "m.zip").read_bytes()
    installed = install_from(site.url, label_map={1: "LV"}, rules=QUICK)
    assert installed.verified == ""
    assert installed.note.startswith("Not verified")
    assert installed.model.path.name == "Heart-One"


def test_a_file_on_disk_is_compared_with_a_hash_too(tmp_path, zipped, user_models):
    file = tmp_path / "m.zip"
    file.write_bytes(zipped)
    with pytest.raises(ModelError, match="SHA-256 of"):
        install_from(file, sha256="0" * 64)
    assert file.read_bytes() == zipped
    assert install_from(file, sha256=sha256(zipped)).verified == "sha256"


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 64, "0" * 65])
def test_what_is_no_sha256_is_refused(site, wrong):
    with pytest.raises(ModelError, match="is no SHA-256"):
        install_from(site.url, sha256=wrong, rules=QUICK)


def test_a_cut_connection_goes_on_where_it_ended(site, zipped):
    site.cut_after = [70_000, 400_000]
    said: list[str] = []
    content = fetched(site, reporter=Reporter(lambda event: said.append(event.message)))
    assert content == zipped
    assert [r.get("range") for r in site.requests] == [None, "bytes=70000-", "bytes=470000-"]
    assert [r.get("if-range") for r in site.requests] == [None, '"one"', '"one"']
    assert sum("trying again" in text for text in said) == 2


def test_a_download_goes_on_in_the_next_session(site, zipped, user_models):
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError, match=r"0\.3 of 1\.\d MB are kept; the same command goes on from there"):
        fetched(site)
    assert left(user_models) == ["download.json", "download.part"]
    state = next((user_models / FOLDER).rglob("download.json")).read_text()
    assert json.loads(state) == {"validator": '"one"', "total": len(zipped)}
    site.requests.clear()
    site.cut_after = []
    assert fetched(site) == zipped
    assert [r["range"] for r in site.requests] == ["bytes=300000-"]


def test_progress_counts_bytes_from_where_the_download_goes_on(site, zipped):
    site.cut_after = [300_000]
    seen: list[tuple[int, int]] = []
    fetched(site, reporter=Reporter(lambda e: seen.append((e.done, e.total)) if e.stage == "download" else None))
    assert {total for _, total in seen} == {len(zipped)}
    assert seen[-1][0] == len(zipped)
    assert (300_000, len(zipped)) in seen


@pytest.mark.parametrize("minds", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(site, zipped, minds):
    """Also from a server that sends the rest of the new file although If-Range forbids it."""
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError):
        fetched(site)
    site.content, site.etag, site.minds_if_range, site.cut_after = zipped + b"new", '"two"', minds, []
    assert fetched(site) == zipped + b"new"


def test_a_file_that_became_shorter_than_the_part_is_fetched_from_the_start(site, zipped):
    site.cut_after = [600_000, 0, 0, 0]
    with pytest.raises(ModelError):
        fetched(site)
    site.content, site.minds_if_range, site.cut_after = zipped[:500_000], False, []
    assert fetched(site) == zipped[:500_000]


def test_without_a_validator_only_a_known_hash_allows_to_go_on(site, zipped):
    site.etag, site.cut_after = "", [300_000]
    assert fetched(site) == zipped
    assert [r.get("range") for r in site.requests] == [None, None]
    shutil.rmtree(download(site.url, rules=QUICK).parent)
    site.requests.clear()
    site.cut_after = [300_000]
    assert fetched(site, sha256=sha256(zipped)) == zipped
    assert [r.get("range") for r in site.requests] == [None, "bytes=300000-"]


def test_a_weak_etag_is_no_ground_to_go_on_but_a_date_is(site, zipped):
    site.etag, site.cut_after = 'W/"one"', [300_000]
    site.last_modified = "Tue, 01 Sep 2026 10:00:00 GMT"
    assert fetched(site) == zipped
    assert site.requests[1]["if-range"] == site.last_modified


def test_a_server_without_ranges_sends_all_again(site, zipped):
    site.ranges, site.cut_after = False, [300_000]
    assert fetched(site) == zipped


def test_a_length_that_is_too_large_is_noticed(site, zipped):
    site.announced = len(zipped) + 1000
    with pytest.raises(ModelError, match=r"the server ended at 1\.\d of 1\.\d MB"):
        fetched(site)


def test_a_length_that_is_too_small_ends_in_a_broken_zip_file(site, zipped, user_models):
    site.announced = 400_000
    with pytest.raises(ModelError, match="not a usable zip file"):
        install_from(site.url, rules=QUICK)
    assert not list(user_models.iterdir())


def test_a_server_that_tells_no_length_is_read_to_its_end(site, zipped):
    site.announced = 0
    assert fetched(site) == zipped


def test_a_silent_server_is_given_up_after_the_timeouts(site):
    site.hang_at = -1
    with pytest.raises(ModelError, match=r"was silent for 0\.3 s"):
        download(site.url, rules=replace(QUICK, timeout_s=0.3))
    assert len(site.requests) <= QUICK.attempts


@pytest.mark.parametrize("hang_at", [-1, 200_000])
def test_a_cancel_takes_effect_while_the_server_hangs_and_keeps_what_arrived(site, zipped, user_models, hang_at):
    site.hang_at = hang_at
    token = CancelToken()

    def cancel_soon(event=None) -> None:
        if event is None or event.done == hang_at:
            threading.Timer(0.2, token.cancel).start()

    if hang_at < 0:
        cancel_soon()
    with pytest.raises(Cancelled):
        download(site.url, rules=Rules(timeout_s=600), reporter=Reporter(cancel_soon, token))
    assert left(user_models) == (["download.json", "download.part"] if hang_at > 0 else [])
    site.hang_at = None
    assert fetched(site) == zipped


def test_a_cancel_while_unpacking_keeps_the_whole_file(site, zipped, user_models):
    token = CancelToken()

    def stop(event) -> None:
        if event.stage == "unpack":
            token.cancel()

    with pytest.raises(Cancelled):
        install_from(site.url, rules=QUICK, reporter=Reporter(stop, token))
    assert left(user_models) == ["Heart-One.zip"]
    site.requests.clear()
    install_from(site.url, rules=QUICK)
    assert not site.requests
    assert [p.name for p in user_models.iterdir()] == ["Tiny"]


def test_forgetting_a_download_deletes_its_part(site, user_models):
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError):
        fetched(site)
    assert forget(site.url)
    assert left(user_models) == []
    assert not forget(site.url)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "there is no such file: check the address"),
        (410, "was removed"),
        (401, "needs a sign-in"),
        (403, "not public"),
        (400, "try again later"),
    ],
)
def test_an_error_status_is_explained_and_not_tried_again(site, user_models, status, words):
    site.statuses = [status]
    with pytest.raises(ModelError, match=words):
        fetched(site)
    assert len(site.requests) == 1
    assert left(user_models) == []


def test_a_busy_server_is_tried_again(site, zipped):
    site.statuses = [503, 429]
    assert fetched(site) == zipped


def test_a_server_that_stays_broken_is_given_up(site):
    site.statuses = [500] * 10
    with pytest.raises(ModelError, match=r"HTTP 500 Internal Server Error.*the server has a problem"):
        fetched(site)
    assert len(site.requests) == QUICK.attempts


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/zip"])
def test_a_web_page_instead_of_the_file_is_recognised(site, user_models, content_type):
    """The sign-in page of a guest network, with an honest or a wrong type."""
    site.content, site.content_type = b"<!DOCTYPE html><html>Welcome to the guest network</html>", content_type
    with pytest.raises(ModelError, match="no zip file but something else, such as a web page"):
        fetched(site)
    assert left(user_models) == []


def test_a_sign_in_page_does_not_spoil_what_arrived_before(site, zipped):
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError):
        fetched(site)
    good = (site.content, site.content_type, site.etag)
    site.content, site.content_type, site.etag, site.cut_after = b"<html>", "text/html", "", []
    with pytest.raises(ModelError, match="web page"):
        fetched(site)
    site.content, site.content_type, site.etag = good
    assert fetched(site) == zipped
    assert site.requests[-1]["range"] == "bytes=300000-"


def test_redirects_are_followed_a_few_times(site, zipped):
    site.redirect = {"/a": f"{site.address}/b", "/b": f"{site.address}/models/x.zip"}
    assert download(f"{site.address}/a", rules=QUICK).read_bytes() == zipped


def test_endless_redirects_are_refused(site):
    site.redirect = {"/a": f"{site.address}/b", "/b": f"{site.address}/a"}
    with pytest.raises(ModelError, match="more than 5 redirects"):
        download(f"{site.address}/a", rules=QUICK)


@pytest.mark.parametrize("target", ["http://models.example/x.zip", "ftp://models.example/x.zip", "file:///etc/passwd"])
def test_a_redirect_to_what_may_not_be_fetched_is_refused(site, target):
    site.redirect = {"/a": target}
    with pytest.raises(ModelError, match=r"not encrypted|leads elsewhere than to https|cannot be fetched"):
        download(f"{site.address}/a", rules=QUICK)


def test_a_redirect_from_https_to_http_is_refused():
    from urllib.request import Request

    from heartseg.models.fetch import _Redirects

    handler, request = _Redirects(allow_http=True), Request("https://models.example/a.zip")
    with pytest.raises(ModelError, match=r"redirects from https to 'http://models.example/b.zip' and is refused"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://models.example/b.zip?token=1")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://cdn.example/b.zip").host == "cdn.example"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://models.example/x.zip", "is not encrypted"),
        ("ftp://models.example/x.zip", "begins with https://"),
        ("file:///etc/passwd", "begins with https://"),
        ("https:///x.zip", "begins with https://"),
        ("https://me:secret@models.example/x.zip", "holds a user name or password"),
        ("https://models.example/x y.zip", "holds blanks"),
        ("https://models.example:port/x.zip", "is none"),
    ],
)
def test_addresses_that_may_not_be_fetched(url, words):
    with pytest.raises(ModelError, match=words) as refused:
        check_address(url)
    assert "secret" not in str(refused.value)


def test_http_is_allowed_to_this_machine_and_where_the_user_says_so():
    for url in ("http://localhost:8000/x", "http://127.0.0.1/x", "http://[::1]:80/x"):
        assert check_address(url) == url
    assert check_address("http://models.example/x", allow_http=True)


def test_secrets_in_an_address_are_never_shown(site, user_models):
    assert (
        shown("https://me:secret@models.example:8443/x.zip?token=secret#secret") == "https://models.example:8443/x.zip"
    )
    site.statuses = [404]
    with pytest.raises(ModelError) as missing:
        download(site.url + "?token=secret", rules=QUICK)
    assert "secret" not in str(missing.value)


def test_an_https_address_of_a_server_without_encryption_is_explained(site):
    with pytest.raises(ModelError, match=r"no encrypted connection to '127.0.0.1' \(.+\)"):
        download(site.url.replace("http:", "https:"), rules=QUICK)


@pytest.fixture
def certificate(tmp_path, monkeypatch) -> ssl.SSLContext:
    """A certificate for 127.0.0.1 that nobody has signed; made here, so that no key lies in the repository."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl, which makes the certificate, is missing")
    key, file = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", file], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context


def test_a_certificate_is_verified_and_an_institutions_own_can_be_trusted(zipped, certificate, tmp_path, monkeypatch):
    with serve(Site(zipped), certificate) as site:
        with pytest.raises(ModelError, match=r"certificate of '127.0.0.1' cannot be verified \(self.signed"):
            download(site.url, rules=QUICK)
        assert not site.requests
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        assert download(site.url, rules=QUICK).read_bytes() == zipped
        site.redirect = {"/a": site.url.replace("https:", "http:")}
        with pytest.raises(ModelError, match="redirects from https to"):
            download(f"{site.address}/a", rules=QUICK)


def test_an_unknown_host_and_a_closed_port_are_explained(site):
    with pytest.raises(ModelError, match=r"host 'models.invalid' is not found"):
        download("https://models.invalid/x.zip", rules=QUICK)
    with serve(Site()) as gone:
        pass
    with pytest.raises(ModelError, match="refuses the connection"):
        download(gone.url, rules=QUICK)


def test_the_proxy_of_the_environment_is_used(site, zipped, monkeypatch):
    """The server stands in for the proxy: it is asked for the whole address of another host."""
    monkeypatch.setenv("http_proxy", site.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    url = "http://models.invalid/heart.zip"
    assert download(url, rules=Rules(timeout_s=2, allow_http=True)).read_bytes() == zipped
    assert site.requests[0]["path"] == url
    monkeypatch.setenv("no_proxy", "models.invalid")
    shutil.rmtree(download(url, rules=QUICK_HTTP).parent)
    with pytest.raises(ModelError, match="is not found"):
        download(url, rules=QUICK_HTTP)


def test_a_file_beyond_the_limit_is_refused_before_and_while_it_arrives(site, user_models):
    small = Rules(max_bytes=500_000, timeout_s=1)
    with pytest.raises(ModelError, match="is larger than"):
        download(site.url, rules=small)
    site.announced = 0  # tells no length
    with pytest.raises(ModelError, match="is larger than"):
        download(site.url, rules=small)
    assert left(user_models) == []


def test_too_little_space_is_told_before_the_download(site, user_models, monkeypatch):
    usage = SimpleNamespace(free=downloading.RESERVE + 1_000_000)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"\d+ MB of free space are needed in .* and 269 MB are there"):
        download(site.url, rules=QUICK)
    assert left(user_models) == []


def test_a_disk_that_fills_up_meanwhile_stops_the_download_and_keeps_the_part(site, user_models, monkeypatch):
    monkeypatch.setattr(downloading, "_FREE_EVERY", 200_000)
    free = iter([10**12])
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: SimpleNamespace(free=next(free, 1000)))
    with pytest.raises(OutputError, match="free space are needed"):
        download(site.url, rules=QUICK)
    assert left(user_models) == ["download.json", "download.part"]


def test_a_model_folder_that_cannot_be_written_is_told(site, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HEARTSEG_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(OutputError, match="cannot write to"):
        download(site.url, rules=QUICK)


def test_the_same_file_is_not_downloaded_twice_at_once(site, user_models):
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
    with pytest.raises(ModelError, match="is being downloaded already"):
        download(site.url, rules=QUICK)
    token.cancel()
    thread.join()
    assert isinstance(errors[0], Cancelled)


def test_the_lock_of_a_killed_process_does_not_last(site, zipped, user_models, monkeypatch):
    site.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError):
        fetched(site)
    folder = next((user_models / FOLDER).iterdir())
    (folder / "lock").write_text("999999999")  # beyond any process number
    site.cut_after = []
    assert fetched(site) == zipped


def test_an_unfinished_download_of_last_month_is_deleted(site, user_models, monkeypatch):
    old = user_models / FOLDER / "0123456789abcdef"
    old.mkdir(parents=True)
    (old / "download.part").write_bytes(b"PK\x03\x04")
    monkeypatch.setattr(downloading, "_OLD_S", -1.0)
    fetched(site)
    assert not old.exists()


def test_a_dangerous_zip_file_from_the_web_is_refused_and_deleted(site, carded, tmp_path, user_models):
    bad = add_to_zip(zip_folder(carded, tmp_path / "m.zip"), "../evil.txt")
    site.content = bad.read_bytes()
    with pytest.raises(ModelError, match="leads outside the model's folder and is refused"):
        install_from(site.url, rules=QUICK)
    assert not list(user_models.iterdir())
    assert not list(tmp_path.rglob("evil*"))


def test_downloads_are_no_models(site, user_models):
    from heartseg.models.store import model_paths

    fetched(site)
    assert model_paths() == {}
