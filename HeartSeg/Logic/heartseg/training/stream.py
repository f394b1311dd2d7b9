"""Infinite, seeded stream of training samples made from scenes during training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import IterableDataset

from heartseg.synthesis.appearance import Appearance, draw_appearance, render
from heartseg.synthesis.limited_views import draw_limited_view, with_long_axis
from heartseg.synthesis.regions import Region
from heartseg.synthesis.scenes import Scene, load_scene
from heartseg.synthesis.switches import FROZEN, check_generator
from heartseg.synthesis.views import View, extract, normalise

from .stages import Stage

RESCAN_EVERY = 50
"""Number of samples between two searches of the folder for new scenes."""
HEART = list(range(1, 8))
"""Regions with a label."""
MIN_OUTLINE_CONTRAST = 0.08
PICTURE_SHARE = 0.25
"""Fraction of the HU images that :func:`more_pictures` windows, in addition to those of the generator."""
THICK_SHARE = 0.6
"""Fraction of the oblique MR and free images with thin slices that get thick slices instead."""
STACKS_OF_MR = 0.8
"""Fraction of the stacks of generator 0.6 that are MR; the others are free."""
POOL = 256
"""Number of samples that :func:`pooled_batches` keeps; 1.6 GB at 128 voxels per axis."""
Sample = tuple[torch.Tensor, torch.Tensor]
Batch = tuple[torch.Tensor, torch.Tensor]
IMAGES_PER_VIEW = 2
"""Images of different contrast rendered per view; on a CPU, sampling a view takes four times as long as rendering."""


def make_samples(
    rng: np.random.Generator,
    scene: Scene,
    stage: Stage,
    count: int = 1,
    device: torch.device | str = "cpu",
    without: frozenset[str] = frozenset(),
    generator: str = FROZEN,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Make normalised images (float32) of one view, each with its target (uint8, 255 ignored), (z, y, x)."""
    view = draw_limited_view(stage.draw_view, rng, scene, stage.patch, stage.spacing, generator, without)
    regions, target, seen = extract(scene, view, device, fair_ties=generator != FROZEN)
    kind = "mr" if rng.random() < STACKS_OF_MR else "free"
    kind = "mixed" if view.stack is None or "mr" in without else kind
    looks = [as_stack(rng, draw_look(rng, without, generator, kind), view, without) for _ in range(count)]
    images = (render(rng, regions, look, stage.spacing) for look in looks)
    return [(normalise(image, seen, stage.upper_percentile), target) for image in images]


def as_stack(rng: np.random.Generator, look: Appearance, view: View, without: frozenset[str]) -> Appearance:
    """Turn an oblique field of view into a stack of slices; 60 % of those of MR are 5 to 10 mm thick (cine)."""
    if view.stack is not None:
        return replace(look, stack=view.stack)
    if view.fov_rotation is None or "slices" in without:
        return look
    thick = look.slice_mm
    if look.kind != "ct" and thick < 5 and rng.random() < THICK_SHARE:
        thick = float(rng.uniform(5, 10))
    return replace(look, slice_mm=thick, slice_axis=0, slice_turn=view.fov_rotation, tilt=0.0)


def draw_look(
    rng: np.random.Generator, without: frozenset[str] = frozenset(), generator: str = FROZEN, kind: str = "mixed"
) -> Appearance:
    """Draw an appearance in which, usually, the outline of the heart is visible.

    If a chamber or the myocardium has the grey value of fat or lung, the network can only guess the outline. Too many
    such images teach it to guess where the outline is visible, and to extend walls and atria into dark tissue.
    """
    for _ in range(6):
        look = draw_appearance(rng, kind, without=without, generator=generator)
        if "window" not in without:
            look = more_pictures(rng, look)
        black_blood = look.protocol == "black_blood"  # blood is as dark as lung by design
        if black_blood or outline_contrast(look) > MIN_OUTLINE_CONTRAST or rng.random() < 0.1:
            break
    return look


def outline_contrast(look: Appearance) -> float:
    """Minimum difference between blood or myocardium and fat or lung, as a fraction of the range of these grey values.

    Uses the darker parts of blood with unevenly mixed contrast medium.
    """
    low, high = look.window[:2] if look.window is not None else (-np.inf, np.inf)
    heart = np.clip(look.mean[HEART] - look.mixing[HEART], low, high)
    outside = np.clip(look.mean[[Region.MEDIASTINAL_FAT, Region.LUNG]], low, high)
    span = max(heart.max(), outside.max()) - min(heart.min(), outside.min())
    return float(np.abs(heart[:, None] - outside).min()) / max(float(span), 1e-6)


def more_pictures(rng: np.random.Generator, look: Appearance) -> Appearance:
    """Turn a quarter of the CT images in HU into 8-bit images whose window shows fat and lung, but no heart, as black.

    Such images are common and were the most difficult.
    """
    if look.kind != "ct" or look.window is not None or rng.random() > PICTURE_SHARE:
        return look
    darkest = float((look.mean[HEART] - look.mixing[HEART]).min())
    floor = rng.uniform(-90, max(-80.0, min(40.0, darkest - 30)))
    return replace(look, window=(floor, floor + rng.uniform(250, 800), 256))


def draw_kind(rng: np.random.Generator, kinds: Sequence[tuple[str, float]]) -> str:
    """Draw one of the scene kinds with its probability; the fractions need not add up to one."""
    shares = np.array([share for _, share in kinds])
    return kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))][0]


def plain_batches(samples: Iterator[Sample], size: int) -> Iterator[Batch]:
    """Stack ``size`` consecutive samples: images (b, 1, z, y, x), targets (b, z, y, x)."""
    while True:
        images, targets = zip(*(next(samples) for _ in range(size)), strict=True)
        yield torch.stack(images), torch.stack(targets)


def pooled_batches(
    samples: Iterator[Sample], size: int, fresh: int, start: int = 0, seed: int = 0, keep: int = POOL
) -> Iterator[Batch]:
    """Draw batches at random from the newest ``keep`` samples, and make ``fresh`` new samples at each step.

    Making a sample takes two thirds of the time of a training step per sample (16 ms and 24 ms on an H200), mostly for
    launching small kernels. Therefore each sample is used ``size / fresh`` times on average, some tens of steps apart,
    and new samples are made in a separate CUDA stream during the training step.

    Args:
        samples: image (1, z, y, x) and target (z, y, x), on the GPU.
        size: samples per batch.
        fresh: new samples per batch.
        start: number of the first batch.
        seed: seed of the random choice.
        keep: size of the pool; an eighth of it is filled before the first batch.
    """
    aside = torch.cuda.Stream(priority=-1) if torch.cuda.is_available() else None
    pool: list[Sample] = []
    newest = 0
    for number in itertools.count(start):
        rng = np.random.default_rng([seed, number, 7])
        with torch.cuda.stream(aside):
            for _ in range(fresh if pool else max(fresh, keep // 8)):
                image, target = next(samples)
                if len(pool) < keep:
                    pool.append((image.half(), target))
                else:
                    pool[newest % keep] = (image.half(), target)
                newest += 1
            images, targets = zip(*(pool[k] for k in rng.integers(len(pool), size=size)), strict=True)
            batch = torch.stack(images).float(), torch.stack(targets)
        if aside is not None:
            now = torch.cuda.current_stream()
            now.wait_stream(aside)
            for tensor in batch:
                tensor.record_stream(now)
        yield batch


class SampleStream(IterableDataset):
    """Samples ``start``, ``start + 1``, ... of a stage; each depends on seed, number and the scenes in the folder.

    Args:
        folder: folder of scenes; new scenes are added as they appear.
        stage: the network that uses the samples.
        seed: seed of all samples.
        start: number of the first sample, to resume a run.
        device: device on which samples are made; a GPU also holds the scenes.
        without: parts of the appearance to switch off.
        generator: version of the generator.
    """

    def __init__(
        self,
        folder: Path,
        stage: Stage,
        seed: int,
        start: int,
        device: torch.device | str = "cpu",
        without: frozenset[str] = frozenset(),
        generator: str = FROZEN,
    ) -> None:
        self.generator = check_generator(generator)
        self.folder, self.stage, self.seed, self.start = folder, stage, seed, start
        self.device, self.without = torch.device(device), without
        self.scenes: dict[str, list[Scene]] = {}
        self.known: set[Path] = set()

    def look(self) -> None:
        """Load new scenes from the folder."""
        for card in sorted(set(self.folder.glob("*.json")) - self.known):
            self.known.add(card)
            scene = load_scene(card)
            if scene.kind in dict(self.stage.kinds):
                if self.generator != FROZEN:
                    scene = with_long_axis(scene)
                if self.device.type != "cpu":
                    scene = scene.to(self.device)
                self.scenes.setdefault(scene.kind, []).append(scene)
        if not self.scenes:
            raise FileNotFoundError(f"no scene of kind {' or '.join(dict(self.stage.kinds))} in '{self.folder}'")

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        number = self.start - self.start % IMAGES_PER_VIEW
        while True:
            if not self.scenes or number % RESCAN_EVERY == 0:
                self.look()
            rng = np.random.default_rng([self.seed, number])
            group = self.scenes[draw_kind(rng, [k for k in self.stage.kinds if k[0] in self.scenes])]
            scene = group[rng.integers(len(group))]
            for image, target in make_samples(
                rng, scene, self.stage, IMAGES_PER_VIEW, self.device, self.without, self.generator
            ):
                number += 1
                if number > self.start:
                    yield image[None], target
