#!/usr/bin/env python
"""Time and peak memory per stage: HeartSeg compared with stock nnU-Net, for the same model folder and scan.

    python benchmarks/inference.py SCAN [--grid 512x512x300] [--backends torch,onnx,openvino,stock]

The time is measured from the array in memory to labels on its grid, with a loaded model; the first run of each backend
is excluded. Start-up (imports), reading, loading and writing are listed separately. Each backend runs in a separate
process, so that peaks of memory (resident set, sampled every 10 ms) are independent. Stock nnU-Net runs over the whole
image without mirroring, as with ``--disable_tta``; HeartSeg locates the heart first, and its time includes checks,
clean-up and measures. Operations of the networks are counted from their layers and compared with the peak of this
machine: the fastest of several float32 products of matrices of 2,048 rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from heartseg.progress import ProgressEvent
    from heartseg.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "HeartSeg" / "Resources" / "SampleData" / "HeartSeg-synthetic-CTA.nii.gz"
T = TypeVar("T")
Runner = Callable[["Volume"], "tuple[np.ndarray, dict[str, float]]"]
"""Segments a volume; returns labels and the seconds of each stage."""


class Usage:
    """Use of each stage: peak resident memory (MB, sampled in the background), CPU seconds, operations of networks."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self.stage, self._since = "start", time.process_time()
        self.peak: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self.gflop: dict[str, float] = defaultdict(float)
        self._stop = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.peak[self.stage] = max(self.peak[self.stage], self._process.memory_info().rss / 1e6)

    def enter(self, stage: str) -> None:
        """Count from now on for this stage."""
        now = time.process_time()
        self.cpu[self.stage] += now - self._since
        self.stage, self._since = stage, now

    def stop(self) -> float:
        """Stop sampling and return the overall peak, MB."""
        self.enter("end")
        self._stop.set()
        return max(self.peak.values(), default=0.0)


def regrid(volume: Volume, grid: tuple[int, int, int]) -> Volume:
    """Resample a scan linearly to a number of voxels ``(x, y, z)`` with the same extent, int16."""
    import numpy as np
    import SimpleITK as sitk

    from heartseg import Geometry, Volume

    g = volume.geometry
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(g.spacing), image.SetOrigin(g.origin), image.SetDirection(g.direction)
    x, y, z = (e / n for e, n in zip(g.extent_mm, grid, strict=True))
    spacing = (x, y, z)
    shift = [(s - o) / 2 for s, o in zip(spacing, g.spacing, strict=True)]
    origin = g.affine[:3, :3] @ (np.array(shift) / g.spacing) + g.origin
    out = sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, origin, spacing, g.direction, 0, sitk.sitkInt16)
    array = sitk.GetArrayFromImage(out)
    return Volume(
        array,
        Geometry(array.shape, spacing, (origin[0], origin[1], origin[2]), g.direction),
        volume.name,
        volume.modality,
    )


def measure(args: argparse.Namespace) -> dict:
    """Measure one backend; runs in a separate process."""
    usage = Usage()
    once: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        usage.enter(name)
        started = time.perf_counter()
        result = work()
        once[name] = time.perf_counter() - started
        return result

    package = {"onnx": "onnxruntime", "openvino": "openvino"}.get(args.child, "torch")
    timed("import", lambda: __import__(package))
    if args.threads and package == "torch":
        import torch

        torch.set_num_threads(args.threads)
    import heartseg
    from heartseg.devices import cpu_threads

    volume = timed("read", lambda: heartseg.read_volume(args.scan))
    if args.grid:
        x, y, z = map(int, args.grid.split("x"))
        volume = timed("regrid (not part of a run)", partial(regrid, volume, (x, y, z)))
    run = stock_runner if args.child == "stock" else our_runner
    segment = timed("load model", lambda: run(args, usage))
    timed("first run (warm-up)", lambda: segment(volume))
    usage.enter("between stages")
    usage.cpu.clear()
    usage.gflop.clear()
    totals: list[float] = []
    stages: dict[str, list[float]] = defaultdict(list)
    for _ in range(args.stock_repeats if args.child == "stock" else args.repeats):
        started = time.perf_counter()
        labels, seconds = segment(volume)
        totals.append(time.perf_counter() - started)
        for stage, value in seconds.items():
            stages[stage].append(value)
    peak = usage.stop()
    threads = cpu_threads(args.threads)
    return {
        "backend": args.child,
        "grid": list(volume.geometry.size),
        "seconds": statistics.median(totals),
        "spread": [min(totals), max(totals)],
        "n": len(totals),
        "stages": {k: statistics.median(v) for k, v in stages.items()},
        "once": once,
        "peak_mb": peak,
        "stage_peak_mb": dict(usage.peak),
        "stage_cpu": {k: v / len(totals) for k, v in usage.cpu.items()},
        "stage_gflop": {k: v / len(totals) for k, v in usage.gflop.items() if v},
        "threads": threads,
        "peak_gflops": matrix_gflops(threads),
        "foreground_voxels": int((labels > 0).sum()),
    }


def matrix_gflops(threads: int) -> float:
    """10^9 operations a second of this machine in a float32 matrix product, the fastest of ten."""
    import torch

    torch.set_num_threads(threads)
    a = torch.ones(2048, 2048)
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best / 1e9


def our_runner(args: argparse.Namespace, usage: Usage) -> Runner:
    """Measure HeartSeg from array to labels, including checks, clean-up and measures, which stock nnU-Net lacks."""
    from heartseg import Segmenter, Settings
    from heartseg.progress import Reporter

    segmenter = Segmenter(args.model, Settings(device=args.device, backend=args.child, threads=args.threads))
    costs: dict[str, float] = {}

    def watch(event: ProgressEvent) -> None:
        usage.enter(event.stage)
        if event.done == 0 and not event.message and event.stage in costs:
            usage.gflop[event.stage] += event.total * costs[event.stage]

    def segment(volume: Volume) -> tuple[np.ndarray, dict[str, float]]:
        plan = segmenter.engine.plan(volume.geometry)
        for stage, load in (("predict", plan.fine), ("average", plan.fine), ("locate", plan.finder)):
            costs[stage] = load.cost.gflop if load and load.cost else 0.0
        reporter = Reporter(watch)
        labels = segmenter.segment(volume, reporter=reporter).labels
        return labels, {k: v for k, v in reporter.seconds.items() if k != "load model"}

    return segment


def stock_runner(args: argparse.Namespace, usage: Usage) -> Runner:
    """Measure the predictor of nnU-Net from array to labels, without mirroring."""
    import types

    import torch

    name = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"
    sys.modules[name] = types.ModuleType(name)  # prevents the trainer search from importing torchvision
    import numpy as np
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from heartseg.models.store import find_model

    device = torch.device("cuda" if args.device in ("auto", "cuda") and torch.cuda.is_available() else "cpu")
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=device.type == "cuda", device=device, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(find_model(args.model).path), (0,), "checkpoint_final.pth")

    def segment(volume: Volume) -> tuple[np.ndarray, dict[str, float]]:
        usage.enter("stock")
        spacing = {"spacing": list(volume.geometry.spacing[::-1])}
        return predictor.predict_single_npy_array(volume.array[None].astype(np.float32), spacing), {}

    return segment


def table(rows: list[dict]) -> str:
    """Format the results as Markdown tables."""
    lines = ["| backend | median s | min-max s | n | peak MB | foreground voxels |", "|---|---|---|---|---|---|"]
    for r in rows:
        low, high = r["spread"]
        lines.append(
            f"| {r['backend']} | {r['seconds']:.2f} | {low:.2f}-{high:.2f} | {r['n']} | {r['peak_mb']:.0f} | "
            f"{r['foreground_voxels']} |"
        )
    stock = next((r for r in rows if r["backend"] == "stock"), None)
    for r in rows:
        if stock and r is not stock:
            lines.append(f"\n{r['backend']}: {stock['seconds'] / r['seconds']:.1f} times faster than stock")
    heads = "| backend | stage | median s | CPU s | peak MB | GFLOP | GFLOP/s | of the peak |"
    lines += ["", heads, "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        for stage, seconds in r["stages"].items():
            gflop = r["stage_gflop"].get(stage, 0.0)
            speed = gflop / max(seconds, 1e-9)
            work = f"{gflop:.0f} | {speed:.0f} | {speed / r['peak_gflops']:.0%}" if gflop else " | | "
            lines.append(
                f"| {r['backend']} | {stage} | {seconds:.3f} | {r['stage_cpu'].get(stage, 0):.3f} | "
                f"{r['stage_peak_mb'].get(stage, 0):.0f} | {work} |"
            )
        lines.append(f"\n{r['backend']}: {r['threads']} threads, peak {r['peak_gflops']:.0f} GFLOP/s in float32")
    lines += ["", "Apart from the run (once each):", "", "| backend | what | s | peak MB |", "|---|---|---|---|"]
    for r in rows:
        for what, seconds in r["once"].items():
            lines.append(f"| {r['backend']} | {what} | {seconds:.2f} | {r['stage_peak_mb'].get(what, 0):.0f} |")
    return "\n".join(lines)


def output_seconds(args: argparse.Namespace) -> str:
    """Time of `heartseg segment` for the output files, from its report."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "heartseg.cli.main", "segment", args.scan, "-o", str(out), "--json"]
        if args.model:
            command += ["--model", args.model]
        started = time.perf_counter()
        report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        total = time.perf_counter() - started
        write = report["output"]["seconds"]["write"]
    return f"whole command on the scan as stored: {total:.1f} s, of which writing all files: {write} s"


def machine() -> str:
    """One-line description of the machine."""
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        name = next(
            (line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line), name
        )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, {os.cpu_count()} cores, {gpu}, torch {torch.__version__}, Python {platform.python_version()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", nargs="?", default=str(SAMPLE), help="a scan (default: the synthetic sample)")
    parser.add_argument("--grid", help="resample the scan to this many voxels first, e.g. 512x512x300")
    parser.add_argument("--model", help="model name or folder (default: the default model)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--stock-repeats", type=int, default=1, help="number of runs; stock nnU-Net is slow, use 5 if time permits"
    )
    parser.add_argument("--backends", default="torch,stock", help="of torch, onnx, openvino, stock")
    parser.add_argument("--no-files", action="store_true", help="skip the timing of the output files")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print("RESULT " + json.dumps(measure(args)))
        return 0
    rows = []
    for backend in args.backends.split(","):
        run = subprocess.run([sys.executable, *sys.argv, "--child", backend], capture_output=True, text=True)
        result = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
        if not result:
            print(f"{backend}: failed\n{run.stderr[-2000:]}", file=sys.stderr)
            continue
        rows.append(json.loads(result[-1].removeprefix("RESULT ")))
    print(f"{args.scan}, grid {rows[0]['grid'] if rows else '?'}\n{machine()}\n\n{table(rows)}")
    if not args.no_files:
        print(f"\n{output_seconds(args)}")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2))
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
