"""The network of a model folder as an ONNX graph without weights, and the weights that belong to it.

The weights stay in the checkpoints: the graph names them, and they are given to the runtime by these names. Like a
checkpoint, a graph may come from anyone: it is checked before a runtime reads it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import ModelError
from ..wording import _
from .checkpoint import COPY_AGAIN, load_arrays, verify_hash
from .folder import ModelFolder
from .loading import LoadedModel, fitting, load_model, read_folds
from .weights import as_float32

OPERATIONS = frozenset({"Add", "Concat", "Conv", "ConvTranspose", "InstanceNormalization", "LeakyRelu"})
"""Operations that a graph may have. None of them reads a file or holds another graph."""

_GRAPH, _FUNCTIONS = 7, 25  # fields of ONNX's ModelProto
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15  # of GraphProto
_OPERATION, _DOMAIN = 4, 7  # of NodeProto
_SHAPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 8, 9, 13, 14  # of TensorProto


@dataclass(frozen=True, eq=False)
class GraphNetwork:
    """A network for ONNX Runtime and OpenVINO.

    Attributes:
        graph: ONNX model without weights, serialised.
        weights: name in the graph -> float32 array.
    """

    graph: bytes
    weights: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class LoadedGraph:
    """A model loaded into memory, without torch.

    Attributes:
        folder: model folder it was loaded from.
        networks: one per fold.
        mirroring_axes: spatial axes of the patch for test-time mirroring; empty if there are none.
    """

    folder: ModelFolder
    networks: tuple[GraphNetwork, ...]
    mirroring_axes: tuple[int, ...]


def load_installed(folder: ModelFolder) -> LoadedModel | LoadedGraph:
    """Load a model for torch; where that is not installed, for ONNX Runtime.

    Raises:
        ModelError: as :func:`load_graph`.
        DependencyError: torch is not installed, and only it can run the model.
    """
    light = importlib.util.find_spec("torch") is None and not folder.needs_torch
    return load_graph(folder) if light else load_model(folder)


def load_graph(folder: ModelFolder) -> LoadedGraph:
    """Load the graph and all folds; verify each hash that the card lists.

    Raises:
        ModelError: a file is missing, damaged or refused, or the weights do not fit the graph.
    """
    verify_hash(folder.graph, folder.sha256(folder.graph))
    graph = folder.graph.read_bytes()
    try:
        wanted = read_initializers(graph)
    except (ValueError, IndexError) as error:
        raise ModelError(
            _("'{graph}' is not a graph of a network ({error}): {advice}").format(
                graph=folder.graph, error=error, advice=COPY_AGAIN
            )
        ) from None
    folds, axes, _meta = read_folds(folder, load_arrays)
    networks = []
    for file, weights in folds.items():
        used = {name: weights[name] for name in wanted if name in weights}
        networks.append(GraphNetwork(graph, as_float32(fitting(used, wanted, file, folder.graph.name))))
    return LoadedGraph(folder, tuple(networks), axes)


def with_weights(network: GraphNetwork) -> bytes:
    """The ONNX model of a network with its weights inside, for a runtime that does not take them by name."""
    fields = _fields(network.graph)
    return b"".join(_field(n, _with_weights(_bytes(v), network.weights) if n == _GRAPH else v) for n, v in fields)


def _with_weights(graph: bytes, weights: Mapping[str, np.ndarray]) -> bytes:
    parts = []
    for number, value in _fields(graph):
        if number == _INITIALIZER:
            kept = [(n, v) for n, v in _fields(_bytes(value)) if n not in (_EXTERNAL, _LOCATION)]
            name = next(_bytes(v).decode() for n, v in kept if n == _NAME)
            value = b"".join(_field(n, v) for n, v in [*kept, (_RAW, weights[name].astype("<f4").tobytes())])
        parts.append(_field(number, value))
    return b"".join(parts)


def read_initializers(model: bytes) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the weights of a serialised ONNX model.

    Raises:
        ValueError, IndexError: it is not one, holds numbers of its own, or another operation than :data:`OPERATIONS`.
    """
    parts = _fields(model)
    graphs = [value for number, value in parts if number == _GRAPH]
    if len(graphs) != 1 or any(number == _FUNCTIONS for number, _ in parts):
        raise ValueError("it does not have one graph")
    found = {}
    for number, value in _fields(_bytes(graphs[0])):
        if number == _NODE:
            _check_operation(_fields(_bytes(value)))
        elif number == _INITIALIZER:
            name, shape = _initializer(_fields(_bytes(value)))
            found[name] = shape
        elif number == _SPARSE:
            raise ValueError("it holds numbers")
    return found


def _check_operation(fields: list[tuple[int, int | bytes]]) -> None:
    names = {number: _bytes(value).decode() for number, value in fields if number in (_OPERATION, _DOMAIN)}
    if names.get(_OPERATION) not in OPERATIONS or names.get(_DOMAIN):
        raise ValueError(f"it contains the operation {names.get(_DOMAIN, '')}{names.get(_OPERATION, '')!r:.60}")


def _initializer(fields: list[tuple[int, int | bytes]]) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a TensorProto whose numbers lie elsewhere."""
    name, shape = "", []
    for number, value in fields:
        if number == _NAME:
            name = _bytes(value).decode()
        elif number == _SHAPE:
            shape += [value] if isinstance(value, int) else list(_packed(value))
    if not name or all(number != _EXTERNAL for number, _ in fields):
        raise ValueError("it holds numbers")
    return name, tuple(shape)


def _fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """Yield number and value of the fields of a protobuf message, in order: an integer, or the bytes of the field."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value: int | bytes
        if key & 7 == 0:
            value, at = _varint(message, at)
        else:
            size = {1: 8, 5: 4}.get(key & 7, -1)
            if key & 7 == 2:
                size, at = _varint(message, at)
            value = message[at : at + size]
            if not 0 <= size == len(value):
                raise ValueError("it is cut off")
            at += size
        found.append((key >> 3, value))
    return found


def _field(number: int, value: int | bytes) -> bytes:
    """A field with a number or with bytes, as protobuf writes it."""
    if isinstance(value, int):
        return _as_varint(number << 3) + _as_varint(value)
    return _as_varint(number << 3 | 2) + _as_varint(len(value)) + value


def _as_varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _packed(values: bytes) -> Iterator[int]:
    at = 0
    while at < len(values):
        value, at = _varint(values, at)
        yield value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where the next one begins."""
    value = shift = 0
    while message[at] & 0x80:
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("it is damaged")
    return value
