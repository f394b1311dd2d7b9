"""From a model folder to networks in memory: only allowed classes, weights that fit, no code from files."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DependencyError, ModelError
from ..needs import import_torch
from ..wording import _
from .checkpoint import load_checkpoint
from .folder import ModelFolder
from .plans import network_roots

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model loaded into memory.

    Attributes:
        folder: model folder it was loaded from.
        networks: one per fold, float32 on the CPU, in evaluation mode, without gradients.
        mirroring_axes: spatial axes of the patch for test-time mirroring; empty if there are none.
        trainer_name: class name of the trainer.
    """

    folder: ModelFolder
    networks: tuple[nn.Module, ...]
    mirroring_axes: tuple[int, ...]
    trainer_name: str


def build_network(folder: ModelFolder, device: str = "cpu") -> nn.Module:
    """Build the untrained network of the plans, without deep supervision, with the state dict of nnU-Net.

    HeartSeg's own plain U-Net is built for nnU-Net's class of that kind, so that no further package is needed.
    The class must lie below :func:`~heartseg.models.plans.network_roots`; classes among its arguments must lie below
    ``torch.nn``. ``device="meta"`` allocates no memory.
    """
    torch = import_torch()
    from ..networks.stock import equivalent_class

    plan = folder.network
    network_class = equivalent_class(plan.class_name) or _import_class(plan.class_name, network_roots(), folder)
    kwargs = dict(plan.kwargs)
    for key in plan.requires_import:
        if kwargs.get(key) is not None:
            kwargs[key] = _import_class(kwargs[key], ("torch.nn.",), folder)
    kwargs["deep_supervision"] = False
    try:
        with torch.device(device), torch.random.fork_rng(devices=[]):
            return network_class(
                input_channels=folder.num_input_channels, num_classes=folder.num_output_channels, **kwargs
            )
    except (TypeError, ValueError, AssertionError, IndexError, KeyError, RuntimeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            _("the network {name} in '{path}' cannot be built ({reason:.120}): copy plans.json again").format(
                name=plan.class_name.rpartition(".")[2], path=folder.path / "plans.json", reason=reason
            )
        ) from None


def load_model(folder: ModelFolder) -> LoadedModel:
    """Load all folds, with mirroring axes and trainer name; verify each hash that the card lists.

    Raises:
        ModelError: as :func:`load_checkpoint`, or the weights do not fit the network in the plans.
    """
    folds, axes, trainer = read_folds(folder, load_checkpoint)
    networks = tuple(_fill(folder, weights, file) for file, weights in folds.items())
    return LoadedModel(folder, networks, axes, trainer)


def read_folds(
    folder: ModelFolder, read: Callable[[Path, str | None], dict[str, Any]]
) -> tuple[dict[Path, dict[str, Any]], tuple[int, ...], str]:
    """The weights of each checkpoint, the mirroring axes, and the name of the trainer.

    Args:
        folder: the model.
        read: :func:`load_checkpoint`, or :func:`~heartseg.models.checkpoint.load_arrays` for NumPy arrays.

    Raises:
        ModelError: a checkpoint cannot be read, has another hash, or is of another configuration.
    """
    folds = {}
    first: dict[str, Any] = {}
    for file in folder.checkpoints:
        checkpoint = read(file, folder.sha256(file))
        first = first or checkpoint
        trained = checkpoint["configuration"]
        if trained not in (None, folder.configuration):
            raise ModelError(
                _(
                    "'{file}' was trained as configuration {trained!r}, but the folder or its card says "
                    "{configuration!r}: put it back into its own folder"
                ).format(file=file, trained=trained, configuration=folder.configuration)
            )
        folds[file] = checkpoint["network_weights"]
    return folds, first["mirroring_axes"] or (), first["trainer_name"]


def _fill(folder: ModelFolder, weights: Mapping[str, Any], file: Path) -> nn.Module:
    """Return a network with these weights; names and shapes are compared before memory is allocated."""
    network = build_network(folder, "meta")
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    cast = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    network.load_state_dict(fitting(cast, wanted, file, "plans.json"), assign=True)
    if any(t.is_meta for t in (*network.parameters(), *network.buffers())):  # buffers missing from the state dict
        network = build_network(folder)
        network.load_state_dict(cast)
    return network.eval().requires_grad_(False)


def fitting(
    weights: Mapping[str, Any], wanted: Mapping[str, tuple[int, ...]], file: Path, source: str
) -> Mapping[str, Any]:
    """The weights, tensors or arrays, if they are those of a network and all of them are finite.

    Args:
        weights: name -> tensor or array.
        wanted: name -> shape.
        file: the checkpoint, for the message.
        source: name of the file that describes the network.

    Raises:
        ModelError: names or shapes differ, or a number is not finite.
    """
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != found:
        raise ModelError(
            _(
                "the weights in '{file}' do not fit the network in {source} ({difference}): copy {source} "
                "and dataset.json from this training"
            ).format(file=file, source=source, difference=_difference(wanted, found))
        )
    for name, tensor in weights.items():
        if not np.isfinite(np.asarray(tensor)).all():
            raise ModelError(
                _(
                    "'{file}' contains non-finite weights ('{name}'): the training diverged; use another checkpoint"
                ).format(file=file, name=name)
            )
    return weights


def _difference(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    for name, shape in wanted.items():
        if name not in found:
            return f"'{name}' is missing"
        if found[name] != shape:
            return f"'{name}' has shape {found[name]} instead of {shape}"
    return f"'{next(n for n in found if n not in wanted)}' does not belong to it"


def _import_class(name: str, roots: tuple[str, ...], folder: ModelFolder) -> Any:
    """Import a ``torch.nn.Module`` class; its name and the module that defines it must lie below ``roots``."""
    torch = import_torch()
    module_name, _dot, class_name = name.rpartition(".")
    where = f"named in '{folder.path / 'plans.json'}'"
    if not name.startswith(roots):
        allowed = " and ".join(f"{r}*" for r in roots)
        raise ModelError(
            _("class '{name}' {where} is refused: only classes below {allowed} are allowed").format(
                name=name, where=where, allowed=allowed
            )
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        if error.name == "dynamic_network_architectures":
            raise DependencyError(
                _(
                    "the package dynamic-network-architectures is needed to load this model: pip install "
                    "--no-deps dynamic-network-architectures"
                )
            ) from None
        raise ModelError(
            _("class '{name}' {where} needs the module '{module}': install it").format(
                name=name, where=where, module=error.name
            )
        ) from None
    except (ImportError, AttributeError):
        raise ModelError(
            _("class '{name}' {where} does not exist: copy plans.json again").format(name=name, where=where)
        ) from None
    defined_in = f"{getattr(found, '__module__', '')}."
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module) and defined_in.startswith(roots)):
        raise ModelError(
            _("'{name}' {where} is not a network class: copy plans.json again").format(name=name, where=where)
        )
    return found
