"""Model folders and model cards: finding, safe loading, checking and installing."""

from __future__ import annotations

from .card import ModelCard
from .checking import check_model
from .folder import ModelFolder
from .install import install_model, remove_model
from .labels import parse_label_map
from .store import StoredModel, find_model, list_models, search_folders, user_folder

__all__ = [
    "ModelCard",
    "ModelFolder",
    "StoredModel",
    "check_model",
    "find_model",
    "install_model",
    "list_models",
    "parse_label_map",
    "remove_model",
    "search_folders",
    "user_folder",
]
