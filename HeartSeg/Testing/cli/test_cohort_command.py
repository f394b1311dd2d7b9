"""``heartseg cohort``: from the folder of a batch to a page that is served until Ctrl-C."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.conftest import refused
from command_lines import PATIENCE, tree
from result_folders import make_results

if TYPE_CHECKING:
    from cli.conftest import Outcome, Running


def test_table_and_page_are_made_and_verdicts_kept(heartseg: Callable[..., Outcome], tmp_path: Path) -> None:
    make_results(tmp_path, 12)
    before = tree(tmp_path)
    outcome = heartseg("cohort", tmp_path)
    assert outcome.code == 0, outcome
    assert "10 done, 1 failed, 1 no heart" in outcome.out
    assert tree(tmp_path) - before == {"cohort.csv", "cohort.parquet", "cohort.html"}
    review = "case,verdict,comment,time,result\r\ncase_0001,accept,,,\r\n"
    (tmp_path / "review.csv").write_text(review, newline="")
    assert heartseg("cohort", tmp_path, "--phase", "diastole").code == 0
    assert (tmp_path / "review.csv").read_bytes() == review.encode()
    assert "case_0001,done,,accept" in (tmp_path / "cohort.csv").read_text()


@pytest.mark.parametrize("arguments", [("gone",), ("gone", "--port", "1")], ids=str)
def test_a_folder_without_results_is_refused(
    heartseg: Callable[..., Outcome], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    refused(heartseg("cohort", tmp_path / arguments[0], *arguments[1:]), "gone")


def test_a_port_that_is_none_is_refused(heartseg: Callable[..., Outcome], tmp_path: Path) -> None:
    make_results(tmp_path, 2)
    outcome = heartseg("cohort", tmp_path, "--review", "--port", "99999")
    assert outcome.code == 2 and "99999" in outcome.complaints[-1]


def test_the_page_is_served_until_ctrl_c(launch: Callable[..., Running], tmp_path: Path) -> None:
    make_results(tmp_path, 4)
    running = launch("cohort", tmp_path, "--review")
    running.wait_for("Ctrl-C")
    out = running.folder / "stdout"
    end = time.monotonic() + PATIENCE
    while "open http" not in out.read_text() and time.monotonic() < end:
        time.sleep(0.01)
    address = out.read_text().partition("open ")[2].split()[0]
    body = {"case": "case_0000", "verdict": "reject", "comment": "", "time": "", "result": ""}
    request = urllib.request.Request(address.replace("cohort.html", "review"), json.dumps(body).encode())
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    running.process.send_signal(signal.SIGINT)
    outcome = running.finish()
    assert outcome.code == 0 and "Traceback" not in outcome.err, outcome
    assert "case_0000,reject" in (tmp_path / "review.csv").read_text()
