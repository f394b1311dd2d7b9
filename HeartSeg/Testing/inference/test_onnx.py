"""Which package runs a network; ONNX Runtime and OpenVINO on the graph, stopped within a tile."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from heartseg.devices import CPU, Device, choose_precision, choose_runtime
from heartseg.errors import Cancelled, DependencyError, DeviceError, ModelError, SettingsError
from heartseg.inference.engine import Engine
from heartseg.inference.onnx_backend import onnx_predictor
from heartseg.inference.openvino_backend import openvino_predictor
from heartseg.inference.tiles import Predictor
from heartseg.models.folder import ModelFolder
from heartseg.models.graph import load_graph, with_weights
from heartseg.settings import Settings


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let packages look as if they were not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heartseg.devices.has_graphics_card", lambda: False)


@pytest.mark.usefixtures("no_card")
def test_auto_takes_the_fastest_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for hidden, backend in ((), "openvino"), (("openvino",), "onnx"), (("openvino", "onnxruntime"), "torch"):
        hide(monkeypatch, *hidden)
        assert choose_runtime("auto", "auto") == choose_runtime("auto", "cpu") == (backend, CPU)
    assert choose_runtime("torch", "cpu") == ("torch", CPU)


def test_auto_takes_torch_for_a_card_and_for_a_model_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heartseg.devices.has_graphics_card", lambda: True)
    with monkeypatch.context() as patch:  # no card is here
        patch.setattr("heartseg.devices.choose_device", lambda *_: Device("cuda", 0))
        assert choose_runtime("auto", "auto") == ("torch", Device("cuda", 0))
        assert choose_runtime("auto", "cpu", "") == ("openvino", CPU)
        assert choose_runtime("auto", "auto", "model 'm' (it is 2D)")[0] == "torch"
    hide(monkeypatch, "torch")  # a card of no use
    assert choose_runtime("auto", "auto") == ("openvino", CPU)
    with pytest.raises(DependencyError, match="'m'"):
        choose_runtime("auto", "auto", "model 'm' (it is 2D)")
    with pytest.raises(DeviceError, match="PyTorch"):
        choose_runtime("auto", "cuda")


@pytest.mark.usefixtures("no_card")
def test_without_any_the_error_names_the_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "torch", "onnxruntime", "openvino")
    with pytest.raises(DependencyError, match=r"pip install torch.*heartseg\[light\]") as error:
        choose_runtime("auto", "auto")
    assert "\n" not in str(error.value)
    for backend, extra in ("onnx", "light"), ("openvino", "openvino"):
        with pytest.raises(DependencyError, match=rf"heartseg\[{extra}\]"):
            choose_runtime(backend, "auto")


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


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_graphics_card_is_refused(backend: str, device: str) -> None:
    with pytest.raises(DeviceError, match=device):
        choose_runtime(backend, device)


def test_a_graph_with_its_weights_inside_gives_the_values_of_onnx_runtime(default_model: Path) -> None:
    (network,) = load_graph(ModelFolder.open(default_model / "finder")).networks
    tile = np.random.default_rng(0).normal(size=(1, 1, 64, 64, 64)).astype(np.float32)
    whole = with_weights(network)
    assert len(whole) > sum(w.nbytes for w in network.weights.values())
    wanted = onnx_predictor(network, lambda: None, 1)(tile)
    itself = onnxruntime.InferenceSession(whole, providers=["CPUExecutionProvider"])
    assert np.array_equal(itself.run(None, {itself.get_inputs()[0].name: tile})[0], wanted)
    found = openvino_predictor(network, (1, 64, 64, 64), "float32", lambda: None, 1)(tile)
    assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()


def test_openvino_says_that_it_refuses_a_graph(default_model: Path) -> None:
    (network,) = load_graph(ModelFolder.open(default_model / "finder")).networks
    with pytest.raises(ModelError, match="refuses the graph") as error:
        openvino_predictor(
            replace(network, graph=network.graph.replace(b"LeakyRelu", b"NoSuchRel")),
            (1, 64, 64, 64),
            "float32",
            lambda: None,
            1,
        )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_cancel_stops_within_a_tile(default_model: Path, backend: str) -> None:
    (network,) = load_graph(ModelFolder.open(default_model)).networks
    tile = np.random.default_rng(0).normal(size=(1, 1, 128, 128, 128)).astype(np.float32)

    def predictor(check: Callable[[], None]) -> Predictor:
        if backend == "onnx":
            return onnx_predictor(network, check, 1)
        return openvino_predictor(network, tile.shape[1:], "float32", check, 1)

    def cancel() -> None:
        raise Cancelled("stop")

    run = predictor(lambda: None)
    started = time.process_time()
    run(tile)
    whole = time.process_time() - started
    run = predictor(cancel)
    started = time.process_time()
    with pytest.raises(Cancelled):
        run(tile)
    assert time.process_time() - started < 0.6 * whole  # ends with the layer; the largest takes a quarter


@pytest.mark.parametrize("has", [True, False])
def test_openvino_computes_in_bfloat16_where_the_processor_does(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr("heartseg.devices._has_bfloat16", lambda: has)
    assert choose_precision(CPU, "auto", "openvino") == ("bfloat16" if has else "float32")
    assert choose_precision(CPU, "half", "openvino") == choose_precision(CPU, "half", "torch") == "bfloat16"
    exact = [("auto", "torch"), ("auto", "onnx"), ("half", "onnx"), ("float32", "openvino")]
    assert {choose_precision(CPU, *wish) for wish in exact} == {"float32"}
    assert choose_precision(Device("cuda"), "auto", "torch") == "float16"
