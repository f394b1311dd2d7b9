"""From a result's measures to a table node: one row per structure, one numeric column per quantity."""

from __future__ import annotations

import math
from typing import Any

from ..anatomy import STRUCTURES
from ..result import Result
from ..wording import _
from .language import in_language

_COLUMNS = (
    ("volume", _("volume")),
    ("mass", _("mass")),
    ("diameter", _("diameter")),
    ("mean_intensity", _("mean")),
    ("sd_intensity", _("SD")),
    ("extent_x", _("extent left-right")),
    ("extent_y", _("extent anterior-posterior")),
    ("extent_z", _("extent inferior-superior")),
)
"""Quantity of :class:`~heartseg.result.Measure` -> column title without unit."""

_UNITS = {"volume": "mL", "mass": "g", "diameter": "mm", "extent_x": "mm", "extent_y": "mm", "extent_z": "mm"}


def fill_table(result: Result, table_node: Any = None, name: str = "heart") -> Any:
    """Put a result's measures into a table node.

    Columns: ``structure`` (key), ``name``, then ``volume (mL)``, ``mass (g)``, ``diameter (mm)``, ``mean (HU)``,
    ``SD (HU)`` and the extents in mm (the intensity unit is left out where the scan has none). Numbers are doubles, so
    that Slicer can sort and plot them; what was not or cannot be measured is NaN. There is a row per structure that was
    asked for. Titles of columns are in the language of the application, their names are not.

    Args:
        result: its ``measures``.
        table_node: ``vtkMRMLTableNode`` to fill, its earlier content is replaced; a new one is made when omitted.
        name: the scan's name; a new node is called ``"<name> measures"``.

    Returns:
        The ``vtkMRMLTableNode``.
    """
    import slicer
    import vtk

    rows = [s for s in STRUCTURES if s in result.structures]
    values = {(m.structure, m.quantity): m.value for m in result.measures}
    columns, titles = [], [_("structure"), _("name")]
    for title, texts in zip(titles, ([s.key for s in rows], [in_language(s.name) for s in rows]), strict=True):
        column = vtk.vtkStringArray()
        column.SetName(title)
        for text in texts:
            column.InsertNextValue(text)
        columns.append((column, ""))
    for quantity, title in _COLUMNS:
        unit = _unit(result, quantity)
        column = vtk.vtkDoubleArray()
        titles.append(title + f" ({unit})" if unit else title)
        column.SetName(titles[-1])
        for structure in rows:
            value = values.get((structure.key, quantity))
            column.InsertNextValue(math.nan if value is None else float(value))
        columns.append((column, unit))

    node = table_node
    if node is None:
        unique = slicer.mrmlScene.GenerateUniqueName(f"{name} measures")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", unique)
    modified = node.StartModify()
    try:
        node.RemoveAllColumns()
        for (column, unit), title in zip(columns, titles, strict=True):
            node.AddColumn(column)
            node.SetColumnTitle(column.GetName(), in_language(title))
            if column.IsNumeric():
                node.SetColumnNullValue(column.GetName(), "nan")
            if unit:
                node.SetColumnUnitLabel(column.GetName(), unit)
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetLocked(True)
    finally:
        node.EndModify(modified)
    return node


def _unit(result: Result, quantity: str) -> str:
    """Unit that the measures of this quantity carry, else the usual one."""
    carried = next((m.unit for m in result.measures if m.quantity == quantity), None)
    return _UNITS.get(quantity, "") if carried is None else carried
