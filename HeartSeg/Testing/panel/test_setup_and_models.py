"""The sections *Installation*, *Before the run* and *Models*: real scene, strict stand-ins for the widgets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.models.download import FOLDER
from heartseg.needs import LIGHT, RUNTIMES, TORCH, Missing
from panel.driver import Driver
from tiny_models import add_to_zip, make_tiny_model_folder, zip_folder
from web_sites import Site, serve


def section(driver: Driver, name: str) -> Any:
    return next(s for s in driver.panel._sections if s.name == name)


def hidden(widget: Any) -> bool:
    return widget.isHidden()


def texts(table: Any, column: int) -> list[str]:
    return [table.item(row, column).text() for row in range(table.rowCount)]


# --- Installation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(user: Driver, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A Slicer in which the panel does not find a package that runs the network; torch is chosen."""
    missing = [Missing(package) for package in RUNTIMES]
    monkeypatch.setattr("heartseg.panel.dependencies.missing_packages", lambda *_, **__: tuple(missing))
    setup = section(user, "Setup")
    monkeypatch.setattr(f"{type(setup).__module__}.missing_runtimes", lambda *_: tuple(missing))
    user.missing = missing
    setup.ui.runtimeComboBox.setCurrentIndex(RUNTIMES.index(TORCH))
    setup.look()
    user.panel.refresh()
    return user


class Installs:
    """An installer for these tests."""

    def __init__(self, driver: Any, ends: BaseException | bool = True) -> None:
        self.driver, self.ends, self.called, self.light = driver, ends, 0, False

    def obstacle(self, missing: Any) -> str:
        return ""

    def unreachable(self) -> str:
        return ""

    def lacks_extension(self, missing: Any) -> bool:
        return False

    def install_torch(self, versions: str) -> bool:
        self.called += 1
        print("Collecting torch")
        if isinstance(self.ends, BaseException):
            print("ERROR: Could not find a version that satisfies the requirement torch")
            raise self.ends
        if self.ends:
            self.driver.missing.clear()
        return bool(self.ends)

    def install(self, requirements: Any) -> None:
        assert list(requirements) == [LIGHT.requirement]  # torch is never installed by pip
        self.light = True
        self.driver.missing.clear()


def test_nothing_is_shown_where_nothing_is_missing(user: Driver) -> None:
    setup = section(user, "Setup")
    assert hidden(setup.widget)
    assert setup.obstacle(user.panel.state) == ""


def test_missing_packages_are_explained(bare: Driver) -> None:
    setup = section(bare, "Setup")
    assert not hidden(setup.widget)
    assert "200 MB to 2.8 GB" in setup.ui.needsLabel.text


def test_from_a_bare_slicer_to_a_heart_in_two_clicks(bare: Driver) -> None:
    """If the PyTorch extension is installed: *Segment heart*, then *OK*."""
    setup, installer = section(bare, "Setup"), Installs(bare)
    setup.make_installer = lambda: installer
    assert bare.ui.segmentButton.enabled
    bare.press()  # the first click; the harness answers OK, which is the second one
    bare.wait()
    assert [kind for kind, _ in bare.session.messages] == ["question"]
    assert installer.called == 1
    assert bare.panel.state.result is not None, bare.error


def test_the_light_choice_is_installed_by_pip_and_segments(bare: Driver) -> None:
    setup, installer = section(bare, "Setup"), Installs(bare)
    setup.make_installer = lambda: installer
    box = setup.ui.runtimeComboBox
    assert [box.itemText(k) for k in range(box.count)] == ["GPU, torch", "CPU, 30 MB"]
    box.setCurrentIndex(RUNTIMES.index(LIGHT))
    assert "onnxruntime" in setup.ui.needsLabel.text and "14 MB to 28 MB" in setup.ui.needsLabel.text
    bare.press()
    bare.wait()
    (question,) = (text for kind, text in bare.session.messages if kind == "question")
    assert "onnxruntime" in question and "torch" not in question
    assert installer.light and not installer.called
    assert bare.panel.state.result is not None, bare.error


def test_without_the_extension_one_restart_more(bare: Driver) -> None:
    class WithoutExtension(Installs):
        extension = False

        def lacks_extension(self, missing: Any) -> bool:
            return not self.extension

        def install_extension(self) -> None:
            WithoutExtension.extension = True

    setup = section(bare, "Setup")
    setup.make_installer = lambda: WithoutExtension(bare)
    bare.press()
    (question,) = (text for kind, text in bare.session.messages if kind == "question")
    assert "extension PyTorch" in question and "restarted" in question
    assert WithoutExtension.extension
    assert not hidden(setup.ui.restartButton)
    assert bare.panel.state.result is None
    bare.press()
    assert "Restart Slicer" in bare.error


def test_every_obstacle_is_told_before_the_question(bare: Driver) -> None:
    class Hindered(Installs):
        def obstacle(self, missing: Any) -> str:
            return "the proxy wants a name and password (407)"

    section(bare, "Setup").make_installer = lambda: Hindered(bare)
    bare.press()
    assert bare.session.messages == []
    assert "407" in bare.error
    assert not bare.running


def test_no_network_is_used_before_the_user_agrees(bare: Driver) -> None:
    asked: list[str] = []

    class Unreachable(Installs):
        def unreachable(self) -> str:
            asked.append("network")
            return "the package server pypi.org cannot be reached"

    section(bare, "Setup").make_installer = lambda: Unreachable(bare)
    bare.session.answers.append(False)
    bare.press()
    assert asked == [] and not bare.error
    bare.press()
    assert asked == ["network"]
    assert "cannot be reached" in bare.error


@pytest.fixture
def only_light(user: Driver, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """ONNX Runtime is installed and torch is not; the installer of :class:`Installs` would bring it."""
    user.missing = [Missing(TORCH)]
    setup = section(user, "Setup")
    for module in (type(setup).__module__, "heartseg.panel.dependencies"):
        monkeypatch.setattr(
            f"{module}.missing_packages", lambda packages, *_: tuple(m for m in user.missing if m.package in packages)
        )
    monkeypatch.setattr(f"{type(setup).__module__}.missing_runtimes", lambda *_: ())
    setup.make_installer = lambda: Installs(user)
    return user


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)


def test_a_model_that_needs_torch_opens_the_installation_with_torch(
    only_light: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, user = section(only_light, "Setup"), only_light
    assert hidden(setup.widget)
    with monkeypatch.context() as context:
        without_torch(context)
        user.press()
        user.wait()
    assert "This model needs PyTorch" in user.error and "Installation" in user.error
    assert not hidden(setup.widget) and not setup.ui.setupSection.collapsed and hidden(setup.ui.runtimeComboBox)
    text = setup.ui.needsLabel.text
    assert (
        text.startswith("This model needs PyTorch")
        and "torch: runs the neural network" in text
        and "onnxruntime" not in text
    )
    assert user.session.messages == []
    setup.ui.installPackagesButton.click()
    ((kind, question),) = user.session.messages
    assert kind == "question" and "torch" in question
    assert hidden(setup.widget)
    assert user.run() is not None


def test_a_heat_map_without_torch_opens_it_too(only_light: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    user = only_light
    user.run()
    with monkeypatch.context() as context:
        without_torch(context)
        section(user, "Explain").ui.explainButton.click()
        user.wait()
    assert "A heat map needs PyTorch" in user.error
    assert not hidden(section(user, "Setup").widget)
    assert "torch" in section(user, "Setup").ui.needsLabel.text


def test_a_torch_that_cannot_be_imported_is_installed_again(bare: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    from heartseg.needs import PackageNeeded

    broken = list(bare.missing)
    bare.missing.clear()
    setup = section(bare, "Setup")
    setup.look()

    def fail(model: str, settings: Any) -> Any:
        bare.missing.extend(broken)
        why = "libcudnn.so.9: cannot open shared object file"
        raise PackageNeeded(f"torch is installed but cannot be imported ({why})", "torch", why, "install it again")

    make = bare.panel.warm._make
    bare.panel.warm.forget()
    bare.panel.warm._make = fail
    bare.press()
    bare.wait()
    assert "libcudnn" in bare.error
    assert setup.missing
    bare.panel.warm._make = make
    setup.make_installer = lambda: Installs(bare)
    bare.press()
    bare.wait()
    assert bare.panel.state.result is not None, bare.error


def test_what_is_agreed_to_once_is_installed_and_the_run_is_free(bare: Driver) -> None:
    setup, installer = section(bare, "Setup"), Installs(bare)
    setup.make_installer = lambda: installer
    setup.ui.installPackagesButton.click()
    questions = [text for kind, text in bare.session.messages if kind == "question"]
    assert len(questions) == 1
    assert "torch" in questions[0]
    assert installer.called == 1
    assert hidden(setup.widget)
    assert hidden(setup.ui.installProgressBar)
    assert bare.status == "Installed: torch."
    assert "Collecting torch" in bare.ui.logText.plainText
    assert bare.ui.segmentButton.enabled


def test_a_refusal_installs_nothing(bare: Driver) -> None:
    setup, installer = section(bare, "Setup"), Installs(bare)
    setup.make_installer = lambda: installer
    bare.session.answers.append(False)
    setup.ui.installPackagesButton.click()
    assert installer.called == 0
    assert bare.status == "Nothing was installed."
    assert not hidden(setup.widget)
    assert bare.error == ""


def test_a_refusal_on_the_way_is_no_error(bare: Driver) -> None:
    setup = section(bare, "Setup")
    setup.make_installer = lambda: Installs(bare, False)
    setup.ui.installPackagesButton.click()
    assert bare.status == "Nothing more was installed."
    assert bare.error == ""
    assert setup.ui.installPackagesButton.enabled


@pytest.mark.parametrize("ends", [subprocess.CalledProcessError(1, "ltt"), OSError("disk")])
def test_a_failure_shows_the_installers_last_lines_and_can_be_tried_again(
    bare: Driver, ends: subprocess.CalledProcessError | OSError
) -> None:
    setup = section(bare, "Setup")
    setup.make_installer = lambda: Installs(bare, ends)
    setup.ui.installPackagesButton.click()
    assert "orch could not be installed" in bare.error
    assert "ERROR: Could not find a version" in setup.ui.installLogText.plainText
    assert not hidden(setup.ui.installLogText)
    setup.make_installer = lambda: Installs(bare)
    setup.ui.installPackagesButton.click()
    assert hidden(setup.widget)


def test_a_restart_is_asked_for_where_it_is_needed(bare: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = section(bare, "Setup")
    monkeypatch.setattr("heartseg.panel.dependencies._restart_reason", lambda before: "Restart Slicer: torch changed.")
    setup.make_installer = lambda: Installs(bare)
    setup.ui.installPackagesButton.click()
    assert not hidden(setup.ui.restartButton)
    assert bare.ui.segmentButton.toolTip == "Restart Slicer: torch changed."
    bare.session.answers.append(False)
    setup.ui.restartButton.click()
    assert "Unsaved changes" in bare.session.messages[-1][1]
    assert ("restart", "") not in bare.session.messages
    setup.ui.restartButton.click()
    assert ("restart", "") in bare.session.messages


def test_the_installation_is_checked_and_the_report_copied(user: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    from heartseg import doctor

    monkeypatch.setattr(doctor, "_self_test", lambda reporter: ([("run", "1.0 s")], []))
    help_ = section(user, "Help")
    assert not help_.ui.copyInstallationButton.enabled
    help_.ui.checkInstallationButton.click()
    user.wait()
    report = help_.ui.installationText.plainText
    assert report.startswith("HeartSeg ")
    assert not help_.ui.helpSection.collapsed
    assert "Tiny" in report
    help_.ui.copyInstallationButton.click()
    assert slicer.app.clipboard().text() == report


# --- Before the run ---------------------------------------------------------------------------------------------------


def settled(driver: Driver) -> Any:
    """Return the section after the worker has checked the voxels."""
    before = section(driver, "Preflight")
    driver.session.wait_until(lambda: "field-of-view-small" in codes(before), 120)
    return before


def codes(before: Any) -> list[str]:
    return [c.code for c in before.checks]


def test_the_checks_of_the_chosen_scan_appear_before_the_run(user: Driver) -> None:
    before = settled(user)
    assert "field-of-view-small" in codes(before)
    assert before.ui.preflightLabel.text == "Read these warnings before the run."
    assert texts(before.ui.checksTable, 1) == [c.message for c in before.checks]
    assert user.ui.segmentButton.enabled


def test_a_full_disk_is_told_before_the_run(user: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heartseg.panel.checks.free_for_temporary_files", lambda: 1_000_000)
    user.parameters.accurate = not user.parameters.accurate  # triggers new checks
    before = section(user, "Preflight")
    user.session.wait_until(lambda: "disk-nearly-full" in codes(before), 120)
    (told,) = (c for c in before.checks if c.code == "disk-nearly-full")
    assert told.message.startswith("1 MB are free")


def test_the_buttons_say_what_the_fixes_are_called() -> None:
    from heartseg.panel.before_run import button_text
    from heartseg.preflight import FIXES

    assert {fix: button_text(fix) for fix in FIXES} == FIXES
    assert button_text("") == "Nothing to fix"


@pytest.mark.parametrize(("button", "modality"), [("fixButton", "MR"), ("otherFixButton", "CT")])
def test_saying_what_the_scan_is_mends_the_row(user: Driver, scan: Any, button: str, modality: str) -> None:
    before = settled(user)
    row = codes(before).index("modality-not-said")
    before.ui.checksTable.selectRow(row)
    assert before.ui.fixButton.text == "It is MR"
    assert before.ui.otherFixButton.visible and before.ui.otherFixButton.text == "It is CT"
    getattr(before.ui, button).click()
    assert scan.GetAttribute("DICOM.Modality") == modality
    user.session.wait_until(lambda: "modality-not-said" not in codes(before), 120)
    assert not before.ui.otherFixButton.visible


def test_a_stretching_transform_is_applied_to_a_copy(user: Driver, scan: Any) -> None:
    import slicer

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([2.0, 1.0, 1.0, 1.0])))
    scan.SetAndObserveTransformNodeID(transform.GetID())
    user.panel.refresh()
    before = section(user, "Preflight")
    user.session.wait_until(lambda: "transform-scaling" in codes(before), 120)
    before.ui.checksTable.selectRow(codes(before).index("transform-scaling"))
    before.ui.fixButton.click()
    copy = user.parameters.inputVolume
    assert copy is not scan
    assert copy.GetParentTransformNode() is None
    assert copy.GetSpacing() == pytest.approx((6.0, 3.0, 3.0))
    assert scan.GetParentTransformNode() is transform
    assert scan.GetSpacing() == pytest.approx((3.0, 3.0, 3.0))


def test_a_bending_transform_is_recognised_and_applied_to_a_copy(user: Driver, scan: Any) -> None:
    import slicer
    import vtk

    spline = vtk.vtkThinPlateSplineTransform()
    points = [vtk.vtkPoints(), vtk.vtkPoints()]
    for k, moved in enumerate((0.0, 5.0)):
        for corner in ((0, 0, 0), (-75, 0, 0), (0, -75, 0), (0, 0, 75), (-40, -40, 40)):
            points[k].InsertNextPoint(corner[0] + (moved if corner[0] == -40 else 0), corner[1], corner[2])
    spline.SetSourceLandmarks(points[0])
    spline.SetTargetLandmarks(points[1])
    spline.SetBasisToR()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(spline)
    scan.SetAndObserveTransformNodeID(transform.GetID())
    user.panel.refresh()
    before = section(user, "Preflight")
    user.session.wait_until(lambda: "transform-nonlinear" in codes(before), 120)
    old = slicer.util.arrayFromVolume(scan).copy()
    before.ui.checksTable.selectRow(codes(before).index("transform-nonlinear"))
    before.ui.fixButton.click()
    copy = user.parameters.inputVolume
    assert copy is not scan
    assert not np.array_equal(slicer.util.arrayFromVolume(copy), old)
    assert np.array_equal(slicer.util.arrayFromVolume(scan), old)


def test_a_2d_image_keeps_a_run_from_starting_and_says_why(user: Driver) -> None:
    import slicer

    flat = slicer.util.addVolumeFromArray(np.zeros((1, 64, 64), np.int16), name="picture")
    user.parameters.inputVolume = flat
    user.panel.refresh()
    before = section(user, "Preflight")
    assert codes(before) == ["image-2d"]
    user.panel.refresh()
    assert "is a 2D image (64x64x1)" in user.ui.segmentButton.toolTip
    user.press()
    assert not user.running
    assert "is a 2D image (64x64x1)" in user.error


def test_the_heart_is_looked_for_when_asked(user: Driver) -> None:
    before = settled(user)
    before.ui.lookForHeartButton.click()
    user.wait()
    assert user.status == "This model segments the whole scan and has no finder."


# --- Models -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(user: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An initially empty model folder for this test."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "models"
    monkeypatch.setenv("HEARTSEG_MODELS", str(folder))
    section(user, "Models").reload()
    user.panel.models.reload()
    return folder


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with uninformative labels, as a zip file of more than a megabyte."""
    path = tmp_path_factory.mktemp("zip")
    labels = ("LV", "label_600", "bone")
    make_tiny_model_folder(path / "heart", labels=labels, features=(4, 8), full_checkpoint=False)
    add_to_zip(zip_folder(path / "heart", path / "heart.zip"), "README.md", bytes(range(256)) * 4000)
    return path / "heart.zip"


def install(driver: Driver, source: object, sha256: str = "", name: str = "") -> Any:
    models = section(driver, "Models")
    models.ui.sourceEdit.text = str(source)
    models.ui.sha256Edit.text, models.ui.modelNameEdit.text = sha256, name
    models.ui.installModelButton.click()
    return models


def test_the_shipped_model_is_listed_and_cannot_be_removed(user: Driver, store: Path) -> None:
    models = section(user, "Models")
    assert texts(models.ui.modelsTable, 0) == ["HeartSeg-Default"]
    assert "MB" in texts(models.ui.modelsTable, 3)[0]
    assert "Apache-2.0" in texts(models.ui.modelsTable, 4)[0]
    assert "Tested: Dice 0." in models.ui.modelDetailsLabel.text
    assert not models.ui.removeModelButton.enabled
    assert models.ui.removeModelButton.toolTip == "This model came with HeartSeg and stays."


def test_a_model_is_installed_from_a_file_mapped_and_removed(user: Driver, store: Path, zipped: Path) -> None:
    models = install(user, zipped, name="Mine")
    user.wait()
    assert not user.error, user.error
    assert models.chosen.name == "Mine"
    assert "Not verified" in user.status
    assert user.ui.modelComboBox.findText("Mine") >= 0
    models.ui.mapLabelsButton.click()
    assert texts(models.ui.labelsTable, 1) == ["LV", "label_600", "bone"]
    assert [b.currentIndex for b in models._boxes] == [1, 0, 0]
    models.ui.suggestLabelsButton.click()
    assert [b.currentText.partition(" ")[0] for b in models._boxes] == ["LV", "RV", "background"]
    models.ui.keepLabelsButton.click()
    assert models.chosen.structures == ("LV", "RV")
    assert hidden(models.ui.labelsFrame)
    user.session.answers.append(False)
    models.ui.removeModelButton.click()
    assert (store / "Mine").is_dir()
    models.ui.removeModelButton.click()
    assert not (store / "Mine").exists()
    assert texts(models.ui.modelsTable, 0) == ["HeartSeg-Default"]


def test_a_map_without_any_structure_is_refused(user: Driver, store: Path, zipped: Path) -> None:
    models = install(user, zipped, name="Mine")
    user.wait()
    models.ui.mapLabelsButton.click()
    for box in models._boxes:
        box.currentIndex = 0
    models.ui.keepLabelsButton.click()
    assert "has no structure yet" in user.error
    assert models.chosen.structures == ("LV",)


def test_a_wrong_hash_installs_nothing(user: Driver, store: Path, zipped: Path) -> None:
    install(user, zipped, sha256="0" * 64)
    user.wait()
    assert "SHA-256" in user.error
    assert not list(store.glob("*"))


def test_a_zip_slip_installs_nothing(user: Driver, store: Path, zipped: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_bytes(zipped.read_bytes())
    install(user, add_to_zip(bad, "../../evil.txt"))
    user.wait()
    assert "../../evil.txt" in user.error
    assert not list(store.glob("*"))
    assert not list(tmp_path.rglob("evil*"))


def test_a_download_is_cancelled_and_goes_on_where_it_ended(user: Driver, store: Path, zipped: Path) -> None:
    content = zipped.read_bytes()
    with serve(Site(content, hang_at=300_000)) as site:
        models = install(user, site.url, name="Mine")
        part = store / FOLDER
        user.session.wait_until(lambda: any(p.stat().st_size >= 300_000 for p in part.rglob("*.part")), 120)
        assert user.running
        assert user.ui.segmentButton.text == "Cancel"
        user.press()
        user.wait()
        assert user.status == "Stopped. Install again to resume the download."
        assert [p.name for p in part.rglob("download.part")] == ["download.part"]
        assert texts(models.ui.modelsTable, 0) == ["HeartSeg-Default"]
        site.hang_at = None
        install(user, site.url, name="Mine")
        user.wait()
        assert not user.error, user.error
        assert site.requests[-1]["range"] == "bytes=300000-"
    assert models.chosen.name == "Mine"
    assert not part.exists()


def test_a_download_that_was_cut_tells_what_is_kept_and_can_be_deleted(user: Driver, store: Path, zipped: Path) -> None:
    with serve(Site(zipped.read_bytes(), cut_after=[300_000])) as site:
        site.statuses = []
        models = section(user, "Models")
        assert not models.ui.forgetDownloadButton.enabled
        site.cut_after = [300_000, 0, 0, 0, 0]
        from heartseg.models import download

        quick = download.Rules(attempts=2, pause_s=0.01)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(download, "Rules", lambda: quick)
            install(user, site.url)
            user.wait()
        assert "0.3 of 1.0 MB" in user.error
        models.ui.forgetDownloadButton.click()
        assert user.status == "Deleted."
        assert not (store / FOLDER).exists() or not list((store / FOLDER).rglob("*.part"))


def test_an_address_that_is_not_encrypted_is_refused_in_one_line(user: Driver, store: Path) -> None:
    install(user, "http://models.example/heart.zip")
    user.wait()
    assert "is not encrypted (http)" in user.error
