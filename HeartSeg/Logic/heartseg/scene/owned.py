"""Nodes that belong to a segmentation and are used again: tables, plots and models of its measures."""

from __future__ import annotations

from typing import Any

KIND = "HeartSeg.Kind"
"""Attribute of the node: what it holds."""
_OF = "HeartSeg.Segmentation"


def owned_node(class_name: str, kind: str, segmentation: Any) -> Any:
    """Return the node of this class and kind that belongs to a segmentation; a new one if there is none."""
    import slicer

    found = find_owned(class_name, kind, segmentation)
    if found is None:
        name = slicer.mrmlScene.GenerateUniqueName(f"{segmentation.GetName()} {kind}")
        found = slicer.mrmlScene.AddNewNodeByClass(class_name, name)
        found.SetAttribute(KIND, kind)
        found.SetNodeReferenceID(_OF, segmentation.GetID())
    return found


def find_owned(class_name: str, kind: str, segmentation: Any) -> Any:
    """Return the node of this class and kind that belongs to a segmentation, or ``None``."""
    import slicer

    for node in slicer.util.getNodesByClass(class_name):
        if node.GetAttribute(KIND) == kind and node.GetNodeReferenceID(_OF) == segmentation.GetID():
            return node
    return None
