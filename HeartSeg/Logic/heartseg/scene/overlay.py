"""Overlays on the scan in the slice views: heat maps and confidence maps in warm colours, transparent at low values.

An overlay is a volume node with the non-zero part of the map, under the transform of the scan. It is the foreground of
every slice view at half opacity. A second map of the same kind uses the same node. The node stores the previous
foreground of the views, which is restored when the overlay is removed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..measure.boxes import bounding_box
from ..volume.geometry import Geometry
from ..wording import _
from .nodes import OVERLAY_KIND, geometry_from_node

OPACITY = 0.5
_COLORS = "vtkMRMLColorTableNodeIron"  # black, purple, orange, yellow; part of every Slicer and of slicer-core
_SCAN, _VIEWS = "HeartSeg.Scan", "HeartSeg.Views"


@dataclass(frozen=True)
class OverlayKind:
    """Kind of an overlay.

    Attributes:
        key: name in the scene.
        shown: values at the two ends of the colour map.
        threshold: values below it are transparent.
    """

    key: str
    shown: tuple[float, float]
    threshold: float


HEAT_MAP = OverlayKind("heat map", (0.0, 1.0), 0.08)
CONFIDENCE = OverlayKind("confidence", (40.0, 100.0), 1.0)
"""Confidence in percent; the probability of the chosen one of eight labels is hardly ever below 40 %."""


@dataclass(frozen=True, eq=False)
class PreparedOverlay:
    """An overlay ready for display, made on any thread.

    Attributes:
        values: contiguous ``(z, y, x)``, non-zero part of the map.
        grid: grid of that part.
        scan_grid: grid of the whole map.
        kind: kind of the overlay.
    """

    values: np.ndarray
    grid: Geometry
    scan_grid: Geometry
    kind: OverlayKind


@dataclass(frozen=True, eq=False)
class Overlay:
    """A displayed overlay.

    Attributes:
        node: its ``vtkMRMLScalarVolumeNode``.
        earlier: previous image, index-to-world matrix and name of the node; ``None`` for a new node.
    """

    node: Any
    earlier: tuple[Any, Any, str] | None

    def undo(self) -> None:
        """Restore the previous overlay, or remove this one; no effect if the node is not in the scene any more."""
        if self.node.GetScene() is None:
            return
        if self.earlier is None:
            remove_overlay(self.node)
            return
        image, matrix, name = self.earlier
        _fill(self.node, image, matrix, name)


def prepare_overlay(values: np.ndarray, geometry: Geometry, kind: OverlayKind = HEAT_MAP) -> PreparedOverlay:
    """Crop a map ``(z, y, x)`` on the grid of a scan to its non-zero part. Makes no Slicer calls; for any thread."""
    if tuple(values.shape) != tuple(geometry.shape):
        raise ValueError(f"map of shape {values.shape} on a grid of shape {geometry.shape}: they must be equal")
    box = bounding_box(values) or (slice(0, 1),) * 3
    return PreparedOverlay(np.ascontiguousarray(values[box]), geometry.cropped(box), geometry, kind)


def show_overlay(prepared: PreparedOverlay, volume_node: Any, opacity: float = OPACITY) -> Overlay:
    """Show an overlay on a scan in all slice views. The voxels are shared, not copied, which takes no time.

    Args:
        prepared: overlay from :func:`prepare_overlay`.
        volume_node: ``vtkMRMLScalarVolumeNode`` of the scan.
        opacity: opacity of the foreground, 0 to 1.

    Raises:
        InputError: the scan is not in the scene any more, or its grid has changed.
    """
    import slicer

    if volume_node is None or volume_node.GetScene() is None:
        raise InputError(_("the volume has left the scene: load it again and repeat"))
    if not geometry_from_node(volume_node).same_grid(prepared.scan_grid):
        raise InputError(
            _("volume '{name}' has changed since the {key} was made: repeat it").format(
                name=volume_node.GetName(), key=prepared.kind.key
            )
        )
    node = find_overlay(volume_node, prepared.kind)
    earlier = None if node is None else (node.GetImageData(), _matrix_of(node), node.GetName())
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        node.SetAttribute(OVERLAY_KIND, prepared.kind.key)
        node.SetNodeReferenceID(_SCAN, volume_node.GetID())
    overlay = Overlay(node, earlier)
    try:
        matrix = slicer.util.vtkMatrixFromArray(prepared.grid.affine_ras)
        _fill(node, _image_of(prepared.values), matrix, f"{volume_node.GetName()} {prepared.kind.key}")
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
        _color(node, prepared.kind)
        _put_in_front(node, opacity)
    except BaseException:
        overlay.undo()
        raise
    return overlay


def find_overlay(volume_node: Any, kind: OverlayKind) -> Any:
    """Return the node with this kind of overlay for a scan, or ``None``."""
    import slicer

    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetAttribute(OVERLAY_KIND) == kind.key and node.GetNodeReferenceID(_SCAN) == volume_node.GetID():
            return node
    return None


def remove_overlay(node: Any) -> None:
    """Remove an overlay from the scene and restore the previous foreground of the views."""
    import slicer

    if node is None or node.GetScene() is None:
        return
    before = _views_before(node)
    for view in _views():
        if view.GetForegroundVolumeID() == node.GetID():
            foreground, opacity = before.get(view.GetID(), (None, 0.0))
            there = foreground is not None and slicer.mrmlScene.GetNodeByID(foreground) is not None
            view.SetForegroundVolumeID(foreground if there else None)
            view.SetForegroundOpacity(opacity)
    if node.GetDisplayNode() is not None:
        slicer.mrmlScene.RemoveNode(node.GetDisplayNode())
    slicer.mrmlScene.RemoveNode(node)


def _fill(node: Any, image: Any, matrix: Any, name: str) -> None:
    modified = node.StartModify()
    node.SetName(name)
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveImageData(image)
    node.EndModify(modified)


def _matrix_of(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def _image_of(values: np.ndarray) -> Any:
    """Make ``vtkImageData`` that shares the memory of an array and keeps it alive."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(values.reshape(-1)))
    return image


def _color(node: Any, kind: OverlayKind) -> None:
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    modified = display.StartModify()
    display.SetAndObserveColorNodeID(_COLORS)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(*kind.shown)
    display.SetAutoThreshold(False)
    display.SetThreshold(kind.threshold, max(kind.shown))
    display.SetApplyThreshold(True)
    display.EndModify(modified)


def _put_in_front(node: Any, opacity: float) -> None:
    """Make the node the foreground of every slice view, and record the previous foreground."""
    before = _views_before(node)
    for view in _views():
        if view.GetForegroundVolumeID() != node.GetID():
            before[view.GetID()] = (view.GetForegroundVolumeID(), view.GetForegroundOpacity())
            view.SetForegroundVolumeID(node.GetID())
        view.SetForegroundOpacity(opacity)
    node.SetAttribute(_VIEWS, json.dumps(before))


def _views() -> list[Any]:
    """Return the composite nodes of the slice views; none without the application."""
    import slicer

    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def _views_before(node: Any) -> dict[str, tuple[str | None, float]]:
    """Return the foreground and opacity of each view before the overlay; ignores invalid entries."""
    try:
        written = json.loads(node.GetAttribute(_VIEWS) or "{}")
        return {str(k): (None if v[0] is None else str(v[0]), float(v[1])) for k, v in written.items()}
    except (ValueError, TypeError, AttributeError, IndexError, KeyError):
        return {}
