"""Conversion of volume nodes to volumes: voxels, modality, source, and one line for unsuitable nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.errors import InputError
from heartseg.scene import volume_from_node
from heartseg.volume import Geometry
from scene.conftest import add_volume_node, make_volume


def test_the_array_is_a_view_of_the_nodes_voxels_that_cannot_be_written(scene: Any, geometry: Geometry) -> None:
    node = add_volume_node(geometry)
    volume = volume_from_node(node)
    assert np.array_equal(volume.array, make_volume(geometry).array)
    assert np.shares_memory(volume.array, slicer.util.arrayFromVolume(node))
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0] = 1


def test_the_array_outlives_the_node(scene: Any, geometry: Geometry) -> None:
    node = add_volume_node(geometry)
    volume = volume_from_node(node)
    scene.RemoveNode(node)
    del node
    assert np.array_equal(volume.array, make_volume(geometry).array)


@pytest.mark.parametrize("said, expected", [("CT", "CT"), ("MR", "MR"), ("US", ""), (None, "")])
def test_modality_comes_from_the_dicom_attribute(
    scene: Any, geometry: Geometry, said: str | None, expected: str
) -> None:
    node = add_volume_node(geometry)
    node.SetAttribute("DICOM.Modality", said)
    assert volume_from_node(node).modality == expected


def test_modality_and_series_come_from_the_subject_hierarchy(scene: Any, geometry: Geometry) -> None:
    node = add_volume_node(geometry)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "MR")
    hierarchy.SetItemUID(item, "DICOM", "1.2.3.4")
    volume = volume_from_node(node)
    assert (volume.modality, volume.source.series_uid) == ("MR", "1.2.3.4")


def test_hounsfield_units_mean_ct(scene: Any, geometry: Geometry) -> None:
    node = add_volume_node(geometry)
    unit = slicer.vtkCodedEntry()
    unit.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueUnits(unit)
    assert volume_from_node(node).modality == "CT"


def test_the_file_a_node_was_loaded_from_is_its_source(scene: Any, geometry: Geometry, tmp_path: Path) -> None:
    path = tmp_path / "chest scan.nrrd"
    slicer.util.saveNode(add_volume_node(geometry), str(path))
    volume = volume_from_node(slicer.util.loadVolume(str(path)))
    assert volume.source.path == str(path)
    assert volume.geometry.same_grid(geometry)


def test_voxels_that_are_not_numbers_are_replaced_with_a_finding(scene: Any, geometry: Geometry) -> None:
    values = np.full((8, 10, 12), 5.0, np.float32)
    values[0, 0, :3] = [np.nan, np.inf, -np.inf]
    values[1, 1, 1] = -7
    volume = volume_from_node(slicer.util.addVolumeFromArray(values))
    assert volume.array[0, 0, :3].tolist() == [-7, -7, -7]
    assert [f.code for f in volume.findings] == ["nan-replaced"]
    assert volume.findings[0].values == {"voxels": 3, "share": 3 / 960, "value": -7.0}


def test_a_node_with_too_many_voxels_that_are_not_numbers_is_refused_as_a_file_is(scene: Any) -> None:
    values = np.full((8, 10, 12), np.nan, np.float32)
    values[:3] = 40.0
    with pytest.raises(InputError, match=r"600 voxels .* \(62.5%\)"):
        volume_from_node(slicer.util.addVolumeFromArray(values, name="holes"))


def test_what_cannot_be_segmented_is_refused_in_one_line(scene: Any, geometry: Geometry) -> None:
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    colour = slicer.util.addVolumeFromArray(
        np.zeros((4, 5, 6, 3), np.uint8), name="photo", nodeClassName="vtkMRMLVectorVolumeNode"
    )
    label = slicer.util.addVolumeFromArray(
        np.zeros((4, 5, 6), np.uint8), name="drawn", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    model = scene.AddNewNodeByClass("vtkMRMLModelNode", "surface")
    nothing = slicer.util.addVolumeFromArray(np.full((4, 5, 6), np.nan), name="nothing")
    broken = slicer.util.addVolumeFromArray(
        np.zeros((4, 5, 6), np.int16), ijkToRAS=np.diag([1.0, 0.0, 1.0, 1.0]), name="flat"
    )
    for node, message in (
        (None, "no volume is chosen"),
        (empty, "'empty' has no voxels"),
        (colour, "'photo' has 3 values per voxel"),
        (label, "'drawn' is a label map"),
        (model, "'surface' is a Model node"),
        (nothing, "of 'nothing' .* NaN or infinite"),
        (broken, "geometry of volume 'flat' is broken"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            volume_from_node(node)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_the_engine_resamples_a_nodes_read_only_voxels_without_a_warning(scene: Any, geometry: Geometry) -> None:
    from heartseg.inference.resample import sample_image, world_grid

    values = np.random.default_rng(0).normal(0, 100, geometry.shape).astype(np.float32)
    node = slicer.util.addVolumeFromArray(values, ijkToRAS=geometry.affine_ras, name="float")
    volume = volume_from_node(node)
    assert not volume.array.flags.writeable and volume.array.dtype == np.float32
    grid = world_grid(volume.geometry, (3.0, 3.0, 3.0))
    assert sample_image(volume.array, volume.geometry, grid).image.shape == grid.shape
    assert np.array_equal(slicer.util.arrayFromVolume(node), values)
