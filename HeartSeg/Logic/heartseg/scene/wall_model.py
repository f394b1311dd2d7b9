"""The endocardial surface in the 3D view, coloured by wall thickness, with a legend."""

from __future__ import annotations

from typing import Any

from ..export.surfaces import as_polydata
from ..export.wall_surface import ARRAY_NAME, WallSurface
from ..measure.bullseye import SCALES, THICKNESS, UNKNOWN_COLOR, color_of
from ..wording import _
from .language import in_language
from .owned import find_owned, owned_node

MODEL, COLORS = "wall thickness", "wall thickness colors"
STEPS = 64


def prepare_wall(surface: WallSurface) -> Any:
    """Return the surface as ``vtkPolyData`` in RAS with the thickness as point scalars. For any thread."""
    from vtk.util.numpy_support import numpy_to_vtk

    polydata = as_polydata(surface.mesh.in_coordinates("RAS"))
    values = numpy_to_vtk(surface.thickness_mm.astype("f4"), deep=True)
    values.SetName(ARRAY_NAME)
    polydata.GetPointData().AddArray(values)
    polydata.GetPointData().SetActiveScalars(ARRAY_NAME)
    return polydata


def show_wall(polydata: Any, segmentation: Any) -> Any:
    """Show the surface as a model beside a segmentation; a second one of the same segmentation replaces it.

    Args:
        polydata: from :func:`prepare_wall`.
        segmentation: ``vtkMRMLSegmentationNode``; the model has its transform.

    Returns:
        The ``vtkMRMLModelNode``.
    """
    import slicer

    node = owned_node("vtkMRMLModelNode", MODEL, segmentation)
    node.SetAndObservePolyData(polydata)
    node.SetAndObserveTransformNodeID(segmentation.GetTransformNodeID())
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    modified = display.StartModify()
    display.SetAndObserveColorNodeID(_colors(segmentation).GetID())
    display.SetActiveScalar(ARRAY_NAME, 0)  # 0: data of points
    display.SetScalarRangeFlag(slicer.vtkMRMLDisplayNode.UseManualScalarRange)
    display.SetScalarRange(*SCALES[THICKNESS])
    display.SetScalarVisibility(True)
    display.SetVisibility(True)
    display.EndModify(modified)
    logic = slicer.modules.colors.logic()
    if logic.GetColorLegendDisplayNode(node) is None:
        legend = logic.AddDefaultColorLegendDisplayNode(node)
        legend.SetTitleText(in_language(_("Wall (mm)")))
    return node


def remove_wall(segmentation: Any) -> bool:
    """Remove the model of a segmentation with its colours and legend; return False if there is none."""
    import slicer

    node = find_owned("vtkMRMLModelNode", MODEL, segmentation)
    if node is None:
        return False
    for display in [node.GetNthDisplayNode(i) for i in range(node.GetNumberOfDisplayNodes())]:
        slicer.mrmlScene.RemoveNode(display)
    slicer.mrmlScene.RemoveNode(node)
    colors = find_owned("vtkMRMLColorTableNode", COLORS, segmentation)
    if colors is not None:
        slicer.mrmlScene.RemoveNode(colors)
    return True


def _colors(segmentation: Any) -> Any:
    """Return the colour table of the bull's-eye plot, grey where the thickness is unknown."""
    node = owned_node("vtkMRMLColorTableNode", COLORS, segmentation)
    if node.GetNumberOfColors() != STEPS:
        low, high = SCALES[THICKNESS]
        node.SetTypeToUser()
        node.SetNumberOfColors(STEPS)
        for k in range(STEPS):
            value = low + (high - low) * k / (STEPS - 1)
            node.SetColor(k, f"{value:.1f} mm", *color_of(value, (low, high)), 1.0)
        node.GetLookupTable().SetNanColor(*UNKNOWN_COLOR, 1.0)
    return node
