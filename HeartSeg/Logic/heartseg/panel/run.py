"""A run on the main thread, from the click to the segmentation in the scene.

    click → sections may ask → view of the voxels → worker: labels and surfaces → one segment per turn → views, record

The result is collected in a hidden node and shown in one step at the end. If the run ends early (cancel, error, deleted
node, closed scene, reloaded module), the scene does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import slicer
import vtk

from ..progress import ProgressEvent
from ..scene.nodes import volume_view
from ..scene.segmentation import Replaced, enter_segments
from .outputs import hide_others, results_of
from .record import RunRecord, write_record
from .work import Outcome, Request


@dataclass(frozen=True, eq=False)
class Entered:
    """A run that succeeded.

    Attributes:
        node: the segmentation node.
        replaced: its previous content; ``None`` for a new node.
        outcome: outcome of the worker.
        record: record stored with the node.
        first: whether it is the first result for its scan in this scene; only then the views are centred automatically.
    """

    node: Any
    replaced: Replaced | None
    outcome: Outcome
    record: RunRecord
    first: bool = True


class NodeWatch:
    """Calls a function when one of the watched nodes is about to be removed from the scene."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        self._lost, self._watched, self._tag = lost, {}, None  # type: ignore[var-annotated]

    def start(self, nodes: Mapping[str, Any]) -> None:
        """Watch nodes, given by their description (``"scan"``); ``None`` is ignored."""
        self.stop()
        self._watched = {what: node for what, node in nodes.items() if node is not None}

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(caller: Any, event: str, node: Any) -> None:
            for what, watched in list(self._watched.items()):
                if node is watched:
                    del self._watched[what]
                    self._lost(what)

        event = slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent
        self._tag = slicer.mrmlScene.AddObserver(event, removed)

    def stop(self) -> None:
        """Stop watching."""
        if self._tag is not None:
            slicer.mrmlScene.RemoveObserver(self._tag)
        self._tag, self._watched = None, {}


def view_of(volume_node: Any) -> Any:
    """Return a view of the scan for the worker, which copies the voxels; takes no time."""
    return volume_view(volume_node)


def enter_result(
    outcome: Outcome,
    request: Request,
    volume_node: Any,
    segmentation_node: Any,
    progress: Callable[[ProgressEvent], None],
) -> Generator[str, None, Entered]:
    """Add the outcome to the scene, one segment per step; see :func:`~heartseg.scene.segmentation.enter_segments`."""
    total, done = len(outcome.result.structures) + 1, 0
    steps = enter_segments(outcome.result, outcome.prepared, volume_node, segmentation_node)
    try:
        while True:
            progress(ProgressEvent("scene", done, total))
            try:
                key = next(steps)
            except StopIteration as end:
                node, replaced = end.value
                break
            done += 1
            yield key
    finally:
        steps.close()
    first = not results_of(volume_node)
    record = RunRecord.of(outcome.result, request.view.name)
    write_record(node, record)
    hide_others(node, volume_node)
    progress(ProgressEvent("scene", total, total))
    return Entered(node, replaced, outcome, record, first)
