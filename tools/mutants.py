"""Mutation testing: change one thing in the package, run the tests that cover it, and see whether one of them fails.

``tools/mutants.toml`` holds the parts of the package, the tests of each, the 60 mutants that every version is measured
with, and the equivalent mutants that do not count, each with its reason.

    python tools/mutants.py                              the 60 fixed mutants
    python tools/mutants.py --part translation           those of one part
    python tools/mutants.py --fresh 20 --seed 7 --part translation     20 others, drawn from that part
    python tools/mutants.py --draw                       draw the fixed mutants anew and print them

A mutant is named ``file::qualified name::operator::ordinal``, the ordinal counting the places in that function where
the operator applies, so that the name survives lines that move. Exit status: 0 if the tests of the unchanged package
pass, whatever the mutants do; 1 otherwise.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("HeartSeg/Logic/heartseg")
TESTS = Path("HeartSeg/Testing")
PRELOADED = ("numpy", "scipy.ndimage", "SimpleITK", "torch", "pytest", "hypothesis")
"""Packages that every test imports: this process imports them once."""
KILLED, SURVIVED, GONE = "killed", "survived", "gone"

BINARY = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMPARISONS = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
SKIPPED_FIELDS = {"annotation", "returns", "decorator_list", "type_params", "bases", "exc", "msg"}
"""Parts of a node that are not mutated: types, decorators, and the texts of errors."""


@dataclass(frozen=True)
class Site:
    """A place in a syntax tree and what to put there."""

    name: str
    line: int
    parent: ast.AST
    field: str
    index: int | None
    new: ast.AST
    guard: bool = False
    """Whether nothing can notice it: ``zip``'s check of lengths that are equal, or imports for type checkers."""

    def apply(self) -> None:
        if self.index is None:
            setattr(self.parent, self.field, self.new)
        else:
            getattr(self.parent, self.field)[self.index] = self.new


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Operator and replacement of every mutation of one node."""

    def changed(**fields: object) -> ast.AST:
        new = copy.copy(node)
        for key, value in fields.items():
            setattr(new, key, value)
        return new

    match node:
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in BINARY and not joins_text(node):
            yield "arithmetic", changed(op=BINARY[type(op)]())
        case ast.Compare(ops=[op, *rest]):
            yield "comparison", changed(ops=[COMPARISONS[type(op)](), *rest])
        case ast.Constant(value=bool(value)):
            yield "boolean", ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield "constant", ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield "constant", ast.Constant(value * 1.5 if value else 1.0)
        case ast.BoolOp(op=op):
            yield "boolean", changed(op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not(), operand=operand) | ast.UnaryOp(op=ast.USub(), operand=operand):
            yield "negation", operand
        case ast.If(test=test) | ast.IfExp(test=test):
            yield "condition", changed(test=ast.UnaryOp(ast.Not(), test))
        case ast.Return(value=value) if value is not None and not is_none(value):
            yield "return", ast.Return(ast.Constant(None))
        case ast.Raise():
            yield "raise", ast.Pass()
        case ast.Expr(value=ast.Call() as call) if not ast.unparse(call.func).startswith("log."):
            yield "call", ast.Pass()
    if isinstance(node, ast.Call):
        for i, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                yield "keyword", changed(keywords=node.keywords[:i] + node.keywords[i + 1 :])


def dropped(call: ast.AST, new: ast.AST) -> set[str | None]:
    """Names of the keyword arguments that a mutated call lacks."""
    before, after = (getattr(node, "keywords", []) for node in (call, new))
    return {k.arg for k in before if k not in after}


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def joins_text(node: ast.BinOp | ast.AugAssign) -> bool:
    """Whether an operation makes a string or a path: its mutants only raise ``TypeError``."""
    parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.value]
    return any(
        isinstance(p, ast.JoinedStr) or (isinstance(p, ast.Constant) and isinstance(p.value, str)) for p in parts
    )


def find_sites(tree: ast.Module, file: str) -> list[Site]:
    """All mutations of a module, in the order of the source."""
    found: list[Site] = []
    ordinals: Counter[tuple[str, str]] = Counter()

    def visit(node: ast.AST, scope: str) -> None:
        for field, value in ast.iter_fields(node):
            if field in SKIPPED_FIELDS:
                continue
            for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr):
                    continue
                for operator, new in changes(child):
                    name = f"{file}::{scope or '<module>'}::{operator}::{ordinals[scope, operator]}"
                    ordinals[scope, operator] += 1
                    guard = isinstance(node, ast.keyword) and node.arg == "strict"
                    guard |= operator == "keyword" and "strict" in dropped(child, new)
                    guard |= is_for_type_checkers(child)
                    found.append(Site(name, getattr(child, "lineno", 0), node, field, index, new, guard))
                if is_for_type_checkers(child):
                    continue
                inner = f"{scope}.{child.name}".lstrip(".") if isinstance(child, SCOPES) else scope
                visit(child, inner)

    visit(tree, "")
    return found


@dataclass(frozen=True)
class Part:
    """A part of the package: its files, relative to the package, and the tests of each."""

    name: str
    tests: dict[str, tuple[str, ...]]

    def sites(self) -> dict[str, int]:
        """Name and line of every mutant, in a fixed order."""
        return {
            site.name: site.line
            for file in self.tests
            for site in find_sites(ast.parse((ROOT / PACKAGE / file).read_text(encoding="utf-8")), file)
            if not site.guard
        }


def read_parts(plan: dict) -> list[Part]:
    parts = []
    for name, files in plan["parts"].items():
        tests: dict[str, tuple[str, ...]] = {}
        for pattern, paths in files.items():
            for file in sorted((ROOT / PACKAGE).glob(pattern)):
                relative = file.relative_to(ROOT / PACKAGE).as_posix()
                there = tuple(p for p in paths if (ROOT / TESTS / p).exists())
                tests.setdefault(relative, there)  # the first pattern that fits counts
        parts.append(Part(name, tests))
    return parts


def draw(parts: Sequence[Part], each: int, seed: int, without: Sequence[str]) -> list[str]:
    """So many mutants of every part; the draw of one part does not depend on the others."""
    names = []
    for part in parts:
        candidates = [n for n in part.sites() if n not in set(without)]
        names += random.Random(f"{seed} {part.name}").sample(candidates, min(each, len(candidates)))
    return names


class Copy:
    """A copy of the tracked and untracked files of the working tree, in which one file at a time is mutated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tree"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.folder / name)

    def passes(self, tests: Sequence[str], limit: float) -> bool:
        """Whether the tests pass within the time limit, in seconds.

        They run in a fork of this process, which has imported the heavy packages and nothing of HeartSeg.
        """
        child = os.fork()
        if child == 0:
            self._become_pytest(tests)
        end = time.monotonic() + limit
        while time.monotonic() < end:
            finished, status = os.waitpid(child, os.WNOHANG)
            if finished:
                return os.waitstatus_to_exitcode(status) == 0
            time.sleep(0.1)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False

    def _become_pytest(self, tests: Sequence[str]) -> None:
        """Run the tests and exit; a crash exits too, with another status than 0."""
        status = 1
        try:
            os.setsid()
            os.chdir(self.folder)
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            paths = [str(self.folder / p) for p in (PACKAGE.parent, TESTS)]
            os.environ.update(PYTHONPATH=os.pathsep.join(paths), PYTHONDONTWRITEBYTECODE="1")
            sys.path[:] = paths + sys.path
            sys.dont_write_bytecode = True
            options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
            status = int(importlib.import_module("pytest").main([*options, *(str(TESTS / t) for t in tests)]))
        finally:
            os._exit(status)

    def outcome(self, name: str, tests: Sequence[str], limit: float) -> tuple[str, int]:
        """What the tests make of a mutant, and its line."""
        file = PACKAGE / name.split("::")[0]
        original = (self.folder / file).read_text(encoding="utf-8") if (self.folder / file).is_file() else ""
        tree = ast.parse(original)
        site = next((s for s in find_sites(tree, name.split("::")[0]) if s.name == name), None)
        if site is None:
            return GONE, 0
        site.apply()
        (self.folder / file).write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
        try:
            return SURVIVED if self.passes(tests, limit) else KILLED, site.line
        finally:
            (self.folder / file).write_text(original, encoding="utf-8")


def run_part(part: Part, names: Sequence[str], tree: Copy) -> list[tuple[str, int, str]]:
    """Name, line and outcome of each mutant; the tests of the unchanged files must pass first.

    Raises:
        SystemExit: they do not.
    """
    limits: dict[tuple[str, ...], float] = {}
    rows = []
    for name in names:
        file = name.split("::")[0]
        tests = part.tests.get(file, ())
        if tests not in limits:
            start = time.monotonic()
            if not tree.passes(tests, 1800):
                raise SystemExit(
                    f"the tests of '{file}' fail without a mutation ({', '.join(tests)}): repair them first"
                )
            limits[tests] = 60 + 4 * (time.monotonic() - start)
        outcome, line = tree.outcome(name, tests, limits[tests])
        rows.append((name, line, outcome))
        print(f"| {part.name} | {file}:{line} | {'::'.join(name.split('::')[1:])} | {outcome} |", flush=True)
    return rows


def totals(results: dict[str, list[tuple[str, int, str]]]) -> str:
    """A table of killed and counted mutants by part."""
    lines = ["", "| part | killed | of | score |", "|---|---|---|---|"]
    everything = [row for rows in results.values() for row in rows]
    for name, rows in (*results.items(), ("total", everything)):
        counted = [r for r in rows if r[2] != GONE]
        killed = sum(r[2] == KILLED for r in counted)
        lines.append(f"| {name} | {killed} | {len(counted)} | {100 * killed / max(1, len(counted)):.0f} % |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", help="only this part; may be repeated")
    parser.add_argument("--file", action="append", help="only this file of the package; may be repeated")
    parser.add_argument("--fresh", type=int, help="draw so many other mutants of every part")
    parser.add_argument("--seed", type=int, help="of the draw")
    parser.add_argument("--draw", action="store_true", help="draw the fixed mutants anew and print them")
    parser.add_argument("--only", action="append", help="this mutant; may be repeated")
    options = parser.parse_args()
    plan = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    equivalent, fixed = plan["equivalent"], plan["fixed"]
    parts = [p for p in read_parts(plan) if not options.part or p.name in options.part]
    if options.file:
        parts = [Part(p.name, {f: t for f, t in p.tests.items() if f in options.file}) for p in parts]
    if options.draw:
        names = draw(parts, fixed["each"], fixed["seed"], list(equivalent))
        print("mutants = [", *(f'  "{n}",' for n in names), "]", sep="\n")
        return 0
    if options.fresh:
        names = draw(parts, options.fresh, options.seed or 0, [*fixed["mutants"], *equivalent])
    else:
        names = options.only or [plan["moved"].get(n, n) for n in fixed["mutants"] if n not in equivalent]
    print("| part | place | mutant | outcome |\n|---|---|---|---|")
    results = {}
    for package in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Copy(Path(folder))
        for part in parts:
            own = [n for n in names if n.split("::")[0] in part.tests]
            results[part.name] = run_part(part, own, tree)
    print(totals({name: rows for name, rows in results.items() if rows}))
    for name in equivalent:
        print(f"\nnot counted: {name}: {equivalent[name]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
