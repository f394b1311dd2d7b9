"""Scenes on disk: region map, target, and what they were made from."""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import thorax, trunk
from .hearts import load_subject, make_heart, subject_path
from .regions import IGNORE, Region
from .vessels import landmarks

log = logging.getLogger(__name__)

TRAINING_SUBJECTS = tuple(range(1, 15))
VALIDATION_SUBJECTS = (15, 16)
RESERVED_SUBJECTS = (17, 18, 19)
KINDS = ("trunk", "thorax")


@dataclass(frozen=True)
class Scene:
    """A labelled body. ``regions`` uint8 (z, y, x) on an LPS grid of ``spacing`` mm, ids of :class:`Region`.

    ``target`` uint8 covers the block that starts at voxel ``target_origin``; beyond it the target is background.
    ``heart_centre`` is the middle of the labelled voxels' box in mm from the centre of voxel (0, 0, 0).
    """

    regions: np.ndarray
    target: np.ndarray
    target_origin: tuple[int, int, int]
    spacing: float
    heart_centre: tuple[float, float, float]
    kind: str
    subject: int
    seed: int


def make_scene(shared: Path, subject: int, seed: int, kind: str = "trunk") -> Scene:
    """Make one scene; the same arguments give the same scene.

    Args:
        shared: folder with ``heart-shape-model/`` and, for trunks, ``thorax/``.
        subject: shape-model subject, 1-19.
        seed: seed of everything random in it.
        kind: ``trunk`` (atlas, 1.5 mm) or ``thorax`` (drawn, 1 mm, 216 mm cube).
    """
    if kind not in KINDS:
        raise ValueError(f"scene kind is {kind!r}: must be one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, subject, KINDS.index(kind)])
    heart = make_heart(rng, load_subject(subject_path(shared, subject)))
    marks = landmarks(heart)
    if kind == "trunk":
        atlas = trunk.load_atlas(Path(shared) / "thorax" / "s0327_labels.nii.gz")
        regions, target, _ = trunk.make_trunk(rng, atlas, heart, marks)
        spacing = trunk.SPACING
    else:
        regions, target = thorax.make_thorax(rng, heart, marks)
        spacing = 1.0
    return pack_scene(regions, target, spacing, kind, subject, seed)


def pack_scene(regions: np.ndarray, target: np.ndarray, spacing: float, kind: str, subject: int, seed: int) -> Scene:
    """A scene of full-size maps: the target is cut to its labelled block and the heart's centre is noted."""
    points = np.argwhere((target[::2, ::2, ::2] > 0) & (regions[::2, ::2, ::2] != Region.UNSEEN)) * 2
    low, high = points.min(0), np.minimum(points.max(0) + 2, target.shape)
    heart = np.argwhere((target[::2, ::2, ::2] > 0) & (target[::2, ::2, ::2] < IGNORE)) * 2
    z, y, x = (float(v) for v in (heart.min(0) + heart.max(0)) / 2 * spacing)
    block = target[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].copy()
    origin = (int(low[0]), int(low[1]), int(low[2]))
    return Scene(regions, block, origin, spacing, (z, y, x), kind, subject, seed)


def save_scene(scene: Scene, folder: Path, name: str) -> None:
    """Write ``name_regions.npy``, ``name_target.npy`` and, last, ``name.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}_regions.npy", scene.regions)
    np.save(folder / f"{name}_target.npy", scene.target)
    facts = {k: v for k, v in vars(scene).items() if k not in ("regions", "target")}
    part = folder / f"{name}.json.part"
    part.write_text(json.dumps(facts))
    part.rename(folder / f"{name}.json")


def load_scene(card: Path) -> Scene:
    """Open a scene by its ``.json``; the arrays are memory maps."""
    facts = json.loads(card.read_text())
    stem = str(card)[: -len(".json")]
    for key in ("target_origin", "heart_centre"):
        facts[key] = tuple(facts[key])
    return Scene(
        regions=np.load(f"{stem}_regions.npy", mmap_mode="r"),
        target=np.load(f"{stem}_target.npy", mmap_mode="r"),
        **facts,
    )


def main(argv: list[str] | None = None) -> None:
    """Make scenes ``first`` to ``last`` - 1; scene i is of subject i modulo the list, with seed i."""
    parser = argparse.ArgumentParser(prog="python -m heartseg.synthesis.scenes", description=main.__doc__)
    parser.add_argument("--shared", type=Path, required=True, help="data folder (../shared/data)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, required=True)
    parser.add_argument("--subjects", type=int, nargs="+", default=list(TRAINING_SUBJECTS))
    parser.add_argument("--thorax-every", type=int, default=3, help="every n-th scene is a drawn thorax (0: none)")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    import torch

    torch.set_num_threads(1)
    for i in range(args.first, args.last):
        if (args.out / f"scene{i:04d}.json").exists():
            continue
        start = time.time()
        kind = "thorax" if args.thorax_every and i % args.thorax_every == args.thorax_every - 1 else "trunk"
        subject = args.subjects[i % len(args.subjects)]
        save_scene(make_scene(args.shared, subject, i, kind), args.out, f"scene{i:04d}")
        log.info("scene %d: %s of subject %d, %.1f s", i, kind, subject, time.time() - start)


if __name__ == "__main__":
    main()
