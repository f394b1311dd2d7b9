"""Program of the child process that draws surfaces with VTK: ``scene.json out.png`` as arguments.

Run by path (:mod:`.render3d`), so that neither the package nor all of VTK is imported, which takes longer than the
drawing. ``scene.json`` contains ``{"size": [w, h], "background": [r, g, b], "frame": 3x3, "surfaces": [{"path",
"color", "opacity"}]}``, with colours from 0 to 1 and ``frame`` from :func:`heartseg.report.shading.view_frame`. STL
files are in LPS unless their header contains ``SPACE=RAS``, as written by Slicer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401 - the implementation of vtkRenderingCore
from vtkmodules.vtkCommonTransforms import vtkTransform
from vtkmodules.vtkFiltersCore import vtkPolyDataNormals
from vtkmodules.vtkFiltersGeneral import vtkTransformPolyDataFilter
from vtkmodules.vtkIOGeometry import vtkSTLReader
from vtkmodules.vtkIOImage import vtkPNGWriter
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkLight,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkWindowToImageFilter,
)


def main(arguments: Sequence[str]) -> int:
    """Entry point of the child process."""
    scene = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    _draw(scene, arguments[1])
    return 0


def _draw(scene: dict, picture: str) -> None:
    renderer = vtkRenderer()
    renderer.SetBackground(*scene["background"])
    for surface in scene["surfaces"]:
        renderer.AddActor(_actor(surface))
    right, up, away = (np.asarray(v) for v in scene["frame"])
    renderer.RemoveAllLights()
    for toward, strength in ((-away + 0.5 * up - 0.6 * right, 0.85), (-away + 0.7 * right, 0.35)):
        light = vtkLight()
        light.SetLightTypeToSceneLight()
        light.SetPosition(*(1000 * toward))
        light.SetFocalPoint(0, 0, 0)
        light.SetIntensity(strength)
        renderer.AddLight(light)
    window = vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(*scene["size"])
    window.SetAlphaBitPlanes(1)
    window.SetMultiSamples(0)
    window.AddRenderer(renderer)
    renderer.SetUseDepthPeeling(1)
    renderer.SetMaximumNumberOfPeels(8)
    renderer.SetOcclusionRatio(0.0)
    renderer.SetUseFXAA(True)
    x0, x1, y0, y1, z0, z1 = renderer.ComputeVisiblePropBounds()
    center = np.array([x0 + x1, y0 + y1, z0 + z1]) / 2
    camera = renderer.GetActiveCamera()
    camera.ParallelProjectionOn()
    camera.SetFocalPoint(*center)
    camera.SetPosition(*(center - 500 * away))
    camera.SetViewUp(*up)
    renderer.ResetCamera()
    camera.Zoom(1.35)
    renderer.ResetCameraClippingRange()
    window.Render()
    grab = vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    writer = vtkPNGWriter()
    writer.SetFileName(picture)
    writer.SetInputConnection(grab.GetOutputPort())
    writer.Write()


def _actor(surface: dict):  # type: ignore[no-untyped-def]
    path = Path(surface["path"])
    if not path.is_file():
        raise FileNotFoundError(f"surface '{path}' does not exist")
    reader = vtkSTLReader()
    reader.SetFileName(str(path))
    output = reader.GetOutputPort()
    with path.open("rb") as file:
        if b"SPACE=RAS" in file.read(200):
            transform = vtkTransform()
            transform.Scale(-1, -1, 1)
            mirrored = vtkTransformPolyDataFilter()
            mirrored.SetTransform(transform)
            mirrored.SetInputConnection(output)
            output = mirrored.GetOutputPort()
    normals = vtkPolyDataNormals()
    normals.SetInputConnection(output)
    normals.SetFeatureAngle(70)
    normals.ConsistencyOn()
    normals.SplittingOff()
    mapper = vtkPolyDataMapper()
    mapper.SetInputConnection(normals.GetOutputPort())
    mapper.ScalarVisibilityOff()
    actor = vtkActor()
    actor.SetMapper(mapper)
    material = actor.GetProperty()
    material.SetColor(*surface["color"])
    material.SetOpacity(surface["opacity"])
    material.SetInterpolationToPhong()
    material.SetAmbient(0.18)
    material.SetDiffuse(0.8)
    material.SetSpecular(0.25)
    material.SetSpecularPower(25)
    return actor


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
