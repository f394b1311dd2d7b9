"""An endless, seeded stream of training samples made from scenes while training runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import IterableDataset

from heartseg.synthesis.appearance import draw_appearance, render
from heartseg.synthesis.scenes import Scene, load_scene
from heartseg.synthesis.views import extract, normalise

from .stages import Stage

TRUNK_SHARE = 0.6
"""Share of samples from trunk scenes where there are both kinds; half of the fine network's of these hold no heart."""
RESCAN_EVERY = 50
"""Samples after which the folder is looked at again for new scenes."""


def make_sample(rng: np.random.Generator, scene: Scene, stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    """A normalised image (float32) and its target (uint8, 255 ignored), both (z, y, x) of the stage's patch."""
    view = stage.draw_view(rng, scene, stage.patch, stage.spacing)
    appearance = draw_appearance(rng, "mixed")
    regions, target, seen = extract(scene, view)
    image = render(rng, regions, appearance, stage.spacing).numpy()
    return normalise(image, seen), target


class SampleStream(IterableDataset):
    """Samples number ``start``, ``start + 1``, ... of a stage; sample i depends on seed, i and the scenes present.

    Args:
        folder: scenes; new ones are picked up as they appear.
        stage: the network to feed.
        seed: seed of all samples.
        start: number of the first sample (resuming).
    """

    def __init__(self, folder: Path, stage: Stage, seed: int, start: int) -> None:
        self.folder, self.stage, self.seed, self.start = folder, stage, seed, start

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        torch.set_num_threads(1)
        scenes: dict[str, list[Scene]] = {}
        known: set[Path] = set()
        number = self.start
        while True:
            if not scenes or number % RESCAN_EVERY == 0:
                for card in sorted(set(self.folder.glob("*.json")) - known):
                    known.add(card)
                    scene = load_scene(card)
                    if scene.kind in self.stage.kinds:
                        scenes.setdefault(scene.kind, []).append(scene)
                if not scenes:
                    raise FileNotFoundError(f"no scene of kind {self.stage.kinds} in '{self.folder}'")
            rng = np.random.default_rng([self.seed, number])
            kind = "trunk" if rng.random() < TRUNK_SHARE else "thorax"
            group = scenes.get(kind) or next(iter(scenes.values()))
            image, target = make_sample(rng, group[rng.integers(len(group))], self.stage)
            number += 1
            yield torch.from_numpy(image)[None], torch.from_numpy(target)
