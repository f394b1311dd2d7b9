"""Where results go: earlier results of a scan, and which one a run replaces."""

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
