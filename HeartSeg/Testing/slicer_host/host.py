"""A small host for ``slicer-core``: the real MRML scene, module logics and node IO without the application.

``slicer-core`` (PyPI) is 3D Slicer's C++ core with Slicer's own ``slicer/util.py``, but without the application object
from which ``slicer.util`` gets the scene, the module logics and the readers and writers. :func:`start` provides these,
so that code written for the application runs unchanged in a plain Python process::

    from slicer_host import host

    with host.session():
        import slicer
        node = slicer.util.loadVolume("scan.nrrd")

Inside the real application, which is the host itself, the functions of this module do nothing.

Use this module from the main thread only, like MRML.
"""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from heartseg.errors import DependencyError, InputError

from .node_io import NodeIO

_MODULE_LOGICS = {
    "Units": "vtkSlicerUnitsLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Texts": "vtkSlicerTextsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
}
"""Module name -> class of its logic, in order of creation."""


class HostedModule:
    """Replacement for ``slicer.modules.<name>``: a module with a name, a path and a logic."""

    def __init__(self, name: str, logic: Any = None, path: str = "") -> None:
        self.name, self.title, self.path = name, name, path
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


class HeadlessApplication:
    """Part of ``slicer.app`` used by code without windows; method names are the application's."""

    applicationName = "Slicer"
    isTestHost = True

    def __init__(self, application_logic: Any) -> None:
        self._application_logic = application_logic
        self._node_io = NodeIO()
        self.temporaryPath = tempfile.mkdtemp(prefix="heartseg-")
        atexit.register(shutil.rmtree, self.temporaryPath, ignore_errors=True)  # in case stop() is never called
        self.slicerHome = ""
        self.keep_alive: list[Any] = []
        self._at_startup: list[Callable[[], None]] = []

    def connect(self, signal: str, slot: Callable[[], None]) -> None:
        """The only signal is ``startupCompleted()``; :func:`load_module` emits it."""
        if signal != "startupCompleted()":
            raise ValueError(f"the host has no signal {signal}")
        self._at_startup.append(slot)

    def complete_startup(self) -> None:
        """Emit ``startupCompleted()``, once."""
        waiting, self._at_startup = self._at_startup, []
        for slot in waiting:
            slot()

    def translate(self, context: str, text: str) -> str:
        return text

    def applicationLogic(self) -> Any:
        return self._application_logic

    def coreIOManager(self) -> NodeIO:
        return self._node_io

    def ioManager(self) -> NodeIO:
        return self._node_io

    def mrmlScene(self) -> Any:
        import slicer

        return slicer.mrmlScene

    def testingEnabled(self) -> bool:
        """Return True, so that ``slicer.util`` logs its message boxes instead of showing them."""
        return True

    def commandOptions(self) -> Any:
        return types.SimpleNamespace(noMainWindow=True, testingEnabled=True)

    def layoutManager(self) -> None:
        return None

    def topLevelWidgets(self) -> list[Any]:
        return []

    def processEvents(self) -> None:
        pass

    def pauseRender(self) -> None:
        pass

    def resumeRender(self) -> None:
        pass


def import_slicer() -> Any:
    """Import the ``slicer`` package.

    Raises:
        DependencyError: the package is missing, cannot be loaded, or belongs to another project with that name.
    """
    way_out = "install it with: pip install slicer-core"
    try:
        import slicer
    except ImportError as error:
        raise DependencyError(f"Slicer's scene needs slicer-core ({error}): {way_out}") from error
    if not hasattr(slicer, "vtkMRMLScene"):
        where = getattr(slicer, "__file__", "an unknown place")
        raise DependencyError(f"the package 'slicer' at {where} is not 3D Slicer's: remove it, then {way_out}")
    return slicer


def in_application() -> bool:
    """Return whether 3D Slicer itself, or another host, already runs the scene in this process."""
    app = getattr(sys.modules.get("slicer"), "app", None)
    return app is not None and not getattr(app, "isTestHost", False)


def running() -> bool:
    """Return whether this project's host runs the scene in this process."""
    return bool(getattr(getattr(sys.modules.get("slicer"), "app", None), "isTestHost", False))


def start() -> None:
    """Create ``slicer.mrmlScene``, ``slicer.app`` and ``slicer.modules``; does nothing if they exist.

    Raises:
        DependencyError: ``slicer-core`` is missing.
    """
    if in_application() or running():
        return
    slicer = import_slicer()
    scene = slicer.vtkMRMLScene()
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)

    app = HeadlessApplication(_application_logic(slicer, scene))
    slicer.modules = types.SimpleNamespace()
    color_logic = app.applicationLogic().GetColorLogic()
    app.applicationLogic().SetModuleLogic("Colors", color_logic)
    slicer.modules.colors = HostedModule("Colors", color_logic)
    for name, class_name in _MODULE_LOGICS.items():
        logic = getattr(slicer, class_name)()
        with quiet_vtk() if name == "Terminologies" else nullcontext():
            logic.SetMRMLScene(scene)
        if hasattr(logic, "SetMRMLApplicationLogic"):
            logic.SetMRMLApplicationLogic(app.applicationLogic())
        app.applicationLogic().SetModuleLogic(name, logic)
        setattr(slicer.modules, name.lower(), HostedModule(name, logic))
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    _start_data_io(slicer, scene, app)
    slicer.app = app
    slicer.mrmlScene = scene


def _application_logic(slicer: Any, scene: Any) -> Any:
    """Create the application logic with its colours and empty lists of views."""
    import vtk

    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    colors = slicer.vtkSlicerColorLogic()
    colors.SetMRMLApplicationLogic(logic)
    logic.SetColorLogic(colors)
    with quiet_vtk():  # slicer-core lacks the application's colour files
        colors.SetMRMLScene(scene)
        colors.AddDefaultColorNodes()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    return logic


def _start_data_io(slicer: Any, scene: Any, app: HeadlessApplication) -> None:
    """Set the data IO manager that storage nodes require from the scene, also for local files."""
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLScene(scene)
    remote.SetMRMLApplicationLogic(app.applicationLogic())
    remote.GetCacheManager().SetRemoteCacheDirectory(app.temporaryPath)
    data_io = slicer.vtkDataIOManagerLogic()
    data_io.SetMRMLScene(scene)
    data_io.SetMRMLApplicationLogic(app.applicationLogic())
    data_io.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    app.applicationLogic().SetTemporaryPath(app.temporaryPath)
    app.keep_alive += [remote, data_io]


def stop() -> None:
    """Clear the scene and remove ``slicer.app``, ``slicer.modules`` and ``slicer.mrmlScene``.

    Does nothing inside the application, or if the host does not run. :func:`start` may be called again later.
    """
    if not running():
        return
    import slicer

    app = slicer.app
    slicer.mrmlScene.Clear(1)
    logics = [m.logic() for m in vars(slicer.modules).values() if isinstance(m, HostedModule)]
    with quiet_vtk():
        for logic in logics:
            if hasattr(logic, "SetMRMLScene"):
                logic.SetMRMLScene(None)
    del slicer.app, slicer.modules, slicer.mrmlScene
    shutil.rmtree(app.temporaryPath, ignore_errors=True)


@contextmanager
def quiet_vtk() -> Iterator[None]:
    """Suppress VTK's log on the terminal.

    Used for a logic that searches for the application's terminology files, which ``slicer-core`` lacks, whenever its
    scene changes; and for writing, where exceptions report the relevant errors.
    """
    import vtk

    verbosity = vtk.vtkLogger.GetCurrentVerbosityCutoff()
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    try:
        yield
    finally:
        vtk.vtkLogger.SetStderrVerbosity(verbosity)


@contextmanager
def session() -> Iterator[None]:
    """Start the host for a ``with`` block, and stop it afterwards if this block started it."""
    mine = not (in_application() or running())
    start()
    try:
        yield
    finally:
        if mine:
            stop()


def load_module(path: str | Path) -> types.ModuleType:
    """Load a scripted module's main file like the application: import it and create its module object.

    If Slicer's own Python base classes, Qt and ctk are missing, stand-ins with the same interface are provided
    (:mod:`slicer_host.standins`), so that the module's logic runs unchanged. Panels cannot be shown.

    Args:
        path: main file of the module, e.g. ``HeartSeg/HeartSeg.py``; its class of the same name is the module.

    Returns:
        The imported Python module; ``slicer.modules.<name>`` and ``slicer.modules.<Name>Instance`` are set.

    Raises:
        InputError: the file does not exist.
        DependencyError: ``slicer-core`` is missing.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise InputError(f"module file '{path}' does not exist: give the path of a scripted module's main file")
    start()
    import slicer

    from .standins import install_standins

    install_standins()
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"module file '{path}' is not a Python file: its name must end in .py")
    python_module = importlib.util.module_from_spec(spec)
    sys.modules[name] = python_module
    spec.loader.exec_module(python_module)
    hosted = HostedModule(name, path=str(path))
    setattr(slicer.modules, name.lower(), hosted)
    parent = types.SimpleNamespace(name=name, path=str(path), title=name, categories=[], dependencies=[], icon=None)
    instance = getattr(python_module, name)(parent)
    hosted.title = parent.title
    setattr(slicer.modules, f"{name}Instance", instance)
    slicer.app.complete_startup()
    return python_module
