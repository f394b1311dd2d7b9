"""From a result to a segmentation node: names, colours, terminology, provenance, surfaces; whole or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import __version__
from ..anatomy import STRUCTURES, Structure
from ..errors import InputError
from ..measure.boxes import bounding_box
from ..result import Result
from .nodes import geometry_from_node, subject_item
from .terminology import terminology_entry

SURFACE_SMOOTHING = 0.5
"""Smoothing factor of the closed surfaces, 0 to 1; Slicer's own default, about one voxel."""

_OPACITY_2D_FILL = 0.4
_MYOCARDIUM_OPACITY_3D = 0.5
_MAX_ALGORITHM_NAME = 64  # DICOM's value representation LO


def fill_segmentation(result: Result, volume_node: Any, segmentation_node: Any = None) -> Any:
    """Put a result's structures into a segmentation node.

    Every structure that was asked for or is present becomes a segment whose ID is the structure's key, with name,
    colour, terminology and the DICOM tags that name HeartSeg as an automatic algorithm. Labels share one layer on the
    volume's own grid, cut to the heart. Closed surfaces are ready. The node refers to the volume, stands under the same
    transform and in the same place of the subject hierarchy.

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
    import slicer

    _check_nodes(result, volume_node, segmentation_node)
    segmentation = build_segmentation(result, volume_node)
    node, made = segmentation_node, segmentation_node is None
    if node is None:
        name = slicer.mrmlScene.GenerateUniqueName(f"{volume_node.GetName()} heart")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    before = _State(node)
    try:
        # Copied into the node's own object: exchanging the object would tell nobody about the segments, and the
        # application's subject hierarchy would not list them.
        node.GetSegmentation().DeepCopy(segmentation)
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        _show(node)
        _put_beside(node, volume_node)
    except BaseException:
        before.restore(node)
        if made:
            if node.GetDisplayNode() is not None:
                slicer.mrmlScene.RemoveNode(node.GetDisplayNode())
            slicer.mrmlScene.RemoveNode(node)
        raise
    return node


def build_segmentation(result: Result, volume_node: Any) -> Any:
    """A ``vtkSegmentation`` with the result's structures and their closed surfaces that belongs to no node yet.

    Without any labelled voxel it has no closed surfaces: there is nothing to make them of.
    """
    import slicer

    converter = slicer.vtkSegmentationConverter
    binary, surface = converter.GetBinaryLabelmapRepresentationName(), converter.GetClosedSurfaceRepresentationName()
    shown = [s for s in STRUCTURES if s in result.structures or bool((result.labels == s.label).any())]
    image = _label_image(result.labels, volume_node)
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(binary)
    for structure in shown:
        segment = _segment(structure, algorithm_name(result))
        segment.AddRepresentation(binary, image)
        if not segmentation.AddSegment(segment, structure.key):
            raise RuntimeError(f"segment {structure.key} could not be added to the segmentation")
    segmentation.SetConversionParameter("Smoothing factor", str(SURFACE_SMOOTHING))
    if result.labels.any() and not segmentation.CreateRepresentation(surface):
        raise RuntimeError("closed surfaces could not be made from the labels")
    return segmentation


def algorithm_name(result: Result) -> str:
    """``"HeartSeg <version> <model>"`` for DICOM's Segment Algorithm Name, at most 64 characters."""
    model = result.provenance.get("model", "")
    if isinstance(model, dict):
        model = " ".join(str(model[key]) for key in ("name", "version") if model.get(key))
    return f"HeartSeg {__version__} {model}".strip()[:_MAX_ALGORITHM_NAME]


def layer_box(labels: np.ndarray) -> tuple[slice, slice, slice]:
    """Box ``(z, y, x)`` of the labels, at least two voxels thick along every axis that has them.

    VTK's surface filter refuses an image of one slice that does not hold the label asked for, and says so on standard
    error for every missing structure, here and again whenever Slicer reads the file.
    """
    z, y, x = (
        span if span.stop - span.start > 1 else slice(max(0, min(span.start, size - 2)), min(size, span.start + 2))
        for span, size in zip(bounding_box(labels) or (slice(0, 1),) * 3, labels.shape, strict=True)
    )
    return z, y, x


def _check_nodes(result: Result, volume_node: Any, segmentation_node: Any) -> None:
    if volume_node is None or volume_node.GetScene() is None:
        raise InputError("the volume has left the scene: load it again and repeat the segmentation")
    if segmentation_node is not None and segmentation_node.GetScene() is None:
        raise InputError("the output segmentation has left the scene: choose another one")
    grid = geometry_from_node(volume_node)
    if not grid.same_grid(result.geometry):
        raise InputError(
            f"volume '{volume_node.GetName()}' has changed since it was segmented "
            f"({grid.orientation} {grid.size}, result {result.geometry.orientation} {result.geometry.size}): repeat it"
        )


def _label_image(labels: np.ndarray, volume_node: Any) -> Any:
    """Oriented image with the labels' bounding box as extent on the volume node's own index grid.

    The grid stays the volume's, so that nothing is ever resampled; only the extent is cut.
    """
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    z, y, x = box = layer_box(labels)
    image = slicer.vtkOrientedImageData()
    image.SetExtent(x.start, x.stop - 1, y.start, y.stop - 1, z.start, z.stop - 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    cut = labels[box]
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(cut.shape)[:] = cut
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    return image


def _segment(structure: Structure, algorithm: str) -> Any:
    """An empty segment that knows what it is. The label value is set before any voxels (after, it would empty them)."""
    import slicer

    segment = slicer.vtkSegment()
    segment.SetName(structure.name)
    segment.SetColor(*(c / 255 for c in structure.color))
    segment.SetLabelValue(structure.label)
    segment.SetTerminology(terminology_entry(structure))
    segment.SetTag("DICOM.SegmentAlgorithmType", "AUTOMATIC")
    segment.SetTag("DICOM.SegmentAlgorithmName", algorithm)
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


class _State:
    """What filling changes in a node, to be put back if it fails half-way."""

    def __init__(self, node: Any) -> None:
        import slicer

        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        self._role, self._reference = role, node.GetNodeReferenceID(role)
        self._segmentation, self._transform = slicer.vtkSegmentation(), node.GetTransformNodeID()
        self._segmentation.DeepCopy(node.GetSegmentation())

    def restore(self, node: Any) -> None:
        node.GetSegmentation().DeepCopy(self._segmentation)
        node.SetAndObserveTransformNodeID(self._transform)
        node.SetNodeReferenceID(self._role, self._reference)
