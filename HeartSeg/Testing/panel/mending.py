"""What a user does while mending: starts, places marks, waits for the measures."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from heartseg.anatomy import structure
from heartseg.scene.mending import POINTS, node_for_marks
from panel.driver import Driver


def mend_section(user: Driver) -> Any:
    return next(s for s in user.panel._sections if s.name == "Mend")


def start(user: Driver, section: Any) -> None:
    section.ui.mendButton.click()
    user.wait()
    assert not user.error, user.error
    assert section.is_mending


def points_of(section: Any) -> Any:
    """The list that takes the next points."""
    return node_for_marks(section._mender.segmentation, POINTS)


def labels_of(node: Any, scan: Any) -> np.ndarray:
    labels = np.zeros(slicer.util.arrayFromVolume(scan).shape, np.uint8)
    for key in node.GetSegmentation().GetSegmentIDs():
        labels[slicer.util.arrayFromSegmentBinaryLabelmap(node, key, scan) != 0] = structure(key).label
    return labels


def place(section: Any, key: int, index: tuple[int, int, int], denied: bool = False) -> None:
    """Press a number key and click at a voxel ``(z, y, x)`` of the scan, whose voxels have 3 mm (RAS = -x, -y, z)."""
    next(s for n, s in enumerate(section._shortcuts) if n == key).activated.emit()
    section.ui.notCheckBox.checked = denied
    z, y, x = (3.0 * v for v in index)
    points_of(section).AddControlPointWorld(-x, -y, z)


def settle(user: Driver, section: Any) -> None:
    """Wait until the measures belong to the segments."""
    user.session.wait_until(lambda: not user.panel._loop._handlers)


def wrong_place(labels: np.ndarray, label: int) -> tuple[int, int, int]:
    """A voxel that has another label, in the middle of the scan's volume."""
    z, y, x = (int(v) for v in np.argwhere(labels != label)[len(np.argwhere(labels != label)) // 2])
    return z, y, x


def shift(node: Any, right: float) -> None:
    """Put a node under a transform."""
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[0, 3] = right
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
