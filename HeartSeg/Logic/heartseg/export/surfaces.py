"""Closed surfaces of structures, by VTK alone: the same steps as 3D Slicer's, so that both show the same shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import SettingsError
from ..volume.geometry import Geometry

SMOOTHING = 0.5
"""Smoothing factor, 0 (none) to 1: 3D Slicer's default, which moves the surface by up to about one voxel."""

COORDINATES = ("LPS", "RAS")
"""World axes that surfaces are written in: DICOM's and ITK's LPS, or RAS as inside 3D Slicer."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface of triangles.

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
        """The same surface with its inside out."""
        return Mesh(self.points, self.triangles[:, ::-1])

    def outwards(self) -> Mesh:
        """The same surface with its triangles facing outwards, also after a mirroring map of its points."""
        return self.flipped() if self.volume_ml < 0 else self

    def in_coordinates(self, coordinates: str) -> Mesh:
        """From LPS to ``"LPS"`` or ``"RAS"``: half a turn about the long axis, so outside stays outside.

        Raises:
            SettingsError: the axes are unknown.
        """
        if coordinates.upper() not in COORDINATES:
            raise SettingsError(f"coordinates {coordinates!r} are unknown: use {' or '.join(COORDINATES)}")
        signs = (-1.0, -1.0, 1.0) if coordinates.upper() == "RAS" else (1.0, 1.0, 1.0)
        return Mesh(self.points * np.array(signs), self.triangles)


def joined(*meshes: Mesh) -> Mesh:
    """Several surfaces as one mesh of separate shells."""
    starts = np.cumsum([0, *(len(m.points) for m in meshes)])
    triangles = [m.triangles + start for m, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([m.points for m in meshes]), np.concatenate(triangles))


def closed_surface(mask: np.ndarray, geometry: Geometry, smoothing: float = SMOOTHING) -> Mesh | None:
    """Surface around a structure, closed also where it meets the scan's border.

    Discrete flying edges (Schroeder et al., LDAV 2015) on the voxels, then windowed sinc smoothing (Taubin et al.,
    ICCV 1995) in index space with a pass band of ``10 ** (-4 * smoothing)`` and ``20 + 40 * smoothing`` iterations: the
    steps and numbers of Slicer 5.12's conversion from binary label map to closed surface.

    Args:
        mask: bool ``(z, y, x)``.
        geometry: its grid.
        smoothing: 0 (none) to 1.

    Returns:
        The surface in world LPS mm; ``None`` for an empty mask.

    Raises:
        SettingsError: ``smoothing`` is outside its range.
    """
    if not 0 <= smoothing <= 1:
        raise SettingsError(f"smoothing {smoothing:g} is outside 0 to 1: {SMOOTHING:g} suits most")
    index = np.argwhere(mask)
    if not len(index):
        return None
    low, high = index.min(axis=0), index.max(axis=0) + 1
    padded = np.pad(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], 1)
    mesh = _as_mesh(voxel_surface(padded, smoothing))
    points = geometry.index_to_world(mesh.points[:, ::-1] + (low - 1))
    return Mesh(points, mesh.triangles).outwards()


def level_set(field: np.ndarray) -> Mesh | None:
    """The surface where a smooth field is 0, in index coordinates ``(x, y, z)``; triangles face the positive side.

    Flying edges on 32-bit floats. Closed and manifold if the field is positive at the border and nowhere 0.

    Args:
        field: float32 ``(z, y, x)``, negative inside.
    """
    import vtk

    edges = vtk.vtkFlyingEdges3D()
    _cut(edges, np.ascontiguousarray(field, np.float32), 0.0)
    edges.Update()
    mesh = _as_mesh(edges.GetOutput())
    return mesh.outwards() if len(mesh) else None


def voxel_surface(mask: np.ndarray, smoothing: float = SMOOTHING) -> Any:
    """The smoothed surface of a mask in index coordinates ``(x, y, z)``, as :func:`closed_surface` makes it.

    Args:
        mask: ``(z, y, x)``, 0 or 1, with a rim of zeros, which closes the surface.
        smoothing: 0 (none) to 1.

    Returns:
        ``vtkPolyData`` of triangles, seen from outside anticlockwise, without normals.
    """
    import vtk

    edges = vtk.vtkDiscreteFlyingEdges3D()
    _cut(edges, mask.astype(np.uint8), 1.0)
    if smoothing <= 0:
        edges.Update()
        return edges.GetOutput()
    smoother = vtk.vtkWindowedSincPolyDataFilter()
    smoother.SetInputConnection(edges.GetOutputPort())
    smoother.SetNumberOfIterations(round(20 + 40 * smoothing))
    smoother.SetPassBand(10.0 ** (-4.0 * smoothing))
    smoother.BoundarySmoothingOff()
    smoother.FeatureEdgeSmoothingOff()
    smoother.NonManifoldSmoothingOn()
    smoother.NormalizeCoordinatesOn()
    smoother.Update()
    return smoother.GetOutput()


def _cut(edges: Any, array: np.ndarray, value: float) -> None:
    """Give a flying-edges filter an array ``(z, y, x)`` and the value at which to cut it."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(array.ravel(), deep=True))
    edges.SetInputData(image)
    edges.SetValue(0, value)
    edges.ComputeGradientsOff()
    edges.ComputeNormalsOff()
    edges.ComputeScalarsOff()


def _as_mesh(surface: Any) -> Mesh:
    from vtk.util.numpy_support import vtk_to_numpy

    if not surface.GetNumberOfPolys():
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    points = vtk_to_numpy(surface.GetPoints().GetData()).astype(float)
    triangles = vtk_to_numpy(surface.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    return Mesh(points, triangles)
