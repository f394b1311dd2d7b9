"""Injected faults: a cohort with damaged scans, killed at random times and resumed until it is complete."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from command_lines import environment
from dask_processes import DaskProcesses
from heartseg.volume import Geometry, Volume, write_volume
from tiny_models import make_tiny_model_folder, synthetic_volume

BROKEN_SHARE = 10
"""One scan in this many is damaged."""


def make_cohort(folder: Path, count: int) -> set[str]:
    """Write tiny scans, some of them damaged in different ways; returns the names of the damaged ones."""
    (folder / "scans").mkdir(parents=True)
    broken = set()
    image, _ = synthetic_volume(3, (24, 24, 24), 5)
    for k in range(count):
        path = folder / "scans" / f"s{k:04}.nii"
        values = (image + k % 7).astype(np.int16)
        write_volume(Volume(values, Geometry(values.shape, (6.0, 6.0, 6.0))), path)
        if k % BROKEN_SHARE == 3:
            broken.add(path.stem)
            _break(path, k)
    return broken


def _break(path: Path, k: int) -> None:
    content = path.read_bytes()
    kind = k // BROKEN_SHARE % 5
    if kind == 0:
        path.write_bytes(content[: len(content) // 2])
    elif kind == 1:
        path.write_bytes(b"")
    elif kind == 2:
        path.write_bytes(content[:352] + bytes(len(content) - 352))
    elif kind == 3:
        path.unlink()
        path.symlink_to(path.parent / "gone")
    else:
        path.write_bytes(content[:80] + b"\xff\xff\xc0\x7f" * 3 + content[92:])  # a spacing of NaN


def make_model(folder: Path) -> Path:
    """Make the tiny model for these scans."""
    return make_tiny_model_folder(
        folder / "model", card=True, features=(4, 8), patch=(16, 16, 16), spacing=(6.0,) * 3, full_checkpoint=False
    )


def segment_command(folder: Path, out: Path, *more: str) -> list[str]:
    """The command line that segments the scans of a folder with its tiny model."""
    program = [sys.executable, "-m", "heartseg.cli.main", "segment", str(folder / "scans"), "-o", str(out)]
    return [*program, "--model", str(folder / "model"), "--format", "csv", *more]


def run(folder: Path, count: int, kills: int, start: int = 0, jobs: int = 2) -> tuple[Counter[str], list[str]]:
    """Segment a cohort and kill it from time to time; returns counts and a line for each failure."""
    broken = make_cohort(folder, count)
    make_model(folder)
    rng, out = random.Random(start), folder / "out"
    command = segment_command(folder, out, "--resume", "--jobs", str(jobs))
    finished: dict[str, tuple[int, int]] = {}
    faults: list[str] = []
    for kill in range(kills):
        process = _start(command)
        begun = len(_reports(out))
        end = time.monotonic() + 300
        aim = begun + rng.randint(1, max(2, count // (kills + 1)))
        while process.poll() is None and len(_reports(out)) < aim and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(rng.random() * 0.3)
        _kill(process)
        now = _reports(out)
        faults += [f"kill {kill}: {name} was made again" for name in finished if now.get(name) != finished[name]]
        finished = now
    code = _start(command).wait()
    return _judged(out, broken, code, finished, faults)


def run_on_cluster(
    folder: Path, count: int, every_s: float = 10.0, start: int = 0, workers: int = 4, least: int = 0
) -> tuple[Counter[str], list[str]]:
    """Segment a cohort on a cluster of processes; returns counts and a line for each failure.

    A worker is killed every ``every_s`` seconds, if ``least`` results came since the last kill. After a third of the
    scans, the scheduler is killed, and everything but the command started again; after two thirds, the command is
    killed, and then resumed.
    """
    broken = make_cohort(folder, count)
    make_model(folder)
    rng, out = random.Random(start), folder / "out"
    faults: list[str] = []
    killed = before = 0
    with DaskProcesses(folder / "dask", workers) as cluster:
        command = segment_command(folder, out, "--resume", "--scheduler", cluster.address)
        process = _start(command)
        finished: dict[str, tuple[int, int]] = {}
        third, two_thirds, due = count // 3, 2 * count // 3, time.monotonic() + every_s
        while process.poll() is None:
            time.sleep(0.05)
            now = _reports(out)
            faults += [f"{name} was made again" for name in finished if now.get(name) != finished[name]]
            finished = now
            if len(now) >= third:
                third = count + 1
                cluster.kill_scheduler()
                cluster.restart()
            if len(now) >= two_thirds:
                two_thirds = count + 1
                _kill(process)
                process = _start(command)
            if time.monotonic() >= due and len(now) >= before + least and (found := cluster.workers):
                due, before = time.monotonic() + every_s, len(now)
                rng.choice(found).kill()
                killed += 1
        code = process.wait()
    if third <= count or two_thirds <= count:
        faults.append("the scheduler or the command was never killed")
    counts, faults = _judged(out, broken, code, finished, faults)
    counts["workers killed"] = killed
    return counts, faults


def _start(command: list[str]) -> subprocess.Popen:
    null = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment(), stdout=null, stderr=null, start_new_session=True)


def _kill(process: subprocess.Popen) -> None:
    """Kill the program and its workers with signal 9, as when a container ends."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reports(out: Path) -> dict[str, tuple[int, int]]:
    """Return finished cases, with data that show whether they were computed again."""
    found = {}
    for report in out.glob("*/report.json"):
        if not report.parent.name.startswith("."):
            status = report.stat()
            found[report.parent.name] = (status.st_mtime_ns, status.st_ino)
    return found


def _judged(
    out: Path, broken: set[str], code: int, finished: dict[str, tuple[int, int]], faults: list[str]
) -> tuple[Counter[str], list[str]]:
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["case"], row["status"], row["message"]) for row in csv.DictReader(file)]
    counts = Counter(status for _, status, _ in rows)
    names = [name for name, _, _ in rows]
    scans = {p.stem for p in (out.parent / "scans").iterdir()}
    now = _reports(out)
    faults += [f"{name} is lost" for name in sorted(scans - set(names))]
    faults += [f"{name} is there twice" for name, times in Counter(names).items() if times > 1]
    faults += [f"{name} is broken and {status}" for name, status, _ in rows if name in broken and status != "failed"]
    faults += [f"{name} failed: {why}" for name, status, why in rows if name not in broken and status == "failed"]
    faults += [f"{name} was made again" for name in finished if now.get(name) != finished[name]]
    faults += [f"{name}: {why}" for name, _, why in rows if "internal error" in why]
    faults += [f"{p.name} was left" for p in out.iterdir() if p.name.startswith(".")]
    faults += [f"{name} has no report" for name, status, _ in rows if status != "failed" and name not in now]
    if code != (1 if broken else 0):
        faults.append(f"exit code {code}")
    for name in now:
        json.loads((out / name / "report.json").read_text(encoding="utf-8"))
    return counts, faults
