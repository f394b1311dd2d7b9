#!/usr/bin/env python
"""The complete program on one real cine MR short-axis stack (6 slices, 17.7 mm apart): heart found, and its Dice.

    python benchmarks/bivme.py ../shared/data [--model DIR] [--json FILE]

The reference is the fit of another program (biv-me, Apache-2.0), not a manual contour, of one patient (n = 1). It
labels five of the six slices; all six are scored, so a segmentation in the sixth lowers the score.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from _common import dice, facts, make_parser, make_segmenter, summarise, summary_table, write_json

from heartseg import Segmenter, read_volume

STEM = "bivme_patient1_SAX_frame00"
FIT_LABELS = {"LV": 1, "RV": 2}
"""The wall of the fit (5) covers both ventricles, so the left ventricular myocardium of the model is not compared."""


def score(labels: np.ndarray, fit: np.ndarray) -> dict[str, float]:
    """Dice of both cavities over all slices, from the label map of HeartSeg and the fit, ``(z, y, x)``."""
    return {key: dice(labels == value, fit == value) for key, value in FIT_LABELS.items()}


def run(data: Path, segmenter: Segmenter) -> dict[str, Any]:
    """Segment the scan and compare."""
    volume = read_volume(data / "scans" / f"{STEM}_img.nii.gz", modality="MR")
    fit = sitk.GetArrayFromImage(sitk.ReadImage(str(data / "scans" / f"{STEM}_fitLV1_RV2_wall5.nii.gz")))
    result = segmenter.segment(volume)
    run = result.provenance.run
    scores = score(result.labels, fit)
    return {
        "heart_found": result.heart_found,
        "agreement": run.agreement if run else None,
        "findings": [f.code for f in result.findings],
        "volumes_ml": {m.structure: m.value for m in result.measures if m.quantity == "volume"},
        "reference_ml": {k: float((fit == v).sum()) * volume.geometry.voxel_volume_ml for k, v in FIT_LABELS.items()},
        "dice": scores,
        "summary": {k: summarise([v]) for k, v in scores.items()},
    }


def main(argv: list[str] | None = None) -> int:
    args = make_parser(__doc__).parse_args(argv)
    segmenter = make_segmenter(args)
    record = {"benchmark": "bivme", **facts(segmenter), **run(args.data, segmenter)}
    print(summary_table(record["summary"]))
    print(f"\nheart found: {'yes' if record['heart_found'] else 'no'}, agreement {record['agreement']}")
    write_json(args.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
