#!/usr/bin/env python
"""Planes and wall thickness from label maps against the shape model's own surfaces.

    python benchmarks/measures.py ../shared/data [--subjects 12] [--json FILE]

The hearts are those of the shape model (Rodero et al. 2021). For each subject, the template's surfaces are moved by the
subject's momenta (Deformetrica's equations, 10 Euler steps). Reference of a valve: plane through the vertices of its
plug (smallest principal component) and their mean. Reference of the wall: vertices of the wall's surface next to the
cavity, and their distance to the nearest vertex of its outside: shorter than a field line, but longer by the gaps
between vertices, of which every fourth is used. Measured are the label maps of the same subjects, 0.8 mm, with labels
1-7 only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "HeartSeg" / "Logic"))
sys.path.insert(0, str(ROOT / "HeartSeg" / "Testing"))

from hearts import model_heart  # noqa: E402
from heartseg.measure import HeartMeasures, measure_heart  # noqa: E402
from heartseg.measure.axes import HeartFrame  # noqa: E402
from heartseg.measure.grid import Unknown  # noqa: E402
from heartseg.measure.segments17 import segments  # noqa: E402
from heartseg.measure.valves import ValvePlane  # noqa: E402
from heartseg.measure.wall import WallThickness  # noqa: E402
from heartseg.volume.geometry import Geometry  # noqa: E402

PLUGS = {"mitral": "MV", "tricuspid": "TV", "aortic": "AV", "pulmonary": "PV"}
CT_SHAPE = (300, 512, 512)
"""Voxels ``(z, y, x)`` of the scan whose CPU time is reported."""
HEIGHTS = (0.2, 0.9)
"""Part of the long axis in which the wall is compared: away from its basal rim and from the apex."""


def moved(model: dict[str, np.ndarray], subject: int, points: np.ndarray) -> np.ndarray:
    """Points of the template (n, 3), LPS mm, moved by the momenta of a subject (from 1)."""
    q, p = model["control_points"].astype(float), model["momenta"][subject - 1].astype(float)
    x, w2, steps = points.astype(float), float(model["kernel_width"]) ** 2, int(model["steps"])
    for _ in range(steps):
        kernel = np.exp(-_squares(q, q) / w2)
        pull = kernel * (p @ p.T)
        change = 2 / w2 * (q * pull.sum(1, keepdims=True) - pull @ q)
        x = x + np.exp(-_squares(x, q) / w2) @ p / steps
        q, p = q + kernel @ p / steps, p + change / steps
    return x


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T, 0)


def plane_errors(valve: ValvePlane | Unknown, plug: np.ndarray) -> tuple[float, float]:
    """Angle (degrees) between the planes, and distance (mm) of the centres along the normal of the plug."""
    if isinstance(valve, Unknown):
        return np.nan, np.nan
    _, _, axes = np.linalg.svd(plug - plug.mean(axis=0), full_matrices=False)
    angle = np.degrees(np.arccos(min(1.0, abs(float(axes[2] @ valve.normal)))))
    return float(angle), float(np.linalg.norm(valve.center - plug.mean(axis=0)))


def wall_pairs(heart: HeartMeasures, labels: np.ndarray, geometry: Geometry, surface: np.ndarray) -> np.ndarray:
    """Mean thickness (measured, reference) of the segments 1-16 that both have, ``(n, 2)``."""
    if not isinstance(heart.wall, WallThickness) or not isinstance(heart.frame, HeartFrame):
        return np.empty((0, 2))
    cavity = cKDTree(geometry.index_to_world(np.argwhere(labels == 1)))
    outside = cKDTree(geometry.index_to_world(np.argwhere((labels != 1) & (labels != 5))))
    inner = cavity.query(surface)[0] < outside.query(surface)[0]
    reference = cKDTree(surface[~inner]).query(surface[inner])[0]
    height, angle = heart.frame.height_and_angle(surface[inner])
    own = segments(height, angle)
    measured = segments(np.minimum(heart.wall.height, 0.999), heart.wall.angle_deg)
    pairs = []
    for number in range(1, 17):
        here = (measured == number) & (heart.wall.height > HEIGHTS[0]) & (heart.wall.height < HEIGHTS[1])
        there = (own == number) & (height > HEIGHTS[0]) & (height < HEIGHTS[1])
        if here.sum() > 20 and there.sum() > 20:
            pairs.append((heart.wall.thickness_mm[here].mean(), reference[there].mean()))
    return np.array(pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the development data, ../shared/data")
    parser.add_argument("--subjects", type=int, default=12, help="how many of the 19 (default: 12)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    with np.load(args.data / "heart-shape-model" / "four_chamber_heart.npz") as file:
        model = {k: file[k] for k in file.files}
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in PLUGS}
    walls, seconds = [], []
    for subject in range(1, args.subjects + 1):
        labels, geometry = model_heart(args.data, subject, step=1)
        start = time.process_time()
        heart = measure_heart(labels, geometry)
        seconds.append(time.process_time() - start)
        assert heart is not None
        sizes = [len(model[f"{key}_points"][::4]) for key in (*PLUGS.values(), "LV")]
        every = np.concatenate([model[f"{key}_points"][::4] for key in (*PLUGS.values(), "LV")])
        parts = np.split(moved(model, subject, every), np.cumsum(sizes)[:-1])
        for (name, _), plug in zip(PLUGS.items(), parts, strict=False):
            errors[name].append(plane_errors(heart.valves[name], plug))
        walls.append(wall_pairs(heart, labels, geometry, parts[-1]))
        print(
            f"subject {subject:2d}: " + "  ".join(f"{n} {e[-1][0]:.1f}° {e[-1][1]:.1f} mm" for n, e in errors.items())
        )
    report(errors, np.concatenate(walls), seconds, args.json)
    print(f"CPU time of all measures of a CT of 512x512x300 voxels of 0.4x0.4x0.8 mm: {ct_seconds(args.data):.2f} s")
    return 0


def ct_seconds(data: Path) -> float:
    """Return the CPU time of all measures of subject 1 on the grid of a cardiac CT, 0.4 x 0.4 x 0.8 mm."""
    labels, geometry = model_heart(data, 1, step=1)
    fine = np.repeat(np.repeat(labels, 2, axis=1), 2, axis=2)
    scan = np.zeros(CT_SHAPE, np.uint8)
    scan[20 : 20 + fine.shape[0], 80 : 80 + fine.shape[1], 60 : 60 + fine.shape[2]] = fine
    start = time.process_time()
    measure_heart(scan, Geometry(CT_SHAPE, (0.4, 0.4, 0.8), geometry.origin))
    return time.process_time() - start


def report(
    errors: dict[str, list[tuple[float, float]]], pairs: np.ndarray, seconds: list[float], file: Path | None
) -> None:
    """Print the table and write the record."""
    print("\n| valve | n | angle, median (max) | distance of centres, median (max) |\n|---|---|---|---|")
    for name, values in errors.items():
        found = np.array([v for v in values if np.isfinite(v[0])])
        angle, distance = found.T
        print(
            f"| {name} | {len(found)} | {np.median(angle):.1f}° ({angle.max():.1f}°) | "
            f"{np.median(distance):.1f} mm ({distance.max():.1f} mm) |"
        )
    difference = pairs[:, 0] - pairs[:, 1]
    means = f"measured {pairs[:, 0].mean():.2f} mm, shortest distance {pairs[:, 1].mean():.2f} mm"
    spread = f"difference {difference.mean():+.2f} ± {difference.std():.2f} mm, r {np.corrcoef(pairs.T)[0, 1]:.3f}"
    print(f"\nwall: {len(pairs)} segments, {means}, {spread}")
    print(f"CPU time of all measures: {np.median(seconds):.2f} s a heart (max {max(seconds):.2f})")
    if file is not None:
        content = {"valves": errors, "wall_mm": pairs.tolist(), "seconds": seconds}
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
