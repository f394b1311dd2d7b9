"""Time series in the scene: sequence browser of a scan, and a segmentation for each frame."""

from __future__ import annotations

from typing import Any


def browser_of(volume_node: Any) -> Any:
    """Return the ``vtkMRMLSequenceBrowserNode`` that has this volume as proxy, or ``None``."""
    import slicer

    sequences = getattr(slicer.modules, "sequences", None)
    if volume_node is None or sequences is None:
        return None
    return sequences.logic().GetFirstBrowserNodeForProxyNode(volume_node)


def go_to_frame(browser: Any, frame: int) -> None:
    """Show a frame, from 0; the volume node then contains its voxels."""
    import slicer

    browser.SetSelectedItemNumber(frame)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)


def keep_frame(browser: Any, segmentation_node: Any, frame: int) -> Any:
    """Copy a segmentation to the item of a frame in a sequence synchronised with the scan.

    The segmentation node becomes the proxy of this sequence. It follows the displayed frame, with its measures and
    findings, and is empty at frames that were not segmented.

    Args:
        browser: ``vtkMRMLSequenceBrowserNode`` of the scan.
        segmentation_node: segmentation of this frame; the same node for all frames.
        frame: from 0.

    Returns:
        The ``vtkMRMLSequenceNode``, made and added to the browser with the first frame.
    """
    import slicer

    sequence = browser.GetSequenceNode(segmentation_node)
    if sequence is None:  # added while empty, because the browser creates a new proxy for a sequence with items
        sequence = slicer.modules.sequences.logic().AddSynchronizedNode(None, segmentation_node, browser)
        browser.SetMissingItemMode(sequence, browser.MissingItemSetToDefault)
    sequence.SetDataNodeAtValue(segmentation_node, browser.GetMasterSequenceNode().GetNthIndexValue(frame))
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)  # the user may have scrolled meanwhile
    return sequence


def frame_of(segmentation_node: Any) -> str:
    """Return the number of the displayed frame of a segmentation in a sequence, from 0; ``""`` for any other."""
    browser = browser_of(segmentation_node)
    if browser is None or browser.GetSequenceNode(segmentation_node) is None:
        return ""
    return str(browser.GetSelectedItemNumber())


def save_edits(volume_node: Any, segmentation_node: Any, on: bool) -> None:
    """Set whether edits of a segmentation are stored in the sequence item of the displayed frame.

    This has no effect on a segmentation outside a sequence. It is off during runs, because the result belongs to the
    segmented frame, which may not be displayed any more.
    """
    browser = browser_of(volume_node)
    sequence = browser.GetSequenceNode(segmentation_node) if browser is not None and segmentation_node else None
    if sequence is not None:
        browser.SetSaveChanges(sequence, on)
