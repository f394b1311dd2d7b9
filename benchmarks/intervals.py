"""Factors of the 90 % intervals of measures, and ranges of shapes, from synthetic scans that the model has not seen.

``python benchmarks/intervals.py factors WORK...`` compares the measures of ``WORK/predictions/NAME.nii.gz`` with those
of ``WORK/NAME_labels.nii.gz`` and writes ``heartseg/measure/uncertainty.json``: for each measure the factor whose
interval holds 90 % of the values. Structures with a warning are left out. ``left_out`` is the share of values in the
interval when the factor is chosen from the other scans. ``python benchmarks/intervals.py shapes SHARED WORK...`` writes
``heartseg/quality/shapes.json`` from the correct labels. ``frozen_scenes.py`` and ``frozen_patients.py`` make such
folders.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import heartseg
from heartseg import STRUCTURES, Volume
from heartseg.findings import Severity
from heartseg.measure import measure_labels
from heartseg.measure.boxes import crop_labels
from heartseg.measure.grid import grid_of_crop
from heartseg.measure.uncertainty import borders_of, half_voxel_effect
from heartseg.quality import check_result
from heartseg.quality.shapes import ranges_of
from heartseg.quantities import general_quantity
from heartseg.volume.geometry import Geometry
from heartseg.volume.label_maps import as_label_map

PACKAGE = Path(heartseg.__file__).parent
FEWEST = 10
"""Fewest scans for a factor."""

Labels = tuple[np.ndarray, Geometry]


def read(path: Path) -> Labels:
    """Labels 1-7, uint8 ``(z, y, x)``, and their grid; all other labels are background."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    grid = Geometry(array.shape, image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return np.where(array > len(STRUCTURES), 0, array).astype(np.uint8), grid


def errors(work: Path) -> Iterator[tuple[str, tuple[str, str], float]]:
    """Scan, structure and quantity, and error in units of the effect of half a voxel."""
    for path in sorted((work / "predictions").glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        truth, grid = read(work / f"{name}_labels.nii.gz")
        labels = as_label_map(path, None, "--labels").labels
        scan = heartseg.read_volume(work / f"{name}.nii.gz", modality="CT" if name.startswith("cta") else "MR")
        measures = measure_labels(scan, labels, STRUCTURES).measures
        correct = measure_labels(Volume(truth, grid), truth, STRUCTURES).measures
        right = {(m.structure, m.quantity): m.value for m in correct}
        crop = crop_labels(labels, grid)
        if crop is None:
            continue
        warned = [f for f in check_result(scan, labels, measures, (), STRUCTURES) if f.severity is not Severity.INFO]
        left_out = {f.structure for f in warned} | {f.values.get("other") for f in warned} | set(crop.border_contacts)
        borders = borders_of(grid_of_crop(crop))
        for m in measures:
            effect, true = half_voxel_effect(m, borders), right.get((m.structure, m.quantity))
            if m.value is None or true is None or not effect or m.structure in left_out:
                continue
            if not m.quantity.startswith("extent"):
                yield f"{work.name}/{name}", (m.structure, general_quantity(m.quantity)), (m.value - true) / effect


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
                "n": len(set(names)),
                "coverage": round(float((values <= factor).mean()), 3),
                "left_out": round(float(np.concatenate(held).mean()), 3),
            }
        )
        print(factors[-1])
    about = (
        "Half of the 90 % interval in units of the effect of half a voxel: n scans, share of their values in the "
        "interval, and the same share with the factor chosen from the other scans."
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
    about = f"Range of shape features in {len(maps)} correct label maps: {len(files) - len(maps)} files held no label."
    content = json.dumps({"about": about, "ranges": ranges_of(maps)}, indent=1)
    (PACKAGE / "quality" / "shapes.json").write_text(content + "\n")
    print(about)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("factors").add_argument("folders", nargs="+", type=Path)
    shapes = commands.add_parser("shapes")
    shapes.add_argument("shared", type=Path)
    shapes.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args(argv)
    if options.command == "factors":
        write_factors(options.folders)
    else:
        write_shapes(options.shared, options.folders)
    return 0


if __name__ == "__main__":
    sys.exit(main())
