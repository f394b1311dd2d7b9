"""Factors of the 90 % intervals of measures, and ranges of shapes, from synthetic scans that the model has not seen.

``python benchmarks/intervals.py factors WORK...`` compares the measures of ``WORK/predictions/NAME.nii.gz`` with those
of ``WORK/NAME_labels.nii.gz`` and writes ``heartseg/measure/uncertainty.json``: for each measure the factor whose
interval holds 90 % of the values. Structures with a warning are left out. ``left_out`` is the share of values in the
interval when the factor is chosen from the other scans. ``python benchmarks/intervals.py shapes SHARED WORK...`` writes
``heartseg/quality/shapes.json`` from the correct labels. ``frozen_scenes.py`` and ``frozen_patients.py`` make such
folders. ``python benchmarks/intervals.py findings WORK...`` counts results with a structure of a Dice below
:data:`LOW_DICE`, and how many of them have a warning or an error on it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _common import structure_dice

import heartseg
from heartseg import STRUCTURES, Volume
from heartseg.findings import Severity
from heartseg.measure import MeasuredLabels, measure_labels
from heartseg.measure.boxes import crop_labels
from heartseg.measure.grid import grid_of_crop
from heartseg.measure.uncertainty import borders_of, half_voxel_effect
from heartseg.quality import measured_and_checked
from heartseg.quality.shapes import ranges_of
from heartseg.quantities import general_quantity
from heartseg.volume.geometry import Geometry
from heartseg.volume.label_maps import as_label_map

PACKAGE = Path(heartseg.__file__).parent
FEWEST = 10
"""Fewest scans for a factor."""
LOW_DICE = 0.70

Labels = tuple[np.ndarray, Geometry]


def read(path: Path) -> Labels:
    """Labels 1-7, uint8 ``(z, y, x)``, and their grid; all other labels are background."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    grid = Geometry(array.shape, image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return np.where(array > len(STRUCTURES), 0, array).astype(np.uint8), grid


@dataclass(frozen=True, eq=False)
class Case:
    """A scan with true labels and what was segmented and measured."""

    name: str
    grid: Geometry
    truth: np.ndarray
    labels: np.ndarray
    found: MeasuredLabels


def cases(work: Path) -> Iterator[Case]:
    """The scans of a folder that have labels."""
    for path in sorted((work / "predictions").glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        truth, grid = read(work / f"{name}_labels.nii.gz")
        labels = as_label_map(path, None, "--labels").labels
        scan = heartseg.read_volume(work / f"{name}.nii.gz", modality="CT" if name.startswith("cta") else "MR")
        yield Case(f"{work.name}/{name}", grid, truth, labels, measured_and_checked(labels, grid, STRUCTURES, scan))


def errors(work: Path) -> Iterator[tuple[str, tuple[str, str], float]]:
    """Scan, structure and quantity, and error in units of the effect of half a voxel."""
    for case in cases(work):
        correct = measure_labels(Volume(case.truth, case.grid), case.truth, STRUCTURES).measures
        right = {(m.structure, m.quantity): m.value for m in correct}
        crop = crop_labels(case.labels, case.grid)
        if crop is None:
            continue
        borders = borders_of(grid_of_crop(crop))
        for m in case.found.measures:
            effect, true = half_voxel_effect(m, borders), right.get((m.structure, m.quantity))
            if m.value is None or true is None or not effect or m.structure in case.found.doubts:
                continue
            if not m.quantity.startswith("extent"):
                yield case.name, (m.structure, general_quantity(m.quantity)), (m.value - true) / effect


def count_findings(folders: list[Path]) -> tuple[int, int, int]:
    """Number of results, of those with a structure of a low Dice, and of those with a warning or an error on it."""
    scans = wrong = found = 0
    for case in (c for folder in folders for c in cases(folder)):
        low = {key for key, score in structure_dice(case.labels, case.truth).items() if score < LOW_DICE}
        serious = [f for f in case.found.findings if f.severity is not Severity.INFO]
        named = {f.structure for f in serious} | {f.values.get("other") for f in serious}
        scans, wrong, found = scans + 1, wrong + bool(low), found + bool(low & named)
    return scans, wrong, found


def quantile_90(values: np.ndarray) -> float:
    """The middle between the value that 90 % do not exceed and the next one."""
    ordered = np.sort(values)
    at = min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)
    return float(ordered[at : at + 2].mean())


def write_factors(folders: list[Path]) -> None:
    """Write and print the factors."""
    found: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for folder in folders:
        for name, key, error in errors(folder):
            found[key].append((name, abs(error)))
    factors = []
    for (structure, quantity), pairs in sorted(found.items()):
        names, values = np.array([n for n, _ in pairs]), np.array([e for _, e in pairs])
        if len(set(names)) < FEWEST:
            continue
        factor = round(quantile_90(values), 2)
        held = [values[names == n] <= quantile_90(values[names != n]) for n in sorted(set(names))]
        factors.append(
            {
                "structure": structure,
                "quantity": quantity,
                "factor": factor,
                "scans": len(set(names)),
                "coverage": round(float((values <= factor).mean()), 3),
                "left_out": round(float(np.concatenate(held).mean()), 3),
            }
        )
        print(factors[-1])
    about = (
        "Half of the 90 % interval in units of the effect of half a voxel, number of scans, share of their values in "
        "the interval, and the same share with the factor chosen from the other scans."
    )
    content = json.dumps({"about": about, "factors": factors}, indent=1, ensure_ascii=False)
    (PACKAGE / "measure" / "uncertainty.json").write_text(content + "\n", encoding="utf-8")


def write_shapes(shared: Path, folders: list[Path]) -> None:
    """Write the ranges of shapes in the hearts of the model, a labelled CT, and true labels of synthetic scans."""
    files = [*sorted((shared / "heart-shape-model" / "labelmaps").glob("*.nii.gz"))]
    files.append(shared / "scans" / "ct_chest_arterial_hu_reference.nii.gz")
    files += [f for folder in folders for f in sorted(folder.glob("*_labels.nii.gz")) if "sax" not in f.name]
    maps = {}
    for path in files:
        crop = crop_labels(*read(path))
        if crop is not None:
            maps[str(path)] = (grid_of_crop(crop), frozenset(crop.border_contacts))
    about = f"Ranges of shape features in {len(maps)} correct label maps."
    content = json.dumps({"about": about, "ranges": ranges_of(maps)}, indent=1)
    (PACKAGE / "quality" / "shapes.json").write_text(content + "\n")
    print(about)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("factors", "findings"):
        commands.add_parser(name).add_argument("folders", nargs="+", type=Path)
    shapes = commands.add_parser("shapes")
    shapes.add_argument("shared", type=Path)
    shapes.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args(argv)
    if options.command == "factors":
        write_factors(options.folders)
    elif options.command == "findings":
        scans, wrong, found = count_findings(options.folders)
        print(f"{scans} results, {wrong} with a structure below {LOW_DICE}, {found} of them with a finding on it")
    else:
        write_shapes(options.shared, options.folders)
    return 0


if __name__ == "__main__":
    sys.exit(main())
