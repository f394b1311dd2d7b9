"""Safe loading of checkpoints: hashes are verified first, only weights are read, classes come from an allow list."""

from __future__ import annotations

import contextlib
import importlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DependencyError, ModelError
from .card import sha256_of
from .folder import ModelFolder
from .plans import network_roots

if TYPE_CHECKING:
    from torch import nn

COPY_AGAIN = "copy or install the model again"


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


def load_checkpoint(path: str | Path, sha256: str | None = None) -> dict[str, Any]:
    """Read a checkpoint of nnU-Net v2 without executing code from it.

    Args:
        path: ``checkpoint_*.pth``, in the format of nnU-Net or reduced to the entries needed for prediction.
        sha256: expected hash; verified before the checkpoint is loaded.

    Returns:
        ``network_weights`` (name -> tensor), ``trainer_name``, ``configuration`` (or ``None``), ``mirroring_axes``
        (tuple of ints or ``None``).

    Raises:
        ModelError: the file is missing or truncated, has a different hash, contains code, or is not an nnU-Net
            checkpoint.
    """
    path = Path(path)
    verify_hash(path, sha256)
    torch = import_torch()
    _check_unpacked_size(path)
    try:
        with _numpy_scalars_allowed():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(_why_unpickling_failed(path, str(error))) from None
    except MemoryError:
        raise ModelError(f"'{path}' does not fit into memory: close other programs") from None
    except Exception as error:  # torch reports damage as RuntimeError, EOFError, ValueError, KeyError ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"'{path}' is truncated or damaged ({reason:.80}): {COPY_AGAIN}") from None
    return _needed_parts(content, path)


def verify_hash(path: Path, expected: str | None) -> None:
    """Raise ``ModelError`` if the file is missing or its SHA-256 is not ``expected`` (``None``: hash not checked)."""
    if not path.is_file():
        raise ModelError(f"'{path}' is missing: {COPY_AGAIN}")
    if expected is None:
        return
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read ({error.strerror}): check its permissions") from None
    if found != expected.lower():
        raise ModelError(
            f"'{path}' has SHA-256 {found[:12]}..., but the model card expects {expected.lower()[:12]}...: "
            f"the file was modified or damaged; {COPY_AGAIN}"
        )


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
            f"the network {plan.class_name.rpartition('.')[2]} in '{folder.path / 'plans.json'}' cannot "
            f"be built ({reason:.120}): copy plans.json again"
        ) from None


def load_networks(folder: ModelFolder) -> list[nn.Module]:
    """Load the trained networks of all folds: float32 on the CPU, in evaluation mode, without gradients."""
    return list(load_model(folder).networks)


def load_model(folder: ModelFolder) -> LoadedModel:
    """Load all folds, with mirroring axes and trainer name; verify each hash that the card lists.

    Raises:
        ModelError: as :func:`load_checkpoint`, or the weights do not fit the network in the plans.
    """
    networks = []
    first: dict[str, Any] = {}
    for file in folder.checkpoints:
        checkpoint = load_checkpoint(file, folder.sha256(file))
        first = first or checkpoint
        trained = checkpoint["configuration"]
        if trained not in (None, folder.configuration):
            raise ModelError(
                f"'{file}' was trained as configuration {trained!r}, but the folder or its card states "
                f"{folder.configuration!r}: move it to the folder of its configuration"
            )
        networks.append(_fill(folder, checkpoint["network_weights"], file))
    return LoadedModel(folder, tuple(networks), first["mirroring_axes"] or (), first["trainer_name"])


def import_torch() -> Any:
    """Import ``torch``; ``DependencyError`` names the command that installs it."""
    try:
        import torch
    except ImportError as error:
        raise DependencyError(f"PyTorch is needed to load a model ({error}): pip install torch") from None
    return torch


def _fill(folder: ModelFolder, weights: Mapping[str, Any], file: Path) -> nn.Module:
    """Return a network with these weights; names and shapes are compared before memory is allocated."""
    torch = import_torch()
    network = build_network(folder, "meta")
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != found:
        raise ModelError(
            f"the weights in '{file}' do not fit the network in plans.json "
            f"({_difference(wanted, found)}): copy plans.json and dataset.json from this training"
        )
    cast = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    bad = [name for name, tensor in cast.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise ModelError(
            f"'{file}' contains non-finite weights ('{bad[0]}'): the training diverged; use another checkpoint"
        )
    network.load_state_dict(cast, assign=True)
    if any(t.is_meta for t in (*network.parameters(), *network.buffers())):  # buffers missing from the state dict
        network = build_network(folder)
        network.load_state_dict(cast)
    return network.eval().requires_grad_(False)


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
    module_name, _, class_name = name.rpartition(".")
    where = f"named in '{folder.path / 'plans.json'}'"
    if not name.startswith(roots):
        allowed = " and ".join(f"{r}*" for r in roots)
        raise ModelError(f"class '{name}' {where} is refused: only classes below {allowed} are allowed")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        if error.name == "dynamic_network_architectures":
            raise DependencyError(
                "the package dynamic-network-architectures is needed to load this model: "
                "pip install --no-deps dynamic-network-architectures"
            ) from None
        raise ModelError(f"class '{name}' {where} needs the module '{error.name}': install it") from None
    except (ImportError, AttributeError):
        raise ModelError(f"class '{name}' {where} does not exist: copy plans.json again") from None
    defined_in = f"{getattr(found, '__module__', '')}."
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module) and defined_in.startswith(roots)):
        raise ModelError(f"'{name}' {where} is not a network class: copy plans.json again")
    return found


def _needed_parts(content: Any, path: Path) -> dict[str, Any]:
    torch = import_torch()
    if not isinstance(content, dict):
        raise ModelError(f"'{path}' contains a {type(content).__name__}, not an nnU-Net checkpoint: {COPY_AGAIN}")
    weights = content.get("network_weights")
    if not isinstance(weights, dict) or not weights or not all(isinstance(w, torch.Tensor) for w in weights.values()):
        raise ModelError(f"'{path}' has no 'network_weights': use a checkpoint of nnU-Net v2")
    arguments = content.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    axes = content.get("inference_allowed_mirroring_axes")
    if axes is not None and not (isinstance(axes, list | tuple) and all(a in (0, 1, 2) for a in axes)):
        raise ModelError(f"'inference_allowed_mirroring_axes' in '{path}' is {axes!r:.60}: only axes 0, 1, 2 exist")
    return {
        "network_weights": weights,
        "trainer_name": str(content.get("trainer_name", "nnUNetTrainer")),
        "configuration": None if configuration is None else str(configuration),
        "mirroring_axes": None if axes is None else tuple(int(a) for a in axes),
    }


@contextlib.contextmanager
def _numpy_scalars_allowed() -> Iterator[None]:
    """Allow the NumPy scalars in nnU-Net checkpoints (Dice values) for ``weights_only``, and nothing else."""
    import numpy as np

    torch = import_torch()
    if not hasattr(torch.serialization, "safe_globals"):  # before torch 2.5: reduced checkpoints only
        yield
        return
    multiarray = importlib.import_module("numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray")
    types = {type(np.dtype(kind)) for kind in ("float16", "float32", "float64", "int32", "int64", "bool")}
    allowed = [multiarray.scalar, np.dtype, *types]
    if tuple(int(v) for v in re.findall(r"\d+", torch.__version__)[:2]) >= (2, 6):  # names of NumPy 1 and 2
        allowed += [(multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals(allowed):
        yield


def _why_unpickling_failed(path: Path, message: str) -> str:
    named = re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", message)
    if named:
        return f"'{path}' is refused because it contains code ({named.group(1)}): use a checkpoint with weights only"
    if re.search(r"Trying to|blocked|not allowed|Can only", message):
        return f"'{path}' is refused because it contains code: use a checkpoint with weights only"
    return f"'{path}' is damaged or not a checkpoint: {COPY_AGAIN}"


def _check_unpacked_size(path: Path) -> None:
    """Refuse an archive that unpacks to far more than its size: torch stores tensors uncompressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return  # not a zip file, or damaged: torch reports it
    if unpacked > 4 * path.stat().st_size + (1 << 20):
        raise ModelError(f"'{path}' is refused because it would unpack to {unpacked / 2**20:.0f} MiB: {COPY_AGAIN}")
