"""Convert volume nodes (RAS) to :class:`~heartseg.volume.Volume` (LPS)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..volume.geometry import Geometry, is_singular
from ..volume.types import Source, Volume
from ..volume.values import replace_nonfinite
from ..wording import _

OVERLAY_KIND = "HeartSeg.Overlay"
"""Attribute of a volume node that holds a confidence map or a heat map of HeartSeg's."""

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def volume_from_node(node: Any) -> Volume:
    """Return the scan of a volume node.

    The array is a read-only view of the node's voxels, ``(z, y, x)`` = ``(k, j, i)``. It is a copy only if non-finite
    values had to be replaced, so edits of the node change it. The transform of the node is not applied; the
    segmentation gets the same transform.

    Args:
        node: ``vtkMRMLScalarVolumeNode`` with image data.

    Raises:
        InputError: if there is no node, it is no scalar volume, or it has no voxels or no usable geometry.
    """
    return _finite(volume_view(node))


def volume_view(node: Any) -> Volume:
    """Return the scan of a volume node without reading its voxels, which takes no time.

    For the main thread; :func:`owned_volume` completes it on any thread.

    Raises:
        InputError: see :func:`volume_from_node`.
    """
    if node is None:
        raise InputError(_("no volume is chosen: load a CT or MR scan and choose it as input"))
    name = node.GetName() or "volume"
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(
            _("'{name}' is a {kind} node: choose a scalar volume (a CT or MR scan)").format(
                name=name, kind=node.GetNodeTagName()
            )
        )
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(_("'{name}' is a label map: choose the scan that it was drawn on").format(name=name))
    image = node.GetImageData()
    if image is None or image.GetPointData() is None or image.GetPointData().GetScalars() is None:
        raise InputError(_("volume '{name}' has no voxels: load its image data first").format(name=name))
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        raise InputError(
            _("volume '{name}' has {components} values per voxel: choose a volume with one (no colour)").format(
                name=name, components=components
            )
        )
    geometry = geometry_from_node(node)
    return Volume(_voxels(image, geometry.shape), geometry, name, modality_of(node), _source(node))


def owned_volume(view: Volume) -> Volume:
    """Copy a scan and replace non-finite values, with a finding. For any thread.

    Raises:
        InputError: too many voxels are NaN or infinite.
    """
    array = view.array.copy()
    array.flags.writeable = False
    return _finite(replace(view, array=array))


def geometry_from_node(node: Any) -> Geometry:
    """Return the grid of a volume node in world LPS mm, without its transform.

    Raises:
        InputError: if the spacing is not positive and finite.
    """
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    affine = _LPS_FROM_RAS @ slicer.util.arrayFromVTKMatrix(matrix)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if is_singular(affine[:3, :3]) or not np.isfinite(affine).all():
        shown = ", ".join(f"{s:g}" for s in spacing)
        raise InputError(
            _(
                "geometry of volume '{name}' is broken (spacing {spacing} mm): correct it in the Volumes "
                "module under Volume Information"
            ).format(name=node.GetName(), spacing=shown)
        )
    i, j, k = node.GetImageData().GetDimensions()
    sx, sy, sz = (float(s) for s in spacing)
    ox, oy, oz = (float(v) for v in affine[:3, 3])
    direction = tuple(float(v) for v in (affine[:3, :3] / spacing).ravel())
    return Geometry((k, j, i), (sx, sy, sz), (ox, oy, oz), direction)


def have_same_transform(node: Any, other: Any) -> bool:
    """Whether two nodes are placed in the world by the same transforms."""
    import slicer
    import vtk

    first, second = node.GetParentTransformNode(), other.GetParentTransformNode()
    if first is second:
        return True
    matrix = vtk.vtkMatrix4x4()
    is_linear = slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(first, second, matrix)
    return bool(is_linear) and bool(np.allclose(slicer.util.arrayFromVTKMatrix(matrix), np.eye(4), atol=1e-3))


def is_overlay(node: Any) -> bool:
    """Whether a volume node is an overlay made by HeartSeg."""
    return node is not None and bool(node.GetAttribute(OVERLAY_KIND))


def loaded_scans() -> list[Any]:
    """Return the scalar volumes of the scene that can be segmented (no label maps and no overlays)."""
    import slicer

    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [v for v in volumes if not (v.IsA("vtkMRMLLabelMapVolumeNode") or is_overlay(v))]


def modality_of(node: Any) -> str:
    """Return ``"CT"`` or ``"MR"`` from the node, its DICOM item or its voxel unit, else ``""``."""
    said = (node.GetAttribute("DICOM.Modality") or _subject_attribute(node, "DICOM.Modality")).upper()
    if said in ("CT", "MR"):
        return said
    unit = node.GetVoxelValueUnits()
    is_hounsfield = unit is not None and (unit.GetCodeValue() or "").lower() in ("[hnsf'u]", "hu")
    return "CT" if is_hounsfield else ""


def subject_item(node: Any) -> tuple[Any, int]:
    """Return the subject hierarchy and the item of the node (0 if it has none; ``(None, 0)`` without hierarchy)."""
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    return hierarchy, (hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0)


def _subject_attribute(node: Any, name: str) -> str:
    hierarchy, item = subject_item(node)
    return (hierarchy.GetItemAttribute(item, name) or "") if item else ""


def _source(node: Any) -> Source:
    """Return the file and the DICOM series of the node, if known."""
    storage = node.GetStorageNode()
    path = (storage.GetFullNameFromFileName() or "") if storage is not None and storage.GetFileName() else ""
    hierarchy, item = subject_item(node)
    uid = (hierarchy.GetItemUID(item, "DICOM") or "") if item else ""
    return Source(path=str(Path(path)) if path else "", series_uid=uid)


def _voxels(image: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a read-only ``(k, j, i)`` view of the voxels, which keeps them alive if the node is deleted."""
    from vtk.util.numpy_support import vtk_to_numpy

    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
    array.flags.writeable = False
    return array


def _finite(volume: Volume) -> Volume:
    """Replace non-finite voxels as for a scan from a file; returns the same volume if all are finite."""
    array, findings = replace_nonfinite(volume.array, volume.name)
    if not findings:
        return volume
    array.flags.writeable = False
    return replace(volume, array=array).with_findings(*findings)
