#!/usr/bin/env python
"""Run the tests in several processes, each with some files, and print one summary.

    python tools/run_tests.py [PYTEST OPTIONS ...]

One process a core, up to four. Files of a folder stay together, since they share what takes long to make, and no
process has more than ten, so that memory is given back. A process that ends without a result (killed, crashed) is named
with its signal, and its files are run once more; tests that fail are not.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "HeartSeg" / "Testing"
MOST_FILES = 10
LONGEST = ("cli", "training", "engine", "panel", "inference", "synthesis", "install", "networks", "export")
"""Folders that start first, so that no long one is left for the end."""
PASSED, FAILED, NOTHING_COLLECTED = 0, 1, 5


def batches() -> list[list[Path]]:
    """Files of each process, in the order in which they start."""
    folders: dict[str, list[Path]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        folders.setdefault(file.relative_to(TESTS).parts[0] if file.parent != TESTS else "", []).append(file)
    order = sorted(folders, key=lambda name: (LONGEST.index(name) if name in LONGEST else len(LONGEST), name))
    return [
        folders[name][first :: -(-len(folders[name]) // MOST_FILES)]
        for name in order
        for first in range(-(-len(folders[name]) // MOST_FILES))
    ]


def run(files: Sequence[Path], options: Sequence[str]) -> tuple[int, str]:
    """Run files in a process of their own; returns its exit code (-n: signal n) and what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", *options, *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def run_until_it_ends(files: Sequence[Path], options: Sequence[str]) -> tuple[int, str]:
    """Run files, and once more if the process ends without a result."""
    code, printed = run(files, options)
    if code in (PASSED, FAILED, NOTHING_COLLECTED):
        return code, printed
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    again, second = run(files, [*options, "-v"])
    return again, f"{printed}\nENDED WITHOUT A RESULT ({how}); its files run once more:\n{second}"


def main(options: Sequence[str]) -> int:
    started, counts, failed = time.monotonic(), Counter[str](), []
    todo = batches()
    processes = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    print(f"{sum(map(len, todo))} files in {len(todo)} runs, {processes} at a time", flush=True)
    with ThreadPoolExecutor(processes) as threads:
        running = {threads.submit(run_until_it_ends, files, options): files for files in todo}
        for n, future in enumerate(as_completed(running), 1):
            code, printed = future.result()
            last = (printed.strip().splitlines() or ["nothing was printed"])[-1].strip("= ")
            counts.update({what: int(number) for number, what in re.findall(r"(\d+) ([a-z]+)", last.split(" in ")[0])})
            names = sorted({file.relative_to(TESTS).parts[0] for file in running[future]})
            print(f"[{n}/{len(todo)}] {', '.join(names)}: {last}", flush=True)
            if code not in (PASSED, NOTHING_COLLECTED):
                failed.append(printed)
            if code not in (PASSED, NOTHING_COLLECTED) or "ENDED WITHOUT A RESULT" in printed:
                print(printed, flush=True)
    for printed in failed:
        print("\n".join(line for line in printed.splitlines() if line.startswith(("FAILED", "ERROR"))))
    told = ", ".join(
        f"{counts[what]} {what}" for what in ("failed", "passed", "skipped", "error", "errors") if counts[what]
    )
    print(f"{told} in {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
