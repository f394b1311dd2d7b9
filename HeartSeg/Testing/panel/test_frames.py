"""Time series: the row appears, a frame is chosen, all frames are segmented in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.panel.record import read_record
from heartseg.scene.mending import marks_nodes
from panel.driver import Driver
from panel.mending import labels_of, mend_section, place, settle, start, wrong_place
from tiny_models import synthetic_volume


@pytest.fixture
def series(user: Driver) -> Any:
    """Return a sequence of three volumes with a browser, as made by Slicer's readers; its proxy is the chosen scan."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "series")
    matrix = np.diag([-3.0, -3.0, 3.0, 1.0])
    for frame in range(3):
        image, _ = synthetic_volume(3, (26, 26, 26), seed=frame)
        node = slicer.util.addVolumeFromArray(image.astype(np.float32), ijkToRAS=matrix, name="frame")
        sequence.SetDataNodeAtValue(node, str(frame))
        slicer.mrmlScene.RemoveNode(node)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    user.parameters.inputVolume = browser.GetProxyNode(sequence)
    user.panel.refresh()
    return browser


def test_the_row_is_hidden_for_a_single_volume(user: Driver) -> None:
    assert user.ui.framesWidget.isHidden()
    assert user.ui.framesLabel.isHidden()


def test_the_row_shows_the_frames_and_choosing_one_shows_it(user: Driver, series: Any) -> None:
    spin = user.ui.frameSpinBox
    assert not user.ui.framesWidget.isHidden()
    assert (spin.minimum, spin.maximum, spin.value) == (1, 3, 1)
    first = slicer.util.arrayFromVolume(user.parameters.inputVolume).copy()
    spin.value = 3
    assert series.GetSelectedItemNumber() == 2
    assert not np.array_equal(slicer.util.arrayFromVolume(user.parameters.inputVolume), first)


def voxels(node: Any, scan: Any) -> dict[str, int]:
    keys = node.GetSegmentation().GetSegmentIDs()
    return {k: int((slicer.util.arrayFromSegmentBinaryLabelmap(node, k, scan) > 0).sum()) for k in keys}


def test_all_frames_give_a_sequence_in_the_scans_browser(user: Driver, series: Any) -> None:
    alone = []
    for frame in range(3):
        user.ui.frameSpinBox.value = frame + 1
        alone.append(voxels(user.run(), user.parameters.inputVolume))
    assert len({tuple(v.values()) for v in alone}) == 3
    user.ui.allFramesCheckBox.checked = True
    user.press()
    user.wait()
    assert not user.error, user.error

    (node,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    sequence = series.GetSequenceNode(node)
    assert sequence.GetNumberOfDataNodes() == 3
    assert sequence.GetIndexName() == series.GetMasterSequenceNode().GetIndexName()
    for frame in (2, 0, 1):
        series.SetSelectedItemNumber(frame)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(series)
        assert voxels(node, user.parameters.inputVolume) == alone[frame]


def test_a_run_on_one_frame_of_a_sequence_is_kept_there(user: Driver, series: Any) -> None:
    user.ui.allFramesCheckBox.checked = True
    user.press()
    user.wait()
    user.ui.allFramesCheckBox.checked = False
    node = user.panel.state.segmentation
    user.ui.frameSpinBox.value = 2
    node.GetSegmentation().RemoveSegment("LV")
    user.run()
    user.ui.frameSpinBox.value = 1
    user.ui.frameSpinBox.value = 2
    assert "LV" in node.GetSegmentation().GetSegmentIDs()


def test_a_chosen_segmentation_keeps_its_name(user: Driver, series: Any) -> None:
    user.parameters.outputSegmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    assert user.run().GetName() == "mine"


def test_a_cancel_ends_all_frames_and_keeps_the_finished_ones(user: Driver, series: Any) -> None:
    user.ui.allFramesCheckBox.checked = True
    user.press()
    user.session.wait_until(lambda: series.GetSelectedItemNumber() == 1 and user.running, 300)
    user.press()
    user.wait()
    (node,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert series.GetSequenceNode(node).GetNumberOfDataNodes() == 1
    user.ui.frameSpinBox.value = 3
    assert node.GetSegmentation().GetNumberOfSegments() == 0  # that frame was not segmented
    user.ui.frameSpinBox.value = 1
    assert node.GetSegmentation().GetNumberOfSegments() == 3


def test_edits_of_a_frame_are_kept_there(user: Driver, series: Any) -> None:
    user.ui.allFramesCheckBox.checked = True
    user.press()
    user.wait()
    node = user.panel.state.segmentation
    user.ui.frameSpinBox.value = 2
    user.results.ui.editButton.click()
    node.GetSegmentation().RemoveSegment("LV")
    user.ui.frameSpinBox.value = 1
    assert "LV" in node.GetSegmentation().GetSegmentIDs()
    user.ui.frameSpinBox.value = 2
    assert "LV" not in node.GetSegmentation().GetSegmentIDs()


def test_marks_belong_to_their_frame_and_a_mended_frame_is_kept(user: Driver, series: Any) -> None:
    user.ui.allFramesCheckBox.checked = True
    user.press()
    user.wait()
    node, scan, section = user.panel.state.segmentation, user.parameters.inputVolume, mend_section(user)
    user.ui.frameSpinBox.value = 1
    before = voxels(node, scan)
    user.ui.frameSpinBox.value = 2
    second = voxels(node, scan)
    start(user, section)
    place(section, 2, wrong_place(labels_of(node, scan), 2))
    settle(user, section)
    mended = voxels(node, scan)
    assert mended != second and len(marks_nodes(node)) == 1

    user.ui.frameSpinBox.value = 1
    user.panel.refresh()
    assert not section.is_mending
    assert voxels(node, scan) == before and marks_nodes(node) == []
    start(user, section)
    assert voxels(node, scan) == before
    section.ui.mendButton.click()

    user.ui.frameSpinBox.value = 2
    assert voxels(node, scan) == mended and len(marks_nodes(node)) == 1
    record = read_record(node)
    assert record.value("RV", "volume") == pytest.approx(mended["RV"] * 27 / 1000)
    assert len(record.provenance.mends) == 1
