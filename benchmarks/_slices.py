"""Shared functions of the benchmarks on 2D slices: small CT and MR volumes around the heart, and a small 2D U-Net."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import nn

from heartseg.synthesis.appearance import Appearance, draw_appearance, render
from heartseg.synthesis.regions import IGNORE, Region
from heartseg.synthesis.sample import cta_appearance
from heartseg.synthesis.scenes import Scene, load_scene
from heartseg.synthesis.views import View, extract
from heartseg.volume import Geometry, Volume, write_volume

SPACING, SIZE, DEPTH = 3.0, 64, 44
"""Voxel size, mm; pixels along the edge of a slice; slices per volume: 192 x 192 x 132 mm around the heart."""
CLASSES = 8


def ct_appearance(rng: np.random.Generator) -> Appearance:
    """A coronary-phase CTA: HU, contrast and noise of the sample scan, varied by about ten per cent."""
    appearance = cta_appearance(rng)
    blood = appearance.mean > 150
    mean = np.where(blood, appearance.mean * rng.uniform(0.85, 1.15), appearance.mean).astype(np.float32)
    return replace(appearance, mean=mean, noise=rng.uniform(8, 25))


def mr_appearance(rng: np.random.Generator, fat: str = "bright") -> Appearance:
    """A bSSFP image of the generator, without thick slices, double contours and ghosts.

    ``fat``: ``bright`` (no fat suppression), ``dark`` (suppressed), ``mixed`` (as drawn, dark in 40 %).
    """
    while True:
        appearance = draw_appearance(rng, "mr", protocol="bssfp", without=frozenset({"slices", "motion", "ghosts"}))
        suppressed = appearance.mean[Region.FAT] <= 0.45
        if fat == "mixed" or suppressed == (fat == "dark"):
            return appearance


def heart_view(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Regions (at twice the resolution) and target (SIZE, SIZE, SIZE) of the cube around the heart of a scene."""
    full = np.full(3, float(SIZE))
    view = View(np.array(scene.heart_centre), SIZE, SPACING, np.eye(3), np.ones(3), np.zeros(3), full)
    regions, target, _ = extract(scene, view)
    return regions, target


def make_volumes(
    cards: Sequence[Path],
    folder: Path,
    appearance: Callable[[np.random.Generator], Appearance],
    seed: int,
    images_per_scene: int = 1,
) -> list[Path]:
    """Write image files ``NAME-i.nii.gz`` of scenes and ``NAME.npy`` (labels, uint8); existing files are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    low = (SIZE - DEPTH) // 2
    box = slice(low, low + DEPTH)
    files = []
    for card in cards:
        names = [folder / f"{card.stem}-{i}.nii.gz" for i in range(images_per_scene)]
        files += names
        if all(n.is_file() for n in names):
            continue
        scene = load_scene(card)
        regions, target = heart_view(scene)
        np.save(folder / f"{card.stem}.npy", target[box].numpy())
        for i, name in enumerate(names):
            rng = np.random.default_rng([seed, scene.seed, i])
            image = render(rng, regions, appearance(rng), SPACING)[box].numpy()
            geometry = Geometry(tuple(image.shape), (SPACING,) * 3, (0.0, 0.0, 0.0))
            write_volume(Volume(np.ascontiguousarray(image, np.float32), geometry, card.stem), name)
    return files


def labels_of(image: Path) -> np.ndarray:
    """Labels (z, y, x) of an image of :func:`make_volumes`."""
    return np.load(image.with_name(image.name.rpartition("-")[0] + ".npy"))


class SmallUNet(nn.Module):
    """2D U-Net of four levels (16 to 128 channels) with two convolutions, instance norm; (b, 1, y, x) to 8 logits."""

    def __init__(self, features: Sequence[int] = (16, 32, 64, 128), classes: int = CLASSES) -> None:
        super().__init__()
        ins = (1, *features[:-1])
        self.down = nn.ModuleList(_double(i, o) for i, o in zip(ins, features, strict=True))
        self.up = nn.ModuleList(_double(features[k] + features[k - 1], features[k - 1]) for k in range(3, 0, -1))
        self.head = nn.Conv2d(features[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for number, block in enumerate(self.down):
            x = block(nnf.max_pool2d(x, 2) if number else x)
            skips.append(x)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = block(torch.cat([nnf.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
        return self.head(x)


def _double(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in (before, after):
        layers += [nn.Conv2d(i, after, 3, padding=1), nn.InstanceNorm2d(after, affine=True), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


def segmentation_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus soft Dice over the classes, without ``IGNORE``; labels (b, y, x) int64."""
    seen = labels != IGNORE
    entropy = nnf.cross_entropy(logits, labels, ignore_index=IGNORE)
    p = logits.softmax(1) * seen[:, None]
    truth = nnf.one_hot(torch.where(seen, labels, 0), logits.shape[1]).movedim(-1, 1) * seen[:, None]
    overlap, total = (p * truth).sum((0, 2, 3)), (p + truth).sum((0, 2, 3))
    return entropy + 1 - ((2 * overlap + 1) / (total + 1))[1:].mean()


def move(images: torch.Tensor, labels: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Randomly rotated (15 degrees), scaled (0.85-1.18) and shifted (12 %) slices and labels."""
    n = len(images)
    u = torch.rand(4, n, generator=rng) * 2 - 1
    angle, scale = u[0] * 0.26, torch.exp(u[1] * 0.16)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([torch.stack([cos, -sin, 0.24 * u[2]], 1), torch.stack([sin, cos, 0.24 * u[3]], 1)], 1)
    grid = nnf.affine_grid(theta, list(images.shape), align_corners=False)
    moved = nnf.grid_sample(images + 1, grid, align_corners=False) - 1
    labelled = nnf.grid_sample(labels[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0].long()
    return moved, labelled


def vary(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Random brightness (0.1), contrast (15 %), noise (up to 0.08) and blur of slices in [-1, 1]."""
    n = (len(images), 1, 1, 1)
    shift = 0.1 * (torch.rand(n, generator=rng) * 2 - 1)
    factor = 1 + 0.15 * (torch.rand(n, generator=rng) * 2 - 1)
    blurred = nnf.avg_pool2d(nnf.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = torch.lerp(images, blurred, torch.rand(n, generator=rng) * (torch.rand(n, generator=rng) < 0.5))
    noise = torch.randn(images.shape, generator=rng) * 0.08 * torch.rand(n, generator=rng)
    return (images * factor + shift + noise).clamp(-1, 1)


def train_unet(images: torch.Tensor, labels: torch.Tensor, steps: int, seed: int, batch: int = 8) -> SmallUNet:
    """Train a U-Net on slices (n, y, x) in [-1, 1] with labels (n, y, x): AdamW 3e-3, cosine schedule."""
    torch.manual_seed(seed)
    network = SmallUNet()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-3)
    course = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.1)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        pick = torch.randint(len(images), (batch,), generator=rng)
        image, label = move(images[pick][:, None].float(), labels[pick].long(), rng)
        loss = segmentation_loss(network(vary(image, rng)), label)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        course.step()
    return network.eval()


def predict(network: nn.Module, slices: np.ndarray) -> np.ndarray:
    """Predict labels (n, y, x), uint8, of slices (n, y, x) in [-1, 1]."""
    with torch.inference_mode():
        parts = [network(torch.from_numpy(slices[i : i + 22, None])).argmax(1) for i in range(0, len(slices), 22)]
    return torch.cat(parts).to(torch.uint8).numpy()
