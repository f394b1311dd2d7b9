"""The engine on the included sample scan: stages, cancel at each stage, model in memory, settings, findings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heartseg import STRUCTURES, Cancelled, CancelToken, Result, Segmenter, Settings, Volume
from heartseg.errors import DeviceError, InputError, SettingsError
from heartseg.inference.locate import MINIMUM_HEART_ML, choose_heart
from heartseg.progress import ProgressEvent, Reporter
from heartseg.volume import Geometry
from near_ties import assert_equal_but_few
from tiny_models import make_tiny_model_folder
from triples import triple


def test_the_sample_gives_every_structure(result: Result) -> None:
    for s in STRUCTURES:
        assert (result.labels == s.label).any(), s.name


def test_the_sample_agrees_with_its_true_labels(result: Result, sample_scan: Path) -> None:
    import SimpleITK as sitk

    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(sample_scan).replace(".nii.gz", "-labels.nii.gz")))
    for s in STRUCTURES:
        a, b = result.labels == s.label, truth == s.label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.6, s.name


def test_provenance_tells_how_it_was_made(result: Result, sample_scan: Path) -> None:
    from heartseg.hashes import sha256_of

    p = result.provenance
    assert p.input.sha256 == sha256_of(sample_scan)
    assert p.model.name == "HeartSeg-Default"
    assert all(len(h) == 64 for h in p.model.checkpoints.values())
    assert p.run.device.startswith("cpu")
    assert {"locate", "predict", "resample", "clean up", "measure"} <= set(p.seconds)
    assert p.packages["torch"]


def test_stages_come_in_order_and_end_full(segmenter: Segmenter, volume: Volume) -> None:
    events: list[ProgressEvent] = []
    segmenter.segment(volume, progress=events.append)
    stages = list(dict.fromkeys(e.stage for e in events))
    main = [s for s in stages if s in ("locate", "predict", "resample", "clean up", "measure")]
    assert main == ["locate", "predict", "resample", "clean up", "measure"]
    last = {e.stage: e for e in events}
    assert all(e.done == e.total for e in last.values())


@pytest.mark.parametrize("stage", ["sample scan", "locate", "predict", "resample", "clean up", "measure"])
def test_a_cancel_in_any_stage_stops_the_run_and_the_next_one_works(
    stage: str, segmenter: Segmenter, volume: Volume, result: Result
) -> None:
    token = CancelToken()

    def stop(event: ProgressEvent) -> None:
        if event.stage == stage:
            token.cancel()

    with pytest.raises(Cancelled):
        segmenter.segment(volume, progress=stop, cancel=token)
    assert np.array_equal(segmenter.segment(volume).labels, result.labels)


def test_the_model_is_loaded_once(
    segmenter: Segmenter, volume: Volume, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``result`` has loaded the model: no weights file is opened again."""
    import torch

    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a checkpoint was read again"))
    assert segmenter.segment(volume).heart_found


def test_the_scan_is_not_changed(segmenter: Segmenter, volume: Volume) -> None:
    before = volume.array.copy()
    segmenter.segment(volume)
    assert np.array_equal(volume.array, before)


def test_only_the_chosen_structures_come_out(default_model: Path, volume: Volume, result: Result) -> None:
    chosen = Segmenter(default_model, Settings(device="cpu", structures=("LV", "MYO"))).segment(volume)
    assert set(np.unique(chosen.labels)) == {0, 1, 5}
    assert np.array_equal(chosen.labels == 1, result.labels == 1)
    assert {m.structure for m in chosen.measures} == {"LV", "MYO"}


def test_the_whole_scan_can_be_tiled_instead(default_model: Path, volume: Volume, result: Result) -> None:
    whole = Segmenter(default_model, Settings(device="cpu", locate=False, tile_step=0.8)).segment(volume)
    a, b = whole.labels == 1, result.labels == 1
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.7


def test_a_given_centre_takes_the_place_of_the_search(default_model: Path, volume: Volume, result: Result) -> None:
    """Near the centre chosen by the finder, the same network in one tile finds the same heart."""
    found = result.provenance.run.window_center_lps
    given = Segmenter(default_model, Settings(device="cpu", heart_center=triple(found))).segment(volume)
    run = given.provenance.run
    assert "locate" not in given.provenance.seconds
    assert run.mode == "given centre"
    assert np.abs(np.array(run.window_center_lps) - found).max() <= 3.0  # one voxel of the fine grid
    for s in STRUCTURES:
        a, b = given.labels == s.label, result.labels == s.label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.8, s.name


def test_a_centre_outside_of_the_scan_is_named(default_model: Path, volume: Volume) -> None:
    with pytest.raises(InputError, match=r"heart center \(9999, 0, 0\) lies outside"):
        Segmenter(default_model, Settings(device="cpu", heart_center=(9999.0, 0.0, 0.0))).segment(volume)


@pytest.mark.parametrize("center", [(0.0, 0.0), (0.0, float("nan"), 0.0)])
def test_a_centre_that_is_no_point_is_refused(center: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="three finite numbers"):
        Settings(heart_center=center).check()  # type: ignore[arg-type]


def test_a_centre_for_a_model_in_stored_axes_is_refused(tmp_path: Path) -> None:
    bare = make_tiny_model_folder(tmp_path / "bare", card=False)
    with pytest.raises(SettingsError, match="heart center"):
        Segmenter(bare, Settings(device="cpu", heart_center=(0.0, 0.0, 0.0)))


def test_a_scan_larger_than_the_tile_is_done_in_tiles(default_model: Path, volume: Volume) -> None:
    """With voxels declared 1.35 times larger, the heart exceeds the tile, and the run reports it."""
    g = volume.geometry
    big = Volume(
        volume.array, Geometry(g.shape, triple(1.35 * s for s in g.spacing), g.origin, g.direction), "big", "CT"
    )
    found = Segmenter(default_model, Settings(device="cpu")).segment(big)
    assert "heart-tiled" in [f.code for f in found.findings]


def test_findings_come_most_serious_first(result: Result) -> None:
    ranks = [f.severity.rank for f in result.findings]
    assert ranks == sorted(ranks, reverse=True)


def test_a_device_that_is_not_there_is_named(default_model: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceError, match="cuda"):
        Segmenter(default_model, Settings(device="cuda"))


def test_a_wrong_setting_says_what_is_right() -> None:
    with pytest.raises(SettingsError, match="LV, RV, LA"):
        Settings(structures=("liver",)).check()


def test_openvino_gives_the_labels_of_torch(default_model: Path, volume: Volume) -> None:
    pytest.importorskip("openvino", reason="the optional backend is not installed")
    settings = (Settings(device="cpu", backend=backend, precision="float32") for backend in ("openvino", "torch"))
    ours, torchs = (Segmenter(default_model, one).segment(volume).labels for one in settings)
    assert_equal_but_few(ours, torchs)


def test_noise_as_dark_as_air_is_no_heart(segmenter: Segmenter) -> None:
    noise = np.random.default_rng(0).normal(-900, 60, (100, 128, 128)).astype(np.int16)
    found = segmenter.segment(Volume(noise, Geometry(noise.shape, (3.0, 3.0, 3.0)), "noise"))
    assert not found.heart_found
    assert not found.labels.any()


def test_wide_margins_of_air_cost_the_finder_no_tiles(segmenter: Segmenter, volume: Volume) -> None:
    ys, xs = (n // 2 for n in volume.array.shape[1:])
    wide = np.pad(volume.array, ((0, 0), (ys, ys), (xs, xs)), constant_values=-1024)
    origin = volume.geometry.index_to_world((0, -ys, -xs))
    geometry = replace(volume.geometry, shape=wide.shape, origin=triple(origin))
    boxes, tiles = [], []
    for scan in (volume, replace(volume, array=wide, geometry=geometry)):
        events: list[ProgressEvent] = []
        boxes.append(segmenter.engine.find_heart(scan, Reporter(events.append)))
        tiles.append(max(e.total for e in events if e.stage == "locate"))
    plan = segmenter.engine.plan(geometry).finder
    assert plan is not None and plan.tiles > 1 and tiles == [1, 1]
    assert boxes[0] is not None and boxes[1] is not None
    assert np.abs(boxes[0].center - boxes[1].center).max() <= 6.0  # a voxel of the finder


def test_the_larger_of_two_candidates_is_taken() -> None:
    grid = Geometry((20, 20, 40), (6.0,) * 3)
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:15, 5:15, 5:15] = 1  # 216 mL
    labels[5:13, 5:13, 25:33] = 2  # 111 mL
    box = choose_heart(labels, grid)
    assert box is not None
    assert box.volume_ml == pytest.approx(216)
    assert box.others_ml == pytest.approx((110.6,), rel=1e-3)
    assert np.allclose(box.center, [57, 57, 57])
    assert set(np.unique(box.labels)) == {0, 1}


def test_a_speck_is_no_heart() -> None:
    grid = Geometry((20, 20, 20), (6.0,) * 3)
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:11, 5:11, 5:11] = 1  # 47 mL
    assert MINIMUM_HEART_ML > 0.216 * 6**3
    assert choose_heart(labels, grid) is None
