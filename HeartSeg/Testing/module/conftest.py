"""The module file, loaded as the application loads it."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason='needs slicer-core: pip install "heartseg[app]"')

from heartseg.scene import host


@pytest.fixture(scope="session")
def module(repository: Path) -> Iterator[types.ModuleType]:
    with host.session():
        yield host.load_module(repository / "HeartSeg" / "HeartSeg.py")


@pytest.fixture(autouse=True)
def _empty_scene(module) -> Iterator[None]:
    import slicer

    slicer.mrmlScene.Clear(0)
    yield
    slicer.mrmlScene.Clear(0)
