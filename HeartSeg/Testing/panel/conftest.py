"""The real module with its panel, on the real scene, with strict stand-ins for the widgets of Qt and Slicer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core (extra dev)")
pytest.importorskip("PySide6", reason="needs PySide6-Essentials (extra dev)")

from panel.driver import Driver, Gate, gated_reporter
from pythonqt import PanelHost, panel_host
from tiny_models import make_tiny_model_folder, synthetic_volume


@pytest.fixture(scope="module")
def session(repository: Path) -> Iterator[PanelHost]:
    """One set of stand-ins for all tests of a file; removed before others, which must not find Slicer's names."""
    with panel_host(repository / "HeartSeg" / "HeartSeg.py") as running:
        yield running


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one real, tiny, untrained network that has a card: a run takes a second and 27 tiles."""
    store = tmp_path_factory.mktemp("models")
    labels = ("LV", "RV", "MYO")
    make_tiny_model_folder(store / "Tiny", labels=labels, card=True, features=(4, 8), full_checkpoint=False)
    return store


@pytest.fixture
def opened(session: PanelHost, tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """The opened panel in an empty scene, without any choices; closed afterwards."""
    import slicer

    monkeypatch.setenv("HEARTSEG_MODELS", str(tiny_store))
    slicer.mrmlScene.Clear(0)
    session.messages.clear()
    session.answers.clear()
    session.selected_modules.clear()
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)  # always present in the application
    session.open()
    yield Driver(session, session.panel)
    session.close()
    slicer.mrmlScene.Clear(0)


@pytest.fixture
def scan(opened: Driver) -> Any:
    """Return a volume node of 78 mm with three ellipsoids."""
    import slicer

    image, _ = synthetic_volume(3, (26, 26, 26))
    matrix = np.diag([-3.0, -3.0, 3.0, 1.0])
    return slicer.util.addVolumeFromArray(image.astype(np.float32), ijkToRAS=matrix, name="scan")


@pytest.fixture
def user(opened: Driver, scan: Any) -> Driver:
    """A user who has chosen the scan and the tiny model and only has to press the button."""
    parameters = opened.parameters
    parameters.inputVolume, parameters.model = scan, "Tiny"
    parameters.device, parameters.cleanUp = "cpu", False
    opened.panel.models.show("Tiny")
    opened.panel.refresh()
    return opened


@pytest.fixture
def hold(session: PanelHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Gate]]:
    """``hold("predict")``: the worker pauses there and waits for ``gate.open()``."""
    from heartseg.panel import worker

    gates: list[Gate] = []

    def make(stage: str, done: int = 0) -> Gate:
        gate = Gate(stage, done)
        gates.append(gate)
        monkeypatch.setattr(worker, "Reporter", gated_reporter(gate))
        return gate

    yield make
    for gate in gates:
        gate.open()


@pytest.fixture
def section(user: Driver) -> Any:
    """The section Mend after a run, with mending started."""
    from panel.mending import mend_section, start

    user.run()
    found = mend_section(user)
    start(user, found)
    return found
