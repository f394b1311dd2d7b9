#!/usr/bin/env python
"""False hearts in heart-free parts of real chest CTs: above, below, one lung, abdomen.

    python benchmarks/heart_free.py ../shared/data [--crops 10]

The crops are drawn at random (seeded) from the two chest CTs of the development data, whose hearts' places are known.
The engine's rejection threshold was chosen on crops of these same scans: this guards against regressions, it is no
held-out figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from heartseg import Segmenter, Volume, read_volume

WHOLE = (0, None)


def crop(volume: Volume, z: tuple = WHOLE, y: tuple = WHOLE, x: tuple = WHOLE) -> Volume:
    """Part of a scan; ranges are (first, after last) voxels along each axis."""
    box = (slice(*z), slice(*y), slice(*x))
    return Volume(np.ascontiguousarray(volume.array[box]), volume.geometry.cropped(box), "part", volume.modality)


def heart_free(arterial: Volume, weak: Volume, rng: np.random.Generator) -> Iterator[tuple[str, Volume]]:
    """One crop of each kind. In the arterial CT the heart lies in z 50-96, x 98-188; in the weak one in z 30-85."""
    k = rng.integers
    yield "above the heart", crop(arterial, (102, 133), (k(0, 60), 256 - k(0, 60)), (k(0, 60), 256 - k(0, 60)))
    yield "below the heart", crop(arterial, (0, k(26, 45)))
    yield "right lung", crop(arterial, (k(0, 40), 133 - k(0, 40)), WHOLE, (k(0, 30), k(82, 93)))
    yield "left lung", crop(arterial, (k(0, 40), 133 - k(0, 40)), WHOLE, (k(196, 202), 256 - k(0, 10)))
    yield "abdomen", crop(weak, (0, k(22, 30)))
    yield "right lung", crop(weak, (k(0, 30), 102 - k(0, 20)), WHOLE, (k(40, 80), k(180, 195)))
    yield "left lung", crop(weak, (k(0, 30), 102 - k(0, 20)), WHOLE, (k(388, 395), 512 - k(30, 50)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the development data, ../shared/data")
    parser.add_argument("--crops", type=int, default=10, help="crops of each of the seven kinds")
    parser.add_argument("--model")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    scans = args.data / "scans"
    arterial = read_volume(scans / "ct_chest_arterial_windowed_uint8.nii.gz")
    weak = read_volume(scans / "ct_chest_weak_contrast_3mm.nii.gz")
    rng, segmenter = np.random.default_rng(args.seed), Segmenter(args.model)
    tally: dict[str, list[bool]] = {}
    for _ in range(args.crops):
        for kind, part in heart_free(arterial, weak, rng):
            tally.setdefault(kind, []).append(segmenter.segment(part).heart_found)
    for kind, found in tally.items():
        print(f"{kind:16} {sum(found)} of {len(found)} with a false heart")
    total = [f for found in tally.values() for f in found]
    print(f"{'all':16} {sum(total)} of {len(total)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
