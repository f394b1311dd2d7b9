"""2D models in the slice-wise engine: without nnU-Net, in any orientation, with all options of 3D models."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from heartseg import Settings, Volume
from heartseg.errors import Cancelled, SettingsError
from heartseg.explain import Explainer
from heartseg.inference.engine import Engine
from heartseg.models.checking import check_model
from heartseg.models.cost import tile_cost
from heartseg.models.folder import ModelFolder
from heartseg.pipeline import Segmenter
from heartseg.preflight import Machine, check_machine, expected_seconds, look_for_heart, planned
from heartseg.progress import CancelToken, ProgressEvent, Reporter
from heartseg.volume import Geometry
from near_ties import assert_equal_but_few
from tiny_models import make_tiny_model_folder, synthetic_volume, write_card
from triples import triple

CPU = Settings(device="cpu", threads=1, clean_up=False)
TILES = 4
"""Number of tiles of 32 x 32 in a slice of 42 x 47 pixels."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    path = tmp_path_factory.mktemp("model") / "nnUNetTrainer__nnUNetPlans__2d"
    make_tiny_model_folder(path, configuration="2d", mirroring_axes=(0, 1), card=True, train_steps=80)
    return ModelFolder.open(path)


@pytest.fixture(scope="module")
def volume() -> Volume:
    array, _ = synthetic_volume(3, (40, 44, 42), seed=7)
    return Volume(array, Geometry(array.shape, (1.5, 1.6, 3.0)))


@pytest.fixture(scope="module")
def labels(folder: ModelFolder, volume: Volume) -> np.ndarray:
    return Engine(folder, CPU).predict(volume, Reporter()).labels


def test_it_needs_no_nnunet_and_says_how_it_ran(
    folder: ModelFolder, volume: Volume, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    assert folder.needs_fallback is None
    found = Engine(folder, CPU).predict(volume, Reporter())
    assert np.array_equal(found.labels, labels) and set(np.unique(labels)) == {0, *folder.structure_lut()[1:]}
    assert found.run.mode == "slice by slice, LPS axes" and found.findings[0].code == "slice-by-slice"
    assert found.run.network_grid[0] == volume.array.shape[0], "the distance of slices is left as it is"


def test_it_finds_what_is_there(volume: Volume, labels: np.ndarray, folder: ModelFolder) -> None:
    _, truth = synthetic_volume(3, (40, 44, 42), seed=7)
    truth = folder.structure_lut()[truth]
    for value in folder.structure_lut()[1:]:
        both = 2 * ((labels == value) & (truth == value)).sum()
        assert both / ((labels == value).sum() + (truth == value).sum()) > 0.5


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1), (0, 2, 1)])
def test_a_scan_stored_along_other_axes_has_the_same_labels(
    folder: ModelFolder, volume: Volume, labels: np.ndarray, axes: tuple[int, int, int]
) -> None:
    """If the card declares LPS, slices are reoriented to those used in training."""
    unit = np.eye(3)[::-1]  # direction of each array axis (z, y, x) in the world
    direction = np.stack([unit[k] for k in axes][::-1], 1)  # columns: x, y, z as stored
    spacing = triple([volume.geometry.spacing[::-1][k] for k in axes][::-1])
    array = np.ascontiguousarray(volume.array.transpose(axes))
    turned = Volume(array, Geometry(array.shape, spacing, (0.0, 0.0, 0.0), tuple(direction.ravel())))
    found = Engine(folder, CPU).predict(turned, Reporter()).labels
    assert_equal_but_few(found, labels.transpose(axes))
    without = Engine(folder, Settings(device="cpu", threads=1, clean_up=False, reorient=False))
    stored = without.predict(turned, Reporter())
    assert stored.run.mode == "slice by slice, stored axes" and not np.array_equal(stored.labels, found)


def test_a_cancel_between_slices_stops(folder: ModelFolder, volume: Volume) -> None:
    token = CancelToken()
    seen = []

    def stop(event: ProgressEvent) -> None:
        if event.stage == "predict":
            seen.append((event.done, event.total))
            if event.done == 5:
                token.cancel()

    with pytest.raises(Cancelled):
        Engine(folder, CPU).predict(volume, Reporter(stop, token))
    assert seen[-1][0] < 10 and seen[-1][1] == volume.array.shape[0] * TILES


def test_a_confidence_map_is_made(folder: ModelFolder, volume: Volume, labels: np.ndarray) -> None:
    found = Engine(folder, Settings(device="cpu", threads=1, confidence_map=True)).predict(volume, Reporter())
    assert found.confidence_map is not None and found.confidence_map.shape == volume.array.shape
    assert found.confidence_map[labels > 0].mean() > 50


def test_accurate_means_mirrored_slices(folder: ModelFolder, volume: Volume, labels: np.ndarray) -> None:
    found = Engine(folder, Settings(device="cpu", threads=1, accurate=True)).predict(volume, Reporter())
    assert found.run.mirrored_copies == 4 and not np.array_equal(found.labels, labels)


def test_a_centre_is_refused(folder: ModelFolder) -> None:
    with pytest.raises(SettingsError, match="heart center"):
        Engine(folder, Settings(device="cpu", heart_center=(1.0, 2.0, 3.0)))


def test_openvino_gives_the_same_labels(folder: ModelFolder, volume: Volume, labels: np.ndarray) -> None:
    pytest.importorskip("openvino")
    settings = Settings(device="cpu", threads=1, backend="openvino", precision="float32")
    found = Engine(folder, settings).predict(volume, Reporter()).labels
    assert_equal_but_few(found, labels)


def test_a_heat_map_lies_on_the_scans_grid(folder: ModelFolder, volume: Volume, labels: np.ndarray) -> None:
    found = Explainer(Segmenter(folder, CPU)).explain(volume, "LV")
    assert found.heat.shape == volume.array.shape and np.array_equal(found.labels, labels)
    assert found.heat[labels == 1].mean() > found.heat[labels == 0].mean()


def test_a_finder_beside_it_is_not_asked(folder: ModelFolder, volume: Volume, tmp_path: Path) -> None:
    """Slices are not predicted in a window; run, preflight, time and memory agree on that."""
    path = tmp_path / "with finder"
    shutil.copytree(folder.path, path)
    make_tiny_model_folder(path / "finder", features=(4, 8), patch=(24, 24, 24))
    write_card(path, ("LV", "RV", "MYO"), finder="finder", configuration="2d")
    model = ModelFolder.open(path)
    machine = Machine("cpu", None, None, 1)
    assert look_for_heart(volume, model, CPU, Reporter()) is None
    beside, alone = planned(volume, model, CPU), planned(volume, folder, CPU)
    assert expected_seconds(beside, volume, machine) == expected_seconds(alone, volume, machine)
    assert beside.memory_bytes == alone.memory_bytes > 0
    assert Engine(model, CPU).predict(volume, Reporter()).run.mode == "slice by slice, LPS axes"


def test_too_little_memory_for_the_whole_image_is_told_before_the_run(
    folder: ModelFolder, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heartseg.preflight.machine.available_memory", lambda: 10**6)
    codes = [check.code for check in check_machine(volume, folder, CPU, Machine("cpu", None, None, 1))]
    assert "memory-tight-for-model" in codes
    monkeypatch.setattr("heartseg.preflight.machine.available_memory", lambda: 10**12)
    codes = [check.code for check in check_machine(volume, folder, CPU, Machine("cpu", None, None, 1))]
    assert "memory-tight-for-model" not in codes


def test_the_model_is_checked_and_its_time_is_known(folder: ModelFolder, volume: Volume) -> None:
    codes = [finding.code for finding in check_model(folder.path)]
    assert "model-runs" in codes and "model-needs-nnunet" not in codes
    one_slice = tile_cost(folder)
    seconds = expected_seconds(planned(volume, folder, CPU), volume, Machine("cpu", None, None, 1))
    assert one_slice is not None and seconds is not None
    rate = Machine("cpu", None, None, 1).gflop_per_core
    assert seconds == pytest.approx(40 * TILES * one_slice.gflop / rate + volume.array.size * 1e-8, rel=0.01)
