"""A tiny model, written once, and copies of it to spoil; the user's model folder is always a temporary one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tiny_models import MODEL_FOLDER_NAME, make_tiny_model_folder


@pytest.fixture(autouse=True)
def user_models(tmp_path, monkeypatch) -> Path:
    """The user's model folder: empty, not there yet; and no shipped models."""
    folder = tmp_path / "user-models"
    monkeypatch.setenv("HEARTSEG_MODELS", str(folder))
    monkeypatch.setattr("heartseg.models.store._PACKAGE", tmp_path / "module" / "Logic" / "heartseg")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Networks this small are fastest on one thread, above all beside other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def _cardless(tmp_path_factory) -> Path:
    return make_tiny_model_folder(tmp_path_factory.mktemp("tiny") / MODEL_FOLDER_NAME)


@pytest.fixture(scope="session")
def _carded(tmp_path_factory) -> Path:
    return make_tiny_model_folder(tmp_path_factory.mktemp("tiny") / MODEL_FOLDER_NAME, card=True, full_checkpoint=False)


@pytest.fixture
def cardless(tmp_path, _cardless) -> Path:
    """A folder straight out of nnU-Net, with labels LV, RV, MYO."""
    return Path(shutil.copytree(_cardless, tmp_path / "Dataset900_Tiny" / MODEL_FOLDER_NAME))


@pytest.fixture
def carded(tmp_path, _carded) -> Path:
    """The same with a card named ``Tiny`` and hashes, its checkpoint stripped."""
    return Path(shutil.copytree(_carded, tmp_path / "carded" / MODEL_FOLDER_NAME))
