"""Prepare a result for the scene on the worker thread, to relieve the main thread; makes no MRML calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..export.segmentation_file import layer_box
from ..export.surfaces import as_polydata, label_surfaces
from ..progress import Reporter
from ..result import Result


@dataclass(frozen=True, eq=False)
class Layer:
    """A label map cropped to the heart.

    Attributes:
        labels: uint8 ``(z, y, x)``, contiguous.
        start: index ``(z, y, x)`` of its first voxel on the grid of the scan.
    """

    labels: np.ndarray
    start: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class PreparedSegments:
    """Labels and surfaces of a result, ready for the scene.

    Attributes:
        layer: the labels.
        surfaces: ``vtkPolyData`` of each structure key in RAS without transform; absent structures are omitted.
    """

    layer: Layer
    surfaces: Mapping[str, Any] = field(default_factory=dict)


def prepare_segments(result: Result, reporter: Reporter) -> PreparedSegments:
    """Crop the label map to the heart and make a closed surface of each structure, as VTK objects without nodes.

    Args:
        result: labels uint8 ``(z, y, x)`` on the grid of the scan.
        reporter: receives progress per structure in the stage ``"surfaces"``.

    Raises:
        Cancelled: the user cancelled; checked between two structures.
    """
    box = layer_box(result.labels)
    cut = np.ascontiguousarray(result.labels[box])
    start = (box[0].start, box[1].start, box[2].start)
    surfaces = {}
    with reporter.stage("surfaces", len(result.structures) + 1):
        meshes = label_surfaces(result.labels, result.geometry, result.structures)
        for done, (key, mesh) in enumerate(meshes.items(), 1):
            reporter.advance(done)
            surfaces[key] = as_polydata(mesh.in_coordinates("RAS"))
    return PreparedSegments(Layer(cut, start), surfaces)
