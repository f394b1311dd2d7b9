"""Surfaces are at the positions of the voxels, state their axes, and are counted correctly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES, structure
from heartseg.errors import InputError, SettingsError
from heartseg.export import Mesh, Subject, check_solidity, closed_surface, label_surfaces
from heartseg.export.finer_grid import finer_labels, separated
from heartseg.export.surface_files import read_stl, write_surface, write_surfaces
from heartseg.export.surfaces import as_polydata, joined
from heartseg.measure.boxes import bounding_box
from heartseg.volume import Geometry
from phantoms import heart_phantom

vtk = pytest.importorskip("vtk", reason='needs vtk: pip install "heartseg[app]"')

TETRAHEDRON = Mesh(
    np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]], float),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


def read_with_vtk(path: Path) -> Any:
    reader = {".stl": vtk.vtkSTLReader, ".ply": vtk.vtkPLYReader, ".obj": vtk.vtkOBJReader}[path.suffix]()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput()


# --- shape ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["LV", "MYO", "AO"])
def test_a_surface_encloses_the_voxels_and_faces_outwards(subject: Subject, key: str) -> None:
    result = subject.result
    mask = result.mask(key)
    mesh = closed_surface(mask, result.geometry)
    voxels_ml = mask.sum() * result.geometry.voxel_volume_ml
    assert mesh.volume_ml == pytest.approx(voxels_ml, rel=0.1)  # smoothing shrinks edges of a 3 mm grid slightly
    center = result.geometry.index_to_world(np.argwhere(mask).mean(axis=0))
    assert np.allclose(mesh.points[np.unique(mesh.triangles)].mean(axis=0), center, atol=6.0)


def test_without_smoothing_the_surface_runs_halfway_between_voxels() -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[1:4, 2:4, 3:6] = True
    mesh = closed_surface(mask, Geometry(mask.shape, (2.0, 3.0, 4.0), (10.0, 20.0, 30.0)), smoothing=0.0)
    assert mesh.points.min(axis=0).tolist() == [10 + 2.0 * 2.5, 20 + 3.0 * 1.5, 30 + 4.0 * 0.5]
    assert mesh.points.max(axis=0).tolist() == [10 + 2.0 * 5.5, 20 + 3.0 * 3.5, 30 + 4.0 * 3.5]


def test_a_mirrored_grid_has_its_outside_outside() -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[2:4, 1:5, 1:4] = True
    mirrored = Geometry(mask.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    mesh = closed_surface(mask, mirrored)
    assert mesh.volume_ml > 0
    assert check_solidity(mesh).watertight


def test_what_reaches_the_scans_border_is_closed_there() -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[:3] = True
    assert check_solidity(closed_surface(mask, Geometry(mask.shape, (1.0, 1.0, 1.0)))).watertight


def test_nothing_has_no_surface() -> None:
    assert closed_surface(np.zeros((4, 4, 4), bool), Geometry((4, 4, 4), (1.0, 1.0, 1.0))) is None


def test_a_smoothing_outside_its_range_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"smoothing 1.5 is outside 0 to 1"):
        closed_surface(np.ones((2, 2, 2), bool), Geometry((2, 2, 2), (1.0, 1.0, 1.0)), smoothing=1.5)


# --- counting ---------------------------------------------------------------------------------------------------------


def test_a_whole_body_is_watertight_and_its_numbers_are_right() -> None:
    found = check_solidity(TETRAHEDRON)
    assert found.watertight
    assert (found.points, found.triangles, found.shells) == (4, 4, 1)
    assert found.volume_ml == pytest.approx(1000 / 6 / 1000)
    assert found.area_cm2 == pytest.approx((3 * 50 + np.sqrt(3) / 2 * 100) / 100)


def faulty(triangles: np.ndarray | list[Any]) -> Mesh:
    return Mesh(TETRAHEDRON.points, np.array(triangles))


@pytest.mark.parametrize(
    ("mesh", "fault", "count"),
    [
        (faulty(TETRAHEDRON.triangles[:3]), "open_edges", 3),
        (faulty([*TETRAHEDRON.triangles[:3], [1, 3, 2]]), "misoriented_edges", 3),
        (faulty([*TETRAHEDRON.triangles, [0, 1, 2], [0, 2, 1]]), "crowded_edges", 3),
        (faulty([*TETRAHEDRON.triangles, [1, 2, 2]]), "degenerate_triangles", 1),
        (faulty(np.zeros((0, 3), int)), "triangles", 0),
    ],
    ids=["a hole", "a turned triangle", "triangles too many", "a triangle of no area", "nothing"],
)
def test_every_fault_is_counted(mesh: Mesh, fault: str, count: int) -> None:
    found = check_solidity(mesh)
    assert not found.watertight
    assert getattr(found, fault) == count


def test_a_body_inside_out_is_not_watertight() -> None:
    assert not check_solidity(TETRAHEDRON.flipped()).watertight


def test_a_hollow_body_has_two_shells_and_the_volume_between_them() -> None:
    large = Mesh(TETRAHEDRON.points * 3 - 2, TETRAHEDRON.triangles)
    found = check_solidity(joined(large, TETRAHEDRON.flipped()))
    assert found.watertight
    assert found.shells == 2
    assert found.volume_ml == pytest.approx((27 - 1) / 6)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_other_programs_read_the_same_triangles(tmp_path: Path, suffix: str) -> None:
    path = write_surface(TETRAHEDRON, tmp_path / f"body{suffix}", "LPS", "body", (10, 20, 30))
    read = read_with_vtk(path)
    assert read.GetNumberOfCells() == 4
    assert np.allclose(read.GetBounds(), (0, 10, 0, 10, 0, 10))
    measure = vtk.vtkMassProperties()
    measure.SetInputData(read)
    assert measure.GetVolume() == pytest.approx(1000 / 6, rel=1e-6)


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_ras_turns_x_and_y_and_the_file_says_so(tmp_path: Path, suffix: str) -> None:
    path = write_surface(TETRAHEDRON, tmp_path / f"body{suffix}", "RAS", "body", (10, 20, 30))
    assert np.allclose(read_with_vtk(path).GetBounds(), (-10, 0, -10, 0, 0, 10))
    assert b"SPACE=RAS" in path.read_bytes()[:200]
    assert b"SPACE=LPS" not in path.read_bytes()[:200]


@pytest.mark.parametrize("coordinates", ["LPS", "RAS"])
@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_slicer_reads_them_into_the_right_place(tmp_path: Path, coordinates: str, suffix: str) -> None:
    pytest.importorskip("slicer", reason="needs slicer-core (extra dev)")
    from slicer_host import host

    path = write_surface(TETRAHEDRON, tmp_path / f"body{suffix}", coordinates, "body", (10, 20, 30))
    with host.session():
        import slicer

        node = slicer.util.loadModel(str(path))
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        slicer.mrmlScene.RemoveNode(node)
    assert np.allclose(bounds, (-10, 0, -10, 0, 0, 10), atol=1e-4)  # RAS, as in Slicer


def test_ply_and_obj_have_the_structures_colours(tmp_path: Path) -> None:
    lv = structure("LV")
    write_surfaces([(lv, TETRAHEDRON)], tmp_path / "s", ("ply", "obj"))
    colors = read_with_vtk(tmp_path / "s" / "left_ventricle.ply").GetPointData().GetArray("RGB")
    assert colors.GetTuple(3) == lv.color
    obj, material = ((tmp_path / "s" / f"left_ventricle.{x}").read_text() for x in ("obj", "mtl"))
    assert "mtllib left_ventricle.mtl" in obj and "usemtl left_ventricle" in obj
    stated = next(line for line in material.splitlines() if line.startswith("Kd ")).split()[1:]
    assert [round(255 * float(v)) for v in stated] == list(lv.color)


def test_files_are_named_after_the_anatomy(tmp_path: Path) -> None:
    written = write_surfaces([(s, TETRAHEDRON) for s in STRUCTURES], tmp_path / "s", ("stl",))
    assert {p.name for p in (tmp_path / "s").iterdir()} == {s.name.replace(" ", "_") + ".stl" for s in STRUCTURES}
    assert set(written["stl"]) == {s.key for s in STRUCTURES}


def test_an_stl_that_was_cut_short_is_not_taken_for_whole(tmp_path: Path) -> None:
    path = write_surface(TETRAHEDRON, tmp_path / "body.stl", "LPS", "body", (0, 0, 0))
    assert check_solidity(read_stl(path)).watertight
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not a complete binary STL"):
        read_stl(path)


def test_unknown_axes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="coordinates 'XYZ' are unknown: use LPS or RAS"):
        write_surface(TETRAHEDRON, tmp_path / "body.stl", "XYZ", "body", (0, 0, 0))


SLICES = {"thin": (1.0, 1.0, 0.7), "2.5 mm": (1.0, 1.0, 2.5), "8 mm": (1.4, 1.4, 8.0)}


@pytest.fixture(scope="module", params=list(SLICES.values()), ids=list(SLICES))
def sliced(request: pytest.FixtureRequest) -> tuple[np.ndarray, Geometry, dict[str, Mesh]]:
    """Labels of the phantom on a grid, the grid, and the surfaces of all structures."""
    labels, geometry, _ = heart_phantom(request.param)
    return labels, geometry, label_surfaces(labels, geometry, STRUCTURES)


def test_neighbours_share_their_border(sliced: tuple[np.ndarray, Geometry, dict[str, Mesh]]) -> None:
    """Fewer than 0.5 % of the points of one structure are inside another; surfaces made one by one had 47 %."""
    _, _, surfaces = sliced
    for key, other in (("LV", "MYO"), ("RV", "MYO"), ("LA", "LV"), ("RA", "RV")):
        distance = vtk.vtkImplicitPolyDataDistance()
        distance.SetInput(as_polydata(surfaces[other]))
        points = surfaces[key].points[::7]
        inside = np.mean([distance.EvaluateFunction(point) < -0.01 for point in points])  # mm; 32-bit floats
        assert inside < 0.005, (key, other)


def test_they_are_watertight_and_enclose_the_volume_of_their_grid(
    sliced: tuple[np.ndarray, Geometry, dict[str, Mesh]],
) -> None:
    labels, geometry, surfaces = sliced
    fine, factors = finer_labels(np.pad(labels[bounding_box(labels)], 1), geometry.spacing[::-1])
    for one in STRUCTURES:
        solidity = check_solidity(surfaces[one.key])
        assert solidity.watertight, (one.key, solidity)
        own = np.count_nonzero(fine == one.label) * geometry.voxel_volume_ml / factors.prod()
        assert solidity.volume_ml == pytest.approx(own, rel=0.01)
        voxels = np.count_nonzero(labels == one.label) * geometry.voxel_volume_ml
        assert solidity.volume_ml == pytest.approx(voxels, rel=0.03)  # thick slices end between two slice centres


def test_thick_slices_give_no_steps() -> None:
    """A ball on 8 mm slices: its surface is within 1 mm of the ball; a stepped surface errs by 2 mm on average."""
    z, y, x = np.meshgrid(np.arange(10) * 8.0, np.arange(70.0), np.arange(70.0), indexing="ij")
    center, radius = np.array([35.0, 35.0, 36.0]), 25.0
    ball = (x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2 <= radius**2
    smooth = closed_surface(ball, Geometry(ball.shape, (1.0, 1.0, 8.0)))
    off = np.abs(np.linalg.norm(smooth.points - center, axis=1) - radius)
    assert off.mean() < 1.0


def test_interpolated_labels_are_the_old_ones_at_the_old_slices() -> None:
    labels, geometry, _ = heart_phantom((2.0, 2.0, 6.0))
    fine, factors = finer_labels(labels, geometry.spacing[::-1])
    assert factors.tolist() == [3, 1, 1]
    assert np.array_equal(fine[1::3], labels)


def test_voxels_that_touch_along_an_edge_only_are_separated() -> None:
    labels = np.zeros((5, 6, 6), np.uint8)
    labels[1:4, 1:3, 1:3] = 1
    labels[1:4, 3:5, 3:5] = 1
    assert 0 < np.count_nonzero(separated(labels) != labels) <= 6
    mesh = label_surfaces(labels, Geometry(labels.shape, (1.0, 1.0, 1.0)), STRUCTURES, smoothing=0.0)["LV"]
    assert check_solidity(mesh).watertight
