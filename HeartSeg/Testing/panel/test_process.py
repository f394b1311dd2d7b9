"""Runs in a separate process: same result and progress; a cancel kills it, and the window survives a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from heartseg.panel import process
from panel.driver import Driver, Gate, node_ids


@pytest.fixture
def separate(user: Driver) -> Driver:
    user.parameters.separateProcess = True
    return user


@pytest.fixture
def children() -> Callable[[], list[psutil.Process]]:
    """Return the running processes started since then, without those of earlier tests."""

    def living() -> list[psutil.Process]:
        return [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]

    before = set(living())
    return lambda: [p for p in living() if p not in before]


def test_it_gives_the_same_result_as_a_run_in_this_process(
    user: Driver, children: Callable[[], list[psutil.Process]]
) -> None:
    user.run()
    here = user.panel.state.result
    user.parameters.separateProcess = True
    user.run()
    there = user.panel.state.result
    assert np.array_equal(here.labels, there.labels)
    assert here.measures == there.measures
    assert here.findings == there.findings
    assert here.structures == there.structures
    assert "segmenting" in user.ui.logText.plainText.rpartition("started")[2]
    assert children() == []


def test_a_package_that_it_lacks_is_offered(separate: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child tells which package its error is about."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    (tmp_path / "onnxruntime.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    separate.press()
    separate.wait()
    assert "needs PyTorch (No module named 'torch'): press Install" in separate.error


def test_a_cancel_kills_the_process_and_leaves_nothing_behind(
    separate: Driver, hold: Callable[..., Gate], children: Callable[[], list[psutil.Process]]
) -> None:
    before, gate = node_ids(), hold("predict")
    separate.press()
    separate.session.wait_until(gate.reached.is_set, 300)
    assert children()
    separate.press()
    gate.open()
    separate.wait()
    assert children() == []
    assert node_ids() == before
    assert separate.status == "Stopped. Nothing was changed."


def test_a_process_that_dies_is_told_and_the_next_run_works(
    separate: Driver, hold: Callable[..., Gate], children: Callable[[], list[psutil.Process]]
) -> None:
    gate = hold("predict")
    separate.press()
    separate.session.wait_until(gate.reached.is_set, 300)
    for child in children():
        os.kill(child.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    gate.open()
    separate.wait()
    assert "ended without an answer" in separate.error
    separate.parameters.separateProcess = False
    separate.run()
    assert not separate.error


def test_an_error_that_a_user_can_mend_stays_one_line(separate: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separate.panel, "settings", lambda: __import__("heartseg").Settings(device="cuda:99"))
    separate.press()
    separate.wait()
    assert separate.error.startswith("Device 'cuda:99' is not available")


def test_a_tree_of_processes_is_killed_to_the_last_child() -> None:
    code = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    family = psutil.Process(child.pid).children(recursive=True)
    assert family
    process.kill_tree(child)
    _gone, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
