"""The module with the real pipeline and the included model; skipped if one of them is missing."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.errors import Cancelled
from heartseg.progress import CancelToken
from heartseg.settings import Settings


def add_chest() -> Any:
    """Return a node with a body of fat that contains a bright ball: enough for the engine to run, not a heart."""
    z, y, x = np.mgrid[:32, :40, :40]
    inside = ((z - 16) / 14) ** 2 + ((y - 20) / 16) ** 2 + ((x - 20) / 16) ** 2 < 1
    values = np.where(inside, 40, -900) + 260 * ((z - 16) ** 2 + (y - 20) ** 2 + (x - 22) ** 2 < 64)
    matrix = np.diag([-4.0, -4, 4, 1])
    return slicer.util.addVolumeFromArray(values.astype(np.int16), ijkToRAS=matrix, name="chest")


def test_the_pipelines_labels_arrive_in_the_scene_unchanged(module: types.ModuleType) -> None:
    scan, logic = add_chest(), module.HeartSegLogic()
    node, result = logic.process(scan, settings=Settings(device="cpu"))
    assert node.GetSegmentation().GetNumberOfSegments() == len(result.structures)
    for structure in result.structures:
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, structure.key, scan)
        assert np.array_equal(mask != 0, result.mask(structure.key))


def test_the_model_stays_warm_until_the_settings_change(module: types.ModuleType) -> None:
    logic = module.HeartSegLogic()
    first = logic._pipeline(Settings(device="cpu")).__self__
    assert logic._pipeline(Settings(device="cpu")).__self__ is first
    assert logic._pipeline(Settings(device="cpu", threads=1)).__self__ is not first


def test_a_run_stopped_at_its_first_sign_of_life_leaves_no_node(module: types.ModuleType) -> None:
    scan, cancel = add_chest(), CancelToken()
    with pytest.raises(Cancelled):
        module.HeartSegLogic().process(
            scan, settings=Settings(device="cpu"), cancel=cancel, progress=lambda event: cancel.cancel()
        )
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
