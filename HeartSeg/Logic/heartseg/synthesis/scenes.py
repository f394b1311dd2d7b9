"""Scenes on disk: region map, target and provenance."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import thorax, trunk
from .heartless import SPACING as heartless_spacing
from .heartless import heartless_body
from .hearts import Heart, make_heart
from .patients import Recipe, make_patient_heart
from .regions import IGNORE, Region
from .source import Source, load_source
from .switches import ANATOMY_PARTS, check_parts
from .topology import tidy_target
from .vessels import landmarks

log = logging.getLogger(__name__)

KINDS = ("trunk", "thorax")
HEARTLESS = "heartless"
"""Kind of a scene without a heart (:mod:`~heartseg.synthesis.heartless`)."""


@dataclass(frozen=True)
class Scene:
    """A labelled body: ``regions``, uint8 (z, y, x), with ids of :class:`Region` on an LPS grid of ``spacing`` mm.

    ``target``, uint8, covers the block that starts at voxel ``target_origin``; outside it the target is background.
    ``heart_centre`` is the centre of the bounding box of the labels in mm from the centre of voxel (0, 0, 0).
    """

    regions: np.ndarray
    target: np.ndarray
    target_origin: tuple[int, int, int]
    spacing: float
    heart_centre: tuple[float, float, float]
    kind: str
    subject: int | None
    seed: int
    facts: dict[str, object] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Scene:
        """Return the scene with its maps as tensors on a device (for :func:`~heartseg.synthesis.views.extract`)."""
        maps: dict[str, Any] = {
            k: torch.from_numpy(np.array(v)).to(device) for k, v in (("regions", self.regions), ("target", self.target))
        }
        return replace(self, **maps)


def make_scene(
    source: Source,
    subject: int | None,
    seed: int,
    kind: str = "trunk",
    without: frozenset[str] = frozenset(),
    exact: bool = True,
    recipe: Recipe | None = None,
) -> Scene:
    """Make one scene; the same arguments give the same scene.

    Args:
        source: shape model and labelled trunk.
        subject: shape-model subject 1-19, or None for a new heart in the space of the training subjects.
        seed: random seed.
        kind: ``trunk`` (atlas, 1.5 mm) or ``thorax`` (drawn, 1 mm, 216 mm cube).
        without: parts to switch off, names from :data:`~heartseg.synthesis.switches.ANATOMY_PARTS`.
        exact: whether chambers reach the drawn volumes; False reproduces the frozen test scenes and the sample scan
            (see :func:`~heartseg.synthesis.hearts.shape_labels`).
        recipe: distribution of the patients, with cardiac phases and diseases; None makes hearts with random chamber
            volumes (:func:`~heartseg.synthesis.hearts.make_heart`), as in scenes from before patients were introduced.
    """
    if kind not in KINDS:
        raise ValueError(f"scene kind {kind!r} does not exist: choose from {', '.join(KINDS)}")
    check_parts(without)
    rng = np.random.default_rng([seed, subject or 0, KINDS.index(kind)])
    if recipe is None:
        heart = make_heart(rng, source.model, subject, without, exact)
    else:
        heart = make_patient_heart(rng, source.model, subject, recipe, "detail" not in without)
    return scene_of(rng, source, heart, subject, seed, kind, without, recipe is not None)


def scene_of(
    rng: np.random.Generator,
    source: Source,
    heart: Heart,
    subject: int | None,
    seed: int,
    kind: str = "trunk",
    without: frozenset[str] = frozenset(),
    tidy: bool = True,
) -> Scene:
    """Make a scene with a body of ``kind`` around a heart; ``tidy`` removes stray pieces of the labels."""
    marks = landmarks(heart)
    if kind == "trunk":
        regions, target, _ = trunk.make_trunk(rng, trunk.make_atlas(source), heart, marks, without)
        spacing = trunk.SPACING
    else:
        regions, target = thorax.make_thorax(rng, heart, marks, without)
        spacing = 1.0
    if tidy:
        heart.facts |= tidy_target(target, regions)
    volumes = np.bincount(heart.target.ravel(), minlength=8)[1:8]
    facts = heart.facts | {"volumes_mL": [round(float(v) / 1000, 1) for v in volumes]}
    return pack_scene(regions, target, spacing, kind, subject, seed, facts)


def pack_scene(
    regions: np.ndarray,
    target: np.ndarray,
    spacing: float,
    kind: str,
    subject: int | None,
    seed: int,
    facts: dict[str, object] | None = None,
) -> Scene:
    """Make a scene from full-size maps: crop the target to its labels and compute the centre of the heart."""
    points = np.argwhere((target[::2, ::2, ::2] > 0) & (regions[::2, ::2, ::2] != Region.UNSEEN)) * 2
    low, high = points.min(0), np.minimum(points.max(0) + 2, target.shape)
    heart = np.argwhere((target[::2, ::2, ::2] > 0) & (target[::2, ::2, ::2] < IGNORE)) * 2
    z, y, x = (float(v) for v in (heart.min(0) + heart.max(0)) / 2 * spacing)
    block = target[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].copy()
    origin = (int(low[0]), int(low[1]), int(low[2]))
    return Scene(regions, block, origin, spacing, (z, y, x), kind, subject, seed, facts or {})


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
    """Open a scene by its ``.json`` file; the arrays are memory-mapped."""
    facts = json.loads(card.read_text())
    stem = str(card)[: -len(".json")]
    for key in ("target_origin", "heart_centre"):
        facts[key] = tuple(facts[key])
    return Scene(
        regions=np.load(f"{stem}_regions.npy", mmap_mode="r"),
        target=np.load(f"{stem}_target.npy", mmap_mode="r"),
        **facts,
    )


def make_scenes(
    source: Source,
    out: Path,
    numbers: Iterable[int],
    *,
    subjects: Sequence[int | None] = (None,),
    thorax_every: int = 3,
    without: frozenset[str] = frozenset(),
    heartless: bool = False,
    recipe: Recipe | None = None,
) -> None:
    """Write missing scenes; scene i has seed i and the subject at index i modulo the length of ``subjects``.

    For ``recipe`` see :func:`make_scene`. Every ``thorax_every``-th scene is a drawn thorax (0: none). With
    ``heartless`` the scenes are bodies without a heart, and only ``numbers`` applies. Several processes can share the
    folder: a ``.lock`` file reserves a scene, and a lock without a scene (of a killed process) expires after 10
    minutes.
    """
    out.mkdir(parents=True, exist_ok=True)
    for i in numbers:
        name = scene_name(i, heartless)
        if (out / f"{name}.json").exists() or not _take_lock(out / f"{name}.lock"):
            continue
        start = time.time()
        if heartless:
            scene = make_heartless(i)
        else:
            kind = "thorax" if thorax_every and i % thorax_every == thorax_every - 1 else "trunk"
            scene = make_scene(source, subjects[i % len(subjects)], i, kind, without, recipe=recipe)
        save_scene(scene, out, name)
        (out / f"{name}.lock").unlink(missing_ok=True)
        log.info("%s: %s, %.1f s", name, scene.kind, time.time() - start)


def scene_name(number: int, heartless: bool = False) -> str:
    """Name of the files of a scene, without suffix."""
    return f"{HEARTLESS if heartless else 'scene'}{number:05d}"


def make_heartless(seed: int) -> Scene:
    """Make a scene of a body without a heart; its centre replaces the centre of the heart."""
    regions, facts = heartless_body(np.random.default_rng([seed, 424242]))
    z, y, x = (float(n) * heartless_spacing / 2 for n in regions.shape)
    nothing = np.zeros((1, 1, 1), np.uint8)
    return Scene(regions, nothing, (0, 0, 0), heartless_spacing, (z, y, x), HEARTLESS, None, seed, facts)


def _take_lock(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        try:
            stale = time.time() - path.stat().st_mtime > 600
        except FileNotFoundError:
            return False
        if stale:
            path.touch()
        return stale
    return True


def main(argv: list[str] | None = None) -> None:
    """Make scenes ``first`` to ``last`` - 1."""
    parser = argparse.ArgumentParser(prog="python -m heartseg.synthesis.scenes", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder (../shared/data) or packed file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, required=True)
    parser.add_argument("--subjects", type=int, nargs="+", default=None, help="subjects (default: new hearts)")
    parser.add_argument("--thorax-every", type=int, default=3, help="every n-th scene is a drawn thorax (0: none)")
    parser.add_argument("--patients", action="store_true", help="hearts with cardiac phases and diseases")
    parser.add_argument("--without", nargs="+", default=(), choices=sorted(ANATOMY_PARTS), help="parts to switch off")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    make_scenes(
        load_source(args.data),
        args.out,
        range(args.first, args.last),
        subjects=args.subjects or (None,),
        thorax_every=args.thorax_every,
        without=frozenset(args.without),
        recipe=Recipe() if args.patients else None,
    )


if __name__ == "__main__":
    main()
