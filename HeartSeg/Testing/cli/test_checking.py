"""``heartseg check``, ``heartseg segment --check-only`` and ``heartseg doctor``."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from command_lines import tree
from conftest import ROOT

if TYPE_CHECKING:
    from cli.conftest import Outcome


def test_a_good_scan_can_be_segmented(
    heartseg: Callable[..., Outcome], save_scan: Callable[..., Path], tiny_model: Path
) -> None:
    outcome = heartseg("check", save_scan(), "--model", tiny_model, "--modality", "MR")
    assert outcome.code == 0, outcome
    assert outcome.out.splitlines()[-1] == "The scan can be segmented."


def test_a_time_series_is_refused_with_the_way_out(
    heartseg: Callable[..., Outcome], save_series: Callable[..., Path], tiny_model: Path
) -> None:
    outcome = heartseg("check", save_series(), "--model", tiny_model)
    assert outcome.code == 2
    assert "error   'cine.nrrd' is a time series of 3 frames: choose one" in outcome.out
    assert "--frame N" in outcome.out and "--frame all" in outcome.out
    assert heartseg("check", save_series(), "--frame", 1, "--model", tiny_model, "--quick").code == 0


def test_a_file_that_cannot_be_read_is_one_of_the_checks(
    heartseg: Callable[..., Outcome], tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"no image")
    outcome = heartseg("check", tmp_path / "scan.nii.gz", "--model", tiny_model, "--json")
    assert outcome.code == 2
    told = json.loads(outcome.out)
    assert (told["ready"], told["checks"][0]["code"]) == (False, "scan-refused")
    assert heartseg("check", tmp_path / "nothing.nii", "--model", tiny_model).code == 2


def test_segment_can_only_check_and_writes_nothing(
    heartseg: Callable[..., Outcome], save_scan: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    path = save_scan()
    before = tree(tmp_path)
    outcome = heartseg("segment", path, "-o", tmp_path / "out", "--check-only", "--model", tiny_model)
    assert outcome.code == 0
    assert "The scan can be segmented." in outcome.out
    assert tree(tmp_path) == before


def test_only_one_scan_is_checked_at_a_time(
    heartseg: Callable[..., Outcome], save_series: Callable[..., Path], tmp_path: Path
) -> None:
    outcome = heartseg("segment", save_series(), "-o", tmp_path / "out", "--frame", "all", "--check-only")
    assert outcome.code == 2
    assert "--check-only" in outcome.err


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a connection is opened."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_doctor_runs_the_shipped_model_without_any_network(
    heartseg: Callable[..., Outcome],
    shipped_model: Path,
    no_network: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEARTSEG_MODELS", str(tmp_path / "models"))
    outcome = heartseg("doctor", "--json")
    told = json.loads(outcome.out)
    assert told["problems"] == []
    assert outcome.code == 0
    assert " s for one window on cpu" in told["sections"]["Self-test"]["run"]
    assert "4 file hashes" in told["sections"]["Models"]["HeartSeg-Default"]


def test_the_doctor_tells_what_to_mend_in_its_last_lines(
    heartseg: Callable[..., Outcome], shipped_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    monkeypatch.setenv("HEARTSEG_MODELS", str(tmp_path / "models"))
    broken = tmp_path / "found" / "Broken"
    broken.mkdir(parents=True)
    (broken / "heartseg.json").write_text("{")
    monkeypatch.setattr("heartseg.models.store.shipped_folders", lambda: (tmp_path / "found",))
    outcome = heartseg("doctor", "--no-self-test")
    assert outcome.code == 1
    problems = outcome.out.rpartition("\n\n")[2]
    assert "'Broken'" in problems
    assert str(tmp_path.parent) not in outcome.out


def test_the_test_volume_is_what_reading_would_accept() -> None:
    from heartseg.doctor import tiny_volume
    from heartseg.volume.checks import check_volume

    volume = check_volume(tiny_volume())
    assert volume.findings == ()
    assert np.allclose(volume.geometry.center(), 0)
    assert (ROOT / "HeartSeg").is_dir()
