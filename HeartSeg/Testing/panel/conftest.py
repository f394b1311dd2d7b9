"""The real module with its panel, on the real scene, with strict stand-ins for Qt's and Slicer's widgets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason='needs slicer-core: pip install "heartseg[app]"')
pytest.importorskip("PySide6", reason="needs PySide6-Essentials (extra dev)")

from pythonqt import PanelHost, panel_host
from tiny_models import make_tiny_model_folder, synthetic_volume


@pytest.fixture(scope="package")
def session(repository: Path) -> Iterator[PanelHost]:
    """One set of stand-ins for all tests of the panel."""
    with panel_host(repository / "HeartSeg" / "HeartSeg.py") as running:
        yield running


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one real, tiny, untrained network that has a card: a run takes a second."""
    store = tmp_path_factory.mktemp("models")
    make_tiny_model_folder(
        store / "Tiny", labels=("LV", "RV", "MYO"), card=True, patch=(16, 16, 16), features=(4, 8), full_checkpoint=False
    )
    return store


@pytest.fixture
def panel(session: PanelHost, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The opened panel, in an empty scene, with the tiny model chosen; closed afterwards."""
    import slicer

    monkeypatch.setenv("HEARTSEG_MODELS", str(tiny_model))
    slicer.mrmlScene.Clear(0)
    session.messages.clear()
    session.answers.clear()
    session.selected_modules.clear()
    widget = session.open()
    widget._parameterNode.model = "Tiny"
    widget._parameterNode.cleanUp = False
    widget._parameterNode.device = "cpu"
    widget.panel.models.show("Tiny")
    yield widget
    session.close()
    slicer.mrmlScene.Clear(0)


@pytest.fixture
def scan(session: PanelHost) -> object:
    """A volume node with three ellipsoids; several tiles of the tiny model."""
    import slicer

    image, _ = synthetic_volume(3, (30, 32, 34))
    matrix = np.diag([-1.5, -1.5, 1.5, 1.0])
    return slicer.util.addVolumeFromArray(image.astype(np.float32), ijkToRAS=matrix, name="scan")
