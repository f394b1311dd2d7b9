"""Slicer's extractor of translatable texts finds every text that the panel translates."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from slicer_host.source import slicer_source


def translated(path: Path) -> Iterator[ast.Call]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from (
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "_"
    )


def sources(root: Path) -> list[Path]:
    return [root / "HeartSeg.py", *sorted((root / "Logic" / "heartseg" / "panel").glob("*.py"))]


def test_translated_texts_are_literals_outside_of_f_strings(repository: Path) -> None:
    """The extractor reads neither expressions nor the inside of f-strings."""
    for path in sources(repository / "HeartSeg"):
        formatted = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.JoinedStr)]
        inside = {call.lineno for n in formatted for call in ast.walk(n) if ast.unparse(call).startswith("_(")}
        assert not inside, path.name
        wrong = [c.lineno for c in translated(path) if not isinstance(c.args[0], ast.Constant) or len(c.args) > 1]
        assert not wrong, path.name


def test_slicers_extractor_finds_every_text(repository: Path, tmp_path: Path) -> None:
    """Slicer's ``update_translations.py`` with Qt's ``lupdate``."""
    root, lupdate = slicer_source(), shutil.which("pyside6-lupdate", path=str(Path(sys.executable).parent))
    script = root / "Utilities" / "Scripts" / "update_translations.py" if root is not None else None
    if script is None or not script.is_file() or lupdate is None:
        pytest.skip("needs SLICER_SOURCE, a checkout of Slicer, and lupdate")
    for path in sources(repository / "HeartSeg"):
        copy = tmp_path / "source" / path.relative_to(repository / "HeartSeg")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (tmp_path / "ts").mkdir()
    command = ["-c", "HeartSeg", "-s", tmp_path / "source", "-t", tmp_path / "ts", "--lupdate", lupdate, "-l", "en-US"]
    subprocess.run([sys.executable, script, *command], check=True, capture_output=True)
    contexts = ElementTree.parse(tmp_path / "ts" / "HeartSeg_en-US.ts").getroot().findall("context")
    found = {c.findtext("name"): {m.findtext("source") for m in c.findall("message")} for c in contexts}
    for path in sources(repository / "HeartSeg"):
        context = path.stem if path.stem == "HeartSeg" else f"panel.{path.stem}"
        assert {c.args[0].value for c in translated(path)} <= found.get(context, set()), path.name
