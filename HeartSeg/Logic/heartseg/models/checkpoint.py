"""Safe loading of checkpoints: hashes are verified first, only weights are read, classes come from an allow list."""

from __future__ import annotations

import contextlib
import importlib
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import HeartSegError, ModelError
from ..hashes import sha256_of
from ..needs import import_torch
from ..wording import _
from .weights import read_arrays

COPY_AGAIN = _("copy or install the model again")

_SCALARS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
"""NumPy types of single numbers that a checkpoint may contain besides tensors."""

_NEEDED = ("network_weights", "init_args", "trainer_name", "inference_allowed_mirroring_axes")


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
    verify_hash(Path(path), sha256)
    return _needed_parts(_read(Path(path), _read_with_torch), Path(path), import_torch().Tensor)


def load_arrays(path: str | Path, sha256: str | None = None) -> dict[str, Any]:
    """As :func:`load_checkpoint`, without torch: ``network_weights`` are NumPy arrays.

    The checkpoint must be reduced to the entries needed for prediction.
    """
    verify_hash(Path(path), sha256)
    return _needed_parts(_read(Path(path), read_arrays), Path(path), np.ndarray)


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    """The content of a checkpoint; all that can be wrong with the file is one line."""
    _check_unpacked_size(path)
    try:
        return read(path)
    except HeartSegError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelError(_why_unpickling_failed(path, str(error))) from None
    except MemoryError:
        raise ModelError(_("'{path}' does not fit into memory: close other programs").format(path=path)) from None
    except Exception as error:  # damage is reported as RuntimeError, EOFError, ValueError, KeyError ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            _("'{path}' is truncated or damaged ({reason:.80}): {advice}").format(
                path=path, reason=reason, advice=COPY_AGAIN
            )
        ) from None


def _read_with_torch(path: Path) -> Any:
    with _numpy_scalars_allowed():
        return import_torch().load(path, map_location="cpu", weights_only=True)


def verify_hash(path: Path, expected: str | None) -> None:
    """Raise ``ModelError`` if the file is missing or its SHA-256 is not ``expected`` (``None``: hash not checked)."""
    if not path.is_file():
        raise ModelError(_("'{path}' is missing: {advice}").format(path=path, advice=COPY_AGAIN))
    if expected is None:
        return
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ModelError(
            _("'{path}' cannot be read ({strerror}): check its permissions").format(path=path, strerror=error.strerror)
        ) from None
    if found != expected.lower():
        raise ModelError(
            _(
                "'{path}' has SHA-256 {found}..., but the model card expects {expected}...: the file was "
                "modified or damaged; {advice}"
            ).format(path=path, found=found[:12], expected=expected.lower()[:12], advice=COPY_AGAIN)
        )


def _needed_parts(content: Any, path: Path, kind: type) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ModelError(
            _("'{path}' contains a {name}, not an nnU-Net checkpoint: {advice}").format(
                path=path, name=type(content).__name__, advice=COPY_AGAIN
            )
        )
    weights = content.get("network_weights")
    if not isinstance(weights, dict) or not weights or not all(isinstance(w, kind) for w in weights.values()):
        raise ModelError(_("'{path}' has no 'network_weights': use a checkpoint of nnU-Net v2").format(path=path))
    arguments = content.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    axes = content.get("inference_allowed_mirroring_axes")
    if axes is not None and not (isinstance(axes, list | tuple) and all(a in (0, 1, 2) for a in axes)):
        raise ModelError(
            _("'inference_allowed_mirroring_axes' in '{path}' is {axes:.60}: only axes 0, 1, 2 exist").format(
                path=path, axes=repr(axes)
            )
        )
    return {
        "network_weights": weights,
        "trainer_name": str(content.get("trainer_name", "nnUNetTrainer")),
        "configuration": None if configuration is None else str(configuration),
        "mirroring_axes": None if axes is None else tuple(int(a) for a in axes),
    }


@contextlib.contextmanager
def _numpy_scalars_allowed() -> Iterator[None]:
    """Allow the NumPy scalars in nnU-Net checkpoints (Dice values) for ``weights_only``, and nothing else."""
    torch = import_torch()
    if not hasattr(torch.serialization, "safe_globals"):  # before torch 2.5: reduced checkpoints only
        yield
        return
    multiarray = importlib.import_module("numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray")
    types = {type(np.dtype(kind)) for kind in _SCALARS}
    allowed = [multiarray.scalar, np.dtype, *types]
    if tuple(int(v) for v in re.findall(r"\d+", torch.__version__)[:2]) >= (2, 6):  # names of NumPy 1 and 2
        allowed += [(multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals(allowed):
        yield


def _why_unpickling_failed(path: Path, message: str) -> str:
    named = re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", message)
    if named and named.group(1).endswith("core.multiarray._reconstruct"):
        return (
            f"'{path}' holds NumPy arrays ({named.group(1)}), which are not read for safety: save it again where it "
            f"was trained, with the entries {', '.join(_NEEDED)} only (torch.save)"
        )
    if named:
        return f"'{path}' is refused because it contains code ({named.group(1)}): use a checkpoint with weights only"
    if re.search(r"Trying to|blocked|not allowed|Can only", message):
        return f"'{path}' is refused because it contains code: use a checkpoint with weights only"
    return f"'{path}' is damaged or not a checkpoint: {COPY_AGAIN}"


def _check_unpacked_size(path: Path) -> None:
    """Refuse an archive that unpacks to far more than its size: weights hardly compress."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return  # not a zip file, or damaged: torch reports it
    if unpacked > 4 * path.stat().st_size + (1 << 20):
        raise ModelError(
            _("'{path}' is refused because it would unpack to {unpacked:.0f} MiB: {advice}").format(
                path=path, unpacked=unpacked / 2**20, advice=COPY_AGAIN
            )
        )
