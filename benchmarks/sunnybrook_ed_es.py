#!/usr/bin/env python
"""LV cavity and ejection fraction in real cine MR at end-diastole and end-systole (Sunnybrook Cardiac Data).

    python benchmarks/sunnybrook_ed_es.py ../shared/data [--model DIR] [--json FILE]

Eight patients (failing, hypertrophic, normal) with manual LV contours at both phases. Stacks are placed as in the
standard view of ``sunnybrook.py`` (spacing assumed 1.3 x 1.3 x 8 mm, orientation unknown), the finder is off, and the
window is centred on the stack. Dice over the slices with a contour; a stack that is refused counts 0. Volumes for the
ejection fraction are those of the same slices, so that ends of the stack without contours do not matter.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from _common import center_of, facts, make_parser, make_segmenter, markdown, summarise, summary_table, write_json
from sunnybrook import LV, Orientation, contoured_dice, laid

from heartseg import Segmenter, read_volume

PHASES = ("ED", "ES")


def score(folder: Path, name: str, segmenter: Segmenter) -> dict[str, float]:
    """Dice of both phases, and the ejection fractions (%) of the result and of the contours; NaN where refused."""
    row, volumes, contours = {}, [], []
    for phase in PHASES:
        stack = laid(read_volume(folder / f"{name}_{phase}.nii.gz", modality="MR"), Orientation())
        truth = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}_{phase}_LVendo.nii.gz"))) > 0
        found = segmenter.segment(stack).labels == LV
        row[phase] = contoured_dice(found, truth) if found.any() else 0.0
        volumes.append(float(found[truth.any((1, 2))].sum()) or float("nan"))
        contours.append(float(truth.sum()))
    fractions = [100 * (1 - end / start) for start, end in (volumes, contours)]
    return row | {"EF": fractions[0], "EF of the contours": fractions[1]}


def main(argv: list[str] | None = None) -> int:
    args = make_parser(__doc__).parse_args(argv)
    folder = args.data / "scans" / "mr_sunnybrook_ed_es"
    names = sorted(p.name.removesuffix("_ED.nii.gz") for p in folder.glob("*_ED.nii.gz"))
    first = laid(read_volume(folder / f"{names[0]}_ED.nii.gz", modality="MR"), Orientation())
    segmenter = make_segmenter(args, heart_center=center_of(first))
    rows = {name: score(folder, name, segmenter) for name in names}
    errors = [abs(row["EF"] - row["EF of the contours"]) for row in rows.values()]
    summary = {f"LV, {phase}": summarise([row[phase] for row in rows.values()]) for phase in PHASES}
    summary["error of the EF, points"] = summarise([e for e in errors if not np.isnan(e)])
    print(markdown(["patient", *next(iter(rows.values()))], [(name, *row.values()) for name, row in rows.items()]))
    print(summary_table(summary, "Dice, or points"), sep="\n")
    write_json(args.json, {"benchmark": "sunnybrook_ed_es", **facts(segmenter), "patients": rows, "summary": summary})
    return 0


if __name__ == "__main__":
    sys.exit(main())
