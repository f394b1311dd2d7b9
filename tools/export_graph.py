#!/usr/bin/env python
"""Write network.onnx into a model folder and its finder: the network as a graph, for ONNX Runtime, without weights.

    python tools/export_graph.py Models/HeartSeg-Default

The weights stay in the checkpoints; the graph has their names. Hashes in the cards (heartseg.json) are brought up to
date. Needs the package onnx.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper
from torch import fx, nn

from heartseg.hashes import sha256_of
from heartseg.models.card import CARD_NAME
from heartseg.models.checkpoint import load_arrays
from heartseg.models.folder import ModelFolder
from heartseg.models.loading import build_network, read_folds

FLOAT = onnx.TensorProto.FLOAT
OPSET, IR = 17, 8
"""Of 2022, so that old versions of ONNX Runtime read the graph."""


def graph_of(network: nn.Module, tile: tuple[int, ...], channels: tuple[int, int]) -> onnx.ModelProto:
    """The graph of a network for one tile, with the names of its weights.

    Args:
        network: of convolutions, instance norms, leaky ReLUs, sums and concatenations; may be on the meta device.
        tile: voxels ``(z, y, x)``.
        channels: of input and output.

    Raises:
        SystemExit: the network has another kind of layer.
    """
    nodes, weights = [], {}
    first = last = ""
    for step in fx.symbolic_trace(network.eval()).graph.nodes:
        if step.op == "placeholder":
            first = step.name
        elif step.op == "output":
            last = step.args[0].name
        elif step.op == "call_module":
            layer = network.get_submodule(step.target)
            if isinstance(layer, nn.Identity | nn.modules.dropout._DropoutNd):
                step.replace_all_uses_with(step.args[0])
                continue
            operation, attributes = _operation(layer)
            own = {f"{step.target}.{name}": tensor for name, tensor in layer.state_dict().items()}
            weights.update(own)
            nodes.append(helper.make_node(operation, [step.args[0].name, *own], [step.name], **attributes))
        elif step.target is torch.cat:
            parts, axis = step.args
            nodes.append(helper.make_node("Concat", [p.name for p in parts], [step.name], axis=axis))
        elif step.target in (torch.add, torch.Tensor.add_) or getattr(step.target, "__name__", "") in ("add", "iadd"):
            nodes.append(helper.make_node("Add", [p.name for p in step.args], [step.name]))
        else:
            raise SystemExit(f"the step {step.format_node()} has no counterpart here: extend tools/export_graph.py")
    inputs, outputs = (
        [helper.make_tensor_value_info(name, FLOAT, [1, count, *tile])]
        for name, count in zip((first, last), channels, strict=True)
    )
    graph = helper.make_graph(nodes, "network", inputs, outputs, [_elsewhere(n, t) for n, t in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def _operation(layer: nn.Module) -> tuple[str, dict[str, Any]]:
    """The ONNX operation of a layer, and its attributes."""
    if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        attributes = {
            "kernel_shape": list(layer.kernel_size),
            "strides": list(layer.stride),
            "dilations": list(layer.dilation),
            "pads": [*layer.padding, *layer.padding],
            "group": layer.groups,
        }
        if not layer.transposed:
            return "Conv", attributes
        return "ConvTranspose", {**attributes, "output_padding": list(layer.output_padding)}
    if isinstance(layer, nn.InstanceNorm2d | nn.InstanceNorm3d) and layer.affine and not layer.track_running_stats:
        return "InstanceNormalization", {"epsilon": layer.eps}
    if isinstance(layer, nn.LeakyReLU):
        return "LeakyRelu", {"alpha": layer.negative_slope}
    raise SystemExit(f"the layer {type(layer).__name__} has no counterpart here: extend tools/export_graph.py")


def _elsewhere(name: str, tensor: torch.Tensor) -> onnx.TensorProto:
    """A weight without numbers: whoever runs the graph gives them by name."""
    weight = onnx.TensorProto(name=name, data_type=FLOAT, dims=tensor.shape, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": "checkpoint", "offset": 0, "length": 4 * tensor.numel()}.items():
        weight.external_data.add(key=key, value=str(value))
    return weight


def serialised(folder: ModelFolder) -> bytes:
    """The graph of a folder's network; the same bytes each time."""
    network = build_network(folder, "meta")
    graph = graph_of(network, folder.patch_size, (folder.num_input_channels, folder.num_output_channels))
    return graph.SerializeToString(deterministic=True)


def export(folder: ModelFolder) -> list[Path]:
    """Write the graphs of a model and its finder, and their hashes into the cards; returns the files.

    Raises:
        ModelError: the checkpoint cannot be read without torch.
    """
    read_folds(folder, load_arrays)
    finder = folder.open_finder()
    written = [] if finder is None else export(finder)
    folder.graph.write_bytes(serialised(folder))
    written.append(folder.graph)
    card = folder.path / CARD_NAME
    if card.is_file():
        content = json.loads(card.read_text(encoding="utf-8"))
        content["files"] |= {file.relative_to(folder.path).as_posix(): sha256_of(file) for file in written}
        card.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    return written


def main() -> int:
    """Export the graphs of one model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder")
    for file in export(ModelFolder.open(parser.parse_args().model)):
        print(f"{file}: {file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
