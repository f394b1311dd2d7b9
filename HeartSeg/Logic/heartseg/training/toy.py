"""Toy hearts of ellipsoids and tubes: labelled scans to try out training, made in seconds without any data.

World axes are LPS, in mm, with the origin at the centre of the left ventricle. Dimensions are those of a small normal
heart (chambers 80-130 mL, wall 9 mm, aorta 28 mm, pulmonary trunk 24 mm). A network trained on them is of no use for
scans of patients.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import OutputError, SettingsError
from ..progress import Reporter
from ..staging import FolderKind, staged_folder
from ..volume.geometry import Geometry
from ..volume.types import Volume
from ..volume.writing import write_labels, write_volume

_KIND = FolderKind("labelled toy scans", ("images", "labels"), "labels")
HEART_LOW = np.array([-80.0, -75.0, -60.0])
HEART_HIGH = np.array([70.0, 75.0, 105.0])
"""World box (LPS mm) that contains the whole heart with a margin."""

AORTA_RADIUS_MM = 14.0
TRUNK_RADIUS_MM = 12.0
TISSUES = {"blood": (350.0, 900.0), "myocardium": (110.0, 300.0), "fat": (-90.0, 650.0), "lung": (-800.0, 20.0)}
"""HU in CT and signal in MR (arbitrary units; fat is bright) of each tissue."""
MODALITIES = ("CT", "MR")
NOISE = 20.0


def make_toy_data(
    out: Path, count: int, modality: str, spacing_mm: float = 3.0, seed: int = 0, reporter: Reporter | None = None
) -> Path:
    """Write labelled scans of different hearts to ``out/images`` and ``out/labels``; returns ``out``.

    Args:
        out: a new or empty folder.
        count: number of scans.
        modality: ``"CT"`` (int16, HU) or ``"MR"`` (int16, arbitrary units).
        spacing_mm: isotropic voxel size, mm.
        seed: random seed; scan k of a seed is always the same.
        reporter: receives progress and cancels.

    Raises:
        SettingsError: a value is invalid.
        OutputError: the folder is not empty or not writable.
    """
    if modality not in MODALITIES:
        raise SettingsError(f"modality {modality!r} is unknown: use {' or '.join(MODALITIES)}")
    if count < 1:
        raise SettingsError(f"{count} scans are too few: give 1 or more (a training needs 2)")
    if not 0.5 <= spacing_mm <= 10:
        raise SettingsError(f"spacing {spacing_mm:g} mm cannot be used: give 0.5 to 10")
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"folder {str(out)!r} is not empty: choose another with -o")
    reporter = reporter or Reporter()
    with staged_folder(out, _KIND) as stage:
        for name in ("images", "labels"):
            (stage / name).mkdir()
        with reporter.stage("make scans", count):
            for k in range(count):
                reporter.advance(k)
                volume, labels = toy_scan(np.random.default_rng([seed, k]), modality, spacing_mm)
                name = f"{modality.lower()}_{k:02}.nii.gz"
                write_volume(volume, stage / "images" / name)
                write_labels(labels, volume.geometry, stage / "labels" / name)
    return out


def toy_scan(rng: np.random.Generator, modality: str, spacing_mm: float) -> tuple[Volume, np.ndarray]:
    """Return a scan with LPS axes and its labels 1-7; size, pose, contrast and noise are random."""
    scale, shift = rng.uniform(0.85, 1.15, 3), rng.uniform(-8, 8, 3)
    angles = np.deg2rad(rng.uniform(-12, 12, 3))
    nx, ny, nz = (int(n) for n in np.ceil((HEART_HIGH - HEART_LOW) / spacing_mm))
    shape = (nz, ny, nx)
    geometry = Geometry(shape, (spacing_mm, spacing_mm, spacing_mm), tuple(map(float, HEART_LOW)))  # type: ignore[arg-type]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    world = geometry.index_to_world(index)
    x, y, z = np.moveaxis((world - shift) @ rotation(angles) / scale, -1, 0)
    labels = paint_heart(x, y, z)
    column = MODALITIES.index(modality)
    blood, myocardium, fat, lung = (values[column] for values in TISSUES.values())
    middle = (HEART_LOW + HEART_HIGH) / 2
    chest = ((world[..., 0] - middle[0]) / 85) ** 2 + ((world[..., 1] - middle[1]) / 85) ** 2 < 1
    image = np.where(chest, fat, lung)
    image[labels > 0] = blood
    image[labels == 5] = myocardium
    image = image * rng.uniform(0.85, 1.15) + rng.normal(0, NOISE, shape)
    image = np.abs(image) if modality == "MR" else image + rng.uniform(-20, 20)
    return Volume(image.round().clip(-1024, 3000).astype(np.int16), geometry, "toy", modality), labels


def rotation(angles: np.ndarray) -> np.ndarray:
    """Return the (3, 3) matrix that rotates about x, then y, then z, by these angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        a, b = [k for k in range(3) if k != axis]
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        matrix = turn @ matrix
    return matrix


def paint_heart(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return labels 1-7 (uint8) at world points, LPS mm; the coordinates may be arrays that broadcast."""
    axis = np.array([0.62, -0.52, -0.59])
    axis /= np.linalg.norm(axis)  # from base to apex: to the left, forwards, down
    along = axis[0] * x + axis[1] * y + axis[2] * z
    radial2 = x * x + y * y + z * z - along * along
    base = -24.0  # position of the valve plane along the axis
    cavity = (along / 42) ** 2 + radial2 / 25**2 < 1
    outer = (along / 51) ** 2 + radial2 / 34**2 < 1

    base_center = base * axis
    mitral = (along < base) & (along > base - 14) & (radial2 < 20**2)
    ring = (along < base) & (along > base - 12) & (radial2 < 30**2) & ~mitral  # fibrous skeleton: no label
    atrium_left = ellipsoid(x, y, z, base_center + np.array([-6, 24, 20]), (30, 21, 24)) & (along < base)
    ventricle_right = ellipsoid(x, y, z, np.array([-16, -26, 0]), (46, 30, 40)) & ~outer & ~ring
    atrium_right = ellipsoid(x, y, z, np.array([-56, 12, 14]), (21, 26, 30))
    up = np.array([-0.10, -0.12, 1.0])
    offset = np.array([-4.0, -7.5, 3.0])  # from the valve plane's middle to the aortic valve: to the front, right
    aorta = tube(x, y, z, base_center + offset, up, AORTA_RADIUS_MM, (-18, 75)) & (along < base)
    trunk = tube(x, y, z, np.array([10.0, -36.0, 30.0]), np.array([0.1, 0.35, 1.0]), TRUNK_RADIUS_MM, (-8, 58))

    labels = np.zeros(along.shape, np.uint8)
    labels[ventricle_right] = 2
    labels[atrium_right & ~outer & ~ring & (labels == 0)] = 4
    labels[atrium_left & ~ring & ~atrium_right] = 3
    from_middle = [c - b for c, b in zip((x, y, z), base_center, strict=True)]
    front = sum(c * o for c, o in zip(from_middle, offset, strict=True)) > 0
    labels[mitral] = 3
    labels[(along < base) & (along > base - 8) & (radial2 < 26**2) & front] = 5  # basal septum around the aortic root
    labels[outer & (along >= base)] = 5
    labels[cavity & (along >= base)] = 1
    labels[trunk & ~outer & (labels != 5)] = 7
    labels[aorta] = 6
    return labels


def ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, center: np.ndarray, semi: tuple[float, ...]) -> np.ndarray:
    """Return the mask of world points inside an ellipsoid with these semi-axes, mm."""
    return ((x - center[0]) / semi[0]) ** 2 + ((y - center[1]) / semi[1]) ** 2 + ((z - center[2]) / semi[2]) ** 2 < 1


def tube(
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    start: np.ndarray,
    direction: np.ndarray,
    radius: float,
    reach: tuple[float, float],
) -> np.ndarray:
    """Return the mask of world points inside a straight tube, between two distances along its axis, mm."""
    unit = direction / np.linalg.norm(direction)
    dx, dy, dz = x - start[0], y - start[1], z - start[2]
    along = unit[0] * dx + unit[1] * dy + unit[2] * dz
    return (dx * dx + dy * dy + dz * dz - along * along < radius**2) & (along > reach[0]) & (along < reach[1])
