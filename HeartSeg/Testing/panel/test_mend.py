"""Mend in the panel: marks in the scene change the segments, undo and redo, stored marks, lost nodes, closed scene."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.anatomy import structure
from heartseg.panel.record import read_record
from heartseg.scene.masks import masks_of
from heartseg.scene.mending import marks_nodes
from panel.driver import Driver, Gate, node_ids
from panel.mending import labels_of, mend_section, place, points_of, settle, shift, start, wrong_place
from tiny_models import write_card


def test_without_a_result_the_buttons_say_why(user: Driver) -> None:
    ui = mend_section(user).ui
    assert not ui.mendButton.enabled and "segment a scan first" in ui.mendButton.toolTip
    assert not ui.undoMarkButton.enabled and not ui.redoMarkButton.enabled


def test_a_mark_is_obeyed_in_place_and_measured(user: Driver, section: Any, scan: Any) -> None:
    node, before = user.panel.state.segmentation, labels_of(user.panel.state.segmentation, scan)
    volume = read_record(node).value("RV", "volume")
    at = wrong_place(before, 2)
    place(section, 2, at)
    after = labels_of(node, scan)
    assert after[at] == 2
    changed = np.argwhere(after != before) * 3.0
    assert np.abs(changed - np.array(at) * 3.0).max() <= 33
    settle(user, section)
    record = read_record(node)
    assert record.value("RV", "volume") == pytest.approx((after == 2).sum() * 27 / 1000)
    assert record.value("RV", "volume") != volume
    (mend,) = record.provenance.mends
    assert [m.text for m in mend.marks] == ["RV"] and mend.model.startswith("Tiny")
    assert mend.volumes_ml_after["RV"] == pytest.approx((after == 2).sum() * 27 / 1000)
    surface = node.GetSegmentation().GetSegment("RV").GetRepresentation("Closed surface")
    assert surface is not None and surface.GetNumberOfPoints() > 0
    assert points_of(section).GetNthControlPointLabel(0) == "RV"


@pytest.mark.parametrize("gone", [False, True])
def test_the_model_that_made_the_result_is_asked_or_none(
    user: Driver, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    first, other = tmp_path / "store" / "First", tmp_path / "store" / "Other"
    for folder in (first, other):
        shutil.copytree(tiny_store / "Tiny", folder)
        write_card(folder, ("LV", "RV", "MYO"), folder.name)
    monkeypatch.setenv("HEARTSEG_MODELS", str(tmp_path / "store"))
    for name in ("First", "Other"):
        user.panel.models.reload()
        user.parameters.model = name
        user.panel.models.show(name)
        user.panel.refresh()
        if name == "First":
            user.run()
    if gone:
        shutil.rmtree(first)
    section = mend_section(user)
    start(user, section)
    source = section._mender.session.prior.source
    assert source == "" if gone else source.startswith("First")
    assert user.panel.state.model == "Other"


def test_the_worker_does_not_read_the_parameters(user: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    user.run()
    threads, settings = [], user.panel.settings
    monkeypatch.setattr(user.panel, "settings", lambda: (threads.append(threading.current_thread()), settings())[1])
    start(user, mend_section(user))
    assert set(threads) == {threading.main_thread()}


def test_a_negative_mark_and_one_for_a_structure_that_the_model_does_not_know(
    user: Driver, section: Any, scan: Any
) -> None:
    node = user.panel.state.segmentation
    labels = labels_of(node, scan)
    z, y, x = (int(v) for v in np.argwhere(labels == labels.max())[0])
    place(section, int(labels.max()), (z, y, x), denied=True)
    assert labels_of(node, scan)[z, y, x] != labels.max()
    place(section, 4, (13, 13, 13))
    assert node.GetSegmentation().GetSegment("RA").GetName() == "right atrium"
    assert labels_of(node, scan)[13, 13, 13] == 4
    place(section, 0, (13, 13, 13))
    assert labels_of(node, scan)[13, 13, 13] == 0


def test_undo_and_redo_follow_the_points(user: Driver, section: Any, scan: Any) -> None:
    node = user.panel.state.segmentation
    states = [labels_of(node, scan)]
    for key in (2, 1):
        place(section, key, wrong_place(states[-1], key))
        states.append(labels_of(node, scan))
    points = points_of(section)
    section.ui.undoMarkButton.click()
    assert points.GetNumberOfControlPoints() == 1 and np.array_equal(labels_of(node, scan), states[1])
    section.ui.undoMarkButton.click()
    assert points.GetNumberOfControlPoints() == 0 and np.array_equal(labels_of(node, scan), states[0])
    assert not section.ui.undoMarkButton.enabled
    settle(user, section)
    assert not read_record(node).provenance.mended and not read_record(node).provenance.mends
    section.ui.redoMarkButton.click()
    section.ui.redoMarkButton.click()
    assert np.array_equal(labels_of(node, scan), states[2])
    assert not section.ui.redoMarkButton.enabled
    points.RemoveNthControlPoint(0)  # by hand, in Slicer: only the second mark is left
    assert points.GetNthControlPointLabel(0) == "LV"
    assert [m.text for m in section._mender.session.mender.marks] == ["LV"]


def preview(section: Any, at: tuple[float, float, float]) -> int:
    """The point under the pointer while Slicer places points, added without an event; returns its index."""
    points, section._busy = points_of(section), True
    index = int(points.AddControlPointWorld(*at))
    points.SetNthControlPointPosition(index, *at, slicer.vtkMRMLMarkupsNode.PositionPreview)
    section._busy = False
    return index


def test_undo_takes_the_last_mark_and_leaves_previews_and_points_that_are_no_marks(
    user: Driver, section: Any, scan: Any
) -> None:
    node, points = user.panel.state.segmentation, points_of(section)
    before = labels_of(node, scan)
    place(section, 4, (13, 13, 13))
    points.SetControlPointLabelFormat("my lesion")
    points.AddControlPointWorld(-6.0, -6.0, 6.0)
    preview(section, (-30.0, -30.0, 30.0))
    section.ui.undoMarkButton.click()
    assert [points.GetNthControlPointLabel(i) for i in range(points.GetNumberOfControlPoints())] == ["my lesion", "RA"]
    assert np.array_equal(labels_of(node, scan), before)
    assert not section.ui.undoMarkButton.enabled and section.ui.redoMarkButton.enabled


def test_undo_leaves_the_marks_of_an_earlier_mend(user: Driver, section: Any, scan: Any) -> None:
    node, points = user.panel.state.segmentation, points_of(section)
    place(section, 4, (13, 13, 13))
    settle(user, section)
    section.ui.mendButton.click()
    points.SetControlPointLabelFormat("RV")
    points.AddControlPointWorld(-60.0, -39.0, 39.0)  # added by hand, before mending goes on
    start(user, section)
    assert labels_of(node, scan)[13, 13, 20] == 2
    section.undo()
    section.undo()
    assert [points.GetNthControlPointLabel(i) for i in range(points.GetNumberOfControlPoints())] == ["RA"]
    assert labels_of(node, scan)[13, 13, 13] == 4


def test_a_preview_that_goes_keeps_what_was_taken_back_and_a_new_mark_forgets_it(
    user: Driver, section: Any, scan: Any
) -> None:
    node, points = user.panel.state.segmentation, points_of(section)
    place(section, 4, (13, 13, 13))
    section.ui.undoMarkButton.click()
    points.RemoveNthControlPoint(preview(section, (-30.0, -30.0, 30.0)))
    assert section.ui.redoMarkButton.enabled
    section.ui.redoMarkButton.click()
    assert labels_of(node, scan)[13, 13, 13] == 4
    section.ui.undoMarkButton.click()
    place(section, 2, (13, 13, 20))
    assert not section.ui.redoMarkButton.enabled


def test_marks_stay_with_the_segmentation_and_are_obeyed_again_after_a_new_run(
    user: Driver, section: Any, scan: Any
) -> None:
    node = user.panel.state.segmentation
    at = wrong_place(labels_of(node, scan), 2)
    place(section, 2, at)
    settle(user, section)
    mended = labels_of(node, scan)
    section.ui.mendButton.click()
    assert not section.is_mending
    start(user, section)  # continues: what was mended is held
    assert np.array_equal(labels_of(node, scan), mended)
    user.press()  # a new run replaces the segments; the marks stay
    user.wait()
    assert not section.is_mending and user.panel.state.segmentation is node
    start(user, section)
    assert labels_of(node, scan)[at] == 2
    assert np.array_equal(labels_of(node, scan), mended)


def test_a_mark_outside_of_the_scan_is_refused_in_words_and_its_point_removed(
    user: Driver, section: Any, scan: Any
) -> None:
    node = user.panel.state.segmentation
    before = labels_of(node, scan)
    points_of(section).AddControlPointWorld(500.0, 0.0, 0.0)
    assert "outside" in user.error
    assert points_of(section).GetNumberOfControlPoints() == 0
    assert np.array_equal(labels_of(node, scan), before) and section.is_mending


def test_a_scan_under_a_transform_is_marked_where_the_user_sees_it(user: Driver, scan: Any) -> None:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = 100.0, -40.0, 7.0
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    scan.SetAndObserveTransformNodeID(transform.GetID())
    node, section = user.run(), mend_section(user)
    start(user, section)
    section.ui.markStructureComboBox.setCurrentIndex(4)
    points_of(section).AddControlPointWorld(-39.0 + 100, -36.0 - 40, 33.0 + 7)
    assert labels_of(node, scan)[11, 12, 13] == 4


def test_a_point_that_names_no_structure_is_named_and_the_others_are_obeyed(
    user: Driver, section: Any, scan: Any
) -> None:
    node, points = user.panel.state.segmentation, points_of(section)
    points.SetControlPointLabelFormat("my lesion")
    points.AddControlPointWorld(-6.0, -6.0, 6.0)
    assert "point 1" in user.error.lower()
    user.panel.hide_error()
    place(section, 4, (13, 13, 13))
    assert labels_of(node, scan)[13, 13, 13] == 4
    assert not user.error  # it was said already
    assert [points.GetNthControlPointLabel(i) for i in range(2)] == ["my lesion", "RA"]
    points.SetNthControlPointLabel(0, "LA")
    place(section, 2, (13, 13, 20))
    labels = labels_of(node, scan)
    assert (labels[2, 2, 2], labels[13, 13, 13], labels[13, 13, 20]) == (3, 4, 2)


def test_a_segmentation_under_another_transform_is_refused_but_not_under_an_equal_one(user: Driver, scan: Any) -> None:
    node = user.run()
    shift(node, 6.0)
    section = mend_section(user)
    section.ui.mendButton.click()
    assert user.error and not user.running and not section.is_mending
    shift(scan, 6.0)
    user.panel.hide_error()
    start(user, section)


def test_segments_outside_of_the_scan_are_refused(user: Driver, scan: Any) -> None:
    node = user.run()
    matrix = slicer.util.vtkMatrixFromArray(np.diag([-3.0, -3.0, 3.0, 1.0]))
    matrix.SetElement(0, 3, -60.0)
    scan.SetIJKToRASMatrix(matrix)
    section = mend_section(user)
    section.ui.mendButton.click()
    assert user.error and not user.running and not section.is_mending
    assert not marks_nodes(node)


@pytest.mark.parametrize("case", ["overlap", "finer"])
def test_overlapping_and_finer_segments_are_merged_only_if_the_user_agrees(user: Driver, scan: Any, case: str) -> None:
    node = user.run()
    if case == "overlap":
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, "LV", scan).copy()
        mask[9:16, 9:16, 9:16] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LV", scan)
        mask[:], mask[12:16, 9:16, 9:16] = 0, 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "MYO", scan)
    else:
        fine = slicer.util.addVolumeFromArray(np.zeros((52, 52, 52), np.uint8), ijkToRAS=np.diag([-1.5, -1.5, 1.5, 1]))
        mask = np.zeros((52, 52, 52), np.uint8)
        mask[20:31, 20:31, 20:31] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LV", fine)
    section, times = mend_section(user), node.GetSegmentation().GetMTime()
    user.session.answers.append(False)
    section.ui.mendButton.click()
    assert [kind for kind, _text in user.session.messages] == ["question"]
    assert not user.running and not section.is_mending and node.GetSegmentation().GetMTime() == times
    user.session.messages.clear()
    start(user, section)
    assert [kind for kind, _text in user.session.messages] == ["question"]
    if case == "overlap":
        assert (section._mender.session.mender.labels[12:16, 9:16, 9:16] == 5).all()
    place(section, 4, (2, 2, 2))
    section.ui.mendButton.click()
    user.session.messages.clear()
    start(user, section)
    assert not user.session.messages  # one layer on the scan's grid now


def test_segments_under_another_transform_are_measured_where_they_are_seen(user: Driver, scan: Any) -> None:
    node = user.run()
    before = {
        key: (array == value).nonzero()[2] + x for key, (array, value, (_z, _y, x)) in masks_of(node, scan).items()
    }
    shift(node, 6.0)
    after = {
        key: (array == value).nonzero()[2] + x for key, (array, value, (_z, _y, x)) in masks_of(node, scan).items()
    }
    inside = before["LV"][before["LV"] >= 2]
    assert np.array_equal(np.sort(after["LV"]), np.sort(inside) - 2)  # right is -x: 6 mm are two voxels


@pytest.mark.parametrize("lost", ["segmentation", "scan", "marks"])
def test_a_deleted_node_ends_it(user: Driver, section: Any, scan: Any, lost: str) -> None:
    mender = section._mender
    place(section, 4, (13, 13, 13))
    node = {"segmentation": mender.segmentation, "scan": scan, "marks": points_of(section)}[lost]
    slicer.mrmlScene.RemoveNode(node)
    assert not section.is_mending and not section.ui.undoMarkButton.enabled
    user.session.turn()
    user.panel.refresh()
    assert not user.error
    if lost == "marks":
        start(user, section)
        assert marks_nodes(mender.segmentation)[0].GetNumberOfControlPoints() == 0


def test_a_closed_scene_ends_it_and_leaves_nothing(user: Driver, section: Any) -> None:
    place(section, 4, (13, 13, 13))
    slicer.mrmlScene.Clear(0)
    user.session.turn()
    assert not section.is_mending
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    assert not section.ui.mendButton.enabled


def test_a_cancel_while_it_prepares_changes_nothing(user: Driver, hold: Callable[..., Gate]) -> None:
    node = user.run()
    section, before, gate = mend_section(user), node_ids(), hold("predict")
    record = node.GetAttribute("HeartSeg.Run")
    section.ui.mendButton.click()
    user.session.wait_until(gate.reached.is_set)
    user.press()
    gate.open()
    user.wait()
    assert not section.is_mending and node_ids() == before and node.GetAttribute("HeartSeg.Run") == record


@pytest.mark.parametrize("lost", ["segmentation", "scan", "scene"])
def test_what_is_lost_while_it_prepares_ends_the_job(
    user: Driver, hold: Callable[..., Gate], scan: Any, lost: str
) -> None:
    node = user.run()
    section, gate = mend_section(user), hold("predict")
    section.ui.mendButton.click()
    user.session.wait_until(gate.reached.is_set)
    token = user.panel._job.token
    if lost == "scene":
        slicer.mrmlScene.Clear(0)
    else:
        slicer.mrmlScene.RemoveNode({"segmentation": node, "scan": scan}[lost])
    assert token.cancelled
    gate.open()
    user.wait()
    assert not section.is_mending and not user.error
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")


def test_another_segmentation_chosen_while_it_prepares_is_not_marked(user: Driver, hold: Callable[..., Gate]) -> None:
    node = user.run()
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    section, gate = mend_section(user), hold("predict")
    section.ui.mendButton.click()
    user.session.wait_until(gate.reached.is_set)
    user.panel.show_results_of(other)
    gate.open()
    user.wait()
    assert not section.is_mending and not user.error
    assert not marks_nodes(node) and not marks_nodes(other)


@pytest.mark.parametrize("lost", ["segmentation", "scan", "marks", "scene"])
def test_what_is_lost_while_it_measures_leaves_measures_of_the_segments(
    user: Driver, hold: Callable[..., Gate], section: Any, scan: Any, lost: str
) -> None:
    node, marks, gate = user.panel.state.segmentation, points_of(section), hold("surfaces")
    place(section, 2, wrong_place(labels_of(node, scan), 2))
    after = labels_of(node, scan)
    user.session.wait_until(gate.reached.is_set)
    if lost == "scene":
        slicer.mrmlScene.Clear(0)
    else:
        slicer.mrmlScene.RemoveNode({"segmentation": node, "scan": scan, "marks": marks}[lost])
    gate.open()
    user.session.wait_until(lambda: not user.panel._loop._handlers)
    assert not section.is_mending and not user.error
    if lost in ("segmentation", "scene"):
        assert not read_record(node).provenance.mends
        return
    record = read_record(node)
    assert record.value("RV", "volume") == pytest.approx((after == 2).sum() * 27 / 1000)
    assert [m.text for mend in record.provenance.mends for m in mend.marks] == ["RV"]
    assert node.GetSegmentation().GetSegment("RV").GetRepresentation("Closed surface").GetNumberOfPoints() > 0


def test_number_keys_choose_the_structure_of_the_next_point_only_while_mending(
    user: Driver, section: Any, scan: Any
) -> None:
    ui, points = section.ui, points_of(section)
    assert all(s.enabled for s in section._shortcuts) and len(section._shortcuts) == 9
    keys = ["BACKGROUND", "LV", "RV", "LA", "RA", "MYO", "AO", "PA"]
    for number, key in enumerate(keys):
        section._shortcuts[number].activated.emit()
        ui.notCheckBox.checked = True
        assert ui.markStructureComboBox.currentIndex == number
        assert points.GetControlPointLabelFormat() == (f"-{key}" if number else key)
        assert ui.notCheckBox.enabled == (number > 0)
        ui.notCheckBox.checked = False
        assert points.GetControlPointLabelFormat() == key
    ui.mendButton.click()
    assert not any(s.enabled for s in section._shortcuts)


def test_undo_and_redo_of_several_marks_restore_points_segments_and_measures(
    user: Driver, section: Any, scan: Any
) -> None:
    node, points = user.panel.state.segmentation, points_of(section)
    marks = [(2, (13, 13, 20), False), (4, (8, 8, 8), False), (1, (13, 13, 21), True), (0, (8, 8, 9), False)]
    states = [labels_of(node, scan)]
    for key, at, denied in marks:
        place(section, key, at, denied)
        states.append(labels_of(node, scan))
    texts = ["RV", "RA", "-LV", "BACKGROUND"]
    placed = [tuple(points.GetNthControlPointPositionWorld(i)) for i in range(4)]
    for count in (3, 2, 1):
        section.ui.undoMarkButton.click()
        assert [points.GetNthControlPointLabel(i) for i in range(points.GetNumberOfControlPoints())] == texts[:count]
        assert np.array_equal(labels_of(node, scan), states[count])
    section.ui.redoMarkButton.click()
    assert [tuple(points.GetNthControlPointPositionWorld(i)) for i in range(2)] == placed[:2]
    assert np.array_equal(labels_of(node, scan), states[2])
    settle(user, section)
    record = read_record(node)
    assert [m.text for mend in record.provenance.mends for m in mend.marks] == texts[:2]
    for name in ("LV", "RV", "RA"):
        expected = (states[2] == structure(name).label).sum() * 27 / 1000
        assert record.value(name, "volume") == pytest.approx(expected)
    points.RemoveNthControlPoint(0)  # by hand: forgets what was taken back
    assert not section.ui.redoMarkButton.enabled and section.ui.undoMarkButton.enabled
