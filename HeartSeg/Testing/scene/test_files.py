"""Segmentation nodes in files of Slicer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

from heartseg.anatomy import KEYS, STRUCTURES
from heartseg.export.segmentation_file import write_segmentation
from heartseg.scene import fill_segmentation
from heartseg.volume import Geometry
from scene.conftest import add_volume_node, make_labels, make_result


def saved(node: Any, path: Path) -> Path:
    """Return the node's file as written by the application."""
    assert slicer.util.saveNode(node, str(path), {"useCompression": 1})
    return path


@pytest.fixture
def oblique() -> Geometry:
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, -1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return Geometry((24, 30, 36), (0.8, 0.9, 2.0), (40.0, -12.0, 30.0), tuple(turn.ravel()))


def test_a_saved_segmentation_reads_back_with_voxels_names_colours_and_provenance(
    scene: Any, oblique: Geometry, tmp_path: Path
) -> None:
    volume_node, result = add_volume_node(oblique), make_result(oblique)
    path = saved(fill_segmentation(result, volume_node), tmp_path / "heart.seg.nrrd")

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


def test_a_saved_segmentation_is_a_label_map_on_the_scans_grid_for_other_programs(
    scene: Any, oblique: Geometry, tmp_path: Path
) -> None:
    result = make_result(oblique)
    path = saved(fill_segmentation(result, add_volume_node(oblique)), tmp_path / "heart.seg.nrrd")
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), result.labels)
    assert np.allclose(image.GetOrigin(), oblique.origin, atol=1e-4)
    assert np.allclose(image.GetSpacing(), oblique.spacing, atol=1e-6)
    assert np.allclose(image.GetDirection(), oblique.direction, atol=1e-6)
    assert b"encoding: gzip" in path.read_bytes()[:20000]


def thin(only: int | None) -> np.ndarray:
    """One structure in one slice, or no structure."""
    labels = np.zeros((24, 30, 36), np.uint8)
    if only:
        labels[-1, 8:20, 5:20] = only
    return labels


@pytest.mark.parametrize(
    "labels",
    [np.where(make_labels() == 7, 0, make_labels()), thin(2), thin(None)],
    ids=["one structure missing", "one structure in one slice", "no heart"],
)
def test_what_was_not_found_makes_no_noise(
    scene: Any, geometry: Geometry, tmp_path: Path, capfd: pytest.CaptureFixture[str], labels: np.ndarray
) -> None:
    result = make_result(geometry, labels.astype(np.uint8))
    found = {s.key for s in STRUCTURES if (labels == s.label).any()}
    capfd.readouterr()

    node = fill_segmentation(result, add_volume_node(geometry))
    loaded = [
        slicer.util.loadSegmentation(str(write(tmp_path)))
        for write in (
            lambda folder: saved(node, folder / "node.seg.nrrd"),
            lambda folder: write_segmentation(result, folder / "result.seg.nrrd"),
        )
    ]

    output = capfd.readouterr()
    assert output.err == "" and output.out == ""
    assert [one.GetSegmentation().GetSegmentIDs() for one in loaded] == [KEYS, KEYS]
    for key in KEYS:
        surface = vtk.vtkPolyData()
        node.GetClosedSurfaceRepresentation(key, surface)
        assert (surface.GetNumberOfCells() > 0) == (key in found)
