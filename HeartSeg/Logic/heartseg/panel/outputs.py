"""Where results go: earlier results of a scan, which one a run replaces, and the sequence of a time series."""

from __future__ import annotations

from typing import Any

import slicer

from .record import read_record


def results_of(volume_node: Any) -> list[Any]:
    """The segmentations in the scene that came from runs on this scan, the latest last."""
    found = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in found if scan_of(node) is volume_node and read_record(node) is not None]


def scan_of(segmentation_node: Any) -> Any:
    """The volume node that a segmentation refers to, or ``None``."""
    if segmentation_node is None:
        return None
    return segmentation_node.GetNodeReference(segmentation_node.GetReferenceImageGeometryReferenceRole())


def output_for(volume_node: Any, chosen: Any) -> Any:
    """Which segmentation the next run on another scan should fill.

    Args:
        volume_node: the scan that was chosen now.
        chosen: the output that was chosen for the scan before; ``None`` stands for a new one.

    Returns:
        ``chosen`` if it is empty or belongs to this scan, else this scan's latest result, or ``None`` for a new node.
    """
    if chosen is not None and scan_of(chosen) in (None, volume_node):
        return chosen
    earlier = results_of(volume_node)
    return earlier[-1] if earlier else None


def hide_others(shown: Any, volume_node: Any) -> None:
    """Of the results of a scan show only one; the others stay in the scene, hidden."""
    for node in results_of(volume_node):
        display = node.GetDisplayNode()
        if display is not None:
            display.SetVisibility(node is shown)


class FrameSeries:
    """The segmentations of a time series, one item per frame, in the browser that shows the scan's frames.

    The segmentation node that the runs fill becomes the proxy: it follows the frame that the browser shows, with its
    measures and findings.

    Args:
        browser: ``vtkMRMLSequenceBrowserNode`` of the scan.
    """

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._sequence: Any = None
        self._node: Any = None

    def keep(self, segmentation_node: Any, frame: int) -> None:
        """Copy the segmentation into the item of a frame.

        Args:
            segmentation_node: filled for this frame; the same node for all frames.
            frame: from 0.
        """
        if self._browser.GetScene() is None:
            return
        master = self._browser.GetMasterSequenceNode()
        if self._sequence is None:
            self._node = segmentation_node
            self._sequence = self._browser.GetSequenceNode(segmentation_node) or self._new_sequence(master)
        self._sequence.SetDataNodeAtValue(segmentation_node, master.GetNthIndexValue(frame))

    def show(self) -> None:
        """Let the browser show the segmentation of its frame; called when no further frame comes."""
        if self._sequence is None or self._browser.GetScene() is None or self._node.GetScene() is None:
            return
        if self._browser.GetSequenceNode(self._node) is None:
            self._browser.AddSynchronizedSequenceNode(self._sequence.GetID())
            self._browser.AddProxyNode(self._node, self._sequence, False)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(self._browser)

    def _new_sequence(self, master: Any) -> Any:
        name = slicer.mrmlScene.GenerateUniqueName(f"{self._node.GetName()} sequence")
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        sequence.SetIndexName(master.GetIndexName())
        sequence.SetIndexUnit(master.GetIndexUnit())
        sequence.SetIndexType(master.GetIndexType())
        return sequence
