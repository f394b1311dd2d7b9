"""The backend of ONNX Runtime: chosen where torch is missing, and stopped within a tile."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from heartseg.devices import CPU, choose_backend, run_device
from heartseg.errors import Cancelled, DependencyError, DeviceError, SettingsError
from heartseg.inference.engine import Engine
from heartseg.inference.onnx_backend import onnx_predictor
from heartseg.models.folder import ModelFolder
from heartseg.models.graph import load_graph
from heartseg.settings import Settings


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let packages look as if they were not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_auto_takes_torch_then_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend("auto") == "torch"
    hide(monkeypatch, "torch")
    assert choose_backend("auto") == "onnx"
    assert run_device("onnx", "auto") == CPU


def test_without_both_the_error_names_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "torch", "onnxruntime")
    with pytest.raises(DependencyError, match=r"pip install torch.*heartseg\[light\]") as error:
        choose_backend("auto")
    assert "\n" not in str(error.value)
    with pytest.raises(DependencyError, match=r"heartseg\[light\]"):
        choose_backend("onnx")


def test_a_model_without_a_graph_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, default_model: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(default_model, tmp_path / "model")
    (tmp_path / "model" / "network.onnx").unlink()
    folder = ModelFolder.open(tmp_path / "model")
    with pytest.raises(SettingsError, match=r"'HeartSeg-Default' \(it has no network\.onnx\) .* backend torch"):
        Engine(folder, Settings(backend="onnx"))
    hide(monkeypatch, "torch")
    with pytest.raises(DependencyError, match=r"'HeartSeg-Default' \(it has no network\.onnx\) needs PyTorch"):
        Engine(folder)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_graphics_card_is_refused(device: str) -> None:
    with pytest.raises(DeviceError, match=device):
        run_device("onnx", device)


def test_a_cancel_stops_within_a_tile(default_model: Path) -> None:
    (network,) = load_graph(ModelFolder.open(default_model)).networks
    tile = np.random.default_rng(0).normal(size=(1, 1, 128, 128, 128)).astype(np.float32)
    started = time.process_time()
    onnx_predictor(network, lambda: None, 1)(tile)
    whole = time.process_time() - started

    def cancel() -> None:
        raise Cancelled("stop")

    started = time.process_time()
    with pytest.raises(Cancelled):
        onnx_predictor(network, cancel, 1)(tile)
    assert time.process_time() - started < 0.6 * whole  # ends with the layer; the largest takes a quarter
