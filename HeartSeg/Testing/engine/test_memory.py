"""Memory use is bounded: a scan of 512 x 512 x 600 voxels on the CPU, on a machine of 8 GiB; too little is one line.

The sample scan is repeated, so that the scan is large and contains a heart, and every stage does its work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, resource, sys
import numpy as np
from heartseg import Geometry, Segmenter, Settings, Volume, read_volume

if sys.platform == "linux":
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
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

TIGHT = """
import resource, sys
from heartseg import Segmenter, Settings, read_volume
from heartseg.errors import HeartSegError
from heartseg.progress import Reporter

volume = read_volume(sys.argv[2])
segmenter = Segmenter(sys.argv[1], Settings(device="cpu", threads=1, backend=sys.argv[3]))
segmenter.engine.find_heart(volume, Reporter())
segmenter.engine.load(Reporter())
used = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 200 * 2**20, used + 200 * 2**20))
reporter = Reporter()
try:
    segmenter.segment(volume, reporter=reporter)
except HeartSegError as error:
    print(type(error).__name__, error)
for text in reporter.announcements:
    print(text)
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
    assert told["peak_gb"] < 3.0  # 1.3 GB when it was measured, with 0.5 for scan and labels; documented limit: 6


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_too_little_memory_for_a_tile_is_one_line_with_a_way_out(
    default_model: Path, sample_scan: Path, repository: Path, backend: str
) -> None:
    """The tile of the fine network takes 300 MB and more, and 200 MB are left; the run announces it."""
    environment = {**os.environ, "PYTHONPATH": str(repository / "HeartSeg" / "Logic")}
    run = subprocess.run(
        [sys.executable, "-c", TIGHT, str(default_model), str(sample_scan), backend],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    line, announced = run.stdout.splitlines()
    assert "needs about 0.7 GiB more memory and 0.2 GiB are free" in announced
    assert line.startswith("DeviceError out of memory on cpu with one tile of 128x128x128 voxels: "), run.stderr
