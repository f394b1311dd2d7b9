#!/usr/bin/env python
"""Dice of a model on a scan with reference labels, on the grid of the scan, optionally inside a confidence mask.

    python benchmarks/accuracy.py SCAN REFERENCE [--mask MASK] [--model NAME]

Also prints the distance between the centres of the heart and the reference, and whether left and right are correct. The
development case is ``ct_chest_arterial_windowed_uint8`` (docs/explanation/synthesis.md).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

import heartseg
from heartseg import STRUCTURES


def centroid(labels: np.ndarray, geometry: heartseg.Geometry, values: tuple[int, ...]) -> np.ndarray:
    """Centre (x, y, z) of the voxels with these labels, LPS, mm."""
    return geometry.index_to_world(np.argwhere(np.isin(labels, values)).mean(0))


def compare(labels: np.ndarray, truth: np.ndarray, mask: np.ndarray, geometry: heartseg.Geometry) -> dict:
    """Dice per structure inside the mask, distance between the centres of the hearts (mm), and left-right order."""
    dice = {}
    for s in STRUCTURES:
        a, b = (labels == s.label) & mask, (truth == s.label) & mask
        dice[s.key] = 2 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum()))
    out = {"dice": dice, "mean": float(np.mean(list(dice.values())))}
    every = tuple(s.label for s in STRUCTURES)
    if (labels > 0).any():
        shift = centroid(labels, geometry, every) - centroid(truth, geometry, every)
        out["center_distance_mm"] = float(np.linalg.norm(shift))
    if all((labels == k).any() for k in (1, 2, 3, 4)):
        out["left_of_right_mm"] = {
            "LV-RV": float(centroid(labels, geometry, (1,))[0] - centroid(labels, geometry, (2,))[0]),
            "LA-RA": float(centroid(labels, geometry, (3,))[0] - centroid(labels, geometry, (4,))[0]),
        }
    return out


def seven_windows(volume: heartseg.Volume, truth: np.ndarray, mask: np.ndarray, model: str | None, shift: float) -> int:
    """Dependence of the scores on the position of the window: print the scores of each window, and their mean."""
    box = np.argwhere(truth > 0)
    middle = np.asarray(volume.geometry.index_to_world((box.min(0) + box.max(0)) / 2))
    rows = []
    for offset in (np.zeros(3), *(sign * shift * axis for axis in np.eye(3) for sign in (1, -1))):
        x, y, z = (float(v) for v in middle + offset)
        result = heartseg.segment(volume, model, heartseg.Settings(heart_center=(x, y, z)))
        rows.append(list(compare(result.labels, truth, mask, volume.geometry)["dice"].values()))
        print(offset, np.round(rows[-1], 3))
    print("mean", np.round(np.mean(rows, 0), 3), f"of all {np.mean(rows):.3f}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan")
    parser.add_argument("reference", type=Path)
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument(
        "--windows",
        type=float,
        help="evaluate seven windows: at the centre of the reference, and shifted by this distance, mm",
    )
    args = parser.parse_args()
    volume = heartseg.read_volume(args.scan)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(args.reference)))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(args.mask))) > 0 if args.mask else np.ones(truth.shape, bool)
    if args.windows:
        return seven_windows(volume, truth, mask, args.model, args.windows)
    result = heartseg.segment(volume, args.model)
    out = compare(result.labels, truth, mask, volume.geometry)
    if args.json:
        args.json.write_text(json.dumps(out, indent=2) + "\n", encoding="utf-8")
    print("  ".join(f"{k} {v:.3f}" for k, v in out["dice"].items()) + f"  mean {out['mean']:.3f}")
    print({k: v for k, v in out.items() if k not in ("dice", "mean")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
