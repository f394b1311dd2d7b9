"""Which prediction belongs to which reference: files of two folders, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..formats import LABEL_FILES
from ..volume.headers import FORMATS, image_suffix
from ..volume.label_maps import stem_of

_LABELS = ("labels", "label", "labelmap", "segmentation", "seg")
SUFFIXES: dict[str, tuple[str, ...]] = {
    "prediction": ("prediction", "pred", *_LABELS, ""),
    "reference": ("reference", "ref", "truth", "gt", "groundtruth", "manual", *_LABELS, ""),
    "mask": ("confidence", "mask", "sure", ""),
}
"""What a file's name may end in after ``_``, ``-`` or ``.``, in the order in which a case's files are preferred."""


@dataclass(frozen=True)
class Pair:
    """One case: its files."""

    name: str
    pred: Path
    truth: Path
    mask: Path | None = None


@dataclass(frozen=True)
class Pairing:
    """The cases of two folders, and the names that are in one of them alone."""

    pairs: tuple[Pair, ...]
    pred_only: tuple[str, ...]
    truth_only: tuple[str, ...]


def result_file(folder: Path) -> Path | None:
    """Return the label map in a folder that ``heartseg segment`` wrote; ``None`` if the folder is not one."""
    return next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)


def pair_folders(pred: Path, truth: Path, mask: Path | None = None) -> Pairing:
    """Pair the files of two folders by name, without suffixes such as ``_labels`` or ``_reference``.

    Args:
        pred: folder of label maps, or of folders that ``heartseg segment`` wrote.
        truth: folder of references.
        mask: one mask for all (a file), or a folder with one per case.

    Raises:
        InputError: a folder cannot be read, two files mean one case, no two names fit, or a case has no mask.
    """
    found, reference = _files(pred, "prediction"), _files(truth, "reference")
    names = [n for n in found if n in reference]
    if not names:
        raise InputError(
            f"no file in {str(pred)!r} ({_some(found)}) has the name of one in {str(truth)!r} ({_some(reference)}): "
            "names must be equal but for an ending such as _labels or _reference"
        )
    masks: dict[str, Path] = {}
    if mask is not None:
        masks = _files(mask, "mask") if mask.is_dir() else dict.fromkeys(names, mask)
        without = [n for n in names if n not in masks]
        if without:
            raise InputError(
                f"folder {str(mask)!r} holds no mask for {', '.join(without[:5])}: add it, e.g. "
                f"{without[0]}_mask.nii.gz"
            )
    pairs = tuple(Pair(n, found[n], reference[n], masks.get(n)) for n in names)
    return Pairing(pairs, tuple(n for n in found if n not in reference), tuple(n for n in reference if n not in found))


def _files(folder: Path, role: str) -> dict[str, Path]:
    """Return case name -> file, in the order of names."""
    try:
        entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be read: {error.strerror or error}") from error
    best: dict[str, tuple[int, Path]] = {}
    for path in entries:
        file = result_file(path) if role == "prediction" and path.is_dir() else path
        if file is None or not file.is_file() or not image_suffix(file):
            continue
        for name, rank in _readings(stem_of(path) if file is path else path.name, role, file is not path):
            if name in best and best[name][0] == rank:
                raise InputError(
                    f"{best[name][1].name!r} and {file.name!r} in {str(folder)!r} are both the {role} of case "
                    f"{name!r}: leave one there"
                )
            if name not in best or rank < best[name][0]:
                best[name] = (rank, file)
    if not best:
        raise InputError(f"folder {str(folder)!r} holds no label map: expected files in {', '.join(FORMATS)}")
    return {name: best[name][1] for name in sorted(best)}


def _readings(stem: str, role: str, is_result: bool) -> list[tuple[str, int]]:
    """The case that a name means, and how much its ending is preferred; none if it ends as another role's files do."""
    endings = SUFFIXES[role]
    others = {e for names in SUFFIXES.values() for e in names} - set(endings)
    mark = re.fullmatch(r"(.+)[_\-.]([A-Za-z]+)", stem)
    ending = mark[2].lower() if mark else ""
    if mark and is_result and ending in ("image", "img"):  # a scan's name, which its result folder got
        return [(mark[1], len(endings))]
    if mark and ending in endings:
        return [(mark[1], endings.index(ending))]
    return [] if mark and ending in others else [(stem, endings.index(""))]


def _some(names: dict[str, Path], at_most: int = 3) -> str:
    return ", ".join(list(names)[:at_most]) + (", ..." if len(names) > at_most else "")
