"""The frozen test set *beating and diseased*: patients of shape-model subjects 17, 18, 19 that training never sees.

``python benchmarks/frozen_patients.py ../shared/data WORK make`` creates 24 CTA and 24 MR scans with their labels and
compares their SHA-256 with the list beside this program; ``--freeze`` writes the list, once, before training. Half of
the MR are short-axis stacks, stored as a scanner stores them: oblique, slices 6-10 mm thick. ``make-validation``
creates the same kind of scans of subjects 15 and 16, for choices. ``score`` runs the complete program on them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from frozen_scenes import Case, print_scores, score, write_case
from scipy import ndimage

from heartseg.synthesis.appearance import draw_appearance, render
from heartseg.synthesis.disease import DISEASES
from heartseg.synthesis.hearts import RESERVED_SUBJECTS, VALIDATION_SUBJECTS
from heartseg.synthesis.limited_views import as_stack_view
from heartseg.synthesis.patients import Recipe
from heartseg.synthesis.regions import IGNORE
from heartseg.synthesis.scenes import Scene, make_scene
from heartseg.synthesis.source import Source, load_source
from heartseg.synthesis.switches import NEWEST
from heartseg.synthesis.views import View, draw_elastic, draw_pose, extract

MANIFEST = Path(__file__).with_name("frozen_patients.json")
SEED, VALIDATION_SEED = 260_000, 261_000
PER_SUBJECT = 8
SIZE, SPACING = 160, 1.5
KINDS: tuple[tuple[str, ...], ...] = (*((name,) for name in DISEASES), (), ())
"""Disease of each scene, in turn; two of twelve have none."""
CT_PHASES = ("arterial",) * 4 + ("triple_rule_out",) * 2 + ("venous", "arterial")
MR_SEQUENCES = ("bssfp", "gre", "bssfp", "late_enhancement", "bssfp", "mra", "bssfp", "black_blood")


@dataclass(frozen=True)
class StackCase(Case):
    """A case on the grid of a stack: spacing (x, y, z) mm and direction cosines (9,) as in SimpleITK."""

    spacing_xyz: tuple[float, float, float] = (1.0, 1.0, 1.0)
    direction: tuple[float, ...] = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)


def patient_cases(source: Source, subjects: Sequence[int], seed: int) -> Iterator[Case]:
    """A CTA and an MR of each scene, in order; every other MR is a short-axis stack."""
    for number in range(len(subjects) * PER_SUBJECT):
        subject, one = subjects[number // PER_SUBJECT], number % PER_SUBJECT
        recipe = Recipe(KINDS[number % len(KINDS)], healthy=0.0, second=0.0, small=0.2, diastolic=0.25)
        scene = make_scene(source, subject, seed + number, "thorax" if one == 5 else "trunk", recipe=recipe)
        yield _scan(scene, f"cta_{subject}_{one}", "ct", CT_PHASES[one], np.random.default_rng([seed, number, 1]))
        rng = np.random.default_rng([seed, number, 2])
        if one % 2:
            yield _scan(scene, f"mr_{subject}_{one}", "mr", MR_SEQUENCES[one], rng)
        else:
            yield _short_axis(scene, f"mr_{subject}_{one}_sax", rng)


def _view(scene: Scene, rng: np.random.Generator) -> View:
    """As the frozen scans' view: 150-240 mm an axis, the heart up to 25 mm off its centre."""
    rotation, zoom = draw_pose(rng)
    half = rng.uniform(75, 120, 3) / SPACING
    low, high = np.floor(SIZE / 2 - half), np.ceil(SIZE / 2 + half)
    centre = np.array(scene.heart_centre) + rng.uniform(-25, 25, 3)
    return View(centre, SIZE, SPACING, rotation, zoom, low, high, draw_elastic(rng, SIZE * SPACING))


def _scan(scene: Scene, name: str, kind: str, protocol: str, rng: np.random.Generator) -> Case:
    """A scan of the heart, 1.5 mm."""
    view = _view(scene, rng)
    image, labels, seen = _render(scene, view, kind, protocol, rng)
    found = np.argwhere(seen)
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(found.min(0), found.max(0), strict=True))
    air = float(image[seen].min())
    pixels = np.where(seen, image, air)[box]
    return Case(name, *_stored(pixels, labels[box]), SPACING, _facts(scene, protocol, pixels))


def _short_axis(scene: Scene, name: str, rng: np.random.Generator) -> StackCase:
    """A cine stack across the left ventricle's long axis, on its own slices and pixels."""
    view = as_stack_view(rng, _view(scene, rng), scene, short_axis=True)
    stack = view.stack
    assert stack is not None
    image, labels, _ = _render(scene, view, "mr", "bssfp", rng)
    width = int(200 / stack.in_plane)
    lines = [
        stack.first + stack.pitch * np.arange(len(stack.shifts)),
        *([stack.in_plane * (np.arange(width) - (width - 1) / 2)] * 2),
    ]
    middle = stack.turn[:, 1:].T @ np.linalg.solve(
        view.rotation @ np.diag(view.zoom), np.array(scene.heart_centre) - view.centre
    )
    lines[1], lines[2] = lines[1] + middle[0], lines[2] + middle[1]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"))
    index = np.tensordot(stack.turn, grid, 1) / view.spacing + (view.size - 1) / 2
    pixels = ndimage.map_coordinates(image, index, order=1, mode="nearest")
    found = ndimage.map_coordinates(labels, index, order=0, mode="constant", cval=IGNORE)
    axes = stack.turn[::-1, ::-1]  # columns are the array's axes z, y, x in LPS order x, y, z
    spacing = (stack.in_plane, stack.in_plane, stack.pitch)
    facts = _facts(scene, "bssfp", pixels) | {"slice_mm": stack.thickness, "gap_mm": stack.gap}
    return StackCase(name, *_stored(pixels, found), SPACING, facts, spacing, tuple(float(v) for v in axes.ravel()))


def _render(
    scene: Scene, view: View, kind: str, protocol: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, labels (``IGNORE`` where unseen) and what was seen, of the view's patch."""
    regions, target, seen = extract(scene, view, fair_ties=True)
    look = replace(draw_appearance(rng, kind, protocol=protocol, generator=NEWEST), stack=view.stack)
    return render(rng, regions, look, view.spacing).numpy(), target.numpy(), seen.numpy()


def _stored(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image int16, labels uint8 and mask uint8 as they are written."""
    pixels = image.round().clip(-32768, 32767).astype(np.int16)
    return pixels, np.where(labels == IGNORE, 0, labels).astype(np.uint8), (labels != IGNORE).astype(np.uint8)


def _facts(scene: Scene, protocol: str, pixels: np.ndarray) -> dict[str, object]:
    return {
        "subject": scene.subject,
        "seed": scene.seed,
        "scene": scene.kind,
        "protocol": protocol,
        "shape": list(pixels.shape),
        "scene_facts": scene.facts,
    }


def write(case: Case, folder: Path) -> None:
    """Write ``NAME.nii.gz``, ``NAME_labels.nii.gz``, ``NAME_mask.nii.gz``."""
    if not isinstance(case, StackCase):
        write_case(case, folder)
        return
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    for suffix, array in (("", case.image), ("_labels", case.labels), ("_mask", case.mask)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(case.spacing_xyz)
        image.SetDirection(case.direction)
        sitk.WriteImage(image, str(folder / f"{case.name}{suffix}.nii.gz"))


def make(cases: Iterator[Case], work: Path, frozen: dict[str, str] | None) -> dict[str, str]:
    """Write cases; returns their SHA-256 and prints which differ from ``frozen``."""
    found, facts = {}, {}
    for case in cases:
        write(case, work)
        found[case.name], facts[case.name] = case.sha256, case.facts
        state = "" if frozen is None else "same" if frozen.get(case.name) == case.sha256 else "DIFFERS"
        print(f"{case.name:14} {case.image.shape} {case.facts['protocol']:16} {state}", flush=True)
        (work / "facts.json").write_text(json.dumps(facts, indent=1))
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/frozen_patients.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data folder (../shared/data)")
    parser.add_argument("work", type=Path, help="folder for the scans (about 150 MB)")
    parser.add_argument("action", choices=["make", "make-validation", "score"])
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
    if args.action == "make-validation":
        make(patient_cases(source, VALIDATION_SUBJECTS, VALIDATION_SEED), args.work, None)
        return 0
    frozen = {} if args.freeze else json.loads(MANIFEST.read_text())["sha256"]
    found = make(patient_cases(source, RESERVED_SUBJECTS, SEED), args.work, frozen)
    if args.freeze:
        text = {"made_with": {"torch": torch.__version__, "numpy": np.__version__}, "sha256": found}
        MANIFEST.write_text(json.dumps(text, indent=1) + "\n")
        return 0
    differing = sum(frozen.get(name) != value for name, value in found.items())
    if differing:
        print(f"{differing} cases differ from the frozen list: use the same versions and CPU", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
