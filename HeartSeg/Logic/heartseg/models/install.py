"""Atomic installation of models: staged, checked and loaded before the model is moved into place."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import ModelError, writing
from ..hashes import sha256_of
from ..progress import Reporter
from ..wording import _
from .archive import CHUNK, unpack
from .card import CARD_NAME, ModelCard
from .checkpoint import load_checkpoint, verify_hash
from .folder import ModelFolder
from .graph import load_installed
from .labels import LabelMap
from .store import ELSEWHERE, list_models, model_paths, shipped_folders, user_folder

ORIGIN = "nnU-Net v2 folder without a card"
HASHED_HERE = "hashes_from"
"""Card key that marks hashes computed on installation rather than by the publisher."""

EXTRAS = ("README*", "LICENSE*", "LICENCE*", "NOTICE*", "*.md", "*.png", "*.jpg", "*.svg")
"""Documentation files next to ``plans.json`` that are installed with the model."""

_STAGING, _REPLACED = ".installing-", ".replaced-"
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def install_model(
    source: str | Path,
    name: str | None = None,
    label_map: LabelMap | None = None,
    overwrite: bool = False,
    store: str | Path | None = None,
    reporter: Reporter | None = None,
) -> ModelFolder:
    """Install a model into the user's folder.

    The model is copied to a hidden folder of the store, its hashes are verified, and its weights are loaded into the
    network once before it is moved into place. A failed or cancelled installation leaves no files behind and an
    existing model unchanged.

    Args:
        source: an nnU-Net v2 model folder; or a folder or .zip file that contains exactly one, at any depth.
        name: name of the installed model; by default that of the card, else that of the source.
        label_map: label value in the model -> structure key; stored in the installed card.
        overwrite: replace a model of the same name.
        store: folder to install into instead of the user's model folder.
        reporter: progress and cancellation.

    Returns:
        The installed model. A model without a card gets one with its labels and hashes, and orientation ``None``.

    Raises:
        ModelError: the model is unsafe, incomplete, damaged or has no known labels; or the name is taken or invalid.
        OutputError: the store cannot be written.
    """
    source = Path(source).expanduser()
    if not source.exists():
        raise ModelError(_("'{source}' does not exist: choose a model folder or a .zip file").format(source=source))
    into = Path(store).expanduser() if store is not None else user_folder()
    reporter = reporter or Reporter()
    if name is not None:
        _check_name(name)
    with writing(into, elsewhere=ELSEWHERE), _staging(into) as stage:
        unpacked = source
        if source.is_file():
            unpacked = stage / "unpacked"
            unpacked.mkdir()
            unpack(source, unpacked, reporter)
        original = ModelFolder.open(_only_model_inside(unpacked, source), label_map)
        name = name or _name_for(original, source)
        _check_name(name)
        _check_free(name, into, overwrite)
        staged = stage / "model"
        _gather(original, staged, reporter)
        _complete_card(original, staged, name, label_map, reporter)
        model = ModelFolder.open(staged)
        model.structure_lut()
        _load_once(model)
        reporter.check()
        _move_into_place(staged, into / name, stage)
    return ModelFolder.open(into / name)


def set_labels(name: str, label_map: LabelMap) -> ModelFolder:
    """Replace the label map of an installed model; omitted labels become background.

    Raises:
        ModelError: the user's folder has no such model, or a label or structure is unknown.
        OutputError: the card cannot be written; it is unchanged.
    """
    store = user_folder()
    path = model_paths().get(name)
    if path is None or store.resolve() not in path.resolve().parents:
        raise ModelError(
            _("model '{name}' is not in '{store}' and cannot be changed: install a copy under another name").format(
                name=name, store=store
            )
        )
    model = ModelFolder.open(path, label_map)
    model.structure_lut()
    card = model.card or ModelCard(
        name=name, version="unknown", description=f"Origin: {ORIGIN}.", configuration=model.configuration
    )
    with writing(store, elsewhere=ELSEWHERE):
        draft = path / f".{CARD_NAME}.new"
        try:
            replace(card, labels=dict(model.structures)).write(draft).replace(path / CARD_NAME)
        finally:
            draft.unlink(missing_ok=True)
    return ModelFolder.open(path)


def remove_model(name: str) -> Path:
    """Delete a model from the user's folder; return the deleted path.

    Raises:
        ModelError: there is no such model, or it is part of HeartSeg.
    """
    store = user_folder()
    own = {p.name: p for p in store.iterdir() if p.is_dir() and p.name[0] != "."} if store.is_dir() else {}
    if name not in own:
        shipped = [m for m in list_models() if m.name == name and m.shipped]
        if shipped:
            raise ModelError(
                _(
                    "model '{name}' is part of HeartSeg ('{path}') and cannot be removed: choose a model in '{store}'"
                ).format(name=name, path=shipped[0].path, store=store)
            )
        there = f"choose one of {', '.join(sorted(own))}" if own else "no model is installed there"
        raise ModelError(_("model '{name}' is not in '{store}': {there}").format(name=name, store=store, there=there))
    with writing(store, elsewhere=ELSEWHERE):
        if own[name].is_symlink():
            own[name].unlink()
        else:
            doomed = store / f"{_STAGING}{secrets.token_hex(4)}"
            own[name].replace(doomed)
            shutil.rmtree(doomed)
    return own[name]


def _only_model_inside(path: Path, source: Path) -> Path:
    """Return the only folder with ``plans.json`` in ``path``, not counting finders inside a model."""
    if (path / "plans.json").is_file() or not path.is_dir():
        return path
    found: list[Path] = []
    for plans in sorted(path.rglob("plans.json"), key=lambda p: (len(p.parts), p)):
        if not any(outer in plans.parents for outer in found):
            found.append(plans.parent)
    if len(found) > 1:
        names = ", ".join(str(p.relative_to(path)) for p in found[:10])
        raise ModelError(
            _("'{name}' contains {count} models: install one of {names}").format(
                name=source.name, count=len(found), names=names
            )
        )
    return found[0] if found else path


def _name_for(model: ModelFolder, source: Path) -> str:
    if model.card:
        return model.card.name
    plain = source.stem if source.is_file() else source.resolve().name
    if plain.startswith("nnUNetTrainer") and source.is_dir() and source.resolve().parent.name:
        plain = source.resolve().parent.name  # .../Dataset001_Heart/nnUNetTrainer__nnUNetPlans__3d_fullres
    return re.sub(r"[^\w.+-]+", "-", plain).strip("-. ") or "model"


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[^\W_][\w.+ -]{0,78}[\w+-]|[^\W_]", name) or _RESERVED.match(name):
        raise ModelError(
            _(
                "model name '{name:.80}' is not a portable folder name: use up to 80 letters, digits, '-', "
                "'_', '+', '.' and spaces, beginning with a letter or digit"
            ).format(name=name)
        )


def _check_free(name: str, into: Path, overwrite: bool) -> None:
    shipped = {p.resolve() for p in shipped_folders()}
    taken = model_paths().get(name)
    if into.resolve() == user_folder().resolve() and taken is not None and shipped & set(taken.resolve().parents):
        raise ModelError(
            _("model name '{name}' is used by a model of HeartSeg: choose another name with --name").format(name=name)
        )
    if (into / name).exists() and not overwrite:
        raise ModelError(
            _(
                "model '{name}' already exists in '{into}': replace it with --overwrite or choose another "
                "name with --name"
            ).format(name=name, into=into)
        )


def _needed_files(model: ModelFolder) -> list[Path]:
    """Files to install, relative to the model folder: for prediction, listed in the card, and documentation."""
    files = [Path("plans.json"), Path("dataset.json"), *(c.relative_to(model.path) for c in model.checkpoints)]
    if model.card:
        files += [Path(CARD_NAME), *(Path(f) for f in model.card.files)]
    for pattern in EXTRAS:
        files += [p.relative_to(model.path) for p in sorted(model.path.glob(pattern)) if p.is_file()]
    finder = model.open_finder()
    if finder is not None:
        base = finder.path.relative_to(model.path)
        files += [base / f for f in _needed_files(finder)]
    return list(dict.fromkeys(files))


def _gather(model: ModelFolder, staged: Path, reporter: Reporter) -> None:
    """Copy the needed files and verify the hashes of the card on the copies."""
    files = _needed_files(model)
    for relative in files:
        if not (model.path / relative).is_file():
            raise ModelError(
                _("'{file}', listed in the card, is missing in '{path}': copy the model again").format(
                    file=relative.as_posix(), path=model.path
                )
            )
    with reporter.stage("copy", sum((model.path / f).stat().st_size for f in files)):
        done = 0
        for relative in files:
            (staged / relative).parent.mkdir(parents=True, exist_ok=True)
            with (model.path / relative).open("rb") as origin, (staged / relative).open("xb") as copy:
                while piece := origin.read(CHUNK):
                    copy.write(piece)
                    done += len(piece)
                    reporter.advance(done)
    for relative_name, expected in (model.card.files if model.card else {}).items():
        reporter.check()
        verify_hash(staged / relative_name, expected)


def _complete_card(
    original: ModelFolder, staged: Path, name: str, label_map: LabelMap | None, reporter: Reporter
) -> None:
    """Write a card with labels, configuration and all hashes, so that folder names are no longer needed."""
    card = original.card or ModelCard(
        name=name, version="unknown", description=f"Origin: {ORIGIN}.", orientation=None, extra={"origin": ORIGIN}
    )
    hashes, extra = dict(card.files), dict(card.extra)
    if any(original.sha256(file) is None for file in original.checkpoints):
        extra[HASHED_HERE] = "installation"
    for file in sorted(p for p in staged.rglob("*") if p.is_file() and p != staged / CARD_NAME):
        reporter.check()
        relative = file.relative_to(staged).as_posix()
        if relative not in hashes:
            hashes[relative] = sha256_of(file)
    labels = card.labels if original.card and not label_map else dict(original.structures)
    replace(card, labels=labels, configuration=original.configuration, files=hashes, extra=extra).write(
        staged / CARD_NAME
    )


def _load_once(model: ModelFolder) -> None:
    """Check that the checkpoints contain weights only and, unless stock nnU-Net is needed, fit the network."""
    if model.needs_fallback is None:
        load_installed(model)
    else:
        for file in model.checkpoints:
            load_checkpoint(file, model.sha256(file))
    finder = model.open_finder()
    if finder is not None:
        _load_once(finder)


def _move_into_place(staged: Path, target: Path, stage: Path) -> None:
    """Rename into place; an existing model is kept until then and restored on failure."""
    if not target.exists():
        staged.replace(target)
        return
    old = target.with_name(f"{_REPLACED}{target.name}")
    if old.exists():
        shutil.rmtree(old)
    target.replace(old)
    try:
        staged.replace(target)
    except BaseException:
        old.replace(target)
        raise
    old.replace(stage / "old")  # removed with the staging folder


@contextlib.contextmanager
def _staging(into: Path) -> Iterator[Path]:
    """Yield a hidden folder in the store, so that the last step is a rename; it is always removed."""
    into.mkdir(parents=True, exist_ok=True)
    _recover(into)
    stage = Path(tempfile.mkdtemp(prefix=_STAGING, dir=into))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _recover(into: Path) -> None:
    """Clean up after a killed installation: restore a replaced model, remove staging folders older than a day."""
    for left in into.glob(f"{_REPLACED}*"):
        target = into / left.name.removeprefix(_REPLACED)
        if target.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.replace(target)
    for left in into.glob(f"{_STAGING}*"):
        if time.time() - left.stat().st_mtime > 86400:
            shutil.rmtree(left, ignore_errors=True)
