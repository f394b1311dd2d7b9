"""Marks placed with the mouse in a slice view, points and strokes, through Slicer's own displayable manager."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.panel.record import read_record
from heartseg.scene.mending import is_stroke, marks_nodes
from panel.driver import Driver
from panel.mending import labels_of, settle, start
from panel.mouse import Mouse


@pytest.fixture(scope="module")
def mice() -> list[Mouse]:
    """The mouse, once it is there; a second one cannot be made."""
    return []


@pytest.fixture
def mouse(mice: list[Mouse], scan: Any) -> Mouse:
    if not mice:
        mice.append(Mouse(scan))
    mice[0].look_at(scan)
    return mice[0]


def at(z: float, y: float, x: float) -> tuple[float, float, float]:
    """Position of a voxel of the scan, RAS mm."""
    return (-3.0 * x, -3.0 * y, 3.0 * z)


def press(section: Any, *keys: int) -> None:
    for key in keys:
        section._shortcuts[key].activated.emit()


def texts(section: Any) -> list[tuple[str, int]]:
    """What each mark says, and its number of points."""
    return [(m.text, len(m.points)) for m in section._mender.session.mender.marks]


def is_placing() -> bool:
    node = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    return bool(node.GetCurrentInteractionMode() == node.Place)


def test_a_click_marks_the_structure_whose_key_was_pressed_last(
    user: Driver, section: Any, mouse: Mouse, scan: Any
) -> None:
    node = user.panel.state.segmentation
    press(section, 2)
    mouse.move(at(13, 13, 13))  # a preview, which is named at once
    press(section, 4)
    mouse.click(at(13, 13, 13))
    mouse.click(at(13, 13, 20))
    assert texts(section) == [("RA", 1), ("RA", 1)]
    assert labels_of(node, scan)[13, 13, 13] == labels_of(node, scan)[13, 13, 20] == 4
    mouse.move(at(13, 20, 20))
    section.ui.notCheckBox.checked = True
    mouse.click(at(13, 20, 20))
    assert texts(section)[-1] == ("-RA", 1)
    mouse.right_click(at(13, 5, 5))
    assert not is_placing() and len(texts(section)) == 3
    mouse.click(at(13, 5, 5))
    assert len(texts(section)) == 3
    press(section, 4)  # the same structure: placing goes on
    mouse.click(at(13, 5, 5))
    assert len(texts(section)) == 4


def test_a_stroke_takes_two_clicks_and_is_obeyed_along_its_length(
    user: Driver, section: Any, mouse: Mouse, scan: Any
) -> None:
    node = user.panel.state.segmentation
    before = labels_of(node, scan)
    press(section, 9 - 1, 2)
    mouse.click(at(13, 13, 8))
    assert texts(section) == [] and np.array_equal(labels_of(node, scan), before)
    press(section, 4)  # changes the stroke that was begun
    mouse.click(at(13, 13, 16))
    assert texts(section) == [("RA", 2)]
    assert (labels_of(node, scan)[13, 13, 8:17] == 4).all()
    mouse.click(at(10, 8, 8))  # the next one, without a key
    mouse.click(at(10, 14, 8))
    assert texts(section) == [("RA", 2)] * 2
    assert (labels_of(node, scan)[10, 8:15, 8] == 4).all()
    settle(user, section)
    (mend,) = read_record(node).provenance.mends
    assert [len(m.points) for m in mend.marks] == [2, 2]
    assert mend.volumes_ml_after["RA"] == pytest.approx((labels_of(node, scan) == 4).sum() * 27 / 1000)


def test_points_and_strokes_are_obeyed_in_the_order_in_which_they_were_made(
    user: Driver, section: Any, mouse: Mouse, scan: Any
) -> None:
    node, states = user.panel.state.segmentation, []
    press(section, 2)
    for keys, places in (
        ((2,), [(13, 13, 10)]),
        ((8, 4), [(13, 13, 8), (13, 13, 16)]),
        ((8, 1), [(13, 13, 12)]),
        ((8, 3), [(13, 10, 12), (13, 16, 12)]),
    ):
        states.append(labels_of(node, scan))
        press(section, *keys)
        for place in places:
            mouse.click(at(*place))
    expected = [("RV", 1), ("RA", 2), ("LV", 1), ("LA", 2)]
    assert texts(section) == expected
    states.append(labels_of(node, scan))
    assert [states[-1][13, 13, x] for x in (8, 10, 12, 16)] == [4, 4, 3, 4]
    for count in (3, 2, 1, 0):
        section.ui.undoMarkButton.click()
        assert texts(section) == expected[:count] and np.array_equal(labels_of(node, scan), states[count])
    for count in (1, 2, 3, 4):
        section.ui.redoMarkButton.click()
        assert texts(section) == expected[:count] and np.array_equal(labels_of(node, scan), states[count])
    mouse.click(at(5, 5, 5))
    mouse.click(at(5, 5, 9))  # drawing goes on after undo and redo
    assert texts(section) == [*expected, ("LA", 2)]


def test_a_stroke_that_is_deleted_is_taken_back_and_one_that_is_moved_followed(
    user: Driver, section: Any, mouse: Mouse, scan: Any
) -> None:
    node = user.panel.state.segmentation
    before = labels_of(node, scan)
    press(section, 8, 4)
    mouse.click(at(13, 13, 8))
    mouse.click(at(13, 13, 12))
    stroke = next(n for n in marks_nodes(node) if is_stroke(n))
    stroke.SetNthControlPointPositionWorld(1, *at(13, 18, 8))
    stroke.InvokeCustomModifiedEvent(stroke.PointEndInteractionEvent)  # the end of a drag
    assert (labels_of(node, scan)[13, 13:19, 8] == 4).all()
    slicer.mrmlScene.RemoveNode(stroke)
    assert section.is_mending and texts(section) == [] and np.array_equal(labels_of(node, scan), before)


@pytest.mark.parametrize("end", ["right click", "stop", "points", "closed"])
def test_a_stroke_that_is_not_finished_leaves_nothing(user: Driver, section: Any, mouse: Mouse, end: str) -> None:
    press(section, 8, 4)
    mouse.click(at(13, 13, 8))
    if end == "right click":
        mouse.right_click(at(13, 13, 12))
        assert not is_placing()
    elif end == "stop":
        section.ui.mendButton.click()
    elif end == "points":
        press(section, 8)
    else:
        slicer.mrmlScene.Clear(0)
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsLineNode")
    assert not user.error


def test_a_stroke_outside_of_the_scan_is_refused_and_removed(user: Driver, section: Any, mouse: Mouse) -> None:
    press(section, 8, 4)
    mouse.click(at(13, 13, 8))
    mouse.click(at(13, 13, 40))
    assert "outside" in user.error and texts(section) == []
    user.panel.hide_error()
    user.session.turn()
    assert len([n for n in marks_nodes(user.panel.state.segmentation) if is_stroke(n)]) == 1  # the next one
    mouse.click(at(13, 13, 8))
    mouse.click(at(13, 13, 12))
    assert texts(section) == [("RA", 2)] and not user.error


def test_marks_are_replayed_after_the_scene_was_saved_and_loaded(
    user: Driver, section: Any, mouse: Mouse, scan: Any, tmp_path: Path
) -> None:
    node = user.panel.state.segmentation
    press(section, 4)
    mouse.click(at(13, 13, 10))
    press(section, 8, 2)
    mouse.click(at(13, 13, 8))
    mouse.click(at(13, 13.1, 16))
    settle(user, section)
    mended = labels_of(node, scan)
    section.ui.mendButton.click()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    (scan,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    (node,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    user.panel.show_results_of(node)
    start(user, section)
    assert np.array_equal(labels_of(node, scan), mended) and texts(section) == []  # what was mended is held
    assert [m.text for mend in read_record(node).provenance.mends for m in mend.marks] == ["RA", "RV"]
    mouse.look_at(scan)
    section.ui.strokeCheckBox.checked = False
    press(section, 3)
    mouse.click(at(5, 5, 5))
    assert texts(section) == [("LA", 1)]
    section.ui.undoMarkButton.click()
    user.parameters.inputVolume, user.parameters.outputSegmentation = scan, node
    user.parameters.model, user.parameters.device, user.parameters.cleanUp = "Tiny", "cpu", False
    user.panel.models.show("Tiny")
    user.run()  # replaces the segments
    assert not np.array_equal(labels_of(node, scan), mended)
    start(user, section)
    assert texts(section) == [("RA", 1), ("RV", 2)] and np.array_equal(labels_of(node, scan), mended)
