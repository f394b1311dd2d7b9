"""Closed surfaces of structures, made with VTK only; the panel displays them and the STL files contain them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..anatomy import STRUCTURES, Structure
from ..errors import SettingsError
from ..measure.boxes import bounding_box
from ..volume.geometry import Geometry
from ..wording import _
from .finer_grid import finer_labels, separated

SMOOTHING = 0.5
"""Smoothing factor, 0 (none) to 1: 3D Slicer's default, which moves the surface by up to about one voxel."""

COORDINATES = ("LPS", "RAS")
"""World axes of surface files: LPS as in DICOM and ITK, or RAS as in 3D Slicer."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangle mesh.

    Attributes:
        points: float64 ``(n, 3)``, x, y, z in mm.
        triangles: int64 ``(m, 3)``, indices of points, anticlockwise seen from outside.
    """

    points: np.ndarray
    triangles: np.ndarray

    def __len__(self) -> int:
        return len(self.triangles)

    @property
    def volume_ml(self) -> float:
        """Enclosed volume, mL, by the divergence theorem; negative if the triangles face inwards."""
        a, b, c = np.moveaxis(self.points[self.triangles], 1, 0)
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6000.0)

    def flipped(self) -> Mesh:
        """Return the surface with reversed orientation."""
        return Mesh(self.points, self.triangles[:, ::-1])

    def outwards(self) -> Mesh:
        """Return the surface with its triangles facing outwards, for example after mirroring the points."""
        return self.flipped() if self.volume_ml < 0 else self

    def in_coordinates(self, coordinates: str) -> Mesh:
        """Convert from LPS to ``"LPS"`` or ``"RAS"``; a rotation about the long axis, so orientation is preserved.

        Raises:
            SettingsError: the axes are unknown.
        """
        if coordinates.upper() not in COORDINATES:
            raise SettingsError(
                _("coordinates {coordinates!r} are unknown: use {known}").format(
                    coordinates=coordinates, known=" or ".join(COORDINATES)
                )
            )
        signs = (-1.0, -1.0, 1.0) if coordinates.upper() == "RAS" else (1.0, 1.0, 1.0)
        return Mesh(self.points * np.array(signs), self.triangles)


def joined(*meshes: Mesh) -> Mesh:
    """Combine several surfaces into one mesh with separate shells."""
    starts = np.cumsum([0, *(len(m.points) for m in meshes)])
    triangles = [m.triangles + start for m, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([m.points for m in meshes]), np.concatenate(triangles))


def label_surfaces(
    labels: np.ndarray, geometry: Geometry, structures: Sequence[Structure], smoothing: float = SMOOTHING
) -> dict[str, Mesh]:
    """Make the closed surfaces of all structures together, so that neighbours share the points of their border.

    Applies surface nets (Frisken, JCGT 2022; ``vtkSurfaceNets3D``) to the label map, then windowed sinc smoothing
    (Taubin et al., ICCV 1995) to the whole net with a pass band of ``10 ** (-4 * smoothing)`` and
    ``20 + 40 * smoothing`` iterations, like 3D Slicer with the conversion method *SurfaceNets* and joint smoothing.
    Slices thicker than the pixels are interpolated first (:func:`~heartseg.export.finer_grid.finer_labels`).

    Args:
        labels: uint8 ``(z, y, x)``.
        geometry: grid of the labels.
        structures: structures to return; all others still form their borders.
        smoothing: 0 (none) to 1.

    Returns:
        Surface of each structure key in world LPS mm, closed also at the border of the scan; structures without voxels
        are omitted.

    Raises:
        SettingsError: ``smoothing`` is outside its range.
    """
    if not 0 <= smoothing <= 1:
        raise SettingsError(
            _("smoothing {smoothing:g} is outside 0 to 1: the default is {default:g}").format(
                smoothing=smoothing, default=SMOOTHING
            )
        )
    box = bounding_box(labels)
    if box is None:
        return {}
    cut = np.pad(labels[box], 1)
    fine, factors = finer_labels(cut, geometry.spacing[::-1])
    points, triangles, pairs = surface_nets(separated(fine), smoothing)
    low = np.array([span.start - 1 for span in box])
    world = geometry.index_to_world((points[:, ::-1] + 0.5) / factors - 0.5 + low)
    surfaces = {}
    for structure in structures:
        inside, outside = (triangles[pairs[:, side] == structure.label] for side in (0, 1))
        if len(inside) + len(outside):
            surfaces[structure.key] = _compact(world, np.concatenate([inside, outside[:, ::-1]])).outwards()
    return surfaces


def surface_nets(labels: np.ndarray, smoothing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make the borders between all labels, and between labels and background, each once.

    Args:
        labels: uint8 ``(z, y, x)`` with a margin of zeros.
        smoothing: 0 (none) to 1.

    Returns:
        Points ``(n, 3)`` in index coordinates ``(x, y, z)``, triangles ``(m, 3)``, and the labels ``(m, 2)`` on both
        sides of each triangle; its corners are anticlockwise as seen from the second label.
    """
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkSurfaceNets3D

    nets = vtkSurfaceNets3D()
    nets.SetInputData(_image(labels))
    for number, label in enumerate(np.unique(labels[labels > 0])):
        nets.SetValue(number, float(label))
    nets.SetOutputMeshTypeToTriangles()
    nets.SmoothingOff()
    nets.Update()
    net = nets.GetOutput()
    pairs = vtk_to_numpy(net.GetCellData().GetArray("BoundaryLabels")).astype(int)
    mesh = _as_mesh(_smoothed(net, smoothing) if smoothing > 0 else net)
    return mesh.points, mesh.triangles, pairs


def _smoothed(surface: Any, smoothing: float) -> Any:
    from vtkmodules.vtkFiltersCore import vtkWindowedSincPolyDataFilter

    smoother = vtkWindowedSincPolyDataFilter()
    smoother.SetInputData(surface)
    smoother.SetNumberOfIterations(round(20 + 40 * smoothing))
    smoother.SetPassBand(10.0 ** (-4.0 * smoothing))
    smoother.BoundarySmoothingOff()
    smoother.FeatureEdgeSmoothingOff()
    smoother.NonManifoldSmoothingOn()
    smoother.NormalizeCoordinatesOn()
    smoother.Update()
    return smoother.GetOutput()


def _compact(points: np.ndarray, triangles: np.ndarray) -> Mesh:
    """Make a mesh of some triangles with only the points that they use."""
    used, index = np.unique(triangles, return_inverse=True)
    return Mesh(points[used], index.reshape(triangles.shape))


def closed_surface(mask: np.ndarray, geometry: Geometry, smoothing: float = SMOOTHING) -> Mesh | None:
    """Make the closed surface of one mask; see :func:`label_surfaces`.

    Args:
        mask: bool ``(z, y, x)``.
        geometry: grid of the mask.
        smoothing: 0 (none) to 1.

    Returns:
        The surface in world LPS mm; ``None`` for an empty mask.
    """
    alone = STRUCTURES[0]
    return label_surfaces(mask.astype(np.uint8) * alone.label, geometry, (alone,), smoothing).get(alone.key)


def as_polydata(mesh: Mesh) -> Any:
    """Convert a mesh to ``vtkPolyData`` with point normals."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkPolyDataNormals

    surface, points, cells = vtkPolyData(), vtkPoints(), vtkCellArray()
    points.SetData(numpy_to_vtk(mesh.points.astype(np.float32), deep=True))
    offsets = numpy_to_vtkIdTypeArray(np.arange(0, 3 * len(mesh) + 1, 3, dtype=np.int64), deep=True)
    cells.SetData(offsets, numpy_to_vtkIdTypeArray(mesh.triangles.ravel().astype(np.int64), deep=True))
    surface.SetPoints(points)
    surface.SetPolys(cells)
    normals = vtkPolyDataNormals()
    normals.SetInputData(surface)
    normals.ConsistencyOff()  # the mesh is consistent, and the check would change it where two parts touch
    normals.SplittingOff()
    normals.Update()
    made = vtkPolyData()
    made.ShallowCopy(normals.GetOutput())  # does not keep the filter inputs in memory
    return made


def level_set(field: np.ndarray) -> Mesh | None:
    """Make the surface where a smooth field is 0, in index coordinates ``(x, y, z)``; triangles face the positive side.

    Uses flying edges on 32-bit floats. The surface is closed and manifold if the field is positive at the border of the
    grid and nowhere exactly 0.

    Args:
        field: float32 ``(z, y, x)``, negative inside.
    """
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

    edges = vtkFlyingEdges3D()
    edges.SetInputData(_image(np.ascontiguousarray(field, np.float32)))
    edges.SetValue(0, 0.0)
    edges.ComputeGradientsOff()
    edges.ComputeNormalsOff()
    edges.ComputeScalarsOff()
    edges.Update()
    mesh = _as_mesh(edges.GetOutput())
    return mesh.outwards() if len(mesh) else None


def _image(array: np.ndarray) -> Any:
    """Convert an array ``(z, y, x)`` to ``vtkImageData`` in index coordinates."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData

    image = vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(array.ravel(), deep=True))
    return image


def _as_mesh(surface: Any) -> Mesh:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    if not surface.GetNumberOfPolys():
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    points = vtk_to_numpy(surface.GetPoints().GetData()).astype(float)
    triangles = vtk_to_numpy(surface.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    return Mesh(points, triangles)
