"""What can be made of a result on the worker thread, so that little is left to do on the main one. No MRML here."""

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
    """The label map cut to the heart, and a closed surface per structure; VTK objects that belong to no node.

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
    with reporter.stage("surfaces", len(result.structures) + 1):
        meshes = label_surfaces(result.labels, result.geometry, result.structures)
        for done, (key, mesh) in enumerate(meshes.items(), 1):
            reporter.advance(done)
            surfaces[key] = as_polydata(mesh.in_coordinates("RAS"))
    return PreparedSegments(Layer(cut, start), surfaces)
