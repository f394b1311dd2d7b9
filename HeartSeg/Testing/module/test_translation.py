"""Slicer's extractor of translatable texts finds every text that the panel translates, with the context of the text."""

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


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def translated(node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls of ``_`` in a part of a program."""
    yield from (n for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func) == "_")


def sources(root: Path) -> list[Path]:
    """Return the files with texts for translation; the context of a text of the package is ``folder.file``."""
    files = [root / "HeartSeg.py", *sorted((root / "Logic" / "heartseg").rglob("*.py"))]
    return [path for path in files if "_(" in path.read_text(encoding="utf-8") and any(translated(parsed(path)))]


def test_translated_texts_are_literals_outside_of_f_strings(repository: Path) -> None:
    """The extractor reads neither expressions nor the inside of f-strings."""
    for path in sources(repository / "HeartSeg"):
        formatted = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.JoinedStr)]
        inside = [call.lineno for part in formatted for call in translated(part)]
        assert not inside, path.name
        wrong = [
            c.lineno for c in translated(parsed(path)) if not isinstance(c.args[0], ast.Constant) or len(c.args) > 1
        ]
        assert not wrong, path.name


def test_no_function_that_translates_calls_another_value_so(repository: Path) -> None:
    """A local ``_``, as in ``for _ in ...``, hides the function that marks texts; those of comprehensions do not."""
    for path in sources(repository / "HeartSeg"):
        functions = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef) and any(translated(n))]
        for function in functions:
            inner = {id(n) for c in ast.walk(function) if isinstance(c, ast.comprehension) for n in ast.walk(c.target)}
            names = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == "_" and id(n) not in inner]
            assert all(isinstance(n.ctx, ast.Load) for n in names), f"{path.name}: {function.name}"


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
        if path.stem != "HeartSeg":
            (copy.parent / "__init__.py").touch()
    (tmp_path / "ts").mkdir()
    folders = ["-s", str(tmp_path / "source"), "-t", str(tmp_path / "ts")]
    command = [sys.executable, str(script), "-c", "HeartSeg", "-l", "en-US", "--lupdate", lupdate, *folders]
    subprocess.run(command, check=True, capture_output=True)
    contexts = ElementTree.parse(tmp_path / "ts" / "HeartSeg_en-US.ts").getroot().findall("context")
    found = {c.findtext("name"): {m.findtext("source") for m in c.findall("message")} for c in contexts}
    for path in sources(repository / "HeartSeg"):
        context = path.stem if path.stem == "HeartSeg" else f"{path.parent.name}.{path.stem}"
        assert {ast.literal_eval(c.args[0]) for c in translated(parsed(path))} <= found.get(context, set()), path.name
