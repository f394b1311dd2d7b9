"""Runs: click, cancel, delete, close, reload, failure; no incomplete result ever remains in the scene."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer
import torch

from heartseg.anatomy import structure
from heartseg.errors import DependencyError
from heartseg.inference.tiles import Rung
from heartseg.progress import ProgressEvent, Reporter
from panel.driver import Driver, Gate, node_ids

STAGES_ON_THE_WORKER = ("read", "load model", "predict", "resample", "measure", "surfaces")


def labels_in(node: Any, scan: Any) -> np.ndarray:
    """Return the label map displayed by a segmentation node."""
    found = np.zeros(slicer.util.arrayFromVolume(scan).shape, np.uint8)
    for key in node.GetSegmentation().GetSegmentIDs():
        found[slicer.util.arrayFromSegmentBinaryLabelmap(node, key, scan) != 0] = structure(key).label
    return found


def test_a_click_makes_a_segmentation_with_the_pipelines_labels(user: Driver, scan: Any) -> None:
    node = user.run()
    result = user.panel.state.result
    assert result.labels.any()
    assert np.array_equal(labels_in(node, scan), result.labels)
    assert node.GetSegmentation().GetSegmentIDs() == ("LV", "RV", "MYO")
    assert not node.GetHideFromEditors()
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is scan
    assert user.status.startswith("Done in")
    assert user.ui.progressBar.isHidden()


def test_a_second_run_replaces_the_first_and_can_be_undone(user: Driver) -> None:
    first = user.run()
    assert user.parameters.outputSegmentation is first
    first.GetSegmentation().RemoveSegment("MYO")
    assert user.run() is first
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1
    assert "MYO" in first.GetSegmentation().GetSegmentIDs()
    user.results.ui.undoButton.click()
    assert "MYO" not in first.GetSegmentation().GetSegmentIDs()


def test_a_new_segmentation_is_made_when_asked_for_and_the_earlier_one_hidden(user: Driver) -> None:
    first = user.run()
    user.ui.outputSelector.setCurrentNode(None)
    second = user.run()
    assert second is not first
    assert second.GetDisplayNode().GetVisibility()
    assert not first.GetDisplayNode().GetVisibility()
    assert user.parameters.outputSegmentation is second


def test_another_scan_gets_a_segmentation_of_its_own(user: Driver, scan: Any) -> None:
    first = user.run()
    other = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, scan, "other")
    user.parameters.inputVolume = other
    assert user.parameters.outputSegmentation is None
    second = user.run()
    assert second is not first
    assert first.GetDisplayNode().GetVisibility()
    user.parameters.inputVolume = scan
    assert user.parameters.outputSegmentation is first


def test_all_loaded_scans_are_segmented_and_one_that_fails_stops_nobody(user: Driver, scan: Any) -> None:
    slicer.util.addVolumeFromArray(np.full((4, 4, 4), np.nan), name="broken")
    last = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, scan, "last")
    user.ui.segmentAllButton.click()
    user.wait()
    of = [n.GetNodeReference(n.GetReferenceImageGeometryReferenceRole()) for n in segmentations()]
    assert of == [scan, last]


def segmentations() -> list:
    return slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_the_views_move_on_the_first_result_only(user: Driver) -> None:
    slice_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    user.run()
    moved = slice_node.GetSliceToRAS().GetElement(2, 3)
    assert moved != 0
    slice_node.GetSliceToRAS().SetElement(2, 3, 7.0)
    user.run()
    assert slice_node.GetSliceToRAS().GetElement(2, 3) == 7.0
    user.results.ui.showButton.click()
    assert slice_node.GetSliceToRAS().GetElement(2, 3) == pytest.approx(moved)


def test_observers_hear_of_the_panels_runs(user: Driver) -> None:
    heard: list[Any] = []
    tag = user.widget.logic.runs.add(heard.append)
    user.widget.logic.runs.add(lambda event: 1 / 0)  # affects nothing else
    node = user.run()
    kinds = [event.kind for event in heard]
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("start", "end", {"progress"})
    assert heard[-1].segmentation is node
    assert heard[-1].result is user.panel.state.result
    user.widget.logic.runs.remove(tag)
    count = len(heard)
    user.run()
    assert len(heard) == count


def test_observers_hear_of_a_cancel_and_of_a_failure(
    user: Driver, hold: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    user.widget.logic.runs.add(lambda event: heard.append(event) if event.kind == "end" else None)
    gate = hold("predict")
    user.press()
    user.session.wait_until(gate.reached.is_set)
    user.press()
    gate.open()
    user.wait()
    user.panel.warm.forget()
    monkeypatch.setattr(user.panel.warm, "_make", lambda model, settings: 1 / 0)
    user.press()
    user.wait()
    assert [(e.result, type(e.error)) for e in heard] == [(None, type(None)), (None, ZeroDivisionError)]


def test_while_it_runs_the_button_cancels_and_choices_are_locked_and_say_why(
    user: Driver, hold: Callable[..., Gate]
) -> None:
    gate = hold("predict")
    user.press()
    user.session.wait_until(gate.reached.is_set)
    user.session.turn()
    assert user.ui.segmentButton.text == "Cancel"
    assert user.ui.segmentButton.enabled
    assert not user.ui.progressBar.isHidden()
    assert not user.ui.inputSelector.enabled
    assert "while a job runs" in user.ui.inputSelector.toolTip
    gate.open()
    user.wait()
    assert user.ui.inputSelector.enabled
    assert "not changed" in user.ui.inputSelector.toolTip


def test_progress_tells_tiles_and_never_goes_back(user: Driver) -> None:
    values, texts = [], []
    user.press()

    def look() -> bool:
        if user.running:
            values.append(user.ui.progressBar.value)
            texts.append(user.ui.progressBar.format)
        return not user.running

    user.session.wait_until(look, 300)
    assert values == sorted(values)
    assert "segmenting" in " ".join(texts) or "making surfaces" in " ".join(texts)
    assert "%" in texts[-1]


@pytest.mark.parametrize("stage", STAGES_ON_THE_WORKER)
def test_a_cancel_at_any_stage_leaves_nothing_behind(user: Driver, hold: Callable[..., Gate], stage: str) -> None:
    before, gate = node_ids(), hold(stage)
    user.press()
    user.session.wait_until(gate.reached.is_set)
    user.press()
    assert not user.ui.segmentButton.enabled
    gate.open()
    user.wait()
    assert node_ids() == before
    assert user.status == "Stopped. Nothing was changed."
    assert user.ui.segmentButton.text == "Segment heart"


def test_a_cancel_between_two_tiles_does_no_further_tile(user: Driver, hold: Callable[..., Gate]) -> None:
    gate = hold("predict", done=5)
    user.press()
    user.session.wait_until(gate.reached.is_set)
    user.press()
    seen = len(user.panel._loop._worker._events)
    gate.open()
    user.wait()
    assert seen <= 1 + 3  # earlier events; one per tile and one for the stop


def test_a_cancel_while_segments_enter_the_scene_leaves_nothing_behind(
    user: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, panel = node_ids(), user.panel
    told = panel._progressed

    def cancel_at_second_segment(event: ProgressEvent) -> None:
        told(event)
        if event.stage == "scene" and event.done == 1:
            assert node_ids() != before  # the hidden node exists
            panel.cancel()

    monkeypatch.setattr(panel, "_progressed", cancel_at_second_segment)
    user.press()
    user.wait()
    assert node_ids() == before
    assert user.status == "Stopped. Nothing was changed."


def test_after_a_cancel_the_next_run_works_with_the_same_warm_model(user: Driver, hold: Callable[..., Gate]) -> None:
    gate = hold("predict")
    user.press()
    user.session.wait_until(gate.reached.is_set)
    user.press()
    gate.open()
    user.wait()
    warm = user.panel.warm._segmenter
    assert warm is not None
    assert user.run() is not None
    assert user.panel.warm._segmenter is warm


def test_a_second_click_reuses_the_warm_model_and_one_thread(user: Driver) -> None:
    user.run()
    warm, threads = user.panel.warm._segmenter, [t for t in threading.enumerate() if t.name == "HeartSeg worker"]
    user.run()
    assert user.panel.warm._segmenter is warm
    assert [t for t in threading.enumerate() if t.name == "HeartSeg worker"] == threads


def test_without_keep_warm_the_model_is_let_go(user: Driver) -> None:
    user.parameters.keepWarm = False
    user.run()
    assert user.panel.warm._segmenter is None


def test_only_one_run_at_a_time(user: Driver, hold: Callable[..., Gate]) -> None:
    gate = hold("predict")
    user.press()
    user.session.wait_until(gate.reached.is_set)
    assert user.panel.segment() is None
    assert user.panel.start("other", lambda reporter: 1, lambda value: None) is None
    gate.open()
    user.wait()
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


@pytest.mark.parametrize("which", ["scan", "segmentation"])
def test_deleting_a_node_of_the_run_ends_it(user: Driver, scan: Any, hold: Callable[..., Gate], which: str) -> None:
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "target")
    user.parameters.outputSegmentation = target
    gate = hold("predict")
    user.press()
    user.session.wait_until(gate.reached.is_set)
    slicer.mrmlScene.RemoveNode(scan if which == "scan" else target)
    before = node_ids()
    gate.open()
    user.wait()
    assert node_ids() == before
    assert user.status == f"The {which} was deleted: the run was stopped, nothing was changed."
    assert not user.error


def test_deleting_the_shown_result_during_another_run_does_not_disturb_it(
    user: Driver, hold: Callable[..., Gate]
) -> None:
    shown = user.run()
    user.ui.outputSelector.setCurrentNode(None)
    gate = hold("predict")
    user.press()
    user.session.wait_until(gate.reached.is_set)
    slicer.mrmlScene.RemoveNode(shown)
    user.panel.refresh()
    state = user.panel.state
    assert state.segmentation is None
    gate.open()
    user.wait()
    assert user.panel.state.segmentation.GetScene() is not None


def test_closing_the_scene_ends_the_run(user: Driver, hold: Callable[..., Gate]) -> None:
    gate = hold("predict")
    user.press()
    user.session.wait_until(gate.reached.is_set)
    slicer.mrmlScene.Clear(0)
    gate.open()
    user.wait()
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert user.status == "The scene was closed: the run was stopped."
    assert not user.error


def test_reloading_the_module_ends_the_run_and_the_new_panel_works(
    user: Driver, scan: Any, hold: Callable[..., Gate]
) -> None:
    gate = hold("predict")
    user.press()
    user.session.wait_until(gate.reached.is_set)
    old, before, packages = user.panel, node_ids(), dict(sys.modules)
    try:
        again = type(user)(user.session, user.session.reload())
        gate.open()
        again.session.wait_until(lambda: not old._loop._worker._thread.is_alive())
        assert node_ids() == before
        assert again.panel is not old
        assert again.parameters.inputVolume is scan
        again.panel.models.show("Tiny")
        again.run()
        assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1
        user.session.close()
    finally:  # other tests use the package that they imported
        for name in [n for n in sys.modules if n.partition(".")[0] in ("heartseg", "HeartSeg")]:
            del sys.modules[name]
        sys.modules.update({n: m for n, m in packages.items() if n.partition(".")[0] in ("heartseg", "HeartSeg")})


@pytest.mark.parametrize(
    "crash", [RuntimeError("CUDA error: misaligned address"), SystemExit(3), KeyboardInterrupt(), KeyError("x")]
)
def test_whatever_the_worker_raises_is_shown_with_a_report_and_the_next_run_works(
    user: Driver, monkeypatch: pytest.MonkeyPatch, crash: BaseException
) -> None:
    before = node_ids()
    warm = user.panel.warm
    make = warm._make

    def fails(model: object, settings: object) -> None:
        raise crash

    monkeypatch.setattr(warm, "_make", fails)
    user.press()
    user.wait()
    assert type(crash).__name__ in user.error
    assert "failed unexpectedly" in user.error
    assert node_ids() == before
    user.ui.copyReportButton.click()
    report = slicer.app.clipboard().text()
    for needed in (type(crash).__name__, "26x26x26 voxels", "Tiny", "Traceback", "torch"):
        assert needed in report
    monkeypatch.setattr(warm, "_make", make)
    user.run()
    assert not user.error


def test_an_error_after_the_job_is_shown_too_and_the_next_run_works(user: Driver) -> None:
    def breaks(value: object) -> None:
        raise ValueError("in the window")

    user.panel.start("Odd job", lambda reporter: 1, breaks)
    user.wait()
    assert "Odd job failed unexpectedly (ValueError: in the window)" in user.error
    assert user.ui.segmentButton.text == "Segment heart"
    user.run()


def test_a_missing_package_is_one_line_that_says_how_to_install_it(
    user: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    import heartseg.inference

    monkeypatch.delitem(sys.modules, "heartseg.inference.engine", raising=False)
    monkeypatch.delattr(heartseg.inference, "engine", raising=False)
    for name in ("torch", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    user.press()
    user.wait()
    assert user.error.startswith("A Python package is missing (torch): press Segment heart")
    with pytest.raises(DependencyError):
        user.widget.logic.process(user.parameters.inputVolume)


@pytest.mark.parametrize("rungs_lost", [1, 2, 3])
def test_out_of_memory_is_told_at_every_rung_and_the_run_goes_on(
    user: Driver, monkeypatch: pytest.MonkeyPatch, rungs_lost: int
) -> None:
    """Levels on the CPU represent those of a graphics card: the error is injected, the fallback is real."""
    climb_down(monkeypatch, rungs_lost)
    user.run()
    log = user.ui.logText.plainText
    assert log.count("out of memory with") == rungs_lost


def test_out_of_memory_on_the_last_rung_is_one_line_with_a_way_out(
    user: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = node_ids()
    climb_down(monkeypatch, 4)
    user.press()
    user.wait()
    assert "Out of memory on cpu" in user.error
    assert "close other programs" in user.error
    assert node_ids() == before
    monkeypatch.undo()


def climb_down(monkeypatch: pytest.MonkeyPatch, rungs_lost: int) -> None:
    """Four levels, of which the first ``rungs_lost`` run out of memory."""

    from heartseg.devices import CPU
    from heartseg.inference import network
    from heartseg.inference.tiles import Rung

    rungs = [Rung(CPU, CPU, batch) for batch in (8, 4, 2, 1)]
    predictors = network.Network._predictors

    def out_of_memory(batch: np.ndarray) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def choose(self: Any, rung: Rung, reporter: Reporter) -> list[Any]:
        return [out_of_memory] if rungs.index(rung) < rungs_lost else predictors(self, rung, reporter)

    monkeypatch.setattr(network, "ladder", lambda device, batch: rungs)
    monkeypatch.setattr(network.Network, "_predictors", choose)
