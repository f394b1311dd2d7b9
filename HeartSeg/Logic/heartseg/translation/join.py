"""Add translated labelled scans of one modality to a training set of the other."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, OutputError, writing
from ..progress import Reporter
from ..volume import Volume, read_volume, write_volume
from ..volume.headers import image_suffix, stem
from ..volume.label_maps import as_label_map, read_whole_numbers
from .apply import Translator

RECORD = "translated.json"
_IMAGE_ENDING = re.compile(r"[_\-.](?:image|img|0000)$", re.IGNORECASE)
_LABEL_ENDING = re.compile(r"[_\-.](?:labels?|labelmap|segmentation|seg|gt|reference|truth)$", re.IGNORECASE)


@dataclass(frozen=True)
class Labelled:
    """A scan and its label map."""

    name: str
    image: Path
    labels: Path


def without_label_maps(paths: Sequence[Path]) -> list[Path]:
    """Return the files without label maps (``NAME_label.nii.gz``), which MM-WHS stores next to the scans."""
    return [p for p in paths if not _LABEL_ENDING.search(stem(p))]


def pair_labels(images: Sequence[Path], folder: Path) -> list[Labelled]:
    """Pair each image with the label map of the same name, ignoring endings such as ``_image`` and ``_label``.

    Raises:
        InputError: the folder does not exist, an image has no labels, or two files belong to one case.
    """
    if not folder.is_dir():
        raise InputError(
            f"label folder '{folder}' does not exist: give a folder whose files have the names of the scans"
        )
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file() and image_suffix(p) and not p.name.startswith(".")):
        name = stem(path)
        if _IMAGE_ENDING.search(name):  # images and labels may share a folder
            continue
        name = _LABEL_ENDING.sub("", name)
        if name in found:
            raise InputError(
                f"'{found[name].name}' and '{path.name}' in '{folder}' are both labels of {name!r}: remove one"
            )
        found[name] = path
    pairs = []
    for image in without_label_maps(images):
        name = _IMAGE_ENDING.sub("", stem(image))
        labels = found.get(name)
        if labels is None or labels.resolve() == image.resolve():
            raise InputError(f"scan '{image}' has no labels in '{folder}': add {name}_label.nii.gz or omit the scan")
        pairs.append(Labelled(name, image, labels))
    twice = sorted({p.name for p in pairs if sum(q.name == p.name for q in pairs) > 1})
    if twice or not pairs:
        raise InputError(f"two scans are named {twice[0]!r}: rename one" if twice else f"no scan fits '{folder}'")
    return pairs


def join_training_set(
    translator: Translator,
    pairs: Sequence[Labelled],
    folder: Path,
    *,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> list[str]:
    """Translate scans and write them with their labels to ``folder/images`` and ``folder/labels``.

    The files of a case are named ``<direction>_<name>.nii.gz`` in both folders and have the grid of the scan. Label
    values do not change (see :func:`read_labels`). Cases from an earlier call with the same model are skipped, so that
    an interrupted call can continue. ``translated.json`` records the origin of each case.

    Returns:
        Names of all cases.

    Raises:
        InputError: a scan or label map is unusable, or their grids differ.
        OutputError: a case with a different origin exists, or the folder is not writable.
    """
    reporter = reporter or Reporter()
    record = _read_record(folder / RECORD)
    names = []
    with reporter.stage("join", len(pairs)):
        for number, pair in enumerate(pairs):
            name = f"{translator.direction}_{pair.name}"
            origin = {
                "image": str(pair.image.resolve()),
                "labels": str(pair.labels.resolve()),
                "weights": translator.model.files[translator.direction][1],
            }
            files = [folder / kind / f"{name}.nii.gz" for kind in ("images", "labels")]
            there = [f for f in files if f.exists()]
            if len(there) < 2 or record.get(name) != origin or overwrite:
                if there and record.get(name) != origin and not overwrite:
                    raise OutputError(
                        f"'{there[0]}' exists and was not made from '{pair.image}' with this model: give "
                        "--overwrite or another folder"
                    )
                record[name] = origin
                _write_record(folder, record)
                _join_case(translator, pair, files, reporter)
            names.append(name)
            reporter.advance(number + 1)
    return names


def _join_case(translator: Translator, pair: Labelled, files: list[Path], reporter: Reporter) -> None:
    """Write one case, labels first, so that an image always has labels."""
    scan, labels = read_volume(pair.image), read_labels(pair.labels, reporter)
    check_labels(scan, labels)
    made = translator(scan, Reporter(cancel=reporter.cancel))  # cases are counted, not slices
    files[0].unlink(missing_ok=True)  # an old image must not be paired with new labels
    write_volume(replace(labels, geometry=scan.geometry), files[1])
    write_volume(made, files[0])


def read_labels(path: Path, reporter: Reporter) -> Volume:
    """Read a label map; segments of a Slicer segmentation get the label of HeartSeg that matches their name.

    Raises:
        InputError: the file is unreadable, or no segment has the name of a structure.
    """
    if not path.name.lower().endswith(".seg.nrrd"):
        return read_volume(path)
    array, geometry, segments = read_whole_numbers(path)
    if not segments:
        raise InputError(
            f"no segment of {path.name!r} has the name of a structure: rename them as in Slicer's terminology (left "
            "ventricle, LV, myocardium, ...), or export a label map"
        )
    found = as_label_map(Volume(array, geometry, path.name), segments, "--labels")
    for notice in found.notices:
        reporter.announce(notice)
    return Volume(found.labels, geometry, path.name)


def check_labels(scan: Volume, labels: Volume) -> None:
    """Check that labels have the grid of their scan and integer values.

    Raises:
        InputError: they do not; the message gives the difference.
    """
    if not scan.geometry.same_grid(labels.geometry, tolerance_mm=0.1):
        a, b = scan.geometry, labels.geometry
        raise InputError(
            f"the grid of labels {labels.name!r} ({b.size} voxels of {_mm(b.spacing)} mm) is not that of scan "
            f"{scan.name!r} ({a.size} of {_mm(a.spacing)} mm): resample the labels onto the scan, or pair other files"
        )
    if labels.array.dtype.kind == "f" and not np.array_equal(labels.array, np.rint(labels.array)):
        raise InputError(f"labels {labels.name!r} contain fractional values: give a label map instead of an image")


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{s:.3g}" for s in spacing)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read ({error}): repair or remove it") from None
    return found if isinstance(found, dict) else {}


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    with writing(folder):
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        part = folder / f"{RECORD}.part"
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        part.replace(folder / RECORD)
