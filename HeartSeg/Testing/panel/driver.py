"""Simulated user of the panel, and tools to pause the worker in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from heartseg.needs import Missing
from heartseg.progress import ProgressEvent, Reporter
from pythonqt import PanelHost


class Driver:
    """An opened panel.

    Attributes:
        widget: the ``HeartSegWidget``.
        ui: named widgets of the panel.
        missing: packages that the panel does not find, if the test hides some.
    """

    def __init__(self, session: PanelHost, widget: Any) -> None:
        self.session, self.widget, self.ui = session, widget, widget.ui
        self.missing: list[Missing] = []

    @property
    def panel(self) -> Any:
        return self.widget.panel

    @property
    def results(self) -> Any:
        """The results section."""
        return next(s for s in self.panel._sections if s.name == "Results")

    @property
    def parameters(self) -> Any:
        return self.widget._parameterNode

    @property
    def running(self) -> bool:
        return self.panel.state.running != ""

    @property
    def status(self) -> str:
        return self.ui.statusLabel.text

    @property
    def error(self) -> str:
        """Text of the error box, ``""`` while it is hidden."""
        return "" if self.ui.errorFrame.isHidden() else self.ui.errorLabel.text

    def press(self) -> None:
        """Click the main button."""
        self.ui.segmentButton.click()

    def wait(self, seconds: float = 300.0) -> None:
        """Wait until no job runs."""
        self.session.wait_until(lambda: not self.running, seconds)

    def run(self) -> Any:
        """Complete a run; returns the segmentation node with the displayed results."""
        self.press()
        self.wait()
        assert not self.error, self.error
        return self.panel.state.segmentation


class Gate:
    """Pauses the worker at the first progress event of a stage, until the test releases it."""

    def __init__(self, stage: str, done: int = 0) -> None:
        self.stage, self.done = stage, done
        self.reached, self._open = threading.Event(), threading.Event()

    def pass_through(self, event: ProgressEvent) -> None:
        if event.stage == self.stage and event.done >= self.done and not self._open.is_set():
            self.reached.set()
            assert self._open.wait(300), "the gate was never opened"

    def open(self) -> None:
        self._open.set()


def gated_reporter(gate: Gate) -> Callable[..., Reporter]:
    """Return a replacement for the worker's ``Reporter`` that pauses at the gate."""

    def make(callback: Callable[[ProgressEvent], None], token: Any) -> Reporter:
        def tell(event: ProgressEvent) -> None:
            callback(event)
            gate.pass_through(event)

        return Reporter(tell, token)

    return make


def node_ids() -> set[str]:
    """Return the IDs of all nodes in the scene, except the panel's own parameters."""
    import slicer

    nodes = slicer.mrmlScene.GetNodes()
    found = [nodes.GetItemAsObject(i) for i in range(nodes.GetNumberOfItems())]
    return {n.GetID() for n in found if not n.IsA("vtkMRMLScriptedModuleNode")}
