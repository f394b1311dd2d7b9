"""From a scan to a heat map on the same grid, with tiny trained models in a window and in stored axes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explain.conftest import LABELS, SHAPE, SPACING, change_json, scan
from heartseg import Segmenter, Settings
from heartseg.errors import Cancelled, InputError, ModelError, SettingsError
from heartseg.explain import Explainer, write_explanation
from heartseg.explain.explaining import Explanation, recorded_window
from heartseg.models.folder import ModelFolder
from heartseg.pipeline import model_facts
from heartseg.progress import CancelToken, ProgressEvent
from heartseg.provenance import Provenance, RunFacts
from heartseg.result import Result
from heartseg.volume import Geometry, Volume
from tiny_models import INTENSITY_STEP, make_tiny_model_folder, synthetic_volume


@pytest.fixture(scope="module")
def windowed(window_model: Path) -> Explainer:
    return Explainer(Segmenter(window_model, Settings(device="cpu")))


@pytest.fixture(scope="module")
def stored(bare_model: Path) -> Explainer:
    return Explainer(Segmenter(bare_model, Settings(device="cpu")))


@pytest.fixture(scope="module")
def explanation(windowed: Explainer, volume: Volume) -> Explanation:
    return windowed.explain(volume, "RV")


@pytest.fixture(scope="module")
def stored_explanation(stored: Explainer, volume: Volume) -> Explanation:
    return stored.explain(volume, "RV")


def speaks_for_its_region(explanation: Explanation) -> bool:
    heat = explanation.heat
    return heat[explanation.region].mean() > 5 * heat[~explanation.region].mean()


@pytest.mark.parametrize("kind", ["explanation", "stored_explanation"])
def test_a_map_lies_on_the_scans_grid_between_0_and_1_where_the_structure_is(
    kind: str, volume: Volume, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(kind)
    assert found.geometry == volume.geometry
    assert found.heat.shape == volume.array.shape and found.heat.dtype == np.float32
    assert found.heat.min() >= 0 and 0.9 < found.heat.max() <= 1
    assert speaks_for_its_region(found)
    assert found.notices == ()


def test_the_heart_is_looked_at_in_a_window(explanation: Explanation, volume: Volume) -> None:
    assert explanation.details["run"]["mode"] == "window"
    assert max(explanation.details["run"]["network_grid"]) < max(SHAPE)


def test_a_folder_of_nnu_net_is_looked_at_whole(stored_explanation: Explanation) -> None:
    assert stored_explanation.details["run"]["mode"] == "stored axes, whole image"
    assert stored_explanation.details["run"]["network_grid"] == list(SHAPE)


def test_the_bottleneck_gives_another_coarser_map(
    stored: Explainer, stored_explanation: Explanation, volume: Volume
) -> None:
    found = stored.explain(volume, "RV", "bottleneck")
    assert found.layer.name == "encoder.stages.1"
    assert 0 < found.heat.max() <= 1
    assert np.abs(found.heat - stored_explanation.heat).max() > 0.1


@pytest.mark.parametrize(
    "direction",
    [(-1, 0, 0, 0, -1, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, 1, 0), (0, -1, 0, 0, 0, 1, -1, 0, 0)],
    ids=["flipped", "permuted", "permuted and flipped"],
)
def test_copies_of_a_scan_in_other_orientations_have_the_same_map(
    windowed: Explainer, explanation: Explanation, volume: Volume, direction: tuple[int, ...]
) -> None:
    """The window uses the axes of the patient, so the values are the same in another storage order."""
    other = stored_as(volume, np.asarray(direction, float).reshape(3, 3))
    assert other.geometry.orientation != volume.geometry.orientation

    found = windowed.explain(other, "RV")

    index = np.argwhere(np.ones(other.array.shape, bool))
    there = np.rint(volume.geometry.world_to_index(other.geometry.index_to_world(index))).astype(int)
    np.testing.assert_allclose(found.heat.reshape(-1), explanation.heat[tuple(there.T)], rtol=0, atol=1e-4)


def stored_as(volume: Volume, direction: np.ndarray) -> Volume:
    """Return the same voxels at the same world positions, in another storage order."""
    size = np.abs(direction.T @ np.asarray(volume.geometry.size)).astype(int)
    corners = volume.geometry.index_to_world(np.array([[0, 0, 0], np.asarray(SHAPE) - 1]))
    start = np.where((direction @ np.ones(3)) < 0, corners.max(0), corners.min(0))
    x, y, z = (int(n) for n in size)
    grid = Geometry((z, y, x), volume.geometry.spacing, tuple(start), tuple(direction.ravel()))
    index = np.argwhere(np.ones(grid.shape, bool))
    there = np.rint(volume.geometry.world_to_index(grid.index_to_world(index))).astype(int)
    return Volume(volume.array[tuple(there.T)].reshape(grid.shape), grid, volume.name)


def test_an_oblique_scan_has_its_map_on_its_own_grid(windowed: Explainer) -> None:
    """If the voxels are rotated by 20 degrees about the long axis, the map rotates with them."""
    c, s = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    oblique = scan(direction=(c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0))
    found = windowed.explain(oblique, "LV")
    assert found.geometry == oblique.geometry and found.heat.shape == oblique.array.shape
    assert speaks_for_its_region(found)


def test_a_scan_that_lies_elsewhere_has_the_same_map(
    windowed: Explainer, explanation: Explanation, volume: Volume
) -> None:
    g = volume.geometry
    x, y, z = g.origin
    moved = replace(volume, geometry=replace(g, origin=(x + 4 * SPACING, y - 8 * SPACING, z + 20 * SPACING)))
    found = windowed.explain(moved, "RV").heat  # positions in mm are rounded differently: differences of 1e-6 occurred
    np.testing.assert_allclose(found, explanation.heat, rtol=0, atol=1e-4)


def test_a_network_with_turned_axes_has_its_map_where_the_structure_is(
    bare_model: Path, volume: Volume, tmp_path: Path
) -> None:
    turned = tmp_path / "turned__3d_fullres"
    shutil.copytree(bare_model, turned)
    change_json(turned / "plans.json", transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0])
    found = Explainer(Segmenter(turned, Settings(device="cpu"))).explain(volume, "RV")
    assert speaks_for_its_region(found)


def result_of(segmenter: Segmenter, volume: Volume) -> Result:
    return segmenter.segment(volume)


def test_an_earlier_result_is_explained_without_segmenting_again(
    windowed: Explainer, explanation: Explanation, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = replace(result_of(windowed.segmenter, volume), labels=explanation.labels)
    monkeypatch.setattr(type(windowed.segmenter.engine), "predict", lambda *_: pytest.fail("it was segmented again"))
    found = windowed.explain(volume, "RV", result=result)
    assert np.array_equal(found.heat, explanation.heat)
    assert found.details["segmentation"] == "an earlier result"


def test_the_window_of_a_run_comes_back_from_its_record(windowed: Explainer, volume: Volume) -> None:
    from heartseg.progress import Reporter

    engine, model = windowed.segmenter.engine, windowed.segmenter.model
    prediction = engine.predict(volume, Reporter())
    provenance = result_of(windowed.segmenter, volume).provenance
    assert recorded_window(provenance, model) == prediction.grid


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"window_center_lps": [0, 0, 0]},
        {"window_center_lps": "here", "window_mm": [1, 2, 3]},
        {"window_center_lps": [0, 0], "window_mm": [1, 2]},
        {"window_center_lps": [0, 0, float("nan")], "window_mm": [64.0, 64.0, 64.0]},
        {"window_center_lps": [0, 0, 0], "window_mm": [-64.0, 64.0, 64.0]},
        {"window_center_lps": [0, 0, 0], "window_mm": [1e9, 1e9, 1e9]},
    ],
)
def test_a_record_that_no_run_wrote_is_not_used(windowed: Explainer, run: dict[str, Any]) -> None:
    model = windowed.segmenter.model
    record = Provenance(run=RunFacts(**run), model=model_facts(model))
    assert recorded_window(record, model) is None


def test_a_record_of_another_model_is_not_used(windowed: Explainer, volume: Volume) -> None:
    provenance = result_of(windowed.segmenter, volume).provenance
    model = replace(provenance.model, checkpoints={"fold_0/checkpoint_final.pth": "0" * 64})
    other = replace(provenance, model=model)
    assert recorded_window(other, windowed.segmenter.model) is None


def test_a_result_of_another_scan_is_refused(windowed: Explainer, volume: Volume) -> None:
    labels = np.ones((10, 10, 10), np.uint8)
    with pytest.raises(InputError, match="grid of the result"):
        windowed.explain(volume, "LV", result=Result(labels, Geometry(labels.shape, (1.0, 1.0, 1.0))))


def test_a_structure_that_is_absent_is_named_with_those_present(
    windowed: Explainer, explanation: Explanation, volume: Volume
) -> None:
    labels = np.where(explanation.labels == 2, 0, explanation.labels).astype(np.uint8)
    with pytest.raises(InputError, match=r"RV was not found in 'ellipsoids': .*LV, MYO"):
        windowed.explain(volume, "RV", result=Result(labels, volume.geometry))


def test_a_structure_outside_of_the_window_is_named(
    windowed: Explainer, explanation: Explanation, volume: Volume
) -> None:
    result = result_of(windowed.segmenter, volume)
    labels = np.where(explanation.labels == 2, 0, explanation.labels).astype(np.uint8)
    labels[0, 0, 0] = 2
    with pytest.raises(InputError, match="RV has no voxel"):
        windowed.explain(volume, "RV", result=replace(result, labels=labels))


def test_without_a_heart_there_is_nothing_to_explain(
    windowed: Explainer, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heartseg.inference.around_heart.AroundHeart._candidates", lambda *_: iter(()))
    with pytest.raises(InputError, match="no heart was found in 'ellipsoids'"):
        windowed.explain(volume, "LV")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("AO", "structure AO: choose from LV, RV, MYO"),
        ("", "is unknown"),
        ("../x", "is unknown"),
        ("liver", "'liver' is unknown: choose from LV, RV, MYO"),
    ],
)
def test_a_structure_that_the_model_does_not_know_is_refused(
    windowed: Explainer, volume: Volume, key: str, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        windowed.explain(volume, key)


def test_keys_may_be_written_small(windowed: Explainer, explanation: Explanation, volume: Volume) -> None:
    result = result_of(windowed.segmenter, volume)
    assert windowed.explain(volume, "rv", result=result).structure.key == "RV"


def test_a_wrong_layer_is_told_before_the_scan_is_looked_at(
    windowed: Explainer, monkeypatch: pytest.MonkeyPatch, volume: Volume
) -> None:
    monkeypatch.setattr(type(windowed.segmenter.engine), "predict", lambda *_: pytest.fail("it was segmented"))
    with pytest.raises(SettingsError, match="layer 'nowhere' is unknown"):
        windowed.explain(volume, "LV", "nowhere")


def test_a_cancel_in_any_stage_stops_and_the_next_run_works(
    windowed: Explainer, explanation: Explanation, volume: Volume
) -> None:
    for stage in ("locate", "predict", "preprocess", "explain", "resample"):
        token = CancelToken()

        def stop(event: ProgressEvent, stage: str = stage, token: CancelToken = token) -> None:
            if event.stage == stage:
                token.cancel()

        with pytest.raises(Cancelled):
            windowed.explain(volume, "RV", progress=stop, cancel=token)
    assert np.array_equal(windowed.explain(volume, "RV").heat, explanation.heat)


def test_a_cancel_while_writing_leaves_nothing(explanation: Explanation, volume: Volume, tmp_path: Path) -> None:
    from heartseg.progress import Reporter

    token = CancelToken()

    def stop(event: ProgressEvent) -> None:
        if event.stage == "write" and event.done == 1:
            token.cancel()

    with pytest.raises(Cancelled):
        write_explanation(explanation, volume, tmp_path / "heat", reporter=Reporter(stop, token))
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_speaks_for_a_structure_the_map_is_empty_and_says_so(
    windowed: Explainer, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartseg.explain import gradcam

    monkeypatch.setattr(gradcam, "seg_grad_cam", lambda networks, layer, image, *_: -abs(image[0]) - 1)
    found = windowed.explain(volume, "RV")
    assert not found.heat.any()
    (notice,) = found.notices
    assert "decoder.stages.0" in notice and "RV" in notice


def test_a_model_that_only_nnu_net_can_run_is_refused(tmp_path: Path) -> None:
    regions = make_tiny_model_folder(
        tmp_path / "m__3d_fullres",
        features=(4, 8),
        patch=(8, 8, 8),
        dataset_changes={"labels": {"background": 0, "LV": [1, 2], "MYO": 2}, "regions_class_order": [1, 2]},
    )
    with pytest.raises(ModelError, match=r"heat maps cannot be made .* overlapping regions"):
        Explainer(Segmenter(ModelFolder.open(regions), Settings(device="cpu")))


def test_the_scan_is_not_changed(windowed: Explainer, volume: Volume) -> None:
    before = volume.array.copy()
    windowed.explain(volume, "LV")
    assert np.array_equal(volume.array, before)


def test_the_map_follows_the_structure_that_is_asked_for(stored: Explainer, volume: Volume) -> None:
    """Ellipsoids differ in intensity: the map is higher inside the requested one than in the others."""
    truth = synthetic_volume(len(LABELS), SHAPE, 5)[1]
    assert INTENSITY_STEP > 0
    for label, key in enumerate(LABELS, 1):
        heat = stored.explain(volume, key).heat
        assert heat[truth == label].mean() > 2 * heat[truth == 0].mean(), key
