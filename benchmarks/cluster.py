"""Overhead of a cluster: seconds per scan with ``--scheduler`` against ``--jobs``, both with as many processes.

    python benchmarks/cluster.py --scans 1000

Scans and model are tiny, so that nearly all of the time is that of the program around the network. Wall time and CPU
time of all processes, those of the scheduler and its workers included; runs take turns, and the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "HeartSeg" / "Logic"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "HeartSeg" / "Testing"))

from command_lines import environment
from dask_processes import DaskProcesses
from torture.cohort import make_cohort, make_model, segment_command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=200, help="scans of each run (default: 200)")
    parser.add_argument("--processes", type=int, default=4, help="worker processes (default: 4)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each kind (default: 3)")
    args = parser.parse_args()
    seconds: dict[str, list[tuple[float, float]]] = {"--jobs": [], "--scheduler": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_cohort(folder, args.scans)
        make_model(folder)
        with DaskProcesses(folder / "dask", args.processes) as cluster:
            for run in range(args.runs):
                for option, value in (("--jobs", str(args.processes)), ("--scheduler", cluster.address)):
                    command = segment_command(folder, folder / f"out{option}{run}", option, value)
                    wall, cpu = timed(command)
                    seconds[option].append((wall / args.scans, cpu / args.scans))
                    print(
                        f"{option}: {1000 * wall / args.scans:.1f} ms wall, {1000 * cpu / args.scans:.1f} ms CPU a scan"
                    )
    medians = {
        option: [statistics.median(column) for column in zip(*runs, strict=True)] for option, runs in seconds.items()
    }
    ratios = [b / a - 1 for a, b in zip(medians["--jobs"], medians["--scheduler"], strict=True)]
    print(f"overhead of --scheduler: {ratios[0]:+.1%} wall, {ratios[1]:+.1%} CPU")
    print(json.dumps({"scans": args.scans, "processes": args.processes, "seconds": seconds}))
    return 0


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command, with those of all other processes below this one."""
    began, before = time.perf_counter(), cpu_seconds()
    subprocess.run(command, env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter() - began, cpu_seconds() - before


def cpu_seconds() -> float:
    """CPU seconds of this process and all below it, also of those that have ended."""
    me = psutil.Process(os.getpid())
    return sum(sum(process.cpu_times()[:4]) for process in (me, *me.children(recursive=True)))


if __name__ == "__main__":
    sys.exit(main())
