#!/usr/bin/env python
"""Six CTA images of the synthesis prototype, of hearts not used in training (subjects 17, 18, 19, two each).

    python benchmarks/prototype_scenes.py ../shared/data [--work DIR] [--prototype] [--model DIR] [--json FILE]

The scenes come from a generator other than that of HeartSeg: ``../shared/reference/synthesis`` (next to the data
folder), whose ``scene.py`` and ``synth.py`` are called in place. They are created once in the work folder as NIfTI and
compared with the SHA-256 in ``benchmarks/prototype_scenes.sha256``; ``--freeze`` writes this list.

The images are on the grid of the prototype, 72 voxels of 3 mm, LPS (216 mm: the heart with its surroundings, not the
whole thorax), with the values of its network in HU, clipped to -200 ... 700. Labels are 1-7; the mask is 0 where the
prototype ignores labels (aortic arch, branches of the pulmonary artery), and these voxels are not scored.

Scored twice: with the complete program (finder on), and with the finder off, in one tile (of the size of the model; 192
mm in the first default model) at the centre of the volume. A heart that is not found scores 0. Results of the prototype
on six scenes of its own, in its 3 mm window: mean .854 (LV .903 RV .901 LA .894 RA .859 MYO .784 AO .840 PA .798).
``--prototype`` also evaluates its network (``trial_3mm_fp16.pt``) on the images created here.
"""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from _common import (
    LABELS,
    center_of,
    facts,
    make_parser,
    make_segmenter,
    markdown,
    structure_dice,
    summarise_cases,
    write_json,
)

from heartseg import HeartSegError, Segmenter, Volume, read_volume

SUBJECTS = (17, 18, 19)
SCENES = 6  # scene k is of subject SUBJECTS[k % 3], from the prototype's seed k * 7919 + 13
SPACING = 3
IGNORE = 255
LEAST_BLOOD, LEAST_CONTRAST = 200.0, 100.0
"""Minimum HU of the blood in the left ventricle, and minimum difference from the myocardium, in a CTA."""
FROZEN = Path(__file__).with_suffix(".sha256")
KINDS = ("image", "labels", "mask")
PROTOTYPE = {
    "LV": 0.903,
    "RV": 0.901,
    "LA": 0.894,
    "RA": 0.859,
    "MYO": 0.784,
    "AO": 0.840,
    "PA": 0.798,
    "mean": 0.854,
}


@dataclass(frozen=True)
class Case:
    """An image with its reference labels, ``(z, y, x)``."""

    name: str
    volume: Volume
    truth: np.ndarray
    mask: np.ndarray


def prototype_module(folder: Path, name: str) -> Any:
    """Import a file of the prototype as a module."""
    if not (folder / f"{name}.py").is_file():
        raise HeartSegError(f"the prototype's {name}.py is not in {folder}: pass the development data's folder")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def cta_seed(synth: Any, scene: int) -> int:
    """First image seed of the scene (1000 * scene, + 1, ...) whose random contrast is that of a CTA."""
    for seed in range(1000 * scene, 1000 * scene + 1000):
        mean = synth.luts(np.random.default_rng(seed))[0]  # the first random values in ``synth.synth``
        if mean[LABELS["LV"]] >= LEAST_BLOOD and mean[LABELS["LV"]] - mean[LABELS["MYO"]] >= LEAST_CONTRAST:
            return seed
    raise ValueError(f"scene {scene}: no seed gives a CTA")


def to_hu(image: np.ndarray) -> np.ndarray:
    """Convert normalized values of the prototype to HU (int16): -1.8 is -200 HU, 1.8 is 700 HU."""
    return np.rint(np.clip(image * 250 + 250, -200, 700)).astype(np.int16)


def split_target(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels 0-7 and the mask of scored voxels, both uint8, from a target of the prototype."""
    mask = target != IGNORE
    return np.where(mask, target, 0).astype(np.uint8), mask.astype(np.uint8)


def save(array: np.ndarray, path: Path) -> None:
    """Write ``(z, y, x)`` as NIfTI, LPS, with the centre of the volume at the origin."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(SPACING)] * 3)
    image.SetOrigin([-(n - 1) / 2 * SPACING for n in array.shape[::-1]])
    sitk.WriteImage(image, str(path))


def make_scenes(prototype: Path, work: Path) -> None:
    """Create the scenes with the programs of the prototype, and their images, labels and masks."""
    synth = prototype_module(prototype, "synth")
    subjects = ",".join(str(s) for s in SUBJECTS)
    work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(prototype / "scene.py"), str(work / "regions"), "0", str(SCENES), subjects]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    synth.PHYS = 1.0  # always physical contrast, never the random contrast of the prototype
    for scene in range(SCENES):
        regions, target = (np.load(work / "regions" / f"{kind}{scene:04d}.npy") for kind in "rt")
        rng = np.random.default_rng(cta_seed(synth, scene))
        image = to_hu(synth.synth(rng, regions, pf=SPACING))
        for kind, array in zip(KINDS, (image, *split_target(synth.tgt3(target))), strict=True):
            save(array, work / file_name(scene, kind))


def file_name(scene: int, kind: str) -> str:
    """Name of a file of a scene."""
    return f"scene{scene}-subject{SUBJECTS[scene % len(SUBJECTS)]}-{kind}.nii"


def hashes(work: Path) -> str:
    """SHA-256 of the files in the format of ``sha256sum``."""
    names = [file_name(scene, kind) for scene in range(SCENES) for kind in KINDS]
    return "".join(f"{hashlib.sha256((work / n).read_bytes()).hexdigest()}  {n}\n" for n in names)


def load_cases(work: Path) -> list[Case]:
    """Read the images and their reference labels from the work folder."""
    cases = []
    for scene in range(SCENES):
        image, *truth = (work / file_name(scene, kind) for kind in KINDS)
        labels, mask = (sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in truth)
        cases.append(Case(image.stem.removesuffix("-image"), read_volume(image, modality="CT"), labels, mask > 0))
    return cases


def score(segmenter: Segmenter, cases: list[Case]) -> dict[str, dict[str, Any]]:
    """Dice per case and structure, and whether the heart was found."""
    rows = {}
    for case in cases:
        result = segmenter.segment(case.volume)
        dice = structure_dice(result.labels, case.truth, keep=case.mask)
        rows[case.name] = {"heart_found": result.heart_found, "dice": dice}
    return rows


def score_prototype(prototype: Path, cases: list[Case]) -> dict[str, dict[str, Any]]:
    """Dice per case and structure of the network and clean-up of the prototype."""
    infer = prototype_module(prototype, "infer")
    net = infer.load_net(str(prototype / "trial_3mm_fp16.pt"))
    rows = {}
    for case in cases:
        probabilities = infer.prob(net, infer.norm(case.volume.array.astype(np.float32)))
        labels = infer.clean(probabilities.argmax(0).astype(np.uint8))
        dice = structure_dice(labels, case.truth, keep=case.mask)
        rows[case.name] = {"heart_found": bool(labels.any()), "dice": dice}
    return rows


def summary_rows(runs: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Per run: n, mean and SD of each structure."""
    return {run: summarise_cases([row["dice"] for row in rows.values()]) for run, rows in runs.items()}


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/prototype_scenes"), help="where the scenes are kept")
    parser.add_argument("--freeze", action="store_true", help="write the hashes of the scenes as the reference")
    parser.add_argument("--prototype", action="store_true", help="also evaluate the network of the prototype")
    args = parser.parse_args(argv)
    prototype = args.data.resolve().parent / "reference" / "synthesis"
    names = [file_name(scene, kind) for scene in range(SCENES) for kind in KINDS]
    if not all((args.work / name).is_file() for name in names):
        make_scenes(prototype, args.work)
    listed = hashes(args.work)
    if args.freeze:
        FROZEN.write_text(listed, encoding="utf-8")
    if listed != FROZEN.read_text(encoding="utf-8"):
        print(f"the scenes in {args.work} differ from {FROZEN.name}: remove the folder to create them again; if they")
        print("still differ, the versions of the packages differ, and the results are not comparable (--freeze)")
        return 2
    cases = load_cases(args.work)
    located = make_segmenter(args)
    centred = make_segmenter(args, heart_center=center_of(cases[0].volume))
    runs = {"whole program": score(located, cases), "finder off": score(centred, cases)}
    if args.prototype:
        runs["prototype"] = score_prototype(prototype, cases)
    summary = summary_rows(runs)
    rows = [
        (key, *(row[key][field] for row in summary.values() for field in ("n", "mean", "sd")), PROTOTYPE[key])
        for key in (*LABELS, "mean")
    ]
    heads = [f"{run}: {field}" for run in summary for field in ("n", "mean", "SD")]
    print(markdown(["Dice", *heads, "prototype, own scenes"], rows))
    missed = [name for name, row in runs["whole program"].items() if not row["heart_found"]]
    print(f"\nhearts not found: {', '.join(missed) or 'none'}")
    record = {
        "benchmark": "prototype_scenes",
        **facts(located),
        "scenes": listed.splitlines(),
        "prototype_on_its_own_scenes": PROTOTYPE,
        "summary": summary,
        "cases": runs,
    }
    write_json(args.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
