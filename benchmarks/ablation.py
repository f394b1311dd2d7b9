"""Contribution of each part of the generator: the same small network, trained at equal cost without each part.

``python benchmarks/ablation.py ../shared/data WORK --start MODEL/finder [--steps 250] [--seeds 2] [--json FILE]``. The
network is that of the finder, at 4 mm (48 voxels) in windows around the heart, so that a row takes minutes on one core.
All rows start from the same weights. The differences between rows are relevant, not the absolute values. Evaluated on
synthetic CT and MR of validation subjects 15 and 16 with centred windows, and on the development CT.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heartseg.synthesis.hearts import VALIDATION_SUBJECTS
from heartseg.synthesis.scenes import make_scenes
from heartseg.synthesis.source import load_source
from heartseg.training.evaluate import score_development_ct
from heartseg.training.scoring import score_scenes
from heartseg.training.stages import FINDER, FINE
from heartseg.training.trainer import Recipe, Trainer

STAGE = replace(FINE, spacing=4.0, patch=48, features=FINDER.features, learning_rate=4e-3)
PLAIN_ANATOMY = ("modes", "chambers", "walls", "pose", "detail", "devices")
ARTEFACTS = ("mixing", "streaks", "beam_hardening", "motion", "ghosts", "inflow", "bias", "slices", "kernel")
ROWS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "everything": ((), ()),
    "no free contrast": ((), ("free",)),
    "no MR": ((), ("mr",)),
    "CT only": ((), ("mr", "free")),
    "no artefacts": ((), ARTEFACTS),
    "no pictures (windows)": ((), ("window",)),
    "hearts as the subjects are": (PLAIN_ANATOMY, ()),
    "trunk unwarped, all organs": (("warp", "organs", "blobs"), ()),
}
"""Name -> disabled parts of the anatomy and the appearance."""


def scenes_for(data: Path, work: Path, without: tuple[str, ...], count: int) -> Path:
    """Folder with ``count`` training scenes without some parts; created once."""
    folder = work / ("scenes-" + ("-".join(without) or "full"))
    make_scenes(load_source(data), folder, range(count), without=frozenset(without))
    return folder


def train_row(scenes: Path, out: Path, without: tuple[str, ...], steps: int, seed: int, start: Path) -> torch.nn.Module:
    """Train the averaged network of one run."""
    trainer = Trainer(STAGE, scenes, out, Recipe(steps=steps, seed=seed, workers=1, ema=0.98, without=without))
    if not trainer.resume():
        trainer.start_from(start / "fold_0" / "checkpoint_final.pth")
    trainer.run()
    return trainer.average


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/ablation.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data folder (../shared/data)")
    parser.add_argument("work", type=Path, help="folder for scenes and runs")
    parser.add_argument("--start", type=Path, required=True, help="finder folder with the initial weights of all rows")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--scenes", type=int, default=30, help="number of training scenes of each row")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    validation = args.work / "validation"
    make_scenes(load_source(args.data), validation, range(50_000, 50_008), subjects=VALIDATION_SUBJECTS, thorax_every=4)
    table: dict[str, Any] = {}
    for name in args.rows:
        anatomy, appearance = ROWS[name]
        scenes, cells = scenes_for(args.data, args.work, anatomy, args.scenes), []
        start = time.monotonic()
        for seed in range(args.seeds):
            run = args.work / "runs" / f"{name.replace(' ', '-')}-{seed}"
            network = train_row(scenes, run, appearance, args.steps, seed, args.start)
            cells.append(
                [
                    score_scenes(network, STAGE, validation, kind="ct")["mean"]["mean"],
                    score_scenes(network, STAGE, validation, kind="mr")["mean"]["mean"],
                    float(np.mean(list(score_development_ct(network, STAGE, args.data).values()))),
                ]
            )
        columns = list(zip(*cells, strict=True))
        table[name] = {"n_seeds": args.seeds, "steps": args.steps, "minutes": round((time.monotonic() - start) / 60, 1)}
        for key, values in zip(("ct", "mr", "development_ct"), columns, strict=True):
            table[name][key] = [round(float(v), 3) for v in values]
        if args.json:
            args.json.write_text(json.dumps(table, indent=1) + "\n")
        text = "  ".join(f"{k} {np.mean(table[name][k]):.3f}" for k in ("ct", "mr", "development_ct"))
        print(f"{name:28} {text}  (each seed: {cells})", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
