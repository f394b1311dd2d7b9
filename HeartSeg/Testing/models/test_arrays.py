"""Reading checkpoints without torch: the same numbers, and nothing but weights."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.errors import ModelError
from heartseg.models.checkpoint import load_arrays, load_checkpoint
from heartseg.training.export import deflated
from tiny_models import write_pickle_bomb


def assert_same(file: Path) -> None:
    """Check that both readers find the same in a checkpoint."""
    ours, torchs = load_arrays(file), load_checkpoint(file)
    weights, tensors = ours.pop("network_weights"), torchs.pop("network_weights")
    assert ours == torchs
    assert list(weights) == list(tensors)
    for name, tensor in tensors.items():
        assert weights[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(weights[name], tensor.numpy())


def test_the_default_model_has_the_same_weights_as_for_torch(default_model: Path) -> None:
    for part in ("fold_0", "finder/fold_0"):
        assert_same(default_model / part / "checkpoint_final.pth")


def test_a_reduced_checkpoint_is_read(carded: Path) -> None:
    assert_same(carded / "fold_0" / "checkpoint_final.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
        torch.arange(10.0)[3:7],
        torch.arange(4.0).expand(1, 4),
        torch.zeros(0, 3),
        torch.tensor(2.5),
        torch.arange(5, dtype=torch.int64),
        torch.tensor([True, False]),
        torch.arange(3, dtype=torch.float64),
    ],
    ids=["permuted", "part", "one row", "empty", "scalar", "integers", "truth values", "double"],
)
def test_every_layout_of_a_tensor_is_read(tmp_path: Path, tensor: torch.Tensor) -> None:
    weights = torch.nn.Linear(2, 2).state_dict()  # an OrderedDict with the versions of the layers
    torch.save({"network_weights": {**weights, "it": tensor}}, tmp_path / "c.pth")
    assert_same(tmp_path / "c.pth")


def test_a_state_dict_is_read_without_its_versions(tmp_path: Path) -> None:
    torch.save({"network_weights": torch.nn.Linear(2, 2).state_dict()}, tmp_path / "c.pth")
    assert_same(tmp_path / "c.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_refused_and_not_executed(tmp_path: Path, legacy: bool) -> None:
    marker = tmp_path / "pwned"
    bomb = write_pickle_bomb(tmp_path / "c.pth", marker, legacy=legacy)
    with pytest.raises(ModelError, match=r"c\.pth") as error:
        load_arrays(bomb)
    assert "\n" not in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize("what", [np.float64(1), np.zeros(2), torch.device("cpu"), print])
def test_all_but_weights_is_refused_by_its_name(tmp_path: Path, what: Any) -> None:
    torch.save({"network_weights": {"a": torch.zeros(1)}, "more": what}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"c\.pth' is refused because it contains \S+\.\S+"):
        load_arrays(tmp_path / "c.pth")


def archive(file: Path, tensor: tuple[Any, ...] = (), **storage: Any) -> Path:
    """Write a checkpoint of one tensor of 6 numbers, with changes to what describes it."""
    torch.save({"network_weights": {"a": torch.arange(6.0).reshape(2, 3)}}, file)
    content = _pickled(*(tensor or (0, (2, 3), (3, 1))), **storage)
    return rewritten(file, lambda name, data: content if name.endswith("data.pkl") else data)


def rewritten(file: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Write each entry of an archive again, with its content changed."""
    with zipfile.ZipFile(file) as zipped:
        entries = {name: zipped.read(name) for name in zipped.namelist()}
    with zipfile.ZipFile(file, "w") as zipped:
        for name, data in entries.items():
            zipped.writestr(name, change(name, data))
    return file


def _pickled(
    offset: Any,
    shape: Any,
    strides: Any,
    kind: str = "FloatStorage",
    key: Any = "0",
    count: Any = 6,
    word: str = "storage",
) -> bytes:
    """The pickle of a checkpoint with one tensor, opcode by opcode."""
    put = lambda value: pickle.dumps(value, 2)[2:-1]  # noqa: E731 - without the opcodes of start and end
    pid = b"(" + put(word) + f"ctorch\n{kind}\n".encode() + put(key) + put("cpu") + put(count) + b"tQ"
    ordered = b"ccollections\nOrderedDict\n)R"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + put(offset) + put(shape) + put(strides) + put(False)
    return b"\x80\x02}" + put("network_weights") + b"}" + put("a") + rebuilt + ordered + b"tRss."


def test_the_archive_of_these_tests_is_read(tmp_path: Path) -> None:
    assert_same(archive(tmp_path / "c.pth"))


@pytest.mark.parametrize(
    "change",
    [
        {"tensor": (0, (2, 4), (4, 1))},
        {"tensor": (1, (2, 3), (3, 1))},
        {"tensor": (0, (2, 3), (4, 1))},
        {"tensor": (-1, (2, 3), (3, 1))},
        {"tensor": (5, (2, 3), (-3, 1))},
        {"tensor": (0, (1 << 40, 6), (0, 1))},
        {"tensor": (0, (-2, -3), (3, 1))},
        {"tensor": (0, (2, 3), (3,))},
        {"tensor": (0, "23", (3, 1))},
        {"tensor": (0, (2.0, 3.0), (3, 1))},
        {"count": 7},
        {"count": 1 << 60},
        {"kind": "HalfStorage"},
        {"key": "1"},
        {"key": "../0"},
        {"key": "/etc/passwd"},
        {"key": 0.5},
        {"word": "module"},
    ],
    ids=str,
)
def test_a_tensor_that_is_not_in_its_storage_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"c\.pth") as error:
        load_arrays(archive(tmp_path / "c.pth", **change))
    assert "\n" not in str(error.value)


def _attribute(data: bytes) -> bytes:
    """Set the attribute ``__doc__`` of the function that makes tensors."""
    state = b"ctorch._utils\n_rebuild_tensor_v2\n(N}" + pickle.dumps("__doc__", 2)[2:-1] + b"Nst" + b"b0"
    return data[:2] + state + data[2:]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"\x80\x02" + b"}r" + struct.pack("<I", 2**31 - 1) + b".",  # an entry of the memo far away
        lambda data: b"\x80\x02(" + b"(" * 100_000 + b".",
        lambda data: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",  # a text longer than the file
        lambda data: b"\x80\x02cos\nsystem\n.",
        lambda data: b"\x80\x02cbuiltins\neval\n(V1+1\ntR.",
        lambda data: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        lambda data: b"\x80\x02\x82\x01.",  # a class of the extension registry
        lambda data: b"",
    ],
    ids=["memo", "nested", "long", "system", "eval", "attribute", "extension", "empty"],
)
def test_a_hostile_pickle_is_refused_with_one_line(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    with zipfile.ZipFile(tmp_path / "c.pth", "w") as zipped:
        zipped.writestr("archive/data.pkl", spoil(_pickled(0, (2, 3), (3, 1))))
    with pytest.raises(ModelError, match=r"c\.pth") as error:
        load_arrays(tmp_path / "c.pth")
    assert "\n" not in str(error.value)


def test_a_file_cannot_change_the_functions_that_read_it(tmp_path: Path) -> None:
    from heartseg.models import weights

    before = weights._tensor.__doc__
    file = archive(tmp_path / "c.pth")
    rewritten(file, lambda name, data: _attribute(data) if name.endswith("data.pkl") else data)
    load_arrays(file)
    assert weights._tensor.__doc__ == before


@pytest.mark.parametrize("order", [b"big", b""])
def test_numbers_in_another_byte_order_are_refused(tmp_path: Path, order: bytes) -> None:
    file = archive(tmp_path / "c.pth")
    rewritten(file, lambda name, data: order if name.endswith("byteorder") else data)
    with pytest.raises(ModelError, match="little-endian"):
        load_arrays(file)


def test_compressed_entries_are_read_as_our_own_training_writes_them(tmp_path: Path) -> None:
    stored = io.BytesIO()
    torch.save({"network_weights": {"a": torch.arange(6000.0).reshape(20, 300)}}, stored)
    (tmp_path / "c.pth").write_bytes(deflated(stored))
    assert {entry.compress_type for entry in zipfile.ZipFile(tmp_path / "c.pth").infolist()} == {zipfile.ZIP_DEFLATED}
    assert_same(tmp_path / "c.pth")


def test_a_compressed_entry_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    stored = io.BytesIO()
    torch.save({"network_weights": {"a": torch.zeros(4_000_000)}}, stored)
    (tmp_path / "c.pth").write_bytes(deflated(stored))
    with pytest.raises(ModelError, match="unpack"):
        load_arrays(tmp_path / "c.pth")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(carded: Path, share: float) -> None:
    file = carded / "fold_0" / "checkpoint_final.pth"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth") as error:
        load_arrays(file)
    assert "\n" not in str(error.value)
