"""The section *Measures*: standard views and their undo, wall map, tables, curves, bull's-eye plot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.measure.bullseye import THICKENING, THICKNESS, segment_values
from heartseg.panel.record import RunRecord, read_record, write_record
from heartseg.result import Result
from heartseg.scene import fill_segmentation
from heartseg.scene.frames import keep_frame
from heartseg.scene.study_tables import CURVES, FUNCTION, MEASURES, WALL
from heartseg.scene.wall_model import MODEL
from measured_hearts import LeftVentricle
from panel.driver import Gate

SPACING = (2.5, 2.5, 2.5)


def section_of(user: Any) -> Any:
    return next(s for s in user.panel._sections if s.name == "Measures")


def add_scan(labels: Any, geometry: Any, name: Any = "heart scan") -> Any:
    return slicer.util.addVolumeFromArray(labels.astype(np.int16), ijkToRAS=geometry.affine_ras, name=name)


def kinds(class_name: Any) -> Any:
    return [n.GetAttribute("HeartSeg.Kind") for n in slicer.util.getNodesByClass(class_name)]


@pytest.fixture
def shown(opened: Any) -> Any:
    """A user who looks at a segmented phantom."""
    labels, geometry = LeftVentricle().labels(SPACING)
    scan = add_scan(labels, geometry)
    opened.parameters.inputVolume = scan
    node = fill_segmentation(Result(labels, geometry), scan)
    write_record(node, RunRecord("heart scan"))
    opened.panel.show_results_of(node)
    return opened, node


@pytest.fixture
def beating(opened: Any) -> Any:
    """A user who looks at the segmented frames of a time series."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "series")
    sequence.SetIndexName("trigger")
    sequence.SetIndexUnit("ms")
    factors = 0.85 + 0.15 * np.cos(2 * np.pi * np.arange(8) / 8)
    frames = [LeftVentricle().shrunk(f).labels(SPACING) for f in factors]
    for k, (labels, geometry) in enumerate(frames):
        node = add_scan(labels, geometry, "frame")
        sequence.SetDataNodeAtValue(node, str(100 * k))
        slicer.mrmlScene.RemoveNode(node)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    scan = browser.GetProxyNode(sequence)
    segmentation = None
    for k, (labels, geometry) in enumerate(frames):
        segmentation = fill_segmentation(Result(labels, geometry), scan, segmentation)
        write_record(segmentation, RunRecord("series"))
        keep_frame(browser, segmentation, k)
    opened.parameters.inputVolume = scan
    opened.panel.show_results_of(segmentation)
    return opened, segmentation


def test_without_a_result_the_buttons_say_why_not(opened: Any) -> None:
    ui = section_of(opened).ui
    for name in ("viewsButton", "wallButton", "tablesButton", "undoViewsButton"):
        assert not getattr(ui, name).enabled and getattr(ui, name).toolTip, name
    assert ui.bullseyeLabel.isHidden()


def test_one_click_orients_the_views_and_another_undoes_it(shown: Any) -> None:
    user, _node = shown
    views = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", name) for name in ("Red", "Green", "Yellow")]
    before = [np.array(slicer.util.arrayFromVTKMatrix(v.GetSliceToRAS())) for v in views]
    ui = section_of(user).ui
    ui.viewsButton.click()
    user.wait()
    assert not user.error, user.error
    turned = np.array(slicer.util.arrayFromVTKMatrix(views[0].GetSliceToRAS()))
    assert not np.allclose(turned, before[0])
    assert ui.undoViewsButton.enabled
    ui.undoViewsButton.click()
    for view, matrix in zip(views, before, strict=True):
        assert np.allclose(slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS()), matrix)
    assert not ui.undoViewsButton.enabled


def test_wall_map_and_tables_are_made_and_removed_without_measuring_twice(shown: Any) -> None:
    user, node = shown
    section = section_of(user)
    section.ui.wallButton.click()
    user.wait()
    assert kinds("vtkMRMLModelNode").count(MODEL) == 1
    section.ui.tablesButton.click()
    assert not user.running
    assert {MEASURES, WALL} <= set(kinds("vtkMRMLTableNode"))
    assert FUNCTION not in kinds("vtkMRMLTableNode")
    section.ui.removeWallButton.click()
    assert MODEL not in kinds("vtkMRMLModelNode")
    node.GetSegmentation().GetSegment("LV").SetName("edited")
    node.GetSegmentation().Modified()
    section.ui.tablesButton.click()
    assert user.running
    user.wait()


def test_the_bullseye_shows_the_thickness_of_the_segments(shown: Any) -> None:
    user, _node = shown
    section = section_of(user)
    assert section.ui.bullseyeLabel.isHidden()
    section.ui.tablesButton.click()
    user.wait()
    assert not section.ui.bullseyeLabel.isHidden()
    assert section._drawn == (THICKNESS,)
    values = segment_values(section._rows(), THICKNESS)
    assert np.mean([v for v in values.values() if v is not None]) == pytest.approx(9.0, abs=0.5)


def test_the_bullseye_has_the_colour_of_each_segment_at_its_place(session: Any) -> None:
    from heartseg.panel.bullseye import SIZE, bullseye_pixmap

    image = bullseye_pixmap({1: 4.0, 4: 16.0}, THICKNESS).toImage()
    top, bottom = image.pixelColor(SIZE // 2 - 20, 12), image.pixelColor(SIZE // 2 - 20, SIZE - 12)
    assert top.lightness() < 80 < bottom.lightness()
    assert image.pixelColor(2, 2).alpha() == 0
    grey = image.pixelColor(SIZE - 14, SIZE // 2 + 20)
    assert grey.red() == grey.green() == grey.blue()


def test_a_time_series_gets_function_curves_and_thickening(beating: Any) -> None:
    from heartseg.panel.bullseye import SIZE

    user, _segmentation = beating
    section = section_of(user)
    section.ui.tablesButton.click()
    user.wait()
    assert not user.error, user.error
    assert {FUNCTION, MEASURES, WALL, CURVES} <= set(kinds("vtkMRMLTableNode"))
    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert chart.GetXAxisTitle() == "trigger (ms)"
    table = chart.GetNthPlotSeriesNode(0).GetTableNode()
    assert slicer.util.arrayFromTableColumn(table, "trigger (ms)").tolist() == [100.0 * k for k in range(8)]
    assert section._drawn == (THICKNESS, THICKENING)
    section.ui.bullseyeComboBox.setCurrentIndex(1)
    section.ui.copyBullseyeButton.click()
    assert slicer.app.clipboard().image().size().width() == SIZE


def test_measuring_again_after_edits_keeps_the_wall(shown: Any) -> None:
    user, node = shown
    user.results.ui.recomputeButton.click()
    user.wait()
    assert read_record(node).value("MYO", "wall_thickness_mean") == pytest.approx(9.0, abs=0.5)
    assert not section_of(user).ui.bullseyeLabel.isHidden()


def test_segments_that_do_not_show_the_heart_give_the_reason(user: Any) -> None:
    user.run()
    section = section_of(user)
    section.ui.wallButton.click()
    user.wait()
    assert not user.error, user.error
    assert section.ui.measuresLabel.text
    assert MODEL not in kinds("vtkMRMLModelNode")


def test_measures_are_not_shown_under_a_segmentation_that_was_chosen_meanwhile(
    shown: Any, hold: Callable[..., Gate]
) -> None:
    user, node = shown
    labels, geometry = LeftVentricle().shrunk(0.8).labels(SPACING)
    other = fill_segmentation(Result(labels, geometry), node.GetNodeReference("referenceImageGeometryRef"))
    section, gate = section_of(user), hold("measure")
    section.ui.tablesButton.click()
    user.session.wait_until(gate.reached.is_set)
    user.panel.show_results_of(other)
    gate.open()
    user.wait()
    assert not user.error and not kinds("vtkMRMLTableNode") and not section.ui.measuresLabel.text
    assert section._drawn == ()
    user.panel.show_results_of(node)
    section.ui.tablesButton.click()
    assert not user.running and MEASURES in kinds("vtkMRMLTableNode")  # measured already
    assert section.ui.measuresLabel.text
    user.panel.show_results_of(other)
    assert not section.ui.measuresLabel.text
