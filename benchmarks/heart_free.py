#!/usr/bin/env python
"""False positives in scans without a heart: parts of real chest CTs, real heads (CT and MR), synthetic feet.

    python benchmarks/heart_free.py ../shared/data [--crops 20] [--heads DIR] [--model DIR] [--json FILE]

The crops are random (seeded) parts of the two chest CTs of the development data, in which the heart position is known.
The rejection threshold was chosen on crops of the same scans, so this is a regression test, not a held-out result.
The correct result is no heart (exit code 3 of the command line) in all cases.

The heads come from two Debian packages, which are not part of HeartSeg: a CT (``invesalius-examples``, GPL-2) and an MR
template, the average of 27 scans of one person (``mricron-data``, BSD-3-clause). Each is used as a whole once and then
in random crops. Unpack the packages and give the folder; without it, the heads are skipped, which the table states:

    apt-get download invesalius-examples mricron-data
    for package in *.deb; do dpkg -x "$package" heads; done

No scan of a foot with a clear licence was found: the feet are SYNTHETIC (skin, fat, muscle, bones as rods, in HU), with
a different foot for each crop.
"""

from __future__ import annotations

import itertools
import plistlib
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from _common import facts, make_parser, make_segmenter, markdown, summarise, write_json
from scipy.ndimage import distance_transform_edt, gaussian_filter

from heartseg import Geometry, Segmenter, Volume, read_volume

WHOLE = (0, None)
HEAD_CT = "usr/share/doc/invesalius-examples/examples/Cranium.inv3"
HEAD_MR = "usr/share/mricron/templates/ch2.nii.gz"
LEAST_SHARE = 0.6
"""Minimum fraction of the extent of a head along each axis in a crop."""
FOOT_SPACING = 1.5
AIR, SKIN, FAT, MUSCLE, CORTEX, MARROW = -1000, 60, -100, 55, 900, 200  # HU


def crop(volume: Volume, z: tuple = WHOLE, y: tuple = WHOLE, x: tuple = WHOLE) -> Volume:
    """Part of a scan; ranges are (first, after last) voxels along each axis."""
    box = (slice(*z), slice(*y), slice(*x))
    return Volume(np.ascontiguousarray(volume.array[box]), volume.geometry.cropped(box), "part", volume.modality)


def chest_crops(arterial: Volume, weak: Volume, rng: np.random.Generator) -> Iterator[tuple[str, Volume]]:
    """One crop of each kind. In the arterial CT, the heart is in z 50-96, x 98-188; in the weak one in z 30-78.

    The upper crop of the weak CT begins in the aortic arch, because scans of less than 60 mm are refused.
    """
    k = rng.integers
    yield "arterial: above", crop(arterial, (102, 133), (k(0, 60), 256 - k(0, 60)), (k(0, 60), 256 - k(0, 60)))
    yield "arterial: below", crop(arterial, (0, k(26, 45)))
    yield "arterial: right lung", crop(arterial, (k(0, 40), 133 - k(0, 40)), WHOLE, (k(0, 30), k(82, 93)))
    yield "arterial: left lung", crop(arterial, (k(0, 40), 133 - k(0, 40)), WHOLE, (k(196, 202), 256 - k(0, 10)))
    yield "weak: above", crop(weak, (82, 102), (k(0, 60), 512 - k(0, 60)), (k(0, 60), 512 - k(0, 60)))
    yield "weak: below", crop(weak, (0, k(22, 30)))
    yield "weak: right lung", crop(weak, (k(0, 30), 102 - k(0, 20)), WHOLE, (k(40, 80), k(180, 195)))
    yield "weak: left lung", crop(weak, (k(0, 30), 102 - k(0, 20)), WHOLE, (k(388, 395), 512 - k(30, 50)))


def random_crop(volume: Volume, rng: np.random.Generator, least: float = LEAST_SHARE) -> Volume:
    """A random box inside a scan with at least the fraction ``least`` of its extent along each axis."""
    ranges = []
    for n in volume.array.shape:
        size = int(rng.integers(int(np.ceil(least * n)), n + 1))
        start = int(rng.integers(0, n - size + 1))
        ranges.append((start, start + size))
    return crop(volume, *ranges)


def read_inv3(path: Path) -> Volume:
    """Read the scan in an InVesalius project file: a tar archive with a property list and the voxels.

    Stored rows run from posterior to anterior; left and right are as in the file.
    """
    with tarfile.open(path) as archive:
        members = {PurePosixPath(m.name).name: m for m in archive.getmembers() if m.isfile()}

        def content(name: str) -> bytes:
            stream = archive.extractfile(members[name])
            assert stream is not None
            return stream.read()

        project: dict[str, Any] = plistlib.loads(content("main.plist"))
        matrix = project["matrix"]
        voxels = np.frombuffer(content(matrix["filename"]), matrix["dtype"]).reshape(matrix["shape"])
    x, y, z = (float(s) for s in project["spacing"])
    geometry = Geometry(voxels.shape, (x, y, z), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
    return Volume(voxels, geometry, path.stem, project["modality"])


def _rod(points: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    """Boolean mask of the points ``(..., 3)`` within ``radius`` of a line segment."""
    along = end - start
    share = np.clip((points - start) @ along / (along @ along), 0, 1)
    return ((points - start - share[..., None] * along) ** 2).sum(-1) < radius**2


def synthetic_foot(rng: np.random.Generator) -> Volume:
    """A SYNTHETIC foot with the lower shank, in HU at 1.5 mm; ankle at the origin, toes anterior (LPS).

    Size, width, fat thickness, noise and the position in the field of view are random; about 250 mm long.
    """
    size, width, fat = rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.15), rng.uniform(3, 10)
    low = np.array([-75.0, -230.0, -90.0]) - rng.uniform(0, 25, 3)  # x, y, z; the toes point to -y
    high = np.array([75.0, 80.0, 140.0]) + rng.uniform(0, 25, 3)
    count = np.ceil((high - low) / FOOT_SPACING).astype(int)
    axes = [low[k] + FOOT_SPACING * np.arange(count[k]) for k in (2, 1, 0)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    points = np.stack([x, y, z], -1).astype(np.float32) / size

    def at(px: float, py: float, pz: float) -> np.ndarray:
        return np.array([px * width, py, pz], np.float32)

    body = _rod(points, at(0, 5, -15), at(0, 5, 250), 42) | _rod(points, at(0, 45, -35), at(0, -60, -25), 36)
    body |= _rod(points, at(-10, -50, -35), at(-10, -165, -52), 24) | _rod(
        points, at(15, -50, -40), at(20, -140, -54), 22
    )
    body &= points[..., 2] > -70  # the sole
    bones = _rod(points, at(-10, 0, 20), at(-8, 0, 250), 15) | _rod(points, at(22, 10, 5), at(24, 12, 250), 8)
    bones |= _rod(points, at(0, 5, -2), at(0, -25, -8), 16) | _rod(points, at(4, 60, -45), at(4, 5, -35), 19)
    bones |= _rod(points, at(-8, -45, -20), at(16, -42, -30), 14)
    for toe in range(5):
        side = -28 + 14.0 * toe
        bones |= _rod(points, at(side * 0.6, -62, -28), at(side, -115, -50), 6)
        bones |= _rod(points, at(side, -121, -52), at(side * 1.1, -165 + 6 * toe, -55), 5)
    depth = distance_transform_edt(body, FOOT_SPACING)
    hu = np.full(body.shape, AIR, np.float32)
    for least, value in ((0, SKIN), (2, FAT), (2 + fat, MUSCLE)):
        hu[depth > least] = value
    hu[bones & body] = CORTEX
    hu[distance_transform_edt(bones, FOOT_SPACING) > 3] = MARROW
    texture = gaussian_filter(np.asarray(rng.standard_normal(hu.shape), np.float32), 2)
    hu += (depth > 2) * texture * (12 / texture.std()) + rng.normal(0, rng.uniform(8, 25), hu.shape)
    blurred: np.ndarray = gaussian_filter(hu, 0.5)
    origin = (float(low[0]), float(low[1]), float(low[2]))
    return Volume(blurred.astype(np.int16), Geometry(hu.shape, (FOOT_SPACING,) * 3, origin), "foot", "CT")


def all_scans(data: Path, heads: Path, crops: int, seed: int) -> Iterator[tuple[str, Volume]]:
    """All scans without a heart, with their kind."""
    arterial = read_volume(data / "scans" / "ct_chest_arterial_windowed_uint8.nii.gz")
    weak = read_volume(data / "scans" / "ct_chest_weak_contrast_3mm.nii.gz")
    rng = np.random.default_rng(seed)
    for _ in range(crops):
        yield from chest_crops(arterial, weak, rng)
    readers = {"head CT": (heads / HEAD_CT, read_inv3), "head MR": (heads / HEAD_MR, _read_mr)}
    for number, (kind, (path, read)) in enumerate(readers.items()):
        if path.is_file():
            head, rng = read(path), np.random.default_rng([seed, number + 1])
            parts = (random_crop(head, rng) for _ in itertools.count())
            yield from ((kind, part) for part in itertools.islice(itertools.chain([head], parts), crops))
    for number in range(crops):
        yield "foot (synthetic)", synthetic_foot(np.random.default_rng([seed, 3, number]))


def _read_mr(path: Path) -> Volume:
    return read_volume(path, modality="MR")


def evaluate_scan(segmenter: Segmenter, kind: str, scan: Volume) -> dict[str, Any]:
    """Whether a heart is reported in a scan, and the labelled volume, mL."""
    result = segmenter.segment(scan)
    labelled = float((result.labels > 0).sum()) * scan.geometry.voxel_volume_ml
    return {"kind": kind, "heart": result.heart_found, "ml": labelled, "size": list(scan.geometry.size)}


def tally(cases: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per kind, and for ``all``: number of scans and false positives, mean and SD of their share and of the volume."""
    kinds = list(dict.fromkeys(c["kind"] for c in cases))
    out = {}
    for kind in [*kinds, "all"]:
        rows = [c for c in cases if kind in ("all", c["kind"])]
        share = summarise([float(c["heart"]) for c in rows])
        ml = [c["ml"] for c in rows]
        out[kind] = {"false_hearts": sum(c["heart"] for c in rows), **share, "ml": summarise(ml), "ml_max": max(ml)}
    return out


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--crops", type=int, default=20, help="scans of each kind")
    parser.add_argument("--heads", type=Path, default=Path("/"), help="folder with the unpacked packages of the heads")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    segmenter = make_segmenter(args)
    cases = [
        evaluate_scan(segmenter, kind, scan) for kind, scan in all_scans(args.data, args.heads, args.crops, args.seed)
    ]
    summary = tally(cases)
    missing = [name for name in (HEAD_CT, HEAD_MR) if not (args.heads / name).is_file()]
    heads = ["no heart in", "n", "false hearts", "mean", "SD", "mean mL", "SD mL", "most mL"]
    rows = [
        (k, r["n"], r["false_hearts"], r["mean"], r["sd"], r["ml"]["mean"], r["ml"]["sd"], r["ml_max"])
        for k, r in summary.items()
    ]
    print(markdown(heads, rows))
    for name in missing:
        print(f"LEFT OUT: {args.heads / name} is not there; see --help")
    record = {"benchmark": "heart_free", **facts(segmenter), "seed": args.seed, "left_out": missing}
    write_json(args.json, {**record, "summary": summary, "cases": cases})
    return 0


if __name__ == "__main__":
    sys.exit(main())
