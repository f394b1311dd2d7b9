"""Closed surfaces with plain VTK, on the worker thread, so that Slicer need not make them on the main thread.

The same filters with the same parameters as Slicer's own conversion from binary labelmap to closed surface
(vtkBinaryLabelmapToClosedSurfaceConversionRule): discrete flying edges in index space, windowed sinc smoothing, the
transform to the world, consistent normals. Each structure is cut to its own box first, so that seven structures cost
about as much as one pass over the heart's box. A test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..export.segmentation_file import layer_box
from ..export.surfaces import SMOOTHING, voxel_surface
from ..measure.boxes import bounding_box
from ..progress import Reporter
from ..result import Result


@dataclass(frozen=True, eq=False)
class Layer:
    """A label map cut to the heart.

    Attributes:
        labels: uint8 ``(z, y, x)``, contiguous.
        start: index ``(z, y, x)`` of its first voxel on the scan's grid.
    """

    labels: np.ndarray
    start: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class PreparedSegments:
    """What can be made of a result away from the main thread.

    Attributes:
        layer: the labels.
        surfaces: structure key -> ``vtkPolyData`` in the scan's RAS, below any transform; none for absent structures.
    """

    layer: Layer
    surfaces: Mapping[str, Any] = field(default_factory=dict)


def prepare_segments(result: Result, reporter: Reporter) -> PreparedSegments:
    """The label map cut to the heart, and a closed surface per structure; plain VTK objects that belong to no node.

    Args:
        result: labels uint8 ``(z, y, x)`` on the scan's grid.
        reporter: the stage ``"surfaces"`` counts the structures.

    Raises:
        Cancelled: the user asked to stop; checked between two structures.
    """
    box = layer_box(result.labels)
    cut = np.ascontiguousarray(result.labels[box])
    start = (box[0].start, box[1].start, box[2].start)
    surfaces = {}
    present = [s for s in result.structures if bool((cut == s.label).any())]
    with reporter.stage("surfaces", len(present)):
        for done, structure in enumerate(present):
            reporter.advance(done)
            surfaces[structure.key] = closed_surface(cut == structure.label, start, result.geometry.affine_ras)
    return PreparedSegments(Layer(cut, start), surfaces)


def closed_surface(
    mask: np.ndarray, start: tuple[int, int, int], index_to_world: np.ndarray, smoothing: float = SMOOTHING
) -> Any:
    """The smoothed closed surface of a mask, in world coordinates.

    Args:
        mask: bool ``(z, y, x)``.
        start: index ``(z, y, x)`` of the mask's first voxel on the scan's grid.
        index_to_world: 4 x 4, from index ``(x, y, z)`` to mm.
        smoothing: Slicer's smoothing factor, 0 to 1; 0 leaves the voxels' stairs.

    Returns:
        ``vtkPolyData`` with point normals; empty for an empty mask.
    """
    import vtk

    box = bounding_box(mask.view(np.uint8))
    if box is None:
        return vtk.vtkPolyData()
    low = [s + span.start - 1 for s, span in zip(start, box, strict=True)]  # of the rim
    to_world = vtk.vtkTransform()
    to_world.SetMatrix([float(v) for v in index_to_world.ravel()])
    to_world.Translate(*(float(v) for v in reversed(low)))
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetInputData(voxel_surface(np.pad(mask[box], 1), smoothing))
    moved.SetTransform(to_world)
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(moved.GetOutputPort())
    normals.ConsistencyOn()
    normals.SplittingOff()
    normals.Update()
    surface = vtk.vtkPolyData()
    surface.ShallowCopy(normals.GetOutput())  # let go of the filters' inputs
    return surface
