"""Results: table, findings, navigation, comparison, editing and measuring again, undo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.findings import Finding, Severity, merged_findings
from heartseg.panel.record import ATTRIBUTE, RunRecord, read_record, write_record
from heartseg.provenance import Provenance
from heartseg.result import Measure
from heartseg.wording import Wording
from panel.driver import Driver
from pythonqt import PanelHost


def cells(user: Driver, column: int) -> list[str]:
    table = user.results.ui.measuresTable
    return [table.item(r, column).text() for r in range(table.rowCount)]


def titles(user: Driver) -> list[str]:
    table = user.results.ui.measuresTable
    return [table.horizontalHeaderItem(c).text() for c in range(table.columnCount)]


def test_the_table_has_the_results_numbers(user: Driver) -> None:
    user.run()
    result = user.panel.state.result
    assert titles(user) == ["Structure", "Volume\n(mL)", "Mass\n(g)", "Diameter\n(mm)", "Findings"]
    assert cells(user, 0) == ["Left ventricle", "Right ventricle", "LV myocardium"]
    expected = [result.measure(s.key, "volume") for s in result.structures]
    assert cells(user, 1) == [f"{v:.1f}" if v is not None else "–" for v in expected]
    assert cells(user, 2)[2] == f"{result.measure('MYO', 'mass'):.1f}"


def test_findings_are_told_in_words_the_most_serious_first(user: Driver) -> None:
    user.run()
    messages = [f.message for f in merged_findings(user.panel.state.result.findings)]
    shown = user.results.ui.findingsLabel.text
    places = [shown.find(m.replace("<", "&lt;")[:40]) for m in messages]
    assert messages
    assert min(places) >= 0
    assert places == sorted(places)


def marked(context: str, text: str) -> str:
    """A language in which every literal stands in brackets."""
    return f"[{text}]"


def test_findings_names_and_errors_are_in_the_language_of_the_application(
    user: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.run()
    english = [f.message for f in merged_findings(user.panel.state.record.findings)]
    monkeypatch.setattr(slicer.app, "translate", marked)
    user.panel.refresh()
    lines = user.results.ui.findingsLabel.text.split("<br>")
    assert len(lines) == len(english) and all(line[2:].startswith("[") for line in lines)
    assert cells(user, 0)[0] == "[left ventricle]"
    user.parameters.inputVolume = slicer.util.addVolumeFromArray(np.zeros((20, 20, 20)), name="empty")
    before = next(s for s in user.panel._sections if s.name == "Preflight")
    user.session.wait_until(lambda: "scan-refused" in [c.code for c in before.checks], 120)
    table = before.ui.checksTable
    assert all(table.item(r, 1).text().startswith("[") for r in range(table.rowCount))
    user.press()
    assert user.error.startswith("[")


def test_a_record_read_again_has_the_same_findings_and_can_still_be_translated(user: Driver) -> None:
    node = user.run()
    result, record = user.panel.state.result, read_record(node)
    assert record is not None and record.findings == result.findings and record.measures == result.measures
    assert all(isinstance(f.message, Wording) for f in record.findings)


def test_no_finding_is_said_to_prove_nothing(session: PanelHost) -> None:
    from heartseg.panel.results import findings_in_html

    assert "does not prove" in findings_in_html(RunRecord("scan"))


def test_a_finding_stands_in_its_structures_row(session: PanelHost) -> None:
    from heartseg.panel.results import rows_of

    finding = Finding("cut-by-border", Severity.WARNING, "The aorta is cut.", "AO")
    record = RunRecord(
        "scan", (Measure("AO", "diameter", 31.26, "mm"), Measure("LV", "volume", None, "mL")), (finding,)
    )
    assert [(s.key, c, f) for s, c, f in rows_of(record, None)] == [
        ("LV", ["–", "", ""], []),
        ("AO", ["–", "", "31.3"], [finding]),
    ]


def test_one_finding_of_a_structure_is_told_in_short_with_a_word_for_every_code(session: PanelHost) -> None:
    from heartseg.panel.results import _findings_cell
    from heartseg.quality.checks import CODES

    of_scan = {"no-heart", "holes-filled", "dark-removed", "contrast-doubtful", "low-resolution", "not-hounsfield"}
    findings = [Finding(code, Severity.WARNING, "It is so.", "LV") for code in sorted(CODES - of_scan)]
    shown = [_findings_cell([f]).text() for f in findings]
    assert len(set(shown)) == len(findings) and not any("-" in text for text in shown)
    assert _findings_cell(findings[:2]).text() == "▲ 2"


def test_a_click_on_a_row_jumps_the_slices_to_the_structure(user: Driver) -> None:
    node = user.run()
    slice_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    for row, key in enumerate(node.GetSegmentation().GetSegmentIDs()):
        user.results.ui.measuresTable.cellClicked.emit(row, 0)
        matrix = slice_node.GetSliceToRAS()
        at = np.array([matrix.GetElement(i, 3) for i in range(3)])
        surface = node.GetSegmentation().GetSegment(key).GetRepresentation("Closed surface")
        middle = np.reshape(surface.GetBounds(), (3, 2)).mean(1)
        assert np.allclose(at, middle, atol=1e-3), key


def test_after_a_run_the_3d_view_is_centred_and_filled(user: Driver) -> None:
    camera_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode")
    node = user.run()
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    box = bounds.reshape(3, 2)
    camera = camera_node.GetCamera()
    assert np.allclose(camera.GetFocalPoint(), box.mean(1), atol=2.0)
    seen = camera.GetDistance() * np.tan(np.deg2rad(camera.GetViewAngle() / 2))  # half the view's height at the heart
    assert 0.7 < (box[:, 1] - box[:, 0]).max() / 2 / seen < 0.95


def test_one_can_see_inside(user: Driver) -> None:
    display = user.run().GetDisplayNode()
    assert display.GetSegmentOpacity3D("MYO") < 1
    assert display.GetOpacity2DFill() < 1


def test_an_earlier_run_can_be_compared(user: Driver) -> None:
    first = user.run()
    user.ui.outputSelector.setCurrentNode(None)
    second = user.run()
    record = read_record(first)
    changed = tuple(
        Measure(m.structure, m.quantity, m.value - 2.5 if m.structure == "LV" and m.value else m.value, m.unit)
        for m in record.measures
    )
    write_record(first, RunRecord(record.scan, changed))
    user.panel.refresh()
    box = user.results.ui.compareComboBox
    assert [box.itemText(i) for i in range(box.count)] == ["nothing", first.GetName()]
    box.currentIndex = 1
    assert titles(user)[:3] == ["Structure", "Volume\n(mL)", "Δ"]
    assert cells(user, 2)[0] == "+2.5"
    assert cells(user, 2)[1] == "+0.0"
    assert user.panel.state.segmentation is second


def test_measures_are_taken_again_after_edits(user: Driver, scan: Any) -> None:
    node = user.run()
    before = read_record(node).value("LV", "volume")
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, "LV", scan)
    mask[:] = 0
    mask[5:15, 5:15, 5:15] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LV", scan)
    user.results.ui.recomputeButton.click()
    user.wait()
    record = read_record(node)
    later = [slicer.util.arrayFromSegmentBinaryLabelmap(node, key, scan) != 0 for key in ("RV", "MYO")]
    expected = ((mask != 0) & ~later[0] & ~later[1]).sum() * 27 / 1000  # voxels of 3 mm; the later structure wins
    assert record.value("LV", "volume") == pytest.approx(expected)
    assert record.value("LV", "volume") != before
    assert record.edited
    assert "Measured again after edits" in user.results.ui.findingsLabel.text
    assert cells(user, 1)[0] == f"{expected:.1f}"


def test_segments_on_another_grid_are_measured_on_the_scans(user: Driver, scan: Any) -> None:
    node = user.run()
    for key in ("RV", "MYO"):
        node.GetSegmentation().RemoveSegment(key)
    finer = slicer.util.addVolumeFromArray(np.zeros((52, 52, 52), np.int16), ijkToRAS=np.diag([-1.5, -1.5, 1.5, 1.0]))
    mask = np.zeros((52, 52, 52), np.uint8)
    mask[11:31, 11:31, 11:31] = 1  # voxel centres from 16.5 to 45 mm: the scan's voxels 6 to 15 lie inside
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LV", finer)
    user.results.ui.recomputeButton.click()
    user.wait()
    assert not user.error, user.error
    assert read_record(node).value("LV", "volume") == pytest.approx(27.0, rel=0.35)


def test_a_replaced_segmentation_can_be_put_back(user: Driver, scan: Any) -> None:
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    target.GetSegmentation().AddEmptySegment("hand", "drawn by hand")
    target.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    mask = np.zeros((26, 26, 26), np.uint8)
    mask[3:7, 4:9, 5:11] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, target, "hand", scan)
    user.parameters.outputSegmentation = target
    assert user.run() is target
    assert target.GetSegmentation().GetSegmentIDs() == ("LV", "RV", "MYO")
    assert user.results.ui.undoButton.enabled
    user.results.ui.undoButton.click()
    assert target.GetSegmentation().GetSegmentIDs() == ("hand",)
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(target, "hand", scan), mask)
    assert target.GetAttribute(ATTRIBUTE) is None
    user.results.ui.undoButton.click()  # the previous content is also restored, with later edits
    assert target.GetSegmentation().GetSegmentIDs() == ("LV", "RV", "MYO")
    assert read_record(target) is not None
    user.results.ui.undoButton.click()
    assert target.GetSegmentation().GetSegmentIDs() == ("hand",)


def test_without_its_scan_a_segmentation_waits_for_one_to_be_chosen(user: Driver, scan: Any) -> None:
    node = user.run()
    node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), None)
    user.parameters.inputVolume = None
    user.panel.refresh()
    for button in (
        user.results.ui.recomputeButton,
        next(s for s in user.panel._sections if s.name == "Export").ui.exportButton,
    ):
        assert not button.enabled
        assert "is not in the scene: load it and choose it" in button.toolTip
    user.parameters.inputVolume = scan
    user.panel.refresh()
    assert user.results.ui.recomputeButton.enabled
    user.results.ui.recomputeButton.click()
    user.wait()
    assert not user.error, user.error
    assert read_record(node).edited


def test_edit_opens_the_segment_editor(user: Driver) -> None:
    user.run()
    user.results.ui.editButton.click()
    assert user.session.selected_modules == ["SegmentEditor"]


def test_help_opens_pages_that_exist_and_training_is_no_result(
    user: Driver, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qt

    from heartseg.panel.help import PAGES

    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    help_ = next(s for s in user.panel._sections if s.name == "Help")
    for button in PAGES:
        getattr(help_.ui, button).click()
    assert len(opened) == 4
    for address in opened:
        assert (repository / "docs" / address.partition("/docs/")[2]).is_file()
    assert not hasattr(user.results.ui, "trainButton")


def test_a_record_survives_its_attribute() -> None:
    record = RunRecord(
        "scan",
        (Measure("LV", "volume", 81.5, "mL"),),
        (Finding("x", Severity.INFO, "Say."),),
        Provenance(segmentation="heart.nrrd"),
        True,
    )
    assert RunRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"scan": 1, "measures": 3}'])
def test_a_damaged_record_is_none(text: str) -> None:
    assert RunRecord.from_json(text) is None


def test_the_segments_table_and_show_3d_are_the_results(user: Driver) -> None:
    ui, node = user.results.ui, user.run()
    assert not ui.resultsSection.collapsed
    assert ui.segmentsTable.segmentationNode() is node
    assert ui.show3DButton.segmentationNode() is node
    assert node.GetDisplayNode().GetVisibility3D()
    ui.show3DButton.click()
    assert not node.GetDisplayNode().GetVisibility3D()


def test_marks_are_told_apart_without_colour(user: Driver) -> None:
    from heartseg.panel.results import findings_in_html

    found = [Finding("a", severity, "look") for severity in Severity]
    lines = findings_in_html(RunRecord("scan", (), tuple(found))).split("<br>")
    assert len({line[0] for line in lines}) == len(found)
    assert not any("color" in line for line in lines)


def test_structures_have_the_names_of_the_application_language(user: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    from heartseg.anatomy import STRUCTURES
    from heartseg.panel import names

    assert {s.key: names.structure_name(s.key) for s in STRUCTURES} == {s.key: s.name for s in STRUCTURES}
    german = {"right ventricle": "rechter Ventrikel"}
    monkeypatch.setattr(slicer.app, "translate", lambda context, text: german.get(text, text))
    user.run()
    assert cells(user, 0)[1] == "Rechter Ventrikel"
    user.panel.refresh()
    assert "rechter Ventrikel" in user.ui.structureRVCheckBox.toolTip
