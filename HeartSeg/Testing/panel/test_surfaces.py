"""Surfaces made by the worker with plain VTK, and how they are added to the scene."""

from __future__ import annotations

import pytest
import slicer
import vtk

from heartseg.errors import Cancelled, InputError
from heartseg.progress import CancelToken, ProgressEvent, Reporter
from heartseg.result import Result
from heartseg.scene import enter_segments, fill_segmentation
from heartseg.scene.prepared import prepare_segments
from heartseg.volume import Geometry
from phantoms import heart_phantom
from pythonqt import PanelHost

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture(params=[(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), OBLIQUE], ids=["straight", "oblique"])
def result(session: PanelHost, request: pytest.FixtureRequest) -> Result:
    labels, geometry, _ = heart_phantom((2.5, 2.0, 3.0), direction=request.param)
    return Result(labels, geometry)


def add_grid_node(geometry: Geometry) -> object:
    """Return a volume node with the grid of a scan but without voxels."""
    image = vtk.vtkImageData()
    image.SetDimensions(*geometry.size)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "grid")
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(geometry.affine_ras))
    return node


def volume_ml(surface: vtk.vtkPolyData) -> float:
    triangles, mass = vtk.vtkTriangleFilter(), vtk.vtkMassProperties()
    triangles.SetInputData(surface)
    mass.SetInputConnection(triangles.GetOutputPort())
    return mass.GetVolume() / 1000


def test_slicers_own_conversion_after_an_edit_makes_much_the_same_surfaces(result: Result) -> None:
    """Slicer makes surfaces one by one with flying edges and the same smoothing."""
    slicer.mrmlScene.Clear(0)
    segmentation = fill_segmentation(result, add_grid_node(result.geometry)).GetSegmentation()
    ours = {key: vtk.vtkPolyData() for key in segmentation.GetSegmentIDs()}
    for key, surface in ours.items():
        surface.DeepCopy(segmentation.GetSegment(key).GetRepresentation("Closed surface"))
    segmentation.RemoveRepresentation("Closed surface")
    assert segmentation.CreateRepresentation("Closed surface")
    for key, surface in ours.items():
        theirs = segmentation.GetSegment(key).GetRepresentation("Closed surface")
        assert volume_ml(surface) == pytest.approx(volume_ml(theirs), rel=0.03)
        for mine, other in zip(surface.GetBounds(), theirs.GetBounds(), strict=True):
            assert mine == pytest.approx(other, abs=2 * max(result.geometry.spacing)), key  # thin tips are rounded


def test_they_are_closed(result: Result) -> None:
    for surface in prepare_segments(result, Reporter()).surfaces.values():
        edges = vtk.vtkFeatureEdges()
        edges.SetInputData(surface)
        edges.FeatureEdgesOff()
        edges.NonManifoldEdgesOff()
        edges.ManifoldEdgesOff()
        edges.Update()
        assert edges.GetOutput().GetNumberOfCells() == 0


def test_a_cancel_stops_between_two_structures(result: Result) -> None:
    token = CancelToken()

    def cancel_after_two(event: ProgressEvent) -> None:
        if event.stage == "surfaces" and event.done == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        prepare_segments(result, Reporter(cancel_after_two, token))


def test_entering_gives_one_node_with_one_layer(result: Result) -> None:
    slicer.mrmlScene.Clear(0)
    grid = add_grid_node(result.geometry)
    prepared = prepare_segments(result, Reporter())
    steps = enter_segments(result, prepared, grid)
    keys = []
    while True:
        try:
            keys.append(next(steps))
        except StopIteration as end:
            node, replaced = end.value
            break
    assert keys == [s.key for s in result.structures]
    assert replaced is None
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


def test_a_scan_that_has_left_the_scene_meanwhile_is_one_line_and_leaves_nothing(result: Result) -> None:
    slicer.mrmlScene.Clear(0)
    grid = add_grid_node(result.geometry)
    steps = enter_segments(result, prepare_segments(result, Reporter()), grid)
    next(steps)
    slicer.mrmlScene.RemoveNode(grid)
    with pytest.raises(InputError, match="left the scene"):
        for _ in steps:
            pass
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
