"""Orient slice views along the standard planes of the heart, and restore them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..measure.grid import Unknown
from ..measure.planes import StandardPlanes, ViewPlane

ORDER = ("short_axis", "four_chamber", "two_chamber", "three_chamber")
"""Plane of each slice view, in the order Red, Green, Yellow, then others."""
FIELD_OF_VIEW_MM = 180.0
"""Shorter side of the views; it holds a heart with a long axis of 110 mm and its atria."""

_FIRST = ("Red", "Green", "Yellow")


@dataclass(frozen=True, eq=False)
class ViewsBefore:
    """Slice views and layout before they were oriented.

    Attributes:
        layout: number of the layout; ``None`` without the application.
        views: ID of a slice node -> its matrix to RAS ``(4, 4)``, field of view and orientation.
        backgrounds: IDs of slice composite nodes that had no volume.
    """

    layout: int | None
    views: Mapping[str, tuple[np.ndarray, tuple[float, float, float]]]
    backgrounds: tuple[str, ...]

    def restore(self) -> None:
        """Restore the views that are still in the scene."""
        import slicer

        for node_id, (matrix, size) in self.views.items():
            node = slicer.mrmlScene.GetNodeByID(node_id)
            if node is not None:
                _set(node, matrix, size)
        for node_id in self.backgrounds:
            node = slicer.mrmlScene.GetNodeByID(node_id)
            if node is not None:
                node.SetBackgroundVolumeID(None)
        if self.layout is not None and _layout() is not None:
            _layout().SetViewArrangement(self.layout)


def orient_views(planes: StandardPlanes, like: Any) -> tuple[ViewsBefore, dict[str, str]]:
    """Orient the slice views along the standard planes, in a layout with four slice views.

    Args:
        planes: planes in the coordinates of the scan, LPS.
        like: scan or segmentation; its transform applies to the planes.

    Returns:
        The views before, and the planes that are not shown: name -> reason.
    """
    import slicer

    layout = _layout()
    before_layout = layout.GetViewArrangement() if layout is not None else None
    known = [name for name in ORDER if isinstance(getattr(planes, name), ViewPlane)]
    unknown = {f.name: getattr(planes, f.name) for f in fields(planes)}
    missing = {name: plane.why for name, plane in unknown.items() if isinstance(plane, Unknown)}
    if layout is not None and known:
        layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView)
    before = {}
    for name, node in zip(ORDER, _slice_nodes(), strict=False):
        before[node.GetID()] = (slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()), tuple(node.GetFieldOfView()))
        if name in known:
            _set(node, _in_world(slice_to_ras(getattr(planes, name)), like), _field_of_view(node))
    for name in (n for n in ORDER[len(before) :] if n in known):
        missing[name] = "there are fewer slice views than planes"
    return ViewsBefore(before_layout, before, _fill_backgrounds(like)), missing


def slice_to_ras(plane: ViewPlane) -> np.ndarray:
    """Return the matrix ``(4, 4)`` of a slice view from the plane: axes to the right, up and to the viewer; RAS."""
    matrix = np.eye(4)
    columns = (plane.right_lps, plane.up_lps, plane.normal, plane.center_lps_mm)
    matrix[:3] = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack(columns)
    return matrix


def _in_world(matrix: np.ndarray, like: Any) -> np.ndarray:
    """Apply the linear transform of a node; axes stay unit vectors."""
    import slicer
    import vtk

    transform = like.GetParentTransformNode() if like is not None else None
    if transform is None or not transform.IsTransformToWorldLinear():
        return matrix
    to_world = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(to_world)
    moved = np.array(slicer.util.arrayFromVTKMatrix(to_world) @ matrix)
    moved[:3, :3] /= np.linalg.norm(moved[:3, :3], axis=0)
    return moved


def _set(node: Any, matrix: np.ndarray, size: tuple[float, float, float]) -> None:
    import slicer

    modified = node.StartModify()
    node.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(matrix))
    node.UpdateMatrices()
    node.SetFieldOfView(*size)
    node.EndModify(modified)


def _field_of_view(node: Any) -> tuple[float, float, float]:
    width, height, depth = node.GetFieldOfView()
    scale = FIELD_OF_VIEW_MM / max(min(width, height), 1e-3)
    return width * scale, height * scale, depth


def _slice_nodes() -> list[Any]:
    """Return the slice nodes: Red, Green and Yellow first."""
    import slicer

    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    rank = {name: k for k, name in enumerate(_FIRST)}
    return sorted(nodes, key=lambda n: (rank.get(n.GetName(), len(_FIRST)), n.GetName()))


def _layout() -> Any:
    import slicer

    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def _fill_backgrounds(like: Any) -> tuple[str, ...]:
    """Show the scan in the views that have no volume yet; returns the IDs of their composite nodes."""
    import slicer

    if like is None or not like.IsA("vtkMRMLScalarVolumeNode"):
        return ()
    empty = [n for n in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode") if not n.GetBackgroundVolumeID()]
    for node in empty:
        node.SetBackgroundVolumeID(like.GetID())
    return tuple(n.GetID() for n in empty)
