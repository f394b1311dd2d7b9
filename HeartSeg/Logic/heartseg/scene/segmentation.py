"""Fill a segmentation node with a result: names, colours, terminology, provenance and surfaces, atomically."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from ..anatomy import STRUCTURES, Structure
from ..errors import InputError
from ..export.segmentation_file import SURFACE_PARAMETERS, algorithm_name
from ..export.terminology import terminology_entry
from ..progress import Reporter
from ..result import Result
from ..wording import _
from .nodes import geometry_from_node, subject_item
from .prepared import Layer, PreparedSegments, prepare_segments

_OPACITY_2D_FILL = 0.4
_MYOCARDIUM_OPACITY_3D = 0.5


def fill_segmentation(result: Result, volume_node: Any, segmentation_node: Any = None) -> Any:
    """Fill a segmentation node with the structures of a result.

    Every requested or present structure becomes a segment. Its ID is the structure key; it has the name, colour and
    terminology of the structure and DICOM tags that identify HeartSeg as an automatic algorithm. All labels share one
    layer on the grid of the volume, cropped to the heart. Closed surfaces are included. The node refers to the volume
    and has the same transform and parent in the subject hierarchy.

    Args:
        result: labels uint8 ``(z, y, x)`` on the volume's grid.
        volume_node: ``vtkMRMLScalarVolumeNode`` that was segmented; it needs a grid, not voxels.
        segmentation_node: ``vtkMRMLSegmentationNode`` to fill; its earlier segments are replaced only when all has
            succeeded. A new node is made when omitted (and removed again on failure).

    Returns:
        The ``vtkMRMLSegmentationNode``.

    Raises:
        InputError: if the volume's grid is no longer the result's, or a node has left the scene.
    """
    steps = enter_segments(result, prepare_segments(result, Reporter()), volume_node, segmentation_node)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value[0]


def enter_segments(
    result: Result, prepared: PreparedSegments, volume_node: Any, segmentation_node: Any = None
) -> Generator[str, None, tuple[Any, Replaced | None]]:
    """Fill a segmentation node like :func:`fill_segmentation`, one segment per step, to keep the window responsive.

    The segments are collected in a hidden node. The last step moves them to the chosen or a new node, all at once and
    without copying voxels or surfaces. Until then nothing visible changes. Closing the generator, or an error, removes
    the hidden node.

    Args:
        result: labels on the volume's grid.
        prepared: its layer and surfaces.
        volume_node, segmentation_node: as in :func:`fill_segmentation`.

    Yields:
        Key of the segment that was entered.

    Returns:
        The segmentation node, and what it held before (``None`` for a new node).

    Raises:
        InputError: if the volume's grid is no longer the result's, or a node has left the scene; at any step.
    """
    import slicer

    _check_nodes(result, volume_node, segmentation_node)
    scene = volume_node.GetScene()
    hidden = slicer.vtkMRMLSegmentationNode()
    hidden.SetName("HeartSeg result on its way")
    hidden.SetHideFromEditors(1)
    hidden.SetSaveWithScene(False)
    scene.AddNode(hidden)
    try:
        yield from _collect(result, prepared, volume_node, hidden)
        _check_nodes(result, volume_node, segmentation_node)
        return _enter(hidden, volume_node, segmentation_node)
    finally:
        if hidden.GetScene() is not None:
            scene.RemoveNode(hidden)


def _enter(hidden: Any, volume_node: Any, segmentation_node: Any) -> tuple[Any, Replaced | None]:
    """Move the collected segments into the chosen node, or into a new one; all of them, or nothing is changed."""
    scene = volume_node.GetScene()
    if segmentation_node is not None:
        replaced = Replaced.of(segmentation_node)
        try:
            _move_segments(hidden.GetSegmentation(), segmentation_node.GetSegmentation())
            _settle(segmentation_node, volume_node)
        except BaseException:
            replaced.restore()
            raise
        return segmentation_node, replaced
    name = scene.GenerateUniqueName(f"{volume_node.GetName()} heart")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    try:
        _move_segments(hidden.GetSegmentation(), node.GetSegmentation())
        _settle(node, volume_node)
    except BaseException:
        if node.GetDisplayNode() is not None:
            scene.RemoveNode(node.GetDisplayNode())
        scene.RemoveNode(node)
        raise
    return node, None


def _collect(result: Result, prepared: PreparedSegments, volume_node: Any, hidden: Any) -> Generator[str, None, None]:
    """Add the segments to a hidden node, one per step. They share one layer; surfaces come ready."""
    import slicer

    converter = slicer.vtkSegmentationConverter
    binary, surface = converter.GetBinaryLabelmapRepresentationName(), converter.GetClosedSurfaceRepresentationName()
    image = oriented_image(prepared.layer, volume_node)
    segmentation = hidden.GetSegmentation()
    segmentation.SetSourceRepresentationName(binary)
    for name, value in SURFACE_PARAMETERS.items():
        segmentation.SetConversionParameter(name, value)
    for structure in (s for s in STRUCTURES if s in result.structures or s.key in prepared.surfaces):
        segment = _segment(structure, algorithm_name(result))
        segment.AddRepresentation(binary, image)
        if prepared.surfaces:
            import vtk

            segment.AddRepresentation(surface, prepared.surfaces.get(structure.key) or vtk.vtkPolyData())
        if not segmentation.AddSegment(segment, structure.key):
            raise RuntimeError(f"segment {structure.key} could not be added to the segmentation")
        yield structure.key


def _settle(node: Any, volume_node: Any) -> None:
    """Tie the node to its volume: grid, transform, place in the hierarchy, display."""
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    _show(node)
    _put_beside(node, volume_node)


def _move_segments(source: Any, target: Any) -> None:
    """Give ``target`` what ``source`` holds; voxels and surfaces are not copied, and ``source`` is empty afterwards."""
    segments = _take_segments(source)
    _take_segments(target)
    target.SetSourceRepresentationName(source.GetSourceRepresentationName())
    for name, value in SURFACE_PARAMETERS.items():
        target.SetConversionParameter(name, value)
    for segment_id, segment in segments:
        if not target.AddSegment(segment, segment_id):
            raise RuntimeError(f"segment {segment_id} could not be moved into the segmentation")


def _take_segments(segmentation: Any) -> list[tuple[str, Any]]:
    """Empty a segmentation; returns segment ID and a segment with the same representation objects, in order.

    A segment that is removed from a shared layer gets a copy of its part of the layer, each of them. So the
    representations are handed over to new segments first, and what is removed has none.
    """
    taken = _segments_of(segmentation)
    for key in segmentation.GetSegmentIDs():
        segmentation.GetSegment(key).RemoveAllRepresentations()
    segmentation.RemoveAllSegments()
    return taken


def _segments_of(segmentation: Any) -> list[tuple[str, Any]]:
    """Segment ID and a new ``vtkSegment`` that shares the representations, for each segment."""
    import slicer

    converter, found = slicer.vtkSegmentationConverter, []
    names = (
        converter.GetBinaryLabelmapRepresentationName(),
        converter.GetFractionalLabelmapRepresentationName(),
        converter.GetClosedSurfaceRepresentationName(),
        converter.GetPlanarContourRepresentationName(),
    )
    for key in segmentation.GetSegmentIDs():
        segment, twin = segmentation.GetSegment(key), slicer.vtkSegment()
        twin.DeepCopyMetadata(segment)
        twin.SetLabelValue(segment.GetLabelValue())
        for name in names:
            if segment.GetRepresentation(name) is not None:
                twin.AddRepresentation(name, segment.GetRepresentation(name))
        found.append((key, twin))
    return found


@dataclass(frozen=True, eq=False)
class Replaced:
    """What a segmentation node held before a run filled it; voxels and surfaces are not copied.

    Attributes:
        node: the ``vtkMRMLSegmentationNode``.
        segments: segment ID and ``vtkSegment``, in order.
        source: name of the source representation.
        transform, reference: IDs of the transform above the node and of the reference volume, or ``None``.
        attributes: the node's attributes.
    """

    node: Any
    segments: tuple[tuple[str, Any], ...]
    source: str
    transform: str | None
    reference: str | None
    attributes: Mapping[str, str]

    @classmethod
    def of(cls, node: Any) -> Replaced:
        """The present content of a node."""
        segmentation = node.GetSegmentation()
        names = node.GetAttributeNames() or ()
        return cls(
            node,
            tuple(_segments_of(segmentation)),
            segmentation.GetSourceRepresentationName(),
            node.GetTransformNodeID(),
            node.GetNodeReferenceID(_reference_role()),
            {name: node.GetAttribute(name) for name in names},
        )

    def restore(self) -> None:
        """Restore this content.

        Raises:
            InputError: if the node has left the scene.
        """
        if self.node.GetScene() is None:
            raise InputError(_("the segmentation has left the scene: there is nothing to put its earlier content into"))
        segmentation = self.node.GetSegmentation()
        _take_segments(segmentation)
        segmentation.SetSourceRepresentationName(self.source)
        for segment_id, segment in self.segments:
            segmentation.AddSegment(segment, segment_id)
        self.node.SetAndObserveTransformNodeID(self.transform)
        self.node.SetNodeReferenceID(_reference_role(), self.reference)
        for name in self.node.GetAttributeNames() or ():
            self.node.RemoveAttribute(name)
        for name, value in self.attributes.items():
            self.node.SetAttribute(name, value)


def _reference_role() -> str:
    import slicer

    return slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()


def _check_nodes(result: Result, volume_node: Any, segmentation_node: Any) -> None:
    if volume_node is None or volume_node.GetScene() is None:
        raise InputError(_("the volume has left the scene: load it again and repeat the segmentation"))
    if segmentation_node is not None and segmentation_node.GetScene() is None:
        raise InputError(_("the output segmentation has left the scene: choose another one"))
    grid = geometry_from_node(volume_node)
    if not grid.same_grid(result.geometry):
        raise InputError(
            _(
                "volume '{name}' has changed since it was segmented ({orientation} {size}, result "
                "{result_orientation} {result_size}): repeat it"
            ).format(
                name=volume_node.GetName(),
                orientation=grid.orientation,
                size=grid.size,
                result_orientation=result.geometry.orientation,
                result_size=result.geometry.size,
            )
        )


def oriented_image(layer: Layer, volume_node: Any) -> Any:
    """Oriented image with the layer's box as extent on the volume node's own index grid.

    The grid stays the volume's, so that nothing is ever resampled; only the extent is cut.
    """
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    (z, y, x), (depth, height, width) = layer.start, layer.labels.shape
    image = slicer.vtkOrientedImageData()
    image.SetExtent(x, x + width - 1, y, y + height - 1, z, z + depth - 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(layer.labels.shape)[:] = layer.labels
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    return image


def _segment(structure: Structure, algorithm: str) -> Any:
    """An empty segment with name, colour, label and tags. Setting the label later would remove its voxels."""
    import slicer

    segment = slicer.vtkSegment()
    segment.SetName(structure.name)
    segment.SetColor(*(c / 255 for c in structure.color))
    segment.SetLabelValue(structure.label)
    segment.SetTerminology(terminology_entry(structure))
    segment.SetTag("DICOM.SegmentAlgorithmType", "AUTOMATIC")
    segment.SetTag("DICOM.SegmentAlgorithmName", algorithm)
    return segment


def add_segment(segmentation: Any, structure: Structure) -> Any:
    """Add an empty segment of a structure with name, colour and terminology; returns the ``vtkSegment``."""
    segment = _segment(structure, "HeartSeg")
    if not segmentation.AddSegment(segment, structure.key):
        raise RuntimeError(f"segment {structure.key} could not be added to the segmentation")
    return segment


def _show(node: Any) -> None:
    """Make a display node if there is none: filled contours that let the scan through, cavities visible inside."""
    if node.GetDisplayNode() is not None:
        return
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetOpacity2DFill(_OPACITY_2D_FILL)
    if node.GetSegmentation().GetSegment("MYO") is not None:
        display.SetSegmentOpacity3D("MYO", _MYOCARDIUM_OPACITY_3D)


def _put_beside(node: Any, volume_node: Any) -> None:
    """Move the node to the volume's study in the subject hierarchy, which DICOM export needs."""
    hierarchy, volume_item = subject_item(volume_node)
    _, item = subject_item(node)
    if volume_item and item:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(volume_item))
