"""``benchmarks/flops.py`` agrees with a manual count."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from tiny_models import make_tiny_model_folder, write_card


@pytest.fixture(scope="module")
def flops(repository: Path) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("flops", repository / "benchmarks" / "flops.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["flops"] = module  # its dataclass looks up its own module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["flops"]


def test_two_convolutions_are_counted_as_by_hand(flops: ModuleType) -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 1, stride=2)).to("meta")
    assert flops.count_flops(network, 1, (8, 8, 8)) == 2 * 27 * 4 * 8**3 + 2 * 4 * 2 * 4**3


def test_the_operations_of_a_folder_grow_with_the_patch_and_come_as_table_and_json(
    flops: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_tiny_model_folder(tmp_path / "tiny")
    make_tiny_model_folder(path / "finder", labels=("LV",))
    write_card(path, ("LV", "RV", "MYO"), finder="finder")
    small, large, finder = flops.costs(str(path), [32, 64])
    assert large.flops == 8 * small.flops
    assert small.weights_mb == round(4 * small.parameters / 1e6, 2)
    assert (small.network, finder.network, finder.patch) == ("fine", "finder", (32, 32, 32))
    monkeypatch.setattr(sys, "argv", ["flops.py", "--model", str(path), "--json"])
    assert flops.main() == 0
    assert [row["flops"] for row in json.loads(capsys.readouterr().out)] == [small.flops, finder.flops]
    monkeypatch.setattr(sys, "argv", ["flops.py", "--model", str(path)])
    assert flops.main() == 0
    assert "| fine | 32 x 32 x 32 |" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["flops.py", "--model", str(tmp_path / "none")])
    assert flops.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
