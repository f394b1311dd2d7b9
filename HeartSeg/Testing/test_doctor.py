"""The report on an installation: what it tells, and above all what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from heartseg import doctor
from heartseg.doctor import InstallationReport, anonymous, check_installation
from heartseg.errors import Cancelled
from heartseg.needs import PACKAGES, Missing
from heartseg.progress import CancelToken, Reporter


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A home folder of a person whose name must not be told."""
    folder = tmp_path / "home" / "maria.musterfrau"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("HEARTSEG_MODELS", str(folder / "models"))
    return folder


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/data/maria.musterfrau/models", "…/models"),
        ("'/mnt/clinic/patients/Tiny' cannot be used", "'…/Tiny' cannot be used"),
        (r"D:\clinic\maria\models: 3 GB", r"…\models: 3 GB"),
        (r"\\server\maria\models", r"…\models"),
        ("512 x 512 and 3/4", "512 x 512 and 3/4"),
        ("https://github.com/x", "https://github.com/x"),
    ],
)
def test_paths_lose_all_but_their_last_part(path, told):
    assert anonymous(path) == told


def test_the_home_folder_is_a_tilde(home):
    assert anonymous(f"models in '{home}/heartseg/models'") == "models in '~/heartseg/models'"


def test_the_report_tells_no_person_no_host_and_no_path(home, monkeypatch):
    for name in ("HTTPS_PROXY", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "http://maria:secret@proxy.clinic.example:3128")
    (home / "models" / "Broken").mkdir(parents=True)
    (home / "models" / "Broken" / "heartseg.json").write_text("{")
    report = check_installation(self_test=False)
    for secret in ("musterfrau", "clinic.example", "secret", str(home.parent)):
        assert secret not in report.text
    network = dict(report.sections["Network"])
    assert network["HTTPS_PROXY"] == "set"
    assert "https" in network["proxies in use for"]
    assert "model 'Broken' cannot be used" in report.text.partition("To mend")[2]


def test_it_tells_versions_devices_models_and_folders(home):
    report = check_installation(self_test=False)
    assert list(report.sections) == ["System", "Packages", "Devices", "Models", "Folders", "Network"]
    assert dict(report.sections["Packages"])["torch"][0].isdigit()
    assert dict(report.sections["Devices"])["cpu threads"].isdigit()
    assert "file hashes are right" in dict(report.sections["Models"])["HeartSeg-Default"]
    assert "~/models: " in report.text
    assert "can be written" in report.text
    assert report.text.splitlines()[-1] == "Nothing to mend"


def test_a_damaged_model_is_told(home, default_model):
    import shutil

    copy = Path(shutil.copytree(default_model, home / "models" / "Copy"))
    with (copy / "fold_0" / "checkpoint_final.pth").open("ab") as file:
        file.write(b"x")
    report = check_installation(self_test=False)
    assert any("model 'Copy' is damaged" in p for p in report.problems)
    assert "damaged" in dict(report.sections["Models"])["Copy"]


def test_missing_packages_are_told_and_the_self_test_is_left_out(monkeypatch):
    monkeypatch.setattr(doctor, "missing_packages", lambda: (Missing(PACKAGES[0]),))
    report = check_installation()
    assert any("a package is missing: torch" in p for p in report.problems)
    assert dict(report.sections["Self-test"])["run"] == "left out: packages are missing"


def test_a_full_disk_and_a_folder_that_cannot_be_written_are_told(monkeypatch):
    monkeypatch.setattr(doctor, "_disk", lambda folder: (10**8, "models" in str(folder)))
    report = check_installation(self_test=False)
    assert any("only 0.1 GB are free where models are kept" in p for p in report.problems)
    assert any("temporary files" in p and "cannot be written" in p for p in report.problems)


def test_what_breaks_while_looking_does_not_hide_the_rest(monkeypatch):
    def broken() -> None:
        raise RuntimeError("driver mismatch in /home/someone/secret/file")

    monkeypatch.setattr(doctor, "_devices", broken)
    report = check_installation(self_test=False)
    assert "driver mismatch" in report.text
    assert "someone" not in report.text
    assert "Folders" in report.sections


def test_it_can_be_cancelled():
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        check_installation(Reporter(cancel=token))


def test_an_empty_report_is_well():
    assert InstallationReport().text.endswith("Nothing to mend")
