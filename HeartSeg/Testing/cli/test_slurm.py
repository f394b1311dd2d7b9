"""A real Slurm of one node (Debian: slurm-wlm and munge, as root): workers as jobs, and job arrays."""

from __future__ import annotations

import csv
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command_lines import PATIENCE
from slurm_node import SlurmNode, is_installed
from torture.cohort import make_cohort, make_model, segment_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="needs slurm-wlm and munge, and root to start them"),
]

SCANS = 20


@pytest.fixture(scope="module")
def node() -> Iterator[SlurmNode]:
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, SlurmNode(Path(folder) / "node") as started:
        yield started


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A folder with scans and a model, and the names of the damaged scans."""
    folder = tmp_path_factory.mktemp("cohort")
    make_model(folder)
    return folder, make_cohort(folder, SCANS)


def statuses(out: Path) -> list[tuple[str, str]]:
    """Case and status of every row of every summary."""
    found = []
    for path in out.glob("summary*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            found += [(row["case"], row["status"]) for row in csv.DictReader(file)]
    return sorted(found)


def expected(broken: set[str]) -> list[tuple[str, str]]:
    names = (f"s{k:04}" for k in range(SCANS))
    return [(name, "failed" if name in broken else "done") for name in names]


def wait(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def test_a_job_that_is_cancelled_is_replaced(node: SlurmNode, cohort: tuple[Path, set[str]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(segment_command(cohort[0], out, "--slurm", "1"), env=node.environment) as running:
        try:
            wait(lambda: list(out.glob("s*/report.json")))
            node.command("scancel", *node.jobs())
            assert running.wait(PATIENCE) == 1
        finally:
            running.terminate()
    assert statuses(out) == expected(cohort[1])
    assert node.jobs() == [], "no job is left behind"
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == []


def test_a_job_array_of_parts(node: SlurmNode, cohort: tuple[Path, set[str]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = tmp_path / "part.sh"
    line = " ".join(segment_command(cohort[0], out, "--part", "$SLURM_ARRAY_TASK_ID/3"))
    script.write_text(f"#!/bin/sh\n{line}\n")
    node.command("sbatch", "--array=1-3", "--output", str(tmp_path / "%a.log"), str(script))
    wait(lambda: not node.jobs())
    assert statuses(out) == expected(cohort[1])
