"""The frozen test set *beating and diseased*: patients of shape-model subjects 17, 18, 19 that training never sees.

``python benchmarks/frozen_patients.py ../shared/data WORK make`` creates 24 CTA and 24 MR scans with their labels and
compares their SHA-256 with the list beside this program; ``--freeze`` writes the list, once, before training. Half of
the MR are short-axis stacks, stored as a scanner stores them: oblique, slices 6-10 mm thick. ``make-validation``
and ``make-more-validation`` create the same kind of scans of subjects 15 and 16, 16 hearts each, for choices, and
``make-beating`` scans at end-diastole and end-systole of 24 hearts of them.
``score`` runs the complete program on them.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from frozen_scenes import Case, facts_of, run, scan_of
from scipy import ndimage

from heartseg.synthesis.appearance import Appearance, draw_appearance, render
from heartseg.synthesis.disease import DISEASES
from heartseg.synthesis.hearts import RESERVED_SUBJECTS, VALIDATION_SUBJECTS
from heartseg.synthesis.limited_views import as_stack_view
from heartseg.synthesis.patients import Recipe, make_beating_heart
from heartseg.synthesis.regions import IGNORE
from heartseg.synthesis.scenes import Scene, make_scene, scene_of
from heartseg.synthesis.source import Source
from heartseg.synthesis.switches import NEWEST
from heartseg.synthesis.views import View, draw_elastic, draw_pose, extract

MANIFEST = Path(__file__).with_name("frozen_patients.json")
SEED, VALIDATION_SEED, MORE_SEED, BEATING_SEED = 260_000, 261_000, 262_000, 263_000
N_BEATING = 24
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

    @property
    def grid(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.spacing_xyz, self.direction

    def _digest(self) -> hashlib._Hash:
        digest = super()._digest()
        digest.update(np.round((*self.spacing_xyz, *self.direction), 9).tobytes())
        return digest


def patient_cases(source: Source, subjects: Sequence[int], seed: int) -> Iterator[Case]:
    """A CTA and an MR of each scene, in order; every other MR is a short-axis stack."""
    for number in range(len(subjects) * PER_SUBJECT):
        subject, one = subjects[number // PER_SUBJECT], number % PER_SUBJECT
        recipe = Recipe(KINDS[number % len(KINDS)], healthy=0.0, second=0.0, small=0.2, diastolic=0.25)
        scene = make_scene(source, subject, seed + number, "thorax" if one == 5 else "trunk", recipe=recipe)
        rng = np.random.default_rng([seed, number, 1])
        view, look = _view(scene, rng), _look(rng, "ct", CT_PHASES[one])
        yield _scan(scene, view, f"cta_{subject}_{one}", look, rng)
        rng = np.random.default_rng([seed, number, 2])
        view = _view(scene, rng)
        if one % 2:
            yield _scan(scene, view, f"mr_{subject}_{one}", _look(rng, "mr", MR_SEQUENCES[one]), rng)
        else:
            view = as_stack_view(rng, view, scene, short_axis=True)
            yield _short_axis(scene, view, f"mr_{subject}_{one}_sax", _look(rng, "mr", "bssfp"), rng)


def beating_cases(source: Source) -> Iterator[Case]:
    """A CTA and a short-axis stack at end-diastole and at end-systole of 24 hearts of subjects 15 and 16."""
    for number in range(N_BEATING):
        subject = VALIDATION_SUBJECTS[number % 2]
        recipe = Recipe(KINDS[number % len(KINDS)], healthy=0.0, second=0.0, small=0.2)
        rng = np.random.default_rng([BEATING_SEED, number])
        hearts = make_beating_heart(rng, source.model, lambda beat: (0.0, beat.systole), subject, recipe)
        bodies = (np.random.default_rng([BEATING_SEED, number, 1]) for _ in hearts)  # the same body about each
        diastole, systole = (
            scene_of(body, source, heart, subject, BEATING_SEED + number)
            for body, heart in zip(bodies, hearts, strict=True)
        )
        view = _whole_view(diastole, rng)
        stack = as_stack_view(rng, view, diastole, short_axis=True)
        looks = _look(rng, "ct", CT_PHASES[number % len(CT_PHASES)]), _look(rng, "mr", "bssfp")
        for phase, scene in (("ed", diastole), ("es", systole)):
            yield _scan(scene, view, f"cta_{subject}_{number:02d}_{phase}", looks[0], rng)
            yield _short_axis(scene, stack, f"mr_{subject}_{number:02d}_sax_{phase}", looks[1], rng)


def _look(rng: np.random.Generator, kind: str, protocol: str) -> Appearance:
    return draw_appearance(rng, kind, protocol=protocol, generator=NEWEST)


def _view(scene: Scene, rng: np.random.Generator) -> View:
    """As the frozen scans' view: 150-240 mm an axis, the heart up to 25 mm off its centre."""
    rotation, zoom = draw_pose(rng)
    half = rng.uniform(75, 120, 3) / SPACING
    low, high = np.floor(SIZE / 2 - half), np.ceil(SIZE / 2 + half)
    centre = np.array(scene.heart_centre) + rng.uniform(-25, 25, 3)
    return View(centre, SIZE, SPACING, rotation, zoom, low, high, draw_elastic(rng, SIZE * SPACING))


def _whole_view(scene: Scene, rng: np.random.Generator) -> View:
    """The whole patch of 240 mm, with the heart in its middle."""
    rotation, zoom = draw_pose(rng)
    low, high = np.zeros(3), np.full(3, float(SIZE))
    centre = np.array(scene.heart_centre)
    return View(centre, SIZE, SPACING, rotation, zoom, low, high, draw_elastic(rng, SIZE * SPACING))


def _scan(scene: Scene, view: View, name: str, look: Appearance, rng: np.random.Generator) -> Case:
    """A scan of the heart, 1.5 mm."""
    return scan_of(scene, view, name, look, rng, fair_ties=True)


def _short_axis(scene: Scene, view: View, name: str, look: Appearance, rng: np.random.Generator) -> StackCase:
    """A cine stack across the left ventricle's long axis, on its own slices and pixels."""
    stack = view.stack
    assert stack is not None
    regions, target, _ = extract(scene, view, fair_ties=True)
    image = render(rng, regions, replace(look, stack=stack), view.spacing).numpy()
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
    pixels = pixels.round().clip(-32768, 32767).astype(np.int16)
    found = ndimage.map_coordinates(target.numpy(), index, order=0, mode="constant", cval=IGNORE)
    labels, mask = np.where(found == IGNORE, 0, found).astype(np.uint8), (found != IGNORE).astype(np.uint8)
    axes = stack.turn[::-1, ::-1]  # columns are the array's axes z, y, x in LPS order x, y, z
    spacing = (stack.in_plane, stack.in_plane, stack.pitch)
    facts = facts_of(scene, "bssfp", pixels) | {"slice_mm": stack.thickness, "gap_mm": stack.gap}
    direction = tuple(float(v) for v in axes.ravel())
    return StackCase(name, pixels, labels, mask, SPACING, facts, spacing, direction)


def main(argv: list[str] | None = None) -> int:
    def frozen(source: Source) -> Iterator[Case]:
        return patient_cases(source, RESERVED_SUBJECTS, SEED)

    def validation(source: Source) -> Iterator[Case]:
        return patient_cases(source, VALIDATION_SUBJECTS, VALIDATION_SEED)

    def more(source: Source) -> Iterator[Case]:
        return patient_cases(source, VALIDATION_SUBJECTS, MORE_SEED)

    choices = {"make-validation": validation, "make-more-validation": more, "make-beating": beating_cases}
    return run(__doc__.split("\n\n")[0], MANIFEST, frozen, choices, argv)


if __name__ == "__main__":
    sys.exit(main())
