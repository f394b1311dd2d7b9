"""All 2D networks of the catalogue, trained in the same way on synthetic CT and MR slices, scored on unseen hearts.

    python benchmarks/networks_2d.py ../shared/data WORK [--scenes FOLDER] [--networks plain csfbu] [--json FILE]

Slices are axial with 128 x 128 pixels of 2 mm, z-scored; at least 60 % of the slices of a training volume contain the
heart. CT is arterial and MR is bSSFP, as in MM-WHS, but with random noise, thickness, contrast and artefacts. Training
hearts are drawn from the space of subjects 1-14; the held-out hearts are subjects 15 and 16. All networks have the same
plan, samples, optimizer (AdamW, warm-up and cosine schedule) and steps, with batch 4; networks with edges use m = 1 and
alpha = 1. A case is one image of one held-out scene: 16 slices evenly spaced over its heart. Dice is the mean over its
structures. Finished runs are kept in WORK/runs, and slices in WORK/slices, to continue an interrupted benchmark.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import markdown, summarise, write_json

from heartseg.networks.catalogue import NETWORKS, build, unet_plan
from heartseg.synthesis.appearance import draw_appearance, render
from heartseg.synthesis.hearts import VALIDATION_SUBJECTS
from heartseg.synthesis.regions import IGNORE, Region
from heartseg.synthesis.scenes import Scene, load_scene, make_scenes
from heartseg.synthesis.source import load_source
from heartseg.synthesis.views import SUBDIVISIONS, majority
from heartseg.training.edges import split_interior_edge
from heartseg.training.losses import DeepSupervision, RegionAndEdgeLoss, cross_entropy_and_soft_dice
from heartseg.training.scoring import dice_scores

SIZE, DEPTH, SPACING = 128, 64, 2.0
"""Pixels per axis, slices of a rendered volume, and their spacing, mm."""
HEART_SHARE = 0.6
"""Minimum fraction of slices with heart in the selection from a training volume."""
PROTOCOLS = {"ct": "arterial", "mr": "bssfp"}
LOOKS = "-".join(PROTOCOLS.values())
N_STRUCTURES = 7
BATCH, WARM_UP, CLIP = 4, 50, 5.0
PASS = 0.9
"""Minimum Dice of a network relative to the plain U-Net."""


@dataclass(frozen=True)
class Slices:
    """Images float16 and targets uint8, both (n, y, x); ``case`` (n,) is the volume index of each slice."""

    images: np.ndarray
    targets: np.ndarray
    case: np.ndarray


def slab(scene: Scene, centre: np.ndarray, zoom: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Regions (at twice the resolution) and target, DEPTH x SIZE x SIZE voxels around a point (mm z y x)."""
    step, index, inside = SPACING / SUBDIVISIONS, [], []
    for axis, n in enumerate((DEPTH, SIZE, SIZE)):
        line = (np.arange(n * SUBDIVISIONS) - (n * SUBDIVISIONS - 1) / 2) * step * zoom[axis] + centre[axis]
        at = np.rint(line / scene.spacing).astype(int)
        inside.append((at >= 0) & (at < scene.regions.shape[axis]))
        index.append(at.clip(0, scene.regions.shape[axis] - 1))
    block = tuple(slice(i.min(), i.max() + 1) for i in index)
    labels = np.zeros([b.stop - b.start for b in block], np.uint8)
    low = [max(b.start, o) for b, o in zip(block, scene.target_origin, strict=True)]
    ends = [o + n for o, n in zip(scene.target_origin, scene.target.shape, strict=True)]
    high = [max(a, min(b.stop, e)) for a, b, e in zip(low, block, ends, strict=True)]
    here = tuple(slice(a - b.start, c - b.start) for a, c, b in zip(low, high, block, strict=True))
    there = tuple(slice(a - o, c - o) for a, c, o in zip(low, high, scene.target_origin, strict=True))
    labels[here] = scene.target[there]
    local = np.ix_(*(i - b.start for i, b in zip(index, block, strict=True)))
    seen = inside[0][:, None, None] & inside[1][:, None] & inside[2]
    regions = np.where(seen, np.asarray(scene.regions[block])[local], np.uint8(Region.UNSEEN))
    parts = np.where(regions == Region.UNSEEN, np.uint8(IGNORE), labels[local])
    return torch.from_numpy(regions), majority(torch.from_numpy(parts), SUBDIVISIONS)


def choose_slices(rng: np.random.Generator, target: np.ndarray, count: int) -> np.ndarray:
    """Indices of ``count`` random slices; at least the fraction HEART_SHARE of them contains the heart."""
    bearing = ((target > 0) & (target != IGNORE)).any((1, 2))
    with_heart = rng.permutation(np.flatnonzero(bearing))[: math.ceil(HEART_SHARE * count)]
    rest = rng.permutation(np.setdiff1d(np.arange(len(target)), with_heart))
    return np.concatenate((with_heart, rest))[:count]


def spread_slices(target: np.ndarray, count: int) -> np.ndarray:
    """Indices of ``count`` slices evenly spaced over the heart."""
    bearing = np.flatnonzero(((target > 0) & (target != IGNORE)).any((1, 2)))
    return bearing[np.linspace(0, len(bearing) - 1, count).round().astype(int)]


def z_score(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Normalize the known pixels of a slice to mean 0 and SD 1; unknown ones get its minimum; float16."""
    if not known.any():
        return np.zeros(image.shape, np.float16)
    filled = np.where(known, image, image[known].min())
    return ((filled - image[known].mean()) / max(float(image[known].std()), 1e-6)).astype(np.float16)


def make_slices(cards: Sequence[Path], seed: int, repeats: int, per_volume: int, random_places: bool) -> Slices:
    """Slices of ``repeats`` CT and ``repeats`` MR images per scene; zoomed and shifted if positions are random."""
    images: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    case: list[int] = []
    for number, card in enumerate(cards):
        scene, rng = load_scene(card), np.random.default_rng([seed, number])
        shift, zoom = np.zeros(3), np.ones(3)
        if random_places:
            shift, zoom = rng.uniform(-15, 15, 3), rng.uniform(0.9, 1.12) * rng.uniform(0.95, 1.05, 3)
        regions, target = slab(scene, np.array(scene.heart_centre) + shift, zoom)
        truth, known = target.numpy(), (target != IGNORE).numpy()
        seen = regions[1::SUBDIVISIONS, 1::SUBDIVISIONS, 1::SUBDIVISIONS].numpy() != Region.UNSEEN
        for kind, protocol in [*PROTOCOLS.items()] * repeats:
            volume = render(rng, regions, draw_appearance(rng, kind, protocol=protocol), SPACING).numpy()
            places = choose_slices(rng, truth, per_volume) if random_places else spread_slices(truth, per_volume)
            images += [z_score(volume[z], seen[z]) for z in places]
            targets += [np.where(known[z], truth[z], np.uint8(IGNORE)) for z in places]
            case += [case[-1] + 1 if case else 0] * len(places)
    return Slices(np.stack(images), np.stack(targets), np.array(case))


def load_or_make(path: Path, cards: Sequence[Path], **how: Any) -> Slices:
    """Slices from the cache; created and cached if missing."""
    if not path.exists():
        print(f"creating {path.name} from {len(cards)} scenes", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = make_slices(cards, **how)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, **vars(made))
        part.replace(path)
    with np.load(path) as content:
        return Slices(**content)


def prepare(args: argparse.Namespace) -> tuple[Slices, Slices]:
    """Training and held-out slices; missing scenes are created."""
    held = args.work / "held-out"
    source = None if len(list(held.glob("*.json"))) >= args.held_out else load_source(args.data)
    if source:
        numbers = range(50_000, 50_000 + args.held_out)
        make_scenes(source, held, numbers, subjects=VALIDATION_SUBJECTS, thorax_every=4)
    scenes = args.scenes or args.work / "training"
    if not args.scenes:
        make_scenes(source or load_source(args.data), scenes, range(args.count))
    cards = sorted(scenes.glob("scene*.json"))[: args.count]
    training = load_or_make(
        args.work / "slices" / f"training-{LOOKS}-{len(cards)}.npz",
        cards,
        seed=1,
        repeats=2,
        per_volume=8,
        random_places=True,
    )
    cards = sorted(held.glob("scene*.json"))[: args.held_out]
    path = args.work / "slices" / f"held-out-{LOOKS}-{len(cards)}.npz"
    return training, load_or_make(path, cards, seed=2, repeats=1, per_volume=16, random_places=False)


def batches(slices: Slices, steps: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield ``steps`` augmented batches (4, 1, y, x) and targets (4, y, x), using each slice once per epoch."""
    rng, order = np.random.default_rng(seed), np.empty(0, int)
    for _ in range(steps):
        if len(order) < BATCH:
            order = np.concatenate((order, rng.permutation(len(slices.images))))
        now, order = order[:BATCH], order[BATCH:]
        yield vary(rng, slices.images[now], slices.targets[now])


def vary(rng: np.random.Generator, images: np.ndarray, targets: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift each slice by up to 12 pixels (new pixels are unknown), change its contrast and add noise."""
    moved, labels = np.empty(images.shape, np.float32), np.full(targets.shape, IGNORE, np.uint8)
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        dy, dx = rng.integers(-12, 13, 2)
        into = tuple(slice(max(0, d), SIZE + min(0, d)) for d in (dy, dx))
        out_of = tuple(slice(max(0, -d), SIZE + min(0, -d)) for d in (dy, dx))
        moved[i] = image.min()
        moved[i][into], labels[i][into] = image[out_of], target[out_of]
        moved[i] = moved[i] * rng.uniform(0.8, 1.25) + rng.uniform(-0.2, 0.2)
        moved[i] += rng.normal(0, rng.uniform(0, 0.15), image.shape)
    return torch.from_numpy(moved)[:, None], torch.from_numpy(labels)


def train(key: str, slices: Slices, seed: int, args: argparse.Namespace) -> torch.nn.Module:
    """Train a network of the catalogue and return it in evaluation mode."""
    torch.manual_seed(seed)
    steps, rate, bfloat16 = args.steps, args.rate, args.bfloat16
    layout = torch.channels_last if bfloat16 else torch.contiguous_format
    network = build(key, unet_plan(args.features, 2), 1, 1 + N_STRUCTURES, deep_supervision=True)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    edge = getattr(network, "edge", "none")
    loss = DeepSupervision(
        cross_entropy_and_soft_dice if edge == "none" else RegionAndEdgeLoss(edge, N_STRUCTURES, alpha=1.0)
    )
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-2)
    start = time.monotonic()
    for step, (images, targets) in enumerate(batches(slices, steps, seed)):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        if edge != "none":
            targets = split_interior_edge(targets, (SPACING, SPACING), 1, N_STRUCTURES)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            outputs = network(images.contiguous(memory_format=layout))
        value = loss([o.float() for o in outputs], targets)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimiser.step()
        if step % 100 == 99:
            spent = time.monotonic() - start
            print(f"{key} {seed}: step {step + 1}, loss {value.item():.3f}, {spent:.0f} s", file=sys.stderr, flush=True)
    return network.eval()


@torch.inference_mode()
def score(network: Any, slices: Slices) -> list[float]:
    """Mean Dice of each case."""
    network.decoder.deep_supervision = False
    found = [network(torch.from_numpy(s[None, None]).float())[0].argmax(0).numpy() for s in slices.images]
    labels, scores = np.stack(found), []
    for number in np.unique(slices.case):
        truth = slices.targets[slices.case == number]
        scores.append(float(np.mean(list(dice_scores(labels[slices.case == number], truth, truth != IGNORE).values()))))
    return scores


def run(key: str, seed: int, args: argparse.Namespace, training: Slices, held: Slices) -> dict[str, Any]:
    """Result of one network with one seed, from WORK/runs or after training and scoring."""
    size = "-".join(map(str, args.features))
    name = f"{key}-{seed}-{LOOKS}-{args.steps}-{args.rate:g}-{len(training.images)}-{size}" + "-bf16" * args.bfloat16
    path = args.work / "runs" / f"{name}.json"
    if not path.exists():
        start = time.monotonic()
        network = train(key, training, seed, args)
        seconds = round(time.monotonic() - start)
        write_json(path.with_suffix(".part"), {"seconds": seconds, "dice": score(network, held)})
        path.with_suffix(".part").replace(path)
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def table(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row per network: mean per seed, mean and SD over cases (averaged over seeds), ratio to the plain U-Net."""
    rows: list[dict[str, Any]] = []
    for key, runs in results.items():
        cases = summarise(np.mean([r["dice"] for r in runs], 0))
        rows.append(
            {
                "network": key,
                "seeds": [float(np.mean(r["dice"])) for r in runs],
                "cases": cases["n"],
                "mean": cases["mean"],
                "sd": cases["sd"],
                "seconds": [r["seconds"] for r in runs],
            }
        )
    plain = next((r["mean"] for r in rows if r["network"] == "plain"), None)
    for row in rows:
        row["of_plain"] = row["mean"] / plain if plain else None
        row["passes"] = bool(row["of_plain"] >= PASS) if plain else None
    return rows


def show(rows: list[dict[str, Any]]) -> str:
    """Format the table as Markdown."""
    verdict = {True: "yes", False: "no", None: "-"}
    heads = ["network", "seeds", "cases", "Dice", "SD over cases", "each seed", "of plain", ">= 90 %", "s a run"]
    return markdown(
        heads,
        [
            (
                r["network"],
                len(r["seeds"]),
                r["cases"],
                r["mean"],
                r["sd"],
                " ".join(f"{s:.3f}" for s in r["seeds"]),
                r["of_plain"],
                verdict[r["passes"]],
                " ".join(map(str, r["seconds"])),
            )
            for r in rows
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the development data, ../shared/data")
    parser.add_argument("work", type=Path, help="folder for scenes, slices and finished runs")
    parser.add_argument("--scenes", type=Path, help="folder with training scenes (default: created in WORK/training)")
    parser.add_argument("--count", type=int, default=60, help="maximum number of training scenes (default 60)")
    parser.add_argument("--held-out", type=int, default=4, help="number of held-out scenes (default 4)")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--features", type=int, nargs="+", default=[16, 32, 64, 128], help="(default 16 32 64 128)")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate (default 3e-3)")
    parser.add_argument("--bfloat16", action="store_true", help="train in mixed precision (twice as fast with AMX)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results and their provenance to FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    training, held = prepare(args)
    results: dict[str, list[dict[str, Any]]] = {}
    for seed in range(args.seeds):
        for key in args.networks:
            results.setdefault(key, []).append(run(key, seed, args, training, held))
            how = {
                "steps": args.steps,
                "rate": args.rate,
                "bfloat16": args.bfloat16,
                "features": args.features,
                "slices": len(training.images),
            }
            write_json(args.json, {**how, "networks": table(results)})
    print(show(table(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
