"""Best and worst results of the frozen scenes, truth beside prediction, as one picture.

``python tools/draw_results.py WORK SCORES.json OUT.png``: WORK and SCORES as ``benchmarks/frozen_scenes.py score``
left them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import SimpleITK as sitk

from heartseg import STRUCTURES

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def chosen(scores: dict[str, Any]) -> list[tuple[str, float]]:
    """The best and the two worst cases of each group."""
    names = []
    for group in ("cta", "mr"):
        ranked = sorted(scores[group]["cases"].items(), key=lambda item: item[1])
        names += [ranked[-1], ranked[1], ranked[0]]
    return names


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("scores", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    cases = chosen(json.loads(args.scores.read_text()))
    figure, axes = plt.subplots(2, len(cases), figsize=(2.4 * len(cases), 5.2), facecolor="black")
    for column, (name, dice) in zip(axes.T, cases, strict=True):
        image, truth = read(args.work / f"{name}.nii.gz"), read(args.work / f"{name}_labels.nii.gz")
        found = read(args.work / "predictions" / f"{name}.nii.gz")
        z = int(np.median(np.argwhere(truth > 0)[:, 0]))
        low, high = np.percentile(image[z], (2, 99.5))
        for axis, labels, text in ((column[0], truth, "truth"), (column[1], found, f"found, {dice:.2f}")):
            axis.imshow(image[z], cmap="gray", vmin=low, vmax=high)
            for s in STRUCTURES:
                if (labels[z] == s.label).any():
                    axis.contour(labels[z] == s.label, levels=[0.5], colors=[np.array(s.color) / 255], linewidths=1.2)
            axis.set_title(f"{name}: {text}", color="white", fontsize=8)
            axis.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(args.out, dpi=80, facecolor="black")
    return 0


if __name__ == "__main__":
    sys.exit(main())
