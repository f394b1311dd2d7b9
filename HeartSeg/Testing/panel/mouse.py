"""A mouse in a slice view: Slicer's own displayable manager for markups turns its events into control points."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from scene.slice_view import add_slice_view

World = tuple[float, float, float]


class Mouse:
    """Moves and clicks in an axial slice view of a scan; nothing is drawn, so that it needs no graphics.

    Only one in a process: a second displayable manager for the same slice node crashes.
    """

    def __init__(self, scan: Any) -> None:
        self._logic = add_slice_view(scan)
        self._renderer, self._window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        name = "vtkMRMLMarkupsDisplayableManager"
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self._renderer)
        self._group.Initialize(factory, self._renderer)
        self._group.SetMRMLDisplayableNode(self._logic.GetSliceNode())
        self._manager = self._group.GetDisplayableManagerByClassName(name)

    def look_at(self, scan: Any) -> None:
        """Show a scan, after the scene was cleared."""
        self._logic.GetSliceCompositeNode().SetBackgroundVolumeID(scan.GetID())
        self._logic.FitSliceToBackground()

    def move(self, at: World) -> None:
        """Move the pointer to a place, RAS mm, in the slice through it."""
        self._logic.GetSliceNode().JumpSliceByOffsetting(*at)
        self._send(vtk.vtkCommand.MouseMoveEvent, at)

    def click(self, at: World) -> None:
        """Move to a place and click with the left button."""
        self.move(at)
        self._send(vtk.vtkCommand.LeftButtonPressEvent, at)
        self._send(vtk.vtkCommand.LeftButtonReleaseEvent, at)

    def right_click(self, at: World) -> None:
        """Move to a place and click with the right button."""
        self.move(at)
        self._send(vtk.vtkCommand.RightButtonPressEvent, at)
        self._send(vtk.vtkCommand.RightButtonReleaseEvent, at)

    def _send(self, event: int, at: World) -> None:
        data = slicer.vtkMRMLInteractionEventData()
        data.SetType(event)
        data.SetViewNode(self._logic.GetSliceNode())
        data.SetRenderer(self._renderer)
        to_view = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._logic.GetSliceNode().GetXYToRAS(), to_view)
        x, y, _z, _w = to_view.MultiplyPoint([*at, 1])
        data.SetDisplayPosition([round(x), round(y)])
        data.SetWorldPosition(at, True)
        self._manager.ProcessInteractionEvent(data)
