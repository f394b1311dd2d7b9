"""Standard views, wall map, tables and plots of measures, as nodes of the real scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.anatomy import STRUCTURES
from heartseg.export.wall_surface import ARRAY_NAME, wall_surface
from heartseg.measure import Circumstances, Patient, Unknown, measure_heart, measure_labels
from heartseg.measure.function import CardiacFunction
from heartseg.measure.planes import StandardPlanes, ViewPlane
from heartseg.measure.study import scan_study
from heartseg.scene.study_tables import fill_curves, fill_study_tables
from heartseg.scene.view_planes import FIELD_OF_VIEW_MM, ORDER, orient_views, slice_to_ras
from heartseg.scene.wall_model import prepare_wall, remove_wall, show_wall
from heartseg.volume.types import Volume
from measured_hearts import LeftVentricle, study_of_frames
from scene.conftest import add_transform_node, add_volume_node

FACTORS = tuple(0.85 + 0.15 * np.cos(2 * np.pi * np.arange(10) / 10))


@pytest.fixture(scope="module")
def heart() -> Any:
    labels, geometry = LeftVentricle().labels((2.0, 2.0, 2.0))
    return labels, geometry, measure_heart(labels, geometry)


@pytest.fixture
def segmentation(scene: Any) -> Any:
    return scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "scan heart")


@pytest.fixture
def views(scene: Any) -> Any:
    return [scene.AddNewNodeByClass("vtkMRMLSliceNode", name) for name in ("Yellow", "Slice4", "Green", "Red")]


def matrix_of(node: Any) -> Any:
    return np.array(slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()))


def test_each_view_has_its_plane_the_right_way_up(scene: Any, heart: Any, views: Any, geometry: Any) -> None:
    known = [p for p in ORDER if not isinstance(getattr(heart[2].planes, p), Unknown)]
    _before, missing = orient_views(heart[2].planes, add_volume_node(geometry))
    by_name = {node.GetName(): node for node in views}
    frame = heart[2].frame
    assert set(missing) == {p for p in ORDER if p not in known}
    assert "short_axis" in known and "two_chamber" in known
    apex = frame.axis.direction * (-1, -1, 1)
    red, yellow = matrix_of(by_name["Red"]), matrix_of(by_name["Yellow"])
    assert abs(red[:3, 2] @ apex) == pytest.approx(1.0, abs=1e-6)
    assert red[:3, 1] == pytest.approx(frame.anterior * (-1, -1, 1))
    assert yellow[:3, 1] == pytest.approx(apex)
    middle = np.array(heart[2].planes.short_axis.center_lps_mm) * (-1, -1, 1)
    assert red[:3, 3] == pytest.approx(middle)
    assert min(by_name["Red"].GetFieldOfView()[:2]) == pytest.approx(FIELD_OF_VIEW_MM)


def test_undo_restores_the_views_and_the_backgrounds(scene: Any, heart: Any, views: Any, geometry: Any) -> None:
    composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    earlier = [(matrix_of(n), n.GetFieldOfView()) for n in views]
    before, _missing = orient_views(heart[2].planes, add_volume_node(geometry))
    assert composite.GetBackgroundVolumeID()
    assert not np.allclose(matrix_of(views[3]), earlier[3][0])
    scene.RemoveNode(views[0])
    before.restore()
    for node, (matrix, size) in list(zip(views, earlier, strict=True))[1:]:
        assert np.allclose(matrix_of(node), matrix)
        assert node.GetFieldOfView() == pytest.approx(size)
    assert not composite.GetBackgroundVolumeID()


def test_the_layout_gets_four_slice_views_until_undo(scene: Any, heart: Any, views: Any, geometry: Any) -> None:
    layout = scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    conventional = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
    layout.SetViewArrangement(conventional)
    before, _missing = orient_views(heart[2].planes, add_volume_node(geometry))
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView
    before.restore()
    assert layout.GetViewArrangement() == conventional


def test_the_planes_follow_the_transform_of_the_scan(scene: Any, heart: Any, views: Any, geometry: Any) -> None:
    volume, transform = add_volume_node(geometry), add_transform_node()
    volume.SetAndObserveTransformNodeID(transform.GetID())
    orient_views(heart[2].planes, volume)
    moved = slicer.util.arrayFromTransformMatrix(transform) @ slice_to_ras(heart[2].planes.short_axis)
    assert np.allclose(matrix_of(views[3]), moved)


@pytest.mark.parametrize("unknown", [(), ("short_axis",), ("short_axis", "three_chamber")])
def test_every_plane_is_shown_or_named_as_missing(scene: Any, geometry: Any, unknown: tuple[str, ...]) -> None:
    views = [scene.AddNewNodeByClass("vtkMRMLSliceNode", name) for name in ("Red", "Green", "Yellow")]
    plane, none = ViewPlane((10.0, 20.0, 30.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)), Unknown("no valve")
    planes = StandardPlanes(**{name: none if name in unknown else plane for name in ORDER})
    earlier = [matrix_of(n) for n in views]
    _before, missing = orient_views(planes, add_volume_node(geometry))
    shown = [name for name, n, m in zip(ORDER, views, earlier, strict=False) if not np.array_equal(matrix_of(n), m)]
    assert not set(shown) & set(missing)
    assert set(shown) | set(missing) == set(ORDER)
    assert {name for name, why in missing.items() if why == none.why} == set(unknown)


def test_unknown_planes_leave_the_views_and_give_the_reason(scene: Any, views: Any, geometry: Any) -> None:
    none = Unknown("no mitral valve")
    earlier = [matrix_of(n) for n in views]
    _before, missing = orient_views(StandardPlanes(none, none, none, none), add_volume_node(geometry))
    assert missing == dict.fromkeys(("two_chamber", "three_chamber", "four_chamber", "short_axis"), none.why)
    assert all(np.array_equal(matrix_of(n), m) for n, m in zip(views, earlier, strict=True))


def test_the_wall_map_has_scalars_a_fixed_scale_and_a_legend(scene: Any, heart: Any, segmentation: Any) -> None:
    labels, geometry, measured = heart
    polydata = prepare_wall(wall_surface(labels, geometry, measured.wall))
    node = show_wall(polydata, segmentation)
    assert show_wall(polydata, segmentation) is node
    display = node.GetDisplayNode()
    assert display.GetActiveScalarName() == ARRAY_NAME and display.GetScalarVisibility()
    assert display.GetScalarRange() == (4.0, 16.0)
    assert slicer.util.arrayFromModelPoints(node)[:, 0].mean() == pytest.approx(
        -geometry.index_to_world(np.argwhere(labels == 1))[:, 0].mean(), abs=4.0
    )
    values = slicer.util.arrayFromModelPointData(node, ARRAY_NAME)
    assert np.nanmedian(values) == pytest.approx(9.0, abs=0.4)
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node)
    assert legend is not None
    assert remove_wall(segmentation)
    assert not remove_wall(segmentation)
    assert node.GetScene() is None and legend.GetScene() is None


def test_a_scan_fills_tables_of_measures_and_wall_segments(scene: Any, heart: Any, segmentation: Any) -> None:
    labels, geometry, _ = heart
    found = measure_labels(Volume(labels, geometry, modality="CT"), labels, STRUCTURES)
    study = scan_study((labels, geometry), found, Patient(), Circumstances("CT"))
    measures, wall = fill_study_tables(study, segmentation)
    assert fill_study_tables(study, segmentation) == [measures, wall]
    rows = {(measures.GetCellText(r, 0), measures.GetCellText(r, 1)): r for r in range(measures.GetNumberOfRows())}
    values = slicer.util.arrayFromTableColumn(measures, "value")
    length = next(m.value for m in found.measures if m.quantity == "long_axis_length")
    assert values[rows["LV", "long_axis_length"]] == pytest.approx(length)
    assert wall.GetNumberOfRows() == 17
    assert slicer.util.arrayFromTableColumn(wall, "mean (mm)").mean() == pytest.approx(9.0, abs=0.4)
    assert wall.GetColumnIndex("thickening (%)") == -1


def test_a_series_fills_the_function_and_plots_its_curves(scene: Any, segmentation: Any) -> None:
    frames = [LeftVentricle().shrunk(f).labels((2.5, 2.5, 2.5)) for f in FACTORS]
    study = study_of_frames(frames, Patient(), Circumstances("MR", "cycle"))
    function, _measures, wall = fill_study_tables(study, segmentation)
    quantities = [function.GetCellText(r, 1) for r in range(function.GetNumberOfRows())]
    assert {"edv", "esv", "ejection_fraction"} <= set(quantities)
    assert np.isfinite(slicer.util.arrayFromTableColumn(wall, "thickening (%)")).any()
    times = [50.0 * k for k in range(len(frames))]
    assert isinstance(study.function, CardiacFunction)
    chart = fill_curves(study.function, segmentation, times, "time (ms)")
    assert fill_curves(study.function, segmentation, times, "time (ms)") is chart
    assert chart.GetNumberOfPlotSeriesNodes() == len(study.function.curves)
    series = chart.GetNthPlotSeriesNode(0)
    table = series.GetTableNode()
    assert (series.GetXColumnName(), series.GetYColumnName()) == ("time (ms)", "LV (mL)")
    assert slicer.util.arrayFromTableColumn(table, "time (ms)").tolist() == times
    volumes = slicer.util.arrayFromTableColumn(table, "LV (mL)")
    assert volumes == pytest.approx([study.function.curves["LV"].at(k) for k in range(len(frames))])
