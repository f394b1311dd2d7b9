"""Make the sample scan of the distribution: a synthetic contrast-enhanced chest CT.

``python -m heartseg.synthesis.sample --data ../shared/data --subject 16 --seed 5 --out sample.nii.gz``
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .appearance import Appearance, draw_appearance, render
from .regions import IGNORE, Region
from .scenes import Scene, make_scene
from .source import Source, load_source
from .views import SUBDIVISIONS, majority


def cta_appearance(rng: np.random.Generator) -> Appearance:
    """Appearance of a good coronary CT angiogram: bright left heart, enhanced right heart, dense superior vena cava."""
    drawn = draw_appearance(rng, "ct")
    mean, mixing = drawn.mean.copy(), drawn.mixing.copy()
    left, right, muscle = 390.0, 270.0, 105.0
    mean[[Region.LV_BLOOD, Region.LA_BLOOD, Region.AO_BLOOD, Region.ARCH, Region.DESCENDING_AORTA]] = left
    mean[[Region.PULMONARY_VEIN, Region.ARTERY]] = left
    mean[[Region.RV_BLOOD, Region.RA_BLOOD]] = right
    mean[[Region.PA_BLOOD, Region.DISTAL_PA, Region.LUNG_VESSEL]] = 330.0
    mean[[Region.LV_MYO, Region.RV_WALL, Region.PAPILLARY]] = muscle
    mean[Region.TRABECULA], mean[Region.CORONARY] = 180.0, 300.0
    mean[[Region.LEFT_VALVE, Region.RIGHT_VALVE]] = 200.0
    mean[[Region.LA_WALL, Region.RA_WALL, Region.AO_WALL, Region.PA_WALL, Region.VESSEL_WALL]] = 70.0
    mean[Region.SVC], mean[Region.IVC], mean[Region.VEIN] = 600.0, 130.0, 300.0
    mean[Region.LUNG], mean[Region.LIVER], mean[Region.MUSCLE], mean[Region.TABLE] = -840.0, 80.0, 60.0, -200.0
    mean[Region.CORTICAL_BONE], mean[Region.MARROW], mean[Region.CARTILAGE] = 500.0, 170.0, 110.0
    mixing[[Region.RV_BLOOD, Region.PA_BLOOD]], mixing[Region.RA_BLOOD], mixing[Region.SVC] = 10.0, 40.0, 80.0
    return replace(
        drawn,
        mean=mean,
        mixing=mixing,
        noise=14.0,
        noise_grain=0.8,
        blur=(0.8, 0.6, 0.6),
        slice_mm=0.0,
        bias=0.0,
        gamma=1.0,
        window=None,
        streak=0.05,
        noise_variation=0.0,
        sharpness=0.0,
        motion=0.0,
        step=0.0,
        beam_hardening=0.0,
    )


def chest_box(
    scene: Scene, above_mm: float = 150.0, below_mm: float = 140.0, margin_mm: float = 12.0
) -> tuple[slice, ...]:
    """Slices (z, y, x) of the scene that contain the chest: from below to above the heart, the body with a margin."""
    step = scene.spacing
    centre = scene.heart_centre[0] / step
    low = max(0, int(centre - below_mm / step))
    unseen = (scene.regions == Region.UNSEEN).any((1, 2))
    top = int(np.argmax(unseen)) if unseen[int(centre) :].any() and not unseen[: int(centre)].any() else len(unseen)
    high = min(top, int(centre + above_mm / step))
    slab = scene.regions[low:high]
    body = (slab > 0) & (slab != Region.TABLE)
    box = [slice(low, low + (high - low) // SUBDIVISIONS * SUBDIVISIONS)]
    for axis, others in ((1, (0, 2)), (2, (0, 1))):
        seen = np.nonzero(body.sum(others) > 200)[0]
        a = max(0, int(seen[0] - margin_mm / step))
        b = min(scene.regions.shape[axis], int(seen[-1] + margin_mm / step))
        box.append(slice(a, a + (b - a) // SUBDIVISIONS * SUBDIVISIONS))
    return tuple(box)


def image_scene(scene: Scene) -> tuple[np.ndarray, np.ndarray, float]:
    """Render a coronary CT angiogram of the chest of a trunk scene.

    Returns:
        Image, int16 HU (z, y, x); labels, uint8 0-7 (0 in the arch and the distal pulmonary arteries, which training
        ignores); voxel size in mm.
    """
    box = chest_box(scene)
    whole = np.zeros(scene.regions.shape, np.uint8)
    origin = scene.target_origin
    whole[tuple(slice(o, o + n) for o, n in zip(origin, scene.target.shape, strict=True))] = scene.target
    rng = np.random.default_rng([scene.seed, scene.subject or 0, 77])
    spacing = scene.spacing * SUBDIVISIONS
    image = render(rng, np.ascontiguousarray(scene.regions[box]), cta_appearance(rng), spacing).numpy()
    labels = majority(torch.from_numpy(np.ascontiguousarray(whole[box])), SUBDIVISIONS).numpy()
    labels[labels == IGNORE] = 0
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16), labels, spacing


def make_sample_scan(source: Source, subject: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Render the trunk scene of a shape-model subject (1-19) and a seed with :func:`image_scene`."""
    return image_scene(make_scene(source, subject, seed, "trunk", exact=False))


def main(argv: list[str] | None = None) -> None:
    """Write the image, and its labels next to it as ``...-labels.nii.gz``."""
    import SimpleITK as sitk

    parser = argparse.ArgumentParser(prog="python -m heartseg.synthesis.sample", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder (../shared/data) or packed file")
    parser.add_argument("--out", type=Path, required=True, help="a .nii.gz file")
    parser.add_argument("--subject", type=int, default=16)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args(argv)
    if not args.out.name.endswith(".nii.gz"):
        parser.error(f"--out is '{args.out}': give a name that ends in .nii.gz")
    image, labels, spacing = make_sample_scan(load_source(args.data), args.subject, args.seed)
    heart = np.argwhere(labels > 0).mean(0)[::-1] * spacing
    names = (args.out, args.out.with_name(args.out.name.replace(".nii.gz", "-labels.nii.gz")))
    for array, name in zip((image, labels), names, strict=True):
        volume = sitk.GetImageFromArray(array)
        volume.SetSpacing([spacing] * 3)
        volume.SetOrigin([round(-float(v)) for v in heart])
        sitk.WriteImage(volume, str(name), useCompression=True)


if __name__ == "__main__":
    main()
