"""Volume curves in the scene: table, series and chart, replaced when they are drawn again."""

from __future__ import annotations

import math

import slicer
import slicer.util

from heartseg.scene.plots import plot_curves


def test_the_table_of_the_chart_holds_the_volumes() -> None:
    chart = plot_curves({"LV": (120.0, None, 60.0), "RV": (140.0, 100.0, 70.0)}, "cine")
    series = [chart.GetNthPlotSeriesNode(k) for k in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [s.GetName() for s in series] == ["LV", "RV"]
    assert len({s.GetLineStyle() for s in series}) == 2
    table = series[0].GetTableNode().GetTable()
    columns = {table.GetColumnName(c): table.GetColumn(c) for c in range(table.GetNumberOfColumns())}
    assert [columns["frame"].GetValue(k) for k in range(3)] == [1, 2, 3]
    assert columns["LV"].GetValue(0) == 120.0
    assert math.isnan(columns["LV"].GetValue(1))


def test_a_chart_that_is_drawn_again_leaves_no_nodes_behind() -> None:
    chart = plot_curves({"LV": (1.0, 2.0), "RV": (1.0, 2.0)}, "cine")
    count = slicer.mrmlScene.GetNumberOfNodes()
    assert plot_curves({"LV": (3.0, 4.0), "RV": (3.0, 4.0)}, "cine", chart) is chart
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert chart.GetNthPlotSeriesNode(0).GetTableNode().GetTable().GetColumnByName("LV").GetValue(1) == 4.0
