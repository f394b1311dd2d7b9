"""Choices are stored in the scene (saving, loading, several sets), and every control has an explanation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.settings import Settings
from panel.driver import Driver, Gate

EXPLAINED = (
    "QPushButton",
    "QComboBox",
    "QCheckBox",
    "QSpinBox",
    "QProgressBar",
    "QTableWidget",
    "QPlainTextEdit",
    "qMRMLNodeComboBox",
)


def test_every_control_has_a_tooltip(opened: Driver) -> None:
    widgets = [*vars(opened.ui).values(), *vars(opened.results.ui).values()]
    controls = [w for w in widgets if hasattr(w, "className") and w.className() in EXPLAINED]
    assert len(controls) > 25
    assert [w.name for w in controls if not w.toolTip] == []


def test_the_big_button_is_enabled_from_the_start_and_says_what_is_missing(opened: Driver) -> None:
    assert opened.ui.segmentButton.enabled
    opened.press()
    assert not opened.running
    assert opened.error == opened.ui.segmentButton.toolTip == "Choose a scan first."


def test_a_disabled_button_says_why(opened: Driver) -> None:
    for name in ("showButton", "editButton", "recomputeButton"):
        assert not getattr(opened.results.ui, name).enabled
        assert "no result yet" in getattr(opened.results.ui, name).toolTip
    assert "replaced nothing" in opened.results.ui.undoButton.toolTip


def test_what_waits_for_a_job_says_so(user: Driver, hold: Callable[..., Gate]) -> None:
    gate = hold("read")
    user.press()
    user.session.wait_until(gate.reached.is_set)
    sections = {s.name: s.ui for s in user.panel._sections}
    waiting = [
        user.ui.frameSpinBox,
        user.ui.allFramesCheckBox,
        user.ui.structureLVCheckBox,
        sections["Export"].exportFolderButton,
        sections["Export"].segBox,
        sections["Preflight"].lookForHeartButton,
    ]
    for widget in waiting:
        assert not widget.enabled, widget.name
        assert widget.toolTip == "Not while a job runs: cancel it first.", widget.name
    gate.open()
    user.wait()
    assert "Not while" not in "".join(w.toolTip for w in waiting)


def test_the_first_scan_is_chosen_when_the_panel_is_entered(opened: Driver, scan: Any) -> None:
    assert opened.parameters.inputVolume is scan
    opened.panel.refresh()
    assert opened.ui.segmentButton.enabled


def test_what_is_ticked_becomes_the_settings(user: Driver) -> None:
    user.ui.accurateCheckBox.checked = True
    user.ui.cleanUpCheckBox.checked = True
    user.ui.structureRVCheckBox.click()
    assert user.panel.settings() == Settings(device="cpu", accurate=True, structures=("LV", "MYO"))


def test_a_structure_that_the_model_does_not_know_cannot_be_ticked(user: Driver) -> None:
    assert user.ui.structureLVCheckBox.enabled
    assert not user.ui.structureAOCheckBox.enabled
    assert "does not segment the ascending aorta" in user.ui.structureAOCheckBox.toolTip


def test_without_any_structure_there_is_no_run_and_the_button_says_so(user: Driver) -> None:
    for key in ("LV", "RV", "MYO"):
        getattr(user.ui, f"structure{key}CheckBox").click()
    user.press()
    assert not user.running
    assert "at least one structure" in user.error


def test_choices_are_saved_with_the_scene_and_shown_again(user: Driver, scan: Any, tmp_path: Path) -> None:
    user.ui.accurateCheckBox.checked = True
    user.ui.structureRVCheckBox.click()
    node = user.run()
    path = tmp_path / "saved.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    assert not user.ui.accurateCheckBox.checked
    slicer.util.loadScene(str(path))
    assert user.ui.accurateCheckBox.checked
    assert user.parameters.model == "Tiny"
    assert user.parameters.structures == "LV,MYO"
    assert user.parameters.inputVolume.GetName() == "scan"
    user.panel.show_results_of(slicer.util.getNode(node.GetName()))
    assert user.panel.state.record.scan == "scan"
    assert user.results.ui.measuresTable.rowCount == 2


def test_a_scene_of_the_first_version_loads(opened: Driver, scan: Any, tmp_path: Path) -> None:
    """Version 0.1 stored only two node references in a singleton."""
    slicer.mrmlScene.Clear(0)
    scan = slicer.util.addVolumeFromArray(np.zeros((4, 4, 4), np.int16), name="old scan")
    for old in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
        slicer.mrmlScene.RemoveNode(old)
    old = slicer.vtkMRMLScriptedModuleNode()
    old.SetSingletonTag("HeartSeg")
    old.SetAttribute("ModuleName", "HeartSeg")
    old.SetName("HeartSeg")
    old = slicer.mrmlScene.AddNode(old)
    old.SetNodeReferenceID("inputVolume", scan.GetID())
    path = tmp_path / "old.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    assert opened.parameters.inputVolume.GetName() == "old scan"
    assert opened.parameters.device == "auto"
    assert opened.parameters.keepWarm


def test_only_a_value_that_this_version_does_not_know_falls_back_to_its_default(
    opened: Driver, scan: Any, caplog: pytest.LogCaptureFixture
) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    node.SetAttribute("ModuleName", "HeartSeg")
    node.SetParameter("device", "quantum")
    node.SetParameter("accurate", "True")
    node.SetNodeReferenceID("inputVolume", scan.GetID())
    wrapped = opened.widget.logic.wrap(node)
    assert wrapped.device == "auto"
    assert wrapped.accurate
    assert "quantum" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"), [("device", "xpu"), ("device", "cuda:x"), ("structures", "LV,APPENDAGE"), ("accurate", "maybe")]
)
def test_a_scene_with_an_unknown_value_opens_with_a_working_panel(
    opened: Driver, scan: Any, tmp_path: Path, name: str, value: str
) -> None:
    """The real wrapper does not validate the content of a scene, and raises while the panel is connected."""
    opened.parameters.parameterNode.SetParameter(name, value)
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    parameters = opened.parameters
    assert getattr(parameters, name) == type(parameters)(slicer.vtkMRMLScriptedModuleNode()).getValue(name)
    assert parameters.inputVolume.GetName() == "scan"
    opened.ui.accurateCheckBox.checked = True
    assert opened.parameters.accurate


def test_reload_then_garbage_collection_then_closing_the_scene(user: Driver) -> None:
    """Slicer 5.10 left an observer of the first panel's wrapper on the node, and crashed when the scene was closed."""
    import gc

    packages = dict(sys.modules)
    try:
        user.session.reload()
        user.widget = None
        gc.collect()
        slicer.mrmlScene.Clear(0)
        user.session.turn()
        assert user.session.panel._parameterNode is not None
        user.session.close()
    finally:  # other tests use the package that they imported
        for name in [n for n in sys.modules if n.partition(".")[0] in ("heartseg", "HeartSeg")]:
            del sys.modules[name]
        sys.modules.update({n: m for n, m in packages.items() if n.partition(".")[0] in ("heartseg", "HeartSeg")})


def test_each_graphics_card_can_be_chosen_by_name(user: Driver) -> None:
    chooser, box = user.panel._devices, user.ui.deviceComboBox
    user.panel._cards = ("RTX A", "RTX B")
    user.panel.refresh()
    assert "RTX B" in [box.itemText(i) for i in range(box.count)][2]
    box.currentIndex = 2
    assert user.parameters.device == "cuda:1"
    assert user.panel.settings().device == "cuda:1"
    chooser.show("cuda:7", ())  # a scene from another machine
    assert box.currentText == "cuda:7"


def test_another_device_is_looked_at_anew(user: Driver) -> None:
    wait = user.session.wait_until
    wait(lambda: user.panel._device is not None)
    user.parameters.device = "auto"
    wait(lambda: user.panel._device_asked[0] == "auto" and not user.panel._loop._handlers)
    first = user.panel._device
    user.parameters.device = "cpu"
    wait(lambda: user.panel._device is not first)


def test_deleting_the_only_set_of_choices_begins_another_one(user: Driver, scan: Any) -> None:
    import slicer

    slicer.mrmlScene.RemoveNode(user.parameters.parameterNode)
    user.session.wait_until(lambda: user.parameters.parameterNode.GetScene() is not None, 10)
    user.session.turn()
    user.parameters.inputVolume = scan
    assert user.panel.parameters is user.parameters
    assert user.panel.state.volume is scan


def test_coming_back_to_the_panel_connects_nothing_twice(user: Driver) -> None:
    node = user.parameters.parameterNode
    before = sum(node.HasObserver(e) for e in ("ModifiedEvent",)), user.widget._guiTag
    for _ in range(3):
        user.widget.exit()
        user.widget.enter()
    assert (sum(node.HasObserver(e) for e in ("ModifiedEvent",)), user.widget._guiTag) == before


def test_label_maps_and_maps_of_ours_are_no_first_scan(opened: Driver, scan: Any) -> None:
    import slicer

    from heartseg.scene.nodes import OVERLAY_KIND

    assert opened.widget.firstScan() is scan
    scan.SetAttribute(OVERLAY_KIND, "heat map")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    assert opened.widget.firstScan() is None
    later = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    assert opened.widget.firstScan() is later


def test_a_model_that_is_gone_is_told_and_the_default_one_is_taken(user: Driver) -> None:
    user.parameters.model = "Removed"
    user.panel.models.show("Removed")
    assert user.ui.modelCardLabel.text.startswith("Model Removed was not found; this one is used instead.")
    assert user.panel.models.chosen.name == "HeartSeg-Default"


def test_a_second_set_of_choices_lives_beside_the_first(user: Driver, scan: Any) -> None:
    first = user.parameters
    first.accurate = True
    node = user.ui.parameterSetSelector.addNode()
    assert node.GetAttribute("ModuleName") == "HeartSeg"
    assert user.parameters is not first
    assert not user.ui.accurateCheckBox.checked
    user.ui.parameterSetSelector.setCurrentNode(first.parameterNode)
    assert user.ui.accurateCheckBox.checked


def test_the_selectors_list_the_scenes_nodes_because_the_ui_file_connects_them(opened: Driver, scan: Any) -> None:
    assert opened.ui.inputSelector.nodeCount() == 1
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    assert opened.ui.outputSelector.nodeCount() == 1
    assert opened.results.ui.shownSelector.nodeCount() == 1
    assert opened.ui.parameterSetSelector.nodeCount() == 1


@pytest.mark.parametrize("text", ["", "LV,MYO", "none"])
def test_the_structures_text_goes_to_the_boxes_and_back(user: Driver, text: str) -> None:
    user.parameters.structures = text
    user.panel.refresh()
    assert user.panel._structures.text(user.panel.models.known) == text
