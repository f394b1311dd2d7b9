"""The installation report: its content, and the absence of personal data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heartseg import doctor, speed
from heartseg.doctor import InstallationReport, anonymous, check_installation
from heartseg.errors import Cancelled
from heartseg.needs import RUNTIMES, Missing, preferred_runtime
from heartseg.progress import CancelToken, Reporter
from heartseg.speed import least_dice


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with the name of a person, which must not appear in the report."""
    folder = tmp_path / "home" / "maria.musterfrau"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("HEARTSEG_MODELS", str(folder / "models"))
    return folder


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/data/maria.musterfrau/models", "…/models"),
        ("'/mnt/clinic/patients/Tiny' cannot be used", "'…/Tiny' cannot be used"),
        (r"D:\clinic\maria\models: 3 GB", r"…\models: 3 GB"),
        (r"\\server\maria\models", r"…\models"),
        ("512 x 512 and 3/4", "512 x 512 and 3/4"),
        ("https://github.com/x", "https://github.com/x"),
    ],
)
def test_only_the_last_part_of_paths_is_kept(path: str, shown: str) -> None:
    assert anonymous(path) == shown


def test_the_home_folder_becomes_a_tilde(home: Path) -> None:
    assert anonymous(f"models in '{home}/heartseg/models'") == "models in '~/heartseg/models'"


def test_the_report_contains_no_names_hosts_or_paths(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "http://maria:secret@proxy.clinic.example:3128")
    (home / "models" / "Broken").mkdir(parents=True)
    (home / "models" / "Broken" / "heartseg.json").write_text("{")
    report = check_installation(self_test=False)
    for secret in ("musterfrau", "clinic.example", "secret", str(home.parent)):
        assert secret not in report.text
    network = dict(report.sections["Network"])
    assert network["HTTPS_PROXY"] == "set"
    assert "https" in network["proxies for"]
    assert any("'Broken'" in problem for problem in report.problems)


def test_the_report_lists_versions_devices_models_and_folders(home: Path) -> None:
    report = check_installation(self_test=False)
    assert list(report.sections) == ["System", "Packages", "Devices", "Models", "Folders", "Network"]
    assert dict(report.sections["Packages"])["torch"][0].isdigit()
    assert dict(report.sections["Devices"])["cpu threads"].isdigit()
    assert "4 file hashes" in dict(report.sections["Models"])["HeartSeg-Default"]
    assert "~/models: " in report.text
    assert report.problems == ()


def test_a_damaged_model_is_reported(home: Path, default_model: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(default_model, home / "models" / "Copy"))
    with (copy / "fold_0" / "checkpoint_final.pth").open("ab") as file:
        file.write(b"x")
    report = check_installation(self_test=False)
    assert any("'Copy'" in p and "checkpoint_final.pth" in p for p in report.problems)
    assert "damaged" in dict(report.sections["Models"])["Copy"]


def test_missing_packages_are_reported_and_the_self_test_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "missing_runtimes", lambda: tuple(Missing(p) for p in RUNTIMES))
    report = check_installation()
    assert [p for p in report.problems if preferred_runtime().name in p] == list(report.problems)
    assert list(dict(report.sections["Self-test"])) == ["run"]


def test_a_full_disk_and_an_unwritable_folder_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_disk", lambda folder: (10**8, "models" in str(folder)))
    report = check_installation(self_test=False)
    assert any("0.1 GB" in p and "models" in p for p in report.problems)
    assert any("temporary files" in p and "TMPDIR" in p for p in report.problems)


def test_a_failing_check_does_not_prevent_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("driver mismatch in /home/someone/secret/file")

    monkeypatch.setattr(doctor, "_devices", broken)
    report = check_installation(self_test=False)
    assert "driver mismatch" in report.text
    assert "someone" not in report.text
    assert "Folders" in report.sections


def test_the_check_can_be_cancelled() -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        check_installation(Reporter(cancel=token))


def test_problems_are_at_the_end_of_the_report() -> None:
    assert InstallationReport(problems=("the disk is full",)).text.splitlines()[-1].endswith("the disk is full")


def test_the_speed_of_each_installed_way_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_WAYS", tuple(w for w in speed._WAYS if (w.device, w.backend) != ("cpu", "torch")))
    rows = dict(check_installation(self_test=False, speed=True).sections["Speed"])
    seconds = {name: float(text.split(" s,")[0]) for name, text in rows.items() if "," in name}
    assert [name.split(", ")[0] for name in seconds][:2] == ["onnx", "openvino"]
    assert all(0 < value < 600 for value in seconds.values())
    exact = {name: value for name, value in seconds.items() if "bfloat16" not in name}
    assert min(exact, key=lambda name: exact[name]).split(", ")[0] in rows["fastest"]
    assert "labels" in rows  # not compared on the small volume


def test_the_structure_that_differs_most_is_named() -> None:
    reference = np.repeat(np.array([0, 1, 1, 7], np.uint8), 100)
    labels = reference.copy()
    assert least_dice(labels, reference) == (0, 1.0)
    labels[100:110] = 0  # LV: 190 of 200 voxels; Dice 2 * 190 / 390
    labels[390:] = 1  # PA: 90 of 100; Dice 2 * 90 / 190
    value, dice = least_dice(labels, reference)
    assert value == 7 and dice == pytest.approx(180 / 190)
