"""Segmentation nodes to files: ``.seg.nrrd`` and one surface per structure, in LPS as Slicer's exporter writes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..anatomy import KEYS, structure
from ..errors import OutputError

SURFACE_FORMATS = ("STL", "PLY", "OBJ", "VTP")


def save_segmentation(segmentation_node: Any, path: str | Path) -> Path:
    """Write a segmentation node as compressed ``.seg.nrrd`` on its reference grid.

    The node stays as it is: it is not tied to the file.

    Args:
        segmentation_node: ``vtkMRMLSegmentationNode``.
        path: file ending in ``.seg.nrrd``; its folder must exist.

    Raises:
        OutputError: if the name or folder is wrong, or writing fails (nothing half-written is left).
    """
    import slicer

    path = Path(path)
    if not path.name.lower().endswith(".seg.nrrd"):
        raise OutputError(f"segmentation file '{path.name}' must end in .seg.nrrd, or Slicer takes it for a volume")
    _check_folder(path.parent)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetScene(segmentation_node.GetScene())
    storage.SetFileName(str(path))
    storage.SetUseCompression(1)
    if not _writes(lambda: bool(storage.WriteData(segmentation_node)), path):
        raise OutputError(f"segmentation could not be written to '{path}': check free space and permissions")
    return path


def save_surfaces(segmentation_node: Any, folder: str | Path, format: str = "STL") -> dict[str, Path]:
    """Write each segment's closed surface, in world LPS coordinates and mm, below the node's transform.

    Args:
        segmentation_node: ``vtkMRMLSegmentationNode``; closed surfaces are made if it has none.
        folder: existing folder.
        format: ``"STL"`` (binary), ``"PLY"``, ``"OBJ"`` or ``"VTP"``.

    Returns:
        Segment ID -> file, named after the structure (``left_ventricle.stl``). Empty segments give no file.

    Raises:
        OutputError: if the format is unknown, the folder is missing, or writing fails.
    """
    import vtk

    folder = Path(folder)
    extension = format.lower().lstrip(".")
    if extension.upper() not in SURFACE_FORMATS:
        raise OutputError(f"surface format {format!r} is unknown: use one of {', '.join(SURFACE_FORMATS)}")
    _check_folder(folder)
    if not _holds_voxels(segmentation_node):
        return {}
    if not segmentation_node.CreateClosedSurfaceRepresentation():
        raise OutputError(f"'{segmentation_node.GetName()}' has no closed surfaces, and none could be made")
    written: dict[str, Path] = {}
    for segment_id in segmentation_node.GetSegmentation().GetSegmentIDs():
        surface = vtk.vtkPolyData()
        segmentation_node.GetClosedSurfaceRepresentation(segment_id, surface)
        if not surface.GetNumberOfCells():
            continue
        name = segmentation_node.GetSegmentation().GetSegment(segment_id).GetName()
        path = folder / f"{surface_name(segment_id, name)}.{extension}"
        if path in written.values():
            path = folder / f"{path.stem}_{_slug(segment_id)}.{extension}"
        if not _writes(partial(_write_surface, _to_lps(segmentation_node, surface), path), path):
            raise OutputError(f"surface could not be written to '{path}': check free space and permissions")
        written[segment_id] = path
    return written


def surface_name(segment_id: str, segment_name: str) -> str:
    """File name without extension: the structure's name for our keys, else the segment's, in plain characters."""
    return _slug(structure(segment_id).name if segment_id in KEYS else segment_name) or _slug(segment_id)


def _holds_voxels(segmentation_node: Any) -> bool:
    """Whether there is anything to make a surface of: voxels, or another source than voxels."""
    import slicer
    from vtk.util.numpy_support import vtk_to_numpy

    name = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    segmentation = segmentation_node.GetSegmentation()
    if segmentation.GetSourceRepresentationName() != name:
        return True
    layers = [segmentation.GetSegment(key).GetRepresentation(name) for key in segmentation.GetSegmentIDs()]
    voxels = [layer.GetPointData().GetScalars() for layer in layers if layer is not None]
    return any(v is not None and bool(vtk_to_numpy(v).any()) for v in voxels)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise OutputError(f"folder '{folder}' does not exist: create it or choose another")


def _writes(write: Callable[[], bool], path: Path) -> bool:
    """Whether ``write()`` succeeded and left a file; a file half-written is removed."""
    earlier = path.stat().st_mtime_ns if path.exists() else None
    success = write() and path.is_file() and path.stat().st_size > 0
    if not success and path.is_file() and path.stat().st_mtime_ns != earlier:
        path.unlink(missing_ok=True)
    return bool(success)


def _to_lps(segmentation_node: Any, surface: Any) -> Any:
    """The surface in world LPS. RAS to LPS turns by 180° about the long axis, so normals keep pointing outwards."""
    import vtk

    to_world = vtk.vtkGeneralTransform()
    if segmentation_node.GetParentTransformNode() is not None:
        segmentation_node.GetParentTransformNode().GetTransformToWorld(to_world)
    to_lps = vtk.vtkTransform()
    to_lps.Scale(-1, -1, 1)
    chain = vtk.vtkGeneralTransform()
    chain.PostMultiply()
    chain.Concatenate(to_world)
    chain.Concatenate(to_lps)
    turned = vtk.vtkTransformPolyDataFilter()
    turned.SetTransform(chain)
    turned.SetInputData(surface)
    turned.Update()
    return turned.GetOutput()


def _write_surface(surface: Any, path: Path) -> bool:
    import vtk

    writers = {
        ".stl": vtk.vtkSTLWriter,
        ".ply": vtk.vtkPLYWriter,
        ".obj": vtk.vtkOBJWriter,
        ".vtp": vtk.vtkXMLPolyDataWriter,
    }
    writer = writers[path.suffix]()
    if path.suffix in (".stl", ".ply"):
        writer.SetFileTypeToBinary()
    if path.suffix == ".stl":
        writer.SetHeader("HeartSeg SPACE=LPS")  # Slicer's reader looks for SPACE=
    writer.SetInputData(surface)
    writer.SetFileName(str(path))
    return bool(writer.Write()) and writer.GetErrorCode() == 0
