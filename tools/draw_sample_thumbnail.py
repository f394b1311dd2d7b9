"""Draw ``HeartSeg/Resources/Icons/HeartSegSyntheticCTA.png``: the sample scan's button in Slicer's Sample Data.

::

    PYTHONPATH=HeartSeg/Logic python tools/draw_sample_thumbnail.py

An axial slice through the heart, with the true labels' contours. 260 x 280 pixels, as Slicer recommends.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from heartseg.anatomy import STRUCTURES
from heartseg.volume import read_volume

RESOURCES = Path(__file__).resolve().parents[1] / "HeartSeg" / "Resources"
SAMPLE = RESOURCES / "SampleData" / "HeartSeg-synthetic-CTA"
THUMBNAIL = RESOURCES / "Icons" / "HeartSegSyntheticCTA.png"
WIDTH, HEIGHT, DPI = 260, 280, 100
WINDOW = (-160, 440)
"""Lowest and highest HU shown."""


def draw() -> None:
    """Write the thumbnail."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    scan = read_volume(f"{SAMPLE}.nii.gz", modality="CT").array
    labels = read_volume(f"{SAMPLE}-labels.nii.gz").array
    level = int(np.argmax([len(np.unique(s)) * 1e6 + np.count_nonzero(s) for s in labels]))
    figure = pyplot.figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(scan[level], cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], interpolation="bicubic")
    for structure in STRUCTURES:
        mask = labels[level] == structure.label
        if mask.any():
            axes.contour(mask, levels=[0.5], colors=[[c / 255 for c in structure.color]], linewidths=1.2)
    rows, columns = scan[level].shape
    across = rows * WIDTH / HEIGHT
    axes.set_xlim((columns - across) / 2, (columns + across) / 2)
    axes.set_axis_off()
    figure.savefig(THUMBNAIL, facecolor="black")


if __name__ == "__main__":
    draw()
    print(f"{THUMBNAIL}: {THUMBNAIL.stat().st_size / 1024:.0f} KiB")
