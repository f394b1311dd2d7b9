"""Time series in the scene: the browser of a scan's frames, and a segmentation for each frame."""

from __future__ import annotations

from typing import Any


def browser_of(volume_node: Any) -> Any:
    """The ``vtkMRMLSequenceBrowserNode`` that shows its frames through this volume, or ``None``."""
    import slicer

    sequences = getattr(slicer.modules, "sequences", None)
    if volume_node is None or sequences is None:
        return None
    return sequences.logic().GetFirstBrowserNodeForProxyNode(volume_node)


def go_to_frame(browser: Any, frame: int) -> None:
    """Show a frame, from 0; the scan's volume node then holds its voxels."""
    import slicer

    browser.SetSelectedItemNumber(frame)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)


def keep_frame(browser: Any, segmentation_node: Any, frame: int) -> Any:
    """Copy a segmentation into the item of a frame, in a sequence beside the scan's frames.

    The segmentation node becomes the proxy of the sequence: it follows the frame that the browser shows, with its
    measures and findings, and is empty at frames that were not segmented.

    Args:
        browser: ``vtkMRMLSequenceBrowserNode`` of the scan.
        segmentation_node: filled for this frame; the same node for all frames.
        frame: from 0.

    Returns:
        The ``vtkMRMLSequenceNode``, made and added to the browser with the first frame.
    """
    import slicer

    sequence = browser.GetSequenceNode(segmentation_node)
    if sequence is None:  # added while it is empty: to a sequence with items the browser gives a proxy of its own
        sequence = slicer.modules.sequences.logic().AddSynchronizedNode(None, segmentation_node, browser)
        browser.SetMissingItemMode(sequence, browser.MissingItemSetToDefault)
    sequence.SetDataNodeAtValue(segmentation_node, browser.GetMasterSequenceNode().GetNthIndexValue(frame))
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)  # the user may have scrolled meanwhile
    return sequence


def save_edits(volume_node: Any, segmentation_node: Any, on: bool) -> None:
    """Whether edits of a segmentation go into the sequence's item of the frame that is shown.

    Nothing happens for a segmentation that belongs to no sequence. Off during runs, whose result belongs to the frame
    that was segmented and not to the one that is shown by then.
    """
    browser = browser_of(volume_node)
    sequence = browser.GetSequenceNode(segmentation_node) if browser is not None and segmentation_node else None
    if sequence is not None:
        browser.SetSaveChanges(sequence, on)
