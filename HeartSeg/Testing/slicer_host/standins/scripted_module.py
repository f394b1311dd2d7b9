"""``slicer.ScriptedLoadableModule``: base classes of a scripted module, with the interface of the application.

Attribute and method names are the application's.
"""

from __future__ import annotations

import logging
import unittest
from pathlib import Path
from typing import Any

IS_HEARTSEG_STANDIN = True

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]


class ScriptedLoadableModule:
    """Module object, which the application creates once at start-up; its ``parent`` has title, categories and so on."""

    def __init__(self, parent: Any) -> None:
        import slicer

        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = self.moduleName
        parent.categories, parent.dependencies, parent.contributors = [], [], []
        parent.helpText, parent.acknowledgementText = "", ""
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return ""

    def runTest(self, msec: int = 100, **keywords: Any) -> None:
        """Run the module's ``<Name>Test`` class."""
        import sys

        test = getattr(sys.modules[type(self).__module__], f"{self.moduleName}Test")()
        test.messageDelay = msec
        test.runTest(**keywords)


class ScriptedLoadableModuleWidget:
    """Base class of the panel. Without Qt it can be subclassed but not instantiated."""

    def __init__(self, parent: Any = None) -> None:
        raise RuntimeError(f"{type(self).__name__} cannot be made: there is no Qt in this process")

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass

    def onReload(self) -> None:
        pass


class ScriptedLoadableModuleLogic:
    """Base class of a module's logic: finds or creates the parameter node of the scene."""

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        """Return the module's ``vtkMRMLScriptedModuleNode`` in the scene; creates it if necessary.

        A singleton survives the closing of a scene, but loses its attributes.
        """
        import slicer

        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                node.SetAttribute("ModuleName", self.moduleName)
                return node
        found = self.getAllParameterNodes()
        return found[0] if found and not self.isSingletonParameterNode else self.createParameterNode()

    def getAllParameterNodes(self) -> list[Any]:
        import slicer

        count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode")
        nodes = [slicer.mrmlScene.GetNthNodeByClass(i, "vtkMRMLScriptedModuleNode") for i in range(count)]
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> Any:
        import slicer

        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return slicer.mrmlScene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base class of a module's self-test; the application calls ``runTest``."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.messageDelay = 0

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        logging.info(message)

    def runTest(self) -> None:
        pass
