"""Effect of self-training on unlabelled real scans: an experiment that is not part of the default model.

``python benchmarks/adaptation.py ../shared/data WORK [--model DIR] [--steps 60] [--seeds 2] [--json FILE]``. The fine
network of a model labels two unlabelled real CTs (weak contrast, DICOM) in the window around the heart; labels with a
probability above 0.9 are used. Training then continues with alternating synthetic and real samples; real samples are
augmented with shifts, gamma and noise while their labels stay the same (consistency). The control continues from the
same weights with the same synthetic samples and the same number of steps, with synthetic samples in place of the real
ones. Evaluated before and after on the development CT, which is not one of the two, and on synthetic CT and MR of
validation subjects 15 and 16 with centred windows. Scenes are created in WORK unless ``--scenes`` names a folder.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from _common import markdown, write_json

import heartseg
from heartseg.models import ModelFolder, find_model
from heartseg.synthesis.hearts import VALIDATION_SUBJECTS
from heartseg.synthesis.regions import IGNORE
from heartseg.synthesis.scenes import make_scenes
from heartseg.synthesis.source import load_source
from heartseg.synthesis.views import normalise
from heartseg.training.evaluate import predict_window, score_development_ct, with_mean
from heartseg.training.scoring import score_scenes
from heartseg.training.stages import FINE, Stage
from heartseg.training.stream import SampleStream
from heartseg.training.trainer import Recipe, Trainer

UNLABELLED = ("scans/ct_chest_weak_contrast_3mm.nii.gz", "dicom/lung-dx-a0002")
CONFIDENT = 0.9
LEARNING_RATE = 3e-4
N_SCENES = 30


def stage_of(model: ModelFolder) -> Stage:
    """The fine network of the model as a training stage."""
    spacing, patch = float(model.spacing[0]), int(model.patch_size[0])
    return replace(FINE, spacing=spacing, patch=patch, learning_rate=LEARNING_RATE)


def pseudo_labelled(network: torch.nn.Module, stage: Stage, scan: Path, model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Window of a scan around the located heart: image (float32), labels (uint8, 255 if uncertain)."""
    volume = heartseg.read_volume(scan)
    result = heartseg.segment(volume, model)
    box = np.argwhere(result.labels > 0)
    centre = volume.geometry.index_to_world((box.min(0) + box.max(0)) / 2)
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array).astype(np.float32))
    direction = np.array(volume.geometry.direction, float).reshape(3, 3)
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing([float(v) for v in volume.geometry.spacing])
    image.SetOrigin([float(v) for v in volume.geometry.origin])
    logits, grid = predict_window(network, stage, sitk.DICOMOrient(image, "LPS"), np.asarray(centre))
    share = torch.from_numpy(logits).softmax(0)
    labels = share.argmax(0).to(torch.uint8)
    labels[share.amax(0) < CONFIDENT] = IGNORE
    pixels = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, -1024.0))
    return pixels, labels.numpy()


def disturbed(rng: np.random.Generator, image: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift the pair by up to 10 voxels per axis; apply gamma and noise to the image and normalize it."""
    shift = [int(v) for v in rng.integers(-10, 11, 3)]
    moved = np.roll(image, shift, (0, 1, 2))
    target = torch.from_numpy(np.roll(labels, shift, (0, 1, 2)).copy())
    low, high = np.percentile(moved, (0.5, 99.5))
    unit = np.clip((moved - low) / max(float(high - low), 1e-6), 0, 1) ** np.exp(rng.uniform(-0.3, 0.3))
    noisy = torch.from_numpy((unit + rng.normal(0, rng.uniform(0, 0.04), unit.shape)).astype(np.float32))
    return normalise(noisy, torch.ones_like(noisy, dtype=torch.bool))[None, None], target[None]


def make_trainer(model: ModelFolder, scenes: Path, work: Path, steps: int, seed: int) -> Trainer:
    """A trainer whose networks start from the weights of the model."""
    recipe = Recipe(steps=steps, workers=0, ema=0.9, warm_up=5, seed=seed)
    trainer = Trainer(stage_of(model), scenes, work, recipe)
    trainer.start_from(model.path / "fold_0" / "checkpoint_final.pth")
    return trainer


def learn_on(trainer: Trainer, steps: int, seed: int, real: list[tuple[np.ndarray, np.ndarray]]) -> torch.nn.Module:
    """Train the averaged network for ``steps`` steps; every second step uses a real sample, if there are any."""
    rng, batches = np.random.default_rng(seed), iter(SampleStream(trainer.scenes, trainer.stage, seed, 0))
    for step in range(steps):
        if real and step % 2:
            trainer.take_step(*disturbed(rng, *real[(step // 2) % len(real)]))
        else:
            image, target = next(batches)
            trainer.take_step(image[None], target[None])
    return trainer.average


def score(network: torch.nn.Module, stage: Stage, data: Path, validation: Path) -> dict[str, float]:
    """Mean Dice on validation CT and MR; Dice per structure and mean on the development CT."""
    found = {
        kind: round(score_scenes(network, stage, validation, kind=kind)["mean"]["mean"], 3) for kind in ("ct", "mr")
    }
    return found | with_mean(score_development_ct(network, stage, data))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/adaptation.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data folder (../shared/data)")
    parser.add_argument("work", type=Path, help="folder for scenes")
    parser.add_argument("--model", default=None, help="model to adapt (default: the default model)")
    parser.add_argument("--scenes", type=Path, help=f"folder of training scenes (default: {N_SCENES}, created in WORK)")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write results and their provenance to FILE")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    source, validation = load_source(args.data), args.work / "validation"
    make_scenes(source, validation, range(50_000, 50_008), subjects=VALIDATION_SUBJECTS, thorax_every=4)
    scenes = args.scenes or args.work / "training"
    if not args.scenes:
        make_scenes(source, scenes, range(N_SCENES))
    model: ModelFolder = find_model(args.model)
    stage = stage_of(model)
    before = make_trainer(model, scenes, args.work / "run", args.steps, 0).average
    real = [pseudo_labelled(before, stage, args.data / scan, model.path) for scan in UNLABELLED]
    rows = {"before": score(before, stage, args.data, validation)}
    print(f"before: {rows['before']}", file=sys.stderr, flush=True)
    for seed in range(args.seeds):
        for name, samples in (("synthetic alone", []), ("with the real scans", real)):
            trainer = make_trainer(model, scenes, args.work / "run", args.steps, seed)
            rows[f"{name}, seed {seed}"] = score(
                learn_on(trainer, args.steps, seed, samples), stage, args.data, validation
            )
            print(f"{name}, seed {seed}: {rows[f'{name}, seed {seed}']}", file=sys.stderr, flush=True)
    columns = list(rows["before"])
    print(markdown(["", *columns], [[name, *(f"{row[c]:.3f}" for c in columns)] for name, row in rows.items()]))
    if args.json:
        write_json(args.json, {"rows": rows, "steps": args.steps, "model": model.path.name})
    return 0


if __name__ == "__main__":
    sys.exit(main())
