"""The module file, loaded as the application loads it."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="needs slicer-core (extra dev)")

from slicer_host import host
from slicer_host.source import real_files


@pytest.fixture(scope="module")
def module(repository: Path) -> Iterator[types.ModuleType]:
    """Removed after the tests of a file, because pytest uses the name ``HeartSeg`` for the folder of all tests."""
    before = sys.modules.get("HeartSeg")
    with host.session(), real_files():
        yield host.load_module(repository / "HeartSeg" / "HeartSeg.py")
    if before is None:
        del sys.modules["HeartSeg"]
    else:
        sys.modules["HeartSeg"] = before


@pytest.fixture(autouse=True)
def _empty_scene(module: types.ModuleType) -> Iterator[None]:
    import slicer

    slicer.mrmlScene.Clear(0)
    yield
    slicer.mrmlScene.Clear(0)
