"""HeartSeg in 3D Slicer: module, panel, logic and self-test.

This module only follows Slicer's conventions; the package ``heartseg`` in ``Logic/`` does the work. It installs nothing
and does not import torch before the user starts a run.

Annotations are not postponed in this file, because Slicer's parameter node wrapper reads the field types when the class
is created.
"""

import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Validator, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

MODULE_FOLDER = Path(__file__).resolve().parent
_PACKAGE_FOLDER = str(MODULE_FOLDER / "Logic")
if _PACKAGE_FOLDER not in sys.path:
    sys.path.insert(0, _PACKAGE_FOLDER)

SECTIONS = (
    "heartseg.panel.installation:Installation",
    "heartseg.panel.results:Results",
    "heartseg.panel.measures_section:Measures",
    "heartseg.panel.mend:Mend",
    "heartseg.panel.before_run:BeforeRun",
    "heartseg.panel.explain:Explain",
    "heartseg.panel.export:Export",
    "heartseg.panel.models_section:Models",
    "heartseg.panel.help:Help",
)
"""The panel's sections from top to bottom, each ``"module:class"`` (see ``heartseg/panel/section.py``)."""

if TYPE_CHECKING:
    from heartseg.panel.panel import Panel
    from heartseg.panel.work import WarmModel
    from heartseg.progress import CancelToken, ProgressCallback, ProgressEvent
    from heartseg.result import Result
    from heartseg.settings import Settings
    from heartseg.volume import Volume

    class _Wrapped:
        """What ``parameterNodeWrapper`` adds to the class that it decorates."""

        parameterNode: Any
        allParameters: dict[str, Any]

        def __init__(self, parameterNode: Any) -> None: ...
        def getValue(self, name: str) -> Any: ...
        def setValue(self, name: str, value: Any) -> None: ...
        def connectParametersToGui(self, widgets: dict[str, Any]) -> int: ...
        def disconnectGui(self, tag: int) -> None: ...

else:
    _Wrapped = object


def purge_package() -> None:
    """Unload all modules of the package, so that the next import reads the files again."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "heartseg"]:
        del sys.modules[name]


class HeartSeg(ScriptedLoadableModule):
    """Description of the module for the application."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self.parent.title = _("HeartSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Cardiac")]
        self.parent.dependencies = []
        self.parent.contributors = ["The HeartSeg maintainers"]
        self.parent.helpText = _(
            "Segments the whole heart in CT and MR: the four chambers, the myocardium of the left ventricle, the "
            "ascending aorta and the pulmonary artery, with their volumes and what to be careful about."
            "<p><b>Research software, not a medical device.</b> Look at every result before you use it. "
            "No data leave this computer.</p>"
        )
        self.parent.acknowledgementText = _(
            "HeartSeg is free software under the Apache License 2.0. It stands on nnU-Net, PyTorch, SimpleITK, VTK and "
            "3D Slicer. The icon shows the mean heart of the shape model by Rodero et al. "
            "(PLOS Comput Biol 2021; 17(4): e1008851)."
        )
        slicer.app.connect("startupCompleted()", self.load_terminology)
        slicer.app.connect("startupCompleted()", self.offer_sample_data)

    def load_terminology(self) -> None:
        """Add the structures and colours of HeartSeg to Slicer's terminology selector."""
        path = MODULE_FOLDER / "Resources" / "HeartSeg.term.json"
        if not hasattr(slicer.modules, "terminologies"):
            return
        if not slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(path)):
            logging.warning("HeartSeg's terminology could not be loaded from %s", path)

    def offer_sample_data(self) -> None:
        """Add the included scan to Slicer's module Sample Data."""
        from heartseg.scene.sample_data import register_sample_data

        register_sample_data(MODULE_FOLDER / "Resources")


class Matches(Validator):
    """Validates that a regular expression matches the whole text."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def validate(self, value: object) -> None:
        if not re.fullmatch(self.pattern, str(value)):
            raise ValueError(f"value {value!r} is unknown: it must match {self.pattern}")


_KEY = "(LV|RV|LA|RA|MYO|AO|PA)"


@parameterNodeWrapper
class HeartSegParameterNode(_Wrapped):
    """Choices in the panel, stored in the scene. A scene may contain several of these.

    Attributes:
        inputVolume: the scan to segment.
        outputSegmentation: node to fill; if none is chosen, a new node is created and chosen.
        allFrames: whether to segment all frames of a time series instead of the displayed frame.
        model: name of the model; empty for the default model.
        device: where to compute: ``auto``, ``cuda`` or ``cuda:1``, ``mps``, ``cpu``.
        structures: keys to keep, separated by commas; empty keeps all, ``none`` none.
        accurate, cleanUp: as in ``heartseg.settings.Settings``.
        keepWarm: leave the model in memory between runs.
        separateProcess: run in a process of its own.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    outputSegmentation: vtkMRMLSegmentationNode
    allFrames: bool = False
    model: str = ""
    device: Annotated[str, Matches(r"auto|cuda(:\d+)?|mps|cpu")] = "auto"
    structures: Annotated[str, Matches(f"none|({_KEY}(,{_KEY})*)?")] = ""
    accurate: bool = False
    cleanUp: bool = True
    keepWarm: bool = True
    separateProcess: bool = False


class HeartSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Connects the panel (``heartseg.panel``) to Slicer: parameter node, scene events, reload."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.panel: Panel | None = None
        self._parameterNode: HeartSegParameterNode | None = None
        self._guiTag = 0

    def setup(self) -> None:
        from heartseg.panel.panel import Panel, make_section

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HeartSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic: HeartSegLogic = HeartSegLogic()
        self.panel = Panel(self.ui, self.logic, self.resourcePath, [make_section(path) for path in SECTIONS])
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.ui.parameterSetSelector.addAttribute("vtkMRMLScriptedModuleNode", "ModuleName", self.moduleName)
        self.ui.parameterSetSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onParameterSetChosen)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        if self.panel is not None:
            self.panel.close()
            self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called when another module is shown; a run continues."""

    def onReload(self) -> None:
        """Reload the package too, because Slicer reloads only this file."""
        purge_package()
        super().onReload()

    def onSceneStartClose(self, caller: Any, event: str) -> None:
        if self.panel is not None:
            self.panel.scene_closes()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller: Any, event: str) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Show the parameter node of the scene; choose the first scan if none is chosen."""
        shown = self._parameterNode
        if shown is not None and shown.parameterNode.GetScene() is not None:
            self.logic.validate(shown.parameterNode)  # loading a scene has overwritten its values
            parameterNode = shown
        else:
            parameterNode = self.logic.getParameterNode()
        if parameterNode.inputVolume is None and self.firstScan() is not None:
            parameterNode.inputVolume = self.firstScan()
        self.setParameterNode(parameterNode)

    @staticmethod
    def firstScan() -> vtkMRMLScalarVolumeNode | None:
        """Return the first volume of the scene that is neither a label map nor an overlay, or ``None``."""
        from heartseg.scene.nodes import loaded_scans

        return next(iter(loaded_scans()), None)

    def setParameterNode(self, parameterNode: "HeartSegParameterNode | None") -> None:
        if self.panel is None:
            return
        if parameterNode is not None and parameterNode is self._parameterNode:
            self.panel.refresh()  # connecting it again would leak the observers of the old connection
            return
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameters)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._guiTag = parameterNode.connectParametersToGui(self.boundWidgets())
            self.ui.parameterSetSelector.setCurrentNode(parameterNode.parameterNode)
            self.addObserver(parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameters)
        self.panel.set_parameters(parameterNode)

    def boundWidgets(self) -> dict[str, Any]:
        """Return the widget of each parameter, as ``connectGui`` finds them, to get a tag for disconnecting."""
        named = [(widget.property("SlicerParameterName"), widget) for widget in vars(self.ui).values()]
        return {name: widget for name, widget in named if name}

    def onParameters(self, caller: Any = None, event: str | None = None) -> None:
        if self.panel is not None:
            self.panel.refresh()

    def onParameterSetChosen(self, node: Any) -> None:
        """Show another set of choices; a newly created set gets the defaults."""
        shown = self._parameterNode.parameterNode if self._parameterNode is not None else None
        if node is not None and shown is not None and node is not shown:
            self.setParameterNode(self.logic.wrap(node))
        elif node is None and shown is not None:
            import qt

            qt.QTimer.singleShot(0, self.replaceLostParameterNode)  # the node may still be in the scene now

    def replaceLostParameterNode(self) -> None:
        """Create a new set of choices if the displayed one was deleted."""
        if self._parameterNode is not None and self._parameterNode.parameterNode.GetScene() is None:
            self.initializeParameterNode()


def _problem_of(name: str, text: str) -> str:
    """Return why the stored text of a parameter is invalid; ``""`` if it is valid. Does not check node references."""
    probe = slicer.vtkMRMLScriptedModuleNode()
    probe.SetParameter(name, text)
    try:
        parameters = HeartSegParameterNode(probe)
        if name in parameters.allParameters:
            parameters.setValue(name, parameters.getValue(name))
    except (ValueError, TypeError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _default_of(name: str) -> str:
    """Return the default of a parameter in its stored form."""
    probe = slicer.vtkMRMLScriptedModuleNode()
    HeartSegParameterNode(probe)
    return probe.GetParameter(name)


def _kept(parameters: HeartSegParameterNode) -> HeartSegParameterNode:
    """Keep a reference to the wrapper until Slicer ends.

    ``disconnectGui`` of Slicer 5.10 leaves its observer on the node. If Python collected the wrapper after a reload,
    the next change of the node (closing the scene) would access freed memory.
    """
    if not hasattr(slicer, "heartSegKeptParameters"):
        slicer.heartSegKeptParameters = []
    slicer.heartSegKeptParameters.append(parameters)
    return parameters


class SegmentFunction(Protocol):
    """Function that segments a volume, usually ``heartseg.pipeline.Segmenter.segment``."""

    def __call__(
        self, volume: "Volume", progress: "ProgressCallback | None" = None, cancel: "CancelToken | None" = None
    ) -> "Result": ...


class HeartSegLogic(ScriptedLoadableModuleLogic):
    """Segments volume nodes; for other modules and scripts, without the panel::

        logic = HeartSegLogic()
        logic.runs.add(lambda event: print(event.kind, event.volume.GetName()))
        segmentation, result = logic.process(slicer.util.getNode("CTACardio"))

    Attributes:
        runs: who is told when a run starts, progresses and ends (:class:`heartseg.panel.run_events.RunObservers`);
            the panel's own logic reports the panel's runs.
    """

    def __init__(self, *args: Any) -> None:
        from heartseg.panel.run_events import RunObservers

        super().__init__(*args)
        self._warm: WarmModel | None = None
        self.runs: RunObservers = RunObservers()

    @property
    def warm_model(self) -> "WarmModel":
        """The model of the last run, kept in memory for the next one."""
        from heartseg.panel.work import WarmModel

        if self._warm is None:
            self._warm = WarmModel()
        return self._warm

    def getParameterNode(self) -> HeartSegParameterNode:
        return self.wrap(super().getParameterNode())

    @staticmethod
    def wrap(node: Any) -> HeartSegParameterNode:
        """Wrap a parameter node with typed attributes and validated values."""
        HeartSegLogic.validate(node)
        return _kept(HeartSegParameterNode(node))

    @staticmethod
    def validate(node: Any) -> None:
        """Reset each stored value that is invalid in this version to its default.

        Slicer's wrapper does not validate the values in a scene. An invalid value would raise later, when the panel is
        connected or a run starts.
        """
        for name in node.GetParameterNames():
            problem = _problem_of(name, node.GetParameter(name))
            if problem:
                logging.warning("HeartSeg's parameter %s was reset to its default: %s", name, problem)
                node.SetParameter(name, _default_of(name))

    def process(
        self,
        inputVolume: vtkMRMLScalarVolumeNode,
        outputSegmentation: vtkMRMLSegmentationNode | None = None,
        settings: "Settings | None" = None,
        progress: "ProgressCallback | None" = None,
        cancel: "CancelToken | None" = None,
        segment: SegmentFunction | None = None,
    ) -> tuple[vtkMRMLSegmentationNode, "Result"]:
        """Segment the heart in a scan.

        Args:
            inputVolume: the scan. The segmentation gets the same transform.
            outputSegmentation: node to fill; its content is replaced only on success. Default: a new node.
            settings: see :class:`heartseg.settings.Settings`; default: the default settings.
            progress: called with a ``ProgressEvent`` at every step, on this thread.
            cancel: token by which another thread or an event handler stops the run.
            segment: what runs the engine, instead of the pipeline with these settings.

        Returns:
            The segmentation node and the whole result (measures, findings, provenance).

        Raises:
            HeartSegError: one line that says what is wrong and what to do.
            Cancelled: the run was stopped; no node was changed.
        """
        from heartseg.errors import Cancelled
        from heartseg.panel.run_events import RunEvent
        from heartseg.scene import fill_segmentation, volume_from_node

        def progressed(event: "ProgressEvent") -> None:
            self.runs.tell(RunEvent("progress", inputVolume, event))
            if progress is not None:
                progress(event)

        volume = volume_from_node(inputVolume)
        self.runs.tell(RunEvent("start", inputVolume))
        try:
            run = segment or self._pipeline(settings)
            result = run(volume, progress=progressed, cancel=cancel)
            segmentation = fill_segmentation(result, inputVolume, outputSegmentation)
        except Cancelled:
            self.runs.tell(RunEvent("end", inputVolume))
            raise
        except BaseException as error:
            self.runs.tell(RunEvent("end", inputVolume, error=error))
            raise
        self.runs.tell(RunEvent("end", inputVolume, None, segmentation, result))
        return segmentation, result

    def fillTable(self, result: "Result", name: str = "heart", tableNode: Any = None) -> Any:
        """Write the measures of a result to a table node; default: a new node."""
        from heartseg.scene import fill_table

        return fill_table(result, tableNode, name)

    def _pipeline(self, settings: "Settings | None") -> SegmentFunction:
        """Return the segmentation function for these settings; the model stays in memory while they do not change."""
        from heartseg.settings import Settings

        return self.warm_model.get("", settings or Settings()).segment


class HeartSegTest(ScriptedLoadableModuleTest):
    """Self-test for the application (Reload and Test, or ctest); also runs headless."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)

    def runTest(self) -> None:
        for test in (self.test_fillsFromResult, self.test_refusesNothing, self.test_segmentsSample):
            self.setUp()
            test()

    def test_fillsFromResult(self) -> None:
        """The segmentation of a synthetic result has the same voxels on the grid of the scan."""
        from heartseg.result import Result

        self.delayDisplay("Filling a segmentation from a synthetic result")
        shape = (20, 24, 28)
        labels = np.zeros(shape, np.uint8)
        labels[4:12, 5:15, 6:20] = 1
        labels[12:16, 5:15, 6:20] = 3
        matrix = np.array([[0, 0, -2.0, 10], [-0.8, 0, 0, 20], [0, 0.9, 0, 30], [0, 0, 0, 1]])
        scan = slicer.util.addVolumeFromArray(np.zeros(shape, np.int16), ijkToRAS=matrix, name="made up")

        def made_up(volume: "Volume", progress: object = None, cancel: object = None) -> "Result":
            return Result(labels, volume.geometry)

        node, _result = HeartSegLogic().process(scan, segment=made_up)
        for key, label in (("LV", 1), ("LA", 3)):
            mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, key, scan)
            self.assertTrue(np.array_equal(mask != 0, labels == label))

    def test_refusesNothing(self) -> None:
        """Without a scan there is an error message and no node."""
        from heartseg.errors import InputError

        with self.assertRaises(InputError):
            HeartSegLogic().process(None)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

    def test_segmentsSample(self) -> None:
        """Segment the included scan with the default model; skipped where it cannot run."""
        try:
            from heartseg.models.store import find_model
            from heartseg.needs import check_runtime

            check_runtime()
            find_model()
        except Exception as reason:
            self.delayDisplay(f"Skipped: segmenting the sample scan ({reason})")
            return
        from heartseg.scene.sample_data import SCAN

        self.delayDisplay("Segmenting the sample scan")
        volume = slicer.util.loadVolume(str(MODULE_FOLDER / "Resources" / SCAN))
        node, result = HeartSegLogic().process(volume)
        self.assertTrue(result.heart_found)
        for key in ("LV", "RV", "LA", "RA", "MYO"):
            self.assertTrue(slicer.util.arrayFromSegmentBinaryLabelmap(node, key, volume).any(), key)
        self.assertTrue(20 < (result.measure("LV", "volume") or 0) < 500)
        self.delayDisplay("Test passed")
