"""Find the layers of a network: by name, the last one before the output, and the bottleneck.

The network runs once on tensors without data (torch's ``meta`` device), and hooks record the output of every module.
This works for any network class.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, SettingsError
from ..models.folder import ModelFolder
from ..models.loading import build_network
from ..needs import import_torch
from ..wording import _

if TYPE_CHECKING:
    import torch
    from torch import nn

LAST, BOTTLENECK = "last", "bottleneck"
_HEAT_MAP = _("a heat map")  # what needs torch
_SHOWN = 40  # maximum number of characters of an unknown name in an error message


@dataclass(frozen=True)
class Layer:
    """A layer whose features can be used.

    Attributes:
        name: name of the module, e.g. ``"encoder.stages.4"``.
        kind: class of the module.
        shape: shape of its output for one patch: channels, then voxels ``(z, y, x)``.
        at_input: whether to use the input of the module instead of its output.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    at_input: bool = False


@dataclass(frozen=True)
class Layers:
    """The layers of a network.

    Attributes:
        all: all layers in order of execution; of several modules with the same output, the outermost.
        last: input of the output convolution: the last convolution before it, with normalisation and activation.
        bottleneck: the coarsest features, at the end of the encoder.
        named: every module with a usable output, by name.
    """

    all: tuple[Layer, ...]
    last: Layer
    bottleneck: Layer
    named: Mapping[str, Layer]

    def find(self, name: str) -> Layer:
        """Return the layer ``last``, ``bottleneck`` or one with this name.

        Raises:
            SettingsError: the layer does not exist; the message lists similar names.
        """
        named = {**self.named, LAST: self.last, BOTTLENECK: self.bottleneck}
        if name in named:
            return named[name]
        similar = difflib.get_close_matches(name[:_SHOWN], named, 3, 0.4)
        instead = ", ".join(dict.fromkeys([*similar, LAST, BOTTLENECK]))
        raise SettingsError(
            _("layer {name!r} is unknown: use {instead}, or list all with 'heartseg explain --list-layers'").format(
                name=name[:_SHOWN], instead=instead
            )
        )


@dataclass(frozen=True, eq=False)
class _Call:
    """Call of one module in a forward pass."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Any


def list_layers(folder: ModelFolder) -> Layers:
    """Return the layers of the network of a model, without reading its weights.

    Raises:
        ModelError: the network cannot be traced.
    """
    torch = import_torch(_HEAT_MAP)
    network = build_network(folder, "meta").eval()
    image = torch.zeros(1, folder.num_input_channels, *folder.patch_size, device="meta")
    try:
        return layers_of(network, image)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            _(
                "the layers of model {name!r} cannot be traced ({reason:.120}): choose another model for heat maps"
            ).format(name=folder.name, reason=reason)
        ) from error


def layers_of(network: nn.Module, image: torch.Tensor) -> Layers:
    """Return the layers that a network executes for an image ``(1, c, z, y, x)``; both are on the same device.

    Raises:
        ValueError: the network has no convolution.
    """
    with _recorded(network) as calls:
        network(image)
    convolutions = [k for k, call in enumerate(calls) if _is_convolution(call.module)]
    if not convolutions:
        raise ValueError("it has no convolution")
    output = calls[convolutions[-1]]
    before = [c for c in calls[: convolutions[-1]] if _is_map(c.output, image.ndim)]
    features = output.inputs[0]
    same = [c for c in before if c.output is features]
    # Several modules may return the same tensor: the outermost has the shortest name.
    last = _layer(_outermost(same)) if same else _input_layer(output)
    usable = _only_once(before)
    distinct = {id(c.output): _outermost([d for d in usable if d.output is c.output]) for c in usable}
    named = {c.name: _layer(c) for c in usable}
    return Layers(tuple(map(_layer, distinct.values())), last, _bottleneck(before) or last, named)


def _bottleneck(calls: list[_Call]) -> Layer | None:
    """Return the coarsest features, after all processing on their grid.

    Considers convolutions with kernels larger than 1 (which excludes those on pooled maps in attention modules) on the
    coarsest grid. Of these it takes the last one with the most channels, because attention gates on the same grid have
    fewer channels.
    """
    wide = [c for c in calls if _is_convolution(c.module) and max(c.module.kernel_size) > 1]  # type: ignore[arg-type]
    if not wide:
        return None
    coarsest = min(math.prod(c.output.shape[2:]) for c in wide)
    deep = [c for c in wide if math.prod(c.output.shape[2:]) == coarsest]
    most = max(c.output.shape[1] for c in deep)
    deepest = [c for c in deep if c.output.shape[1] == most][-1]
    around = [c for c in calls if deepest.name.startswith(f"{c.name}.") and c.output.shape == deepest.output.shape]
    return _layer(_outermost([deepest, *around]))


def _only_once(calls: list[_Call]) -> list[_Call]:
    """Return the calls that can be selected by name: maps with more than one voxel, from modules that run once."""
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.name] = counts.get(call.name, 0) + 1
    return [c for c in calls if c.name and counts[c.name] == 1 and math.prod(c.output.shape[2:]) > 1]


def _outermost(calls: list[_Call]) -> _Call:
    return min(calls, key=lambda c: c.name.count("."))


def _layer(call: _Call) -> Layer:
    return Layer(call.name, type(call.module).__name__, tuple(call.output.shape[1:]))


def _input_layer(call: _Call) -> Layer:
    return Layer(call.name, type(call.module).__name__, tuple(call.inputs[0].shape[1:]), at_input=True)


def _is_convolution(module: nn.Module) -> bool:
    nn = import_torch(_HEAT_MAP).nn
    return isinstance(module, (nn.Conv2d, nn.Conv3d))


def _is_map(output: Any, dimensions: int) -> bool:
    torch = import_torch(_HEAT_MAP)
    return isinstance(output, torch.Tensor) and output.ndim == dimensions and output.is_floating_point()


@contextmanager
def _recorded(network: nn.Module) -> Iterator[list[_Call]]:
    """Record the call of every module, in order of completion."""
    torch = import_torch(_HEAT_MAP)
    calls: list[_Call] = []

    def recorder(name: str) -> Any:
        return lambda module, inputs, output: calls.append(_Call(name, module, inputs, output))

    handles = [module.register_forward_hook(recorder(name)) for name, module in network.named_modules()]
    try:
        with torch.no_grad():
            yield calls
    finally:
        for handle in handles:
            handle.remove()
