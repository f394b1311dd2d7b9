"""Scans on the workers of a dask scheduler: the rows of one desk, whatever dies."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_lines import PATIENCE
from dask_processes import DaskProcesses, free_port
from heartseg.cli import summary as summaries
from heartseg.cli.cases import Case, Part
from heartseg.cli.summary import Summary, SummaryRow
from heartseg.cli.workers import Job, Worker
from heartseg.errors import ModelError, SettingsError
from heartseg.settings import Settings

if TYPE_CHECKING:
    from cli.conftest import Outcome, Running

SETTLED = ("case", "status", "message", "LV volume (mL)", "errors", "warnings", "path")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    """A scheduler with two workers."""
    with DaskProcesses(tmp_path_factory.mktemp("dask")) as processes:
        yield processes


@pytest.fixture
def scans(save_scan: Callable[..., Path], tmp_path: Path) -> Path:
    """Make a folder with two valid scans and a short one."""
    for k, name in enumerate("abc"):
        path = save_scan(f"scans/{name}.nii", seed=5 + k)
    path.write_bytes(path.read_bytes()[:5000])
    return tmp_path / "scans"


@pytest.fixture
def arguments(scans: Path, tmp_path: Path, tiny_model: Path) -> tuple[Any, ...]:
    """Return the command without its scheduler."""
    return ("segment", scans, "-o", tmp_path / "out", "--model", tiny_model, "--format", "csv")


def rows(out: Path, name: str = "summary.csv") -> list[dict[str, str]]:
    with (out / name).open(newline="", encoding="utf-8") as file:
        return [{key: row[key] for key in SETTLED} for row in csv.DictReader(file)]


def hidden(out: Path) -> list[str]:
    return [p.name for p in out.iterdir() if p.name.startswith(".")]


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_a_cluster_gives_the_rows_of_one_desk(
    heartseg: Callable[..., Outcome], arguments: tuple[Any, ...], cluster: DaskProcesses, tmp_path: Path
) -> None:
    assert heartseg(*arguments).code == 1
    desk = rows(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "desk")
    outcome = heartseg(*arguments, "--scheduler", cluster.address)
    assert outcome.code == 1, outcome
    assert rows(tmp_path / "out") == desk
    assert [row["status"] for row in desk] == ["done", "done", "failed"]
    assert hidden(tmp_path / "out") == []
    assert heartseg(*arguments, "--scheduler", cluster.address, "--resume").code == 1
    assert [row["status"] for row in rows(tmp_path / "out")] == ["done before", "done before", "failed"]


def test_what_every_scan_would_meet_ends_the_run(
    heartseg: Callable[..., Outcome], arguments: tuple[Any, ...], cluster: DaskProcesses, tmp_path: Path
) -> None:
    outcome = heartseg(*arguments, "--device", "cuda:7", "--scheduler", cluster.address)
    assert outcome.code == 2 and "127.0.0.1" in outcome.complaints[-1] and "cuda:7" in outcome.complaints[-1], outcome
    assert not (tmp_path / "out").exists()


def test_a_model_that_changed_since_the_run_began_is_refused(
    save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    """Also one of the same name on another machine: the key of a case must tell the truth about its model."""
    job = Job(tmp_path / "out", str(tiny_model), "another", Settings(), ("csv",), False, False)
    with pytest.raises(ModelError):
        Worker(job).run(Case(save_scan(), "scan"))


def test_without_a_scheduler_nothing_is_made(
    heartseg: Callable[..., Outcome], arguments: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heartseg.cli.cluster._CONNECT_SECONDS", 1.0)
    for address in (f"tcp://127.0.0.1:{free_port()}", "no_such_scheduler_file.json", "nonsense://host:1"):
        outcome = heartseg(*arguments, "--scheduler", address)
        assert outcome.code == 2 and len(outcome.complaints) == 1 and address in outcome.err, outcome
        assert not (tmp_path / "out").exists()


def test_a_killed_process_costs_no_scan(
    launch: Callable[..., Running], arguments: tuple[Any, ...], cluster: DaskProcesses, tmp_path: Path
) -> None:
    until(lambda: not cluster.children)  # of the run before
    running = launch(*arguments, "--scheduler", cluster.address)
    until(lambda: len(cluster.children) == 2)
    cluster.children[0].kill()
    assert running.finish().code == 1
    assert [row["status"] for row in rows(tmp_path / "out")] == ["done", "done", "failed"]
    assert hidden(tmp_path / "out") == []


def test_a_crash_leaves_each_scan_one_row(
    launch: Callable[..., Running], arguments: tuple[Any, ...], cluster: DaskProcesses, tmp_path: Path
) -> None:
    until(lambda: not cluster.children)  # of the run before
    running = launch(*arguments, "--scheduler", cluster.address)
    until(lambda: cluster.children)
    os.kill(cluster.children[0].pid, signal.SIGSEGV)
    assert running.finish().code == 1
    found = rows(tmp_path / "out")
    assert len({row["case"] for row in found}) == len(found) == 3
    assert all(row["status"] == "failed" for row in found if "SIGSEGV" in row["message"])


def test_a_killed_worker_and_a_killed_scheduler_cost_no_scan(
    launch: Callable[..., Running], arguments: tuple[Any, ...], tmp_path: Path
) -> None:
    with DaskProcesses(tmp_path / "dask") as own:
        running = launch(*arguments, "--scheduler", own.address)
        until(lambda: own.children)
        own.workers[0].kill()
        until(lambda: len(own.workers) == 2)
        own.kill_scheduler()
        own.restart()
        assert running.finish().code == 1
    assert [row["status"] for row in rows(tmp_path / "out")] == ["done", "done", "failed"]
    assert hidden(tmp_path / "out") == []


def test_a_full_shared_disk_loses_no_scan(
    heartseg: Callable[..., Outcome],
    arguments: tuple[Any, ...],
    cluster: DaskProcesses,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    (tmp_path / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(tmp_path / "out")]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    request.addfinalizer(lambda: subprocess.run(["umount", "-l", str(tmp_path / "out")], check=True))
    outcome = heartseg(*arguments, "--scheduler", cluster.address)
    assert outcome.code in (1, 2) and "full" in outcome.err, outcome
    subprocess.run(["mount", "-o", "remount,size=10m", str(tmp_path / "out")], check=True)
    assert heartseg(*arguments, "--scheduler", cluster.address, "--resume").code == 1
    found = [(row["case"], row["status"]) for row in rows(tmp_path / "out")]
    assert [name for name, _ in found] == ["a", "b", "c"] and found[2][1] == "failed"
    assert sorted(status for _, status in found[:2]) in (["done", "done"], ["done", "done before"])
    assert hidden(tmp_path / "out") == []


def test_sigterm_stops_the_workers_and_leaves_whole_folders_only(
    launch: Callable[..., Running], arguments: tuple[Any, ...], cluster: DaskProcesses, tmp_path: Path
) -> None:
    until(lambda: not cluster.children)  # of the run before
    running = launch(*arguments, "--scheduler", cluster.address)
    until(lambda: cluster.children)
    running.process.terminate()
    assert running.finish().code == 130
    until(lambda: not cluster.children)
    assert not (tmp_path / "out").exists() or hidden(tmp_path / "out") == []


def test_a_worker_that_does_not_see_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heartseg.cli import cluster as module

    monkeypatch.setattr(module, "_SEEN_SECONDS", 0.0)
    job = Job(tmp_path, None, "", Settings(), None, False, False)
    with module._shared_folder(tmp_path) as folder:
        (folder / "token").touch()
        run = module.Run(job, "token")
        module._check_place(run)
        for wrong in (replace(run, token="another"), replace(run, version="0.0")):
            with pytest.raises(SettingsError):
                module._check_place(wrong)
    assert hidden(tmp_path) == []


def test_a_run_that_is_stopped_while_a_worker_gets_ready_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartseg.cli import cluster as module

    worker = module.WarmModel()
    worker.setup(SimpleNamespace(address="tcp://here"))
    monkeypatch.setattr(module, "_check_place", lambda run: worker.stop(run.token))
    monkeypatch.setattr(module, "Child", lambda *_: pytest.fail("a process that nobody would end"))
    run = module.Run(Job(tmp_path, None, "", Settings(), None, False, False), "token")
    assert worker.segment(Case(tmp_path / "a.nii", "a"), run).row.status == "failed"


def test_one_scan_needs_no_cluster(
    heartseg: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    for option, value in (("--scheduler", "tcp://127.0.0.1:1"), ("--slurm", "2"), ("--part", "1/2")):
        outcome = heartseg("segment", save_scan(), "-o", tmp_path / "out", option, value)
        assert outcome.code == 2 and option in outcome.err


# --- parts ------------------------------------------------------------------------------------------------------------


@given(st.sets(st.text("abcdef0123", min_size=1)), st.integers(1, 9))
def test_every_scan_is_in_one_part_and_stays_there(names: set[str], count: int) -> None:
    cases = [Case(Path(name), name) for name in sorted(names)]
    parts = [Part(k, count).of(cases) for k in range(1, count + 1)]
    assert sorted(case.name for part in parts for case in part) == sorted(names)
    more = [Case(Path("x"), "0 arrived later"), *cases]
    assert all(set(part) <= set(Part(k, count).of(more)) for k, part in enumerate(parts, 1))


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/2/3"])
def test_a_part_that_does_not_exist_is_refused(heartseg: Callable[..., Outcome], tmp_path: Path, text: str) -> None:
    assert heartseg("segment", tmp_path, "-o", tmp_path / "out", f"--part={text}").code == 2


def test_parts_write_side_by_side(heartseg: Callable[..., Outcome], arguments: tuple[Any, ...], tmp_path: Path) -> None:
    codes = [heartseg(*arguments, "--part", f"{k}/2").code for k in (1, 2)]
    assert sorted(codes) == [0, 1], "one part has the short scan"
    found = [row for k in (1, 2) for row in rows(tmp_path / "out", f"summary-part-{k}-of-2.csv")]
    assert sorted((row["case"], row["status"]) for row in found) == [("a", "done"), ("b", "done"), ("c", "failed")]
    again = heartseg(*arguments, "--part", "1/2")
    assert again.code == 2 and "--resume" in again.err


# --- the summary of thousands -----------------------------------------------------------------------------------------


def test_a_summary_of_thousands_is_not_written_for_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [Case(Path(f"{k}.nii"), f"{k:04}") for k in range(1000)]
    written = []
    plain = summaries.write_summary

    def counted(*arguments: Any) -> None:
        written.append(time.monotonic())
        time.sleep(0.02)
        plain(*arguments)

    monkeypatch.setattr(summaries, "write_summary", counted)
    summary = Summary(tmp_path / "summary.csv", cases)
    for case in cases:
        summary.add(SummaryRow(case.name, "done", 1.0))
        time.sleep(0.0005)
    summary.write()
    assert all(later - earlier > 0.2 for earlier, later in pairwise(written[:-1]))
    assert len(rows(tmp_path)) == 1000
