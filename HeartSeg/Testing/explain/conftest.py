"""Tiny trained models for heat maps: unchanged from nnU-Net, and with a card, a finder and a window."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.volume import Geometry, Volume
from tiny_models import make_tiny_model_folder, synthetic_volume, write_card

LABELS = ("LV", "RV", "MYO")
SPACING = 4.0
SHAPE = (40, 40, 40)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks are slower with many threads than with one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def bare_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as written by nnU-Net: runs in stored axes, on the whole image, in tiles."""
    return make_tiny_model_folder(
        tmp_path_factory.mktemp("models") / "nnUNetTrainer__nnUNetPlans__3d_fullres",
        train_steps=40,
        features=(4, 8),
        patch=(24, 24, 24),
        spacing=(SPACING,) * 3,
        full_checkpoint=False,
    )


@pytest.fixture(scope="session")
def window_model(bare_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as finder and as fine network, which uses a window around the heart."""
    path = tmp_path_factory.mktemp("models") / "window"
    shutil.copytree(bare_model, path)
    shutil.copytree(bare_model, path / "finder")
    write_card(path / "finder", LABELS, "Tiny finder")
    write_card(path, LABELS, "Tiny with a window", finder="finder", margin_mm=8.0)
    return path


def scan(array: np.ndarray | None = None, direction: tuple[float, ...] | None = None) -> Volume:
    """Ellipsoids in a cube of 160 mm that neither begins at the origin nor is centred on it."""
    array = synthetic_volume(len(LABELS), SHAPE, 5)[0] if array is None else array
    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    grid = Geometry(array.shape, (SPACING,) * 3, (-80.0, 12.0, 300.0), direction or identity)
    return Volume(array.astype(np.int16), grid, "ellipsoids")


@pytest.fixture(scope="session")
def volume() -> Volume:
    return scan()


def change_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
