"""A scheduler of dask with workers, as processes of this machine on the loopback interface."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import psutil

from command_lines import PATIENCE, environment


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class DaskProcesses:
    """Context manager of a scheduler and its workers; each of them can be killed and the scheduler started again.

    Args:
        folder: for the logs and the workers' files.
        workers: worker processes, each under a nanny that starts a new one when it dies.
    """

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder, self.count = folder, workers
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> DaskProcesses:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Start the scheduler and the workers, and wait until all workers are known."""
        port = self.address.rpartition(":")[2]
        here = ("--host", "127.0.0.1", "--no-dashboard")
        self._start("scheduler", "--port", port, *here)
        workers = ("--nworkers", str(self.count), "--nthreads", "1", "--local-directory", str(self.folder))
        self._start("worker", self.address, *workers, *here)
        self.wait_for_workers()

    def _start(self, role: str, *arguments: str) -> None:
        settings = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
        with (self.folder / f"{role}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", role, *arguments],
                    env={**environment(), **settings},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def wait_for_workers(self) -> None:
        """Wait until the scheduler knows all workers."""
        from distributed import Client

        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                with Client(self.address, timeout=5, set_as_default=False) as client:
                    client.wait_for_workers(self.count, timeout=max(1.0, end - time.monotonic()))
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the workers did not start")

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes, without nannies and without their children."""
        return _spawned(psutil.Process(self._processes[1].pid))

    @property
    def children(self) -> list[psutil.Process]:
        """The processes that read and segment."""
        return [child for worker in self.workers for child in _spawned(worker)]

    def kill_scheduler(self) -> None:
        """Kill the scheduler with signal 9."""
        self._processes[0].kill()
        self._processes[0].wait()

    def kill(self) -> None:
        """Kill everything with signal 9."""
        below = [p for process in self._processes if process.poll() is None for p in _below(process.pid)]
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        psutil.wait_procs(below, timeout=30)
        self._processes = []

    def restart(self) -> None:
        """Start everything again at the same address, after a kill of the scheduler."""
        self.kill()
        self.start()


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _spawned(process: psutil.Process) -> list[psutil.Process]:
    """Return the children of a process that multiprocessing started for work."""
    found = []
    for child in process.children():
        try:
            line = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
        if "spawn_main" in line:
            found.append(child)
    return found
