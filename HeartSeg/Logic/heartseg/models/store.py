"""Search for models: in the package, next to the Slicer module, in the repository, in the user's folder."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..wording import _
from .card import CARD_NAME, ModelCard
from .folder import ModelFolder, locate
from .labels import LabelMap

DEFAULT_MODEL = "HeartSeg-Default"
HOW_TO_INSTALL = "heartseg models install FOLDER_OR_ZIP"
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class StoredModel:
    """A model in one of the search folders.

    Attributes:
        name: name of its subfolder in the search folder; identifies the model.
        path: the folder with ``plans.json``.
        shipped: whether it is part of HeartSeg and cannot be removed.
        problem: error message if it cannot be opened, else ``None``.
        folder: the opened model, or ``None``.
    """

    name: str
    path: Path
    shipped: bool
    problem: str | None
    folder: ModelFolder | None


ELSEWHERE = _("set HEARTSEG_MODELS to another folder")
"""How to keep models in another place than :func:`user_folder`, for messages."""


def user_folder() -> Path:
    """Folder for the user's models: ``HEARTSEG_MODELS``, else in the platform's folder for application data."""
    if chosen := os.environ.get("HEARTSEG_MODELS"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "HeartSeg" / "models"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "HeartSeg" / "models"
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "heartseg" / "models"


def shipped_folders() -> tuple[Path, ...]:
    """Folders for models of HeartSeg: in the package, next to ``HeartSeg.py``, at the root of the repository."""
    return (_PACKAGE / "model_store", _PACKAGE.parents[1] / "Models", _PACKAGE.parents[2] / "Models")


def search_folders() -> tuple[Path, ...]:
    """All search folders, in order; the first model with a name takes precedence."""
    return (*shipped_folders(), user_folder())


def model_paths() -> dict[str, Path]:
    """Name -> folder with ``plans.json``, in search order, without opening the models."""
    found: dict[str, Path] = {}
    for store in search_folders():
        try:
            children = sorted(store.iterdir()) if store.is_dir() else []
        except OSError:
            continue  # not readable
        for child in children:
            if child.name.startswith(".") or not child.is_dir() or child.name in found:
                continue
            try:
                found[child.name] = locate(child)
            except ModelError:
                if (child / CARD_NAME).is_file():  # an incomplete model: opening it reports what is missing
                    found[child.name] = child
    return found


def list_models() -> tuple[StoredModel, ...]:
    """All models in the search folders, including broken ones, in search order."""
    shipped = [str(store.resolve()) for store in shipped_folders()]
    models = []
    for name, path in model_paths().items():
        folder, problem = None, None
        try:
            folder = ModelFolder.open(path)
        except ModelError as error:
            problem = str(error)
        except Exception as error:  # one broken folder must not hide the others
            problem = f"'{path}' is damaged ({type(error).__name__}: {error}): copy or install the model again"
        is_shipped = any(str(path.resolve()).startswith(store + os.sep) for store in shipped)
        models.append(StoredModel(name, path, is_shipped, problem, folder))
    return tuple(models)


def find_model(name_or_path: str | Path | None = None, label_map: LabelMap | None = None) -> ModelFolder:
    """Find and open a model.

    Args:
        name_or_path: a model folder, or the name of a model in the search folders (case-insensitive);
            ``None`` selects ``HeartSeg-Default``, or else the only model.
        label_map: label value in the model -> structure key; see :meth:`ModelFolder.open`.

    Raises:
        ModelError: no model has this name; the message lists the installed models and the search folders.
    """
    if name_or_path is not None and (path := _as_path(name_or_path)) is not None:
        return ModelFolder.open(path, label_map)
    known = model_paths()
    if name_or_path is None:
        return ModelFolder.open(_default(known), label_map)
    name = str(name_or_path)
    path = known.get(name) or {n.casefold(): p for n, p in known.items()}.get(name.casefold())
    path = path or _path_by_card_name(known, name)
    if path is None:
        raise ModelError(_("model '{name}' is unknown: {overview}").format(name=name, overview=_overview(known)))
    return ModelFolder.open(path, label_map)


def _as_path(given: str | Path) -> Path | None:
    """Return ``given`` as a path, or ``None`` if it is a name."""
    path = Path(given).expanduser()
    if path.is_file():
        if path.suffix.lower() == ".zip":
            raise ModelError(
                _("'{path}' is a zip file: install it with heartseg models install '{path}'").format(path=path)
            )
        return path.parent if path.name == "plans.json" else path
    spelled_as_path = isinstance(given, Path) or "/" in given or os.sep in given
    return path if spelled_as_path or (path.is_dir() and str(given) not in model_paths()) else None


def _default(known: dict[str, Path]) -> Path:
    if DEFAULT_MODEL in known:
        return known[DEFAULT_MODEL]
    if len(known) == 1:
        return next(iter(known.values()))
    if not known:
        raise ModelError(
            _("no model is installed (searched: {searched}): {advice}").format(
                searched=_searched(), advice=HOW_TO_INSTALL
            )
        )
    raise ModelError(
        _("{count} models are installed, but not {name}: choose one of {known}").format(
            count=len(known), name=DEFAULT_MODEL, known=", ".join(known)
        )
    )


def _path_by_card_name(known: dict[str, Path], name: str) -> Path | None:
    for path in known.values():
        try:
            if ModelCard.read(path).name.casefold() == name.casefold():
                return path
        except ModelError:
            continue
    return None


def _overview(known: dict[str, Path]) -> str:
    installed = f"choose one of {', '.join(known)}" if known else "no model is installed"
    return f"{installed} (searched: {_searched()}) or install it with {HOW_TO_INSTALL}"


def _searched() -> str:
    return ", ".join(f"'{p}'" for p in search_folders())
