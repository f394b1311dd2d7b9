"""Properties of a volume node for the checks before a run, and fixes, which always make a new node."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from ..preflight import Chosen
from ..volume.types import Volume
from ..wording import _

_RIGID_TOLERANCE = 1e-4  # of M Mᵀ - 1: 0.01 % of a length


def chosen_facts(node: Any) -> Chosen:
    """Return the size of a volume node, the number of components and the kind of its transform."""
    image = node.GetImageData()
    size = tuple(int(n) for n in image.GetDimensions()) if image is not None else ()
    components = int(image.GetNumberOfScalarComponents()) if image is not None else 1
    return Chosen(node.GetName() or "scan", size, components, 1, transform_kind(node))


def transform_kind(node: Any) -> str:
    """Classify the transforms of a node: ``""``, ``"rigid"``, ``"scaling"`` (scale, shear, mirror), ``"nonlinear"``."""
    import slicer
    import vtk

    transform = node.GetParentTransformNode()
    if transform is None:
        return ""
    if not transform.IsTransformToWorldLinear():
        return "nonlinear"
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    linear = slicer.util.arrayFromVTKMatrix(matrix)[:3, :3]
    if (
        np.allclose(linear, np.eye(3), atol=_RIGID_TOLERANCE)
        and not slicer.util.arrayFromVTKMatrix(matrix)[:3, 3].any()
    ):
        return ""
    rigid = np.abs(linear @ linear.T - np.eye(3)).max() <= _RIGID_TOLERANCE and np.linalg.det(linear) > 0
    return "rigid" if rigid else "scaling"


def hardened_copy(node: Any) -> Any:
    """Copy a volume and apply its transforms; a non-linear transform resamples it on its own grid."""
    import slicer

    copy = _copy_of(node, "transformed")
    copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    if not slicer.vtkSlicerTransformLogic.hardenTransform(copy):
        slicer.mrmlScene.RemoveNode(copy)
        raise InputError(
            _("the transform above '{name}' cannot be applied: apply it in the Transforms module").format(
                name=node.GetName()
            )
        )
    return copy


def add_volume(volume: Volume, name: str, like: Any) -> Any:
    """Add a scalar volume node with the voxels and grid of a scan, and the modality of another node."""
    import slicer

    node = slicer.util.addVolumeFromArray(
        np.ascontiguousarray(volume.array), ijkToRAS=volume.geometry.affine_ras, name=name
    )
    _take_modality(node, like)
    node.SetAndObserveTransformNodeID(like.GetTransformNodeID())
    return node


def one_component(node: Any, index: int) -> Any:
    """Add a scalar volume with one component: a frame of a time series that was loaded as components."""
    import slicer
    import vtk

    extract = vtk.vtkImageExtractComponents()
    extract.SetInputData(node.GetImageData())
    extract.SetComponents(index)
    extract.Update()
    name = slicer.mrmlScene.GenerateUniqueName(f"{node.GetName()} frame {index}")
    taken = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    taken.SetAndObserveImageData(extract.GetOutput())
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    taken.SetIJKToRASMatrix(matrix)
    _take_modality(taken, node)
    taken.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    return taken


def say_modality(node: Any, modality: str) -> None:
    """Set the modality of a volume node, ``"CT"`` or ``"MR"``; its voxels do not change."""
    node.SetAttribute("DICOM.Modality", modality)


def _copy_of(node: Any, suffix: str) -> Any:
    import slicer

    name = slicer.mrmlScene.GenerateUniqueName(f"{node.GetName()} {suffix}")
    copy = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, node, name)
    _take_modality(copy, node)
    return copy


def _take_modality(node: Any, like: Any) -> None:
    from .nodes import modality_of

    modality = modality_of(like)
    if modality:
        say_modality(node, modality)
