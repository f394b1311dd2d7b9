"""Slurm on one node: munged, slurmctld and slurmd as processes of this user, below one folder, on loopback alone."""

from __future__ import annotations

import getpass
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

from command_lines import PATIENCE, environment
from dask_processes import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo")
CPUS = 4

_CONFIGURATION = """\
ClusterName=heartseg
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=100000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

_JOBQUEUE = {
    "jobqueue": {"slurm": {"scheduler-options": {"host": "127.0.0.1"}, "worker-extra-args": ["--host", "127.0.0.1"]}}
}


def is_installed() -> bool:
    """Whether Slurm and munge are there, and this user may start them."""
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    return os.geteuid() == 0 and all(shutil.which(name, path=path) for name in PROGRAMS)


class SlurmNode:
    """Context manager of the three programs; :attr:`environment` lets Slurm's commands find them.

    Args:
        folder: short path (that of a socket has at most 108 bytes) for configuration, state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen] = []
        path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
        self.environment = {
            **environment(),
            "PATH": path,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "DASK_CONFIG": str(folder / "dask"),
        }

    def __enter__(self) -> SlurmNode:
        self._configure()
        try:
            munge = ("--socket", self.folder / "munge.socket", "--key-file", self.folder / "munge.key")
            files = ("--pid-file", self.folder / "munged.pid", "--seed-file", self.folder / "munge.seed")
            self._start("munged", "--foreground", "--force", *munge, *files, "--log-file", self.folder / "munge.log")
            self._until(lambda: (self.folder / "munge.socket").exists())
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D", "-N", platform.node())
            self._until(lambda: self.command("sinfo", "-h", "-o", "%T") == "idle")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self._processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []

    def _configure(self) -> None:
        for name in ("state", "spool", "dask"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        facts = {"host": platform.node(), "user": getpass.getuser(), "folder": self.folder, "cpus": CPUS}
        ports = {"controller_port": free_port(), "node_port": free_port()}
        (self.folder / "slurm.conf").write_text(_CONFIGURATION.format(**facts, **ports))
        (self.folder / "dask" / "jobqueue.yaml").write_text(json.dumps(_JOBQUEUE))  # JSON is YAML

    def _start(self, *command: object) -> None:
        with (self.folder / f"{command[0]}.out").open("ab") as log:
            self._processes.append(
                subprocess.Popen([str(c) for c in command], env=self.environment, stdout=log, stderr=log)
            )

    def _until(self, true: object) -> None:
        assert callable(true)
        end = time.monotonic() + PATIENCE
        while not true():
            ended = [p.args for p in self._processes if p.poll() is not None]
            assert time.monotonic() < end and not ended, f"Slurm did not start: {ended}, see {self.folder}"
            time.sleep(0.1)

    def command(self, *command: str) -> str:
        """Run one of Slurm's commands; returns what it prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """Numbers of the jobs that wait or run."""
        return self.command("squeue", "-h", "-o", "%i").split()
