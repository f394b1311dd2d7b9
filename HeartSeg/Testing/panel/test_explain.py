"""Overlays from the panel: heat map and confidence map, computed on the worker, cancelled, undone, refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.scene.overlay import CONFIDENCE, HEAT_MAP, OverlayKind, find_overlay
from panel.driver import Driver, Gate, node_ids


@pytest.fixture
def section(user: Driver) -> Any:
    """Return the section after a finished run."""
    user.run()
    return explain_section(user)


def explain_section(user: Driver) -> Any:
    return next(s for s in user.panel._sections if s.name == "Explain")


def choose(section: Any, user: Driver, present: bool = True) -> str:
    """Choose a structure that the last run has found, or has not found."""
    labels = user.panel.state.result.labels
    found = [s.key for s in user.panel.state.result.structures if bool((labels == s.label).any()) == present]
    if not found:
        pytest.skip("the untrained network has found all structures")
    section.ui.structureComboBox.setCurrentIndex(section._keys.index(found[0]))
    return found[0]


def map_of(scan: Any, kind: OverlayKind = HEAT_MAP) -> np.ndarray:
    return slicer.util.arrayFromVolume(find_overlay(scan, kind))


def test_without_a_result_its_buttons_say_why_not(user: Driver) -> None:
    ui = explain_section(user).ui
    assert not ui.explainButton.enabled and not ui.confidenceButton.enabled
    assert "segment a scan first" in ui.explainButton.toolTip
    assert ui.removeMapsButton.toolTip == "No map is shown."


def test_a_heat_map_lies_over_the_scan(user: Driver, section: Any, scan: Any) -> None:
    key = choose(section, user)
    section.ui.explainButton.click()
    assert user.running and not section.ui.explainButton.enabled
    user.wait()
    assert not user.error, user.error
    values = map_of(scan)
    assert values.dtype == np.float32 and values.min() >= 0 and values.max() <= 1
    said = section.ui.mapLabel.text
    assert said.startswith(f"{key}: contributions at layer ") and "An illustration, not a validation." in said
    assert section.ui.removeMapsButton.enabled and section.ui.undoMapButton.enabled


def test_after_the_first_map_the_models_layers_can_be_chosen(user: Driver, section: Any, scan: Any) -> None:
    choose(section, user)
    assert section.ui.layerComboBox.count == 2
    section.ui.layerComboBox.setCurrentIndex(1)
    section.ui.explainButton.click()
    user.wait()
    assert section.ui.layerComboBox.count > 5
    assert section.ui.layerComboBox.currentIndex == 1  # the choice is kept
    section.ui.layerComboBox.setCurrentIndex(section._layers.index("encoder.stages.0"))
    section.ui.explainButton.click()
    user.wait()
    assert "encoder.stages.0" in section.ui.mapLabel.text, user.error


def test_a_second_map_takes_the_firsts_node_and_undo_brings_the_first_back(
    user: Driver, section: Any, scan: Any
) -> None:
    choose(section, user)
    section.ui.explainButton.click()
    user.wait()
    first, nodes = map_of(scan).copy(), node_ids()
    section.ui.layerComboBox.setCurrentIndex(1)
    section.ui.explainButton.click()
    user.wait()
    assert node_ids() == nodes
    section.ui.undoMapButton.click()
    assert np.array_equal(map_of(scan), first)
    assert not section.ui.undoMapButton.enabled


def test_a_cancel_leaves_no_map(user: Driver, section: Any, scan: Any, hold: Callable[..., Gate]) -> None:
    choose(section, user)
    before, gate = node_ids(), hold("explain")
    section.ui.explainButton.click()
    user.session.wait_until(gate.reached.is_set)
    user.press()  # the main button is Cancel while a job runs
    gate.open()
    user.wait()
    assert node_ids() == before and not user.error
    section.ui.explainButton.click()
    user.wait()
    assert find_overlay(scan, HEAT_MAP) is not None


def test_a_structure_that_was_not_found_is_told_as_a_runs_errors_are(user: Driver, section: Any, scan: Any) -> None:
    segments = user.panel.state.segmentation.GetSegmentation()
    for key in section._keys:  # simulates that nothing was found: only a segment that is not requested stays
        if key != section._keys[0]:
            empty(segments.GetSegment(key))
    section.ui.structureComboBox.setCurrentIndex(1)
    before = node_ids()
    section.ui.explainButton.click()
    user.wait()
    assert "was not found" in user.error or "no heart was found" in user.error
    assert node_ids() == before


def empty(segment: Any) -> None:
    name = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    segment.SetLabelValue(99) if segment.GetRepresentation(name) is not None else None


def test_a_scan_that_leaves_meanwhile_ends_it_in_words(
    user: Driver, section: Any, scan: Any, hold: Callable[..., Gate]
) -> None:
    choose(section, user)
    gate = hold("explain")
    section.ui.explainButton.click()
    user.session.wait_until(gate.reached.is_set)
    slicer.mrmlScene.RemoveNode(scan)
    gate.open()
    user.wait()
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert not section.ui.explainButton.enabled
    assert "not in the scene" in section.ui.explainButton.toolTip


def test_confidence_is_shown_and_taken_away(user: Driver, section: Any, scan: Any) -> None:
    before = node_ids()
    section.ui.confidenceButton.click()
    user.wait()
    assert not user.error, user.error
    values = map_of(scan, CONFIDENCE)
    assert values.dtype == np.uint8 and 0 < values.max() <= 100
    section.ui.removeMapsButton.click()
    assert node_ids() == before
    assert section.ui.removeMapsButton.toolTip == "No map is shown."


def test_the_model_stays_warm(user: Driver, section: Any, scan: Any) -> None:
    warm = user.panel.warm._segmenter
    choose(section, user)
    section.ui.explainButton.click()
    user.wait()
    section.ui.confidenceButton.click()
    user.wait()
    assert user.panel.warm._segmenter is warm is not None
