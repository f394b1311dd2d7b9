"""Create synthetic labelled CT volumes as a training data set for ``heartseg train`` and ``heartseg ablate``.

    heartseg train-default ../shared/data -o WORK --scenes 24 --finder-steps 1 --fine-steps 1     creates WORK/scenes
    python benchmarks/labelled_volumes.py WORK/scenes DATA --cases 12
    heartseg ablate DATA -o OUT --folds 2 --only-folds 0 --seeds 0,1 --modality CT --optimizer adam \\
        --learning-rate 0.002 --epochs 10 --iterations-per-epoch 100 --validation-iterations 2 --batch 4

One case is one scene with a heart: a cube of 64 voxels of 3 mm around it, arterial CT with random appearance, stored in
LPS. Each scene has a different heart, drawn from the space of the training subjects of the shape model (1-14). Labels
that the generator leaves undefined (at the border of the modelled anatomy) become background.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from heartseg.synthesis.appearance import draw_appearance, render
from heartseg.synthesis.regions import IGNORE
from heartseg.synthesis.scenes import Scene, load_scene
from heartseg.synthesis.views import View, extract
from heartseg.volume import Geometry, Volume, write_labels, write_volume

SIZE, SPACING = 64, 3.0
AIR_HU = -1000


def make_case(rng: np.random.Generator, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Image (int16) and labels (uint8) of a scene, both (z, y, x)."""
    view = View(
        np.array(scene.heart_centre), SIZE, SPACING, np.eye(3), np.ones(3), np.zeros(3), np.full(3, float(SIZE))
    )
    regions, target, seen = extract(scene, view)
    appearance = draw_appearance(rng, "ct", protocol="arterial", without=frozenset({"window"}))
    image = render(rng, regions, appearance, SPACING).numpy()
    image = np.where(seen.numpy(), image, AIR_HU).round().clip(-1024, 3000).astype(np.int16)
    labels = target.numpy().copy()
    labels[labels == IGNORE] = 0
    return image, labels


def main() -> int:
    """Write ``images/`` and ``labels/``; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder with scenes of heartseg train-default")
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=10)
    args = parser.parse_args()
    cards = sorted(p for p in args.scenes.glob("*.json") if not p.name.startswith("heartless"))[: args.cases]
    if len(cards) < args.cases:
        print(f"{args.scenes} has {len(cards)} scenes with a heart: {args.cases} are needed", file=sys.stderr)
        return 2
    for name in ("images", "labels"):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    for number, card in enumerate(cards):
        image, labels = make_case(np.random.default_rng([7, number]), load_scene(card))
        geometry = Geometry(image.shape, (SPACING,) * 3)
        write_volume(Volume(image, geometry), args.out / "images" / f"{card.stem}.nii.gz")
        write_labels(labels, geometry, args.out / "labels" / f"{card.stem}.nii.gz")
    print(f"{len(cards)} cases in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
