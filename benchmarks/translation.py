"""Segmentation of MR translated to CT by ``heartseg translate``, compared with histogram-matched MR, by a CT network.

``python benchmarks/translation.py DATA WORK [--scenes DIR] [--seeds 2] [--json FILE]``. All data are synthetic: half of
the training scenes are CTA (with labels, to train a 2D U-Net), the other half bSSFP MR (without labels); the CycleGAN
is trained on both, unpaired. Tested on scenes of shape-model subjects not used in training (``--subjects``; settings
were chosen on 15 and 16, the reported results are of 17, 18 and 19, evaluated once): Dice of the U-Net, mean of seven
structures, on raw MR (its 0.5th and 99.5th percentiles mapped to the CT window), histogram-matched MR (SimpleITK,
reference: all training CTs), translated MR, and true CT of the same scenes (upper limit). There is one MR protocol, as
in one hospital: bSSFP without fat suppression (``--fat``). Slices have 64 pixels of 3 mm around the heart; larger or
finer slices were not tried. An interrupted run continues with the same command.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import markdown, structure_dice, summarise, write_json
from _slices import SIZE, SPACING, SmallUNet, ct_appearance, labels_of, make_volumes, mr_appearance, predict, train_unet

from heartseg import __version__
from heartseg.synthesis.regions import IGNORE
from heartseg.synthesis.scenes import make_scenes
from heartseg.synthesis.source import load_source
from heartseg.training.nnunet.ablation_table import bootstrap_interval
from heartseg.translation.apply import Translator
from heartseg.translation.presets import Settings
from heartseg.translation.slices import new_scaling, to_unit
from heartseg.translation.trainer import train
from heartseg.volume import read_volume

SETTINGS = Settings(
    blocks=6,
    filters=24,
    critic_filters=32,
    identity=0.0,
    edges=0.0,
    learning_rate=4e-4,
    epochs=2,
    constant_epochs=1,
    steps=2000,
    batch=1,
    patch=SIZE,
    spacing=SPACING,
    ct_window=(-500.0, 1000.0),
    ema=0.99,
)
"""Smaller networks than in the reference and no identity term, to run on a CPU."""
CONDITIONS = ("raw MR", "histogram-matched MR", "translated MR", "true CT")
FIRST_TEST_SCENE = 60_000


def cpu_minutes(since: float) -> float:
    return round((time.process_time() - since) / 60, 2)


def training_scenes(args: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Cards of the MR scenes and of the CT scenes; fixed at the first call."""
    listed = args.work / "scenes.json"
    if not listed.is_file():
        folder = args.scenes or args.work / "scenes"
        if args.scenes is None:
            make_scenes(load_source(args.data), folder, range(args.count))
        cards = sorted(folder.glob("scene*.json"))[: args.count]
        args.work.mkdir(parents=True, exist_ok=True)
        listed.write_text(json.dumps([str(c) for c in cards]))
    cards = [Path(c) for c in json.loads(listed.read_text())]
    return cards[::2], cards[1::2]


def test_scenes(args: argparse.Namespace) -> list[Path]:
    """Scenes of subjects not used in training, half of them trunks."""
    folder = args.work / "test-scenes"
    numbers = range(FIRST_TEST_SCENE, FIRST_TEST_SCENE + args.tests)
    turns = [s for s in args.subjects for _ in range(2)]  # a trunk and a synthetic thorax of each
    make_scenes(load_source(args.data), folder, numbers, subjects=turns, thorax_every=2)
    return sorted(folder.glob("scene*.json"))[: args.tests]


def as_ct_slices(values: np.ndarray) -> np.ndarray:
    """Normalize HU for the U-Net."""
    return to_unit(values, SETTINGS.ct_window)


def match_histogram(mr: np.ndarray, reference: Any) -> np.ndarray:
    """Match the histogram of MR to that of CT (SimpleITK; 256 levels, 20 points)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(mr.astype(np.float32))
    return sitk.GetArrayFromImage(sitk.HistogramMatching(image, reference, 256, 20, False))


def pooled(files: list[Path]) -> Any:
    """All training CTs stacked to one reference image."""
    import SimpleITK as sitk

    return sitk.GetImageFromArray(np.concatenate([read_volume(f).array for f in files]).astype(np.float32))


def segmenter(args: argparse.Namespace, files: list[Path], seed: int) -> torch.nn.Module:
    """The U-Net of a seed, trained once on CT slices."""
    path = args.work / f"unet-{seed}.pt"
    if path.is_file():
        network = SmallUNet()
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    images = np.concatenate([as_ct_slices(read_volume(f).array) for f in files])
    labels = np.concatenate([labels_of(f) for f in files])
    network = train_unet(torch.from_numpy(images), torch.from_numpy(labels), args.unet_steps, seed)
    torch.save(network.state_dict(), path)
    return network


def mean_dice(network: torch.nn.Module, slices: np.ndarray, truth: np.ndarray) -> float:
    """Mean Dice of the structures of one volume."""
    scores = structure_dice(predict(network, slices), truth, keep=truth != IGNORE)
    return float(np.mean(list(scores.values())))


def score(
    network: torch.nn.Module, translator: Translator | None, mr: Path, ct: Path, reference: Any
) -> dict[str, float]:
    """Dice of one scene in each condition."""
    truth, scan = labels_of(mr), read_volume(mr)
    shown = {
        "raw MR": to_unit(scan.array, new_scaling("MR", SETTINGS).limits(scan.array)),
        "histogram-matched MR": as_ct_slices(match_histogram(scan.array, reference)),
        "true CT": as_ct_slices(read_volume(ct).array),
    }
    if translator:
        shown["translated MR"] = as_ct_slices(translator(scan).array)
    return {name: mean_dice(network, slices, truth) for name, slices in shown.items()}


def run_seed(args: argparse.Namespace, seed: int, volumes: dict[str, list[Path]]) -> dict[str, Any]:
    """Train both networks of a seed and compute the Dice of each test scene; stored in a file."""
    kept = args.work / f"scores-{seed}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    start = time.process_time()
    network = segmenter(args, volumes["ct"], seed)
    print(f"seed {seed}: U-Net, {cpu_minutes(start)} CPU min", flush=True)
    settings = replace(SETTINGS, steps=args.steps, seed=seed, edges=args.edges)
    out = args.work / f"cyclegan-{seed}"
    train(volumes["mr"], volumes["ct"], out, settings, device="cpu", sheet_every=250)
    translator, reference = Translator(out, device="cpu"), pooled(volumes["ct"])
    rows = {
        mr.name.partition("-")[0]: score(network, translator, mr, ct, reference)
        for mr, ct in zip(volumes["test-mr"], volumes["test-ct"], strict=True)
    }
    record = {
        "seed": seed,
        "settings": settings.to_dict(),
        "seconds": translator.model.facts["seconds"],
        "scenes": rows,
    }
    kept.write_text(json.dumps(record, indent=1))
    return record


def interval(values: np.ndarray) -> list[float]:
    """95 % bootstrap interval of the mean over scenes; NaN for fewer than six."""
    return [np.nan if bound is None else bound for bound in bootstrap_interval(values)]


def compare(seeds: list[dict[str, Any]], subjects: dict[str, int]) -> dict[str, Any]:
    """Means, SD over scenes, and the paired difference of translated and matched MR relative to different SDs.

    ``subjects``: scene -> its shape-model subject.
    """
    scenes = sorted(seeds[0]["scenes"])
    each = {c: np.array([[s["scenes"][n][c] for n in scenes] for s in seeds]) for c in CONDITIONS}  # (seeds, scenes)
    gain = each["translated MR"] - each["histogram-matched MR"]
    over_scenes = gain.mean(0)
    sd = float(over_scenes.std(ddof=1))
    error = sd / np.sqrt(len(scenes))
    seed_means = gain.mean(1)
    numbers = sorted({subjects[n] for n in scenes})
    of_subject = [float(over_scenes[[subjects[n] == k for n in scenes]].mean()) for k in numbers]
    return {
        "conditions": {c: {**summarise(list(v.mean(0))), "interval": interval(v.mean(0))} for c, v in each.items()},
        "each_seed": {c: list(v.mean(1)) for c, v in each.items()},
        "gain_over_histogram_matching": {
            "n_scenes": len(scenes),
            "n_seeds": len(seeds),
            "mean": float(gain.mean()),
            "interval": interval(over_scenes),
            "scenes_better": int((over_scenes > 0).sum()),
            "least": float(over_scenes.min()),
            "each_seed": list(seed_means),
            "each_subject": dict(zip(map(str, numbers), of_subject, strict=True)),
            "in_sd_over_subjects": float(np.mean(of_subject) / np.std(of_subject, ddof=1)),
            "sd_over_scenes": sd,
            "in_sd_over_scenes": float(over_scenes.mean() / sd),
            "standard_error": error,
            "in_standard_errors": float(over_scenes.mean() / error),
            "sd_over_seeds": float(seed_means.std(ddof=1)) if len(seeds) > 1 else float("nan"),
            "each_seed_in_sd_over_scenes": list(seed_means / gain.std(1, ddof=1)),
            "each_seed_in_standard_errors": list(seed_means / gain.std(1, ddof=1) * np.sqrt(len(scenes))),
        },
        "share_of_the_gap_to_true_ct_closed": float(
            gain.mean() / (each["true CT"] - each["histogram-matched MR"]).mean()
        ),
    }


def print_summary(found: dict[str, Any]) -> None:
    """Print the table and the differences."""
    rows = [
        (c, r["n"], r["mean"], r["sd"], *r["interval"], *found["each_seed"][c]) for c, r in found["conditions"].items()
    ]
    numbered = [f"seed {i}" for i in range(len(rows[0]) - 6)]
    heads = ["Dice, mean of 7", "scenes", "mean", "SD over scenes", "low", "high", *numbered]
    print(markdown(heads, rows))
    g = found["gain_over_histogram_matching"]
    print(f"""
translated minus matched, paired: {g["mean"]:+.3f} (95 % bootstrap interval over scenes {g["interval"][0]:+.3f} to \
{g["interval"][1]:+.3f}), {g["n_scenes"]} scenes and {g["n_seeds"]} seeds (better in {g["scenes_better"]} scenes, \
least {g["least"]:+.3f}).
  against the SD of the differences over scenes, {g["sd_over_scenes"]:.3f}: {g["in_sd_over_scenes"]:.1f} SD \
(consistent over scans)
  against the SD of their mean (standard error), {g["standard_error"]:.3f}: {g["in_standard_errors"]:.1f} SD \
(significance of the mean)
  subjects: {", ".join(f"{k} {v:+.3f}" for k, v in g["each_subject"].items())}; {g["in_sd_over_subjects"]:.1f} SD over \
them
  over seeds: {", ".join(f"{v:+.3f}" for v in g["each_seed"])}""")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/translation.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data folder (../shared/data)")
    parser.add_argument("work", type=Path, help="folder for scenes, volumes and runs")
    parser.add_argument("--scenes", type=Path, help="folder with existing training scenes (default: created in WORK)")
    parser.add_argument(
        "--count", type=int, default=80, help="number of training scenes, half MR, half CT (default: 80)"
    )
    parser.add_argument("--tests", type=int, default=12, help="number of test scenes (default: %(default)s)")
    parser.add_argument(
        "--subjects",
        type=int,
        nargs="+",
        choices=range(15, 20),
        metavar="N",
        default=[17, 18, 19],
        help="shape-model subjects of the test scenes, 15 to 19 (default: 17 18 19)",
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--steps", type=int, default=SETTINGS.steps, help="steps of the CycleGAN (default: %(default)s)"
    )
    parser.add_argument("--unet-steps", type=int, default=900)
    parser.add_argument(
        "--edges", type=float, default=SETTINGS.edges, help="weight of the edge term (default: %(default)s)"
    )
    parser.add_argument("--fat", choices=["bright", "mixed", "dark"], default="bright", help="fat of the MR protocol")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("heartseg.translation").setLevel(logging.INFO)
    start = time.process_time()
    mr, ct = training_scenes(args)
    tests = test_scenes(args)
    appearance = partial(mr_appearance, fat=args.fat)
    volumes = {
        "mr": make_volumes(mr, args.work / "mr", appearance, 1, images_per_scene=2),
        "ct": make_volumes(ct, args.work / "ct", ct_appearance, 2, images_per_scene=2),
        "test-mr": make_volumes(tests, args.work / "test-mr", appearance, 3),
        "test-ct": make_volumes(tests, args.work / "test-ct", ct_appearance, 4),
    }
    print(f"scenes and volumes: {cpu_minutes(start)} CPU min", flush=True)
    seeds = [run_seed(args, seed, volumes) for seed in range(args.seeds)]
    found = compare(seeds, {card.stem: json.loads(card.read_text())["subject"] for card in tests})
    print_summary(found)
    facts = {
        "heartseg": __version__,
        "fat": args.fat,
        "training_scenes": {"mr": len(mr), "ct": len(ct)},
        "looks_a_scene": 2,
        "test_subjects": args.subjects,
        "unet_steps": args.unet_steps,
    }
    write_json(args.json, facts | found | {"seeds": seeds, "cpu_minutes_of_this_call": cpu_minutes(start)})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
