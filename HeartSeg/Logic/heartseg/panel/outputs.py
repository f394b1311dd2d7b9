"""Output of a run: earlier results of a scan, and which of them the run replaces."""

from __future__ import annotations

from typing import Any

import slicer

from .record import read_record


def results_of(volume_node: Any) -> list[Any]:
    """Return the segmentations in the scene that are results of runs on this scan, latest last."""
    found = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in found if scan_of(node) is volume_node and read_record(node) is not None]


def scan_of(segmentation_node: Any) -> Any:
    """Return the volume node that a segmentation refers to, or ``None``."""
    if segmentation_node is None:
        return None
    return segmentation_node.GetNodeReference(segmentation_node.GetReferenceImageGeometryReferenceRole())


def output_for(volume_node: Any, chosen: Any) -> Any:
    """Return the segmentation that the next run on a newly chosen scan should fill.

    Args:
        volume_node: the chosen scan.
        chosen: the output for the previous scan; ``None`` for a new node.

    Returns:
        ``chosen`` if it is empty or belongs to this scan, else the latest result of this scan, or ``None`` for a new
        node.
    """
    if chosen is not None and scan_of(chosen) in (None, volume_node):
        return chosen
    earlier = results_of(volume_node)
    return earlier[-1] if earlier else None


def hide_others(shown: Any, volume_node: Any) -> None:
    """Show only one result of a scan; the others stay in the scene, hidden."""
    for node in results_of(volume_node):
        display = node.GetDisplayNode()
        if display is not None:
            display.SetVisibility(node is shown)
