"""Find training cases: MM-WHS naming, two folders, Slicer segmentations, mended results, MONAI data lists.

This module reads file names only; :mod:`.references` and :mod:`.checking` open the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...formats import LABEL_FILES, REPORT_FILE
from ...provenance import InputFacts, Provenance
from ...volume.headers import image_suffix
from ...volume.label_maps import stem_of

FOLDER_PAIRS = (("images", "labels"), ("imagesTr", "labelsTr"), ("image", "label"))
"""Names of folder pairs with scans and references."""

LAYOUTS = (
    "MM-WHS files (ct_train_1001_image.nii.gz beside ct_train_1001_label.nii.gz), folders images/ and labels/ with the "
    "same file names, scans beside Slicer segmentations (scan.nrrd, scan.seg.nrrd), results that were mended (heartseg "
    "refine), or a MONAI data list (.json)"
)

REPORTS = (REPORT_FILE, "export.json")
"""Files that state how the labels of a result or export came about."""

TRANSLATED = "translated.json"
"""File that lists the cases made by ``heartseg translate join`` (``heartseg.translation.join.RECORD``)."""

_MMWHS = re.compile(r"(ct|mr)_(train|test)_\d+", re.IGNORECASE)
_LABEL_MAP = re.compile(r"(^|[ _.-])(labels?(Tr|Ts)?|seg|segmentations?|masks?)$", re.IGNORECASE)
_SEGMENTATION_ENDING = re.compile(r"[ _\-.]?(segmentation|seg|labels?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """A scan and its reference.

    Attributes:
        name: identifier in nnU-Net's folders: letters, digits, ``_``, ``-`` and ``.``.
        image, label: paths of scan and reference.
        modality: ``"CT"`` or ``"MR"`` if the file name contains it, else ``""``.
        fold: fold that holds the case out, if a data list gives it.
        translated: whether the scan was translated from another modality.
        train_only: whether no fold holds the case out: a translated one, or one that the data list marks so.
        facts: how the scan of a mended result was read.
    """

    name: str
    image: Path
    label: Path
    modality: str = ""
    fold: int | None = None
    translated: bool = False
    train_only: bool = False
    facts: InputFacts | None = None


@dataclass(frozen=True)
class Listing:
    """Cases of a data set.

    Attributes:
        layout: description of the naming scheme, for messages.
        cases: scans with a reference, sorted by name.
        unlabelled: scans that have no reference by design (test set of MM-WHS).
        problems: inconsistencies, one line each: a scan without reference, or a reference without scan.
    """

    layout: str
    cases: tuple[Case, ...]
    unlabelled: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()


def find_cases(data: str | Path) -> Listing:
    """Return the training cases of a folder or of a MONAI data list.

    Args:
        data: a folder in one of the layouts of :data:`LAYOUTS`, or the ``.json`` file of a data list.

    Raises:
        InputError: the path does not exist, or contains no pairs of scans and references.
    """
    data = Path(data).expanduser()
    if not data.exists():
        raise InputError(f"{str(data)!r} does not exist: give {LAYOUTS}")
    if data.is_file():
        return _data_list(data)
    for find in (_mended, _folder_pair, _suffixed, _slicer):
        listing = find(data)
        if listing is not None:
            return _without_doubles(listing)
    raise InputError(f"folder {str(data)!r} holds no pairs of scans and references: expected {LAYOUTS}")


def _mended(data: Path) -> Listing | None:
    """List the mended results below a folder; results that were not mended hold nothing to learn from."""
    reports = sorted(path for name in REPORTS for path in data.rglob(name))
    found = {path.parent: provenance for path in reports if (provenance := _provenance(path)) is not None}
    if not found:
        return None
    cases, problems, mended = [], [], 0
    for folder, provenance in found.items():
        if not provenance.mended:
            continue
        mended += 1
        label = next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)
        scan = provenance.input
        if label is None:
            problems.append(f"'{folder}' has neither {' nor '.join(LABEL_FILES)}: write it again with --format labels")
        elif scan is None or not scan.path or not Path(scan.path).exists() or scan.frame is not None:
            problems.append(f"the scan of '{folder}' is not there as a file of its own: put both into images/, labels/")
        else:
            cases.append(Case(safe_name(folder.name), Path(scan.path), label, scan.modality, facts=scan))
    if not mended:
        raise InputError(f"none of the {len(found)} results in {str(data)!r} was mended: use heartseg refine first")
    others = f" ({len(found) - mended} not mended, left out)" * (mended < len(found))
    return Listing(f"mended results{others}", tuple(cases), (), tuple(problems))


def _provenance(path: Path) -> Provenance | None:
    """The provenance in a report; ``None`` for any other file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Provenance.from_dict(content["provenance"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _folder_pair(data: Path) -> Listing | None:
    """List scans in one folder and references with the same names in another."""
    found = next(((data / i, data / m) for i, m in FOLDER_PAIRS if (data / i).is_dir() and (data / m).is_dir()), None)
    if found is None:
        return None
    images = {_case_name(p, nnunet=True): p for p in _files(found[0])}
    labels = {_case_name(p, nnunet=False): p for p in _files(found[1])}
    listing = _paired(f"folders {found[0].name}/ and {found[1].name}/", images, labels)
    made = _translated(data / TRANSLATED)
    cases = tuple(
        replace(c, translated=True, train_only=True) if stem_of(c.image) in made else c for c in listing.cases
    )
    return replace(listing, cases=cases)


def _translated(record: Path) -> frozenset[str]:
    """Return the names in the record of ``heartseg translate join``; none without a record."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError) as error:
        raise InputError(f"'{record}' cannot be read ({error}): mend it, or remove it and the cases it names") from None
    return frozenset(content)


def find_unlabelled(folder: Path) -> dict[str, Path]:
    """Return name -> scan, for all images below a folder.

    Raises:
        InputError: the folder does not exist or contains no images, or an image is a label map according to its name.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"folder {str(folder)!r} for --unlabelled does not exist: give a folder of scans")
    found: dict[str, Path] = {}
    for path in _files(folder, deep=True):
        words = (*path.relative_to(folder).parent.parts, stem_of(path))
        if path.name.lower().endswith(".seg.nrrd") or any(_LABEL_MAP.search(word) for word in words):
            raise InputError(f"{str(path)!r} looks like a label map: --unlabelled wants a folder of scans alone")
        name = safe_name("_".join(path.relative_to(folder).with_name(stem_of(path)).parts))
        if name in found:
            raise InputError(f"{str(found[name])!r} and {str(path)!r} would both be {name!r}: rename one")
        found[name] = path
    if not found:
        raise InputError(f"folder {str(folder)!r} for --unlabelled holds no scans")
    return found


def _case_name(path: Path, nnunet: bool) -> str:
    """Return the name without suffix, and without nnU-Net's channel number for scans."""
    name = stem_of(path)
    return re.sub(r"_0000$", "", name) if nnunet else re.sub(r"_(labels?|seg)$", "", name, flags=re.IGNORECASE)


def _suffixed(data: Path) -> Listing | None:
    """List pairs of ``NAME_image`` and ``NAME_label`` at any depth, the naming of MM-WHS."""
    images, labels = (
        {_before(p, word): p for p in _files(data, deep=True) if _before(p, word)} for word in ("image", "label")
    )
    if not images:
        return None
    layout = "MM-WHS" if all(_MMWHS.fullmatch(Path(name).name) for name in images) else "NAME_image and NAME_label"
    return _paired(layout, images, labels)


def _before(path: Path, word: str) -> str:
    stem = stem_of(path)
    ending = f"_{word}"
    return str(path.with_name(stem[: -len(ending)])) if stem.lower().endswith(ending) else ""


def _slicer(data: Path) -> Listing | None:
    """List scans next to ``.seg.nrrd`` files whose name starts with that of the scan."""
    files = _files(data, deep=True)
    segmentations = [p for p in files if p.name.lower().endswith(".seg.nrrd")]
    if not segmentations:
        return None
    scans = {str(p.with_name(stem_of(p))): p for p in files if p not in segmentations}
    labels = {}
    for path in segmentations:
        name = stem_of(path)
        while str(path.with_name(name)) not in scans and (shorter := _SEGMENTATION_ENDING.sub("", name)) != name:
            name = shorter
        labels[str(path.with_name(name))] = path
    return _paired("Slicer segmentations", scans, labels)


def _paired(layout: str, images: Mapping[str, Path], labels: Mapping[str, Path]) -> Listing:
    """Pair scans and references by key; a leftover is a problem, or an unlabelled scan if its name says so."""
    cases, unlabelled, problems = [], [], []
    for key, image in sorted(images.items()):
        if key in labels:
            cases.append(Case(safe_name(Path(key).name), image, labels[key], _modality(image)))
        elif (mark := _MMWHS.match(image.name)) and mark[2].lower() == "test":
            unlabelled.append(image)
        else:
            problems.append(f"{str(image)!r} has no reference: add its label map, or remove the scan")
    for key in sorted(set(labels) - set(images)):
        problems.append(f"{str(labels[key])!r} has no scan of its name: add the scan, or remove the label map")
    return Listing(layout, tuple(cases), tuple(unlabelled), tuple(problems))


def _data_list(path: Path) -> Listing:
    """Read a MONAI data list: ``{"training": [{"image": ..., "label": ..., "fold": 0}, ...]}``, paths relative to it.

    https://docs.monai.io/en/stable/data.html (``load_decathlon_datalist``); ``fold`` is used as in Auto3DSeg. Our own
    ``"train_only": true`` marks a case that no fold holds out.
    """
    if path.suffix.lower() != ".json":
        raise InputError(f"{str(path)!r} is a single file: give {LAYOUTS}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} is not a MONAI data list ({error}): give {LAYOUTS}") from None
    entries = content.get("training") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f"{str(path)!r} has no list 'training': a MONAI data list holds "
            '{"training": [{"image": "a.nii.gz", "label": "a_label.nii.gz"}]}'
        )
    cases, problems = [], []
    for number, entry in enumerate(entries):
        try:
            cases.append(_entry(entry, path.parent))
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"entry {number} of 'training' in {path.name!r} is {str(entry)[:80]}: {error}")
    test = content.get("testing", content.get("test", []))
    unlabelled = tuple(path.parent / _path(t["image"] if isinstance(t, dict) else t) for t in test or [])
    return _without_doubles(Listing("MONAI data list", tuple(cases), unlabelled, tuple(problems)))


def _entry(entry: Any, home: Path) -> Case:
    if not isinstance(entry, dict) or "image" not in entry or "label" not in entry:
        raise ValueError("it needs 'image' and 'label'")
    image, label = (home / _path(entry[key]) for key in ("image", "label"))
    fold, train_only = entry.get("fold"), entry.get("train_only", False)
    if train_only not in (False, True) or (train_only and fold is not None):
        raise ValueError("'train_only' is true or false, and a case that is held out in a fold has none")
    return Case(
        safe_name(stem_of(image)),
        image,
        label,
        _modality(image),
        None if fold is None else int(fold),
        train_only=bool(train_only),
    )


def _path(value: Any) -> str:
    if isinstance(value, list):
        if len(value) != 1:
            raise ValueError(f"{len(value)} images a case: HeartSeg trains on one")
        value = value[0]
    if not isinstance(value, str):
        raise TypeError("a path is a text")
    return value


def _without_doubles(listing: Listing) -> Listing:
    """Sort the cases by name, and make names unique: of scans with one name, the second gets its folder as prefix."""
    names: dict[str, Case] = {}
    for case in listing.cases:
        name = case.name if case.name not in names else safe_name(f"{case.image.parent.name}_{case.name}")
        if name in names:
            raise InputError(
                f"{str(names[name].image)!r} and {str(case.image)!r} would both be case {name!r}: rename one"
            )
        names[name] = replace(case, name=name)
    return replace(listing, cases=tuple(names[name] for name in sorted(names)))


def safe_name(name: str) -> str:
    """Return the name of a case in a form allowed in nnU-Net file names."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._-") or "case"


def _modality(image: Path) -> str:
    mark = _MMWHS.match(image.name)
    return mark[1].upper() if mark else ""


def _files(folder: Path, deep: bool = False) -> list[Path]:
    """List image files, without hidden files."""
    entries: Iterable[Path] = folder.rglob("*") if deep else folder.iterdir()
    try:
        return sorted(p for p in entries if not p.name.startswith(".") and image_suffix(p) and p.is_file())
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be read: {error.strerror or error}") from error
