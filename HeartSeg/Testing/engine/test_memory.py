"""Memory use is bounded: a scan of 512 x 512 x 600 voxels on the CPU.

The sample scan is repeated, so that the scan is large and contains a heart, and every stage does its work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, resource, sys
import numpy as np
from heartseg import Geometry, Segmenter, Settings, Volume, read_volume

sample = read_volume(sys.argv[2])
z, y, x = sample.array.shape
array = np.ascontiguousarray(sample.array.repeat(7, 0).repeat(6, 1).repeat(5, 2)[:600, :512, 59:571])
array = np.pad(array, ((0, 600 - len(array)), (0, 0), (0, 0)), mode="edge")
spacing = tuple(s / n for s, n in zip(sample.geometry.spacing, (5, 6, 7)))
del sample
volume = Volume(array, Geometry(array.shape, spacing), "large", "CT")
result = Segmenter(sys.argv[1], Settings(device="cpu")).segment(volume)
try:  # Linux: the peak of this program alone; ru_maxrss starts at that of the process that started it
    told = open("/proc/self/status").read()
    peak = int(told.split("VmHWM:")[1].split()[0]) * 1024 / 1e9
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
print(json.dumps({"peak_gb": peak, "shape": result.labels.shape, "found": result.heart_found}))
"""


def test_a_scan_of_600_slices_stays_far_below_6_gb(default_model: Path, sample_scan: Path, repository: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(repository / "HeartSeg" / "Logic")}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(default_model), str(sample_scan)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["shape"] == [600, 512, 512]
    assert told["found"]
    assert told["peak_gb"] < 3.0  # measured: 1.3 GB, with 0.5 for scan and labels; documented limit: 6
