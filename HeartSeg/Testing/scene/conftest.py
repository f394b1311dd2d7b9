"""A real MRML scene for every test, and a small heart for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.provenance import ModelFacts, Provenance
from heartseg.result import Measure, Result
from heartseg.volume import Geometry, Volume

pytest.importorskip("slicer", reason="needs slicer-core (extra dev)")

from slicer_host import host


@pytest.fixture(scope="session", autouse=True)
def _host() -> Iterator[None]:
    with host.session():
        yield


@pytest.fixture
def scene() -> Iterator[Any]:
    """The MRML scene; nodes added by the test are removed afterwards."""
    import slicer

    def nodes() -> list:
        found = slicer.mrmlScene.GetNodes()
        return [found.GetItemAsObject(i) for i in range(found.GetNumberOfItems())]

    before = {n.GetID() for n in nodes()}
    yield slicer.mrmlScene
    for node in reversed([n for n in nodes() if n.GetID() not in before]):
        slicer.mrmlScene.RemoveNode(node)


def make_labels(shape: tuple[int, int, int] = (24, 30, 36)) -> np.ndarray:
    """Return seven unequal boxes without symmetry, so that any flip or swap of axes is detected."""
    labels = np.zeros(shape, np.uint8)
    labels[5:14, 6:16, 8:20] = 5
    labels[7:13, 8:14, 10:17] = 1
    labels[4:12, 7:17, 20:29] = 2
    labels[14:19, 9:18, 9:18] = 3
    labels[13:18, 12:16, 19:27] = 4
    labels[14:22, 5:9, 14:18] = 6
    labels[12:21, 4:7, 19:24] = 7
    return labels


def make_result(geometry: Geometry, labels: np.ndarray | None = None, **more: Any) -> Result:
    labels = make_labels(geometry.shape) if labels is None else labels
    provenance = Provenance(model=ModelFacts(name="test-model", version="1.2"))
    measures = tuple(
        Measure(s.key, "volume", float((labels == s.label).sum()) * geometry.voxel_volume_ml, "mL") for s in STRUCTURES
    )
    measures += (Measure("LV", "mean_intensity", 312.5, "HU"), Measure("AO", "diameter", None, "mm"))
    return Result(labels, geometry, measures=measures, provenance=provenance, **more)


def make_volume(geometry: Geometry, name: str = "scan") -> Volume:
    values = np.random.default_rng(0).integers(-1000, 1000, geometry.shape).astype(np.int16)
    return Volume(values, geometry, name)


def add_volume_node(geometry: Geometry, name: str = "scan") -> Any:
    """A real scalar volume node with voxels."""
    import slicer

    return slicer.util.addVolumeFromArray(make_volume(geometry).array, ijkToRAS=geometry.affine_ras, name=name)


def add_transform_node(name: str = "moved") -> Any:
    """Return a linear transform that rotates and shifts."""
    import slicer
    import vtk

    transform = vtk.vtkTransform()
    transform.Translate(12, -7, 30)
    transform.RotateWXYZ(25, 0.2, 1, 0.4)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node


@pytest.fixture
def geometry() -> Geometry:
    """Return an anisotropic, off-centre, world-aligned grid."""
    return Geometry((24, 30, 36), (1.5, 1.25, 2.0), (-31.0, 12.0, -250.5))
