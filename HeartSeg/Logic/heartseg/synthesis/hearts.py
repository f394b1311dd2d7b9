"""A heart of the shape model, deformed, remodelled and given its inner detail (1 mm voxels, z y x, LPS)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
import torch
import torch.nn.functional as nnf

from .fields import coarse_distance, rotation_matrix, smooth_noise
from .regions import TARGET_OF_HEART, Region

SIZE = 216
"""Edge of the cube that a heart is made in, voxels of 1 mm."""
SOURCE_SPACING = 0.8
"""Voxel size of the shape model's label maps, mm."""


@dataclass(frozen=True)
class Deformation:
    """Random pose and shape of a heart: output to input, mm, axes z y x."""

    matrix: np.ndarray
    centre: np.ndarray
    elastic: tuple[tuple[np.ndarray, float], ...]


@dataclass(frozen=True)
class Remodelling:
    """How many 1 mm layers each wall loses, the LV cavity gains, and the outer LV wall gains."""

    thinning: dict[int, int]
    cavity_layers: int
    epicardial_layers: int


@dataclass
class Heart:
    """A heart in its cube: ``labels`` with the model's 12 labels, ``regions`` with added detail, ``target`` 0-7."""

    labels: np.ndarray
    regions: np.ndarray
    target: np.ndarray


WALL_OF = {2: 8, 3: 9, 4: 10, 6: 11, 7: 12}


@lru_cache(maxsize=20)
def load_subject(path: Path) -> np.ndarray:
    """Label map of a shape-model subject, uint8 (z, y, x), labels 0-12, 0.8 mm, LPS axes."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.uint8)


def subject_path(shared: Path, subject: int) -> Path:
    """Where the label map of ``subject`` (1-19) lies below the data folder ``shared``."""
    return Path(shared) / "heart-shape-model" / "labelmaps" / f"subject_{subject:02d}.nii.gz"


def draw_deformation(rng: np.random.Generator, size: int = SIZE) -> Deformation:
    """Scale 0.82-1.2, turns to 20 degrees, shift to 14 mm, two elastic fields."""
    scale = rng.uniform(0.83, 1.2) * rng.uniform(0.93, 1.07, 3)
    matrix = rotation_matrix(np.deg2rad(rng.uniform(-20, 20, 3))) @ np.diag(scale)
    elastic = []
    for spacing, amplitude in ((40, rng.uniform(0, 3.5)), (20, rng.uniform(0, 1.2))):
        n = size // spacing + 2
        elastic.append((rng.standard_normal((1, 3, n, n, n)).astype(np.float32), amplitude))
    return Deformation(matrix, np.full(3, size / 2) + rng.uniform(-14, 14, 3), tuple(elastic))


def deform(labels: np.ndarray, deformation: Deformation, size: int = SIZE) -> np.ndarray:
    """Apply a deformation to a subject's label map; returns uint8 (size, size, size) at 1 mm."""
    source_centre = np.argwhere(labels > 0)[::50].mean(0) * SOURCE_SPACING
    axes = [torch.arange(size, dtype=torch.float32) - float(c) for c in deformation.centre]
    m = torch.from_numpy(deformation.matrix.astype(np.float32))
    points = [
        m[k, 0] * axes[0][:, None, None] + m[k, 1] * axes[1][None, :, None] + m[k, 2] * axes[2][None, None, :]
        for k in range(3)
    ]
    for nodes, amplitude in deformation.elastic:
        shift = nnf.interpolate(torch.from_numpy(nodes), size=(size,) * 3, mode="trilinear", align_corners=True)[0]
        for k in range(3):
            points[k] += shift[k] * amplitude
    grid = torch.stack(
        [((points[k] + float(source_centre[k])) / SOURCE_SPACING) / (labels.shape[k] - 1) * 2 - 1 for k in (2, 1, 0)],
        -1,
    )[None]
    source = torch.from_numpy(labels.astype(np.float32))[None, None]
    out = nnf.grid_sample(source, grid, mode="nearest", padding_mode="zeros", align_corners=True)
    return out[0, 0].numpy().astype(np.uint8)


def draw_remodelling(rng: np.random.Generator) -> Remodelling:
    """Walls thinned towards the 1-2 mm of real atria and right ventricles; LV dilated or hypertrophied."""
    choices = {2: (0, 1, 2, 2, 3), 3: (0, 1, 1, 2), 4: (0, 1, 1, 2), 6: (0, 1, 1, 2), 7: (0, 1, 2, 2)}
    return Remodelling(
        thinning={label: int(rng.choice(c)) for label, c in choices.items()},
        cavity_layers=int(rng.choice([-2, -1, 0, 0, 1, 2, 3, 4])),
        epicardial_layers=int(rng.choice([0, 0, 1, 2])),
    )


def remodel(labels: np.ndarray, change: Remodelling) -> np.ndarray:
    """Apply a remodelling to a (cropped) label map; the septal part of the RV wall becomes myocardium."""
    c = labels.copy()
    depth = coarse_distance(c > 0)
    c[(c == 8) & (depth > 5) & ndi.binary_dilation(c == 5, iterations=3)] = 5
    for blood, wall in WALL_OF.items():
        layers = change.thinning[blood]
        if layers:
            reach = ndi.binary_dilation(c == blood, iterations=layers, mask=(c == blood) | (c == wall))
            c[reach & (c == wall)] = blood
    if change.cavity_layers > 0:
        may = (c == 1) | ((c == 5) & (depth > 4))
        c[ndi.binary_dilation(c == 1, iterations=change.cavity_layers, mask=may) & (c == 5)] = 1
    elif change.cavity_layers < 0:
        cavity = c == 1
        kept = ndi.binary_erosion(cavity | (c == 3) | (c == 6), iterations=-change.cavity_layers)
        c[cavity & ~kept] = 5
    if change.epicardial_layers:
        c[ndi.binary_dilation(c == 5, iterations=change.epicardial_layers) & (c == 0)] = 5
    return c


def add_detail(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Papillary muscles, trabeculae and valve leaflets drawn into the blood; labels are not changed by them."""
    r = labels.copy()
    from_myocardium = coarse_distance(labels != 5)
    blobs = smooth_noise(rng, labels.shape, rng.uniform(5, 9))
    papillary = (labels == 1) & (from_myocardium < rng.uniform(4, 14)) & (blobs > rng.uniform(0.8, 2.2))
    r[papillary] = Region.PAPILLARY
    from_wall = coarse_distance(~np.isin(labels, (5, 8)))
    blobs = smooth_noise(rng, labels.shape, rng.uniform(4, 7))
    trabecula = (labels == 2) & (from_wall < rng.uniform(3, 14)) & (blobs > rng.uniform(0.7, 2.0))
    r[trabecula] = Region.TRABECULA
    gaps = smooth_noise(rng, labels.shape, 12)
    for chambers, region in (((1, 3, 6), Region.LEFT_VALVE), ((2, 4, 7), Region.RIGHT_VALVE)):
        inside = np.isin(labels, chambers)
        highest = ndi.maximum_filter(np.where(inside, labels, 0), size=3)
        lowest = ndi.minimum_filter(np.where(inside, labels, 99), size=3)
        leaflet = inside & ((highest != labels) | (lowest != labels))
        r[leaflet & (gaps > rng.uniform(-2, 1.5))] = region
    return r


def make_heart(rng: np.random.Generator, subject_labels: np.ndarray) -> Heart:
    """A deformed, remodelled and detailed heart in its cube (1 mm)."""
    whole = deform(subject_labels, draw_deformation(rng))
    low = np.argwhere(whole[::2, ::2, ::2] > 0).min(0) * 2
    high = np.argwhere(whole[::2, ::2, ::2] > 0).max(0) * 2
    box = tuple(slice(max(a - 8, 0), min(b + 9, SIZE)) for a, b in zip(low, high, strict=True))
    cropped = remodel(whole[box], draw_remodelling(rng))
    heart = Heart(*(np.zeros((SIZE,) * 3, np.uint8) for _ in range(3)))
    heart.labels[box] = cropped
    heart.regions[box] = add_detail(rng, cropped)
    heart.target[box] = TARGET_OF_HEART[cropped]
    return heart
