"""Surfaces on thin and thick slices: closed, apart, and of the right volume; made together and one by one.

Prints a table for a phantom heart, and draws both kinds side by side::

    PYTHONPATH=HeartSeg/Testing python benchmarks/surfaces.py --picture surfaces.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from heartseg.anatomy import STRUCTURES
from heartseg.export import Mesh, check_solidity, label_surfaces
from heartseg.export.finer_grid import finer_labels
from heartseg.export.surfaces import as_polydata
from heartseg.measure.boxes import bounding_box
from heartseg.volume import Geometry
from phantoms import heart_phantom

SLICES_MM = {0.7: (1.0, 1.0, 0.7), 2.5: (1.0, 1.0, 2.5), 8.0: (1.4, 1.4, 8.0)}
"""Slice distance -> spacing x, y, z."""

Surfaces = dict[str, Mesh]


def one_by_one(labels: np.ndarray, geometry: Geometry) -> Surfaces:
    """Each structure's surface by itself: discrete flying edges on the scan's voxels, windowed sinc smoothing."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    made = {}
    for structure in STRUCTURES:
        mask = np.pad(labels == structure.label, 1).astype(np.uint8)
        image, edges, smoother = vtk.vtkImageData(), vtk.vtkDiscreteFlyingEdges3D(), vtk.vtkWindowedSincPolyDataFilter()
        image.SetDimensions(*mask.shape[::-1])
        image.GetPointData().SetScalars(numpy_to_vtk(mask.ravel(), deep=True))
        edges.SetInputData(image)
        edges.SetValue(0, 1.0)
        smoother.SetInputConnection(edges.GetOutputPort())
        smoother.SetNumberOfIterations(40)
        smoother.SetPassBand(0.01)
        smoother.BoundarySmoothingOff()
        smoother.NonManifoldSmoothingOn()
        smoother.NormalizeCoordinatesOn()
        smoother.Update()
        points = vtk_to_numpy(smoother.GetOutput().GetPoints().GetData()).astype(float)
        triangles = vtk_to_numpy(smoother.GetOutput().GetPolys().GetConnectivityArray()).reshape(-1, 3)
        made[structure.key] = Mesh(geometry.index_to_world(points[:, ::-1] - 1), triangles).outwards()
    return made


def share_inside(surfaces: Surfaces, key: str, other: str) -> float:
    """Percentage of one structure's points that lie more than 0.01 mm inside another's surface."""
    import vtk

    distance = vtk.vtkImplicitPolyDataDistance()
    distance.SetInput(as_polydata(surfaces[other]))
    return 100 * float(np.mean([distance.EvaluateFunction(p) < -0.01 for p in surfaces[key].points[::5]]))


def report(spacing: tuple[float, float, float]) -> tuple[Surfaces, Surfaces]:
    """Print a row per kind of surface; returns both kinds."""
    labels, geometry, _ = heart_phantom(spacing)
    started = time.perf_counter()
    together = label_surfaces(labels, geometry, STRUCTURES)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    alone = one_by_one(labels, geometry)
    fine, factors = finer_labels(np.pad(labels[bounding_box(labels)], 1), geometry.spacing[::-1])
    for kind, surfaces, took in (("together", together, seconds), ("alone", alone, time.perf_counter() - started)):
        closed = sum(check_solidity(mesh).watertight for mesh in surfaces.values())
        grid, voxels = [], []
        for s in STRUCTURES:
            volume = surfaces[s.key].volume_ml
            own = np.count_nonzero(fine == s.label) * geometry.voxel_volume_ml / factors.prod()
            scan = np.count_nonzero(labels == s.label) * geometry.voxel_volume_ml
            grid.append(100 * (volume / own - 1))
            voxels.append(100 * (volume / scan - 1))
        print(
            f"{spacing[2]:>4} mm  {kind:<9} {took:5.1f} s  closed {closed}/7  LV in MYO "
            f"{share_inside(surfaces, 'LV', 'MYO'):5.2f} %  RV in MYO {share_inside(surfaces, 'RV', 'MYO'):5.2f} %  "
            f"volume off its grid {max(grid, key=abs):+5.2f} %, off the voxels {max(voxels, key=abs):+5.2f} %"
        )
    return together, alone


def draw(pairs: list[tuple[Surfaces, Surfaces]], path: Path) -> None:
    """A column per slice distance; above made together, below one by one."""
    import vtk

    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(300 * len(pairs), 600)
    for column, pair in enumerate(pairs):
        for row, surfaces in enumerate(reversed(pair)):
            renderer = _renderer(surfaces)
            renderer.SetViewport(column / len(pairs), row / 2, (column + 1) / len(pairs), (row + 1) / 2)
            window.AddRenderer(renderer)
    window.Render()
    grab, writer = vtk.vtkWindowToImageFilter(), vtk.vtkPNGWriter()
    grab.SetInput(window)
    writer.SetInputConnection(grab.GetOutputPort())
    writer.SetFileName(str(path))
    writer.Write()


def _renderer(surfaces: Surfaces) -> Any:
    import vtk

    renderer = vtk.vtkRenderer()
    renderer.SetBackground(1, 1, 1)
    for structure in STRUCTURES:
        mapper, actor = vtk.vtkPolyDataMapper(), vtk.vtkActor()
        mapper.SetInputData(as_polydata(surfaces[structure.key]))
        actor.SetMapper(mapper)
        actor.GetProperty().SetColor(*(c / 255 for c in structure.color))
        renderer.AddActor(actor)
    camera = renderer.GetActiveCamera()
    camera.SetPosition(0.35, -0.9, 0.25)  # LPS: from the front
    camera.SetViewUp(0, 0, 1)
    renderer.ResetCamera()
    camera.Zoom(1.35)
    return renderer


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/surfaces.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--picture", type=Path, help="PNG file to draw")
    picture = parser.parse_args().picture
    made = [report(spacing) for spacing in SLICES_MM.values()]
    if picture is not None:
        draw(made, picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
