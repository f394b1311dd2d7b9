"""The endocardial surface with the wall thickness, read back with VTK."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heartseg.errors import InputError, OutputError
from heartseg.export.wall_surface import ARRAY_NAME, wall_surface, write_wall_surface
from heartseg.measure import Unknown, measure_heart
from measured_hearts import LeftVentricle

pytest.importorskip("vtk")


@pytest.fixture(scope="module")
def surface() -> Any:
    labels, geometry = LeftVentricle(wall=11.0).labels((1.5, 1.5, 1.5))
    return wall_surface(labels, geometry, measure_heart(labels, geometry).wall)


def test_the_surface_has_the_thickness_of_the_phantom_and_none_at_the_valve(surface: Any) -> None:
    known = np.isfinite(surface.thickness_mm)
    assert 0.5 < known.mean() < 0.98
    assert np.abs(surface.thickness_mm[known] - 11.0).mean() < 0.4


@pytest.mark.parametrize("suffix", [".vtp", ".ply"])
def test_vtk_reads_the_file(surface: Any, tmp_path: Any, suffix: Any) -> None:
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    write_wall_surface(surface, tmp_path / f"wall{suffix}")
    reader = vtk.vtkXMLPolyDataReader() if suffix == ".vtp" else vtk.vtkPLYReader()
    reader.SetFileName(str(tmp_path / f"wall{suffix}"))
    reader.Update()
    found = reader.GetOutput()
    assert np.allclose(vtk_to_numpy(found.GetPoints().GetData()), surface.mesh.points, atol=1e-3)
    assert found.GetNumberOfPolys() == len(surface.mesh)
    if suffix == ".vtp":
        values = vtk_to_numpy(found.GetPointData().GetArray(ARRAY_NAME))
        assert np.allclose(values, surface.thickness_mm, atol=1e-3, equal_nan=True)
    else:
        colors = vtk_to_numpy(found.GetPointData().GetArray("RGB"))
        assert len(np.unique(colors[~np.isfinite(surface.thickness_mm)], axis=0)) == 1


def test_an_unknown_thickness_or_format_is_refused(surface: Any, tmp_path: Any) -> None:
    labels, geometry = LeftVentricle().labels((3.0, 3.0, 3.0))
    with pytest.raises(InputError, match="too thick"):
        wall_surface(labels, geometry, Unknown("slices are too thick"))
    with pytest.raises(OutputError):
        write_wall_surface(surface, tmp_path / "wall.stl")
    assert not list(tmp_path.iterdir())
