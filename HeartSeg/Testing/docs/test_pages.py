"""Examples in the documentation work: links resolve, commands parse, Python code compiles and uses existing names."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import inspect
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import heartseg
from heartseg.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "HeartSeg" / "Resources").rglob("*.md")],
)
COME_WITH_THE_MODEL = ("docs/images/preview.png", "Models/HeartSeg-Default/heartseg.json")
"""Files made from the final default model; they may be missing only until it exists."""

WRITES_A_FOLDER = ("segment", "export", "report", "compare", "explain", "evaluate", "refine")

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(path: Path, *languages: str) -> Iterator[tuple[int, str]]:
    """Return line number and content of the fenced blocks in one of these languages."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if found.group(1) in languages:
            yield text.count("\n", 0, found.start()) + 2, found.group(2)


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def shell_lines(path: Path) -> Iterator[tuple[int, str]]:
    for start, block in blocks(path, "sh", "bash", "text"):
        for number, line in enumerate(block.splitlines()):
            yield start + number, line.strip()


def test_there_are_pages_in_all_parts() -> None:
    parts = {p.relative_to(ROOT / "docs").parts[0] for p in (ROOT / "docs").rglob("*/*.md")}
    assert parts == {"tutorial", "how-to", "reference", "explanation", "development"}


@page
def test_relative_links_lead_somewhere(page: Path) -> None:
    pending = () if (ROOT / "Models" / "HeartSeg-Default").is_dir() else COME_WITH_THE_MODEL
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:|#", target):
            continue
        path = (page.parent / target.partition("#")[0]).resolve()
        inside = path.is_relative_to(ROOT)
        if not inside or not (path.exists() or path.relative_to(ROOT).as_posix() in pending):
            dead.append(target)
    assert not dead


@page
def test_commands_parse(page: Path) -> None:
    wrong = []
    commands = r"`(heartseg (?:segment|export|evaluate|explain|check|doctor|models|version)\b[^`]*)`"
    inline = [(0, c) for c in re.findall(commands, prose(page))]
    for number, line in [*shell_lines(page), *inline]:
        command = re.split(r" {2,}", line.removeprefix(".venv/bin/"))[0]  # the following columns are explanations
        if not command.startswith("heartseg ") or command in PROGRAMS:
            continue
        with contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                build_parser().parse_args(shlex.split(command, comments=True)[1:])
            except SystemExit as stop:
                if stop.code:
                    wrong.append(f"line {number}: {command}: {said.getvalue().splitlines()[-1]}")
    assert not wrong


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.parent.name in ("how-to", "tutorial")], ids=lambda path: path.stem
)
def test_commands_one_after_the_other_find_their_output_folder_empty(page: Path) -> None:
    used: set[str] = set()
    refused = []
    for number, line in shell_lines(page):
        words = shlex.split(re.split(r" {2,}", line)[0], comments=True) if line.startswith("heartseg ") else []
        if words[1:2] not in ([name] for name in WRITES_A_FOLDER) or "-o" not in words:
            continue
        folder = words[words.index("-o") + 1]
        if "--check-only" in words:
            continue
        if folder in used and not {"--overwrite", "--resume"} & set(words):
            refused.append(f"line {number}: {line}")
        used.add(folder)
    assert not refused


@page
def test_make_knows_its_targets(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    said = [line for _, line in shell_lines(page)] + re.findall(r"`([^`]+)`", prose(page))
    used = {m.group(1) for line in said if (m := re.match(r"(?:[A-Z_]+=\S+ )*make ([a-z-]+)", line))}
    assert used <= targets


@page
def test_tools_that_are_named_exist(page: Path) -> None:
    said = page.read_text(encoding="utf-8")
    assert not [
        t for t in re.findall(r"\b(?:tools|benchmarks|requirements)/\w+\.\w+", said) if not (ROOT / t).is_file()
    ]


@page
def test_python_compiles_and_uses_names_that_exist(page: Path) -> None:
    for number, source in blocks(page, "python"):
        tree = compile(source, f"{page.name}:{number}", "exec", ast.PyCF_ONLY_AST)
        for node in ast.walk(tree):
            where = f"{page.name}, block at line {number}: "
            if isinstance(node, ast.ImportFrom) and re.match(r"heartseg(?!\.(panel|scene))\b", node.module or ""):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), where + ast.unparse(node)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "heartseg":
                assert node.attr in heartseg.__all__, where + ast.unparse(node)
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("heartseg."):
                signature = inspect.signature(getattr(heartseg, ast.unparse(node.func).removeprefix("heartseg.")))
                values = {k.arg: None for k in node.keywords if k.arg}
                try:
                    signature.bind(*node.args, **values)
                except TypeError as error:
                    pytest.fail(f"{where}{ast.unparse(node)}: {error}")


def test_measures_and_results_have_the_members_that_the_examples_use() -> None:
    """Attributes of variables can be looked up only for the conventional names used in the examples."""
    from heartseg.findings import Finding
    from heartseg.progress import ProgressEvent
    from heartseg.result import Result
    from heartseg.volume.dicom import Series
    from heartseg.volume.types import Volume

    kinds = {"result": Result, "volume": Volume, "finding": Finding, "event": ProgressEvent, "series": Series}
    for path in PAGES:
        for number, source in blocks(path, "python"):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in kinds:
                    kind = kinds[node.value.id]
                    known = {*dir(kind), *getattr(kind, "__dataclass_fields__", {})}
                    assert node.attr in known, f"{path.name}, block at line {number}: {ast.unparse(node)}"


def programs(parser: argparse.ArgumentParser) -> set[str]:
    """Return ``heartseg``, ``heartseg segment`` and so on: names of commands without arguments."""
    names = {parser.prog}
    for action in parser._actions:
        choices: Any = action.choices
        if isinstance(choices, dict):
            for inner in choices.values():
                names |= programs(inner)
    return names


PROGRAMS = programs(build_parser())
