"""Does self-training on unlabelled real scans help? An experiment, not part of the model that ships.

``python benchmarks/adaptation.py ../shared/data RUN MODEL [--steps 60] [--json FILE]``. The fine network of a
training run (``RUN/fine``) labels two unlabelled real CTs (weak contrast, DICOM) in the window where the program
finds the heart; its labels count where the probability is above 0.9. Then it learns on, one synthetic sample and one
real sample in turn, the real one shifted, its grey scale bent, noise added (consistency: the label stays). Scored on
the development CT, which is not among the two, before and after; the synthetic half alone at equal steps is the
control.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

import heartseg
from heartseg.synthesis.regions import IGNORE
from heartseg.synthesis.views import normalise
from heartseg.training.evaluate import predict_window, score_development_ct
from heartseg.training.stages import FINE, Stage, build_network
from heartseg.training.stream import SampleStream
from heartseg.training.trainer import Recipe, Trainer

UNLABELLED = ("scans/ct_chest_weak_contrast_3mm.nii.gz", "dicom/lung-dx-a0002")
CONFIDENT = 0.9
STAGE = replace(FINE, learning_rate=3e-4, heart_weight=1.0)


def pseudo_labelled(network: torch.nn.Module, scan: Path, model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Window of a scan around the heart that the program finds: image (float32), labels (uint8, 255 where unsure)."""
    volume = heartseg.read_volume(scan)
    result = heartseg.segment(volume, model)
    box = np.argwhere(result.labels > 0)
    centre = volume.geometry.index_to_world((box.min(0) + box.max(0)) / 2)
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array).astype(np.float32))
    direction = np.array(volume.geometry.direction, float).reshape(3, 3)
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing([float(v) for v in volume.geometry.spacing])
    image.SetOrigin([float(v) for v in volume.geometry.origin])
    logits, grid = predict_window(network, STAGE, sitk.DICOMOrient(image, "LPS"), np.asarray(centre))
    share = torch.from_numpy(logits).softmax(0)
    labels = share.argmax(0).to(torch.uint8)
    labels[share.amax(0) < CONFIDENT] = IGNORE
    pixels = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, -1024.0))
    return pixels, labels.numpy()


def disturbed(rng: np.random.Generator, image: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair shifted by up to 10 voxels an axis; the image's grey scale bent and noise added, then normalised."""
    shift = [int(v) for v in rng.integers(-10, 11, 3)]
    moved = np.roll(image, shift, (0, 1, 2))
    target = torch.from_numpy(np.roll(labels, shift, (0, 1, 2)).copy())
    low, high = np.percentile(moved, (0.5, 99.5))
    unit = np.clip((moved - low) / max(float(high - low), 1e-6), 0, 1) ** np.exp(rng.uniform(-0.3, 0.3))
    noisy = torch.from_numpy((unit + rng.normal(0, rng.uniform(0, 0.04), unit.shape)).astype(np.float32))
    return normalise(noisy, torch.ones_like(noisy, dtype=torch.bool))[None, None], target[None]


def learn_on(
    run: Path, scenes: Path, steps: int, real: list[tuple[np.ndarray, np.ndarray]], work: Path
) -> torch.nn.Module:
    """The network after ``steps`` steps; every second one on a real sample where there are any."""
    trainer = Trainer(STAGE, scenes, work, Recipe(steps=steps, workers=0, ema=0.9, warm_up=5, seed=77))
    trainer.network.load_state_dict(start(run, STAGE, deep=True).state_dict())
    trainer.average = copy.deepcopy(trainer.network).eval()
    rng, batches = np.random.default_rng(77), iter(SampleStream(scenes, STAGE, 77, 0))
    for step in range(steps):
        if real and step % 2:
            trainer.take_step(*disturbed(rng, *real[(step // 2) % len(real)]))
        else:
            image, target = next(batches)
            trainer.take_step(image[None], target[None])
    return trainer.average


def start(run: Path, stage: Stage, deep: bool = False) -> torch.nn.Module:
    """The averaged network of a run."""
    network = build_network(stage.features, deep_supervision=deep)
    network.load_state_dict(torch.load(run / "fine" / "snapshot.pt", weights_only=True)["weights"])
    return network.eval()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/adaptation.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data folder (../shared/data)")
    parser.add_argument("run", type=Path, help="folder of heartseg train-default, with scenes/ and fine/")
    parser.add_argument("model", type=Path, help="its model folder")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    network = start(args.run, STAGE)
    real = [pseudo_labelled(network, args.data / scan, args.model) for scan in UNLABELLED]
    rows: dict[str, Any] = {"before": score_development_ct(network, STAGE, args.data)}
    for name, samples in (("synthetic alone", []), ("with the real scans", real)):
        after = learn_on(args.run, args.run / "scenes", args.steps, samples, args.run / "adaptation")
        rows[name] = score_development_ct(after, STAGE, args.data)
    for name, row in rows.items():
        print(
            f"{name:20} "
            + "  ".join(f"{k} {v:.3f}" for k, v in row.items())
            + f"  mean {np.mean(list(row.values())):.3f}"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
