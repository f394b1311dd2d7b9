"""The Export section: checked formats contain the current segments; failures leave no files and are reported."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.export import FORMATS
from heartseg.needs import Missing
from heartseg.progress import Reporter
from panel.driver import Driver
from panel.pip_of_slicer import SlicerLike, made_up, write_wheel


@pytest.fixture
def section(user: Driver, tmp_path: Path) -> Any:
    """Return the section, with a folder of the test and only fast formats checked."""
    from heartseg.panel.export import Export

    (found,) = [s for s in user.panel._sections if isinstance(s, Export)]
    found.ui.exportFolderButton.directory = str(tmp_path)
    for name, box in found.boxes.items():
        box.checked = name in ("labels", "csv")
    return found


@pytest.fixture
def segmented(user: Driver, scan: Any) -> tuple[Any, np.ndarray]:
    """A segmentation of two boxes on the scan, shown in the panel."""
    from heartseg.anatomy import STRUCTURES
    from heartseg.result import Result
    from heartseg.scene import fill_segmentation, geometry_from_node

    geometry = geometry_from_node(scan)
    labels = np.zeros(geometry.shape, np.uint8)
    labels[5:20, 6:20, 7:18], labels[5:20, 6:20, 18:30] = 1, 5
    structures = tuple(s for s in STRUCTURES if s.key in ("LV", "MYO"))
    node = fill_segmentation(Result(labels, geometry, structures), scan)
    user.panel.show_results_of(node)
    return node, labels


def press(user: Driver, section: Any) -> None:
    section.ui.exportButton.click()
    user.wait()


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def read_labels(folder: Path) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labels.nii.gz")))


def test_every_format_has_its_box_and_nothing_can_be_exported_without_a_segmentation(section: Any) -> None:
    from heartseg.panel.section import no_result

    assert set(section.boxes) == set(FORMATS)
    assert all(box.toolTip for box in section.boxes.values())
    assert not section.ui.exportButton.enabled
    assert section.ui.exportButton.toolTip == no_result()
    assert not section.ui.openFolderButton.enabled
    assert section.ui.lackingLabel.isHidden()  # all packages are installed here


def test_what_is_checked_is_written_into_a_folder_named_after_the_segmentation(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray], tmp_path: Path
) -> None:
    node, labels = segmented
    assert section.ui.exportButton.enabled, section.ui.exportButton.toolTip
    press(user, section)
    assert not user.error, user.error
    folder = tmp_path / f"{node.GetName()} export"
    assert section.ui.targetLabel.text == str(folder)
    assert names(folder) == {"labels.nii.gz", "measurements.csv", "export.json"}
    assert np.array_equal(read_labels(folder), labels)
    assert str(folder) in user.ui.statusLabel.text
    assert section.ui.openFolderButton.enabled


def test_edits_are_exported_as_they_are_now(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray], scan: Any, tmp_path: Path
) -> None:
    import slicer

    node, labels = segmented
    mask = (labels == 1).astype(np.uint8)
    mask[:10] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LV", scan)
    press(user, section)
    folder = tmp_path / f"{node.GetName()} export"
    assert np.array_equal(read_labels(folder) == 1, mask > 0)
    with (folder / "measurements.csv").open(encoding="utf-8", newline="") as file:
        rows = {(r["structure"], r["quantity"]): r["value"] for r in csv.DictReader(file)}
    volume = float(rows["LV", "volume"])
    assert volume == pytest.approx(mask.sum() * 3.0**3 / 1000, abs=0.006)


def test_an_earlier_export_is_replaced_only_when_the_user_says_so(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray], tmp_path: Path
) -> None:
    press(user, section)
    section.boxes["csv"].checked = False
    user.session.answers.append(False)
    press(user, section)
    folder = tmp_path / f"{segmented[0].GetName()} export"
    assert "measurements.csv" in names(folder)
    user.session.answers.append(True)
    press(user, section)
    assert names(folder) == {"labels.nii.gz", "export.json"}
    assert [kind for kind, _ in user.session.messages] == ["question", "question"]


def test_a_folder_with_other_things_is_never_replaced(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / f"{segmented[0].GetName()} export"
    folder.mkdir()
    (folder / "thesis.docx").touch()
    press(user, section)
    assert "thesis.docx" in user.error
    assert names(folder) == {"thesis.docx"}
    assert user.session.messages == []


@pytest.mark.parametrize("writer", ["write_labels", "write_measurements"])
def test_a_full_disk_leaves_nothing_and_is_told(
    user: Driver,
    section: Any,
    segmented: tuple[Any, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writer: str,
) -> None:
    from heartseg.export import formats

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(formats, writer, full)
    press(user, section)
    assert user.error.startswith("The disk is full")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    press(user, section)
    assert (tmp_path / f"{segmented[0].GetName()} export" / "export.json").is_file(), "the next one works"


def test_a_cancel_leaves_nothing(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartseg.panel import export

    work = export.do_export

    def slow(request: Any, reporter: Reporter) -> Any:
        started = time.monotonic()
        while not reporter.cancel.cancelled and time.monotonic() - started < 60:
            time.sleep(0.005)
        return work(request, reporter)

    monkeypatch.setattr(export, "do_export", slow)
    section.ui.exportButton.click()
    assert user.ui.segmentButton.text == "Cancel"
    assert not section.ui.exportButton.enabled
    user.ui.segmentButton.click()
    user.wait()
    assert list(tmp_path.iterdir()) == []
    assert not user.error


def test_a_format_whose_package_is_missing_is_disabled_and_says_why(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartseg.panel import export

    monkeypatch.setattr(export, "missing_package", lambda name: "needs vtk" if name == "print" else "")
    section.boxes["print"].checked = True
    user.panel.refresh()
    assert not section.boxes["print"].enabled
    assert section.boxes["print"].toolTip == "needs vtk"
    assert "print" not in section.formats


@pytest.fixture
def writer(section: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlicerLike]:
    """Format dicom-sr needs a package that Slicer lacks and pip finds; only pip itself is told where to look."""
    import slicer

    from heartseg import formats
    from heartseg.panel import dependencies, export
    from heartseg.panel.installation import Installation

    pip = SlicerLike(tmp_path / "wheels", tmp_path / "installed")
    pip.wheels.mkdir()
    pip.target.mkdir()
    write_wheel(pip.wheels, "madeup-writer", "1.2", requires=("numpy<2", "madeup-part"))
    write_wheel(pip.wheels, "madeup-part", "3.0")
    packages = (made_up("madeup-writer"), made_up("madeup-part", "madeup-part"))
    monkeypatch.setitem(export.PACKAGES, "dicom-sr", packages)
    monkeypatch.setitem(formats._NEEDS, "dicom-sr", ("madeup_writer", "madeup-writer", "dicom"))
    monkeypatch.setattr(slicer.util, "pip_install", pip.pip_install, raising=False)
    monkeypatch.setattr(dependencies, "no_connection", lambda: pip.calls.append(("network", "")) or "")
    setup = next(s for s in section.panel._sections if isinstance(s, Installation))
    monkeypatch.setattr(setup, "make_installer", dependencies.SlicerInstaller)
    monkeypatch.syspath_prepend(str(pip.target))
    section.panel.refresh()
    yield pip
    for name in [n for n in sys.modules if n.startswith("madeup")]:
        del sys.modules[name]


def test_a_format_whose_package_is_missing_is_enabled_after_one_question(
    user: Driver, section: Any, writer: SlicerLike
) -> None:
    box, label = section.boxes["dicom-sr"], section.ui.lackingLabel
    assert not box.enabled and not label.isHidden()
    assert "madeup-writer" in box.toolTip and box.text in label.text and 'href="dicom-sr"' in label.text
    user.session.answers.append(False)
    label.linkActivated.emit("dicom-sr")
    ((kind, question),) = user.session.messages
    assert kind == "question"
    for part in ("madeup-writer", "madeup-part", "0.1 MB", "0.4 MB on disk", box.text):
        assert part in question
    assert writer.calls == [] and not box.enabled  # neither network nor pip
    label.linkActivated.emit("dicom-sr")
    assert writer.calls == [
        ("network", ""),
        ("pip_install", ["--no-deps", "madeup-writer>=1.0"]),
        ("pip_install", ["--no-deps", "madeup-part"]),
    ]
    assert not user.error
    assert box.enabled and "madeup" not in box.toolTip and label.isHidden()
    assert user.status == "Installed: madeup-writer, madeup-part."


def test_a_package_that_pip_does_not_find_leaves_the_format_disabled(
    user: Driver, section: Any, writer: SlicerLike
) -> None:
    for wheel in writer.wheels.iterdir():
        wheel.unlink()
    section.ui.lackingLabel.linkActivated.emit("dicom-sr")
    assert "there is no version of it" in user.error
    assert not section.boxes["dicom-sr"].enabled and not section.ui.lackingLabel.isHidden()


def test_a_package_that_cannot_work_beside_slicers_own_is_not_offered(
    user: Driver, section: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartseg.needs import DICOM
    from heartseg.panel import export

    monkeypatch.setattr(export, "missing_package", lambda name: "missing" if name == "dicom-sr" else "")
    problem = "highdicom needs pydicom>=3, and pydicom 2.4.4 is part of this Slicer"
    monkeypatch.setattr(export, "missing_packages", lambda packages: (Missing(DICOM[0], "", problem),))
    user.panel.refresh()
    assert "pydicom&gt;=3" in section.ui.lackingLabel.text and "href" not in section.ui.lackingLabel.text
    assert section.boxes["dicom-sr"].toolTip == problem


def test_without_any_format_the_button_says_what_to_do(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray]
) -> None:
    for box in section.boxes.values():
        box.checked = False
    assert not section.ui.exportButton.enabled
    assert "at least one format" in section.ui.exportButton.toolTip


def test_a_print_set_has_the_wall_that_was_chosen(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray], tmp_path: Path
) -> None:
    for name, box in section.boxes.items():
        box.checked = name == "print"
    section.ui.wallSpinBox.value = 3.0
    press(user, section)
    assert not user.error, user.error
    facts = json.loads((tmp_path / f"{segmented[0].GetName()} export" / "print" / "print.json").read_text())
    assert facts["parts"]["blood_pool.stl"]["wall_asked_mm"] == 3.0


def test_choices_are_remembered(user: Driver, section: Any, segmented: tuple[Any, np.ndarray]) -> None:
    import slicer

    press(user, section)
    assert slicer.app.userSettings().value("HeartSeg/ExportFormats") == "labels,csv"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A stand-in for the application's DICOM segmentation plugin; returns the requested subject hierarchy items."""
    import slicer

    asked: list[int] = []

    class Exportable:
        directory = ""

    class Plugin:
        def examineForExport(self, item: int) -> list[Any]:
            asked.append(item)
            return [Exportable()]

        def export(self, exportables: list[Any]) -> str:
            (Path(exportables[0].directory) / "IMG0001.dcm").write_bytes(b"DICM")
            return ""

    monkeypatch.setattr(slicer.modules, "dicomPlugins", {"DICOMSegmentationPlugin": Plugin}, raising=False)
    return asked


def test_dicom_of_slicers_own_exporter_is_taken_in(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray], tmp_path: Path, exporter: list[int]
) -> None:
    import slicer

    node, _ = segmented
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    section.boxes["dicom-seg"].checked = True
    press(user, section)
    assert not user.error, user.error
    assert exporter == [item]
    assert (tmp_path / f"{node.GetName()} export" / "segmentation.dcm").read_bytes() == b"DICM"


def test_without_a_place_in_the_hierarchy_dicom_says_what_to_do(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray], tmp_path: Path, exporter: list[int]
) -> None:
    section.boxes["dicom-seg"].checked = True
    press(user, section)
    assert "loaded through Slicer's DICOM module" in user.error
    assert exporter == []
    assert list(tmp_path.iterdir()) == []


def test_the_report_of_the_current_segments_opens(
    user: Driver, section: Any, segmented: tuple[Any, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    import qt

    opened: list[str] = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    assert section.ui.reportButton.enabled, section.ui.reportButton.toolTip
    section.ui.reportButton.click()
    user.wait()
    assert not user.error, user.error
    (page,) = (Path(path) for path in opened)
    assert page.name == "report.html"
    assert "left ventricle" in page.read_text(encoding="utf-8")


def test_the_source_of_a_scan_from_dicom_is_its_folder_and_series(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    from heartseg.scene.dicom_export import dicom_source

    class Database:
        def fileForInstance(self, uid: str) -> str:
            return f"/database/{uid}.dcm"

        def instanceValue(self, uid: str, tag: str) -> str:
            return {"0020,000e": "1.2.3"}[tag]

    assert dicom_source(scan) is None
    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    scan.SetAttribute("DICOM.instanceUIDs", "7 8")
    found = dicom_source(scan)
    assert found is not None
    assert (found.path, found.series_uid) == ("/database", "1.2.3")
