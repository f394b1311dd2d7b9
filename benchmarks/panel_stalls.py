"""Longest time that the panel blocks the main thread, from the click to the labels, for a scan of any size.

    QT_QPA_PLATFORM=offscreen python benchmarks/panel_stalls.py [--size 512,512,600] [--real]

The scan contains the heart phantom of the tests in its centre; its labels are used instead of a prediction unless
``--real`` runs the default model. Printed per phase: the longest turn of the event loop in CPU time of the main thread,
which is independent of other programs, and in wall time, which includes waiting for the global interpreter lock. There
is no window, so drawing the views is not included.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "HeartSeg" / "Testing"), str(ROOT / "HeartSeg" / "Logic")]


def scan_and_labels(size: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A phantom on a grid of ``(x, y, z)`` voxels of 0.5 x 0.5 x 0.4 mm: image int16, labels uint8, IJK to RAS.

    It is created at a quarter of the resolution and repeated, like the labels of a model with 2 mm voxels; at full
    resolution, it would take 20 GB.
    """
    from phantoms import heart_phantom

    x, y, z = (-(-n // 4) for n in size)
    labels, geometry, image = heart_phantom((2.0, 2.0, 1.6), shape=(z, y, x), noise_hu=0.0)
    box = tuple(slice(0, n) for n in size[::-1])
    fine = [a.repeat(4, 0).repeat(4, 1).repeat(4, 2)[box] for a in (image.astype(np.int16), labels)]
    matrix = geometry.affine_ras @ np.diag([0.25, 0.25, 0.25, 1.0])
    return np.ascontiguousarray(fine[0]), np.ascontiguousarray(fine[1]), matrix


class Known:
    """Replacement of the model that returns the labels of the phantom."""

    def __init__(self, labels: np.ndarray) -> None:
        self._labels = labels

    def segment(self, volume: Any, progress: Any = None, cancel: Any = None, reporter: Any = None) -> Any:
        from heartseg.result import Result

        with reporter.stage("predict", 10):
            for tile in range(10):
                reporter.advance(tile)
                time.sleep(0.02)
        return Result(self._labels, volume.geometry)


def measure(size: tuple[int, int, int], real: bool) -> dict[str, Any]:
    """Longest turn of the event loop per stage, CPU and wall time, ms."""
    import slicer
    from PySide6 import QtWidgets

    from pythonqt import panel_host

    image, labels, matrix = scan_and_labels(size)
    with panel_host(ROOT / "HeartSeg" / "HeartSeg.py") as session:
        slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        node = slicer.util.addVolumeFromArray(image, ijkToRAS=matrix, name="large")
        del image
        widget = session.open()
        panel = widget.panel
        widget._parameterNode.inputVolume, widget._parameterNode.device = node, "cpu"
        if not real:
            panel.warm._make = lambda model, settings: Known(labels)
        longest: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        stage = ["click"]
        original = panel._progressed

        def progressed(event: Any) -> None:
            stage[0] = event.stage
            original(event)

        panel._progressed = progressed

        def timed(call: Any) -> None:
            cpu, wall = time.thread_time(), time.perf_counter()
            call()
            at = longest[stage[0]]
            at[0] = max(at[0], 1000 * (time.thread_time() - cpu))
            at[1] = max(at[1], 1000 * (time.perf_counter() - wall))

        started = time.perf_counter()
        timed(widget.ui.segmentButton.click)
        while panel.state.running:
            timed(QtWidgets.QApplication.processEvents)
            time.sleep(0.005)
        seconds = time.perf_counter() - started
        assert panel.state.segmentation is not None, widget.ui.errorLabel.text
        per_stage = {s: {"cpu_ms": round(c, 1), "wall_ms": round(w, 1)} for s, (c, w) in longest.items()}
        return {
            "size_xyz": list(size),
            "seconds": round(seconds, 1),
            "longest_turn_cpu_ms": max(v["cpu_ms"] for v in per_stage.values()),
            "longest_turn_wall_ms": max(v["wall_ms"] for v in per_stage.values()),
            "stages": per_stage,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="512,512,600", help="voxels along x, y, z (default: %(default)s)")
    parser.add_argument("--real", action="store_true", help="run the default model instead of using known labels")
    arguments = parser.parse_args()
    voxels = tuple(int(n) for n in arguments.size.split(","))
    print(json.dumps(measure((voxels[0], voxels[1], voxels[2]), arguments.real), indent=2))


if __name__ == "__main__":
    main()
