#!/usr/bin/env python
"""Dice after 0, 1, 3, 5 and 10 marks of a simulated user, and seconds a mark.

    python benchmarks/mending.py ../shared/data [--model DIR] [--scenes DIR] [--picture FILE] [--json FILE]

The user marks the middle of the largest error, as is usual for interactive segmentation: of all connected pieces of
voxels that should have one label and have another, the largest one; in it, the voxel farthest from its border. The mark
says the right label; where only the LV is annotated (Sunnybrook), "LV" or "not LV". Errors and Dice count inside of the
masks in which the annotators are sure.

Scans: the development CT, both annotations (``right atrium``: the user mends that structure alone, its Dice;
``whole heart``: mean Dice of the structures), the 8 Sunnybrook patients at end-systole in the standard short-axis
view, slices with a contour, and with ``--scenes`` the synthetic validation scenes of a folder (``NAME.nii.gz``,
``NAME_labels.nii.gz``, ``NAME_mask.nii.gz``; ``frozen_patients.py make-validation``).

Methods:
    heartseg        ``heartseg.refine`` with the network's probabilities
    labels only     the same without a network
    brush           a ball of 10 mm takes the label of the mark
    random walker   Grady 2006, on intensities alone: in the ball in which a mark of ``heartseg`` may change labels, on
                    a grid of 1.5 mm; seeds are the marks and the labels around the ball
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from _common import LABELS, center_of, facts, make_parser, make_segmenter, markdown, write_json
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg
from sunnybrook import LV, Orientation, laid

from heartseg import Geometry, HeartSegError, Mark, Result, Volume, read_volume
from heartseg.marks import BACKGROUND
from heartseg.progress import Reporter
from heartseg.refinement import METHOD, Mender, Prior, prior_of
from heartseg.refinement.mender import voxels_of

COUNTS = (0, 1, 3, 5, 10)
NAMES = (BACKGROUND, *LABELS)
BRUSH_MM = 10.0
FALL = 0.005
"""Loss of mean Dice that no right mark should cost."""
WALKER_MM, WALKER_BETA = 1.5, 1.0
"""Grid of the random walker, and weight of squared differences in units of their mean square."""
Labels = np.ndarray
Truth = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Case:
    """A scan with its result, cut around the heart.

    Attributes:
        name, group: of the scan and of its row in the table.
        volume, labels: scan and result, ``(z, y, x)``.
        truth, mask: reference labels, and where they count.
        keys: structures that are scored.
        prior: probabilities of the network.
        only: whether the user mends the first of ``keys`` alone.
        binary: whether ``truth`` holds this structure alone and the rest is unknown.
        window_seconds: of one window of the network.
    """

    name: str
    group: str
    volume: Volume
    labels: Labels
    truth: np.ndarray
    mask: np.ndarray
    keys: tuple[str, ...]
    prior: Prior
    only: bool = False
    binary: bool = False
    window_seconds: float = 0.0

    def dice(self, labels: Labels) -> dict[str, float]:
        """Dice of each scored structure in the mask."""
        found = {}
        for key in self.keys:
            a, b = (labels == LABELS[key]) & self.mask, (self.truth == LABELS[key]) & self.mask
            found[key] = 2 * int((a & b).sum()) / max(1, int(a.sum()) + int(b.sum()))
        return found

    def errors(self, labels: Labels) -> Iterator[tuple[np.ndarray, str, bool]]:
        """Wrong voxels by what a mark on them says: mask, key, positive."""
        first = LABELS[self.keys[0]]
        if self.binary:
            yield (self.truth == first) & (labels != first) & self.mask, self.keys[0], True
            yield (self.truth != first) & (labels == first) & self.mask, self.keys[0], False
            return
        wrong = (labels != self.truth) & self.mask
        if self.only:
            wrong &= (labels == first) | (self.truth == first)
        for label in np.unique(self.truth[wrong]):
            yield wrong & (self.truth == label), NAMES[label], True

    def next_mark(self, labels: Labels) -> Mark | None:
        """The mark in the middle of the largest error; ``None`` if there is none."""
        best: tuple[int, np.ndarray, str, bool] | None = None
        for wrong, key, positive in self.errors(labels):
            pieces, count = ndimage.label(wrong)
            if not count:
                continue
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            if best is None or sizes.max() > best[0]:
                best = int(sizes.max()), pieces == sizes.argmax(), key, positive
        if best is None:
            return None
        _size, piece, key, positive = best
        box = ndimage.find_objects(piece.astype(np.uint8))[0]
        depth = ndimage.distance_transform_edt(np.pad(piece[box], 1), sampling=self.volume.geometry.spacing[::-1])
        middle = np.array(np.unravel_index(depth.argmax(), depth.shape)) - 1 + [s.start for s in box]
        x, y, z = (float(v) for v in self.volume.geometry.index_to_world(middle))
        return Mark(key, ((x, y, z),), positive)


Obey = Callable[[Mark], Labels]


def with_network(case: Case) -> Obey:
    """``heartseg.refine``."""
    mender = Mender(case.labels, case.volume.geometry, case.prior)
    return lambda mark: (mender.add(mark), mender.labels.copy())[1]


def without_network(case: Case) -> Obey:
    """``heartseg.refine`` without probabilities."""
    mender = Mender(case.labels, case.volume.geometry, Prior.unknown())
    return lambda mark: (mender.add(mark), mender.labels.copy())[1]


def brush(case: Case) -> Obey:
    """A ball of :data:`BRUSH_MM` takes the label of the mark; a negative one erases."""
    labels, spacing = case.labels.copy(), np.array(case.volume.geometry.spacing[::-1])

    def obey(mark: Mark) -> Labels:
        at = voxels_of(mark, case.volume.geometry)[0]
        offset = (np.indices(labels.shape).transpose(1, 2, 3, 0) - at) * spacing
        ball = (offset**2).sum(-1) <= (BRUSH_MM / 2) ** 2
        labels[ball if mark.positive else ball & (labels == mark.label)] = mark.label if mark.positive else 0
        return labels.copy()

    return obey


def random_walker(case: Case) -> Obey:
    """Grady 2006 on intensities alone."""
    mender, grid = Mender(case.labels, case.volume.geometry, Prior.unknown()), case.volume.geometry

    def obey(mark: Mark) -> Labels:
        change = mender.add(mark)  # for the reach and the book of marks; its labels are replaced
        low, high = np.sort(
            grid.index_to_world(np.array([[s.start for s in change.box], [s.stop - 1 for s in change.box]])), 0
        )
        size = np.maximum(3, np.ceil((high - low) / WALKER_MM).astype(int) + 1)
        x, y, z = (int(v) for v in size)
        ox, oy, oz = (float(v) for v in low)
        coarse = Geometry((z, y, x), (WALKER_MM,) * 3, (ox, oy, oz))
        centers = coarse.index_to_world(np.argwhere(np.ones(coarse.shape, bool)))
        index = grid.world_to_index(centers).T
        image = ndimage.map_coordinates(case.volume.array.astype(np.float32), index, order=1, mode="nearest")
        labels = ndimage.map_coordinates(_before(mender, change).astype(np.int16), index, order=0, mode="nearest")
        distance = np.sqrt(((centers - np.array(mark.points[0])) ** 2).sum(1))
        radius = change.placed.reach_mm * np.sqrt(np.log(change.placed.strength / METHOD.least))
        seeds = np.where(distance < radius, -1, labels).reshape(coarse.shape)
        _fix_border(seeds, labels.reshape(coarse.shape))
        for one in mender.marks:
            at = np.rint(coarse.world_to_index(np.array(one.points[0]))).astype(int)
            if ((at >= 0) & (at < coarse.shape)).all():
                seeds[tuple(at)] = one.label if one.positive else 0
        walked = walk(image.reshape(coarse.shape), seeds)
        fine = np.argwhere(np.ones([s.stop - s.start for s in change.box], bool)) + [s.start for s in change.box]
        world = grid.index_to_world(fine)
        near = (((world - np.array(mark.points[0])) ** 2).sum(1) < radius**2).reshape(change.before.shape)
        found = ndimage.map_coordinates(walked, coarse.world_to_index(world).T, order=0, mode="nearest")
        mender.labels[change.box] = np.where(near, found.reshape(change.before.shape), change.before)
        for at_mark in change.placed.voxels:
            mender.labels[tuple(at_mark)] = mark.label if mark.positive else 0
        return mender.labels.copy()

    return obey


def _before(mender: Mender, change: Any) -> Labels:
    labels = mender.labels.copy()
    labels[change.box] = change.before
    return labels


def _fix_border(seeds: np.ndarray, labels: np.ndarray) -> None:
    for axis in range(3):
        for end in (0, -1):
            face = tuple(end if k == axis else slice(None) for k in range(3))
            seeds[face] = labels[face]


def walk(image: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The label whose seeds a random walker reaches first most often; ``seeds`` hold -1 where it is unknown."""
    numbers = np.arange(image.size).reshape(image.shape)
    ends, weights = [], []
    differences = [np.diff(image, axis=axis) for axis in range(3)]
    scale = max(1e-6, float(np.mean(np.concatenate([d.ravel() for d in differences]) ** 2)))
    for axis, difference in enumerate(differences):
        a, b = np.delete(numbers, -1, axis), np.delete(numbers, 0, axis)
        ends.append(np.stack([a.ravel(), b.ravel()]))
        weights.append(np.exp(-WALKER_BETA * difference.ravel() ** 2 / scale) + 1e-6)
    (i, j), w = np.concatenate(ends, 1), np.concatenate(weights)
    adjacency = sparse.coo_matrix((w, (i, j)), (image.size,) * 2).tocsr()
    adjacency = adjacency + adjacency.T
    laplacian = (sparse.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency).tocsr()
    known = seeds.ravel() >= 0
    inner, rim = laplacian[~known][:, ~known], laplacian[~known][:, known]
    present = np.unique(seeds[seeds >= 0])
    chance = []
    for label in present:
        right = -rim @ (seeds.ravel()[known] == label).astype(float)
        chance.append(cg(inner, right, rtol=1e-4, maxiter=500, M=sparse.diags(1 / inner.diagonal()))[0])
    result = seeds.ravel().copy()
    result[~known] = present[np.argmax(chance, 0)]
    return result.reshape(seeds.shape)


METHODS: dict[str, Callable[[Case], Obey]] = {
    "heartseg": with_network,
    "labels only": without_network,
    "brush": brush,
    "random walker": random_walker,
}


def simulate(case: Case, method: Callable[[Case], Obey], most: int = COUNTS[-1]) -> dict[str, Any]:
    """Dice after each number of marks, and seconds of each mark."""
    obey, labels = method(case), case.labels
    dice, seconds, marks = [case.dice(labels)], [], []
    for _ in range(most):
        mark = case.next_mark(labels)
        if mark is None:
            dice.append(dice[-1])
            continue
        started = time.perf_counter()
        labels = obey(mark)
        seconds.append(time.perf_counter() - started)
        marks.append(mark.text)
        dice.append(case.dice(labels))
    return {"dice": dice, "seconds": seconds, "marks": marks}


def anywhere(case: Case, count: int) -> list[float]:
    """Change of mean Dice by one right mark, put at random on the wrong voxels, for so many marks from the start."""
    rng = np.random.default_rng(0)
    wrong = [(np.argwhere(where), key, positive) for where, key, positive in case.errors(case.labels)]
    weights = np.array([len(index) for index, _, _ in wrong], float)
    before, changes = np.mean(list(case.dice(case.labels).values())), []
    for _ in range(count if weights.sum() else 0):
        index, key, positive = wrong[int(rng.choice(len(wrong), p=weights / weights.sum()))]
        x, y, z = (float(v) for v in case.volume.geometry.index_to_world(index[rng.integers(len(index))]))
        labels = with_network(case)(Mark(key, ((x, y, z),), positive))
        changes.append(float(np.mean(list(case.dice(labels).values())) - before))
    return changes


def cut(volume: Volume, result: Result, truth: np.ndarray, mask: np.ndarray) -> tuple[Volume, Labels, Truth]:
    """Scan, labels and reference within 35 mm of what either labels: no mark changes more."""
    index = np.argwhere((truth > 0) | (result.labels > 0))
    margin = np.ceil(35 / np.array(volume.geometry.spacing[::-1])).astype(int)
    low = np.maximum(0, index.min(0) - margin)
    high = np.minimum(truth.shape, index.max(0) + margin + 1)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    box = (z, y, x)
    small = Volume(volume.array[box], volume.geometry.cropped(box), volume.name, volume.modality)
    return small, result.labels[box].copy(), (truth[box], mask[box])


def make_case(segmenter: Any, volume: Volume, truth: np.ndarray, mask: np.ndarray, **fields: Any) -> Case:
    """Segment a scan and prepare it for marks."""
    result = segmenter.segment(volume)
    started = time.perf_counter()
    prior = prior_of(volume, result, segmenter, Reporter())
    seconds = time.perf_counter() - started
    small, labels, (true, sure) = cut(volume, result, truth, mask)
    keys = fields.pop("keys", None) or tuple(k for k in LABELS if ((true == LABELS[k]) & sure).any())
    return Case(
        fields.pop("name"),
        fields.pop("group"),
        small,
        labels,
        true,
        sure,
        keys,
        prior,
        window_seconds=seconds,
        **fields,
    )


def read_array(path: Path) -> np.ndarray:
    """Voxels of a file, ``(z, y, x)``."""
    array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array


def ct_cases(args: Any) -> Iterator[Case]:
    """The development CT: right atrium alone and the whole heart, both annotations."""
    segmenter = make_segmenter(args)
    for short, name in (("windowed", "ct_chest_arterial_windowed_uint8"), ("HU", "ct_chest_arterial_hu")):
        path = args.data / "scans" / f"{name}.nii.gz"
        truth, sure = (read_array(path.with_name(f"{name}_{what}.nii.gz")) for what in ("reference", "confidence"))
        case = make_case(
            segmenter, read_volume(path), truth, sure > 0, name=name, group=f"development CT, {short}, whole heart"
        )
        fields = {**vars(case), "group": f"development CT, {short}, right atrium", "keys": ("RA",), "only": True}
        yield Case(**fields)
        yield case


def sunnybrook_cases(args: Any) -> Iterator[Case]:
    """LV cavity at end-systole."""
    segmenter = None
    for path in sorted((args.data / "scans" / "mr_sunnybrook_ed_es").glob("*_ES.nii.gz")):
        truth = (read_array(path.with_name(path.name.replace("_ES.", "_ES_LVendo."))) > 0).astype(np.uint8) * LV
        volume = laid(read_volume(path, modality="MR"), Orientation())
        segmenter = segmenter or make_segmenter(args, heart_center=center_of(volume))
        mask = np.broadcast_to(truth.any((1, 2), keepdims=True), truth.shape)
        yield make_case(
            segmenter, volume, truth, mask, name=path.name, group="Sunnybrook ES, LV", keys=("LV",), binary=True
        )


def scene_cases(args: Any) -> Iterator[Case]:
    """Synthetic scenes."""
    segmenter = make_segmenter(args)
    paths = sorted(args.scenes.glob("*_labels.nii.gz"))
    for k in np.unique(np.linspace(0, len(paths) - 1, args.most_scenes).round().astype(int)):
        path = paths[k]
        name = path.name.removesuffix("_labels.nii.gz")
        kind = "CT" if name.startswith("cta") else "MR"
        mask = read_array(path.with_name(f"{name}_mask.nii.gz")) > 0
        try:
            volume = read_volume(path.with_name(f"{name}.nii.gz"), modality=kind)
            yield make_case(
                segmenter, volume, read_array(path).astype(np.uint8), mask, name=name, group=f"synthetic {kind}"
            )
        except HeartSegError as error:  # a stack of four slices
            print(f"left out: {name}: {error}", file=sys.stderr)


def describe(changes: np.ndarray) -> str:
    """Number of marks, mean and least change of mean Dice, and how many marks cost more than :data:`FALL`."""
    return (
        f"{len(changes)} marks, mean {changes.mean():+.4f}, least {changes.min():+.4f}, "
        f"{(changes < -FALL).sum()} cost more than {FALL:g}"
    )


def rows_of(records: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """One row per group and method: mean Dice by marks, worst structure at 5, largest fall, median seconds."""
    for group in dict.fromkeys(r["group"] for r in records):
        for method in METHODS:
            of = [r for r in records if r["group"] == group and r["method"] == method]
            if not of:
                continue
            means = np.array([[np.mean(list(d.values())) for d in r["dice"]] for r in of])
            worst = np.mean([min(r["dice"][5].values()) for r in of])
            seconds = [s for r in of for s in r["seconds"]]
            yield (
                group,
                len(of),
                method,
                *(float(means[:, n].mean()) for n in COUNTS),
                float(worst),
                float(np.diff(means, axis=1).min()),
                float(np.median(seconds)),
            )


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--scenes", type=Path, metavar="DIR", help="synthetic validation scenes")
    parser.add_argument("--most-scenes", type=int, default=12, metavar="N", help="evenly from the list")
    parser.add_argument("--only", choices=("ct", "sunnybrook", "scenes"), help="these scans alone")
    parser.add_argument("--anywhere", type=int, metavar="N", help="only N marks at random places of the errors")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="only draw three corrections of the development CT"
    )
    args = parser.parse_args(argv)
    if args.picture:
        draw({case.group: case for case in ct_cases(args)}, args.picture)
        return 0
    sources = {"ct": ct_cases, "sunnybrook": sunnybrook_cases, **({"scenes": scene_cases} if args.scenes else {})}
    records: list[dict[str, Any]] = []
    windows: list[float] = []
    every: list[float] = []
    for kind, source in sources.items():
        if args.only not in (None, kind):
            continue
        for case in source(args):
            if args.anywhere:
                changes = np.array(anywhere(case, args.anywhere))
                print(f"{case.group}, {case.name}: {describe(changes)}", flush=True)
                every += changes.tolist()
                continue
            windows.append(case.window_seconds)
            for name, method in METHODS.items():
                records.append({"case": case.name, "group": case.group, "method": name, **simulate(case, method)})
            print(f"{case.group}: {case.name}", file=sys.stderr, flush=True)
    if args.anywhere:
        print(f"all: {describe(np.array(every))}")
        write_json(args.json, {"benchmark": "mending anywhere", **facts(make_segmenter(args)), "changes": every})
        return 0
    heads = ["scans", "n", "method", *(f"{n} marks" for n in COUNTS), "worst at 5", "largest fall", "seconds a mark"]
    print(markdown(heads, rows_of(records)))
    load = os.getloadavg()[0]
    print(f"\none window of the network: median {np.median(windows):.1f} s; load of the machine {load:.0f}")
    record = {"benchmark": "mending", **facts(make_segmenter(args)), "records": records, "load": load}
    write_json(args.json, {**record, "window_seconds": windows})
    return 0


PICTURES = (("HU, right atrium", 1), ("HU, whole heart", 2), ("windowed, whole heart", 2))
"""Corrections in the documentation's picture: end of the group's name, and number of the mark."""


def draw(cases: dict[str, Case], file: Path) -> None:
    """A row per correction: before, with the mark, and the reference, in the slice of the mark."""
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(len(PICTURES), 3, figsize=(6.6, 6.0), dpi=90, layout="constrained")
    for row, (ending, number) in zip(rows, PICTURES, strict=True):
        case = next(c for group, c in cases.items() if group.endswith(ending))
        obey, states, mark = with_network(case), [case.labels], None
        for _ in range(number):
            mark = case.next_mark(states[-1])
            assert mark is not None
            states.append(obey(mark))
        if mark is not None:
            draw_row(row, case, mark, (states[-2], states[-1], case.truth))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    plt.close(figure)


def draw_row(axes: Any, case: Case, mark: Mark, maps: tuple[Labels, Labels, Labels]) -> None:
    """Three pictures of one mark."""
    from matplotlib.colors import ListedColormap

    from heartseg import STRUCTURES

    colours = ListedColormap([(0, 0, 0, 0), *(tuple(c / 255 for c in s.color) for s in STRUCTURES)])
    z, y, x = (int(v) for v in voxels_of(mark, case.volume.geometry)[0])
    half = np.ceil(45 / np.array(case.volume.geometry.spacing[:2])).astype(int)
    window = (slice(max(0, y - half[1]), y + half[1]), slice(max(0, x - half[0]), x + half[0]))
    image = case.volume.array[z][window]
    said = mark.text.lower() if mark.structure == BACKGROUND else mark.text
    for axis, title, labels in zip(axes, ("before", f"a mark: {said}", "reference"), maps, strict=True):
        axis.imshow(image, cmap="gray", vmin=np.percentile(image, 2), vmax=np.percentile(image, 99.5))
        axis.imshow(labels[z][window], cmap=colours, vmin=0, vmax=7, alpha=0.45, interpolation="nearest")
        axis.plot(x - window[1].start, y - window[0].start, "o", ms=6, mfc="none", mec="white", mew=1.5)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()


if __name__ == "__main__":
    sys.exit(main())
