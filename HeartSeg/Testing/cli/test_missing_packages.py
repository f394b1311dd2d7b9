"""The message for a missing package names it and the command that installs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from heartseg.cli.main import main


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, one_process: None) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "torch" or n.startswith("heartseg.inference")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("torch", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)


def test_segmenting_names_both_packages_that_would_do(
    bare: None, sample_scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(sample_scan), "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "pip install torch" in told and "heartseg[light]" in told
    assert not (tmp_path / "out").exists()


def test_checking_reports_it_as_a_finding(bare: None, sample_scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(sample_scan), "--modality", "CT", "--json"]) == 2
    assert '"packages-missing"' in capsys.readouterr().out
