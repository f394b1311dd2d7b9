"""Surfaces made by the worker with plain VTK are those that Slicer itself would make."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from heartseg.errors import Cancelled, InputError
from heartseg.progress import CancelToken, Reporter
from heartseg.result import Result
from heartseg.scene import enter_segments, fill_segmentation
from heartseg.scene.prepared import closed_surface, prepare_segments
from heartseg.volume import Geometry
from phantoms import heart_phantom

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture(params=[(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), OBLIQUE], ids=["straight", "oblique"])
def result(session, request) -> Result:
    labels, geometry, _ = heart_phantom((2.5, 2.0, 3.0), direction=request.param)
    return Result(labels, geometry)


def add_grid_node(geometry: Geometry) -> object:
    """A volume node with a scan's grid but without voxels."""
    image = vtk.vtkImageData()
    image.SetDimensions(*geometry.size)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "grid")
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(geometry.affine_ras))
    return node


def volume_ml(surface) -> float:
    mass = vtk.vtkMassProperties()
    mass.SetInputData(surface)
    return mass.GetVolume() / 1000


def test_they_equal_slicers_own_conversion(result):
    slicer.mrmlScene.Clear(0)
    segmentation = fill_segmentation(result, add_grid_node(result.geometry)).GetSegmentation()
    segmentation.RemoveRepresentation("Closed surface")
    assert segmentation.CreateRepresentation("Closed surface")
    ours = prepare_segments(result, Reporter()).surfaces
    assert set(ours) == set(segmentation.GetSegmentIDs())
    for key, surface in ours.items():
        theirs = segmentation.GetSegment(key).GetRepresentation("Closed surface")
        assert surface.GetNumberOfPolys() == theirs.GetNumberOfPolys()
        points = [vtk_to_numpy(s.GetPoints().GetData()) for s in (surface, theirs)]
        assert np.allclose(*points, atol=1e-3), key
        assert volume_ml(surface) == pytest.approx(volume_ml(theirs), rel=1e-5)


def test_their_volume_is_the_labels(result):
    surfaces = prepare_segments(result, Reporter()).surfaces
    for key in ("LV", "RV", "LA", "RA"):
        voxels = result.mask(key).sum() * result.geometry.voxel_volume_ml
        assert volume_ml(surfaces[key]) == pytest.approx(voxels, rel=0.05)  # smoothing rounds edges off


def test_they_are_closed(result):
    for surface in prepare_segments(result, Reporter()).surfaces.values():
        edges = vtk.vtkFeatureEdges()
        edges.SetInputData(surface)
        edges.FeatureEdgesOff()
        edges.NonManifoldEdgesOff()
        edges.ManifoldEdgesOff()
        edges.Update()
        assert edges.GetOutput().GetNumberOfCells() == 0


def test_an_empty_mask_gives_an_empty_surface(session):
    assert closed_surface(np.zeros((3, 3, 3), bool), (0, 0, 0), np.eye(4)).GetNumberOfPoints() == 0


def test_a_cancel_stops_between_two_structures(result):
    token = CancelToken()

    def cancel_after_two(event):
        if event.stage == "surfaces" and event.done == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        prepare_segments(result, Reporter(cancel_after_two, token))


def test_entering_gives_one_node_with_one_layer(result):
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


def test_a_scan_that_has_left_the_scene_meanwhile_is_one_line_and_leaves_nothing(result):
    slicer.mrmlScene.Clear(0)
    grid = add_grid_node(result.geometry)
    steps = enter_segments(result, prepare_segments(result, Reporter()), grid)
    next(steps)
    slicer.mrmlScene.RemoveNode(grid)
    with pytest.raises(InputError, match="left the scene"):
        for _ in steps:
            pass
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
