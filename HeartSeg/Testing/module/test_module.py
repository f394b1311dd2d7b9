"""HeartSeg.py on the real scene, without the application."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.anatomy import KEYS, STRUCTURES
from heartseg.errors import Cancelled, DependencyError, InputError
from heartseg.export.terminology import CONTEXT_NAME, terminology_context
from heartseg.progress import CancelToken, ProgressEvent
from heartseg.result import Result
from heartseg.volume import Volume
from slicer_host.source import slicer_source


def add_scan(shape: tuple[int, int, int] = (10, 12, 14), name: str = "scan") -> Any:
    return slicer.util.addVolumeFromArray(np.zeros(shape, np.int16), ijkToRAS=np.diag([-1.0, 2, 3, 1]), name=name)


def made_up(
    volume: Volume, progress: Callable[[ProgressEvent], None] | None = None, cancel: CancelToken | None = None
) -> Result:
    """A run of two steps that finds a left ventricle, reports progress and can be stopped."""
    for done in (1, 2):
        if progress:
            progress(ProgressEvent("predict", done, 2))
        if cancel:
            cancel.check()
    labels = np.zeros(volume.geometry.shape, np.uint8)
    labels[2:8, 3:9, 4:10] = 1
    return Result(labels, volume.geometry)


def test_it_introduces_itself(module: types.ModuleType) -> None:
    parent = slicer.modules.HeartSegInstance.parent
    assert parent.title == "HeartSeg"
    assert parent.categories == ["Cardiac"]
    assert "not a medical device" in parent.helpText
    assert parent.contributors
    assert parent.acknowledgementText


def test_process_gives_a_segmentation_on_the_scans_grid_and_the_result(module: types.ModuleType) -> None:
    scan = add_scan()
    node, result = module.HeartSegLogic().process(scan, segment=made_up)
    assert node.IsA("vtkMRMLSegmentationNode")
    assert node.GetSegmentation().GetSegmentIDs() == KEYS
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, "LV", scan)
    assert np.array_equal(mask != 0, result.mask("LV"))


def test_process_fills_the_node_that_it_is_given(module: types.ModuleType) -> None:
    given = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    node, _ = module.HeartSegLogic().process(add_scan(), given, segment=made_up)
    assert node is given


def test_progress_reaches_the_caller(module: types.ModuleType) -> None:
    seen: list[ProgressEvent] = []
    module.HeartSegLogic().process(add_scan(), segment=made_up, progress=seen.append)
    assert [event.done for event in seen] == [1, 2]


def test_a_stopped_run_changes_no_node(module: types.ModuleType) -> None:
    given = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    given.GetSegmentation().AddEmptySegment("earlier", "earlier")
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        module.HeartSegLogic().process(
            add_scan(), given, segment=made_up, cancel=cancel, progress=lambda event: cancel.cancel()
        )
    assert given.GetSegmentation().GetSegmentIDs() == ("earlier",)


def test_a_scan_deleted_while_the_engine_runs_is_one_line(module: types.ModuleType) -> None:
    scan = add_scan()
    with pytest.raises(InputError, match="left the scene"):
        module.HeartSegLogic().process(scan, segment=made_up, progress=lambda e: slicer.mrmlScene.RemoveNode(scan))
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_no_scan_is_one_line(module: types.ModuleType) -> None:
    with pytest.raises(InputError, match="no volume is chosen"):
        module.HeartSegLogic().process(None, segment=made_up)


def test_a_missing_torch_is_one_line_that_says_how_to_install_it(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import heartseg.inference

    monkeypatch.delitem(sys.modules, "heartseg.inference.engine", raising=False)
    monkeypatch.delattr(heartseg.inference, "engine", raising=False)
    for name in ("torch", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DependencyError, match="press Segment heart"):
        module.HeartSegLogic().process(add_scan())
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_the_table_is_named_after_the_scan(module: types.ModuleType) -> None:
    logic = module.HeartSegLogic()
    _, result = logic.process(add_scan(), segment=made_up)
    assert logic.fillTable(result, "scan").GetName() == "scan measures"


def test_parameters_live_in_the_scene(module: types.ModuleType, tmp_path: Path) -> None:
    scan = add_scan(name="chosen")
    parameters = module.HeartSegLogic().getParameterNode()
    assert parameters.inputVolume is None
    parameters.inputVolume = scan
    assert module.HeartSegLogic().getParameterNode().inputVolume is scan
    slicer.mrmlScene.Clear(0)
    assert module.HeartSegLogic().getParameterNode().inputVolume is None


def test_parameters_refuse_a_node_of_another_kind(module: types.ModuleType) -> None:
    with pytest.raises((TypeError, ValueError)):
        module.HeartSegLogic().getParameterNode().inputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")


def test_its_own_self_test_passes_here(module: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # other tests cover segmenting
    slicer.selfTests["HeartSeg"](msec=0)


def test_a_run_of_the_logic_is_told_from_start_to_end(module: types.ModuleType) -> None:
    heard: list[Any] = []
    logic, scan = module.HeartSegLogic(), add_scan()
    logic.runs.add(heard.append)
    node, result = logic.process(scan, segment=made_up)
    assert [e.kind for e in heard if e.kind != "progress"] == ["start", "end"]
    assert (heard[-1].segmentation, heard[-1].result, heard[-1].volume) == (node, result, scan)

    def fails(
        volume: Volume, progress: Callable[[ProgressEvent], None] | None = None, cancel: CancelToken | None = None
    ) -> None:
        raise InputError("no")

    with pytest.raises(InputError):
        logic.process(scan, segment=fails)
    assert isinstance(heard[-1].error, InputError)


def test_slicers_own_sample_data_lists_and_loads_our_scan(module: types.ModuleType) -> None:
    if slicer_source() is None:
        pytest.skip("needs SLICER_SOURCE, a checkout of Slicer")
    import SampleData

    (source,) = slicer.modules.sampleDataSources["HeartSeg"]
    assert source.sampleName == "HeartSegSyntheticCTA"
    node = SampleData.SampleDataLogic().downloadSample("HeartSegSyntheticCTA")
    assert node.GetImageData().GetDimensions()[0] > 50


def test_reload_forgets_the_package(module: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {n: m for n, m in sys.modules.items() if n.partition(".")[0] == "heartseg"}
    try:
        module.purge_package()
        assert not [n for n in sys.modules if n.partition(".")[0] == "heartseg"]
        assert importlib.import_module("heartseg.anatomy") is not before["heartseg.anatomy"]
    finally:
        module.purge_package()
        sys.modules.update(before)


def test_the_file_imports_only_what_the_application_has(repository: Path) -> None:
    tree = ast.parse((repository / "HeartSeg" / "HeartSeg.py").read_text(encoding="utf-8"))
    allowed = {*sys.stdlib_module_names, "slicer", "vtk", "qt", "ctk", "numpy", "SimpleITK"}
    roots = set()
    for statement in tree.body:  # skips the TYPE_CHECKING block, which is an `if`
        if isinstance(statement, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            roots.add((statement.module or "").partition(".")[0])
    assert roots <= allowed


def test_loading_it_does_not_load_torch(repository: Path) -> None:
    code = (
        "import sys; from slicer_host import host\n"
        f"host.load_module({str(repository / 'HeartSeg' / 'HeartSeg.py')!r})\n"
        "print([n for n in ('torch', 'nnunetv2', 'SimpleITK', 'matplotlib') if n in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join(str(repository / "HeartSeg" / part) for part in ("Logic", "Testing"))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"
    assert "ERR" not in run.stderr


def test_the_terminology_file_is_what_the_anatomy_says(repository: Path) -> None:
    path = repository / "HeartSeg" / "Resources" / "HeartSeg.term.json"
    assert json.loads(path.read_text(encoding="utf-8")) == terminology_context()


def test_slicer_offers_our_terminology(module: types.ModuleType) -> None:
    logic = slicer.modules.terminologies.logic()
    assert logic.IsTerminologyContextLoaded(CONTEXT_NAME)
    category = slicer.vtkSlicerTerminologyCategory()
    assert logic.GetNthCategoryInTerminology(CONTEXT_NAME, 0, category)
    assert logic.GetNumberOfTypesInTerminologyCategory(CONTEXT_NAME, category) == len(STRUCTURES)
    for index, expected in enumerate(STRUCTURES):
        kind = slicer.vtkSlicerTerminologyType()
        assert logic.GetNthTypeInTerminologyCategory(CONTEXT_NAME, category, index, kind)
        assert kind.GetCodeValue() == expected.snomed_code
        assert tuple(kind.GetRecommendedDisplayRGBValue()) == expected.color


def ui_files(repository: Path) -> list[ElementTree.Element]:
    """Return the roots of the panel's ``.ui`` files."""
    folder = repository / "HeartSeg" / "Resources" / "UI"
    return [ElementTree.parse(path).getroot() for path in sorted(folder.glob("*.ui"))]


NEED_A_SCENE = ("qMRMLNodeComboBox", "qMRMLSegmentsTableView")


def test_the_panels_files_connect_every_node_selector_to_the_scene(repository: Path) -> None:
    for root in ui_files(repository):
        selectors = {w.get("name") for w in root.iter("widget") if (w.get("class") or "").startswith(NEED_A_SCENE)}
        connected = {
            c.findtext("receiver") for c in root.iter("connection") if "setMRMLScene" in (c.findtext("slot") or "")
        }
        assert selectors == connected


def test_the_panels_code_uses_only_widgets_that_exist(repository: Path) -> None:
    names = {w.get("name") for root in ui_files(repository) for w in root.iter("widget")}
    sources = [repository / "HeartSeg" / "HeartSeg.py", *(repository / "HeartSeg/Logic/heartseg/panel").glob("*.py")]
    used = set()
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                owner = node.value
                is_ui = (isinstance(owner, ast.Attribute) and owner.attr == "ui") or (
                    isinstance(owner, ast.Name) and owner.id == "ui"
                )
                used |= {node.attr} if is_ui else set()
    assert used
    assert used <= names


def test_every_bound_parameter_exists(module: types.ModuleType, repository: Path) -> None:
    roots = ui_files(repository)
    bound = [p.findtext("string") for r in roots for p in r.iter("property") if p.get("name") == "SlicerParameterName"]
    assert len(bound) == len(set(bound))
    by_hand = {"model", "structures", "device"}  # heartseg.panel.inputs
    assert set(bound) | by_hand == set(module.HeartSegLogic().getParameterNode().allParameters)


def test_the_icon_is_a_png_of_128_by_128(repository: Path) -> None:
    header = (repository / "HeartSeg" / "Resources" / "Icons" / "HeartSeg.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) == (128, 128)
