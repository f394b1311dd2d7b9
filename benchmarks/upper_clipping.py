#!/usr/bin/env python
"""What it does to cut off the upper end of the window's grey values before they are normalised.

    python benchmarks/upper_clipping.py ../shared/data [--model DIR]

The fine network alone, window centred on the reference, on the development CT as an 8-bit picture and in HU (against
the second annotation), inside the masks. Choices may be made on both.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "HeartSeg" / "Logic"))

from heartseg.synthesis.views import normalise  # noqa: E402
from heartseg.training.evaluate import with_mean  # noqa: E402
from heartseg.training.scoring import dice_scores  # noqa: E402
from heartseg.training.stages import FINE_FULL, as_input, build_network, full_resolution  # noqa: E402

SCANS = ("ct_chest_arterial_windowed_uint8", "ct_chest_arterial_hu")
PERCENTILES = (99.5, 98.5, 97.0, 95.0)
OUTSIDE = -1e6


def read(path: Path) -> Any:
    """A scan in the nearest LPS axes."""
    import SimpleITK as sitk

    return sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")


def window_of(scan: Any, reference: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Grey values, what is seen of them, and the grid of the window about the reference."""
    import SimpleITK as sitk

    points = np.argwhere(sitk.GetArrayFromImage(reference) > 0)
    middle = ((points.min(0) + points.max(0)) / 2)[::-1]
    centre = np.array(reference.TransformContinuousIndexToPhysicalPoint([float(v) for v in middle]))
    grid = sitk.Image([FINE_FULL.patch] * 3, sitk.sitkFloat32)
    grid.SetSpacing([FINE_FULL.spacing] * 3)
    grid.SetOrigin([float(v) for v in centre - (FINE_FULL.patch - 1) / 2 * FINE_FULL.spacing])
    smooth = sitk.Cast(scan, sitk.sitkFloat32)
    for axis, spacing in enumerate(scan.GetSpacing()):
        if spacing < FINE_FULL.spacing:
            sigma = float(np.sqrt((FINE_FULL.spacing**2 - spacing**2) / 12))
            smooth = sitk.RecursiveGaussian(smooth, sigma, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis)
    image = sitk.GetArrayFromImage(sitk.Resample(smooth, grid, sitk.Transform(), sitk.sitkLinear, OUTSIDE))
    pixels = torch.from_numpy(image)
    return pixels, pixels > OUTSIDE / 2, grid


@torch.inference_mode()
def labels_of(network: torch.nn.Module, image: torch.Tensor, grid: Any, scan: Any) -> np.ndarray:
    """Labels on the scan's grid, logits interpolated."""
    import SimpleITK as sitk

    logits = full_resolution(network(as_input(image.numpy())))[0].float().numpy()
    best, labels = None, None
    for k, channel in enumerate(logits - logits[:1]):
        volume = sitk.GetImageFromArray(channel)
        volume.CopyInformation(grid)
        here = sitk.GetArrayFromImage(sitk.Resample(volume, scan, sitk.Transform(), sitk.sitkLinear, -1e4))
        if best is None or labels is None:
            best, labels = np.zeros(here.shape, np.float32), np.zeros(here.shape, np.uint8)
        labels[here > best] = k
        best = np.maximum(best, here)
    assert labels is not None
    return labels


def main() -> int:
    import SimpleITK as sitk

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=ROOT / "Models" / "HeartSeg-Default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    weights = torch.load(args.model / "fold_0" / "checkpoint_final.pth", weights_only=True)["network_weights"]
    network = build_network(FINE_FULL.features, deep_supervision=False)
    network.load_state_dict({k: v.float() for k, v in weights.items()})
    network.eval()
    for name in SCANS:
        scan, reference, sure = (
            read(args.data / "scans" / f"{name}{end}.nii.gz") for end in ("", "_reference", "_confidence")
        )
        truth, mask = sitk.GetArrayFromImage(reference), sitk.GetArrayFromImage(sure) > 0
        pixels, seen, grid = window_of(scan, reference)
        tops = {f"{p} %": float(np.percentile(pixels[seen].numpy(), p)) for p in PERCENTILES}
        tops = {"none": float("inf"), **tops} | ({"450 HU": 450.0} if name.endswith("hu") else {})
        for rule, top in tops.items():
            found = labels_of(network, normalise(pixels.clamp(max=top), seen), grid, scan)
            row = {"scan": name, "clipped at": rule, "value": round(min(top, 1e6))}
            print(json.dumps(row | with_mean(dice_scores(found, truth, mask))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
