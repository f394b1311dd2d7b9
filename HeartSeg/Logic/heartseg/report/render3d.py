"""Off-screen rendering of surfaces with VTK: ``python -m heartseg.report.render3d scene.json out.png``.

Runs as a child process, because VTK crashes the process if there is no graphics library. ``scene.json`` contains
``{"size": [w, h], "background": [r, g, b], "frame": 3x3, "surfaces": [{"path", "color", "opacity"}]}``, with colours
from 0 to 1 and ``frame`` from :func:`heartseg.report.shading.view_frame`. STL files are in LPS unless their header
contains ``SPACE=RAS``, as written by Slicer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..anatomy import Structure
from .shading import view_frame

PYTHON_VARIABLE = "HEARTSEG_RENDER_PYTHON"
"""Environment variable with a different interpreter for the child process."""

OPACITY = {"MYO": 0.55}
"""The myocardium is translucent, so that the left ventricle inside it is visible."""


def render_surfaces(
    surfaces: Sequence[tuple[Structure, str | Path]],
    size: tuple[int, int],
    background: tuple[float, float, float],
    timeout_s: float = 90.0,
) -> tuple[np.ndarray | None, str]:
    """Render surfaces from the front in a child process.

    Returns:
        RGBA float ``(rows, columns, 4)`` and ``""``; or ``None`` and the reason of the failure.
    """
    with tempfile.TemporaryDirectory() as folder:
        scene, picture = Path(folder) / "scene.json", Path(folder) / "view.png"
        drawn = [
            {"path": str(path), "color": [c / 255 for c in s.color], "opacity": OPACITY.get(s.key, 1.0)}
            for s, path in surfaces
        ]
        content = {"size": size, "background": background, "frame": view_frame().tolist(), "surfaces": drawn}
        scene.write_text(json.dumps(content), encoding="utf-8")
        package_root = str(Path(__file__).resolve().parents[2])
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        python = os.environ.get(PYTHON_VARIABLE) or sys.executable
        command = [python, "-m", "heartseg.report.render3d", str(scene), str(picture)]
        try:
            run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None, f"rendering took more than {timeout_s:g} s"
        except OSError as error:
            return None, f"'{python}' could not be started ({error.strerror or error})"
        if run.returncode != 0 or not picture.is_file():
            last = (run.stderr.strip().splitlines() or ["no message"])[-1][:200]
            return None, f"the rendering process ended with code {run.returncode}: {last}"
        from matplotlib.image import imread

        return np.asarray(imread(picture), float), ""


def main(arguments: Sequence[str]) -> int:
    """Entry point of the child process."""
    scene = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    _draw(scene, arguments[1])
    return 0


def _draw(scene: dict, picture: str) -> None:
    import vtk

    renderer = vtk.vtkRenderer()
    renderer.SetBackground(*scene["background"])
    for surface in scene["surfaces"]:
        renderer.AddActor(_actor(surface))
    right, up, away = (np.asarray(v) for v in scene["frame"])
    renderer.RemoveAllLights()
    for toward, strength in ((-away + 0.5 * up - 0.6 * right, 0.85), (-away + 0.7 * right, 0.35)):
        light = vtk.vtkLight()
        light.SetLightTypeToSceneLight()
        light.SetPosition(*(1000 * toward))
        light.SetFocalPoint(0, 0, 0)
        light.SetIntensity(strength)
        renderer.AddLight(light)
    window = vtk.vtkRenderWindow()
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
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(picture)
    writer.SetInputConnection(grab.GetOutputPort())
    writer.Write()


def _actor(surface: dict):  # type: ignore[no-untyped-def]
    import vtk

    path = Path(surface["path"])
    if not path.is_file():
        raise FileNotFoundError(f"surface '{path}' does not exist")
    reader = vtk.vtkSTLReader()
    reader.SetFileName(str(path))
    source = reader
    with path.open("rb") as file:
        if b"SPACE=RAS" in file.read(200):
            transform = vtk.vtkTransform()
            transform.Scale(-1, -1, 1)
            source = vtk.vtkTransformPolyDataFilter()
            source.SetTransform(transform)
            source.SetInputConnection(reader.GetOutputPort())
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(source.GetOutputPort())
    normals.SetFeatureAngle(70)
    normals.ConsistencyOn()
    normals.SplittingOff()
    mapper = vtk.vtkPolyDataMapper()
    mapper.SetInputConnection(normals.GetOutputPort())
    mapper.ScalarVisibilityOff()
    actor = vtk.vtkActor()
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
