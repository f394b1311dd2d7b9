"""The frozen synthetic test set: scans of shape-model subjects 17, 18, 19, reserved from training and choices.

``python benchmarks/frozen_scenes.py ../shared/data WORK make`` writes 24 CTA and 24 MR scans and 20 whole-trunk CTs
with their labels and compares the content of each file with the SHA-256 list next to this program (``--freeze`` writes
the list once, before training). ``make-validation`` writes similar scans of subjects 15 and 16, which may be used for
choices, and ``make-more-validation`` 42 more of each kind and 9 trunks, from other scenes.
``... score [--model DIR] [--json FILE]`` runs the complete program on them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heartseg import Geometry, Volume
from heartseg.anatomy import structure
from heartseg.synthesis.appearance import Appearance, draw_appearance, render
from heartseg.synthesis.hearts import RESERVED_SUBJECTS, VALIDATION_SUBJECTS
from heartseg.synthesis.regions import IGNORE
from heartseg.synthesis.scenes import Scene, make_scene
from heartseg.synthesis.source import Source, load_source
from heartseg.synthesis.views import View, draw_elastic, draw_pose, extract
from heartseg.training.default import N_VALIDATION, VALIDATION_FIRST

MANIFEST = Path(__file__).with_name("frozen_scenes.json")
SEED = 170_000
PER_SUBJECT = 8
N_TRUNKS = 20
HEART_LABELS = tuple(structure(key).label for key in ("LV", "RV", "LA", "RA", "MYO"))
"""Ventricles, atria and myocardium."""
NEAR = 25.0
"""Maximum distance, mm, of a heart that counts as found."""
MORE_FIRST, N_MORE_SCENES = 60_000, 14
"""Number of the first additional validation scene, and their count."""
CT_PHASES = ("arterial",) * 5 + ("triple_rule_out",) * 2 + ("venous",)
MR_SEQUENCES = ("bssfp",) * 4 + ("gre", "black_blood", "late_enhancement", "mra")


@dataclass(frozen=True)
class Case:
    """A frozen scan: image int16, labels uint8 0-7, mask uint8 (0 where the label is ambiguous)."""

    name: str
    image: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    spacing: float
    facts: dict[str, object]

    @property
    def grid(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Spacing (x, y, z), mm, and direction cosines (9,) as in SimpleITK; the origin is 0."""
        return (self.spacing,) * 3, tuple(np.eye(3).ravel().tolist())

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes of image, labels and mask."""
        return self._digest().hexdigest()

    def _digest(self) -> hashlib._Hash:
        digest = hashlib.sha256()
        for array in (self.image, self.labels, self.mask):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest


def frozen_cases(source: Source) -> Iterator[Case]:
    """All cases in order; every eighth scene is a synthetic thorax, the others are trunks."""
    trunks = 0
    for number in range(len(RESERVED_SUBJECTS) * PER_SUBJECT):
        subject = RESERVED_SUBJECTS[number // PER_SUBJECT]
        kind = "thorax" if number % PER_SUBJECT == 5 else "trunk"
        scene = make_scene(source, subject, SEED + number, kind, exact=False)
        one = number % PER_SUBJECT
        yield _scan(scene, f"cta_{subject}_{one}", "ct", CT_PHASES[one], np.random.default_rng([SEED, number, 1]))
        yield _scan(scene, f"mr_{subject}_{one}", "mr", MR_SEQUENCES[one], np.random.default_rng([SEED, number, 2]))
        if kind == "trunk" and trunks < N_TRUNKS:
            trunks += 1
            yield _trunk(scene, f"trunk_{subject}_{one}", np.random.default_rng([SEED, number, 3]))


def validation_cases(source: Source) -> Iterator[Case]:
    """CTA and MR of the eight validation scenes (subjects 15 and 16), which may be used for choices; no trunks."""
    for i in range(N_VALIDATION):
        number, subject = VALIDATION_FIRST + i, VALIDATION_SUBJECTS[(VALIDATION_FIRST + i) % 2]
        scene = make_scene(source, subject, number, "thorax" if number % 4 == 3 else "trunk", exact=False)
        for k, (group, kind, protocols) in enumerate((("cta", "ct", CT_PHASES), ("mr", "mr", MR_SEQUENCES))):
            rng = np.random.default_rng([SEED, number, k])
            yield _scan(scene, f"{group}_{subject}_{i}", kind, protocols[i], rng)


def more_validation_cases(source: Source) -> Iterator[Case]:
    """Three CTA and three MR of each of 14 more scenes of subjects 15 and 16, and the trunk of scenes with one."""
    for i in range(N_MORE_SCENES):
        number, subject = MORE_FIRST + i, VALIDATION_SUBJECTS[i % 2]
        scene = make_scene(source, subject, number, "thorax" if i % 3 == 2 else "trunk", exact=False)
        for k, letter in enumerate("abc"):
            for j, (group, kind, protocols) in enumerate((("cta", "ct", CT_PHASES), ("mr", "mr", MR_SEQUENCES))):
                rng = np.random.default_rng([MORE_FIRST, number, k, j])
                yield _scan(
                    scene, f"{group}_{subject}_{i:02d}{letter}", kind, protocols[(3 * i + k) % PER_SUBJECT], rng
                )
        if scene.kind == "trunk":
            yield _trunk(scene, f"trunk_{subject}_{i:02d}", np.random.default_rng([MORE_FIRST, number, 9]))


def _scan(scene: Scene, name: str, kind: str, protocol: str, rng: np.random.Generator) -> Case:
    """A scan of the heart: 150-240 mm in plane and along z, with the heart up to 25 mm off its centre, 1.5 mm."""
    size, spacing = 160, 1.5
    rotation, zoom = draw_pose(rng)
    half = rng.uniform(75, 120, 3) / spacing
    low, high = np.floor(size / 2 - half), np.ceil(size / 2 + half)
    centre = np.array(scene.heart_centre) + rng.uniform(-25, 25, 3)
    view = View(centre, size, spacing, rotation, zoom, low, high, draw_elastic(rng, size * spacing))
    return _make(scene, view, name, kind, protocol, rng)


def _trunk(scene: Scene, name: str, rng: np.random.Generator) -> Case:
    """The whole trunk, 3 mm."""
    size, spacing = 176, 3.0
    rotation, zoom = draw_pose(rng)
    centre = np.array(scene.regions.shape) * scene.spacing / 2
    view = View(centre, size, spacing, rotation, zoom, np.zeros(3), np.full(3, float(size)), None)
    return _make(scene, view, name, "ct", None, rng)


def _make(scene: Scene, view: View, name: str, kind: str, protocol: str | None, rng: np.random.Generator) -> Case:
    return scan_of(scene, view, name, draw_appearance(rng, kind, protocol=protocol), rng)


def scan_of(
    scene: Scene, view: View, name: str, appearance: Appearance, rng: np.random.Generator, fair_ties: bool = False
) -> Case:
    """A view of a scene as a scan, cropped to the field of view."""
    regions, target, seen = extract(scene, view, fair_ties=fair_ties)
    image = render(rng, regions, appearance, view.spacing)
    points = torch.nonzero(seen)
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(points.amin(0), points.amax(0), strict=True))
    kept = image[box]
    air = float(kept[seen[box]].min()) if bool(seen[box].any()) else 0.0
    pixels = torch.where(seen[box], kept, air).round().clamp(-32768, 32767).to(torch.int16).numpy()
    labels = target[box].numpy()
    mask = (labels != IGNORE).astype(np.uint8)
    facts = facts_of(scene, appearance.protocol, pixels)
    return Case(name, pixels, np.where(labels == IGNORE, 0, labels).astype(np.uint8), mask, view.spacing, facts)


def facts_of(scene: Scene, protocol: str, pixels: np.ndarray) -> dict[str, object]:
    """What ``facts.json`` says of a scan."""
    return {
        "subject": scene.subject,
        "seed": scene.seed,
        "scene": scene.kind,
        "protocol": protocol,
        "shape": list(pixels.shape),
        "scene_facts": scene.facts,
    }


def write_case(case: Case, folder: Path) -> None:
    """Write ``NAME.nii.gz``, ``NAME_labels.nii.gz``, ``NAME_mask.nii.gz``, LPS axes."""
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    spacing, direction = case.grid
    for suffix, array in (("", case.image), ("_labels", case.labels), ("_mask", case.mask)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(spacing)
        image.SetDirection(direction)
        sitk.WriteImage(image, str(folder / f"{case.name}{suffix}.nii.gz"))


def make(cases: Iterator[Case], work: Path, frozen: dict[str, str] | None = None) -> dict[str, str]:
    """Write cases; return their SHA-256, and print which differ from ``frozen``."""
    found: dict[str, str] = {}
    facts: dict[str, object] = {}
    for case in cases:
        write_case(case, work)
        found[case.name], facts[case.name] = case.sha256, case.facts
        state = "" if frozen is None else "same" if frozen.get(case.name) == case.sha256 else "DIFFERS"
        print(f"{case.name:14} {case.image.shape} {case.facts['protocol']:16} {state}", flush=True)
        (work / "facts.json").write_text(json.dumps(facts, indent=1))
    return found


def make_frozen(cases: Iterator[Case], work: Path, manifest: Path, freeze: bool) -> int:
    """Write the frozen cases and compare them with the list, or write the list; return the number that differ."""
    if freeze:
        text = {"made_with": {"torch": torch.__version__, "numpy": np.__version__}, "sha256": make(cases, work)}
        manifest.write_text(json.dumps(text, indent=1) + "\n")
        return 0
    frozen = json.loads(manifest.read_text())["sha256"]
    return sum(frozen.get(name) != value for name, value in make(cases, work, frozen).items())


def score(work: Path, model: str | None) -> dict[str, Any]:
    """Run the complete program on each case; a scan that it refuses counts as one without a heart.

    Returns the scores of CTA and MR (as in ``heartseg evaluate``), and the number of hearts found in trunks (reported,
    with the centre of mass of chambers and myocardium within 25 mm of the true one). A second count uses the bounding
    box of all structures, which also depends on the segmented length of the great vessels."""
    import heartseg
    from heartseg.evaluation import Study, evaluate

    segmenter = heartseg.Segmenter(model, heartseg.Settings(device="cpu"))
    groups: dict[str, list[Any]] = {"cta": [], "mr": []}
    trunks: dict[str, dict[str, float]] = {}
    seconds = []
    names = sorted(p.name[: -len("_labels.nii.gz")] for p in work.glob("*_labels.nii.gz"))
    for name in names:
        truth, mask = (read_any(work / f"{name}_{part}.nii.gz") for part in ("labels", "mask"))
        start = time.monotonic()
        try:
            labels = segmenter.segment(heartseg.read_volume(work / f"{name}.nii.gz")).labels
        except heartseg.HeartSegError as error:
            print(f"{name:14} refused, counts 0: {error}", flush=True)
            labels = np.zeros_like(truth.array)
        seconds.append(time.monotonic() - start)
        group = name.split("_")[0]
        found = replace(truth, array=labels)
        save_labels(labels, work / f"{name}_labels.nii.gz", work / "predictions" / f"{name}.nii.gz")
        case = evaluate(found, truth, mask, name=name)
        if group == "trunk":
            trunks[name] = {
                "dice": round(case.mean("dice") or 0.0, 3),
                "heart_mm": round(mass_distance(labels, truth.array, truth.geometry), 1),
                "box_mm": round(box_distance(labels, truth.array, truth.geometry), 1),
            }
            print(f"{name:14} {trunks[name]}", flush=True)
            continue
        groups[group].append(case)
        print(f"{name:14} Dice {case.mean('dice'):.3f}", flush=True)
    out: dict[str, Any] = {
        "found_trunks": sum(t["heart_mm"] <= NEAR for t in trunks.values()),
        "trunks_by_box": sum(t["box_mm"] <= NEAR for t in trunks.values()),
        "trunks": len(trunks),
        "trunk_cases": trunks,
        "seconds_median": round(float(np.median(seconds)), 2),
    }
    for group, cases in groups.items():
        study = Study(tuple(cases), {})
        out[group] = {"n": len(cases), "cases": {c.name: round(c.mean("dice") or 0.0, 3) for c in cases}} | {
            key: {m: spread_of(row[m]) for m in ("dice", "hd95_mm", "assd_mm", "surface_dice_2mm")}
            for key, row in study.summary().items()
        }
    return out


def read_any(path: Path) -> Volume:
    """A label map, also of fewer slices than the program accepts."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    return Volume(array, Geometry(array.shape, image.GetSpacing(), image.GetOrigin(), image.GetDirection()))


def save_labels(labels: np.ndarray, truth: Path, path: Path) -> None:
    """Write labels on the grid of the true ones, for pictures (tools/draw_results.py)."""
    import SimpleITK as sitk

    path.parent.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(sitk.ReadImage(str(truth)))
    sitk.WriteImage(image, str(path))


def spread_of(spread: Any) -> dict[str, float] | None:
    """Mean and SD, rounded."""
    return None if spread is None else {"mean": round(spread.mean, 3), "sd": round(spread.sd or 0.0, 3)}


def box_distance(labels: np.ndarray, truth: np.ndarray, geometry: Any) -> float:
    """Distance (mm) between the centres of the bounding boxes of all labels; infinite if nothing was found."""
    if not labels.any():
        return float("inf")
    boxes = [np.argwhere(a > 0) for a in (labels, truth)]
    middles = [geometry.index_to_world((b.min(0) + b.max(0)) / 2) for b in boxes]
    return float(np.linalg.norm(middles[0] - middles[1]))


def mass_distance(labels: np.ndarray, truth: np.ndarray, geometry: Any) -> float:
    """Distance (mm) between the centres of mass of chambers and myocardium; infinite if they were not found."""
    hearts = [np.isin(a, HEART_LABELS) for a in (labels, truth)]
    if not hearts[0].any():
        return float("inf")
    middles = [geometry.index_to_world(np.argwhere(h).mean(0)) for h in hearts]
    return float(np.linalg.norm(middles[0] - middles[1]))


def print_scores(out: dict[str, Any]) -> None:
    for group in ("cta", "mr"):
        row = out[group]
        cells = "  ".join(f"{k} {v['dice']['mean']:.3f}" for k, v in row.items() if isinstance(v, dict) and "dice" in v)
        print(f"{group:4} n {row['n']}  {cells} (SD {row['mean']['dice']['sd']:.3f})")
    if out["trunks"]:
        print(
            f"hearts found in {out['found_trunks']} of {out['trunks']} trunks ({out['trunks_by_box']} by the box of "
            "all structures)"
        )
    print(f"{out['seconds_median']} s a scan (median)")


def run(
    about: str,
    manifest: Path,
    frozen: Callable[[Source], Iterator[Case]],
    choices: Mapping[str, Callable[[Source], Iterator[Case]]],
    argv: list[str] | None = None,
) -> int:
    """Command line of a frozen test set: ``make``, the ``choices`` that may be tuned on, and ``score``."""
    parser = argparse.ArgumentParser(prog=f"benchmarks/{manifest.stem}.py", description=about)
    parser.add_argument("data", type=Path, help="data folder (../shared/data)")
    parser.add_argument("work", type=Path, help="folder for the scans (about 150 MB)")
    parser.add_argument("action", choices=["make", *choices, "score"])
    parser.add_argument("--freeze", action="store_true", help="write the SHA-256 list instead of comparing with it")
    parser.add_argument("--model", help="model folder or name (default: the default model)")
    parser.add_argument("--json", type=Path, help="write the scores")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.action == "score":
        out = score(args.work, args.model)
        print_scores(out)
        if args.json:
            args.json.write_text(json.dumps(out, indent=1) + "\n")
        return 0
    source = load_source(args.data)
    if args.action in choices:
        make(choices[args.action](source), args.work)
        return 0
    differing = make_frozen(frozen(source), args.work, manifest, args.freeze)
    if differing:
        print(f"{differing} cases differ from the frozen list: use the same versions and CPU", file=sys.stderr)
    return 1 if differing else 0


def main(argv: list[str] | None = None) -> int:
    choices = {"make-validation": validation_cases, "make-more-validation": more_validation_cases}
    return run(__doc__.split("\n\n")[0], MANIFEST, frozen_cases, choices, argv)


if __name__ == "__main__":
    sys.exit(main())
