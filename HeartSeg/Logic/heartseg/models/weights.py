"""Weights of a checkpoint as NumPy arrays, read without torch.

A checkpoint is a zip file: ``data.pkl``, a pickle that names tensors, and ``data/0``, ``data/1``, … with their bytes.
The pickle may call two functions and name a few kinds of storage; anything else is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import ModelError
from ..wording import _

_STORAGES = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
"""torch's names of the kinds of storage, and their NumPy types."""

_LARGEST_PICKLE = 64 << 20  # bytes; that of the default model has 19 kB


def read_arrays(path: Path) -> Any:
    """The content of a checkpoint: dictionaries, lists, tuples, numbers, texts, and NumPy arrays for tensors.

    Args:
        path: file of ``torch.save`` in its zip format.

    Raises:
        ModelError: the file names a function or class besides those of tensors.
        Exception: whatever a damaged file causes.
    """
    with zipfile.ZipFile(path) as archive:
        (index,) = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
        folder = index.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
        if archive.getinfo(index).file_size > _LARGEST_PICKLE:
            raise ValueError(f"{index} is too large")
        return _Tensors(archive.read(index), archive, folder, path).load()


# In Python rather than C: pickle.Unpickler allocates memory for whatever number a file gives to an entry of its memo.
class _Tensors(pickle._Unpickler):
    """Reads the pickle of a checkpoint; the storages come from the archive."""

    stack: list[Any]  # of the base class

    def __init__(self, data: bytes, archive: zipfile.ZipFile, folder: str, path: Path) -> None:
        super().__init__(io.BytesIO(data))
        self._archive, self._folder, self._path = archive, folder, path
        self._read: dict[str, np.ndarray] = {}

    def _leave_out_state(self) -> None:
        """Drop the state of an object: that of a dictionary of weights holds versions of layers."""
        self.stack.pop()

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _leave_out_state,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise ModelError(
            _(
                "'{path}' is refused because it contains {module:.60}.{name:.60}: use a checkpoint with weights only"
            ).format(path=self._path, module=module, name=name)
        )

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The storage ``("storage", type, key, device, count)``, flat."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or dtype not in _STORAGES.values() or not str(key).isdecimal():
            raise ValueError("a tensor has no storage")
        if key not in self._read:
            self._read[key] = np.frombuffer(self._archive.read(f"{self._folder}data/{key}"), dtype)
        storage = self._read[key]
        if storage.dtype != np.dtype(dtype) or storage.size != count:
            raise ValueError(f"{self._folder}data/{key} is not of the size that is stated")
        return storage


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> np.ndarray:
    """``torch._utils._rebuild_tensor_v2``: a part of a storage, as an array that cannot be written."""
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, np.ndarray) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("a tensor has no valid place")
    reach = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1
    if math.prod(shape) and (reach > storage.size or math.prod(shape) > storage.size):
        raise ValueError("a tensor is larger than its storage")
    steps = [step * storage.itemsize for step in strides]
    part = storage[offset:] if math.prod(shape) else storage[:0]
    return np.lib.stride_tricks.as_strided(part, shape, steps, writeable=False)


def as_float32(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights as the networks compute with them: floating-point numbers in single precision, contiguous."""
    return {
        name: np.ascontiguousarray(w, np.float32 if np.issubdtype(w.dtype, np.floating) else w.dtype)
        for name, w in weights.items()
    }
