"""Small MR and CT scans of phantoms, and a model trained on them once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.translation.presets import REFERENCE, Settings
from heartseg.translation.trainer import Trainer, train
from heartseg.volume import Geometry, Volume, write_labels, write_volume
from phantoms import BLOOD_HU, FAT_HU, LUNG_HU, MYOCARDIUM_HU, heart_phantom

TINY = replace(
    REFERENCE,
    blocks=1,
    filters=6,
    critic_filters=4,
    learning_rate=2e-3,
    epochs=2,
    constant_epochs=1,
    steps=120,
    patch=32,
    spacing=5.0,
    pool=4,
    ema=0.9,
)
"""Settings that allow learning the phantom scans in seconds."""
MR_SIGNAL = {BLOOD_HU: 900.0, MYOCARDIUM_HU: 300.0, FAT_HU: 650.0, LUNG_HU: 20.0}
"""Signal of the phantom's tissues in MR: fat is bright, unlike in CT."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """With one thread, training is bitwise reproducible, and fastest on a shared machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scan(modality: str, seed: int, **grid: Any) -> tuple[Volume, np.ndarray]:
    """Return a phantom as CT (HU) or MR (bright fat, arbitrary units), and its labels."""
    grid = {"spacing_mm": (5.0, 5.0, 12.0), **grid}
    labels, geometry, hu = heart_phantom(noise_hu=0.0, **grid)
    rng = np.random.default_rng(seed)
    if modality == "MR":
        tissue = np.array(list(MR_SIGNAL))
        nearest = np.abs(hu[..., None] - tissue).argmin(-1)
        image = np.array(list(MR_SIGNAL.values()))[nearest] * rng.uniform(0.8, 1.2)
        image = np.abs(image + rng.normal(0, 15, image.shape))
    else:
        image = hu + rng.normal(0, 15, hu.shape)
    return Volume(image.astype(np.float32), geometry, f"{modality.lower()}{seed}"), labels


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Three unpaired scans of each modality, in folders named after the modality; labels of the MR in ``labels``."""
    folder = tmp_path_factory.mktemp("scans")
    files: dict[str, list[Path]] = {}
    for modality in ("MR", "CT"):
        (folder / modality).mkdir()
        for seed in range(3):
            volume, labels = scan(modality, seed + 10 * (modality == "CT"))
            files.setdefault(modality, []).append(
                write_volume(volume, folder / modality / f"{volume.name}_image.nii.gz")
            )
            if modality == "MR":
                (folder / "labels").mkdir(exist_ok=True)
                write_labels(labels, volume.geometry, folder / "labels" / f"{volume.name}_label.nii.gz")
    return files


@pytest.fixture(scope="session")
def trained(scans: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of 120 steps on the phantoms."""
    out = tmp_path_factory.mktemp("run")
    assert train(scans["MR"], scans["CT"], out, TINY, device="cpu", sheet_every=60)
    return out


@pytest.fixture
def new_trainer(trained: Path, scans: dict[str, list[Path]], tmp_path: Path) -> Callable[..., Trainer]:
    """Return a function that makes trainers on the slices kept by the trained run."""
    from heartseg.progress import Reporter
    from heartseg.translation.slices import prepare

    def make(out: Path = tmp_path / "out", settings: Settings = TINY, **more: Any) -> Trainer:
        domains = [prepare(scans[m], m, settings, trained / "slices", Reporter()) for m in ("MR", "CT")]
        return Trainer(domains[0], domains[1], out, settings, "cpu", **more)

    return make


def oblique() -> Geometry:
    """A grid rotated by 25 degrees, whose stored axes are not in LPS order or direction."""
    c, s = float(np.cos(0.4363323)), float(np.sin(0.4363323))
    return Geometry((40, 37, 9), (5.0, 4.0, 11.0), (12.5, -30.25, 7.0), (0.0, c, -s, 0.0, s, c, 1.0, 0.0, 0.0))
