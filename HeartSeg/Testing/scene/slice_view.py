"""Slicer's slice view without a window: blended layers, and, in a separate process, the output of its displayable
managers. ``python slice_view.py MAP.npz OUT.png`` is that process, because it would crash without graphics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def add_slice_view(background: Any, orientation: str = "Axial", size: int = 240) -> Any:
    """Make a ``vtkMRMLSliceLogic`` with slice node and composite node in the scene, fitted to a volume."""
    import slicer

    application = slicer.app.applicationLogic()
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application)
    application.GetSliceLogics().AddItem(logic)
    logic.SetMRMLScene(slicer.mrmlScene)
    node = logic.AddSliceNode({"Axial": "Red", "Sagittal": "Yellow", "Coronal": "Green"}[orientation])
    node.SetMappedInLayout(1)
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(background.GetID())
    node.SetOrientation(orientation)
    logic.ResizeSliceNode(size, size)
    logic.FitSliceToBackground()
    return logic


def blended(logic: Any) -> np.ndarray:
    """Return the layers as displayed: RGB 0-255 ``(rows, columns, 3)``, first row on top."""
    from vtk.util.numpy_support import vtk_to_numpy

    algorithm = logic.GetImageDataConnection().GetProducer()
    algorithm.Update()
    image = algorithm.GetOutputDataObject(0)
    columns, rows, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1, :, :3].astype(int)


def draw(logic: Any, path: str | Path) -> None:
    """Draw the view with Slicer's displayable managers, off screen."""
    import slicer
    import vtk

    width, height, _ = logic.GetSliceNode().GetDimensions()
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(width, height)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    interactor.Initialize()
    renderer.GetActiveCamera().ParallelProjectionOn()
    over = vtk.vtkRenderer()
    over.SetLayer(1)
    over.GetActiveCamera().ParallelProjectionOn()
    window.SetNumberOfLayers(2)
    window.AddRenderer(over)
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for name in ("vtkMRMLModelSliceDisplayableManager", "vtkMRMLSegmentationsDisplayableManager2D"):
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(logic.GetSliceNode())
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    renderer.AddViewProp(actor)
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputConnection(grab.GetOutputPort())
    writer.Write()


def main(map_file: str, picture: str) -> None:
    """Draw scan, map, labels and grid from a file: contours of a segmentation and the map over the scan."""
    from heartseg.result import Result
    from heartseg.scene import fill_segmentation
    from heartseg.scene.overlay import prepare_overlay, show_overlay
    from heartseg.volume import Geometry
    from slicer_host import host

    content = np.load(map_file)
    grid = Geometry(
        content["scan"].shape, tuple(content["spacing"]), tuple(content["origin"]), tuple(content["direction"])
    )
    host.start()
    import slicer

    scan = slicer.util.addVolumeFromArray(content["scan"], ijkToRAS=grid.affine_ras, name="scan")
    scan.CreateDefaultDisplayNodes()
    scan.GetDisplayNode().SetAutoWindowLevel(False)
    scan.GetDisplayNode().SetWindowLevelMinMax(*(float(v) for v in np.percentile(content["scan"], (2, 99))))
    logic = add_slice_view(scan, str(content["orientation"]) if "orientation" in content else "Axial", 560)
    x, y, z = grid.affine_ras[:3] @ [*content["at"][::-1], 1]
    logic.GetSliceNode().JumpSliceByOffsetting(x, y, z)
    fill_segmentation(Result(content["labels"], grid), scan).GetDisplayNode().SetVisibility2DFill(False)
    show_overlay(prepare_overlay(content["map"], grid), scan)
    draw(logic, picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
