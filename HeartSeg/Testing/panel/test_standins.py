"""The stand-ins are as strict as PythonQt: code that fails in the application fails here."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import slicer

from pythonqt import PanelHost


@pytest.fixture
def qt(session: PanelHost) -> ModuleType:
    import qt

    return qt


def test_properties_are_attributes(qt: ModuleType) -> None:
    button = qt.QPushButton("one")
    assert button.text == "one"
    button.text = "two"
    button.enabled = False
    assert (button.text, button.enabled) == ("two", False)


def test_a_getter_of_a_property_cannot_be_called(qt: ModuleType) -> None:
    with pytest.raises(TypeError, match="not callable"):
        qt.QPushButton("one").text()


def test_a_setter_that_is_no_slot_is_rejected_and_a_slot_is_not(qt: ModuleType) -> None:
    with pytest.raises(AttributeError, match="use the property 'text'"):
        qt.QPushButton("one").setText("two")
    label = qt.QLabel("one")
    label.setText("two")
    assert label.text == "two"


def test_an_attribute_that_is_no_property_cannot_be_set(qt: ModuleType) -> None:
    with pytest.raises(AttributeError, match="no writable property 'txet'"):
        qt.QPushButton("one").txet = "two"
    with pytest.raises(AttributeError, match="no writable property 'noneEnable'"):
        slicer.qMRMLNodeComboBox().noneEnable = True


@pytest.mark.parametrize("signal", ["clickd()", "clicked(int)", "clicked"])
def test_a_misspelt_signal_is_rejected(qt: ModuleType, signal: str) -> None:
    with pytest.raises(ValueError, match="has no signal"):
        qt.QPushButton("one").connect(signal, print)


def test_a_signal_of_an_mrml_widget_is_known_by_its_own_signature_only(session: PanelHost) -> None:
    selector = slicer.qMRMLNodeComboBox()
    selector.connect("currentNodeChanged(vtkMRMLNode*)", print)
    with pytest.raises(ValueError, match="has no signal"):
        selector.connect("currentNodeChanged(vtkMRMLScalarVolumeNode*)", print)


def test_a_slot_gets_the_arguments_of_the_signature_that_was_connected(qt: ModuleType) -> None:
    button, seen = qt.QPushButton("one"), []
    button.connect("clicked(bool)", lambda *a: seen.append(a))
    button.connect("clicked()", lambda *a: seen.append(a))
    button.click()
    assert seen == [(False,), ()]


UI = """<ui version="4.0"><class>Top</class><widget class="qMRMLWidget" name="Top">
 <layout class="QVBoxLayout" name="layout"><item><widget class="{kind}" name="inner">
  <property name="{name}"><bool>true</bool></property></widget></item></layout></widget>
 <connections>{connections}</connections></ui>"""
SCENE = """<connection><sender>Top</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
 <receiver>inner</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>"""


def load(path: Path, kind: str, name: str, connections: str = "") -> Any:
    path.write_text(UI.format(kind=kind, name=name, connections=connections), encoding="utf-8")
    return slicer.util.loadUI(str(path))


def test_a_ui_file_with_a_property_that_the_widget_lacks_is_rejected(session: PanelHost, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="colapsed"):
        load(tmp_path / "x.ui", "ctkCollapsibleButton", "colapsed")


def test_a_selector_without_its_scene_connection_stays_empty(session: PanelHost, tmp_path: Path) -> None:
    slicer.mrmlScene.Clear(0)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    found = []
    for connections in ("", SCENE):
        top = load(tmp_path / "x.ui", "qMRMLNodeComboBox", "noneEnabled", connections)
        inner = slicer.util.childWidgetVariables(top).inner
        inner.nodeTypes = ["vtkMRMLSegmentationNode"]
        top.setMRMLScene(slicer.mrmlScene)
        found.append(inner.nodeCount())
    assert found == [0, 1]
    slicer.mrmlScene.Clear(0)


def test_a_folded_section_hides_what_is_in_it(session: PanelHost, qt: ModuleType) -> None:
    import ctk

    section = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(section)
    button = qt.QPushButton("inside")
    layout.addWidget(button)
    section.collapsed = True
    assert button.isHidden()
    section.collapsed = False
    assert not button.isHidden()


def test_a_combo_box_bound_to_text_needs_its_choices(session: PanelHost, qt: ModuleType) -> None:
    from pythonqt.module_base import make_connector

    with pytest.raises(RuntimeError, match="Choice"):
        make_connector(qt.QComboBox(), str)
