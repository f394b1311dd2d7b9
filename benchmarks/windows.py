#!/usr/bin/env python
"""When the heart's window is run a second time: accuracy and cost of three rules.

    python benchmarks/windows.py ../shared/data [SCENES ...] [--model DIR] [--json FILE]

*program* centres the window anew only when what the fine network sees comes within 8 mm of a side of it.
*moved* centres it anew whenever it would move by half a voxel of the finder. Scans: the development CT as an 8-bit
picture and in HU, and folders of validation scenes made by ``frozen_scenes.py`` or ``frozen_patients.py`` (never the
frozen sets themselves).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from _common import facts, make_parser, make_segmenter, markdown, structure_dice, summarise, write_json

from heartseg import HeartSegError, Segmenter, Volume, read_volume
from heartseg.inference.around_heart import AroundHeart, HeartWindow
from heartseg.inference.locate import choose_heart
from heartseg.volume.geometry import Geometry

DEVELOPMENT = ("ct_chest_arterial_windowed_uint8", "ct_chest_arterial_hu")
Rule = Callable[[AroundHeart, HeartWindow], "Geometry | None"]
Scan = tuple[str, str, Volume, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One scan under one rule: CPU seconds, windows of the fine network, and Dice of its structures."""

    group: str
    scan: str
    rule: str
    seconds: float
    windows: int
    dice: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean Dice over the structures."""
        return float(np.mean(list(self.dice.values())))


def moved(way: AroundHeart, found: HeartWindow) -> Geometry | None:
    """A window around what the fine network sees, if that is half a coarse voxel or more away."""
    grid = found.window.grid
    seen = choose_heart(way.fine.folder.structure_lut()[found.window.labels], grid)
    if seen is None:
        return None
    better = way.fine.lattice.around(seen.low, seen.high)
    far = np.abs(better.center() - grid.center()).max() > max(found.box.geometry.spacing) / 2
    return better if far or better.shape != grid.shape else None


def never(way: AroundHeart, found: HeartWindow) -> Geometry | None:
    """No second window."""
    return None


RULES: dict[str, Rule] = {"moved": moved, "never": never, "program": AroundHeart._recentred}


def as_array(path: Path) -> np.ndarray:
    """Voxels of a label map ``(z, y, x)``, of stacks of few slices too."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def scans(data: Path, scenes: list[Path]) -> Iterator[Scan]:
    """Group, name, volume, true labels and mask of every scan."""
    for name in DEVELOPMENT:
        path = data / "scans" / f"{name}.nii.gz"
        truth, mask = (read_volume(str(path).replace(".nii", f"_{e}.nii")).array for e in ("reference", "confidence"))
        yield name, name, read_volume(path), truth, mask > 0
    for folder in scenes:
        for labels in sorted(folder.glob("*_labels.nii.gz")):
            name = labels.name.removesuffix("_labels.nii.gz")
            if not name.startswith("trunk"):
                mask = as_array(folder / f"{name}_mask.nii.gz") > 0
                group = f"{folder.name} {name.split('_')[0]}"
                yield group, name, read_volume(folder / f"{name}.nii.gz"), as_array(labels), mask


def run(segmenter: Segmenter, volume: Volume, rule: Rule) -> tuple[np.ndarray, float, int]:
    """Labels, CPU seconds, and windows of the fine network."""
    windows = 0
    original = AroundHeart._window

    def counted(way: AroundHeart, *args: object) -> object:
        nonlocal windows
        windows += 1
        return original(way, *args)  # type: ignore[arg-type]

    started = time.process_time()
    with patch.object(AroundHeart, "_window", counted), patch.object(AroundHeart, "_recentred", rule):
        try:
            labels = segmenter.segment(volume).labels
        except HeartSegError:
            labels = np.zeros(volume.array.shape, np.uint8)
    return labels, time.process_time() - started, windows


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("scenes", type=Path, nargs="*", help="folders of validation scenes")
    args = parser.parse_args(argv)
    segmenter = make_segmenter(args)
    rows: list[Row] = []
    for group, name, volume, truth, mask in scans(args.data, args.scenes):
        for rule, decide in RULES.items():
            labels, seconds, windows = run(segmenter, volume, decide)
            scores = structure_dice(labels, truth, keep=mask)
            rows.append(Row(group, name, rule, seconds, windows, scores))
        print(name, *(f"{r.rule}: {r.mean:.3f} ({r.windows})" for r in rows[-len(RULES) :]), flush=True)
    keys = [s.key for s in segmenter.structures]
    table: list[list[str | float]] = []
    for group in dict.fromkeys(r.group for r in rows):
        for rule in RULES:
            some = [r for r in rows if r.group == group and r.rule == rule]
            means = [summarise([r.dice[k] for r in some if k in r.dice])["mean"] for k in keys]
            whole = summarise([r.mean for r in some])
            cost = [float(np.mean([r.seconds for r in some])), float(np.mean([r.windows for r in some]))]
            table.append([group, rule, len(some), whole["mean"], whole["sd"], *means, *cost])
    print(markdown(["scans", "rule", "n", "mean", "SD", *keys, "CPU s", "windows"], table))
    write_json(args.json, {"benchmark": "windows", **facts(segmenter), "scans": [asdict(r) for r in rows]})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
