"""Marks in the scene and the segments that follow them; no widgets, so that a Segment Editor effect can use it too.

The marks are control points of markups nodes that the segmentation refers to, in the order in which they are obeyed: a
point list is a run of point marks, a line or curve is one stroke. :meth:`SceneMender.sync` makes the segments obey
them. So placing, moving and deleting a mark, undo and redo are all the same: change the markups, then synchronise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..anatomy import KEYS, STRUCTURES
from ..errors import InputError
from ..marks import Mark, Point
from ..refinement.mending import Session
from ..wording import _
from .frames import frame_of
from .masks import labels_of, masks_of, overlapping_structures
from .nodes import geometry_from_node, have_same_transform
from .prepared import Layer, PreparedSegments
from .segmentation import add_segment, oriented_image

MARKS_ROLE = "HeartSegMarks"
"""Role of the node references from a segmentation to its marks."""
_FRAME = "HeartSeg.Frame"
POINTS, STROKE = "vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsLineNode"
"""Classes of the nodes that hold new marks: a list of points, and one stroke."""
_TOLERANCE = 1e-3  # voxels, and mm of a transform or a mark


def marks_nodes(segmentation_node: Any) -> list[Any]:
    """Return the markups nodes with the marks of a segmentation, in the order in which they are obeyed.

    Of a segmentation in a sequence, these are the marks of the displayed frame.
    """
    count, frame = segmentation_node.GetNumberOfNodeReferences(MARKS_ROLE), frame_of(segmentation_node)
    found = (segmentation_node.GetNthNodeReference(MARKS_ROLE, n) for n in range(count))
    return [node for node in found if node is not None and (node.GetAttribute(_FRAME) or "") == frame]


def is_stroke(marks_node: Any) -> bool:
    """Whether a node of marks is one stroke, not a list of points."""
    return bool(marks_node.IsA("vtkMRMLMarkupsLineNode") or marks_node.IsA("vtkMRMLMarkupsCurveNode"))


def is_unfinished(marks_node: Any) -> bool:
    """Whether a node is a stroke with fewer points than it needs to be a mark."""
    needed = 2 if marks_node.IsA("vtkMRMLMarkupsLineNode") else 1
    return is_stroke(marks_node) and marks_node.GetNumberOfDefinedControlPoints() < needed


def node_for_marks(segmentation_node: Any, kind: str) -> Any:
    """Return the node that takes the next marks of a segmentation, made if necessary.

    Marks are obeyed in the order of the nodes. So points go to the last node if it is a list, and a stroke to a new
    one. An unfinished stroke is used, or removed before points.

    Args:
        segmentation_node: ``vtkMRMLSegmentationNode``.
        kind: :data:`POINTS` or :data:`STROKE`.
    """
    if kind == POINTS:
        remove_unfinished(segmentation_node)
    nodes = marks_nodes(segmentation_node)
    if nodes and (nodes[-1].IsA(POINTS) if kind == POINTS else is_unfinished(nodes[-1])):
        return nodes[-1]
    scene = segmentation_node.GetScene()
    node = scene.AddNewNodeByClass(kind, scene.GenerateUniqueName(f"{segmentation_node.GetName()} marks"))
    node.CreateDefaultDisplayNodes()
    if kind == STROKE:
        node.GetDisplayNode().SetPropertiesLabelVisibility(False)  # its length
    if frame := frame_of(segmentation_node):
        node.SetAttribute(_FRAME, frame)
    segmentation_node.AddNodeReferenceID(MARKS_ROLE, node.GetID())
    return node


def remove_unfinished(segmentation_node: Any) -> None:
    """Remove the strokes of a segmentation that lack a point."""
    for node in marks_nodes(segmentation_node):
        if is_unfinished(node):
            remove_marks_node(node)


def remove_marks_node(marks_node: Any) -> None:
    """Remove a node of marks and its display from the scene."""
    scene = marks_node.GetScene()
    for n in reversed(range(marks_node.GetNumberOfDisplayNodes())):
        scene.RemoveNode(marks_node.GetNthDisplayNode(n))
    scene.RemoveNode(marks_node)


def forget_marks_node(segmentation_node: Any, marks_node: Any) -> None:
    """Drop the reference from a segmentation to a node of marks, which is about to leave the scene."""
    for n in reversed(range(segmentation_node.GetNumberOfNodeReferences(MARKS_ROLE))):
        if segmentation_node.GetNthNodeReferenceID(MARKS_ROLE, n) == marks_node.GetID():
            segmentation_node.RemoveNthNodeReferenceID(MARKS_ROLE, n)


def marks_of_node(marks_node: Any, segmentation_node: Any) -> list[tuple[int, Mark | InputError]]:
    """Return the marks of a markups node, in the coordinates of the scan, in order.

    A point list gives a mark per placed point, a line or curve one stroke. Transforms above both nodes are taken into
    account.

    Returns:
        index of each point (of a stroke's first one), and its mark; the error says why a point is not one.
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
    if is_unfinished(marks_node):
        return []
    if is_stroke(marks_node):
        return [(found[0][0], _mark(marks_node, found[0][0], [point for _i, point in found]))]
    return [(i, _mark(marks_node, i, [point])) for i, point in found]


def _mark(marks_node: Any, index: int, points: Sequence[Point]) -> Mark | InputError:
    """The mark that a control point names, or the reason why it is none."""
    try:
        return Mark.of_text(marks_node.GetNthControlPointLabel(index), points)
    except InputError as error:
        return InputError(
            _("point {index} of {name!r}: {error}").format(index=index + 1, name=marks_node.GetName(), error=error)
        )


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


@dataclass(frozen=True)
class PlacedMark:
    """A mark in the scene.

    Attributes:
        node: the markups node.
        index: of its control point, of a stroke's first one.
        mark: what it says.
    """

    node: Any
    index: int
    mark: Mark

    def remove(self) -> None:
        """Remove the point, or the node of a stroke."""
        if is_stroke(self.node):
            remove_marks_node(self.node)
        else:
            self.node.RemoveNthControlPoint(self.index)


@dataclass(frozen=True)
class Synced:
    """What :meth:`SceneMender.sync` did.

    Attributes:
        changed: whether a mark was added or taken back, or segments were edited by other means.
        refused: why marks are not obeyed, in words.
        outside: marks that lie outside of the scan.
    """

    changed: bool
    refused: tuple[str, ...]
    outside: tuple[PlacedMark, ...] = ()


@dataclass(eq=False)
class SceneMender:
    """Keeps the segments of a node as its marks demand.

    Segments that are changed by other means meanwhile, for instance in the Segment Editor, are kept: the next mark
    builds on them.

    Attributes:
        session: labels, and the network's probabilities.
        segmentation: ``vtkMRMLSegmentationNode`` whose segments are the session's labels.
        volume: its scan.
        state: :func:`state_of` the segments when the session's labels were read.
        scan_state: :func:`scan_state_of` the scan then.
    """

    session: Session
    segmentation: Any
    volume: Any
    state: tuple[Any, ...]
    scan_state: tuple[Any, ...]

    @property
    def alive(self) -> bool:
        """Whether segmentation and scan are in the scene."""
        return all(node.GetScene() is not None for node in (self.segmentation, self.volume))

    def sync(self) -> Synced:
        """Make the labels and segments obey the marks.

        A point that names no structure is left out.

        Raises:
            InputError: scan or segments were changed so that the marks cannot build on them; nothing was changed.
        """
        before = self.session.mender.marks
        is_edited = self._follow_edits()
        wanted, refused = self._wanted()
        outside = self.session.obey([placed.mark for placed in wanted])
        is_marked = self.session.mender.marks != before
        if is_marked:
            show_labels(self.segmentation, self.session.mender.labels, self.volume)
            self.state = state_of(self.segmentation)
        reasons = (*refused, *(str(error) for error in outside.values()))
        return Synced(is_marked or is_edited, reasons, tuple(wanted[n] for n in sorted(outside)))

    def last_mark(self) -> PlacedMark | None:
        """Return the last mark that is obeyed; ``None`` if there is none."""
        wanted, _refused = self._wanted()
        return wanted[-1] if wanted else None

    def _wanted(self) -> tuple[list[PlacedMark], list[str]]:
        """The marks that earlier mends do not hold already, and why points are none."""
        held = [placed.mark for placed in self.session.mender.held]
        wanted, refused = [], []
        for node in marks_nodes(self.segmentation):
            for index, found in marks_of_node(node, self.segmentation):
                if isinstance(found, InputError):
                    refused.append(str(found))
                elif not any(_is_same(found, mark) for mark in held):
                    wanted.append(PlacedMark(node, index, found))
        return wanted, refused

    def _follow_edits(self) -> bool:
        """Read the segments again if they were changed by other means, and return whether their voxels differ."""
        names = f"segmentation {self.segmentation.GetName()!r}", f"scan {self.volume.GetName()!r}"
        if scan_state_of(self.volume) != self.scan_state:
            raise InputError(_("{scan} has changed since mending was started: start it again").format(scan=names[1]))
        elsewhere = check_segments(self.segmentation, self.volume)
        if state_of(self.segmentation) == self.state:
            return False
        masks, shape = masks_of(self.segmentation, self.volume), self.session.geometry.shape
        unfit = elsewhere or overlapping_structures(masks, shape)
        if unfit:
            raise InputError(
                _(
                    "segments of {segmentation} were edited so that they overlap or have other voxels than the scan "
                    "({structures}): start mending again, which merges them"
                ).format(segmentation=names[0], structures=list(unfit))
            )
        self.state = state_of(self.segmentation)
        return self.session.edit(labels_of(masks, shape))


def _is_same(mark: Mark, other: Mark) -> bool:
    """Whether two marks say the same; positions that were stored in a file may be rounded."""
    return (mark.text, len(mark.points)) == (other.text, len(other.points)) and bool(
        np.allclose(mark.points, other.points, rtol=0, atol=_TOLERANCE)
    )


def state_of(segmentation_node: Any) -> tuple[Any, ...]:
    """Return a value that changes whenever the voxels of a structure's segment are replaced or modified."""
    import slicer

    segmentation = segmentation_node.GetSegmentation()
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    found: list[Any] = []
    for key in KEYS:
        segment = segmentation.GetSegment(key)
        image = segment.GetRepresentation(binary) if segment is not None else None
        found.append(None if image is None else (image, segment.GetLabelValue(), _modified(image)))
    return tuple(found)


def scan_state_of(volume_node: Any) -> tuple[Any, ...]:
    """Return a value that changes whenever the voxels or the grid of a scan change."""
    image = volume_node.GetImageData()
    return image, _modified(image), geometry_from_node(volume_node)


def _modified(image: Any) -> int:
    """When the voxels of an image were modified, as a number that only grows."""
    scalars = image.GetPointData().GetScalars()
    return max(image.GetMTime(), 0 if scalars is None else scalars.GetMTime())


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
