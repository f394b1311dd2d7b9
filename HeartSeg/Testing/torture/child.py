"""A process that reads files with limits of memory and time, so that no file can disturb the campaign."""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

LOGIC = Path(__file__).resolve().parents[2] / "Logic"
SECONDS = 20.0
MEMORY_BYTES = 4 << 30

_PROGRAM = """
import hashlib, json, sys
from heartseg.errors import HeartSegError
from heartseg.volume import read_volume
import SimpleITK, pydicom, pydicom.pixels
print("ready", flush=True)
for line in sys.stdin:
    try:
        volume = read_volume(json.loads(line))
        grid = volume.geometry
        told = {
            "outcome": "read",
            "voxels": hashlib.sha256(volume.array.tobytes()).hexdigest(),
            "grid": [grid.shape, grid.spacing, grid.origin, grid.direction],
            "warnings": [f.code for f in volume.findings if f.severity.value != "info"],
        }
    except HeartSegError as error:
        told = {"outcome": "refused", "message": str(error)}
    except MemoryError:
        told = {"outcome": "refused", "message": "out of memory"}
    except BaseException as error:
        told = {"outcome": "fault", "message": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps(told), flush=True)
"""


@dataclass
class Outcome:
    """Outcome of reading one file.

    Attributes:
        outcome: ``read``, ``refused``, ``fault`` (an exception that is not HeartSeg's own), ``crash`` (of the child) or
            ``hang``.
        message: message of the refusal or fault.
        voxels, grid, warnings: content of the file that was read.
    """

    outcome: str
    message: str = ""
    voxels: str = ""
    grid: list = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Child:
    """Reads one file after the other; restarts after a crash or a hang."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> Outcome:
        """Read a scan, with at most :data:`SECONDS` and :data:`MEMORY_BYTES`."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(str(path)) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass
        if not select.select([process.stdout], [], [], SECONDS)[0]:
            self.close()
            return Outcome("hang", f"more than {SECONDS:g} s")
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self.close()
            return Outcome("crash", f"exit code {code}")
        return Outcome(**json.loads(line))

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            environment = {**os.environ, "PYTHONPATH": str(LOGIC), "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
                preexec_fn=_limit,
            )
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n", "the reading process did not start"
        return self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
