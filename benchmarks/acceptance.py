"""Data for the acceptance thresholds: hard scans with a heart, and bodies without a heart. May be used for choices.

    python benchmarks/acceptance.py ../shared/data WORK [--model DIR] [--json FILE]

The hearts are those of validation scenes (shape-model subjects 15 and 16), in 56 scans with small fields of view: 110
to 210 mm around a point up to 35 mm off the heart, or oblique slabs of 80 to 140 mm, with any CT or MR contrast. The
bodies are 14 heads, limbs, abdomens and synthetic objects that were not used in training, as CT and as MR. The first
candidate of the finder is evaluated regardless of the thresholds, so that all values are available for each scan: the
agreement between coarse and fine network, the consistency of two windows, and the mean probability (confidence). Then
the complete program runs: the number of hearts found, and their Dice. A heart found in a body is a false positive.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from _common import make_parser, make_segmenter, markdown, write_json
from frozen_scenes import CT_PHASES, MR_SEQUENCES, Case, scan_of, write_case

import heartseg
from heartseg.evaluation import evaluate
from heartseg.inference import around_heart
from heartseg.inference.acceptance import Verdict
from heartseg.synthesis.appearance import draw_appearance
from heartseg.synthesis.fields import rotation_matrix
from heartseg.synthesis.hearts import VALIDATION_SUBJECTS
from heartseg.synthesis.scenes import Scene, load_scene, make_scenes
from heartseg.synthesis.source import load_source
from heartseg.synthesis.views import View, draw_elastic, draw_pose
from heartseg.training.stream import as_stack, draw_look

HEARTS, VIEWS, BODIES = 8, 7, 14
FIRST_HEART, FIRST_BODY = 50_000, 9_000


@dataclass(frozen=True)
class ScanResult:
    """Results of a scan, without thresholds and with the complete program; Dice is ``None`` without a heart."""

    name: str
    agreement: float | None
    consistency: float | None
    confidence: float | None
    found: bool
    dice: float | None


def hard_view(rng: np.random.Generator, scene: Scene, oblique: bool) -> View:
    """Field of view around a heart at 2 mm: a small box, or an oblique slab."""
    size, spacing = 112, 2.0
    rotation, zoom = draw_pose(rng)
    centre = np.array(scene.heart_centre) + rng.uniform(-35, 35, 3)
    half, turn = rng.uniform(55, 105, 3) / spacing, None
    if oblique:
        turn = rotation_matrix(np.deg2rad(rng.uniform(-60, 60, 3)))
        half = np.concatenate((rng.uniform(40, 70, 1), rng.uniform(80, 110, 2))) / spacing
    low, high = size / 2 - half, size / 2 + half
    if not oblique:
        low, high = np.floor(low), np.ceil(high)
    return View(centre, size, spacing, rotation, zoom, low, high, draw_elastic(rng, size * spacing), turn)


def hearts(scenes: list[Scene]) -> Iterator[Case]:
    """Scans with a heart."""
    for i, scene in enumerate(scenes):
        for j in range(VIEWS):
            rng = np.random.default_rng([7700, i, j])
            view = hard_view(rng, scene, oblique=j % 2 == 1)
            appearance = as_stack(rng, draw_look(rng, frozenset({"free"})), view, frozenset())
            yield scan_of(scene, view, f"heart_{i}_{j}_{appearance.protocol}", appearance, rng)


def bodies(scenes: list[Scene]) -> Iterator[Case]:
    """Scans without a heart, 3 mm."""
    for i, scene in enumerate(scenes):
        for j, (kind, protocols) in enumerate((("ct", CT_PHASES), ("mr", MR_SEQUENCES))):
            rng, size = np.random.default_rng([FIRST_BODY, i, j]), 112
            centre, whole = np.array(scene.regions.shape) * scene.spacing / 2, np.full(3, float(size))
            view = View(centre, size, 3.0, np.eye(3), np.ones(3), np.zeros(3), whole, None)
            appearance = draw_appearance(rng, kind, protocol=protocols[i % len(protocols)])
            yield scan_of(scene, view, f"body_{i}_{kind}", appearance, rng)


def make(data: Path, work: Path) -> None:
    """Write the missing scans."""
    source = load_source(data)
    numbers = range(FIRST_HEART, FIRST_HEART + HEARTS)
    make_scenes(source, work / "hearts", numbers, subjects=VALIDATION_SUBJECTS, thorax_every=4)
    make_scenes(source, work / "bodies", range(FIRST_BODY, FIRST_BODY + BODIES), heartless=True)
    for kind, cases in (("hearts", hearts), ("bodies", bodies)):
        scenes = [load_scene(card) for card in sorted((work / kind).glob("*.json"))]
        for case in cases(scenes):
            write_case(case, work / "scans")
            print(case.name, case.image.shape, file=sys.stderr, flush=True)


def without_thresholds() -> contextlib.AbstractContextManager[Any]:
    """Compare two windows for each candidate, and accept it unless it has the intensity of air."""
    return mock.patch.multiple(
        around_heart,
        worth_following=lambda evidence: True,
        needs_second_window=lambda evidence: True,
        judge=lambda evidence: Verdict(not evidence.is_air),
    )


def evaluate_scan(segmenter: heartseg.Segmenter, name: str, work: Path) -> ScanResult:
    """Run the complete program on one scan, without and with thresholds."""
    volume = heartseg.read_volume(work / f"{name}.nii.gz")
    with without_thresholds():
        run = segmenter.segment(volume).provenance.run
    result = segmenter.segment(volume)
    dice = None
    if name.startswith("heart"):
        truth, mask = (heartseg.read_volume(work / f"{name}_{part}.nii.gz") for part in ("labels", "mask"))
        dice = evaluate(replace(truth, array=result.labels), truth, mask, name=name).mean("dice") or 0.0
    located = (
        run is not None and run.mode == "located"
    )  # not the centre of the scan, which is not a candidate of the finder
    agreement, consistency, probability = (
        getattr(run, part) if located else None for part in ("agreement", "consistency", "mean_probability")
    )
    return ScanResult(name, agreement, consistency, probability, result.heart_found, dice)


def spread(values: list[float]) -> str:
    """Minimum, median and maximum for the table."""
    ordered = sorted(values)
    return " / ".join(f"{v:.3f}" for v in (ordered[0], ordered[len(ordered) // 2], ordered[-1])) if ordered else "-"


def summary(results: list[ScanResult]) -> list[tuple[Any, ...]]:
    """Rows for hearts and bodies: number of segmentations, distribution of the values, and hearts found."""
    rows = []
    for kind in ("heart", "body"):
        own = [a for a in results if a.name.startswith(kind)]
        segmented = [a for a in own if a.agreement is not None]
        numbers = [spread([getattr(a, part) for a in segmented]) for part in ("agreement", "consistency", "confidence")]
        scores = [a.dice for a in own if a.dice is not None]
        mean = f"{np.mean(scores):.3f}" if scores else "-"
        rows.append((kind, len(own), len(segmented), *numbers, sum(a.found for a in own), mean))
    return rows


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("work", type=Path, help="folder for scenes and scans")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scans = args.work / "scans"
    if len(list(scans.glob("*_mask.nii.gz"))) < HEARTS * VIEWS + 2 * BODIES:
        make(args.data, args.work)
    segmenter = make_segmenter(args)
    results = []
    for name in sorted(p.name.removesuffix("_labels.nii.gz") for p in scans.glob("*_labels.nii.gz")):
        results.append(evaluate_scan(segmenter, name, scans))
        print(results[-1], file=sys.stderr, flush=True)
    heads = [
        "",
        "n",
        "segmented",
        *(f"{part}: min / median / max" for part in ("agreement", "consistency", "confidence")),
    ]
    print(markdown([*heads, "found", "mean Dice"], summary(results)))
    write_json(args.json, {"results": [vars(r) for r in results]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
