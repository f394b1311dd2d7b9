"""The network as an ONNX graph without weights: it belongs to the plans, and hostile graphs are refused."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import export_graph
import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from heartseg.errors import ModelError
from heartseg.findings import Severity
from heartseg.inference.onnx_backend import onnx_predictor
from heartseg.models.checking import check_model
from heartseg.models.folder import ModelFolder
from heartseg.models.graph import load_graph, read_initializers
from heartseg.models.loading import load_model
from tiny_models import MODEL_FOLDER_NAME, make_tiny_model_folder


@pytest.fixture
def graphed(carded: Path) -> ModelFolder:
    """A tiny model with a graph and its hash."""
    export_graph.export(ModelFolder.open(carded))
    return ModelFolder.open(carded)


def test_the_shipped_graphs_are_those_of_the_plans(default_model: Path) -> None:
    folder = ModelFolder.open(default_model)
    for part in (folder, folder.open_finder()):
        assert onnx.load_from_string(part.graph.read_bytes()) == onnx.load_from_string(export_graph.serialised(part))
        assert part.sha256(part.graph)
        assert part.needs_torch == ""


def test_the_shipped_graphs_hold_no_numbers_and_name_all_weights_of_the_network(default_model: Path) -> None:
    folder = ModelFolder.open(default_model)
    assert folder.graph.stat().st_size < 25_000
    (network,) = load_model(folder).networks
    used = {id(p) for name, p in network.named_parameters() if not name.startswith("decoder.seg_layers.")}
    loaded = load_graph(folder)
    by_name = dict(network.named_parameters(remove_duplicate=False))
    weights = loaded.networks[0].weights
    assert used <= {id(by_name[name]) for name in weights}
    for name, weight in weights.items():
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight, by_name[name])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"folds": (0, 1), "half": True},
        {"anisotropic": True, "spacing": (4.0, 1.0, 1.0), "patch": (16, 32, 32), "mirroring_axes": (1, 2)},
    ],
    ids=["plain", "two folds in half precision", "anisotropic"],
)
def test_a_graph_computes_what_the_network_of_torch_does(tmp_path: Path, options: dict) -> None:
    path = make_tiny_model_folder(tmp_path / MODEL_FOLDER_NAME, full_checkpoint=False, **options)
    export_graph.export(ModelFolder.open(path))
    folder = ModelFolder.open(path)
    model, graph = load_model(folder), load_graph(folder)
    assert graph.mirroring_axes == model.mirroring_axes
    image = np.random.default_rng(0).normal(size=(2, 1, *folder.patch_size)).astype(np.float32)
    for ours, network in zip(graph.networks, model.networks, strict=True):
        with torch.inference_mode():
            wanted = network(torch.from_numpy(image)).numpy()
        found = onnx_predictor(ours, lambda: None, 1)(image)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_a_checkpoint_with_more_than_weights_gets_no_graph(cardless: Path) -> None:
    folder = ModelFolder.open(cardless)
    with pytest.raises(ModelError, match="refused because it contains"):
        export_graph.export(folder)
    assert not folder.graph.exists()


def test_a_layer_without_a_counterpart_is_named() -> None:
    with pytest.raises(SystemExit, match="Softplus"):
        export_graph.graph_of(torch.nn.Sequential(torch.nn.Softplus()), (4, 4, 4), (1, 1))


def test_a_sum_of_two_ways_is_kept() -> None:
    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv3d(1, 1, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) + x

    graph = export_graph.graph_of(Residual(), (4, 4, 4), (1, 1))
    assert [node.op_type for node in graph.graph.node] == ["Conv", "Add"]
    assert set(read_initializers(graph.SerializeToString())) == {"conv.weight", "conv.bias"}


def test_a_changed_graph_is_refused_by_its_hash(graphed: ModelFolder) -> None:
    graphed.graph.write_bytes(graphed.graph.read_bytes() + b"\x08\x08")
    with pytest.raises(ModelError, match=r"network\.onnx' has SHA-256"):
        load_graph(graphed)


def test_weights_that_do_not_fit_the_graph_are_named(graphed: ModelFolder, default_model: Path) -> None:
    shutil.copy(default_model / "network.onnx", graphed.graph)
    with pytest.raises(ModelError, match=r"do not fit the network in network\.onnx \('encoder\.\S+' "):
        load_graph(replace(graphed, hashes={}))


def model_of(*nodes: onnx.NodeProto, weights: list[onnx.TensorProto] | None = None, **more: list) -> bytes:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph(list(nodes), "g", [value], [value], weights or [])
    return helper.make_model(graph, **more).SerializeToString()


def hostile_models() -> dict[str, bytes]:
    number = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [0.5])
    inner = helper.make_graph([], "inner", [], [])
    return {
        "numbers of its own": model_of(weights=[number]),
        "a loop": model_of(helper.make_node("Loop", [], ["y"], body=inner)),
        "an operation of another package": model_of(helper.make_node("Conv", ["x"], ["y"], domain="com.example")),
        "a constant": model_of(helper.make_node("Constant", [], ["y"], value=number)),
        "functions": model_of(
            functions=[helper.make_function("d", "f", ["x"], ["x"], [], [helper.make_opsetid("", 17)])]
        ),
        "no graph": b"\x08\x08",
        "cut off": model_of(helper.make_node("Add", ["x", "x"], ["y"]))[:-3],
        "a page": b"<html>404</html>",
        "a long number": b"\xff" * 40,
        "an integer for the graph": b"\x38\x01",
    }


@pytest.mark.parametrize("name", hostile_models())
def test_a_graph_with_anything_but_layers_is_refused(graphed: ModelFolder, name: str) -> None:
    graphed.graph.write_bytes(hostile_models()[name])
    with pytest.raises(ModelError, match=r"network\.onnx' is not a graph of a network") as error:
        load_graph(replace(graphed, hashes={}))
    assert "\n" not in str(error.value)


def test_a_graph_that_the_runtime_does_not_accept_is_one_line(graphed: ModelFolder) -> None:
    graphed.graph.write_bytes(model_of(helper.make_node("Concat", ["nothing"], ["y"], axis=0)))
    (network,) = load_graph(replace(graphed, hashes={})).networks
    with pytest.raises(ModelError, match="refuses the graph") as error:
        onnx_predictor(network, lambda: None, 1)
    assert "\n" not in str(error.value)


def test_a_model_is_checked_without_torch(graphed: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (found,) = (f for f in check_model(graphed.path) if f.code.startswith("model-") and "load" in f.message)
    assert (found.code, found.severity) == ("model-loads", Severity.INFO)
    assert found.values["networks"] == 1
    graphed.graph.unlink()
    assert [f.code for f in check_model(graphed.path) if f.severity is Severity.ERROR] == [
        "model-hash",
        "model-network",
    ]
