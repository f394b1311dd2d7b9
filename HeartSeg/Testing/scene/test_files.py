"""Segmentation nodes and their surfaces as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from heartseg.anatomy import KEYS, STRUCTURES, structure
from heartseg.errors import OutputError
from heartseg.export.segmentation_file import write_segmentation
from heartseg.scene import fill_segmentation, save_segmentation, save_surfaces
from heartseg.volume import Geometry
from scene.conftest import add_transform_node, add_volume_node, make_labels, make_result


@pytest.fixture
def oblique() -> Geometry:
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, -1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return Geometry((24, 30, 36), (0.8, 0.9, 2.0), (40.0, -12.0, 30.0), tuple(turn.ravel()))


def test_a_saved_segmentation_reads_back_with_voxels_names_colours_and_provenance(scene, oblique, tmp_path) -> None:
    volume_node, result = add_volume_node(oblique), make_result(oblique)
    path = save_segmentation(fill_segmentation(result, volume_node), tmp_path / "heart.seg.nrrd")

    node = slicer.util.loadSegmentation(str(path))

    assert node.GetSegmentation().GetSegmentIDs() == KEYS
    for expected in STRUCTURES:
        segment = node.GetSegmentation().GetSegment(expected.key)
        assert segment.GetName() == expected.name
        assert np.allclose(np.array(segment.GetColor()) * 255, expected.color, atol=0.01)
        assert expected.snomed_code in segment.GetTerminology()
        algorithm = vtk.reference("")
        assert segment.GetTag("DICOM.SegmentAlgorithmName", algorithm)
        assert "HeartSeg" in str(algorithm)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, expected.key, volume_node)
        assert np.array_equal(mask != 0, result.mask(expected.key))


def test_a_saved_segmentation_is_a_label_map_on_the_scans_grid_for_other_programs(scene, oblique, tmp_path) -> None:
    result = make_result(oblique)
    path = save_segmentation(fill_segmentation(result, add_volume_node(oblique)), tmp_path / "heart.seg.nrrd")
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), result.labels)
    assert np.allclose(image.GetOrigin(), oblique.origin, atol=1e-4)
    assert np.allclose(image.GetSpacing(), oblique.spacing, atol=1e-6)
    assert np.allclose(image.GetDirection(), oblique.direction, atol=1e-6)
    assert b"encoding: gzip" in path.read_bytes()[:20000]


def test_saving_does_not_tie_the_node_to_the_file(scene, geometry, tmp_path) -> None:
    node = fill_segmentation(make_result(geometry), add_volume_node(geometry))
    count = scene.GetNumberOfNodes()
    save_segmentation(node, tmp_path / "heart.seg.nrrd")
    assert node.GetStorageNode() is None
    assert scene.GetNumberOfNodes() == count


def test_surfaces_are_named_after_the_anatomy_and_lie_in_lps(scene, oblique, tmp_path) -> None:
    result = make_result(oblique)
    written = save_surfaces(fill_segmentation(result, add_volume_node(oblique)), tmp_path)

    assert {key: path.name for key, path in written.items()} == {
        s.key: s.name.replace(" ", "_") + ".stl" for s in STRUCTURES
    }
    for key in ("LV", "AO"):
        center = read_points(written[key]).mean(axis=0)
        expected = oblique.index_to_world(np.argwhere(result.mask(key)).mean(axis=0))
        assert np.allclose(center, expected, atol=1.0)


@pytest.mark.parametrize("moved", [False, True], ids=["in place", "under a transform"])
def test_surfaces_are_the_ones_that_slicers_own_exporter_writes(scene, oblique, tmp_path, moved: bool) -> None:
    volume_node = add_volume_node(oblique)
    if moved:
        volume_node.SetAndObserveTransformNodeID(add_transform_node().GetID())
    node = fill_segmentation(make_result(oblique), volume_node)
    (tmp_path / "ours").mkdir()
    (tmp_path / "slicer").mkdir()
    written = save_surfaces(node, tmp_path / "ours")
    logic = slicer.modules.segmentations.logic()
    assert logic.ExportSegmentsClosedSurfaceRepresentationToFiles(str(tmp_path / "slicer"), node)

    for key, path in written.items():
        assert np.allclose(read_points(path), read_points(exported(tmp_path / "slicer", key)), atol=1e-3), key


def exported(folder: Path, key: str) -> Path:
    """The file that Slicer's own exporter wrote for this structure: ``<node>_<segment>.stl``."""
    (found,) = [path for path in folder.iterdir() if path.stem.endswith(f"_{structure(key).name}")]
    return found


@pytest.mark.parametrize("format", ["PLY", "OBJ", "VTP"])
def test_other_surface_formats_hold_the_same_points(scene, geometry, tmp_path, format: str) -> None:
    node = fill_segmentation(make_result(geometry), add_volume_node(geometry))
    stl, other = save_surfaces(node, tmp_path), save_surfaces(node, tmp_path, format)
    for key in KEYS:
        ours, theirs = read_points(stl[key]), read_points(other[key])
        assert np.allclose(ours.min(axis=0), theirs.min(axis=0), atol=1e-2)
        assert np.allclose(ours.max(axis=0), theirs.max(axis=0), atol=1e-2)


def test_normals_point_outwards(scene, geometry, tmp_path) -> None:
    written = save_surfaces(fill_segmentation(make_result(geometry), add_volume_node(geometry)), tmp_path)
    triangles = read_points(written["RV"], merge=False).reshape(-1, 3, 3)
    signed = np.einsum("ij,ij->i", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum() / 6
    assert signed > 0  # volume of a closed surface by the divergence theorem


def test_an_empty_segment_gives_no_file(scene, geometry, tmp_path) -> None:
    labels = make_labels()
    labels[labels == 7] = 0
    written = save_surfaces(fill_segmentation(make_result(geometry, labels), add_volume_node(geometry)), tmp_path)
    assert "PA" not in written
    assert len(list(tmp_path.iterdir())) == 6


def test_what_cannot_be_written_is_one_line(scene, geometry, tmp_path) -> None:
    node = fill_segmentation(make_result(geometry), add_volume_node(geometry))
    (tmp_path / "taken.seg.nrrd").mkdir()
    (tmp_path / "left_ventricle.stl").mkdir()
    for act, message in (
        (lambda: save_segmentation(node, tmp_path / "heart.nrrd"), "must end in .seg.nrrd"),
        (lambda: save_segmentation(node, tmp_path / "no" / "heart.seg.nrrd"), "does not exist"),
        (lambda: save_segmentation(node, tmp_path / "taken.seg.nrrd"), "could not be written"),
        (lambda: save_surfaces(node, tmp_path / "no"), "does not exist"),
        (lambda: save_surfaces(node, tmp_path), "could not be written"),
        (lambda: save_surfaces(node, tmp_path, "DWG"), "'DWG' is unknown: use one of STL"),
    ):
        with pytest.raises(OutputError, match=message) as caught:
            act()
        assert "\n" not in str(caught.value)


def thin(only: int | None) -> np.ndarray:
    """One structure in one slice, or nothing at all."""
    labels = np.zeros((24, 30, 36), np.uint8)
    if only:
        labels[-1, 8:20, 5:20] = only
    return labels


@pytest.mark.parametrize(
    "labels",
    [np.where(make_labels() == 7, 0, make_labels()), thin(2), thin(None)],
    ids=["one structure missing", "one structure in one slice", "no heart"],
)
def test_what_was_not_found_makes_no_noise(scene, geometry, tmp_path, capfd, labels) -> None:
    result = make_result(geometry, labels.astype(np.uint8))
    found = {s.key for s in STRUCTURES if (labels == s.label).any()}
    capfd.readouterr()

    node = fill_segmentation(result, add_volume_node(geometry))
    saved = save_surfaces(node, tmp_path)
    loaded = [
        slicer.util.loadSegmentation(str(write(tmp_path)))
        for write in (
            lambda folder: save_segmentation(node, folder / "node.seg.nrrd"),
            lambda folder: write_segmentation(result, folder / "result.seg.nrrd"),
        )
    ]

    output = capfd.readouterr()
    assert output.err == "" and output.out == ""
    assert set(saved) == found
    assert [one.GetSegmentation().GetSegmentIDs() for one in loaded] == [KEYS, KEYS]
    for key in KEYS:
        surface = vtk.vtkPolyData()
        node.GetClosedSurfaceRepresentation(key, surface)
        assert (surface.GetNumberOfCells() > 0) == (key in found)


def test_a_segmentation_without_segments_has_no_surfaces(scene, tmp_path) -> None:
    assert save_surfaces(scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "nothing"), tmp_path) == {}


def read_points(path, merge: bool = True) -> np.ndarray:
    """Points of a surface file in file coordinates (no conversion)."""
    readers = {
        ".stl": vtk.vtkSTLReader,
        ".ply": vtk.vtkPLYReader,
        ".obj": vtk.vtkOBJReader,
        ".vtp": vtk.vtkXMLPolyDataReader,
    }
    reader = readers[path.suffix]()
    if path.suffix == ".stl":
        reader.SetMerging(merge)
    reader.SetFileName(str(path))
    reader.Update()
    return vtk_to_numpy(reader.GetOutput().GetPoints().GetData()).astype(float)
