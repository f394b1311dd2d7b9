"""What a rule sees: the files that a clone would hold. And what it says: problems, each with the way out."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

EXTENSION = "HeartSeg"
MODULE_FILE = f"{EXTENSION}/{EXTENSION}.py"
PACKAGE = f"{EXTENSION}/Logic/heartseg"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and how to mend it; both without a full stop."""

    wrong: str
    mend: str


@dataclass(frozen=True)
class Tree:
    """The files of a clone: paths relative to ``root`` with forward slashes, sorted."""

    root: Path
    files: tuple[str, ...]

    def has(self, path: str) -> bool:
        """Whether a clone would hold this file."""
        return path in self.files

    def text(self, path: str) -> str:
        """A file's text; empty where there is no such file."""
        return (self.root / path).read_text(encoding="utf-8", errors="replace") if self.has(path) else ""

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return (self.root / path).stat().st_size

    def module(self, path: str) -> ast.Module:
        """A Python file's syntax tree; empty where there is no such file or it does not parse."""
        return _parsed(self.text(path))

    def under(self, folder: str, suffix: str = "") -> list[str]:
        """Files in a folder and below it that end with ``suffix``."""
        return [f for f in self.files if f.startswith(f"{folder}/") and f.endswith(suffix)]


@dataclass(frozen=True)
class Rule:
    """A name, what is asked in words, and the function that looks for problems."""

    name: str
    asks: str
    problems: Callable[[Tree], list[Problem]]


def read_tree(root: Path) -> Tree:
    """The files git would commit (tracked, or new and not ignored); outside a repository every file but hidden folders.

    Raises:
        SystemExit: no such folder.
    """
    if not root.is_dir():
        raise SystemExit(f"no such folder: {root}")
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
        return Tree(root, tuple(sorted({n for n in names if n and (root / n).is_file()})))
    paths = (p.relative_to(root) for p in root.rglob("*") if p.is_file())
    return Tree(
        root, tuple(sorted(p.as_posix() for p in paths if not any(part.startswith(".") for part in p.parts[:-1])))
    )


def cmake_value(text: str, variable: str) -> str | None:
    """The one quoted value that CMake code sets a variable to, as the Extension Manager's scripts read it."""
    found = re.search(rf'set\s*\(\s*{variable}\s+"([^"]*)"\s*\)', uncommented(text))
    return found.group(1) if found else None


def cmake_list(text: str, variable: str) -> list[str] | None:
    """The entries that CMake code sets a variable to, one or more, quoted or not."""
    found = re.search(rf"set\s*\(\s*{variable}\s+([^)]*)\)", uncommented(text))
    if found is None:
        return None
    return [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|([^\s"]+)', found.group(1))]


def uncommented(text: str) -> str:
    """CMake code without its comments; a ``#`` within an address is none."""
    return re.sub(r"(^|\s)#[^\n]*", r"\1", text)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])
