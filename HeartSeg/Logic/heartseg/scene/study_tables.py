"""Tables and plots of a study in the scene: function, measures, wall segments, volume-time curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..anatomy import structure
from ..measure.bullseye import THICKENING, THICKNESS, segment_values
from ..measure.function import CardiacFunction
from ..measure.function_table import function_measures
from ..measure.names import name_of
from ..measure.segments17 import NAMES
from ..measure.study import Study
from ..quantities import general_quantity
from ..result import Measure
from ..wording import _
from .language import in_language
from .owned import owned_node

FUNCTION, MEASURES, WALL, CURVES = "function", "measures", "wall segments", "volume curves"
_PER_SEGMENT = {
    THICKNESS: _("mean (mm)"),
    "wall_thickness_min": _("min (mm)"),
    "wall_thickness_max": _("max (mm)"),
    "segment_mass": _("mass (g)"),
    THICKENING: _("thickening (%)"),
}


def fill_study_tables(study: Study, segmentation: Any) -> list[Any]:
    """Fill the tables of a study that have rows; tables of an earlier call are filled again.

    Returns:
        The ``vtkMRMLTableNode`` of each table with rows: function, wall segments, all other measures.
    """
    rows = [m for m in study.measures if general_quantity(m.quantity) == m.quantity]
    known = study.function
    of_function = function_measures(known, study.patient) if isinstance(known, CardiacFunction) else ()
    keys = {(m.structure, m.quantity) for m in of_function}
    function = [m for m in rows if (m.structure, m.quantity) in keys]
    parts = ((FUNCTION, function), (MEASURES, [m for m in rows if m not in function]))
    tables = [_fill_rows(owned_node("vtkMRMLTableNode", kind, segmentation), part) for kind, part in parts if part]
    if segment_values(study.measures, THICKNESS):
        tables.append(_fill_wall(owned_node("vtkMRMLTableNode", WALL, segmentation), study.measures))
    return tables


def fill_curves(function: CardiacFunction, segmentation: Any, times: Sequence[float], axis: str) -> Any:
    """Fill the table of volume curves and plot it, one series per structure.

    Args:
        function: its curves; frames that do not fit their neighbours are left out.
        segmentation: segmentation that the table and the plot belong to.
        times: position of each frame on the horizontal axis.
        axis: title of that axis, with its unit.

    Returns:
        The ``vtkMRMLPlotChartNode``.
    """
    table = owned_node("vtkMRMLTableNode", CURVES, segmentation)
    columns: dict[str, Sequence[float | str]] = {axis: list(times)}
    for key, curve in function.curves.items():
        columns[_column(key)] = [_number(curve.at(k)) for k in range(len(times))]
    _fill(table, columns)
    chart = owned_node("vtkMRMLPlotChartNode", CURVES, segmentation)
    chart.RemoveAllPlotSeriesNodeIDs()
    chart.SetTitle(segmentation.GetName())
    chart.SetXAxisTitle(axis)
    chart.SetYAxisTitle(in_language(_("volume (mL)")))
    for key in function.curves:
        chart.AddAndObservePlotSeriesNodeID(_series(key, table, axis, segmentation).GetID())
    return chart


def _series(key: str, table: Any, axis: str, segmentation: Any) -> Any:
    import slicer

    kind = slicer.vtkMRMLPlotSeriesNode
    series = owned_node("vtkMRMLPlotSeriesNode", f"volume of {key}", segmentation)
    series.SetName(in_language(structure(key).name))
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(axis)
    series.SetYColumnName(_column(key))
    series.SetPlotType(kind.PlotTypeScatter)
    series.SetLineStyle(kind.LineStyleSolid)
    series.SetMarkerStyle(kind.MarkerStyleCircle)
    series.SetColor(*(c / 255 for c in structure(key).color))
    return series


def _column(key: str) -> str:
    return f"{key} (mL)"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _fill_rows(node: Any, rows: Iterable[Measure]) -> Any:
    listed = list(rows)
    return _fill(
        node,
        {
            _("structure"): [m.structure for m in listed],
            _("quantity"): [m.quantity for m in listed],
            _("name"): [name_of(m.structure, m.quantity)[0] for m in listed],
            _("value"): [_number(m.value) for m in listed],
            _("unit"): [m.unit for m in listed],
            _("low"): [_number(m.low) for m in listed],
            _("high"): [_number(m.high) for m in listed],
            _("note"): [m.note for m in listed],
        },
    )


def _fill_wall(node: Any, measures: Sequence[Measure]) -> Any:
    columns: dict[str, Sequence[float | str]] = {
        _("segment"): [float(k) for k in NAMES],
        _("name"): list(NAMES.values()),
    }
    for quantity, title in _PER_SEGMENT.items():
        values = segment_values(measures, quantity)
        if values:
            columns[title] = [_number(values.get(k)) for k in NAMES]
    return _fill(node, columns)


def _fill(node: Any, columns: Mapping[str, Sequence[float | str]]) -> Any:
    """Replace the columns of a table; numbers are doubles, so that Slicer can sort and plot them.

    Texts and titles are in the language of the application, names of columns are not.
    """
    import vtk

    modified = node.StartModify()
    node.RemoveAllColumns()
    for title, values in columns.items():
        numeric = all(isinstance(v, float) for v in values)
        column = vtk.vtkDoubleArray() if numeric else vtk.vtkStringArray()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(in_language(value) if isinstance(value, str) else value)
        node.AddColumn(column)
        node.SetColumnTitle(title, in_language(title))
        if numeric:
            node.SetColumnNullValue(title, "nan")
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    node.EndModify(modified)
    return node
