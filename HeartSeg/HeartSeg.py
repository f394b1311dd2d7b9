"""HeartSeg in 3D Slicer: module, panel, logic and self-test.

Thin by intent: the panel and the logic follow Slicer's conventions and hand the work to the package ``heartseg`` in
``Logic/``, which knows no window. Nothing is installed, and torch is not imported, before the user asks for a run.

Annotations are not postponed here: Slicer's parameter node wrapper reads the fields' types when the class is made.
"""

import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

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
    "heartseg.panel.before_run:BeforeRun",
    "heartseg.panel.explain:Explain",
    "heartseg.panel.export:Export",
    "heartseg.panel.models_section:Models",
    "heartseg.panel.help:Help",
)
"""The panel's sections from top to bottom, each ``"module:class"`` (``heartseg/panel/section.py`` tells how)."""

if TYPE_CHECKING:
    from heartseg.panel.panel import Panel
    from heartseg.panel.work import WarmModel
    from heartseg.progress import CancelToken, ProgressCallback
    from heartseg.result import Result
    from heartseg.settings import Settings
    from heartseg.volume import Volume


def purge_package() -> None:
    """Forget every loaded module of the package, so that the next import reads the files again."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "heartseg"]:
        del sys.modules[name]


class HeartSeg(ScriptedLoadableModule):
    """The module as the application lists it."""

    def __init__(self, parent) -> None:
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
        """Offer HeartSeg's structures and colours in Slicer's terminology selector."""
        path = MODULE_FOLDER / "Resources" / "HeartSeg.term.json"
        if not hasattr(slicer.modules, "terminologies"):
            return
        if not slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(path)):
            logging.warning("HeartSeg's terminology could not be loaded from %s", path)

    def offer_sample_data(self) -> None:
        """Offer the scan that ships in Slicer's module Sample Data."""
        from heartseg.scene.sample_data import register_sample_data

        register_sample_data(MODULE_FOLDER / "Resources")


class Matches(Validator):
    """Refuses a text that a regular expression does not match as a whole."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def validate(self, value) -> None:
        if not re.fullmatch(self.pattern, str(value)):
            raise ValueError(f"value {value!r} is unknown: it must match {self.pattern}")


_KEY = "(LV|RV|LA|RA|MYO|AO|PA)"


@parameterNodeWrapper
class HeartSegParameterNode:
    """What the panel shows, kept in the scene. A scene may hold several of these.

    Attributes:
        inputVolume: the scan to segment.
        outputSegmentation: node to fill; a new one is made if none is chosen, and is chosen from then on.
        allFrames: of a time series, every frame instead of the one that is shown.
        model: name of the model; empty takes the default one.
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
    """The panel's place in Slicer: parameter node, scene events, reload. What it does is in ``heartseg.panel``."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: HeartSegLogic | None = None
        self.panel: Panel | None = None
        self._parameterNode: HeartSegParameterNode | None = None
        self._guiTag = None

    def setup(self) -> None:
        from heartseg.panel.panel import Panel, make_section

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HeartSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HeartSegLogic()
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
        """Another module is shown; a run goes on."""

    def onReload(self) -> None:
        """Reload the package too; Slicer itself reloads this file only."""
        purge_package()
        super().onReload()

    def onSceneStartClose(self, caller, event) -> None:
        self.panel.scene_closes()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Show the scene's parameter node; choose the first scan if none was chosen yet."""
        shown = self._parameterNode
        if shown is not None and shown.parameterNode.GetScene() is not None:
            self.logic.validate(shown.parameterNode)  # a scene that was just loaded has overwritten its values
            parameterNode = shown
        else:
            parameterNode = self.logic.getParameterNode()
        if parameterNode.inputVolume is None and self.firstScan() is not None:
            parameterNode.inputVolume = self.firstScan()
        self.setParameterNode(parameterNode)

    @staticmethod
    def firstScan():
        """The scene's first volume that is neither a label map nor a heat map of ours, or ``None``."""
        from heartseg.scene.nodes import loaded_scans

        return next(iter(loaded_scans()), None)

    def setParameterNode(self, parameterNode: "HeartSegParameterNode | None") -> None:
        if parameterNode is not None and parameterNode is self._parameterNode:
            self.panel.refresh()  # connecting it anew would leave Slicer's observers of the old connection behind
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

    def boundWidgets(self) -> dict:
        """Parameter -> widget that shows it. ``connectGui`` finds the same, but returns no tag to disconnect it by."""
        named = [(widget.property("SlicerParameterName"), widget) for widget in vars(self.ui).values()]
        return {name: widget for name, widget in named if name}

    def onParameters(self, caller=None, event=None) -> None:
        self.panel.refresh()

    def onParameterSetChosen(self, node) -> None:
        """Show another set of choices; one that the selector has just made gets the defaults."""
        shown = self._parameterNode.parameterNode if self._parameterNode is not None else None
        if node is not None and shown is not None and node is not shown:
            self.setParameterNode(self.logic.wrap(node))
        elif node is None and shown is not None:
            import qt

            qt.QTimer.singleShot(0, self.replaceLostParameterNode)  # the node may be on its way out only now

    def replaceLostParameterNode(self) -> None:
        """The only set of choices was deleted: begin another one."""
        if self._parameterNode is not None and self._parameterNode.parameterNode.GetScene() is None:
            self.initializeParameterNode()


def _problem_of(name: str, text: str) -> str:
    """Why a parameter's stored text is no value of it; ``""`` if it is one. Node references are not looked at."""
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
    """A parameter's default, as it is stored."""
    probe = slicer.vtkMRMLScriptedModuleNode()
    HeartSegParameterNode(probe)
    return probe.GetParameter(name)


def _kept(parameters: HeartSegParameterNode) -> HeartSegParameterNode:
    """The wrapper itself, referenced until Slicer ends.

    ``disconnectGui`` of Slicer 5.10 leaves its observer on the node. If Python collected the wrapper after a reload,
    the next change of the node (closing the scene) would call into freed memory.
    """
    if not hasattr(slicer, "heartSegKeptParameters"):
        slicer.heartSegKeptParameters = []
    slicer.heartSegKeptParameters.append(parameters)
    return parameters


class SegmentFunction(Protocol):
    """What runs the engine; ``heartseg.pipeline.Segmenter.segment`` is the usual one."""

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

    def __init__(self, *args) -> None:
        from heartseg.panel.run_events import RunObservers

        super().__init__(*args)
        self._warm = None
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
    def wrap(node) -> HeartSegParameterNode:
        """The parameter node as typed attributes, its stored values validated."""
        HeartSegLogic.validate(node)
        return _kept(HeartSegParameterNode(node))

    @staticmethod
    def validate(node) -> None:
        """Reset each stored value that this version does not know to its default.

        Slicer's wrapper does not validate what a scene holds: an unknown value raises later, while the panel is
        connected or a run is started.
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
            inputVolume: the scan. A transform above it also goes above the segmentation.
            outputSegmentation: node to fill; its content is replaced only on success. A new one is made when omitted.
            settings: see :class:`heartseg.settings.Settings`; defaults when omitted.
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

        def progressed(event) -> None:
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

    def fillTable(self, result: "Result", name: str = "heart", tableNode=None):
        """Put the result's measures into a table node, a new one if none is given."""
        from heartseg.scene import fill_table

        return fill_table(result, tableNode, name)

    def _pipeline(self, settings: "Settings | None") -> SegmentFunction:
        """The pipeline with these settings; the model stays warm while they do not change."""
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
        """Voxels of a made-up result come back from the segmentation on the scan's grid."""
        from heartseg.result import Result

        self.delayDisplay("Filling a segmentation from a made-up result")
        shape = (20, 24, 28)
        labels = np.zeros(shape, np.uint8)
        labels[4:12, 5:15, 6:20] = 1
        labels[12:16, 5:15, 6:20] = 3
        matrix = np.array([[0, 0, -2.0, 10], [-0.8, 0, 0, 20], [0, 0.9, 0, 30], [0, 0, 0, 1]])
        volume = slicer.util.addVolumeFromArray(np.zeros(shape, np.int16), ijkToRAS=matrix, name="made up")

        def made_up(scan: "Volume", progress=None, cancel=None) -> "Result":
            return Result(labels, scan.geometry)

        node, _result = HeartSegLogic().process(volume, segment=made_up)
        for key, label in (("LV", 1), ("LA", 3)):
            mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, key, volume)
            self.assertTrue(np.array_equal(mask != 0, labels == label))

    def test_refusesNothing(self) -> None:
        """No scan chosen: one line, no node."""
        from heartseg.errors import InputError

        with self.assertRaises(InputError):
            HeartSegLogic().process(None)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

    def test_segmentsSample(self) -> None:
        """The scan that ships, with the default model; left out where model or torch are missing."""
        try:
            import torch  # noqa: F401

            from heartseg.models.store import find_model

            find_model()
        except Exception as reason:
            self.delayDisplay(f"Left out: segmenting the sample scan ({reason})")
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
