"""Centre slice and 3D views on the heart; does nothing without views."""

from __future__ import annotations

from typing import Any

import numpy as np

FILL = 1.2
"""Height of the 3D view relative to the longest extent of the heart."""


def world_box(segmentation_node: Any, segment_id: str | None = None) -> np.ndarray | None:
    """Return the bounding box of one or all segments in world RAS mm, ``(2, 3)``; ``None`` if they are empty."""
    import slicer
    import vtk

    segmentation = segmentation_node.GetSegmentation()
    ids = [segment_id] if segment_id is not None else list(segmentation.GetSegmentIDs())
    converter = slicer.vtkSegmentationConverter
    boxes = []
    for key in ids:
        segment = segmentation.GetSegment(key)
        surface = segment.GetRepresentation(converter.GetClosedSurfaceRepresentationName()) if segment else None
        if surface is not None and surface.GetNumberOfPoints():
            boxes.append(np.reshape(surface.GetBounds(), (3, 2)).T)
        elif segment is not None and surface is None:
            bounds = np.zeros(6)
            segment.GetBounds(bounds)
            if bounds[0] <= bounds[1]:
                boxes.append(bounds.reshape(3, 2).T)
    if not boxes:
        return None
    box = np.stack([np.min([b[0] for b in boxes], 0), np.max([b[1] for b in boxes], 0)])
    to_world = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(segmentation_node.GetParentTransformNode(), None, to_world)
    corners = np.array([[box[i, 0], box[j, 1], box[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    moved = np.array([to_world.TransformPoint(corner) for corner in corners])
    return np.stack([moved.min(0), moved.max(0)])


def jump_slices(point: np.ndarray) -> None:
    """Centre every slice view on a world RAS point."""
    import slicer

    slicer.vtkMRMLSliceNode.JumpAllSlices(
        slicer.mrmlScene, *(float(v) for v in point), slicer.vtkMRMLSliceNode.CenteredJumpSlice
    )


def fill_3d(box: np.ndarray) -> None:
    """Point the camera of every 3D view at a box from the front, so that it fills the view."""
    import slicer
    import vtk

    center, radius = box.mean(0), float((box[1] - box[0]).max()) / 2
    cameras = slicer.mrmlScene.GetNodesByClass("vtkMRMLCameraNode")
    cameras.UnRegister(None)
    for i in range(cameras.GetNumberOfItems()):
        node = cameras.GetItemAsObject(i)
        camera = node.GetCamera()
        half_angle = np.deg2rad(camera.GetViewAngle() or 30.0) / 2
        distance = FILL * radius / np.tan(half_angle)
        front = np.array([0.35, 0.9, 0.25])  # RAS: from the front, a little from the patient's right and above
        position = center + distance * front / np.linalg.norm(front)
        camera.SetParallelScale(FILL * radius)
        node.SetFocalPoint(*(float(v) for v in center))
        node.SetPosition(*(float(v) for v in position))
        node.SetViewUp(0.0, 0.0, 1.0)
        node.ResetClippingRange()
        node.InvokeEvent(vtk.vtkCommand.ModifiedEvent)


def show_segmentation(segmentation_node: Any, segment_id: str | None = None) -> bool:
    """Jump to a segment, or centre slice and 3D views on all segments; returns False if there is nothing to show."""
    box = world_box(segmentation_node, segment_id)
    if box is None:
        return False
    jump_slices(box.mean(0))
    if segment_id is None:
        fill_3d(box)
    return True
