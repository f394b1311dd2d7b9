"""``python -m torture``: run the campaign for a limited time; prints counts, and exits with 1 after any failure."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture import cohort, fuzz

TABLE = ("volume/test_dicom_kinds.py", "volume/test_file_kinds.py", "cli/test_bad_input.py", "cli/test_cohorts.py")
"""The table of bad inputs (docs/reference/reading-faults.md): every kind in several variants."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000, help="spoilt files (default: 2000)")
    parser.add_argument("--scans", type=int, default=200, help="scans of the cohort (default: 200)")
    parser.add_argument("--kills", type=int, default=10, help="kill -9 of the cohort (default: 10)")
    parser.add_argument("--cluster-scans", type=int, default=200, help="scans of that on a cluster (default: 200)")
    parser.add_argument("--every", type=float, default=10, help="seconds between kills of its workers (default: 10)")
    parser.add_argument("--seed", type=int, default=None, help="of the random choices (default: the time)")
    args = parser.parse_args()
    start = int(time.time()) if args.seed is None else args.seed
    print(f"seed {start}")
    bad = _fuzz(args.files, start) + _table() if args.files else 0
    bad += _cohort(args.scans, args.kills, start) if args.scans else 0
    bad += _cluster(args.cluster_scans, args.every, start) if args.cluster_scans else 0
    print("nothing went wrong" if not bad else f"{bad} went wrong")
    return 1 if bad else 0


def _fuzz(files: int, start: int) -> int:
    began = time.monotonic()
    counts, faults = fuzz.run(files, start)
    shown = ", ".join(
        f"{counts[name]} {name}" for name in ("read", "warned", "refused", "fault", "crash", "hang", "silent")
    )
    print(f"spoilt files: {shown} ({time.monotonic() - began:.0f} s)")
    for fault in faults:
        print(f"  {fault}")
    return len(faults)


def _table() -> int:
    folder = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(str(folder / name) for name in TABLE)], capture_output=True, text=True, check=False
    )
    print(f"table of bad inputs: {done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]}")
    return int(done.returncode != 0)


def _cohort(scans: int, kills: int, start: int) -> int:
    return _judged(f"cohort of {scans}, killed {kills} times", cohort.run, scans, kills, start)


def _cluster(scans: int, every_s: float, start: int) -> int:
    title = f"cohort of {scans} on a cluster, a worker killed every {every_s:g} s, the scheduler and the command once"
    return _judged(title, cohort.run_on_cluster, scans, every_s, start)


def _judged(title: str, run: Callable[..., tuple[Counter[str], list[str]]], *arguments: float) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = run(Path(folder), *arguments)
    shown = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    print(f"{title}: {shown} ({time.monotonic() - began:.0f} s)")
    for fault in faults:
        print(f"  {fault}")
    return len(faults)


if __name__ == "__main__":
    sys.exit(main())
