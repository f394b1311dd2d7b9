"""The table of measures."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.anatomy import KEYS, STRUCTURES
from heartseg.result import Measure
from heartseg.scene import fill_table
from heartseg.volume import Geometry
from scene.conftest import make_result


def test_columns_are_named_with_units_and_numbers_are_numbers(scene: Any, geometry: Geometry) -> None:
    result = make_result(geometry)
    node = fill_table(result, name="scan 7")

    assert node.GetName() == "scan 7 measures"
    names = [node.GetColumnName(i) for i in range(node.GetNumberOfColumns())]
    assert names[:6] == ["structure", "name", "volume (mL)", "mass (g)", "diameter (mm)", "mean (HU)"]
    assert "extent left-right (mm)" in names
    volumes = slicer.util.arrayFromTableColumn(node, "volume (mL)")
    assert volumes.dtype == np.float64
    assert volumes.tolist() == pytest.approx([result.measure(k, "volume") for k in KEYS])
    assert [node.GetCellText(i, 1) for i in range(7)] == [s.name for s in STRUCTURES]


def test_titles_and_names_are_in_the_language_of_the_application_and_columns_keep_theirs(
    scene: Any, geometry: Geometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    german = {"volume": "Volumen", "right ventricle": "rechter Ventrikel", "name": "Name"}
    monkeypatch.setattr(slicer.app, "translate", lambda context, text: german.get(text, text))
    node = fill_table(make_result(geometry))
    assert [node.GetColumnTitle(node.GetColumnName(i)) for i in (1, 2)] == ["Name", "Volumen (mL)"]
    assert node.GetColumnName(2) == "volume (mL)"
    assert node.GetCellText(1, 1) == "rechter Ventrikel"


def test_what_was_not_measured_is_not_a_number(scene: Any, geometry: Geometry) -> None:
    node = fill_table(make_result(geometry))
    assert math.isnan(slicer.util.arrayFromTableColumn(node, "diameter (mm)")[5])
    means = slicer.util.arrayFromTableColumn(node, "mean (HU)")
    assert means[0] == 312.5
    assert np.isnan(means[1:]).all()


def test_mr_intensity_has_no_unit(scene: Any, geometry: Geometry) -> None:
    result = make_result(geometry)
    result = type(result)(result.labels, geometry, measures=(Measure("LV", "mean_intensity", 80.0, ""),))
    assert fill_table(result).GetColumnName(5) == "mean"


def test_only_structures_that_were_asked_for_have_a_row(scene: Any, geometry: Geometry) -> None:
    node = fill_table(make_result(geometry, structures=STRUCTURES[:2]))
    assert [node.GetCellText(i, 0) for i in range(node.GetNumberOfRows())] == ["LV", "RV"]


def test_an_existing_table_is_filled_anew(scene: Any, geometry: Geometry) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", "mine")
    node.AddColumn().SetName("old")
    again = fill_table(make_result(geometry), node)
    fill_table(make_result(geometry), node)
    assert again is node
    assert node.GetColumnIndex("old") == -1
    assert node.GetNumberOfRows() == 7


def test_it_saves_as_csv(scene: Any, geometry: Geometry, tmp_path: Path) -> None:
    assert slicer.util.saveNode(fill_table(make_result(geometry)), str(tmp_path / "measures.csv"))
    with (tmp_path / "measures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["structure"] for row in rows] == list(KEYS)
    assert float(rows[0]["volume (mL)"]) == pytest.approx(make_result(geometry).measure("LV", "volume"), rel=1e-5)
