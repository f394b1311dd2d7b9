"""Measure how closely generated hearts reach their target dimensions, on random patients at 1 mm.

``python -m heartseg.synthesis.reach ../shared/data --n 200 --json FILE`` prints a table. The reached change of a
measure is ``1 - |log(made / wanted)| / |log(wanted / healthy)|``: 1 is exact, 0 is the error of no change at all.
Changes smaller than ``LEAST_CHANGE`` (log) are excluded.
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
"""First part of the seed of every patient; the second is its number."""
LEAST_CHANGE = 0.15


@dataclass(frozen=True)
class Reach:
    """Accuracy of the heart of one patient.

    Attributes:
        diseases: names of its diseases.
        phase: cardiac phase.
        changes: reached change of each measure.
        muscle: myocardial volume at the phase relative to end-diastole.
        apex_mm: displacement of the apex between end-diastole and the phase.
        descent_mm: requested and actual descent of each valve ring.
        repaired: number of voxels changed by the repair of the topology.
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
    """Make the heart of a patient and compare it with its target; None if the heart is unusable."""
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
    """Displacement of the apex, and requested and actual descent of each ring along the end-diastolic long axis, mm."""
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
    """Apply :func:`reach_of` to random patients, by number."""
    found = []
    for number in numbers:
        rng = np.random.default_rng([SEED, number])
        found.append(reach_of(model, *draw_patient(rng, model, None, recipe)))
    return found


def table(found: list[Reach | None]) -> str:
    """Format a table of the reached changes (count, median, minimum), followed by muscle, apex, descent and time."""
    made = [f for f in found if f is not None]
    names = sorted({n for f in made for n in f.changes})
    lines = [f"{len(made)} hearts, {len(found) - len(made)} unusable", "measure      n  median     min"]
    for name in names:
        values = np.array([f.changes[name] for f in made if name in f.changes])
        lines.append(f"{name:10} {len(values):3}  {np.median(values):6.3f}  {values.min():6.3f}")
    everything = np.array([v for f in made for v in f.changes.values()])
    lines.append(f"{'all':10} {len(everything):3}  {np.median(everything):6.3f}  {everything.min():6.3f}")
    muscle = np.array([f.muscle for f in made])
    lines.append(f"muscle relative to end-diastole {muscle.min():.3f} to {muscle.max():.3f}")
    lines.append(
        f"apex moves {np.median([f.apex_mm for f in made]):.1f} mm (median), {max(f.apex_mm for f in made)} mm (max)"
    )
    for ring in ("mitral", "tricuspid"):
        off = [abs(f.descent_mm[ring][0] - f.descent_mm[ring][1]) for f in made]
        lines.append(f"error of {ring} descent {np.median(off):.1f} mm (median), {max(off):.1f} mm (maximum)")
    lines.append(f"{np.median([f.seconds for f in made]):.1f} s of CPU time per heart (median; two phases)")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m heartseg.synthesis.reach", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data folder (../shared/data) or packed file")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the results of each heart")
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
