"""Volume curves of a time series as plot nodes of the scene: a table, a series for each structure, and a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..anatomy import structure

_FRAME = "frame"
_STYLES = ("Solid", "Dash", "Dot", "DashDot")
"""Line styles by structure, so that the curves differ without colours too."""


def plot_curves(curves: Mapping[str, Sequence[float | None]], name: str, chart: Any = None) -> Any:
    """Show volumes over the frames in a chart.

    Args:
        curves: structure key -> volume in mL per frame, ``None`` where it is not known.
        name: of the time series; the nodes are called after it.
        chart: ``vtkMRMLPlotChartNode`` to fill again; a new one is made if omitted.

    Returns:
        The ``vtkMRMLPlotChartNode``. Its table has the column ``frame`` (from 1) and one column for each structure.
    """
    import slicer

    scene = slicer.mrmlScene
    if chart is None:
        chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", scene.GenerateUniqueName(f"{name} volumes"))
    for old in [chart.GetNthPlotSeriesNode(k) for k in range(chart.GetNumberOfPlotSeriesNodes())]:
        table = old.GetTableNode()
        scene.RemoveNode(old)
        if table is not None and table.GetScene() is scene:
            scene.RemoveNode(table)
    chart.RemoveAllPlotSeriesNodeIDs()
    table = _table(curves, f"{name} curves")
    for k, key in enumerate(curves):
        series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", f"{name} {key}")
        series.SetName(key)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(_FRAME)
        series.SetYColumnName(key)
        series.SetPlotType(series.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleNone)
        series.SetLineStyle(getattr(series, f"LineStyle{_STYLES[k % len(_STYLES)]}"))
        series.SetColor(*(c / 255 for c in structure(key).color))
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle(name)
    chart.SetXAxisTitle(_FRAME)
    chart.SetYAxisTitle("mL")
    return chart


def _table(curves: Mapping[str, Sequence[float | None]], name: str) -> Any:
    import slicer
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    count = max((len(values) for values in curves.values()), default=0)
    columns: dict[str, Sequence[float | None]] = {_FRAME: [float(k) for k in range(1, count + 1)], **curves}
    for title, values in columns.items():
        column = vtk.vtkDoubleArray()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(math.nan if value is None else value)
        node.AddColumn(column)
    return node
