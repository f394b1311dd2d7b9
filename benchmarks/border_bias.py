#!/usr/bin/env python
"""Origin of systematic errors of borders: the label maps or the network.

    python benchmarks/border_bias.py labels
    python benchmarks/border_bias.py network SCENES [--model DIR] [--scenes 3]

``labels`` passes ellipsoidal shells of known volume through the label pipeline: created at the voxel size of the scene
(1.5 or 1 mm), sampled by random views, resampled to the voxel size of the network. ``network`` segments validation
scenes (a folder of ``heartseg train-default``) with the fine network, centred on the heart, at its own voxel size. It
compares volumes with the truth, by argmax and by the sum of probabilities (which is unbiased for calibrated
probabilities), and prints the mean distance of the outer and the inner border of the myocardium from the true borders,
outward positive. The reference are labels with fair ties, and with the ties of the frozen scans, in which the
myocardium is too small.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "HeartSeg" / "Logic"))

from heartseg.synthesis.appearance import draw_appearance, render  # noqa: E402
from heartseg.synthesis.fields import rotation_matrix  # noqa: E402
from heartseg.synthesis.regions import IGNORE  # noqa: E402
from heartseg.synthesis.scenes import Scene, load_scene  # noqa: E402
from heartseg.synthesis.views import View, extract, normalise  # noqa: E402
from heartseg.training.scoring import centred_view  # noqa: E402
from heartseg.training.stages import FINE_FULL, LABELS, as_input, build_network, full_resolution  # noqa: E402

SHELLS_MM = (4.0, 6.0, 9.0)
RADII_MM = np.array([40.0, 26.0, 26.0])
"""Semi-axes of the cavity, mm."""


def shell_scene(rng: np.random.Generator, wall: float, spacing: float) -> tuple[Scene, dict[int, float]]:
    """A left ventricle with a wall of constant thickness, randomly rotated and placed, and its volumes, mm³."""
    n = int(130 / spacing)
    turn, middle = rotation_matrix(rng.uniform(-1, 1, 3)), np.full(3, n / 2) + rng.uniform(-0.5, 0.5, 3)
    place = (np.moveaxis(np.indices((n, n, n)), 0, -1) - middle) * spacing @ turn
    cavity = ((place / RADII_MM) ** 2).sum(-1) < 1
    whole = ((place / (RADII_MM + wall)) ** 2).sum(-1) < 1
    labels = np.where(cavity, 1, np.where(whole, 5, 0)).astype(np.uint8)
    inner, outer = (4 / 3 * np.pi * float(np.prod(r)) for r in (RADII_MM, RADII_MM + wall))
    z, y, x = (float(v) for v in middle * spacing)
    scene = Scene(labels, labels, (0, 0, 0), spacing, (z, y, x), "trunk", None, 0)
    return scene, {1: inner, 5: outer - inner}


def label_bias(views: int) -> dict[str, dict[str, float]]:
    """Mean relative error of the volumes of the labels over random views, percent."""
    out = {}
    for spacing in (1.5, 1.0):
        for wall in SHELLS_MM:
            errors: dict[str, list[float]] = {}
            for seed in range(views):
                rng = np.random.default_rng([seed, round(wall)])
                scene, truth = shell_scene(rng, wall, spacing)
                rotation = rotation_matrix(np.deg2rad(np.clip(rng.normal(0, 6, 3), -15, 15)))
                zoom = rng.uniform(0.9, 1.12) * rng.uniform(0.97, 1.03, 3)
                centre = np.array(scene.heart_centre) + rng.uniform(-2, 2, 3)
                view = View(centre, 96, 1.5, rotation, zoom, np.zeros(3), np.full(3, 96.0))
                for rule, fair in (("lowest", False), ("fair", True)):
                    target = extract(scene, view, fair_ties=fair)[1].numpy()
                    for label, volume in truth.items():
                        found = float((target == label).sum()) * 1.5**3 * float(np.prod(zoom))
                        name = f"{'LV' if label == 1 else 'MYO'} {rule}"
                        errors.setdefault(name, []).append(100 * (found / volume - 1))
                        if fair:
                            found = float((interpolated(target) == label).sum()) * 0.75**3 * float(np.prod(zoom))
                            errors.setdefault(f"{name}, interpolated", []).append(100 * (found / volume - 1))
            out[f"{spacing:g} mm, wall {wall:g} mm"] = {k: round(float(np.mean(v)), 2) for k, v in errors.items()}
    return out


def interpolated(labels: np.ndarray) -> np.ndarray:
    """What a network that is sure of these labels gives on a grid of half the voxel size: argmax of its channels."""
    channels = torch.stack([torch.from_numpy(labels == k).float() for k in (0, 1, 5)])[None]
    finer = torch.nn.functional.interpolate(channels, scale_factor=2, mode="trilinear", align_corners=False)[0]
    return np.array([0, 1, 5])[finer.argmax(0).numpy()]


def network_bias(folder: Path, model: Path, count: int, seed: int) -> list[dict[str, object]]:
    """Volumes and border distances of the fine network on validation scenes."""
    weights = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=True)["network_weights"]
    network = build_network(FINE_FULL.features, deep_supervision=False)
    network.load_state_dict({k: v.float() for k, v in weights.items()})
    network.eval()
    rows: list[dict[str, object]] = []
    for number, card in enumerate(sorted(folder.glob("*.json"))[:count]):
        scene = load_scene(card)
        for kind in ("ct", "mr"):
            rng = np.random.default_rng([seed, number])
            regions, target, seen = extract(scene, centred_view(scene, FINE_FULL))
            fair = extract(scene, centred_view(scene, FINE_FULL), fair_ties=True)[1].numpy()
            look = draw_appearance(rng, kind)
            image = normalise(render(rng, regions, look, FINE_FULL.spacing), seen)
            with torch.inference_mode():
                share = full_resolution(network(as_input(image.numpy())))[0].float().softmax(0)
            row: dict[str, object] = {"scene": card.stem, "kind": look.protocol, "fair": compare(share, fair)}
            rows.append(row | {"as_scored": compare(share, target.numpy())})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def compare(share: torch.Tensor, truth: np.ndarray) -> dict[str, object]:
    """Relative volumes by argmax and by probability, percent, and outward distance of the borders of MYO, mm."""
    keep = truth != IGNORE
    found = share.argmax(0).numpy()
    out: dict[str, object] = {}
    for name, label in LABELS.items():
        true = float(((truth == label) & keep).sum())
        if label and true:
            hard = float(((found == label) & keep).sum()) / true
            soft = float(share[label].numpy()[keep].sum()) / true
            both = 2 * float(((found == label) & (truth == label)).sum()) / (true * (1 + hard))
            out[name] = [round(100 * (hard - 1), 1), round(100 * (soft - 1), 1), round(both, 3)]
    for name, inside in (("epicardium", (1, 5)), ("endocardium", (1,))):
        out[name] = round(outwards(np.isin(found, inside), np.isin(truth, inside), truth == 5), 2)
    return out


def outwards(found: np.ndarray, truth: np.ndarray, wall: np.ndarray) -> float:
    """Mean signed distance, mm, of a border from the true one, outward positive, along the wall."""
    step = FINE_FULL.spacing
    signed = (ndi.distance_transform_edt(~truth) - ndi.distance_transform_edt(truth)) * step
    border = found & ~ndi.binary_erosion(found)
    near = ndi.binary_dilation(wall, iterations=3)
    own = truth & ~ndi.binary_erosion(truth)
    return float(signed[border & near].mean() - signed[own & near].mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    one = commands.add_parser("labels")
    one.add_argument("--views", type=int, default=6)
    two = commands.add_parser("network")
    two.add_argument("folder", type=Path, help="folder of validation scenes")
    two.add_argument("--model", type=Path, default=ROOT / "Models" / "HeartSeg-Default")
    two.add_argument("--scenes", type=int, default=3)
    two.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "labels":
        print(json.dumps(label_bias(args.views), indent=1))
    else:
        network_bias(args.folder, args.model, args.scenes, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
