"""Effect of confident pseudo-labels on unlabelled scans (``heartseg.training.fixmatch``) with few labelled scans.

``python benchmarks/semi_supervised.py WORK [--labelled 2] [--seeds 3] [--json FILE]``. WORK is a folder of
``benchmarks/translation.py`` with its volumes. A small 2D U-Net is trained on the CT slices of a few labelled scenes,
with and without the other training scenes as unlabelled slices, with the same steps and the same order of labelled
slices. Tested on true CT of the test scenes (shape-model subjects 15 and 16). With unlabelled slices, a step takes
about four times as long; the third row shows supervised training with more steps in the same time.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import markdown, summarise, write_json
from _slices import SmallUNet, labels_of, move, segmentation_loss, vary

from heartseg import __version__
from heartseg.training.fixmatch import FixMatchSettings, fixmatch_loss
from heartseg.volume import read_volume
from translation import as_ct_slices, mean_dice

ROWS = ("labelled scans alone", "with pseudo-labels", "labelled scans alone, steps x 3")


def load(files: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read all slices of CT files and their labels."""
    images = np.concatenate([as_ct_slices(read_volume(f).array) for f in files])
    return torch.from_numpy(images), torch.from_numpy(np.concatenate([labels_of(f) for f in files]))


def train_row(
    labelled: tuple[torch.Tensor, torch.Tensor], unlabelled: torch.Tensor | None, steps: int, seed: int, batch: int = 8
) -> tuple[torch.nn.Module, list[float]]:
    """Train the averaged U-Net of one row; also return the share of confident voxels every 50 steps."""
    torch.manual_seed(seed)
    network = SmallUNet()
    average = copy.deepcopy(network).requires_grad_(False).eval()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-3)
    course = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.1)
    settings = FixMatchSettings(threshold=0.95, ramp_steps=steps // 2)
    rng, other = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1000)
    images, labels = labelled
    shares = []
    for step in range(steps):
        pick = torch.randint(len(images), (batch,), generator=rng)
        image, label = move(images[pick][:, None].float(), labels[pick].long(), rng)
        loss = segmentation_loss(network(vary(image, rng)), label)
        if unlabelled is not None:
            pick = torch.randint(len(unlabelled), (2 * batch,), generator=other)
            found = fixmatch_loss(network, unlabelled[pick][:, None].float(), settings, step, other, average)
            loss = loss + found.loss
            if step % 50 == 0:
                shares.append(round(found.confident, 3))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        course.step()
        with torch.no_grad():
            decay = min(0.98, 1 - 1 / (step / 4 + 1))
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    return average, shares


def run(args: argparse.Namespace, row: str, seed: int, files: list[Path], tests: list[Path]) -> dict[str, Any]:
    """Dice of each test scene; stored in a file."""
    kept = args.work / f"semi-{args.labelled}-{ROWS.index(row)}-{seed}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    scenes = sorted({f.name.rpartition("-")[0] for f in files})
    chosen = set(np.random.default_rng(seed).permutation(scenes)[: args.labelled])
    first = [f for f in files if f.name.endswith("-0.nii.gz")]
    labelled = load([f for f in first if f.name.rpartition("-")[0] in chosen])
    others = load([f for f in first if f.name.rpartition("-")[0] not in chosen])[0]
    start = time.process_time()
    steps = args.steps * (3 if row == ROWS[2] else 1)
    network, shares = train_row(labelled, others if row == ROWS[1] else None, steps, seed)
    scores = {
        t.name.partition("-")[0]: mean_dice(network, as_ct_slices(read_volume(t).array), labels_of(t)) for t in tests
    }
    record = {"scores": scores, "cpu_minutes": round((time.process_time() - start) / 60, 2), "confident": shares}
    kept.write_text(json.dumps(record))
    return record


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/semi_supervised.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("work", type=Path, help="folder of benchmarks/translation.py")
    parser.add_argument("--labelled", type=int, default=2, help="number of labelled scenes (default: 2)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    files = sorted((args.work / "ct").glob("*.nii.gz"))
    tests = sorted((args.work / "test-ct").glob("*.nii.gz"))
    if not files or not tests:
        parser.error(f"'{args.work}' contains no volumes: run benchmarks/translation.py first")
    runs = {row: [run(args, row, seed, files, tests) for seed in range(args.seeds)] for row in ROWS}
    each = {row: np.array([list(r["scores"].values()) for r in found]) for row, found in runs.items()}
    table = {row: summarise(list(v.mean(0))) | {"each_seed": list(v.mean(1))} for row, v in each.items()}
    print(
        markdown(
            ["Dice on CT", "scenes", "mean", "SD over scenes"],
            [(row, t["n"], t["mean"], t["sd"]) for row, t in table.items()],
        )
    )
    record: dict[str, Any] = {
        "heartseg": __version__,
        "labelled_scenes": args.labelled,
        "steps": args.steps,
        "rows": table,
    }
    for other in (ROWS[0], ROWS[2]):
        gain = each[ROWS[1]] - each[other]
        sd = float(gain.mean(0).std(ddof=1))
        facts = {
            "mean": float(gain.mean()),
            "sd_over_scenes": sd,
            "standard_error": sd / np.sqrt(gain.shape[1]),
            "each_seed": list(gain.mean(1)),
        }
        record[f"gain over {other}"] = facts
        print(
            f"gain over {other}: {facts['mean']:+.3f} (SD over scenes {sd:.3f}, standard error "
            f"{facts['standard_error']:.3f}; seeds {', '.join(f'{v:+.3f}' for v in facts['each_seed'])})"
        )
    record["runs"] = runs
    write_json(args.json, record)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
