"""Filling a segmentation node: geometry, names, provenance, surfaces and failures."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from heartseg.anatomy import KEYS, STRUCTURES, structure
from heartseg.errors import InputError
from heartseg.export.segmentation_file import algorithm_name, layer_box
from heartseg.provenance import ModelFacts, Provenance
from heartseg.scene import fill_segmentation, terminology_entry, volume_from_node
from heartseg.scene import segmentation as segmentation_module
from heartseg.volume import Geometry
from scene.conftest import add_transform_node, add_volume_node, make_labels, make_result

SHAPE = (24, 30, 36)


def directions() -> dict[str, np.ndarray]:
    """Return the 48 permutations and flips of the axes, and two oblique ones."""
    found = {}
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
                matrix[row, column] = sign
            found[Geometry(SHAPE, (1, 1, 1), direction=tuple(matrix.ravel())).orientation] = matrix
    a, b = np.deg2rad(18), np.deg2rad(33)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    found["oblique"] = about_z @ about_x
    found["oblique mirrored"] = about_z @ about_x @ np.diag([1.0, -1.0, 1.0])
    return found


DIRECTIONS = directions()


def read_back(node: Any, volume_node: Any) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for key in node.GetSegmentation().GetSegmentIDs():
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, key, volume_node)
        labels[mask != 0] = structure(key).label
    return labels


def test_there_are_48_orientations_and_two_oblique_ones_to_try() -> None:
    assert len(DIRECTIONS) == 50


@pytest.mark.parametrize("name", DIRECTIONS)
def test_voxels_read_back_on_the_volume_are_the_results_labels(scene: Any, name: str) -> None:
    geometry = Geometry(SHAPE, (0.7, 1.3, 2.1), (-120.3, 45.7, 900.1), tuple(DIRECTIONS[name].ravel()))
    volume_node = add_volume_node(geometry)
    result = make_result(geometry)

    node = fill_segmentation(result, volume_node)

    assert np.array_equal(read_back(node, volume_node), result.labels)


@pytest.mark.parametrize("name", ["LPS", "IRA", "oblique mirrored"])
def test_a_volume_under_a_transform_takes_its_segmentation_along(scene: Any, name: str) -> None:
    geometry = Geometry(SHAPE, (0.7, 1.3, 2.1), (-120.3, 45.7, 900.1), tuple(DIRECTIONS[name].ravel()))
    volume_node, transform = add_volume_node(geometry), add_transform_node()
    volume_node.SetAndObserveTransformNodeID(transform.GetID())
    result = make_result(geometry)

    node = fill_segmentation(result, volume_node)

    assert node.GetTransformNodeID() == transform.GetID()
    assert np.array_equal(read_back(node, volume_node), result.labels)
    to_world = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(to_world)
    index = np.argwhere(result.labels == 1).mean(axis=0)[::-1]
    expected = slicer.util.arrayFromVTKMatrix(to_world) @ geometry.affine_ras @ [*index, 1]
    assert np.allclose(node.GetSegmentCenterRAS("LV"), expected[:3], atol=2.0)  # centre of bounding box, within a voxel


def test_the_volume_read_from_the_node_has_the_geometry_that_made_it(scene: Any) -> None:
    for name, matrix in DIRECTIONS.items():
        geometry = Geometry(SHAPE, (0.7, 1.3, 2.1), (-120.3, 45.7, 900.1), tuple(matrix.ravel()))
        assert volume_from_node(add_volume_node(geometry)).geometry.same_grid(geometry, 1e-6), name


def test_segments_carry_key_name_colour_terminology_and_provenance(scene: Any, geometry: Geometry) -> None:
    node = fill_segmentation(make_result(geometry), add_volume_node(geometry))

    assert node.GetSegmentation().GetSegmentIDs() == KEYS
    for expected in STRUCTURES:
        segment = node.GetSegmentation().GetSegment(expected.key)
        assert segment.GetName() == expected.name
        assert np.allclose(np.array(segment.GetColor()) * 255, expected.color)
        assert segment.GetTerminology() == terminology_entry(expected)
        assert _tag(segment, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
        assert _tag(segment, "DICOM.SegmentAlgorithmName").endswith(" test-model 1.2")


def test_the_algorithm_name_fits_the_dicom_field(geometry: Geometry) -> None:
    long = ModelFacts(name="a model with a name that nobody would want to read to the end " * 3)
    assert len(algorithm_name(replace(make_result(geometry), provenance=Provenance(model=long)))) == 64


def test_slicer_reads_our_terminology_entries(scene: Any) -> None:
    logic = slicer.modules.terminologies.logic()
    for expected in STRUCTURES:
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(terminology_entry(expected), entry)
        assert entry.GetCategoryObject().GetCodeValue() == "123037004"
        assert entry.GetTypeObject().GetCodeValue() == expected.snomed_code
        assert entry.GetTypeObject().GetCodeMeaning() == expected.snomed_meaning


def test_surfaces_are_ready_and_enclose_the_voxels_volume(scene: Any, geometry: Geometry) -> None:
    result = make_result(geometry)
    node = fill_segmentation(result, add_volume_node(geometry))

    for key in ("LV", "RV", "LA"):
        surface = vtk.vtkPolyData()
        assert node.GetClosedSurfaceRepresentation(key, surface)
        mass = vtk.vtkMassProperties()
        mass.SetInputData(surface)
        voxels_ml = float(result.mask(key).sum()) * geometry.voxel_volume_ml
        assert mass.GetVolume() / 1000 == pytest.approx(voxels_ml, rel=0.15)  # edges of boxes are rounded


def test_labels_that_touch_the_images_edge_have_closed_surfaces(scene: Any, geometry: Geometry) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[:6, :8, 30:] = 6
    node = fill_segmentation(make_result(geometry, labels), add_volume_node(geometry))
    surface, edges = vtk.vtkPolyData(), vtk.vtkFeatureEdges()
    node.GetClosedSurfaceRepresentation("AO", surface)
    edges.SetInputData(surface)
    edges.FeatureEdgesOff()
    edges.NonManifoldEdgesOff()
    edges.ManifoldEdgesOff()
    edges.Update()
    assert surface.GetNumberOfCells() > 0
    assert edges.GetOutput().GetNumberOfCells() == 0


def test_a_structure_that_was_asked_for_and_not_found_is_an_empty_segment(scene: Any, geometry: Geometry) -> None:
    labels = make_labels()
    labels[labels == 7] = 0
    asked = tuple(s for s in STRUCTURES if s.key in ("LV", "PA"))
    labels[~np.isin(labels, [1])] = 0
    volume_node = add_volume_node(geometry)
    node = fill_segmentation(make_result(geometry, labels, structures=asked), volume_node)

    assert node.GetSegmentation().GetSegmentIDs() == ("LV", "PA")
    assert not slicer.util.arrayFromSegmentBinaryLabelmap(node, "PA", volume_node).any()
    assert np.array_equal(read_back(node, volume_node), labels)


def test_a_result_without_a_heart_gives_empty_segments_and_no_error(scene: Any, geometry: Geometry) -> None:
    volume_node = add_volume_node(geometry)
    node = fill_segmentation(make_result(geometry, np.zeros(SHAPE, np.uint8)), volume_node)
    assert node.GetSegmentation().GetSegmentIDs() == KEYS
    assert not read_back(node, volume_node).any()


def test_a_result_without_any_structure_gives_an_empty_node(scene: Any, geometry: Geometry) -> None:
    empty = make_result(geometry, np.zeros(SHAPE, np.uint8), structures=())
    assert fill_segmentation(empty, add_volume_node(geometry)).GetSegmentation().GetNumberOfSegments() == 0


def test_the_node_refers_to_the_volume_and_lies_in_its_study(scene: Any, geometry: Geometry) -> None:
    volume_node = add_volume_node(geometry)
    hierarchy = scene.GetSubjectHierarchyNode() or slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, volume_node)
    existing = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), existing)

    node = fill_segmentation(make_result(geometry), volume_node, existing)

    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume_node
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    hierarchy.RemoveItem(study)


def test_an_existing_node_is_filled_anew_and_keeps_its_identity_and_display(scene: Any, geometry: Geometry) -> None:
    volume_node = add_volume_node(geometry)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "my heart")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetOpacity2DFill(0.9)
    node.GetSegmentation().AddEmptySegment("old", "old")

    again = fill_segmentation(make_result(geometry), volume_node, node)

    assert again is node
    assert node.GetName() == "my heart"
    assert node.GetSegmentation().GetSegmentIDs() == KEYS
    assert node.GetDisplayNode().GetOpacity2DFill() == pytest.approx(0.9)


def test_observers_hear_of_every_segment_and_the_labels_stay_in_one_layer(scene: Any, geometry: Geometry) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.GetSegmentation().AddEmptySegment("old", "old")
    heard = []
    for event in ("SegmentAdded", "SegmentRemoved"):
        node.AddObserver(getattr(slicer.vtkSegmentation, event), lambda *_, name=event: heard.append(name))

    fill_segmentation(make_result(geometry), add_volume_node(geometry), node)

    assert heard == ["SegmentRemoved", *["SegmentAdded"] * 7]
    assert node.GetSegmentation().GetNumberOfLayers() == 1


@pytest.mark.parametrize("step", ["_collect", "_show", "_put_beside"])
def test_a_failure_leaves_an_existing_node_as_it_was(
    scene: Any, geometry: Geometry, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    volume_node, transform = add_volume_node(geometry), add_transform_node()
    node = fill_segmentation(make_result(geometry), volume_node)
    volume_node.SetAndObserveTransformNodeID(transform.GetID())
    before = read_back(node, None)

    def fail(*_: object) -> None:
        raise MemoryError("no more memory")

    monkeypatch.setattr(segmentation_module, step, fail)
    with pytest.raises(MemoryError):
        fill_segmentation(make_result(geometry, np.flip(make_labels())), volume_node, node)

    assert node.GetTransformNodeID() is None
    assert np.array_equal(read_back(node, None), before)


def test_a_failure_leaves_no_new_node_behind(scene: Any, geometry: Geometry, monkeypatch: pytest.MonkeyPatch) -> None:
    volume_node = add_volume_node(geometry)
    count = scene.GetNumberOfNodes()
    monkeypatch.setattr(segmentation_module, "_put_beside", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fill_segmentation(make_result(geometry), volume_node)
    assert scene.GetNumberOfNodes() == count


def test_a_volume_that_changed_meanwhile_is_refused(scene: Any, geometry: Geometry) -> None:
    volume_node, result = add_volume_node(geometry), make_result(geometry)
    volume_node.SetSpacing(3, 3, 3)
    with pytest.raises(InputError, match="has changed since it was segmented"):
        fill_segmentation(result, volume_node)


def test_nodes_that_left_the_scene_are_refused(scene: Any, geometry: Geometry) -> None:
    volume_node, result = add_volume_node(geometry), make_result(geometry)
    gone = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    scene.RemoveNode(gone)
    with pytest.raises(InputError, match="output segmentation has left the scene"):
        fill_segmentation(result, volume_node, gone)
    scene.RemoveNode(volume_node)
    with pytest.raises(InputError, match="volume has left the scene"):
        fill_segmentation(result, volume_node)


def test_the_layer_is_tight() -> None:
    labels = make_labels()
    box = layer_box(labels)
    slices = np.asarray(labels[box].any(axis=(1, 2)))
    assert slices[[0, -1]].all()
    assert np.count_nonzero(labels[box]) == np.count_nonzero(labels)
    assert [(s.start, s.stop) for s in box] == [(4, 22), (4, 18), (8, 29)]


def _tag(segment: Any, name: str) -> str:
    value = vtk.reference("")
    assert segment.GetTag(name, value)
    return str(value)


@pytest.mark.parametrize("where", [0, 10, 23])
def test_the_layer_has_at_least_two_slices_where_the_scan_has_them(where: int) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[where, 4:9, 7:8] = 1
    box = layer_box(labels)
    assert [s.stop - s.start for s in box] == [2, 5, 2]
    assert labels[box].sum() == labels.sum()
    assert all(0 <= s.start < s.stop <= n for s, n in zip(box, SHAPE, strict=True))
    assert layer_box(np.ones((1, 3, 3), np.uint8)) == (slice(0, 1), slice(0, 3), slice(0, 3))
