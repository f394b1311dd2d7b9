"""Marks in the scene and the segments that follow them; no widgets, so that a Segment Editor effect can use it too.

The marks are the control points of a markups node that the segmentation refers to. :meth:`SceneMender.sync` makes the
segments obey them. So placing, moving and deleting a point, undo and redo are all the same: change the points, then
synchronise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..anatomy import STRUCTURES
from ..errors import InputError
from ..marks import Mark, Point
from ..refinement.mending import Session
from ..wording import _
from .nodes import have_same_transform
from .prepared import Layer, PreparedSegments
from .segmentation import add_segment, oriented_image

MARKS_ROLE = "HeartSegMarks"
"""Role of the node reference from a segmentation to its marks."""
_TOLERANCE = 1e-3  # voxels, and mm of a transform


def marks_node_of(segmentation_node: Any, make: bool = True) -> Any:
    """Return the markups node with the marks of a segmentation; a new one if it has none and ``make`` is set."""
    node = segmentation_node.GetNodeReference(MARKS_ROLE)
    if node is None and make:
        scene = segmentation_node.GetScene()
        name = scene.GenerateUniqueName(f"{segmentation_node.GetName()} marks")
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
        node.CreateDefaultDisplayNodes()
        segmentation_node.SetNodeReferenceID(MARKS_ROLE, node.GetID())
    return node


def marks_of_node(marks_node: Any, segmentation_node: Any) -> list[tuple[int, Mark | InputError]]:
    """Return the marks of a markups node, in the coordinates of the scan, in order.

    A point list gives a mark per placed point, a curve one stroke. Transforms above both nodes are taken into account.

    Returns:
        index of each point (of a curve's first one), and its mark; the error says why a point is not one.
    """
    import slicer
    import vtk

    to_scan = vtk.vtkGeneralTransform()
    parent = segmentation_node.GetParentTransformNode()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, parent, to_scan)
    found = []
    for i in range(marks_node.GetNumberOfControlPoints()):
        if marks_node.GetNthControlPointPositionStatus(i) != slicer.vtkMRMLMarkupsNode.PositionDefined:
            continue
        world = [0.0, 0.0, 0.0]
        marks_node.GetNthControlPointPositionWorld(i, world)
        r, a, s = to_scan.TransformPoint(world)
        found.append((i, (-r, -a, s)))
    if marks_node.IsA("vtkMRMLMarkupsCurveNode"):
        return [(found[0][0], _mark(marks_node, found[0][0], [point for _i, point in found]))] if found else []
    return [(i, _mark(marks_node, i, [point])) for i, point in found]


def _mark(marks_node: Any, index: int, points: Sequence[Point]) -> Mark | InputError:
    """The mark that a control point names, or the reason why it is none."""
    try:
        return Mark.of_text(marks_node.GetNthControlPointLabel(index), points)
    except InputError as error:
        return InputError(
            _("point {index} of {name!r}: {error}").format(index=index + 1, name=marks_node.GetName(), error=error)
        )


@dataclass(frozen=True)
class Synced:
    """What :meth:`SceneMender.sync` did.

    Attributes:
        changed: whether a mark was added or taken back.
        refused: why points are not obeyed, in words.
    """

    changed: bool
    refused: tuple[str, ...]


def check_segments(segmentation_node: Any, volume_node: Any) -> list[str]:
    """Check that the segments of a node can be mended on a scan.

    Returns:
        keys of the structures whose voxels are not voxels of the scan: mending resamples them.

    Raises:
        InputError: the nodes are under different transforms, or a segment reaches outside of the scan.
    """
    import slicer
    import vtk

    names = f"segmentation {segmentation_node.GetName()!r}", f"scan {volume_node.GetName()!r}"
    if not have_same_transform(segmentation_node, volume_node):
        raise InputError(
            _("{first} and {second} are under different transforms: put both under the same one").format(
                first=names[0], second=names[1]
            )
        )
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    to_index = np.linalg.inv(slicer.util.arrayFromVTKMatrix(matrix))
    last = np.array(volume_node.GetImageData().GetDimensions()) - 1
    segmentation = segmentation_node.GetSegmentation()
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    elsewhere = []
    for structure in STRUCTURES:
        segment = segmentation.GetSegment(structure.key)
        image = segment.GetRepresentation(binary) if segment is not None else None
        if image is None or image.IsEmpty():
            continue
        image.GetImageToWorldMatrix(matrix)
        to_scan = to_index @ slicer.util.arrayFromVTKMatrix(matrix)
        if not _contains(last, to_scan, image, segment.GetLabelValue()):
            raise InputError(
                _("segment {key} of {first} reaches outside of {second}: choose the scan that it was drawn on").format(
                    key=structure.key, first=names[0], second=names[1]
                )
            )
        shift = to_scan[:3, 3]
        if np.abs(to_scan[:3, :3] - np.eye(3)).max() > _TOLERANCE or np.abs(shift - shift.round()).max() > _TOLERANCE:
            elsewhere.append(structure.key)
    return elsewhere


def _contains(last: np.ndarray, to_scan: np.ndarray, image: Any, value: int) -> bool:
    """Whether the voxels of a segment lie in a scan.

    Args:
        last: the scan's last index ``(i, j, k)``.
        to_scan: ``(4, 4)``, from indices of the image to those of the scan.
        image: oriented image.
        value: of the segment.
    """
    from vtk.util.numpy_support import vtk_to_numpy

    extent = np.reshape(image.GetExtent(), (3, 2))

    def inside(points: np.ndarray) -> bool:
        index = points @ to_scan[:3, :3].T + to_scan[:3, 3]
        return bool(((index > -0.5 - _TOLERANCE) & (index < last + 0.5 + _TOLERANCE)).all())

    corners = np.stack(np.meshgrid(*extent, indexing="ij"), -1).reshape(-1, 3)
    if inside(corners):
        return True
    shape = tuple(int(n) for n in extent[::-1, 1] - extent[::-1, 0] + 1)
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
    return inside(np.argwhere(voxels == value)[:, ::-1] + extent[:, 0])


@dataclass(frozen=True, eq=False)
class SceneMender:
    """Keeps the segments of a node as its marks demand.

    Attributes:
        session: labels, and the network's probabilities.
        segmentation: ``vtkMRMLSegmentationNode`` whose segments are the session's labels.
        volume: its scan.
        marks_node: from :func:`marks_node_of`.
    """

    session: Session
    segmentation: Any
    volume: Any
    marks_node: Any

    @property
    def alive(self) -> bool:
        """Whether all nodes are in the scene."""
        return all(node.GetScene() is not None for node in (self.segmentation, self.volume, self.marks_node))

    def sync(self) -> Synced:
        """Make the labels and segments obey the points.

        A point that names no structure is left out. One that lies outside of the scan is removed.
        """
        mender, points = self.session.mender, marks_of_node(self.marks_node, self.segmentation)
        refused = [str(found) for _index, found in points if isinstance(found, InputError)]
        wanted = self._wanted(points)
        before, outside = mender.marks, []
        same = 0
        while same < min(len(before), len(wanted)) and before[same] == wanted[same][1]:
            same += 1
        for _mark in before[same:]:
            mender.undo()
        for index, mark in wanted[same:]:
            try:
                self.session.add(mark)
            except InputError as error:
                refused.append(str(error))
                outside.append(index)
        for index in reversed(outside):
            self.marks_node.RemoveNthControlPoint(index)
        changed = mender.marks != before
        if changed:
            show_labels(self.segmentation, mender.labels, self.volume)
        return Synced(changed, tuple(refused))

    def last_point(self) -> int | None:
        """Return the index of the control point of the last mark that is obeyed; ``None`` if there is none."""
        wanted = self._wanted(marks_of_node(self.marks_node, self.segmentation))
        return wanted[-1][0] if wanted else None

    def _wanted(self, points: Sequence[tuple[int, Mark | InputError]]) -> list[tuple[int, Mark]]:
        """The marks of points that earlier mends do not hold already."""
        held = [placed.mark for placed in self.session.mender.held]
        return [(index, found) for index, found in points if isinstance(found, Mark) and found not in held]


def show_labels(segmentation_node: Any, labels: np.ndarray, volume_node: Any) -> None:
    """Replace the voxels of the structures' segments by labels on the scan's grid; surfaces become invalid and go.

    Args:
        segmentation_node: structures without a segment get one; other segments stay as they are.
        labels: uint8 ``(z, y, x)``.
        volume_node: gives the grid.
    """
    import slicer

    from ..export.segmentation_file import layer_box

    box = layer_box(labels)
    start = (box[0].start, box[1].start, box[2].start)
    image = oriented_image(Layer(np.ascontiguousarray(labels[box]), start), volume_node)
    segmentation = segmentation_node.GetSegmentation()
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    present = set(np.unique(labels[box]).tolist())
    for structure in STRUCTURES:
        segment = segmentation.GetSegment(structure.key)
        if segment is None:
            if structure.label not in present:
                continue
            segment = add_segment(segmentation, structure)
        segment.RemoveAllRepresentations()
        segment.SetLabelValue(structure.label)
        segment.AddRepresentation(binary, image)
        segment.SetTag("DICOM.SegmentAlgorithmType", "SEMIAUTOMATIC")
    segmentation_node.Modified()


def show_surfaces(segmentation_node: Any, prepared: PreparedSegments) -> None:
    """Give the segments the surfaces of labels that :func:`show_labels` has shown."""
    import slicer
    import vtk

    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    segmentation = segmentation_node.GetSegmentation()
    for structure in STRUCTURES:
        segment = segmentation.GetSegment(structure.key)
        if segment is not None:
            segment.AddRepresentation(surface, prepared.surfaces.get(structure.key) or vtk.vtkPolyData())
    segmentation_node.Modified()
