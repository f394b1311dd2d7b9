"""Labelled scans of one modality, translated, into a training set of the other."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, OutputError
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
    """Return the files that are not named as label maps (``NAME_label.nii.gz``): MM-WHS keeps them beside the scans."""
    return [p for p in paths if not _LABEL_ENDING.search(stem(p))]


def pair_labels(images: Sequence[Path], folder: Path) -> list[Labelled]:
    """Each image with the label map of the same name, endings such as ``_image`` and ``_label`` apart.

    Raises:
        InputError: no folder, an image without labels, or two files for one case.
    """
    if not folder.is_dir():
        raise InputError(
            f"folder of labels '{folder}' does not exist: give the folder whose files are named as the scans"
        )
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file() and image_suffix(p) and not p.name.startswith(".")):
        name = stem(path)
        if _IMAGE_ENDING.search(name):  # images and labels may share a folder
            continue
        name = _LABEL_ENDING.sub("", name)
        if name in found:
            raise InputError(
                f"'{found[name].name}' and '{path.name}' are both labels of {name!r}: leave one in '{folder}'"
            )
        found[name] = path
    pairs = []
    for image in without_label_maps(images):
        name = _IMAGE_ENDING.sub("", stem(image))
        labels = found.get(name)
        if labels is None or labels.resolve() == image.resolve():
            raise InputError(
                f"scan '{image}' has no labels in '{folder}': add {name}_label.nii.gz or leave the scan out"
            )
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
    """Translate scans and put them, with their labels, into ``folder/images`` and ``folder/labels``.

    A case is ``<direction>_<name>.nii.gz`` in both folders. Label values stay as they are (see :func:`read_labels`);
    both files have the scan's grid. Cases that an earlier call has made with the same model are passed over, so that a
    stopped call can continue. ``translated.json`` says where each case came from.

    Returns:
        Names of the cases that are there now.

    Raises:
        InputError: a scan or label map cannot be used, or they lie on different grids.
        OutputError: a case is there already and not from this call; the folder cannot be written.
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
    """Write one case, the labels first: where the image is, its labels are too."""
    scan, labels = read_volume(pair.image), read_labels(pair.labels, reporter)
    check_labels(scan, labels)
    made = translator(scan, reporter)
    files[0].unlink(missing_ok=True)  # an older one must not stand beside new labels
    write_volume(replace(labels, geometry=scan.geometry), files[1])
    write_volume(made, files[0])


def read_labels(path: Path, reporter: Reporter) -> Volume:
    """Return a label map as it is stored; a Slicer segmentation in HeartSeg's labels, by its segments' names.

    Raises:
        InputError: it cannot be read, or is a segmentation of which no segment is named as a structure.
    """
    if not path.name.lower().endswith(".seg.nrrd"):
        return read_volume(path)
    array, geometry, segments = read_whole_numbers(path)
    if not segments:
        raise InputError(
            f"segments of {path.name!r} name no structure: call them as in Slicer's terminology (left "
            "ventricle, LV, myocardium, ...), or export a label map"
        )
    found = as_label_map(Volume(array, geometry, path.name), segments, "--labels")
    for notice in found.notices:
        reporter.announce(notice)
    return Volume(found.labels, geometry, path.name)


def check_labels(scan: Volume, labels: Volume) -> None:
    """Refuse labels that lie on another grid than their scan, or are no labels.

    Raises:
        InputError: says how they differ.
    """
    if not scan.geometry.same_grid(labels.geometry, tolerance_mm=0.1):
        a, b = scan.geometry, labels.geometry
        raise InputError(
            f"labels {labels.name!r} ({b.size} voxels of {_mm(b.spacing)} mm) lie on another grid than scan "
            f"{scan.name!r} ({a.size} of {_mm(a.spacing)} mm): resample them onto the scan's, or pair other files"
        )
    if labels.array.dtype.kind == "f" and not np.array_equal(labels.array, np.rint(labels.array)):
        raise InputError(
            f"labels {labels.name!r} hold values that are not whole: is it an image rather than a label map?"
        )


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{s:.3g}" for s in spacing)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read ({error}): mend or remove it") from None
    return found if isinstance(found, dict) else {}


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    try:
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        part = folder / f"{RECORD}.part"
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        part.replace(folder / RECORD)
    except OSError as error:
        raise OutputError(
            f"training set '{folder}' cannot be written: {error.strerror or error}; free some space or "
            "choose another folder"
        ) from error
