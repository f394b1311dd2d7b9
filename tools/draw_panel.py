"""Draw the panel for the documentation: before, during, after a run, dark, with other sections, with an error.

The real module with its real ``.ui`` files and the real model, on Slicer's own scene; Qt's and Slicer's widgets are
stand-ins (``HeartSeg/Testing/pythonqt``), so fonts and frames differ from the application's. Beside the panel stand the
three slices and the heart in 3D, drawn by VTK from the same nodes. Needs the extra ``dev`` and a font (DejaVu)::

    QT_QPA_PLATFORM=offscreen python tools/draw_panel.py docs/images
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "HeartSeg" / "Testing"), str(ROOT / "HeartSeg" / "Logic")]
SCAN = ROOT / "HeartSeg" / "Resources" / "SampleData" / "HeartSeg-synthetic-CTA.nii.gz"
PANEL_WIDTH, VIEW = 460, 405  # 1280 pixels together


def slice_picture(volume: Any, segmentation: Any, axis: int, point: np.ndarray) -> np.ndarray:
    """One slice (uint8 RGB) through a world RAS point, with the segments' outlines, patient's right on the left."""
    import slicer
    from scipy.ndimage import binary_erosion, zoom

    array = slicer.util.arrayFromVolume(volume)
    matrix = np.linalg.inv(slicer.util.arrayFromVTKMatrix(_ijk_to_ras(volume)))
    index = np.clip(np.rint((matrix @ [*point, 1])[:3]).astype(int)[::-1], 0, np.array(array.shape) - 1)
    take: list[Any] = [slice(None)] * 3
    take[axis] = index[axis]
    low, high = -150, 450
    grey = np.clip((array[tuple(take)].astype(float) - low) / (high - low), 0, 1) * 255
    picture = np.repeat(grey[..., None], 3, axis=2)
    if segmentation is not None:
        for key in segmentation.GetSegmentation().GetSegmentIDs():
            mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, key, volume)[tuple(take)] != 0
            color = np.array(segmentation.GetSegmentation().GetSegment(key).GetColor()) * 255
            picture[mask] = 0.65 * picture[mask] + 0.35 * color
            picture[mask & ~binary_erosion(mask)] = color
    spacing = [s for k, s in enumerate(reversed(volume.GetSpacing())) if k != axis]
    scale = VIEW / max(n * s for n, s in zip(picture.shape[:2], spacing, strict=True))
    picture = zoom(picture, (spacing[0] * scale, spacing[1] * scale, 1), order=1)[:VIEW, :VIEW]
    if axis != 0:
        picture = picture[::-1]  # superior on top
    full = np.zeros((VIEW, VIEW, 3))
    top, left = (VIEW - picture.shape[0]) // 2, (VIEW - picture.shape[1]) // 2
    full[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return full.clip(0, 255).astype(np.uint8)


def _ijk_to_ras(volume: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def wall_actor() -> Any:
    """The wall map of the scene as its display node shows it; ``None`` if there is none."""
    import slicer
    import vtk

    from heartseg.scene.owned import KIND
    from heartseg.scene.wall_model import MODEL

    node = next((n for n in slicer.util.getNodesByClass("vtkMRMLModelNode") if n.GetAttribute(KIND) == MODEL), None)
    if node is None:
        return None
    mapper, actor, display = vtk.vtkPolyDataMapper(), vtk.vtkActor(), node.GetDisplayNode()
    mapper.SetInputData(node.GetPolyData())
    mapper.SelectColorArray(display.GetActiveScalarName())
    mapper.SetScalarModeToUsePointFieldData()
    mapper.SetLookupTable(display.GetColorNode().GetLookupTable())
    mapper.SetScalarRange(*display.GetScalarRange())
    actor.SetMapper(mapper)
    return actor


def heart_picture(segmentation: Any, camera_node: Any) -> np.ndarray:
    """The wall map, or else the closed surfaces, as the camera node sees them, with the display node's opacities."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    wall = wall_actor()

    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    renderer.SetBackground(0.757, 0.765, 0.910)
    renderer.SetBackground2(0.455, 0.471, 0.745)
    renderer.GradientBackgroundOn()
    renderer.SetUseDepthPeeling(1)
    window.SetOffScreenRendering(1)
    window.SetAlphaBitPlanes(1)
    window.SetMultiSamples(0)
    window.SetSize(VIEW, VIEW)
    window.AddRenderer(renderer)
    if segmentation is not None:
        display = segmentation.GetDisplayNode()
        if wall is not None:
            renderer.AddActor(wall)
        for key in segmentation.GetSegmentation().GetSegmentIDs():
            segment = segmentation.GetSegmentation().GetSegment(key)
            mapper, actor = vtk.vtkPolyDataMapper(), vtk.vtkActor()
            mapper.SetInputData(segment.GetRepresentation("Closed surface"))
            mapper.ScalarVisibilityOff()
            actor.SetMapper(mapper)
            actor.GetProperty().SetColor(segment.GetColor())
            actor.GetProperty().SetOpacity(display.GetSegmentOpacity3D(key) * display.GetOpacity3D())
            actor.SetVisibility(wall is None)
            renderer.AddActor(actor)
        renderer.SetActiveCamera(camera_node.GetCamera())
        renderer.ResetCameraClippingRange()
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(VIEW, VIEW, -1)[::-1, :, :3]
    return np.ascontiguousarray(pixels)


class Desktop:
    """The panel beside four views, as one picture."""

    def __init__(self, session: Any, camera_node: Any) -> None:
        from PySide6 import QtWidgets

        self.session, self.camera_node = session, camera_node
        session.parent.setFixedWidth(PANEL_WIDTH)
        QtWidgets.QApplication.setStyle("Fusion")

    def save(self, path: Path, volume: Any, segmentation: Any = None) -> None:
        """Draw and write; the picture is as high as the panel needs."""
        from PIL import Image
        from PySide6 import QtCore, QtGui, QtWidgets

        panel = self.session.parent
        for _ in range(5):
            self.session.turn()
        height = max(2 * VIEW + 6, QtWidgets.QWidget.sizeHint(panel).height())
        QtWidgets.QWidget.resize(panel, PANEL_WIDTH, height)
        for _ in range(5):
            self.session.turn()
        from heartseg.panel.views import world_box

        box = world_box(segmentation) if segmentation is not None else None
        bounds = np.zeros(6)
        volume.GetRASBounds(bounds)
        point = box.mean(0) if box is not None else bounds.reshape(3, 2).mean(1)
        views = [
            slice_picture(volume, segmentation, 0, point),
            heart_picture(segmentation, self.camera_node),
            slice_picture(volume, segmentation, 1, point),
            slice_picture(volume, segmentation, 2, point),
        ]
        image = QtGui.QImage(PANEL_WIDTH + 2 * VIEW + 9, height, QtGui.QImage.Format.Format_RGB32)
        image.fill(QtGui.QColor(40, 40, 44))
        painter = QtGui.QPainter(image)
        painter.drawPixmap(0, 0, QtWidgets.QWidget.grab(panel))
        for k, view in enumerate(views):
            row, column = divmod(k, 2)
            picture = QtGui.QImage(view.tobytes(), VIEW, VIEW, 3 * VIEW, QtGui.QImage.Format.Format_RGB888)
            painter.drawImage(QtCore.QPoint(PANEL_WIDTH + 3 + column * (VIEW + 3), row * (VIEW + 3)), picture)
        painter.end()
        image.save(str(path))
        Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path)


def draw(folder: Path) -> None:
    """All pictures."""
    import slicer

    from pythonqt import panel_host

    with panel_host(ROOT / "HeartSeg" / "HeartSeg.py") as session:
        camera = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode")
        volume = slicer.util.loadVolume(str(SCAN), {"name": "HeartSeg-synthetic-CTA"})
        slicer.app.userSettings().setValue("HeartSeg/ExportFolder", "/home/you")  # nobody's own folder in a picture
        widget = session.open()
        panel, ui, desktop = widget.panel, widget.ui, Desktop(session, camera)
        widget._parameterNode.device = "cpu"
        session.wait_until(lambda: ui.deviceLabel.text != "")
        desktop.save(folder / "panel-before.png", volume)

        seen: list[float] = []
        told = panel._progressed

        def picture_at_half(event: Any) -> None:
            told(event)
            if event.stage == "resample" and not seen:
                seen.append(event.fraction)
                desktop.save(folder / "panel-during.png", volume)

        panel._progressed = picture_at_half
        ui.segmentButton.click()
        session.wait_until(lambda: panel.state.running == "", 600)
        segmentation = panel.state.segmentation
        desktop.save(folder / "panel-after.png", volume, segmentation)
        with dark_theme():
            desktop.save(folder / "panel-dark.png", volume, segmentation)

        measures = next(s for s in panel._sections if s.name == "Measures")
        measures.ui.measuresSection.collapsed = False
        measures.ui.wallButton.click()
        session.wait_until(lambda: panel.state.running == "", 600)
        measures.ui.tablesButton.click()
        desktop.save(folder / "panel-measures.png", volume, segmentation)
        measures.ui.removeWallButton.click()
        measures.ui.measuresSection.collapsed = True
        measures.ui.measuresLabel.text = ""

        export = next(s for s in panel._sections if s.name == "Export")
        with lacking(("highdicom", "weasyprint", "tinycss2")):
            export.ui.exportSection.collapsed = False
            panel.refresh()
            desktop.save(folder / "panel-export.png", volume, segmentation)
        export.ui.exportSection.collapsed = True
        panel.refresh()

        panel.warm._make = _out_of_memory
        panel.warm.forget()
        widget._parameterNode.accurate = True
        ui.segmentButton.click()
        session.wait_until(lambda: panel.state.running == "", 600)
        desktop.save(folder / "panel-error.png", volume, segmentation)
        panel.hide_error()
        panel.show_status("")
        browser = time_series(volume, segmentation)
        widget._parameterNode.inputVolume = browser.GetProxyNode(browser.GetMasterSequenceNode())
        panel.show_results_of(segmentation)
        desktop.save(folder / "panel-sequence.png", widget._parameterNode.inputVolume, segmentation)


@contextmanager
def dark_theme() -> Iterator[None]:
    """The application's dark palette (``qSlicerStyle.cxx``)."""
    from PySide6 import QtGui, QtWidgets

    roles, disabled = QtGui.QPalette.ColorRole, QtGui.QPalette.ColorGroup.Disabled
    before, dark = QtWidgets.QApplication.palette(), QtGui.QPalette(QtGui.QColor("#323232"))
    for role, color in ((roles.Base, "#1e1e1e"), (roles.Text, "#ffffff"), (roles.Link, "#3ca4ff")):
        dark.setColor(role, QtGui.QColor(color))
    for role, color in ((roles.WindowText, "#6d6d6d"), (roles.Text, "#6d6d6d"), (roles.ButtonText, "#b4b4b4")):
        dark.setColor(disabled, role, QtGui.QColor(color))
    QtWidgets.QApplication.setPalette(dark)
    try:
        yield
    finally:
        QtWidgets.QApplication.setPalette(before)


@contextmanager
def lacking(names: Sequence[str]) -> Iterator[None]:
    """Let the panel not find these packages, as in a new Slicer."""
    from heartseg import formats, needs

    def version(name: str) -> str:
        return "" if name in names else known(name)

    def found(module: str) -> bool:
        return module not in names and installed(module)

    known, installed = needs.installed_version, formats.is_installed
    with patch.object(needs, "installed_version", version), patch.object(formats, "is_installed", found):
        yield


def time_series(volume: Any, segmentation: Any) -> Any:
    """A browser over three frames of the scan with the segmentation of each, as a run on all frames leaves it."""
    import slicer

    from heartseg.scene.frames import keep_frame

    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "HeartSeg-synthetic-cine")
    for frame in range(3):
        sequence.SetDataNodeAtValue(volume, str(frame))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    browser.GetProxyNode(sequence).SetName("HeartSeg-synthetic-cine")
    for frame in range(3):
        keep_frame(browser, segmentation, frame)
    return browser


def _out_of_memory(model: str, settings: Any) -> Any:
    from heartseg.errors import DeviceError

    raise DeviceError(
        "out of memory on cpu with one tile of 96x96x96 voxels: close other programs, or use a model with a smaller "
        "patch"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    draw(parser.parse_args().folder)
