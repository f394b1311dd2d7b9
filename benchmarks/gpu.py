#!/usr/bin/env python
"""GPU benchmark: segmentation of a chest scan, compared with the labels of the CPU, and speed of training.

    python benchmarks/gpu.py segment [--model FOLDER] [--grid 512x512x300]
    python benchmarks/gpu.py train SCENES [--batch 4]

``train`` needs only torch, NumPy and SciPy; ``segment`` also needs dynamic-network-architectures. ``segment`` measures
the time from the array in memory to labels on its grid, including checks, clean-up and measures, with a loaded model.
``train`` measures the creation of samples from SCENES (a folder of ``heartseg train-default``) and a step of the fine
network (1.5 mm, 128 voxels) in both memory layouts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from heartseg.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "HeartSeg" / "Logic"))
SAMPLE = ROOT / "HeartSeg" / "Resources" / "SampleData" / "HeartSeg-synthetic-CTA.nii.gz"


def sample_volume(grid: tuple[int, int, int]) -> Volume:
    """The sample scan, read without SimpleITK and linearly resampled to a number of voxels (x, y, z), int16."""
    from heartseg import Geometry, Volume

    data = gzip.decompress(SAMPLE.read_bytes())
    nx, ny, nz = struct.unpack_from("<3h", data, 42)
    if struct.unpack_from("<h", data, 70)[0] != 4:
        raise ValueError(f"'{SAMPLE}' is not int16")
    spacing = struct.unpack_from("<3f", data, 80)
    start = int(struct.unpack_from("<f", data, 108)[0])
    voxels = np.frombuffer(data, "<i2", nx * ny * nz, start).reshape(nz, ny, nx)
    image = torch.from_numpy(voxels.astype(np.float32))[None, None]
    image = torch.nn.functional.interpolate(image, grid[::-1], mode="trilinear", align_corners=False)
    array = image[0, 0].round().short().numpy()
    new = tuple(s * n / m for s, n, m in zip(spacing, (nx, ny, nz), grid, strict=True))
    return Volume(array, Geometry(array.shape, new, (0.0, 0.0, 0.0)), "sample", "CT")


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Time of each repetition, including GPU work, s."""
    seconds = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def segment(args: argparse.Namespace) -> dict[str, object]:
    """Time on the GPU (median, minimum, maximum), stages, memory, and Dice against the labels of the CPU."""
    from heartseg import Segmenter, Settings

    x, y, z = (int(n) for n in args.grid.split("x"))
    volume = sample_volume((x, y, z))
    gpu = Segmenter(args.model, Settings(device="cuda"))
    first = timed(lambda: gpu.segment(volume), 1)[0]
    torch.cuda.reset_peak_memory_stats()
    seconds = timed(lambda: gpu.segment(volume), args.repeats)
    result = gpu.segment(volume)
    facts: dict[str, object] = {
        "grid": [x, y, z],
        "seconds": statistics.median(seconds),
        "spread": [min(seconds), max(seconds)],
        "n": len(seconds),
        "first": first,
        "gpu_MB": round(torch.cuda.max_memory_allocated() / 1e6),
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "stages": dict(result.provenance.seconds),
    }
    if args.labels:
        np.savez_compressed(args.labels, labels=result.labels)
    if not args.no_cpu:
        from heartseg.training.scoring import dice_scores

        other = Segmenter(args.model, Settings(device="cpu")).segment(volume).labels
        facts["dice_with_cpu"] = dice_scores(result.labels, other, np.ones(other.shape, bool))
    return facts


def train(args: argparse.Namespace) -> dict[str, object]:
    """Time of a sample and of a training step, ms."""
    from heartseg.training.default import choose_stages
    from heartseg.training.stream import SampleStream
    from heartseg.training.trainer import Recipe, Trainer

    stage = choose_stages("full", "cuda", args.batch)[1]
    facts: dict[str, object] = {"card": torch.cuda.get_device_name(), "batch": stage.batch}
    samples = iter(SampleStream(args.scenes, stage, 0, 0, "cuda", generator=args.generator))
    for _ in range(4):
        next(samples)
    facts["sample_ms"] = 1000 * statistics.mean(timed(lambda: next(samples), 12))
    images, targets = zip(*(next(samples) for _ in range(stage.batch)), strict=True)
    batch = torch.stack(images), torch.stack(targets)
    for layout in (torch.channels_last_3d, torch.contiguous_format):
        with tempfile.TemporaryDirectory() as unused:
            trainer = Trainer(stage, args.scenes, Path(unused), Recipe(steps=1000, device="cuda"))
        trainer.use_layout(layout)
        step = partial(trainer.take_step, *batch)
        timed(step, 3)
        seconds = timed(step, 8)
        facts[f"step_ms_{str(layout).split('.')[-1]}"] = 1000 * statistics.median(seconds)
    facts["gpu_MB"] = round(torch.cuda.max_memory_allocated() / 1e6)
    return facts


def main() -> None:
    """Print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("segment")
    one.add_argument("--model", default=str(ROOT / "Models" / "HeartSeg-Default"))
    one.add_argument("--grid", default="512x512x300")
    one.add_argument("--repeats", type=int, default=5)
    one.add_argument("--no-cpu", action="store_true", help="skip the comparison with the CPU")
    one.add_argument("--labels", type=Path, metavar="FILE.npz", help="write the labels here")
    one.set_defaults(work=segment)
    two = commands.add_parser("train")
    two.add_argument("scenes", type=Path)
    two.add_argument("--batch", type=int, default=4)
    two.add_argument("--generator", default="0.6", help="recipe of the images (default: 0.6)")
    two.set_defaults(work=train)
    args = parser.parse_args()
    print(json.dumps(args.work(args), indent=1))


if __name__ == "__main__":
    main()
