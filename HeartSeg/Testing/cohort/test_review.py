"""Verdicts: their file, the server that writes it, and the page in a browser."""

from __future__ import annotations

import csv
import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, chromium
from heartseg.cohort import Review, judge, read_cohort, read_reviews, record_review, write_cohort_page
from heartseg.cohort.server import ReviewServer
from heartseg.errors import InputError
from heartseg.findings import Finding, Severity
from result_folders import make_results

needs_browser = pytest.mark.skipif(chromium() is None, reason="needs Chromium")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The output of 40 cases, with its page."""
    make_results(tmp_path / "out", 40)
    show(tmp_path / "out")
    return tmp_path / "out"


def show(folder: Path) -> None:
    write_cohort_page(judge(read_cohort(folder)), read_reviews(folder), folder)


@pytest.fixture
def server(folder: Path) -> Iterator[ReviewServer]:
    with ReviewServer(folder, read_cohort(folder)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server: ReviewServer, path: str, body: bytes | None = None, host: str | None = None) -> tuple[int, bytes]:
    """Send a request for a path after the token, or for an absolute one."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    headers = {} if host is None else {"Host": host}
    target = path if path.startswith("/") else f"/{server.token}/{path}"
    connection.request("GET" if body is None else "POST", target, body, headers)
    answer = connection.getresponse()
    content = answer.status, answer.read()
    connection.close()
    return content


def verdict(**changes: object) -> bytes:
    fields = {
        "case": "case_0001",
        "verdict": "accept",
        "comment": "",
        "time": "2026-11-30T20:00:00+00:00",
        "result": "",
    }
    return json.dumps({**fields, **changes}).encode()


def test_reviews_are_kept_when_table_and_page_are_made_again(folder: Path) -> None:
    record_review(folder, "case_0001", Review("reject", 'odd, "very"\nodd', "2026-11-30T20:00:00+00:00", "x"))
    record_review(folder, "case_gone", Review("accept"))
    before = (folder / "review.csv").read_bytes()
    show(folder)
    assert (folder / "review.csv").read_bytes() == before
    assert read_reviews(folder)["case_0001"].comment == 'odd, "very"\nodd'
    record_review(folder, "case_0002", Review("accept"))
    assert set(read_reviews(folder)) == {"case_0001", "case_0002", "case_gone"}


@pytest.mark.parametrize("text", ["name,verdict\na,accept\n", "case,verdict\na,perhaps\n", "\xff\xfe"])
def test_a_file_of_reviews_that_is_none_is_refused_and_kept(folder: Path, text: str) -> None:
    (folder / "review.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError):
        record_review(folder, "case_0001", Review("accept"))
    assert (folder / "review.csv").read_bytes() == text.encode("latin-1")


def test_a_browser_that_closes_its_connection_early_prints_nothing(
    server: ReviewServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Browsers open spare connections and reset them."""
    with socket.create_connection(("127.0.0.1", server.server_address[1])) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
    assert ask(server, "review")[0] == 200
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(10)
    assert capfd.readouterr().err == ""


def test_the_server_writes_verdicts_and_serves_the_cohort_alone(server: ReviewServer, folder: Path) -> None:
    (folder / "secret.txt").write_text("secret")
    (folder / "case_0001" / "secret.txt").write_text("secret")
    (folder / "case_0002" / "report.json").unlink()
    (folder / "case_0002" / "report.json").symlink_to("/etc/passwd")
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "review", verdict()) == (200, b"saved")
    assert read_reviews(folder)["case_0001"].verdict == "accept"
    assert json.loads(ask(server, "review")[1])["case_0001"]["verdict"] == "accept"
    assert ask(server, "cohort.html")[1] == (folder / "cohort.html").read_bytes()
    assert ask(server, "case_0001/report.json")[0] == 200
    for path in (
        "secret.txt",
        "case_0001/secret.txt",
        "case_0001/../secret.txt",
        "case_0001/%2e%2e/secret.txt",
        "case_0001/..%2fsecret.txt",
        "case_0002/report.json",
        "",
        "/cohort.html",
        "/wrong/cohort.html",
    ):
        assert ask(server, path)[0] == 404, path


def test_verdicts_that_are_none_and_pages_of_other_sites_are_refused(server: ReviewServer, folder: Path) -> None:
    for body in (
        b"",
        b"[]",
        b"{}",
        verdict(case="case_gone"),
        verdict(verdict="perhaps"),
        verdict(comment=1),
        verdict(case=["case_0001"]),
        b"x" * 70000,
    ):
        assert ask(server, "review", body)[0] == 400, body[:40]
    assert ask(server, "/wrong/review", verdict())[0] == 404
    assert ask(server, "review", verdict(), host="evil.example:80")[0] == 404
    assert ask(server, "review", verdict(), host="localhost:1234")[0] == 200, "a port that ssh forwards"


# --- in the browser ---------------------------------------------------------------------------------------------------


@needs_browser
def test_twenty_cases_are_judged_by_the_keyboard_and_kept(server: ReviewServer, folder: Path) -> None:
    worst = [judged.case for judged in judge(read_cohort(folder)).cases]
    with Browser() as page:
        page.open(server.address)
        for k in range(20):
            assert page.value("document.querySelector('#case h3').textContent") == f"{worst[k].name}: {worst[k].status}"
            page.press("r" if k % 3 == 0 else "a")
        page.press("k")
        page.press("c")
        page.write("looks, odd")
        page.press("Escape")
        assert "13 accepted, 7 rejected" in page.value("document.querySelector('#progress').textContent")
        page.until("document.body.dataset.pending === '0'")
        assert page.value("document.querySelector('#saved').textContent").startswith("saved")
        page.open(server.address)
        assert page.value("document.querySelectorAll('#list .verdict.accept').length") == 13
        assert page.messages == []
    found = read_reviews(folder)
    assert {c.name: "reject" if k % 3 == 0 else "accept" for k, c in enumerate(worst[:20])} == {
        name: review.verdict for name, review in found.items()
    }
    assert found[worst[19].name].comment == "looks, odd"
    assert all(found[c.name].result == c.made for c in worst[:20])


@needs_browser
def test_the_page_alone_keeps_verdicts_and_offers_them_as_a_file(folder: Path) -> None:
    record_review(folder, "case_0001", Review("accept", "=1", "2026-11-30T20:00:00+00:00", "another result"))
    show(folder)
    with Browser() as page:
        page.open((folder / "cohort.html").as_uri())
        assert page.value("document.querySelectorAll('#list li').length") == 40
        page.press("/")
        page.write("case_0001")
        page.press("Escape")
        assert page.value("document.querySelector('#case .notice').textContent").startswith("The verdict"), "is old"
        page.press("r")
        page.open((folder / "cohort.html").as_uri())
        page.value("document.querySelector('#download').click()")
        file = page.downloads / "review.csv"
        page.until("true")
        while not file.exists():
            page.value("new Promise((done) => setTimeout(done, 50))")
        file.rename(folder / "review.csv")
        assert page.messages == []
    (review,) = read_reviews(folder).values()
    assert (review.verdict, review.comment) == ("reject", "'=1")
    with (folder / "review.csv").open(newline="", encoding="utf-8") as text:
        assert len(list(csv.reader(text))) == 2


@needs_browser
def test_text_of_results_is_text(folder: Path) -> None:
    path = folder / "case_0001" / "report.json"
    report = json.loads(path.read_text())
    message = "</script><script>document.body.dataset.bad = 1</script><img src=x onerror=alert(1)>"
    report["findings"] = [Finding("x", Severity.ERROR, message).to_dict()]
    path.write_text(json.dumps(report))
    show(folder)
    with Browser() as page:
        page.open((folder / "cohort.html").as_uri())
        page.press("/")
        page.write("case_0001")
        assert page.value("document.querySelector('#case .finding').textContent.includes('</script>')")
        assert page.value("document.body.dataset.bad === undefined && document.querySelector('#case img') === null")
