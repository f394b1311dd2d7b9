"""A tiny model and copies of it for the tests to modify; the user's model folder is a temporary folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny_models import MODEL_FOLDER_NAME, make_tiny_model_folder


@pytest.fixture(autouse=True)
def user_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's model folder, which does not exist yet, without shipped models."""
    folder = tmp_path / "user-models"
    monkeypatch.setenv("HEARTSEG_MODELS", str(folder))
    monkeypatch.setattr("heartseg.models.store._PACKAGE", tmp_path / "module" / "Logic" / "heartseg")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny networks run fastest on one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def _cardless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model_folder(tmp_path_factory.mktemp("tiny") / MODEL_FOLDER_NAME)


@pytest.fixture(scope="session")
def _carded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model_folder(tmp_path_factory.mktemp("tiny") / MODEL_FOLDER_NAME, card=True, full_checkpoint=False)


@pytest.fixture
def cardless(tmp_path: Path, _cardless: Path) -> Path:
    """A folder as nnU-Net writes it, with labels LV, RV, MYO."""
    return Path(shutil.copytree(_cardless, tmp_path / "Dataset900_Tiny" / MODEL_FOLDER_NAME))


@pytest.fixture
def carded(tmp_path: Path, _carded: Path) -> Path:
    """The same model with a card named ``Tiny``, hashes and a reduced checkpoint."""
    return Path(shutil.copytree(_carded, tmp_path / "carded" / MODEL_FOLDER_NAME))
