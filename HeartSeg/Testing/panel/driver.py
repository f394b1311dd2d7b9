"""Simulated user of the panel, and means to pause the worker in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from heartseg.progress import ProgressEvent, Reporter
from pythonqt import PanelHost


class Driver:
    """One opened panel.

    Attributes:
        widget: the ``HeartSegWidget``.
        ui: its named widgets.
    """

    def __init__(self, session: PanelHost, widget: Any) -> None:
        self.session, self.widget, self.ui = session, widget, widget.ui

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
        """What the error box shows, ``""`` while it is hidden."""
        return "" if self.ui.errorFrame.isHidden() else self.ui.errorLabel.text

    def press(self) -> None:
        """Click the big button."""
        self.ui.segmentButton.click()

    def wait(self, seconds: float = 300.0) -> None:
        """Until nothing runs any more."""
        self.session.wait_until(lambda: not self.running, seconds)

    def run(self) -> Any:
        """A whole run; the segmentation node whose results are shown then."""
        self.press()
        self.wait()
        assert not self.error, self.error
        return self.panel.state.segmentation


class Gate:
    """Holds the worker at the first sign of life of a stage, until the test lets it go on."""

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
    """Takes the place of the worker's ``Reporter``: the same, with a gate on the worker's side."""

    def make(callback: Callable[[ProgressEvent], None], token: Any) -> Reporter:
        def tell(event: ProgressEvent) -> None:
            callback(event)
            gate.pass_through(event)

        return Reporter(tell, token)

    return make


def node_ids() -> set[str]:
    """IDs of all nodes of the scene, but for the panel's own parameters."""
    import slicer

    nodes = slicer.mrmlScene.GetNodes()
    found = [nodes.GetItemAsObject(i) for i in range(nodes.GetNumberOfItems())]
    return {n.GetID() for n in found if not n.IsA("vtkMRMLScriptedModuleNode")}
