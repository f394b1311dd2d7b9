"""Labelled data sets of heart phantoms with small variations, for tests of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from heartseg.anatomy import MMWHS_LABELS
from heartseg.volume import Geometry, Volume, write_labels, write_volume
from phantoms import Phantom, heart_phantom
from triples import triple

ODD_DIRECTIONS = (
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),  # LPS
    (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0),  # RAS
    (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0),  # axes permuted, one reversed
    (0.0, -1.0, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0),
)
"""Directions of grids, row-major: the volumes of MM-WHS are stored in various orientations."""


def phantom_case(
    seed: int, spacing: tuple[float, float, float] = (4.0, 4.0, 5.0), direction: tuple[float, ...] = ODD_DIRECTIONS[0]
) -> Phantom:
    """Create labels 1-7 (uint8), grid and image (int16, HU) of a heart whose size and contrast depend on the seed."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.92, 1.08)
    labels, grid, image = heart_phantom(triple(s * size for s in spacing), direction=direction, seed=seed)
    geometry = Geometry(grid.shape, spacing, grid.origin, grid.direction)
    image = image * rng.uniform(0.85, 1.15) + rng.uniform(-20, 20)
    return labels, geometry, np.clip(image, -1000, 2000).astype(np.int16)


def make_folder_pair(home: Path, n: int = 4, spacing: tuple[float, float, float] = (4.0, 4.0, 5.0)) -> Path:
    """Write ``images/`` and ``labels/`` with the same file names, labels 1-7, LPS."""
    for name in ("images", "labels"):
        (home / name).mkdir(parents=True, exist_ok=True)
    for k in range(n):
        labels, geometry, image = phantom_case(k, spacing)
        write_volume(Volume(image, geometry), home / "images" / f"heart_{k:02}.nii.gz")
        write_labels(labels, geometry, home / "labels" / f"heart_{k:02}.nii.gz")
    return home


def as_mmwhs(labels: np.ndarray, stray: bool = False) -> np.ndarray:
    """Convert labels 1-7 to MM-WHS values (int16); ``stray``: some of the left atrium gets 421, as in real files."""
    from heartseg.anatomy import structure

    table = np.zeros(8, np.int16)
    for value, key in MMWHS_LABELS.items():
        if value != 421:
            table[structure(key).label] = value
    found = table[labels]
    if stray:
        atrium = np.flatnonzero(found == 420)
        found.reshape(-1)[atrium[: max(1, len(atrium) // 50)]] = 421
    return found


def make_mmwhs(home: Path, n: int = 4, spacing: tuple[float, float, float] = (4.0, 4.0, 5.0)) -> Path:
    """Write scans with the names, label values and orientations of MM-WHS; 1002 has label 421; a test scan has none."""
    home.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        labels, geometry, image = phantom_case(k, spacing, ODD_DIRECTIONS[k % len(ODD_DIRECTIONS)])
        name = f"ct_train_{1001 + k}"
        write_volume(Volume(image, geometry), home / f"{name}_image.nii.gz")
        write_volume(Volume(as_mmwhs(labels, stray=k == 1), geometry), home / f"{name}_label.nii.gz")
    _, geometry, image = phantom_case(99, spacing)
    write_volume(Volume(image, geometry), home / "ct_test_2001_image.nii.gz")
    return home


def write_slicer_segmentation(labels: np.ndarray, geometry: Geometry, path: Path, names: dict[int, str]) -> Path:
    """Write a ``.seg.nrrd`` with two layers, as Slicer does for overlapping segments: odd and even labels.

    Args:
        names: label -> segment name.
    """
    import SimpleITK as sitk

    layers = np.stack([np.where(labels % 2 == 1, labels, 0), np.where(labels % 2 == 0, labels, 0)], -1).astype(np.uint8)
    image = sitk.GetImageFromArray(layers, isVector=True)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    for number, (value, name) in enumerate(names.items()):
        for field, text in (
            ("ID", f"Segment_{number}"),
            ("Name", name),
            ("LabelValue", str(value)),
            ("Layer", str((value + 1) % 2)),
        ):
            image.SetMetaData(f"Segment{number}_{field}", text)
    sitk.WriteImage(image, str(path), True)
    return path
