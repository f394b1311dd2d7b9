"""Dice of a network on scenes, at the voxel size of the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
import torch

from heartseg.synthesis.appearance import draw_appearance, render
from heartseg.synthesis.regions import IGNORE
from heartseg.synthesis.scenes import Scene, load_scene
from heartseg.synthesis.views import View, extract, normalise

from .cpu import fast_bfloat16
from .stages import LABELS, Stage, as_input, full_resolution

STRUCTURES = tuple(name for name in LABELS if name != "background")


def dice_scores(found: np.ndarray, truth: np.ndarray, keep: np.ndarray) -> dict[str, float]:
    """Dice of each structure present in ``truth``, over the voxels in ``keep``; arrays of equal shape."""
    scores = {}
    for name in STRUCTURES:
        a, b = (found == LABELS[name]) & keep, (truth == LABELS[name]) & keep
        if b.any():
            scores[name] = 2 * float((a & b).sum()) / float(a.sum() + b.sum())
    return scores


def summary(cases: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over the cases, of each structure and of the mean over structures."""
    table = {name: [c[name] for c in cases if name in c] for name in STRUCTURES}
    table["mean"] = [float(np.mean(list(c.values()))) for c in cases]
    return {
        name: {"mean": round(float(np.mean(v)), 3), "sd": round(float(np.std(v, ddof=1)) if len(v) > 1 else 0.0, 3)}
        for name, v in table.items()
        if v
    }


def centred_view(scene: Scene, stage: Stage) -> View:
    """Untransformed view centred on the heart of a scene, with a full field of view."""
    size = stage.patch
    return View(
        np.array(scene.heart_centre), size, stage.spacing, np.eye(3), np.ones(3), np.zeros(3), np.full(3, float(size))
    )


@torch.inference_mode()
def predict(network: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    """Predict labels (uint8, (z, y, x)) of a normalised patch; uses bfloat16 where it is fast."""
    device = next(network.parameters()).device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast_bfloat16(device)):
        logits = full_resolution(network(as_input(image).to(device)))
    return logits[0].argmax(0).to(torch.uint8).cpu().numpy()


def score_scenes(
    network: torch.nn.Module, stage: Stage, folder: Path, seed: int = 1, kind: str = "ct"
) -> dict[str, dict[str, float]]:
    """Dice (mean, sd) on one heart-centred image of ``kind`` per scene in a folder, at the voxel size of the stage.

    Images are made on the device of the network; their noise depends on the type of device.
    """
    device, cases = next(network.parameters()).device, []
    for number, card in enumerate(sorted(folder.glob("*.json"))):
        scene = load_scene(card)
        rng = np.random.default_rng([seed, number])
        regions, target, seen = extract(scene, centred_view(scene, stage), device)
        pixels = render(rng, regions, draw_appearance(rng, kind), stage.spacing)
        image = normalise(pixels, seen, stage.upper_percentile).cpu().numpy()
        truth = target.cpu().numpy()
        cases.append(dice_scores(predict(network, image), truth, truth != IGNORE))
    return summary(cases)


def largest_piece(labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Voxel count and box centre (z, y, x) of the largest connected component of a label map; (0, NaN) if empty."""
    pieces, count = ndi.label(labels > 0, np.ones((3, 3, 3)))
    if not count:
        return 0.0, np.full(3, np.nan)
    sizes = np.bincount(pieces.ravel())[1:]
    points = np.argwhere(pieces == sizes.argmax() + 1)
    return float(sizes.max()), (points.min(0) + points.max(0)) / 2


def score_finder(network: torch.nn.Module, stage: Stage, folder: Path, views: int = 20) -> dict[str, float]:
    """Measure the accuracy of a finder on random CT views (whole trunk, chest, abdomen, cardiac) of each scene.

    Returns:
        Number of views with at least 80 % of the heart, median and maximum distance (mm) between found and true box
        centre; number of views without a heart, number of false hearts over 60 mL and volume (mL) of the largest.
    """
    errors, phantoms = [], []
    for number, card in enumerate(sorted(folder.glob("*.json"))):
        scene = load_scene(card)
        whole = float(((scene.target > 0) & (scene.target != IGNORE)).sum()) * scene.spacing**3
        for k in range(views):
            rng = np.random.default_rng([3, number, k])
            view = stage.draw_view(rng, scene, stage.patch, stage.spacing)
            regions, target, seen = extract(scene, view)
            pixels = render(rng, regions, draw_appearance(rng, "ct"), stage.spacing)
            image = normalise(pixels, seen, stage.upper_percentile).numpy()
            found = np.where(seen.numpy(), predict(network, image), 0)
            size, centre = largest_piece(found)
            truth = np.where(target == IGNORE, 0, target).astype(np.uint8)
            true_size, true_centre = largest_piece(truth)
            if true_size * stage.spacing**3 * float(np.prod(view.zoom)) > 0.8 * whole:
                errors.append(float(np.linalg.norm(centre - true_centre)) * stage.spacing)
            elif not truth.any():
                phantoms.append(size * stage.spacing**3 / 1000)
    return {
        "scans_with_heart": len(errors),
        "centre_error_median_mm": round(float(np.median(errors)), 1),
        "centre_error_max_mm": round(float(np.max(errors)), 1),
        "scans_without_heart": len(phantoms),
        "false_hearts_over_60_mL": sum(p > 60 for p in phantoms),
        "largest_false_heart_mL": round(float(max(phantoms, default=0.0)), 1),
    }
