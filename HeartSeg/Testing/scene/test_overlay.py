"""Overlays on the scan in Slicer's real scene and slice views."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from heartseg.errors import InputError
from heartseg.scene.nodes import is_overlay
from heartseg.scene.overlay import (
    CONFIDENCE,
    HEAT_MAP,
    find_overlay,
    prepare_overlay,
    remove_overlay,
    show_overlay,
)
from heartseg.volume import Geometry
from scene.conftest import add_transform_node, add_volume_node, make_labels
from scene.slice_view import add_slice_view, blended

SHAPE = (24, 30, 36)


def heat_map(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return a map with a peak of height 1 in one corner of the grid and 0 far from it."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    distance = np.linalg.norm(index - (14, 9, 12), axis=-1)
    return np.clip(1 - distance / 8, 0, 1).astype(np.float32)


@pytest.fixture
def grey_scan(scene: Any, geometry: Geometry) -> Any:
    node = add_volume_node(geometry)
    slicer.util.updateVolumeFromArray(node, np.full(SHAPE, 100, np.int16))
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(0, 200)
    return node


@pytest.fixture
def views(grey_scan: Any) -> Iterator[list[Any]]:
    logics = [add_slice_view(grey_scan, orientation) for orientation in ("Axial", "Sagittal", "Coronal")]
    yield logics
    for logic in logics:
        slicer.app.applicationLogic().GetSliceLogics().RemoveItem(logic)
        logic.SetMRMLScene(None)


def names() -> list[str]:
    return sorted(n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))


def world_of(node: Any, index_zyx: Sequence[float]) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix) @ [*np.asarray(index_zyx)[::-1], 1]


@pytest.mark.parametrize(
    "direction",
    [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0, 0, -1, 1, 0, 0, 0, -1, 0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, -1)],
    ids=["LPS", "permuted and flipped", "oblique mirrored"],
)
def test_the_map_lies_where_it_was_made(scene: Any, direction: tuple[float, ...]) -> None:
    geometry = Geometry(SHAPE, (0.7, 1.3, 2.1), (-120.3, 45.7, 900.1), tuple(float(v) for v in direction))
    scan = add_volume_node(geometry)
    node = show_overlay(prepare_overlay(heat_map(), geometry), scan).node
    values = slicer.util.arrayFromVolume(node)
    assert values.max() == 1 and values.size < np.prod(SHAPE)
    top = np.unravel_index(values.argmax(), values.shape)
    assert np.allclose(world_of(node, top), world_of(scan, (14, 9, 12)), atol=1e-6)


def test_it_goes_under_the_scans_transform(grey_scan: Any, geometry: Geometry) -> None:
    transform = add_transform_node()
    grey_scan.SetAndObserveTransformNodeID(transform.GetID())
    assert show_overlay(prepare_overlay(heat_map(), geometry), grey_scan).node.GetTransformNodeID() == transform.GetID()


def test_its_colours_are_warm_and_what_is_low_is_transparent(grey_scan: Any, geometry: Geometry) -> None:
    display = show_overlay(prepare_overlay(heat_map(), geometry), grey_scan).node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1)
    assert display.GetApplyThreshold() and display.GetLowerThreshold() == pytest.approx(HEAT_MAP.threshold)
    color, rgba = display.GetColorNode(), [0.0] * 4
    for value in (0.5, 0.75, 1.0):
        color.GetColor(round(value * (color.GetNumberOfColors() - 1)), rgba)
        assert rgba[0] > 0.7 and rgba[0] > rgba[2], value


def test_the_slice_views_show_the_map_over_the_scan(grey_scan: Any, views: list[Any], geometry: Geometry) -> None:
    for logic in views:
        logic.GetSliceNode().JumpSliceByOffsetting(*world_of(grey_scan, (14, 9, 12))[:3])
    before = [blended(logic) for logic in views]
    show_overlay(prepare_overlay(heat_map(), geometry), grey_scan)
    for logic, plain in zip(views, before, strict=True):
        shown = blended(logic)
        changed = np.abs(shown - plain).max(-1) > 8
        assert 0.02 < changed.mean() < 0.6  # the peak, and nothing far from it
        hottest = np.unravel_index(np.where(changed, shown.sum(-1), 0).argmax(), changed.shape)
        assert shown[hottest][0] > shown[hottest][2] + 30
        assert np.abs(np.argwhere(changed).mean(0) - hottest).max() < 30  # of 240 pixels: the centre of the peak
        assert logic.GetSliceCompositeNode().GetForegroundOpacity() == 0.5
        assert logic.GetSliceCompositeNode().GetBackgroundVolumeID() == grey_scan.GetID()


def test_a_second_map_takes_the_same_node_and_undo_brings_the_first_back(
    grey_scan: Any, views: list[Any], geometry: Geometry
) -> None:
    first = show_overlay(prepare_overlay(heat_map(), geometry), grey_scan)
    seen = blended(views[0])
    second = show_overlay(prepare_overlay(heat_map()[::-1].copy(), geometry), grey_scan)
    assert second.node is first.node
    assert names() == ["scan", "scan heat map"]

    second.undo()

    assert np.array_equal(slicer.util.arrayFromVolume(first.node), heat_map()[np.ix_(*spans(heat_map()))])
    assert np.array_equal(blended(views[0]), seen)


def spans(values: np.ndarray) -> list[np.ndarray]:
    hit = np.argwhere(values > 0)
    return [np.arange(a, b + 1) for a, b in zip(hit.min(0), hit.max(0), strict=True)]


def test_undo_of_the_first_map_leaves_everything_as_it_was(
    grey_scan: Any, views: list[Any], geometry: Geometry
) -> None:
    other = add_volume_node(geometry, "other")
    composite = views[1].GetSliceCompositeNode()
    composite.SetForegroundVolumeID(other.GetID())
    composite.SetForegroundOpacity(0.25)
    count, seen = slicer.mrmlScene.GetNumberOfNodes(), [blended(v) for v in views]

    show_overlay(prepare_overlay(heat_map(), geometry), grey_scan).undo()

    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert (composite.GetForegroundVolumeID(), composite.GetForegroundOpacity()) == (other.GetID(), 0.25)
    assert all(np.array_equal(blended(v), s) for v, s in zip(views, seen, strict=True))


def test_taking_it_away_brings_back_what_the_views_showed_also_after_a_second_map(
    grey_scan: Any, views: list[Any], geometry: Geometry
) -> None:
    other = add_volume_node(geometry, "other")
    views[0].GetSliceCompositeNode().SetForegroundVolumeID(other.GetID())
    show_overlay(prepare_overlay(heat_map(), geometry), grey_scan)
    node = show_overlay(prepare_overlay(heat_map(), geometry), grey_scan).node
    assert is_overlay(node) and not is_overlay(grey_scan)

    remove_overlay(node)

    assert views[0].GetSliceCompositeNode().GetForegroundVolumeID() == other.GetID()
    assert views[1].GetSliceCompositeNode().GetForegroundVolumeID() is None
    assert names() == ["other", "scan"]
    remove_overlay(node)  # a second call does nothing


def test_what_was_in_front_may_have_left_meanwhile(grey_scan: Any, views: list[Any], geometry: Geometry) -> None:
    other = add_volume_node(geometry, "other")
    views[0].GetSliceCompositeNode().SetForegroundVolumeID(other.GetID())
    node = show_overlay(prepare_overlay(heat_map(), geometry), grey_scan).node
    slicer.mrmlScene.RemoveNode(other)
    remove_overlay(node)
    assert views[0].GetSliceCompositeNode().GetForegroundVolumeID() is None


@pytest.mark.parametrize("written", ["", "[]", '{"a": 1}', '{"a": []}', "nonsense", '{"a": [null, "x"]}'])
def test_a_scene_that_says_nonsense_about_the_views_does_no_harm(
    grey_scan: Any, views: list[Any], geometry: Geometry, written: str
) -> None:
    node = show_overlay(prepare_overlay(heat_map(), geometry), grey_scan).node
    node.SetAttribute("HeartSeg.Views", written)
    remove_overlay(node)
    assert views[0].GetSliceCompositeNode().GetForegroundVolumeID() is None


def test_heat_map_and_confidence_have_nodes_of_their_own(grey_scan: Any, geometry: Geometry) -> None:
    percent = np.round(100 * heat_map()).astype(np.uint8)
    heat = show_overlay(prepare_overlay(heat_map(), geometry), grey_scan).node
    sure = show_overlay(prepare_overlay(percent, geometry, CONFIDENCE), grey_scan).node
    assert heat is not sure
    assert find_overlay(grey_scan, HEAT_MAP) is heat and find_overlay(grey_scan, CONFIDENCE) is sure
    assert sure.GetDisplayNode().GetWindowLevelMax() == 100
    assert slicer.util.arrayFromVolume(sure).dtype == np.uint8


def test_two_scans_have_maps_of_their_own(grey_scan: Any, geometry: Geometry) -> None:
    other = add_volume_node(geometry, "other")
    first = show_overlay(prepare_overlay(heat_map(), geometry), grey_scan).node
    assert show_overlay(prepare_overlay(heat_map(), geometry), other).node is not first


def test_an_empty_map_can_be_shown(grey_scan: Any, geometry: Geometry) -> None:
    node = show_overlay(prepare_overlay(np.zeros(SHAPE, np.float32), geometry), grey_scan).node
    assert not slicer.util.arrayFromVolume(node).any()


def test_a_scan_that_has_changed_or_left_is_refused_and_nothing_is_added(grey_scan: Any, geometry: Geometry) -> None:
    prepared = prepare_overlay(heat_map(), geometry)
    grey_scan.SetSpacing(1, 1, 1)
    with pytest.raises(InputError, match="has changed since the heat map was made"):
        show_overlay(prepared, grey_scan)
    assert names() == ["scan"]
    slicer.mrmlScene.RemoveNode(grey_scan)
    with pytest.raises(InputError, match="left the scene"):
        show_overlay(prepared, grey_scan)


def test_a_failure_leaves_nothing(
    grey_scan: Any, views: list[Any], geometry: Geometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartseg.scene import overlay

    monkeypatch.setattr(overlay, "_color", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        show_overlay(prepare_overlay(heat_map(), geometry), grey_scan)
    assert names() == ["scan"]


def test_a_map_of_another_shape_is_refused(geometry: Geometry) -> None:
    with pytest.raises(ValueError, match="must be equal"):
        prepare_overlay(np.zeros((2, 2, 2)), geometry)


def test_slicers_displayable_managers_draw_it(geometry: Geometry, tmp_path: Path) -> None:
    """Runs in a separate process: without graphics, VTK crashes, and there is nothing to draw with."""
    from matplotlib.image import imread

    content, picture = tmp_path / "map.npz", tmp_path / "view.png"
    scan = np.full(SHAPE, 100, np.int16)
    scan[:, :15] = 60
    np.savez(
        content,
        scan=scan,
        map=heat_map(),
        labels=make_labels(SHAPE),
        at=(14, 9, 12),
        spacing=geometry.spacing,
        origin=geometry.origin,
        direction=geometry.direction,
    )
    root = Path(__file__).resolve().parents[3]
    paths = os.pathsep.join([str(root / "HeartSeg" / "Logic"), str(root / "HeartSeg" / "Testing")])
    run = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("slice_view.py")), str(content), str(picture)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if run.returncode < 0:
        pytest.skip(f"no graphics here (exit code {run.returncode}): {run.stderr.strip()[-200:]}")
    assert run.returncode == 0, run.stderr
    shown = imread(picture)[..., :3]
    warm = (shown[..., 0] > 0.5) & (shown[..., 0] > shown[..., 2] + 0.2)
    assert 0.005 < warm.mean() < 0.5
