"""Dice of CT models on translated MR against histogram-matched and raw MR, and on CT of the same hearts.

    python benchmarks/judged_translation.py MR CT OTHER_CT --models M0 M1 --translations T0 T1 [--json FILE]

MR and CT are folders with images/ and labels/ of the same hearts, in the same order of names, such as ``heartseg
sample --seed 4`` makes for both modalities; OTHER_CT is a folder of CT scans, whose pooled values are the reference of
the matching. Model k segments what translation k made; one translation may serve all models. Raw MR has its 0.5th and
99.5th percentiles at the ends of the translation's CT window. Dice is the mean over the structures of a heart;
intervals are bootstrap intervals of the mean over hearts, each averaged over the models. A refused scan counts 0.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import markdown, structure_dice, summarise, write_json

from heartseg import Segmenter, Settings, Volume, read_volume
from heartseg.errors import HeartSegError
from heartseg.translation.apply import Translator
from translation import CONDITIONS, interval, match_histogram, pooled


def shown(mr: Volume, ct: Volume, translator: Translator, reference: Any) -> dict[str, np.ndarray]:
    """What the model sees in each condition, HU."""
    low, high = np.percentile(mr.array, (0.5, 99.5))
    floor, ceiling = translator.model.settings.ct_window
    arrays = (
        np.clip((mr.array - low) / (high - low), 0, 1) * (ceiling - floor) + floor,
        match_histogram(mr.array, reference),
        translator(mr).array,
        ct.array,
    )
    return dict(zip(CONDITIONS, arrays, strict=True))


def score(segmenter: Segmenter, volume: Volume, truth: np.ndarray) -> float:
    """Mean Dice over the structures of the truth; 0 for a scan that is refused."""
    try:
        found = segmenter.segment(volume).labels
    except HeartSegError as error:
        print(f"{volume.name}: {error}", file=sys.stderr)
        return 0.0
    return float(np.mean(list(structure_dice(found, truth).values())))


def score_all(args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Dice by condition: models x hearts."""
    reference = pooled(sorted(args.other_ct.iterdir()))
    translations = args.translations * (len(args.models) if len(args.translations) == 1 else 1)
    files = list(zip(*(sorted((p / "images").iterdir()) for p in (args.mr, args.ct)), strict=True))
    each = {name: np.zeros((len(args.models), len(files))) for name in CONDITIONS}
    for k, (model, run) in enumerate(zip(args.models, translations, strict=True)):
        segmenter, translator = Segmenter(model, Settings(device="cpu", threads=1)), Translator(run, device="cpu")
        for heart, (mr_file, ct_file) in enumerate(files):
            mr, ct = read_volume(mr_file, modality="MR"), read_volume(ct_file, modality="CT")
            truth = read_volume(args.mr / "labels" / mr_file.name).array
            for name, array in shown(mr, ct, translator, reference).items():
                volume = replace(mr, array=np.ascontiguousarray(array, np.float32), modality="CT", name=name)
                each[name][k, heart] = score(segmenter, volume, truth)
    return each


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mr", "ct", "other_ct"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--translations", type=Path, nargs="+", required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    each = score_all(args)
    heads = ["Dice", "hearts", "mean", "SD", "low", "high", *(f"model {k}" for k in range(len(args.models)))]
    rows = [(name, *summarise(list(v.mean(0))).values(), *interval(v.mean(0)), *v.mean(1)) for name, v in each.items()]
    print(markdown(heads, rows))
    gain = each["translated MR"] - each["histogram-matched MR"]
    low, high = interval(gain.mean(0))
    print(
        f"\ntranslated minus matched: {gain.mean():+.3f} ({low:+.3f} to {high:+.3f}), better in "
        f"{(gain.mean(0) > 0).sum()} of {gain.shape[1]}; by model {', '.join(f'{g:+.3f}' for g in gain.mean(1))}"
    )
    write_json(args.json, {"dice": {k: v.tolist() for k, v in each.items()}, "gain": [float(gain.mean()), low, high]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
