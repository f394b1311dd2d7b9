"""Evaluate a training run: Dice on validation scenes and, in a manually placed window, on the development CT.

``python -m heartseg.training.evaluate --run DIR --validation DIR --data ../shared/data --out results.json``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heartseg.synthesis.views import normalise

from .export import half_precision
from .scoring import dice_scores, score_finder, score_scenes
from .stages import SIZES, Stage, as_input, build_network, full_resolution

DEVELOPMENT_CT = "ct_chest_arterial_windowed_uint8"


def load_snapshot(run: Path, stage: Stage) -> torch.nn.Module:
    """Load the averaged network of a run in evaluation mode, with weights rounded as in the exported model."""
    network = build_network(stage.features, deep_supervision=False)
    weights = torch.load(run / stage.name / "snapshot.pt", weights_only=True)["weights"]
    network.load_state_dict({k: v.float() for k, v in half_precision(weights).items()})
    return network.eval()


def score_development_ct(network: torch.nn.Module, stage: Stage, shared: Path) -> dict[str, float]:
    """Dice on the development CT inside its confidence mask, on the grid of the scan.

    The window is centred on the bounding box of the reference, so the result does not depend on the finder.
    """
    import SimpleITK as sitk

    def read(suffix: str) -> Any:
        return sitk.DICOMOrient(sitk.ReadImage(str(shared / "scans" / f"{DEVELOPMENT_CT}{suffix}.nii.gz")), "LPS")

    scan, reference, sure = read(""), read("_reference"), read("_confidence")
    truth, mask = sitk.GetArrayFromImage(reference), sitk.GetArrayFromImage(sure) > 0
    points = np.argwhere(truth > 0)
    middle = ((points.min(0) + points.max(0)) / 2)[::-1]
    centre = np.array(reference.TransformContinuousIndexToPhysicalPoint([float(v) for v in middle]))
    logits, grid = predict_window(network, stage, scan, centre)
    best = np.zeros(truth.shape, np.float32)
    labels = np.zeros(truth.shape, np.uint8)
    for k in range(logits.shape[0]):
        channel = sitk.GetImageFromArray(logits[k] - logits[0])
        channel.CopyInformation(grid)
        on_scan = sitk.GetArrayFromImage(sitk.Resample(channel, scan, sitk.Transform(), sitk.sitkLinear, -1e4))
        labels[on_scan > best] = k
        best = np.maximum(best, on_scan)
    return dice_scores(labels, truth, mask)


@torch.inference_mode()
def predict_window(network: torch.nn.Module, stage: Stage, scan: Any, centre: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return the logits (8, z, y, x) of a patch centred on an LPS point (x, y, z), and its grid as a SimpleITK image.

    The scan (a SimpleITK image with LPS axes) is smoothed and resampled to the voxels of the patch. Voxels outside the
    scan get its minimum.
    """
    import SimpleITK as sitk

    smooth = sitk.Cast(scan, sitk.sitkFloat32)
    for axis, spacing in enumerate(scan.GetSpacing()):
        if spacing < stage.spacing:
            sigma = float(np.sqrt((stage.spacing**2 - spacing**2) / 12))
            smooth = sitk.RecursiveGaussian(smooth, sigma, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis)
    origin = centre - (stage.patch - 1) / 2 * stage.spacing
    grid = sitk.Image([stage.patch] * 3, sitk.sitkFloat32)
    grid.SetSpacing([stage.spacing] * 3)
    grid.SetOrigin([float(v) for v in origin])
    outside = -1e6
    image = sitk.GetArrayFromImage(sitk.Resample(smooth, grid, sitk.Transform(), sitk.sitkLinear, outside))
    pixels = torch.from_numpy(image)
    image = normalise(pixels, pixels > outside / 2, stage.upper_percentile).numpy()
    return full_resolution(network(as_input(image)))[0].float().numpy(), grid


def validation_figures(run: Path, stages: Sequence[Stage], folder: Path) -> list[dict[str, Any]]:
    """Evaluate the averaged networks (float16) of a run on the validation scenes for the model card: CT, MR, finder."""
    n, results = len(list(folder.glob("*.json"))), []
    for stage in stages:
        network = load_snapshot(run, stage)
        if stage.name == "finder":
            results.append(
                {
                    "data": "synthetic CT of validation subjects 15 and 16, finder, random fields of view",
                    "n": n,
                    "metric": "distance of the found heart's box centre; volume seen where there is none",
                    "figures": score_finder(network, stage, folder),
                }
            )
            continue
        for kind in ("ct", "mr"):
            results.append(
                {
                    "data": f"synthetic {kind.upper()} of validation subjects 15 and 16, fine network, window centred "
                    "on the heart",
                    "n": n,
                    "metric": f"Dice at {stage.spacing:g} mm, mean and SD over scenes",
                    "figures": score_scenes(network, stage, folder, seed=2, kind=kind),
                }
            )
    return results


def with_mean(scores: dict[str, float]) -> dict[str, float]:
    """Round the scores and add their mean."""
    return {k: round(v, 3) for k, v in scores.items()} | {"mean": round(float(np.mean(list(scores.values()))), 3)}


def main(argv: list[str] | None = None) -> None:
    """Score the fine network of a run on the validation scenes and, with a centred window, on the development CT."""
    parser = argparse.ArgumentParser(prog="python -m heartseg.training.evaluate", description=main.__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="data folder, for the development CT")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--finder", action="store_true", help="also score the finder")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    finder, fine = SIZES[args.size]
    results = validation_figures(args.run, (finder, fine) if args.finder else (fine,), args.validation)
    if args.data:
        results.append(
            {
                "data": f"one real contrast chest CT ({DEVELOPMENT_CT}), the development case on which choices were "
                "made; fine network, window centred on the reference",
                "n": 1,
                "metric": "Dice inside the confidence mask, on the scan's grid",
                "figures": with_mean(score_development_ct(load_snapshot(args.run, fine), fine, args.data)),
            }
        )
    args.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
