"""Factors of the 90 % intervals of measures, and ranges of shapes, from synthetic scans that the model has not seen.

``python benchmarks/intervals.py factors WORK...`` compares the measures of ``WORK/predictions/NAME.nii.gz`` with those
of ``WORK/NAME_labels.nii.gz`` and writes ``heartseg/measure/uncertainty.json``: for each measure the factor whose
interval holds 90 % of the values. Structures with a warning are left out. ``crossed`` is the share of values in the
interval with the factor from the other half of the hearts: two halves, each tested with the factor of the other.
``... coverage WORK...`` prints the share of values in the intervals of the factors that ship, for other scans, and
``... function WORK`` the same for measures between end-diastole and end-systole (``frozen_patients.py make-beating``).
``... shapes SHARED WORK...`` writes ``heartseg/quality/shapes.json`` from the correct labels. ``frozen_scenes.py`` and
``frozen_patients.py`` make such folders, ``findings.py run`` the predictions.
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
from typing import Any

import numpy as np
from _common import heart_of, markdown, modality_of

import heartseg
from heartseg import STRUCTURES, Volume
from heartseg.findings import Finding
from heartseg.measure import MeasuredLabels, measure_labels
from heartseg.measure.boxes import crop_labels
from heartseg.measure.grid import grid_of_crop
from heartseg.measure.norms import Circumstances
from heartseg.measure.study import series_study
from heartseg.measure.uncertainty import SYSTEMATIC, borders_of, half_voxel_effect, load_factors
from heartseg.quality import measured_and_checked
from heartseg.quality.shapes import ranges_of
from heartseg.quantities import general_quantity
from heartseg.result import Measure
from heartseg.volume.geometry import Geometry
from heartseg.volume.label_maps import as_label_map
from heartseg.volume.patient import Patient

PACKAGE = Path(heartseg.__file__).parent
FEWEST = 10
"""Fewest hearts for a factor."""

CHAMBERS = ("edv", "esv", "stroke_volume", "ejection_fraction", "max_volume", "min_volume", "emptying_fraction")
FUNCTION = frozenset((*CHAMBERS, "mass_ed", "mass_es"))
"""Measures of a beat."""

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
    for path in sorted(p for p in (work / "predictions").glob("*.nii.gz") if not p.name.startswith("trunk")):
        name = path.name.removesuffix(".nii.gz")
        truth, grid = read(work / f"{name}_labels.nii.gz")
        labels = as_label_map(path, None, "--labels").labels
        scan = heartseg.read_volume(work / f"{name}.nii.gz", modality=modality_of(name))
        record = path.with_name(f"{name}.json")  # the findings of the run
        stated = json.loads(record.read_text(encoding="utf-8"))["findings"] if record.exists() else ()
        earlier = [Finding.from_dict(f) for f in stated]
        found = measured_and_checked(labels, grid, STRUCTURES, scan, findings=earlier)
        yield Case(f"{work.name}/{name}", grid, truth, labels, found)


Key = tuple[str, str, str]
"""Structure, quantity and modality of a measure."""


def errors(work: Path) -> Iterator[tuple[str, Key, float]]:
    """Scan, measure, and error in units of the effect of half a voxel."""
    for case in cases(work):
        correct = measure_labels(Volume(case.truth, case.grid), case.truth, STRUCTURES).measures
        right = {(m.structure, m.quantity): m.value for m in correct}
        crop = crop_labels(case.labels, case.grid)
        if crop is None:
            continue
        borders, modality = borders_of(grid_of_crop(crop)), modality_of(case.name.split("/")[1])
        for m in case.found.measures:
            effect, true = half_voxel_effect(m, borders), right.get((m.structure, m.quantity))
            if m.value is None or true is None or not effect or m.structure in case.found.doubts:
                continue
            if not m.quantity.startswith("extent"):
                yield case.name, (m.structure, general_quantity(m.quantity), modality), (m.value - true) / effect


def quantile_90(values: np.ndarray) -> float:
    """The middle between the value that 90 % do not exceed and the next one."""
    ordered = np.sort(values)
    at = min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)
    return float(ordered[at : at + 2].mean())


def errors_by_measure(folders: list[Path]) -> dict[Key, tuple[np.ndarray, np.ndarray]]:
    """Measure -> names of hearts and errors of all scans, each ``(n,)``; no trunks."""
    found: dict[Key, list[tuple[str, float]]] = defaultdict(list)
    for folder in folders:
        for name, key, error in errors(folder):
            found[key].append((heart_of(name), error))
        print(folder, file=sys.stderr, flush=True)
    parts = {key: tuple(zip(*pairs, strict=True)) for key, pairs in sorted(found.items())}
    return {key: (np.array(names), np.array(values)) for key, (names, values) in parts.items()}


def crossed_coverage(hearts: np.ndarray, values: np.ndarray) -> float:
    """Share of absolute errors that the factor of the other half of the hearts holds.

    Two neighbours of the list of hearts go to one half, the next two to the other: every second heart of the patients
    is a short-axis stack.
    """
    order = {heart: k for k, heart in enumerate(sorted(set(hearts)))}
    half = np.array([order[heart] // 2 % 2 for heart in hearts])
    held = [values[half == k] <= quantile_90(values[half != k]) for k in (0, 1)]
    return float(np.concatenate(held).mean())


def write_factors(folders: list[Path]) -> None:
    """Write and print the factors."""
    factors = []
    for (structure, quantity, modality), (hearts, found) in errors_by_measure(folders).items():
        values, count = np.abs(found), len(set(hearts))
        if count < FEWEST:
            continue
        factor = round(quantile_90(values), 2)
        factors.append(
            {
                "structure": structure,
                "quantity": quantity,
                "modality": modality,
                "factor": factor,
                "hearts": count,
                "values": len(values),
                "coverage": round(float((values <= factor).mean()), 3),
                "crossed": round(crossed_coverage(hearts, values), 3),
                "systematic": round(float(found.mean() / math.sqrt((found**2).mean())), 2),
            }
        )
    about = (
        "Half of the 90 % interval in units of the effect of half a voxel; number of hearts and values; share of the "
        "values in the interval; the same with the factor from the other half of the hearts; mean error relative to "
        "its root mean square."
    )
    content = json.dumps({"about": about, "factors": factors}, indent=1, ensure_ascii=False)
    (PACKAGE / "measure" / "uncertainty.json").write_text(content + "\n", encoding="utf-8")
    print_factors(factors)


def print_factors(factors: list[dict[str, Any]]) -> None:
    """Print a table of factors with a row for each measure; systematic errors are marked with their sign."""
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for f in factors:
        sign = "too large" if f["systematic"] > 0 else "too small"
        systematic = f", mostly {sign}" if abs(f["systematic"]) >= SYSTEMATIC else ""
        text = f"{100 * f['crossed']:.0f} % ({f['hearts']}; {f['values']}){systematic}"
        rows[f"{f['structure']} `{f['quantity']}`"][f["modality"]] = text
    print(markdown(["measure", "CT", "MR"], [(name, r.get("CT"), r.get("MR")) for name, r in rows.items()]))


def print_coverage(folders: list[Path]) -> None:
    """Print how many values of other scans are in the intervals of the factors that ship."""
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for (structure, quantity, modality), (hearts, found) in errors_by_measure(folders).items():
        known = load_factors().get((structure, quantity), {}).get(modality)
        if known is not None:
            held = f"{100 * float((np.abs(found) <= known.factor).mean()):.0f} % ({len(set(hearts))}; {len(found)})"
            rows[f"{structure} `{quantity}`"][modality] = held
    print(markdown(["measure", "CT", "MR"], [(name, r.get("CT"), r.get("MR")) for name, r in rows.items()]))


def print_function(folder: Path) -> None:
    """Print how many measures of the function are in their intervals, for scans ``NAME_ed`` and ``NAME_es``."""
    found = {case.name.split("/")[1]: case for case in cases(folder)}
    held: dict[tuple[str, str, str], list[tuple[str, bool, float]]] = defaultdict(list)
    pairs = sorted(name.removesuffix("_ed") for name in found if name.endswith("_ed"))
    for pair in pairs:
        if f"{pair}_es" not in found:
            continue
        frames, modality = [found[f"{pair}_{phase}"] for phase in ("ed", "es")], modality_of(pair)
        result = _beat([f.labels for f in frames], frames, modality)
        truth = {(m.structure, m.quantity): m.value for m in _beat([f.truth for f in frames], frames, modality)}
        for m in result:
            right = truth.get((m.structure, m.quantity))
            if m.value is None or right is None or m.low is None or m.high is None:
                continue
            held[m.structure, m.quantity, modality].append((pair, m.low <= right <= m.high, m.value - right))
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for (structure, quantity, modality), values in held.items():
        _, inside, error = zip(*values, strict=True)
        text = f"{100 * np.mean(inside):.0f} % of {len(values)}; {np.mean(error):+.1f} ± {np.std(error):.1f}"
        rows[f"{structure} `{quantity}`"][modality] = text
    print(f"{len(pairs)} pairs")
    print(markdown(["measure", "CT", "MR"], [(name, r.get("CT"), r.get("MR")) for name, r in rows.items()]))


def _beat(labels: list[np.ndarray], frames: list[Case], modality: str) -> tuple[Measure, ...]:
    """Measures of the function between end-diastole and end-systole; structures in doubt have no interval."""

    def measure(k: int) -> MeasuredLabels:
        own = labels[k] is frames[k].labels
        return frames[k].found if own else measure_labels(Volume(labels[k], frames[k].grid), labels[k], STRUCTURES)

    study = series_study(
        2, lambda k: (labels[k], frames[k].grid), measure, Patient(), Circumstances(modality=modality, phase="cycle")
    )
    return tuple(m for m in study.measures if m.quantity in FUNCTION)


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
    commands.add_parser("function").add_argument("folder", type=Path)
    for name in ("factors", "coverage"):
        commands.add_parser(name).add_argument("folders", nargs="+", type=Path)
    shapes = commands.add_parser("shapes")
    shapes.add_argument("shared", type=Path)
    shapes.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args(argv)
    if options.command == "factors":
        write_factors(options.folders)
    elif options.command == "function":
        print_function(options.folder)
    elif options.command == "coverage":
        print_coverage(options.folders)
    else:
        write_shapes(options.shared, options.folders)
    return 0


if __name__ == "__main__":
    sys.exit(main())
