"""Real label maps for tests: the hearts of the shape model and the labelled CT."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from heartseg.volume.geometry import Geometry
from heartseg.volume.types import Volume


def read(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read array ``(z, y, x)`` and geometry of a file with SimpleITK."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    return array, Geometry(array.shape, image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def model_heart(shared_data: Path, number: int, step: int = 2) -> tuple[np.ndarray, Geometry]:
    """Read labels 1-7 of subject ``number`` (1-19) of the shape model; the walls (8-12) become background.

    The maps have voxels of 0.8 mm and are subsampled by ``step``.
    """
    labels, geometry = read(shared_data / "heart-shape-model" / "labelmaps" / f"subject_{number:02d}.nii.gz")
    labels = np.where(labels > 7, 0, labels).astype(np.uint8)[::step, ::step, ::step]
    spacing = (geometry.spacing[0] * step, geometry.spacing[1] * step, geometry.spacing[2] * step)
    return labels, Geometry(labels.shape, spacing, geometry.origin, geometry.direction)


def labelled_ct(shared_data: Path) -> tuple[Volume, np.ndarray]:
    """Read the contrast-enhanced CT (windowed to 8 bit) and its reference labels."""
    stem = "ct_chest_arterial_windowed_uint8"
    image, geometry = read(shared_data / "scans" / f"{stem}.nii.gz")
    labels, _ = read(shared_data / "scans" / f"{stem}_reference.nii.gz")
    return Volume(image, geometry, name="ct_chest_arterial"), labels
