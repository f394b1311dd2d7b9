"""Failures that carry a finding, and right results that carry a warning, on synthetic scans and degraded copies.

``python benchmarks/findings.py degrade WORK OUT`` writes two degraded copies of each scan of a folder made by
``frozen_scenes.py`` or ``frozen_patients.py``, with their labels and masks; the kinds take turns (:data:`KINDS`).
``... run FOLDER...`` runs the complete program on the scans of folders, and writes labels and findings to
``FOLDER/predictions``; scans that have them are skipped. ``... count FOLDER... [--json FILE]`` compares with the true
labels, within the mask; structures of which the scan shows less than 1 mL are not scored. A result fails if a structure
has a Dice below :data:`LOW_DICE`, and is right if all have more than :data:`HIGH_DICE`. A finding on a structure is a
warning or an error that names it; ``no-heart`` is one on all. Scans that the program refuses have no result.
``... limits FOLDER...`` chooses the limits ``doubtful_below`` of a model's card.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _common import LABELS, heart_of, markdown, modality_of, structure_dice, write_json
from scipy import ndimage

import heartseg
from heartseg.findings import Finding, Severity
from heartseg.inference.run_findings import doubtful_findings
from heartseg.measure.grid import SMALLEST_ML
from heartseg.models.store import find_model
from heartseg.quality import measured_and_checked
from heartseg.volume.label_maps import as_label_map

if TYPE_CHECKING:
    from SimpleITK import Image

LOW_DICE, HIGH_DICE = 0.70, 0.85
PARTS = ("", "_labels", "_mask")
COST = 2.0
"""A false alarm relative to a missed failure, when limits are chosen."""
DOUBTFUL = "structure-doubtful"
THICK_MM = 5.0
"""Slices above this are not made thicker."""
ABOUT_THE_SCAN = frozenset({"cut-by-border", "slices-thick", "field-of-view-short", "grey-values-8-bit"})
"""Warnings about what the scan shows, which are right however good the labels are."""

Degraded = tuple[np.ndarray, "Image"]


def _scale(image: np.ndarray) -> float:
    low, high = np.percentile(image, (1, 99))
    return float(high - low)


def noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White noise with an SD of a sixth of the range of grey values."""
    return image + rng.normal(0, _scale(image) / 6, image.shape)


def low_dose(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise with a grain of two voxels, and horizontal streaks."""
    grain = ndimage.gaussian_filter(rng.normal(size=image.shape), 1.0)
    streaks = np.broadcast_to(rng.normal(size=image.shape[:2])[:, :, None], image.shape)
    return image + _scale(image) * (0.1 * grain / grain.std() + 0.06 * streaks)


def blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur with an SD of 2 to 4 voxels in the plane."""
    return ndimage.gaussian_filter(image, (1.0, *[rng.uniform(2, 4)] * 2))


def little_contrast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Compress the grey values above the median of the tissue to a tenth, as without contrast medium."""
    tissue = float(np.median(image[image > np.percentile(image, 30)]))
    grain = rng.normal(0, _scale(image) / 60, image.shape)
    return np.minimum(image, tissue) + 0.1 * np.maximum(image - tissue, 0) + grain


def ghosts(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two copies along the rows and columns, displaced by 8 to 15 voxels, as of a heart that moved."""
    axis, steps = int(rng.integers(1, 3)), int(rng.integers(8, 16))
    return 0.5 * image + 0.3 * np.roll(image, steps, axis) + 0.2 * np.roll(image, -steps, axis)


def inverted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Black for white: a contrast that no modality of the model has."""
    return image.max() + image.min() - image


GREY_VALUES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    f.__name__: f for f in (noise, low_dose, blur, little_contrast, ghosts, inverted)
}
KINDS = (*GREY_VALUES, "cut", "shifted", "scale", "thick")
"""Degradations of grey values, and: cut through the heart, slabs displaced in the plane by up to 12 mm, voxel size
wrong by a factor of 0.6 or 1.6, slices of 9 mm."""


def degraded(images: list[Image], kind: str, rng: np.random.Generator) -> list[Image]:
    """The scan, its labels and its mask, degraded."""
    import SimpleITK as sitk

    arrays = [sitk.GetArrayFromImage(image) for image in images]
    if kind in GREY_VALUES:
        changed = GREY_VALUES[kind](arrays[0].astype(np.float64), rng)
        arrays[0] = np.clip(np.rint(changed), -32768, 32767).astype(np.int16)
    elif kind == "shifted":
        offsets = np.rint(rng.uniform(-12, 12, (len(arrays[0]), 2)) / np.array(images[0].GetSpacing()[:2])).astype(int)
        slab = max(1, round(20 / images[0].GetSpacing()[2]))
        arrays = [_shifted(a, offsets, slab) for a in arrays]
    elif kind == "cut":
        return _cut(images, arrays[1], rng)
    elif kind == "thick":
        return [_thick(image, a, k == 0) for k, (image, a) in enumerate(zip(images, arrays, strict=True))]
    factor = float(rng.choice([0.6, 1.6])) if kind == "scale" else 1.0
    out = []
    for image, array in zip(images, arrays, strict=True):
        new = sitk.GetImageFromArray(array)
        new.CopyInformation(image)
        new.SetSpacing([factor * s for s in image.GetSpacing()])
        out.append(new)
    return out


def _shifted(array: np.ndarray, offsets: np.ndarray, slab: int) -> np.ndarray:
    return np.stack([np.roll(plane, tuple(offsets[k // slab]), (0, 1)) for k, plane in enumerate(array)])


def _cut(images: list[Image], labels: np.ndarray, rng: np.random.Generator) -> list[Image]:
    """The part on one side of a plane through the heart, at 35 to 65 % of its extent."""
    axis, keep_low = int(rng.integers(3)), bool(rng.integers(2))
    at = np.argwhere(labels > 0)[:, axis]
    cut = int(np.quantile(at, rng.uniform(0.35, 0.65)))
    box = [slice(None)] * 3
    box[2 - axis] = slice(0, cut) if keep_low else slice(cut, None)  # SimpleITK's axes are x, y, z
    return [image[tuple(box)] for image in images]


def _thick(image: Image, array: np.ndarray, mean: bool) -> Image:
    import SimpleITK as sitk

    spacing = image.GetSpacing()
    steps = max(1, round(9.0 / spacing[2])) if spacing[2] <= THICK_MM else 1
    count = len(array) // steps
    parts = array[: count * steps].reshape(count, steps, *array.shape[1:])
    new = sitk.GetImageFromArray(np.rint(parts.mean(1)).astype(array.dtype) if mean else parts[:, steps // 2])
    new.SetSpacing((*spacing[:2], spacing[2] * steps))
    new.SetDirection(image.GetDirection())
    new.SetOrigin(image.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, (steps - 1) / 2)))
    return new


def names_in(folder: Path) -> list[str]:
    """Names of the scans of a folder."""
    return sorted(p.name.removesuffix("_labels.nii.gz") for p in folder.glob("*_labels.nii.gz"))


def degrade(work: Path, out: Path) -> None:
    """Write two degraded copies of each scan but the trunks."""
    import SimpleITK as sitk

    out.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(n for n in names_in(work) if not n.startswith("trunk")):
        images = [sitk.ReadImage(str(work / f"{name}{part}.nii.gz")) for part in PARTS]
        for kind in (KINDS[2 * number % len(KINDS)], KINDS[(2 * number + 1) % len(KINDS)]):
            rng = np.random.default_rng([zlib.crc32(name.encode()), KINDS.index(kind)])
            for part, image in zip(PARTS, degraded(images, kind, rng), strict=True):
                sitk.WriteImage(image, str(out / f"{name}-{kind}{part}.nii.gz"))


def run(folders: Iterable[Path], model: str | None) -> None:
    """Segment all scans of folders."""
    from heartseg.volume.writing import write_labels

    segmenter = heartseg.Segmenter(model, heartseg.Settings(device="cpu", threads=1))
    for folder in folders:
        (folder / "predictions").mkdir(exist_ok=True)
        for name in names_in(folder):
            record = folder / "predictions" / f"{name}.json"
            if record.exists():
                continue
            facts: dict[str, Any] = {"refused": ""}
            try:
                scan = heartseg.read_volume(folder / f"{name}.nii.gz", modality=modality_of(name))
                result = segmenter.segment(scan)
            except heartseg.HeartSegError as error:
                facts["refused"] = str(error)
            else:
                write_labels(result.labels, result.geometry, folder / "predictions" / f"{name}.nii.gz")
                made = result.provenance
                facts["findings"] = [f.to_dict() for f in result.findings]
                facts |= {"run": vars(made.run) if made.run else {}, "confidence": made.confidence}
            record.write_text(json.dumps(facts, indent=1), encoding="utf-8")
            print(folder.name, name, facts["refused"], flush=True)


@dataclass(frozen=True)
class Outcome:
    """Dice of the structures of a result, and what is found on it."""

    name: str
    dice: dict[str, float]
    findings: tuple[Finding, ...]
    refused: bool = False
    expected: dict[str, float] = field(default_factory=dict)

    @property
    def right(self) -> bool:
        """Whether all structures are right."""
        return bool(self.dice) and min(self.dice.values()) > HIGH_DICE

    @property
    def low(self) -> set[str]:
        """Structures that failed."""
        return {key for key, score in self.dice.items() if score < LOW_DICE}

    @property
    def warnings(self) -> list[Finding]:
        """Warnings and errors."""
        return [f for f in self.findings if f.severity is not Severity.INFO]

    @property
    def named(self) -> set[str]:
        """Structures that a warning or an error names."""
        if any(f.code == "no-heart" for f in self.findings):
            return set(LABELS)
        return {str(key) for f in self.warnings for key in (f.structure, f.values.get("other")) if key}


def outcomes(folder: Path, limits: Mapping[str, float]) -> Iterator[Outcome]:
    """The results of a folder, with the findings of the present rules on labels and these limits of expected Dice."""
    for name in names_in(folder):
        record, prediction = (folder / "predictions" / f"{name}.{end}" for end in ("json", "nii.gz"))
        if not (record.exists() or prediction.exists()):
            continue  # not run yet
        facts = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {"findings": []}
        if facts.get("refused"):
            yield Outcome(f"{folder.name}/{name}", {}, (), refused=True)
            continue
        truth, mask = (as_label_map(folder / f"{name}_{p}.nii.gz", None, "").labels for p in ("labels", "mask"))
        labels = as_label_map(prediction, None, "").labels
        scan = heartseg.read_volume(folder / f"{name}.nii.gz", modality=modality_of(name))
        expected = facts.get("run", {}).get("expected_dice", {})
        earlier = [Finding.from_dict(f) for f in facts["findings"] if f["code"] != DOUBTFUL]
        earlier += doubtful_findings(expected, limits)
        found = measured_and_checked(labels, scan.geometry, heartseg.STRUCTURES, scan, findings=earlier)
        smallest = SMALLEST_ML / scan.geometry.voxel_volume_ml
        shown = [key for key, label in LABELS.items() if np.count_nonzero(truth == label) >= smallest]
        dice = structure_dice(labels, truth, shown, mask > 0)
        yield Outcome(f"{folder.name}/{name}", dice, found.findings, expected=expected)


def summary(results: Iterable[Outcome]) -> dict[str, Any]:
    """Counts over results."""
    found = list(results)
    every = [r for r in found if not r.refused]
    failed = [r for r in every if r.low]
    right = [r for r in every if r.right]
    missed = {r.name: {key: round(r.dice[key], 2) for key in r.low} for r in failed if not r.low & r.named}
    return {
        "refused": len(found) - len(every),
        "results": len(every),
        "failed": len(failed),
        "failed_with_finding": sum(bool(r.low & r.named) for r in failed),
        "structures_failed": sum(len(r.low) for r in failed),
        "structures_failed_with_finding": sum(len(r.low & r.named) for r in failed),
        "right": len(right),
        "right_with_warning": sum(bool(r.warnings) for r in right),
        "right_with_warning_on_labels": sum(any(f.code not in ABOUT_THE_SCAN for f in r.warnings) for r in right),
        "codes_on_right": dict(Counter(c for r in right for c in {f.code for f in r.warnings})),
        "failed_without_finding": missed,
    }


def choose_limits(results: list[Outcome]) -> dict[str, float]:
    """Limit of the expected Dice of each structure that separates failed labels from right ones.

    The limit has the largest share of failed labels below it minus :data:`COST` times the share of right ones; of equal
    limits it is the middle. Right labels on which another finding stands do not count.
    """
    limits = {}
    for key in LABELS:
        known = [r for r in results if key in r.dice and key in r.expected]
        failed = np.array([r.expected[key] for r in known if r.dice[key] < LOW_DICE])
        right = np.array([r.expected[key] for r in known if r.dice[key] > HIGH_DICE and key not in r.named])
        if len(failed) and len(right):
            values = np.unique(np.concatenate((failed, right)))
            candidates = (values[:-1] + values[1:]) / 2
            gain = [(failed < c).mean() - COST * (right < c).mean() for c in candidates]
            limits[key] = round(float(np.mean(candidates[np.isclose(gain, max(gain))])), 3)
    return limits


def print_limits(results: list[Outcome]) -> None:
    """Print the limits, and what they find; limits of each half of the results are tested on the other half."""

    def hits(some: list[Outcome], limits: dict[str, float]) -> str:
        low = [r.expected.get(key, 0.0) < limits.get(key, 0.0) for r in some for key in r.low]
        alarms = [any(v < limits.get(key, 0.0) for key, v in r.expected.items()) for r in some if r.right]
        doubted = {r.name: {key for key, v in r.expected.items() if v < limits.get(key, 0.0)} for r in some}
        named = [bool(r.low & (r.named | doubted[r.name])) for r in some if r.low]
        return (
            f"{sum(low)} of {len(low)} failed structures, {sum(alarms)} of {len(alarms)} right results; with all "
            f"findings, {sum(named)} of {len(named)} failed results"
        )

    limits = choose_limits(results)
    print(json.dumps(limits), hits(results, limits))
    hearts = sorted({heart_of(r.name) for r in results})
    for k in (0, 1):
        own = [r for r in results if hearts.index(heart_of(r.name)) // 2 % 2 == k]
        other = [r for r in results if hearts.index(heart_of(r.name)) // 2 % 2 != k]
        print("limits of one half on the other:", hits(own, choose_limits(other)))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("degrade", "run", "count", "limits"):
        commands.add_parser(name).add_argument("folders", nargs="+", type=Path)
    for name in ("run", "count"):
        commands.choices[name].add_argument("--model")
    commands.choices["count"].add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    if options.command == "degrade":
        degrade(*options.folders)
    elif options.command == "limits":
        print_limits([r for folder in options.folders for r in outcomes(folder, {})])
    elif options.command == "run":
        run(options.folders, options.model)
    else:
        card = find_model(options.model).card
        limits = card.doubtful_below if card else {}
        rows = {folder.name: summary(outcomes(folder, limits)) for folder in options.folders}
        heads = [k for k, v in next(iter(rows.values())).items() if isinstance(v, int)]
        print(markdown(["folder", *heads], [(name, *(row[h] for h in heads)) for name, row in rows.items()]))
        for name, row in rows.items():
            print(name, row["codes_on_right"], row["failed_without_finding"])
        write_json(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
