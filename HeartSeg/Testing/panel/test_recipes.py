"""The recipes of the page about Slicer's Python run word for word, one after the other, in one namespace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import slicer

from panel.driver import Driver
from panel.test_frames import series

__all__ = ["series"]

PAGE = "docs/how-to/use-from-python-in-slicer.md"


def test_every_recipe_runs(
    user: Driver,
    scan: Any,
    series: Any,
    repository: Path,
    tiny_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from heartseg.panel import work
    from heartseg.pipeline import Segmenter

    monkeypatch.setattr(work, "make_segmenter", lambda model, settings: Segmenter(str(tiny_store / "Tiny"), settings))
    scan.SetName("CTACardio")
    page = (repository / PAGE).read_text(encoding="utf-8")
    recipes = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    names: dict[str, Any] = {}
    printed: dict[str, str] = {}
    for title, recipe in recipes.items():
        if "time series" in title:
            names["scan"] = series.GetProxyNode(series.GetMasterSequenceNode())
        for code in re.findall(r"^```python\n(.*?)^```$", recipe, re.MULTILINE | re.DOTALL):
            exec(compile(code, title, "exec"), names)
        printed[title] = capsys.readouterr().out
    assert re.search(r"^[\d.]+ mL$", printed["Segment the scan that is shown"], re.MULTILINE)
    assert "predict 100 %" in printed["Follow a run"] and "CTACardio" in printed["Follow a run"]
    assert names["table"].GetNumberOfRows() > 0
    assert names["heard"] in user.panel.logic.runs._observers.values()
    assert series.GetSequenceNode(names["segmentation"]).GetNumberOfDataNodes() == 3
    assert printed["From another extension"] == ""  # nothing is missing here
    slicer.mrmlScene.Clear(0)
