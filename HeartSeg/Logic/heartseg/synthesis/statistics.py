"""Statistics of generated hearts: volumes, wall thickness and vessel diameter.

``python -m heartseg.synthesis.statistics ../shared/data --n 60 --out docs/images/generator-statistics.png`` makes new
hearts (:func:`~heartseg.synthesis.hearts.make_heart`, without added vessels or images), measures each at 1 mm, prints
a table and writes a figure. ``--csv`` also writes the values.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage as ndi

from ..anatomy import MYOCARDIAL_DENSITY_G_PER_ML, STRUCTURES, structure
from ..measure.boxes import crop_labels
from ..measure.vessels import ascending_aorta_diameter
from ..volume.geometry import Geometry
from .hearts import Heart, make_heart
from .source import Source, load_source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

log = logging.getLogger(__name__)

SEED = 900_000
"""First part of the seed of every heart; the second is its number. No training or test scene uses it."""
BASE_MM = 12.0
"""Distance (mm) from the left atrium and the aorta within which the wall is not measured: it ends at the valves."""


@dataclass(frozen=True)
class Quantity:
    """A measured quantity and its reference values.

    Attributes:
        key: column of the CSV file.
        title: heading in table and figure, with the unit.
        normal: lower and upper bound in healthy adults of both sexes, or None if unknown.
        source: definition of ``normal``.
        plausible: limits outside which the program warns, from :mod:`~heartseg.anatomy`, or None.
    """

    key: str
    title: str
    normal: tuple[float, float] | None
    source: str
    plausible: tuple[float, float] | None


_DIASTOLE = "end-diastole, mean ± 2 SD of women and men"
QUANTITIES: tuple[Quantity, ...] = (
    Quantity("LV_mL", "LV (mL)", (56, 165), _DIASTOLE, structure("LV").plausible),
    Quantity("RV_mL", "RV (mL)", (78, 256), _DIASTOLE, structure("RV").plausible),
    Quantity(
        "LA_mL", "LA (mL)", (47, 163), "largest in the beat, mean ± 2 SD of women and men", structure("LA").plausible
    ),
    Quantity(
        "RA_mL",
        "RA (mL)",
        (0, 162),
        "97.5th percentile of men, 85 mL per m², at 1.9 m²; no lower bound known",
        structure("RA").plausible,
    ),
    Quantity("MYO_mL", "myocardium (mL)", None, "", None),
    Quantity("MYO_g", "myocardium (g)", (68, 203), "mean ± 2 SD of women and men", structure("MYO").plausible),
    Quantity(
        "wall_mm", "LV wall (mm)", (7.8, 10.8), "end-diastole, means of women's posterior wall to men's septum", None
    ),
    Quantity(
        "AO_mm",
        "aorta, inner (mm)",
        (24.9, 41.9),
        "ascending aorta, mean ± 2 SD of women and men",
        structure("AO").plausible,
    ),
    Quantity("AO_mL", "aorta (mL)", None, "", None),
    Quantity("PA_mL", "PA (mL)", None, "", None),
)
"""Measured quantities with the normal ranges of healthy adults. AO and PA are the short pieces of the shape model,
before vessels are added, so their volumes have no range."""


def wall_thickness(labels: np.ndarray, spacing: float = 1.0) -> float | None:
    """Mean thickness of the left ventricular wall, mm.

    The thickness at a wall voxel is its distance to the cavity plus its distance to the outside of the heart wall
    (exact for parallel surfaces). Distances between voxel centres exceed those to the surfaces by a quarter of a voxel
    each, averaged over directions, so half a voxel is subtracted (a spherical shell of 10 mm is then measured within
    0.1 mm). The mean is taken over all wall voxels at least ``BASE_MM`` from the left atrium and the aorta.

    Args:
        labels: (z, y, x), labels 0-12 of :mod:`~heartseg.synthesis.regions`.
        spacing: voxel size, mm, isotropic.

    Returns:
        The mean thickness, or None if no wall voxel remains.
    """
    found = np.argwhere(np.isin(labels, (1, 5)))
    if not len(found):
        return None
    box = tuple(slice(max(0, a - 2), b + 3) for a, b in zip(found.min(0), found.max(0), strict=True))
    part = np.pad(labels[box], 1)
    base = np.isin(part, (3, 6, 9, 11))
    wall = part == 5
    if base.any():
        wall &= ndi.distance_transform_edt(~base) * spacing >= BASE_MM
    if not wall.any() or not (part == 1).any():
        return None
    inner = ndi.distance_transform_edt(part != 1)
    outer = ndi.distance_transform_edt(np.isin(part, (1, 5)))
    return float((inner + outer)[wall].mean() - 0.5) * spacing


def measure_heart(heart: Heart) -> dict[str, float | None]:
    """Measure all ``QUANTITIES`` of a heart, by key; None for those that cannot be measured."""
    size = heart.target.shape
    counts = np.bincount(heart.target.ravel(), minlength=8)
    values: dict[str, float | None] = {f"{s.key}_mL": float(counts[s.label]) / 1000 for s in STRUCTURES}
    values["MYO_g"] = float(counts[5]) / 1000 * MYOCARDIAL_DENSITY_G_PER_ML
    values["wall_mm"] = wall_thickness(heart.labels)
    crop = crop_labels(heart.target, Geometry((size[0], size[1], size[2]), (1.0, 1.0, 1.0)))
    values["AO_mm"] = ascending_aorta_diameter(crop).diameter_mm if crop is not None else None
    return {q.key: values[q.key] for q in QUANTITIES}


def measure_hearts(source: Source, numbers: Iterable[int]) -> list[dict[str, float | None]]:
    """Make and measure the hearts ``numbers``, drawn as for training."""
    rows = []
    for number in numbers:
        rows.append(measure_heart(make_heart(np.random.default_rng([SEED, number]), source.model)))
        log.info("heart %d: %s", number, rows[-1])
    return rows


def column(rows: Sequence[dict[str, float | None]], key: str) -> np.ndarray:
    """Values of a quantity over all hearts, without None, float64 (n,)."""
    return np.array([v for v in (row[key] for row in rows) if v is not None], float)


def share_inside(values: np.ndarray, bounds: tuple[float, float] | None) -> float | None:
    """Fraction of values within bounds, inclusive; None without bounds or values."""
    if bounds is None or not len(values):
        return None
    return float(((values >= bounds[0]) & (values <= bounds[1])).mean())


def format_table(rows: Sequence[dict[str, float | None]]) -> str:
    """Markdown table of the mean, standard deviation, extremes, normal range and plausible limits of each quantity."""
    lines = [
        f"| {len(rows)} hearts | mean | SD | min | max | normal range | share inside | plausible | share inside |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for q in QUANTITIES:
        v = column(rows, q.key)
        if not len(v):
            continue
        cells = [q.title, *(f"{x:.1f}" for x in (v.mean(), v.std(ddof=1) if len(v) > 1 else 0.0, v.min(), v.max()))]
        for bounds in (q.normal, q.plausible):
            share = share_inside(v, bounds)
            cells += ["–", "–"] if bounds is None or share is None else [_span(bounds), f"{share:.0%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _span(bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"{low:g}–{high:g}" if low > 0 else f"to {high:g}"


def write_csv(rows: Sequence[dict[str, float | None]], path: Path) -> None:
    """Write one row per heart: its number and its measured values."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["heart", *(q.key for q in QUANTITIES)])
        for number, row in enumerate(rows):
            values = (row[q.key] for q in QUANTITIES)
            writer.writerow([number, *("" if v is None else f"{v:.1f}" for v in values)])


def write_figure(rows: Sequence[dict[str, float | None]], path: Path) -> None:
    """Write a PNG with a histogram of each quantity that has a normal range (shaded); lines mark plausible limits."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [q for q in QUANTITIES if q.normal is not None]
    figure = Figure(figsize=(11.0, 5.4), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 4).ravel()
    for axes, quantity in zip(panels, shown, strict=False):
        _histogram(axes, quantity, column(rows, quantity.key))
    for axes in panels[len(shown) :]:
        axes.axis("off")
    panels[-1].text(
        0,
        0.9,
        f"{len(rows)} generated hearts\n\nshaded: healthy adults\n(ventricles: end-diastole)\n\ndotted: limits "
        "beyond which\nthe program warns",
        va="top",
        color="#1c232c",
    )
    figure.savefig(path, format="png")


def _histogram(axes: Axes, quantity: Quantity, values: np.ndarray) -> None:
    key = quantity.key.split("_")[0]
    r, g, b = structure("MYO" if key == "wall" else key).color
    assert quantity.normal is not None
    axes.axvspan(*quantity.normal, color="#dfe4ea", zorder=0)
    axes.hist(values, bins=18, color=(r / 255, g / 255, b / 255), edgecolor="white", linewidth=0.6, zorder=2)
    left, right = axes.get_xlim()
    for limit in quantity.plausible or ():
        if left <= limit <= right:
            axes.axvline(limit, color="#66717f", linestyle=":", zorder=3)
    axes.set_xlim(left, right)
    axes.set_title(f"{quantity.title}: {values.mean():.1f} ± {values.std(ddof=1):.1f}", loc="left", fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def main(argv: list[str] | None = None) -> None:
    """Measure generated hearts: print a table, write a figure and a CSV file."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m heartseg.synthesis.statistics", description=main.__doc__)
    parser.add_argument("data", type=Path, help="data folder (../shared/data) or packed file")
    parser.add_argument("--n", type=int, default=60, help="number of hearts (about 4 s each; at least 2)")
    parser.add_argument("--out", type=Path, required=True, help="figure, .png")
    parser.add_argument("--csv", type=Path, help="file for the values, one row per heart")
    args = parser.parse_args(argv)
    if args.n < 2:
        parser.error(f"--n is {args.n}: give at least 2, because a standard deviation needs two hearts")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    rows = measure_hearts(load_source(args.data), range(args.n))
    if args.csv is not None:
        write_csv(rows, args.csv)
    write_figure(rows, args.out)
    sys.stdout.write(format_table(rows))


if __name__ == "__main__":
    main()
