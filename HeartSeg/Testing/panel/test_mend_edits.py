"""Segments and scans that are changed by other means while they are mended: nothing of the user's is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.anatomy import structure
from heartseg.panel.record import read_record
from heartseg.scene.mending import POINTS, node_for_marks
from panel.driver import Driver, Gate
from panel.mending import labels_of, mend_section, place, settle, shift, start, wrong_place

PAINTED = (slice(2, 5), slice(2, 6), slice(2, 7))
"""Box in the corner of the scan, outside of the region of the marks."""


def paint(node: Any, scan: Any, key: str, *box: slice) -> None:
    """Give voxels to a segment and take them from all others, like the Segment Editor."""
    for one in node.GetSegmentation().GetSegmentIDs():
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, one, scan).copy()
        mask[box] = one == key
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, one, scan)


@pytest.mark.parametrize("kind", ["painted", "deleted", "renamed"])
def test_what_is_edited_between_marks_stays_also_when_marks_are_taken_back(
    user: Driver, section: Any, scan: Any, kind: str
) -> None:
    node = user.panel.state.segmentation
    original = labels_of(node, scan)

    def with_edit(labels: np.ndarray) -> np.ndarray:
        if kind == "painted":
            labels[PAINTED] = 1
        if kind == "deleted":
            labels[labels == 1] = 0
        return labels

    place(section, 4, (13, 13, 13))
    if kind == "painted":
        paint(node, scan, "LV", *PAINTED)
    elif kind == "deleted":
        node.GetSegmentation().RemoveSegment("LV")
    else:
        node.GetSegmentation().GetSegment("LV").SetName("my ventricle")
    edited = labels_of(node, scan)
    assert kind != "painted" or (edited[PAINTED] == 1).all()
    place(section, 4, (13, 13, 18))
    after = labels_of(node, scan)
    assert after[13, 13, 13] == after[13, 13, 18] == 4
    assert np.array_equal(after[PAINTED], edited[PAINTED])
    if kind == "deleted":
        assert not (after == 1).any() and node.GetSegmentation().GetSegment("LV") is None
    if kind == "renamed":
        assert node.GetSegmentation().GetSegment("LV").GetName() == "my ventricle"
    settle(user, section)
    record = read_record(node)
    assert record.edited == (kind != "renamed")
    assert [m.text for m in record.provenance.mends[-1].marks] == ["RA", "RA"]
    for key in ("LV", "RV", "RA"):
        volume = (after == structure(key).label).sum() * 27 / 1000
        assert (record.value(key, "volume") or 0.0) == pytest.approx(volume)  # nothing is measured of an empty one
    section.ui.undoMarkButton.click()
    assert np.array_equal(labels_of(node, scan), edited)
    section.ui.undoMarkButton.click()
    assert np.array_equal(labels_of(node, scan), with_edit(original))
    section.ui.redoMarkButton.click()
    assert np.array_equal(labels_of(node, scan)[PAINTED], edited[PAINTED]) and not user.error


@pytest.mark.parametrize("kind", ["overlap", "transform", "voxels of the scan", "grid of the scan"])
def test_changes_that_marks_cannot_build_on_end_it_with_one_line_and_are_kept(
    user: Driver, section: Any, scan: Any, kind: str
) -> None:
    node = user.panel.state.segmentation
    place(section, 4, (13, 13, 13))
    if kind == "overlap":
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, "LV", scan).copy()
        mask[12:15, 12:15, 12:15] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LV", scan)
    elif kind == "transform":
        shift(node, 6.0)
    elif kind == "voxels of the scan":
        slicer.util.arrayFromVolume(scan)[:] += 1
        slicer.util.arrayFromVolumeModified(scan)
    else:
        scan.SetOrigin(3.0, 0.0, 0.0)

    def masks() -> dict[str, np.ndarray]:
        keys = node.GetSegmentation().GetSegmentIDs()
        return {key: slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, key).copy() for key in keys}

    before, changed = masks(), node.GetSegmentation().GetMTime()
    points = node_for_marks(node, POINTS)
    place(section, 2, (13, 13, 18))
    assert user.error and "\n" not in user.error and not section.is_mending
    assert node.GetSegmentation().GetMTime() == changed
    assert all(np.array_equal(mask, before[key]) for key, mask in masks().items())
    assert points.GetNumberOfControlPoints() == 2  # the mark waits for the next start
    if kind == "overlap":
        user.panel.hide_error()
        start(user, section)
        assert [kind for kind, _text in user.session.messages] == ["question"]
        assert labels_of(node, scan)[13, 13, 18] == 2 and labels_of(node, scan)[13, 13, 13] == 4


def test_an_edit_while_it_prepares_is_kept(user: Driver, hold: Callable[..., Gate], scan: Any) -> None:
    node = user.run()
    section, gate = mend_section(user), hold("predict")
    section.ui.mendButton.click()
    user.session.wait_until(gate.reached.is_set)
    paint(node, scan, "LV", *PAINTED)
    gate.open()
    user.wait()
    place(section, 4, (13, 13, 13))
    assert (labels_of(node, scan)[PAINTED] == 1).all() and labels_of(node, scan)[13, 13, 13] == 4


@pytest.mark.parametrize("ended", [False, True])
def test_an_edit_while_it_measures_is_measured_too_or_left_to_the_user(
    user: Driver, hold: Callable[..., Gate], section: Any, scan: Any, ended: bool
) -> None:
    node, gate = user.panel.state.segmentation, hold("surfaces")
    first = read_record(node).value("LV", "volume")
    place(section, 4, (13, 13, 13))
    user.session.wait_until(gate.reached.is_set)
    paint(node, scan, "LV", *PAINTED)
    if ended:
        section.ui.mendButton.click()
    gate.open()
    settle(user, section)
    labels, record = labels_of(node, scan), read_record(node)
    assert (labels[PAINTED] == 1).all()
    assert [m.text for m in record.provenance.mends[-1].marks] == ["RA"]
    volume = (labels == 1).sum() * 27 / 1000
    assert record.value("LV", "volume") == pytest.approx(first if ended else volume)
    if not ended:
        surface = node.GetSegmentation().GetSegment("LV").GetRepresentation("Closed surface")
        assert surface.GetBounds()[1] > -9.0 and surface.GetBounds()[3] > -9.0  # as far as what was painted


def test_the_earlier_result_that_comes_back_is_not_mended_further(user: Driver, scan: Any) -> None:
    node = user.run()
    first = labels_of(node, scan)
    paint(node, scan, "LV", *PAINTED)
    user.parameters.outputSegmentation = node
    user.run()
    section = mend_section(user)
    start(user, section)
    place(section, 4, wrong_place(first, 4))
    settle(user, section)
    user.results.ui.undoButton.click()
    assert not section.is_mending and (labels_of(node, scan)[PAINTED] == 1).all()
    assert not read_record(node).provenance.mends
