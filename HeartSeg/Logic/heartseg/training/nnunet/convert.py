"""Write a checked data set in the raw layout of nnU-Net v2: imagesTr, labelsTr, dataset.json.

https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...anatomy import structure
from ...errors import writing
from ...progress import Reporter
from ...volume.geometry import to_nearest_lps
from ...volume.types import Volume
from ...volume.writing import write_labels, write_volume
from .checking import CheckedCase, CheckedData, load_case

DATASET_ID, DATASET_NAME = 501, "Dataset501_HeartSeg"
FILE_ENDING = ".nii.gz"
ORIENTATIONS = ("keep", "lps")
REPAIRED = ("direction-sheared", "nan-replaced", "spacing-disagrees", "orientation-unknown")
"""Findings of the reader that require rewriting the scan, because nnU-Net would read different values from the file."""


@dataclass(frozen=True)
class Layout:
    """Options for writing a data set.

    Attributes:
        structures: keys in label order; the first becomes label 1 in the training data, and so on. With all seven
            structures the labels equal HeartSeg's.
        channel: nnU-Net's channel name: ``"CT"`` is normalised by the foreground's intensities, any other name by
            z-scores.
        orientation: ``"keep"`` keeps the stored axes; ``"lps"`` reorders the axes of every case to the nearest LPS axes
            without interpolation, so that the model card can state the orientation.
        copy: copy scans even if a link would suffice.
    """

    structures: tuple[str, ...]
    channel: str = "image"
    orientation: str = "keep"
    copy: bool = False

    @property
    def labels(self) -> dict[str, int]:
        """Labels of ``dataset.json``."""
        return {"background": 0, **{key: k + 1 for k, key in enumerate(self.structures)}}

    def table(self) -> np.ndarray:
        """uint8 lookup table from HeartSeg's labels to those of the training data."""
        table = np.zeros(256, np.uint8)
        for key, value in self.labels.items():
            if value:
                table[structure(key).label] = value
        return table


def convert(
    data: CheckedData,
    layout: Layout,
    raw: Path,
    labels: Mapping[int, str] | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Write the raw data set in ``raw``; keeps existing files, so that an interrupted conversion can continue.

    Args:
        data: checked cases.
        layout: see :class:`Layout`.
        raw: nnU-Net's ``nnUNet_raw``.
        labels: label value -> structure key of the references, as used for the check.
        reporter: receives progress and cancels.

    Returns:
        The folder of the data set.

    Raises:
        InputError: a file has changed since it was checked.
        OutputError: the folder cannot be written.
    """
    reporter = reporter or Reporter()
    home = raw / DATASET_NAME
    with writing(home):
        for name in ("imagesTr", "labelsTr"):
            (home / name).mkdir(parents=True, exist_ok=True)
        with reporter.stage("convert", len(data.cases)):
            for done, checked in enumerate(data.cases):
                reporter.advance(done)
                _convert_case(checked, layout, home, labels)
        write_json(home / "dataset.json", dataset_json(data.cases, layout))
    return home


def dataset_json(cases: Sequence[CheckedCase], layout: Layout) -> dict[str, Any]:
    """Return the content of ``dataset.json``; its entry ``dataset`` lists the files, which saves nnU-Net a search."""
    names = [c.case.name for c in cases]
    return {
        "channel_names": {"0": layout.channel},
        "labels": layout.labels,
        "numTraining": len(names),
        "file_ending": FILE_ENDING,
        "overwrite_image_reader_writer": "SimpleITKIO",
        "dataset": {
            n: {"images": [f"imagesTr/{n}_0000{FILE_ENDING}"], "label": f"labelsTr/{n}{FILE_ENDING}"} for n in names
        },
    }


def _convert_case(checked: CheckedCase, layout: Layout, home: Path, labels: Mapping[int, str] | None) -> None:
    name = checked.case.name
    image, label = home / "imagesTr" / f"{name}_0000{FILE_ENDING}", home / "labelsTr" / f"{name}{FILE_ENDING}"
    if image.exists() and label.exists():
        return
    volume, reference = load_case(checked.case, labels, layout.structures)
    array = layout.table()[reference.labels]
    geometry = volume.geometry
    flip, turned = to_nearest_lps(geometry)
    turn = layout.orientation == "lps" and geometry.orientation != "LPS"
    if turn:
        array, geometry = np.ascontiguousarray(flip.apply(array)), turned
    as_stored = not (volume.source.spacing_given or any(f.code in REPAIRED for f in volume.findings))
    if not turn and as_stored and checked.case.image.name.endswith(FILE_ENDING):
        _link(checked.case.image, image, layout.copy)
    else:
        stored = np.ascontiguousarray(flip.apply(volume.array)) if turn else volume.array
        write_volume(Volume(stored, geometry, name), image)
    write_labels(array, geometry, label)


def _link(source: Path, target: Path, copy: bool) -> None:
    """Make a symbolic link, or a copy if links are disabled or not permitted (Windows)."""
    target.unlink(missing_ok=True)
    if not copy:
        try:
            target.symlink_to(source.resolve())
            return
        except OSError:
            pass
    part = target.with_name(f".{target.name}.part-{os.getpid()}")
    shutil.copyfile(source, part)
    part.replace(target)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    part.replace(path)
