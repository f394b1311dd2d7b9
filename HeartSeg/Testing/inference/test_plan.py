"""The plan of a run (mode, grids, tiles, passes, cost), and that the engine follows it."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg import Settings, Volume
from heartseg.inference.engine import Engine
from heartseg.inference.plan import WORK_BYTES, RunPlan, Way, choose_way, plan_run
from heartseg.inference.test_time import AUGMENTATIONS
from heartseg.models.cost import tile_cost
from heartseg.models.folder import ModelFolder
from heartseg.progress import Reporter
from heartseg.volume import Geometry
from tiny_models import make_tiny_model_folder, write_card

CHEST = Geometry((100, 120, 140), (3.0, 2.0, 2.5), (-150.0, -200.0, -100.0))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 1.5 mm and 32 voxels with a finder of 6 mm."""
    path = make_tiny_model_folder(
        tmp_path_factory.mktemp("plan") / "tiny", labels=("LV", "RV"), patch=(32, 32, 32), spacing=(1.5,) * 3
    )
    make_tiny_model_folder(path / "finder", labels=("LV",), patch=(24, 24, 24), spacing=(6.0,) * 3)
    write_card(path, ("LV", "RV"), finder="finder", margin_mm=6.0, normalization_extent="crop")
    return path


@pytest.fixture(scope="module")
def model(path: Path) -> ModelFolder:
    return ModelFolder.open(path)


@pytest.fixture(scope="module")
def bare(path: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The same folder without a card."""
    copy = tmp_path_factory.mktemp("bare") / "tiny"
    shutil.copytree(path, copy)
    (copy / "heartseg.json").unlink()
    shutil.rmtree(copy / "finder")
    return ModelFolder.open(copy)


def plan(model: ModelFolder, geometry: Geometry = CHEST, axes: tuple[int, ...] | None = (), **settings: Any) -> RunPlan:
    return plan_run(model, model.open_finder(), Settings(**settings), geometry, axes)


def test_settings_and_folder_decide_the_way(model: ModelFolder, bare: ModelFolder) -> None:
    assert choose_way(model, Settings()) is Way.AROUND_HEART
    assert choose_way(model, Settings(heart_center=(0.0, 0.0, 0.0))) is Way.GIVEN_CENTER
    assert choose_way(model, Settings(locate=False)) is Way.WHOLE_SCAN
    assert choose_way(model, Settings(reorient=False)) is Way.STORED_AXES
    assert choose_way(bare, Settings()) is Way.STORED_AXES
    without = replace(model, card=replace(model.card, finder=None))
    assert choose_way(without, Settings()) is Way.WHOLE_SCAN


def test_around_the_heart_the_finder_covers_the_scan_and_the_fine_network_one_patch(model: ModelFolder) -> None:
    planned = plan(model)
    # 250 x 240 x 420 mm (z, y, x); voxel centres lie on multiples of 6 mm
    assert planned.finder.shape == planned.sampling_grid.shape
    assert all(abs(n - mm / 6) <= 1 for n, mm in zip(planned.finder.shape, (250, 240, 420), strict=True))
    assert planned.finder.tiles == math.prod(math.ceil((n - 24) / 12) + 1 for n in planned.finder.shape)
    assert (planned.fine.shape, planned.fine.tiles, planned.fine.passes) == ((32, 32, 32), 1, 1)
    coarse, fine = tile_cost(model.open_finder()), tile_cost(model)
    assert planned.gflop == pytest.approx(fine.gflop + planned.finder.tiles * coarse.gflop)
    assert planned.memory_bytes == 0


def test_accurate_multiplies_windows_or_mirrored_copies(model: ModelFolder, bare: ModelFolder) -> None:
    around = plan(model, accurate=True)
    assert (around.windows, around.mirrored_copies, around.fine.passes) == (1 + len(AUGMENTATIONS), 1, 7)
    whole = plan(bare, axes=(0, 2), accurate=True)
    assert (whole.windows, whole.mirrored_copies, whole.fine.passes) == (1, 4, 4)
    assert plan(bare, axes=None, accurate=True).mirrored_copies == 8  # unknown before reading: the maximum
    assert plan(bare, axes=(0, 2)).mirrored_copies == 1


def test_a_given_centre_is_one_patch_on_the_networks_lattice(model: ModelFolder) -> None:
    planned = plan(model, heart_center=(10.0, -20.0, 30.0))
    assert planned.grid.shape == (32, 32, 32)
    assert np.abs(planned.grid.center() - (10.0, -20.0, 30.0)).max() <= 0.75
    assert np.allclose(np.array(planned.grid.origin) / 1.5, np.rint(np.array(planned.grid.origin) / 1.5))
    assert planned.finder is None


def test_a_whole_image_is_tiled_at_the_networks_spacing(model: ModelFolder, bare: ModelFolder) -> None:
    stored = plan(bare, tile_step=1.0)
    assert stored.fine.shape == (167, 160, 280)
    assert stored.fine.tiles == 6 * 5 * 9
    assert stored.grid is None
    assert stored.memory_bytes == 167 * 160 * 280 * 4 * (3 + 3) + WORK_BYTES
    turned = Geometry((140, 120, 100), (2.5, 2.0, 3.0), (0.0, 0.0, 0.0), (0.0, 0, 1, 0, 1, 0, 1, 0, 0))
    upright = plan(model, turned, locate=False)
    assert upright.fine.shape == upright.grid.shape
    assert all(abs(n - mm / 1.5) <= 1 for n, mm in zip(upright.fine.shape, (250, 240, 420), strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {"heart_center": (-60.0, -60.0, -30.0)},
        {"locate": False},
        {"locate": False, "accurate": True},
        {"reorient": False},
    ],
)
def test_the_engine_runs_as_many_tiles_as_the_plan_says(model: ModelFolder, settings: dict[str, Any]) -> None:
    shape = (44, 40, 52)
    array = np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)
    volume = Volume(array, Geometry(shape, (1.5,) * 3, (-100.0, -100.0, -60.0)), modality="MR")
    engine = Engine(model, Settings(device="cpu", **settings))
    calls = []
    engine._fine._ready["cpu"] = [lambda batch: calls.append(1) or np.repeat(batch, 3, 1)]
    prediction = engine.predict(volume, Reporter())
    planned = engine.plan(volume.geometry)
    assert len(calls) == planned.fine.tiles * planned.mirrored_copies
    assert prediction.run.mirrored_copies == planned.mirrored_copies
