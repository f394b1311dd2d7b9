"""Do the generator's hearts reach what they are asked for? Patients are drawn, made and measured at 1 mm.

``python -m heartseg.synthesis.reach ../shared/data --n 200 --json FILE`` prints a table. A measure's reached change is
``1 - |log(made / wanted)| / |log(wanted / healthy)|``: 1 is exact, 0 is as far off as no change would be.
Changes of less than ``LEAST_CHANGE`` (log) are not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .course import wall_of
from .flow import MYO, PATCH, Heart3D, frame_of, parts_of
from .motion import at_phase, state_at
from .patients import (
    Patient,
    Placement,
    Recipe,
    checked_labels,
    draw_patient,
    end_diastole,
    healthy_heart,
    measure_labels,
    rasterise,
    target_volumes,
    volumes_of,
)
from .shape import ShapeModel
from .source import load_source

SEED = 910_000
"""First part of every patient's seed; the second is its number."""
LEAST_CHANGE = 0.15


@dataclass(frozen=True)
class Reach:
    """How well one patient's heart was made.

    Attributes:
        diseases: names.
        changes: by measure, the reached change.
        muscle: volume of the myocardium at the phase against end-diastole.
        apex_mm: how far the apex moved in the beat.
        descent_mm: by ring, wanted and made descent.
        sound: whether topology was sound after repair, and how many voxels were repaired (-1: failed or did not fit).
        seconds: CPU time.
    """

    diseases: tuple[str, ...]
    phase: float
    changes: dict[str, float]
    muscle: float
    apex_mm: float
    descent_mm: dict[str, tuple[float, float]]
    repaired: int
    seconds: float


def reach_of(model: ShapeModel, patient: Patient, phase: float) -> Reach | None:
    """Make a patient's heart and compare it with what was wanted; None where the heart has to be drawn anew."""
    start, size = time.process_time(), patient.size
    healthy = healthy_heart(model, patient)
    diastole = end_diastole(healthy, patient)
    posed = at_phase(diastole, patient.beat, phase, size)
    made, still = checked_labels(posed, size, Placement()), rasterise(diastole, size)
    seconds = time.process_time() - start
    if made is None or still is None:
        return None
    before, ends = volumes_of(healthy, size), [measure_labels(m) for m in (still, made[0])]
    changes = {}
    for label, wanted in target_volumes(patient, phase, before).items():
        changes[("LV", "RV", "LA", "RA")[label - 1]] = _reached(before[label], wanted, ends[1].volumes[label])
    c, parts = patient.condition, parts_of(healthy)
    for name, label, goal, now in (
        ("wall", MYO, c.wall_mm, ends[0].wall_mm),
        ("patch", PATCH, c.patch_mm, ends[0].patch_mm),
    ):
        if goal is not None:
            first = wall_of(parts.labels, label, healthy.nodes.spacing / 2) * size
            changes[name] = _reached(first, goal, now)
    apex, descent = _base_motion(diastole, posed, patient, phase)
    return Reach(
        c.names,
        phase,
        {k: round(v, 4) for k, v in changes.items() if v is not None},
        round(ends[1].volumes[MYO] / ends[0].volumes[MYO], 4),
        apex,
        descent,
        made[1],
        round(seconds, 2),
    )


def _reached(before: float, wanted: float, made: float) -> float | None:
    asked = abs(float(np.log(wanted / before)))
    if asked < LEAST_CHANGE:
        return None
    return 1 - abs(float(np.log(max(made, 1e-3) / wanted))) / asked


def _base_motion(
    diastole: Heart3D, posed: Heart3D, patient: Patient, phase: float
) -> tuple[float, dict[str, tuple[float, float]]]:
    """Apex's way and each ring's wanted and made descent along the ventricle's axis at end-diastole, mm."""
    first, last = (frame_of(h, parts_of(h)) for h in (diastole, posed))
    share, axis = state_at(patient.beat, phase).emptied, first.axes[0]
    descent = {}
    for name, wanted, then, now in (
        ("mitral", patient.beat.mitral_mm, first.mitral, last.mitral),
        ("tricuspid", patient.beat.tricuspid_mm, first.tricuspid, last.tricuspid),
    ):
        descent[name] = (round(wanted * share, 1), round(float((then - now) @ axis) * patient.size, 1))
    return round(float(np.linalg.norm(last.apex - first.apex)) * patient.size, 1), descent


def measure_reach(model: ShapeModel, numbers: range, recipe: Recipe | None = None) -> list[Reach | None]:
    """:func:`reach_of` of drawn patients, by their numbers."""
    found = []
    for number in numbers:
        rng = np.random.default_rng([SEED, number])
        found.append(reach_of(model, *draw_patient(rng, model, None, recipe)))
    return found


def table(found: list[Reach | None]) -> str:
    """Rows of measure, count, median and least reached change; then muscle, apex, descent, time."""
    made = [f for f in found if f is not None]
    names = sorted({n for f in made for n in f.changes})
    lines = [f"{len(made)} hearts, {len(found) - len(made)} to be drawn anew", "measure      n  median   least"]
    for name in names:
        values = np.array([f.changes[name] for f in made if name in f.changes])
        lines.append(f"{name:10} {len(values):3}  {np.median(values):6.3f}  {values.min():6.3f}")
    everything = np.array([v for f in made for v in f.changes.values()])
    lines.append(f"{'all':10} {len(everything):3}  {np.median(everything):6.3f}  {everything.min():6.3f}")
    muscle = np.array([f.muscle for f in made])
    lines.append(f"muscle against end-diastole {muscle.min():.3f} to {muscle.max():.3f}")
    lines.append(
        f"apex moves {np.median([f.apex_mm for f in made]):.1f} mm (median), {max(f.apex_mm for f in made)} most"
    )
    for ring in ("mitral", "tricuspid"):
        off = [abs(f.descent_mm[ring][0] - f.descent_mm[ring][1]) for f in made]
        lines.append(f"{ring} descent off by {np.median(off):.1f} mm (median), {max(off):.1f} most")
    lines.append(f"{np.median([f.seconds for f in made]):.1f} s of CPU a heart (median; two phases)")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m heartseg.synthesis.reach", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data folder (../shared/data) or packed file")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write each heart's figures")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    model, found = load_source(args.data).model, []
    for number in range(args.first, args.first + args.n):
        found += measure_reach(model, range(number, number + 1))
        sys.stdout.write(f"{number} {found[-1]}\n")
        sys.stdout.flush()
        if args.json:
            args.json.write_text(json.dumps([f and vars(f) for f in found], indent=0) + "\n")
    sys.stdout.write(table(found) + "\n")


if __name__ == "__main__":
    main()
