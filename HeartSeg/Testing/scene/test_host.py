"""The host: it starts, stops, does not affect the application, and reports missing parts."""

from __future__ import annotations

import enum
import os
import pathlib
import subprocess
import sys
import types
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import slicer

from heartseg.errors import DependencyError, InputError
from heartseg.volume import Geometry
from slicer_host import host
from slicer_host.standins import parameter_node as p


def in_fresh_process(code: str, repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join(str(repository / "HeartSeg" / part) for part in ("Logic", "Testing"))},
        capture_output=True,
        text=True,
        check=False,
    )


def test_starting_twice_keeps_the_scene(scene: Any) -> None:
    host.start()
    assert slicer.mrmlScene is scene


def test_it_starts_quietly_and_stops_and_starts_again(repository: Path) -> None:
    code = (
        "from slicer_host import host\n"
        "with host.session():\n"
        "    import slicer, os; folder = slicer.app.temporaryPath\n"
        "    slicer.mrmlScene.AddNewNodeByClass('vtkMRMLScalarVolumeNode', 'one')\n"
        "assert not hasattr(slicer, 'mrmlScene') and not os.path.exists(folder)\n"
        "host.start()\n"
        "assert slicer.mrmlScene.GetFirstNodeByName('one') is None\n"
        "host.stop(); host.stop()\n"
    )
    run = in_fresh_process(code, repository)
    assert (run.returncode, run.stderr) == (0, "")


def test_inside_the_application_it_does_nothing(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app, ours = types.SimpleNamespace(applicationVersion="5.12.0"), slicer.app
    monkeypatch.setattr(slicer, "app", app)
    host.start()
    host.stop()
    assert host.in_application()
    assert slicer.app is app
    assert slicer.mrmlScene is scene
    monkeypatch.setattr(slicer, "app", ours)


def test_a_missing_slicer_core_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "slicer", None)
    with pytest.raises(DependencyError, match="pip install slicer-core") as caught:
        host.import_slicer()
    assert "\n" not in str(caught.value)


def test_another_package_called_slicer_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "slicer", types.ModuleType("slicer"))
    with pytest.raises(DependencyError, match="is not 3D Slicer's: remove it"):
        host.import_slicer()


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".nii", ".mha"])
def test_volumes_go_through_files_with_exact_geometry(
    scene: Any, geometry: Geometry, tmp_path: Path, extension: str
) -> None:
    values = np.random.default_rng(1).integers(-1000, 2000, geometry.shape).astype(np.int16)
    node = slicer.util.addVolumeFromArray(values, ijkToRAS=geometry.affine_ras, name="scan")
    path = tmp_path / f"scan{extension}"
    assert slicer.util.saveNode(node, str(path))
    again = slicer.util.loadVolume(str(path), {"name": "again"})
    assert again.GetName() == "again"
    assert np.array_equal(slicer.util.arrayFromVolume(again), values)
    one, other = (slicer.util.arrayFromVTKMatrix(_matrix(n)) for n in (node, again))
    assert np.allclose(one, other, atol=1e-4)


def test_a_scene_goes_through_a_bundle(scene: Any, geometry: Geometry, tmp_path: Path) -> None:
    slicer.util.addVolumeFromArray(np.zeros(geometry.shape, np.int16), name="bundled")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2


def test_what_cannot_be_loaded_raises(scene: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.seg.nrrd").write_text("no")
    count = scene.GetNumberOfNodes()
    for path in (tmp_path / "missing.nrrd", tmp_path / "broken.seg.nrrd"):
        with pytest.raises(RuntimeError, match="Failed to load"):
            slicer.util.loadNodeFromFile(str(path))
    assert scene.GetNumberOfNodes() == count


def test_a_module_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        host.load_module(tmp_path / "Nothing.py")


def _matrix(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


class Pace(enum.Enum):
    SLOW = 1
    FAST = 2


def wrapped_parameters() -> Any:
    @p.parameterNodeWrapper
    class Parameters:
        on: bool = True
        count: Annotated[int, p.Default(3), p.WithinRange(1, 9)]
        step: float = 0.5
        name: str
        folder: pathlib.Path
        pace: Pace
        volume: slicer.vtkMRMLScalarVolumeNode

    return Parameters


def test_parameters_have_defaults_types_and_limits(scene: Any) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    one = wrapped_parameters()(node)
    assert (one.on, one.count, one.step, one.name, one.pace, one.volume) == (True, 3, 0.5, "", Pace.SLOW, None)
    one.on, one.count, one.step, one.name = False, 7, 0.1 + 0.2, "später"
    one.folder, one.pace = pathlib.Path("/tmp/a b"), Pace.FAST
    other = wrapped_parameters()(node)
    assert (other.on, other.count, other.step, other.name) == (False, 7, 0.1 + 0.2, "später")
    assert (other.folder, other.pace) == (pathlib.Path("/tmp/a b"), Pace.FAST)
    with pytest.raises(ValueError, match="within 1 and 9"):
        one.count = 10
    with pytest.raises(TypeError, match="count must be int"):
        one.count = "7"
    assert one.count == 7


def test_parameters_tell_when_they_change(scene: Any) -> None:
    import vtk

    one = wrapped_parameters()(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    seen = []
    tag = one.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: seen.append(1))
    one.count = 4
    one.count = 4
    one.RemoveObserver(tag)
    one.count = 5
    assert len(seen) == 1
