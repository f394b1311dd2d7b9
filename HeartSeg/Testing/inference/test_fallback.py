"""Model folders that require nnU-Net: run by its predictor if installed, otherwise refused with the command."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from heartseg import Settings, Volume
from heartseg.errors import DependencyError
from heartseg.inference.engine import Engine
from heartseg.models.folder import ModelFolder
from heartseg.progress import Reporter
from heartseg.volume import Geometry
from tiny_models import make_tiny_model_folder, synthetic_volume

REGIONS = {"labels": {"background": 0, "MYO": [1, 2], "LV": [2]}, "regions_class_order": [5, 1]}


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    """A model trained on regions has one sigmoid output per region and no background channel."""
    path = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    make_tiny_model_folder(path, labels=("LV",), dataset_changes=REGIONS)
    return ModelFolder.open(path, label_map={5: "MYO", 1: "LV"})


@pytest.fixture
def volume() -> Volume:
    array, _ = synthetic_volume(2, (40, 40, 40), seed=3)
    return Volume(array, Geometry(array.shape, (1.5, 1.5, 1.5)))


def test_a_region_model_is_run_by_nnunet_and_says_so(folder: ModelFolder, volume: Volume) -> None:
    assert "region" in str(folder.needs_fallback)
    reporter = Reporter()
    prediction = Engine(folder, Settings(device="cpu")).predict(volume, reporter)
    assert prediction.labels.shape == volume.array.shape
    assert set(np.unique(prediction.labels)) <= {0, 1, 5}
    assert prediction.findings[0].code == "nnunet-fallback"
    assert any("nnU-Net" in text for text in reporter.announcements)


def test_accurate_means_nnunets_mirrored_copies(folder: ModelFolder, volume: Volume) -> None:
    plain = Engine(folder, Settings(device="cpu")).predict(volume, Reporter())
    accurate = Engine(folder, Settings(device="cpu", accurate=True)).predict(volume, Reporter())
    counts = [(p.run.accurate, p.run.windows, p.run.mirrored_copies) for p in (plain, accurate)]
    assert counts == [(False, 1, 1), (True, 1, 8)]
    assert not np.array_equal(plain.labels, accurate.labels)


def test_without_nnunet_the_message_gives_the_command(
    folder: ModelFolder, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    with pytest.raises(DependencyError, match=r"pip install .*heartseg\[train\]"):
        Engine(folder, Settings(device="cpu")).predict(volume, Reporter())
