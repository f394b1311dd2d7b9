"""Python source: what is imported when Slicer starts, what is installed and asked, and the module's shape."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import lru_cache

from .tree import EXTENSION, MODULE_FILE, PACKAGE, Problem, Rule, Tree

ALLOWED = frozenset({"slicer", "vtk", "qt", "ctk", "numpy", "SimpleITK"})
"""Beside the standard library, what may be imported at file scope when Slicer starts."""
BY_PIP = frozenset({"pip_install", "pip_ensure", "pip_uninstall"})
INSTALLERS = BY_PIP | {"installTorch", "uninstallTorch"}
DIALOGS = frozenset(
    {
        "errorDisplay",
        "warningDisplay",
        "infoDisplay",
        "messageBox",
        "confirmOkCancelDisplay",
        "confirmYesNoDisplay",
        "confirmRetryCloseDisplay",
        "exec_",
        "QMessageBox",
        "ctkMessageBox",
        "QDialog",
        "QInputDialog",
    }
)
AT_START = frozenset({"__init__", "setup", "enter"})
"""Methods that run before the user has asked for anything."""
NEVER_BY_PIP = re.compile(r"(^|\s)(torch|torchvision|SimpleITK)\b")
"""torch comes by the PyTorch extension; Slicer's own SimpleITK must stay."""
OUTDATED = ("QTextCodec", "currentIndexChanged(QString)", "currentIndexChanged(const QString", "buttonClicked(int)")
"""Gone in Qt 6."""
CONNECTING = ("connectGui", "connectParametersToGui")
"""The parameter node wrapper's ways to bind parameters to widgets."""
WIDGET_METHODS = ("setup", "cleanup", "enter", "exit", "onSceneStartClose", "onSceneEndClose", "onReload")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def imports(tree: Tree) -> list[Problem]:
    """What HeartSeg.py imports at file scope, and what the package's modules that it reaches import there."""
    found = []
    waiting, seen = [MODULE_FILE], {MODULE_FILE}
    while waiting:
        path = waiting.pop(0)
        for name, line in file_scope_imports(tree.module(path), _dotted(path)):
            top = name.partition(".")[0]
            if top == "heartseg":
                reached = _files_of(tree, name)
                waiting += [f for f in reached if f not in seen]
                seen |= set(reached)
            elif top not in ALLOWED and top not in sys.stdlib_module_names:
                where = f"{path}:{line}" + ("" if path == MODULE_FILE else f" (which {EXTENSION}.py loads)")
                found.append(Problem(f"{where} imports {name} at file scope", "import it in the function that uses it"))
    return found


def nothing_installed(tree: Tree) -> list[Problem]:
    """No installation in what runs when Slicer starts or the module opens."""
    return _at_start_problems(tree, INSTALLERS, "installs", "install in a method that the user's click calls")


def few_popups(tree: Tree) -> list[Problem]:
    """No dialog there either."""
    return _at_start_problems(tree, DIALOGS, "opens a dialog", "tell it in the panel")


def slicer_packages(tree: Tree) -> list[Problem]:
    """torch, torchvision and SimpleITK are never given to pip."""
    found = []
    for path in _python(tree):
        if not any(name in tree.text(path) for name in INSTALLERS):
            continue
        for call in (n for n in ast.walk(tree.module(path)) if isinstance(n, ast.Call) and _name(n) in BY_PIP):
            given = [*call.args, *(k.value for k in call.keywords if k.arg != "skip_packages")]
            found += [
                Problem(
                    f"{path}:{call.lineno} gives '{text}' to pip", "use PyTorchUtils for torch, Slicer's own SimpleITK"
                )
                for text in _strings(given)
                if NEVER_BY_PIP.search(text)
            ]
    return found


def module_shape(tree: Tree) -> list[Problem]:
    """The four classes, the widget's methods, and a parameter node that is wrapped and connected."""
    module = tree.module(MODULE_FILE)
    classes = {n.name: n for n in module.body if isinstance(n, ast.ClassDef)}
    found = [
        Problem(f"{MODULE_FILE} has no class {EXTENSION}{part}", "write it, derived from ScriptedLoadableModule" + part)
        for part in ("", "Widget", "Logic", "Test")
        if f"{EXTENSION}{part}" not in classes
    ]
    widget = classes.get(f"{EXTENSION}Widget")
    methods = {n.name for n in widget.body if isinstance(n, Function)} if widget is not None else set(WIDGET_METHODS)
    found += [
        Problem(f"{EXTENSION}Widget has no method {name}", "write it, as Slicer's template does")
        for name in WIDGET_METHODS
        if name not in methods
    ]
    wrapped = [c for c in classes.values() if any(_name_of(d) == "parameterNodeWrapper" for d in c.decorator_list)]
    if not wrapped:
        found.append(
            Problem(f"{MODULE_FILE} has no class under @parameterNodeWrapper", "keep the panel's state in one")
        )
    if not any(_name(n) in CONNECTING for n in ast.walk(module) if isinstance(n, ast.Call)):
        wanted = " or ".join(CONNECTING)
        found.append(Problem(f"{MODULE_FILE} never calls {wanted}", "connect the parameter node to the panel"))
    return found


def both_qts(tree: Tree) -> list[Problem]:
    """Nothing that Qt 6 or Python 3.12 no longer has."""
    found = []
    for path in [*_python(tree), *tree.under(f"{EXTENSION}/Resources", ".ui")]:
        found += [
            Problem(f"{path} uses {word}", "Slicer may be built with Qt 6: use what both have")
            for word in OUTDATED
            if word in tree.text(path)
        ]
        if path.endswith(".py") and any(n == "imp" for n, _ in file_scope_imports(tree.module(path), _dotted(path))):
            found.append(Problem(f"{path} imports imp", "Python 3.12 has none: use importlib"))
    return found


def file_scope_imports(module: ast.Module, dotted: str) -> Iterator[tuple[str, int]]:
    """Dotted name and line of each import that runs when the file is loaded; names from a package as package.name."""
    for node in _file_scope(module.body):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*dotted.split(".")[: -node.level], *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def _file_scope(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a file is loaded, those in branches and class bodies too; not ``if TYPE_CHECKING``."""
    for node in body:
        if isinstance(node, Function):
            continue
        yield node
        if isinstance(node, ast.If) and _name_of(node.test) == "TYPE_CHECKING":
            yield from _file_scope(node.orelse)
            continue
        for part in ("body", "orelse", "finalbody"):
            yield from _file_scope(getattr(node, part, []))
        for handler in getattr(node, "handlers", []):
            yield from _file_scope(handler.body)


def _at_start_problems(tree: Tree, names: frozenset[str], does: str, mend: str) -> list[Problem]:
    return [
        Problem(f"{path}:{line} {does} ({name}) before the user asked", mend)
        for path in _python(tree)
        for name, line in _calls_at_start(tree.module(path))
        if name in names
    ]


@lru_cache(maxsize=1024)
def _calls_at_start(module: ast.Module) -> tuple[tuple[str, int], ...]:
    """Name and line of every call at file scope and in the methods ``AT_START``, and in what of this file they call."""
    functions: dict[str, list[Function]] = {}
    for node in ast.walk(module):
        if isinstance(node, Function):
            functions.setdefault(node.name, []).append(node)
    waiting: list[ast.AST] = [f for name in AT_START for f in functions.get(name, [])]
    calls = {(_name(c), c.lineno) for s in _file_scope(module.body) for c in _calls_of_statement(s)}
    followed = set(AT_START)
    reached = set(calls)
    while waiting or reached:
        for name, _ in reached:
            if name in functions and name not in followed:
                followed.add(name)
                waiting += functions[name]
        reached = {(_name(c), c.lineno) for f in waiting for c in _calls_within(f)}
        calls |= reached
        waiting = []
    return tuple(sorted(calls))


def _calls_of_statement(statement: ast.stmt) -> Iterator[ast.Call]:
    """Calls in a statement itself, without the statements that it holds (they are looked at on their own)."""
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _calls_within(child)


def _calls_within(node: ast.AST) -> Iterator[ast.Call]:
    """Calls in a node, without those in functions and lambdas defined there, which run later."""
    waiting = [node]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, ast.Call):
            yield inner
        waiting += [
            child
            for child in ast.iter_child_nodes(inner)
            if not isinstance(child, ast.Lambda | ast.ClassDef | Function)
        ]


def _name(call: ast.Call) -> str:
    return _name_of(call.func)


def _name_of(node: ast.expr) -> str:
    """Last part of a dotted name, of what is called or decorates; empty for anything else."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _strings(nodes: list[ast.expr]) -> list[str]:
    """Every literal string in these expressions."""
    inner = (n for node in nodes for n in ast.walk(node))
    return [n.value for n in inner if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def _python(tree: Tree) -> list[str]:
    """The module's main file and the package's."""
    return [*([MODULE_FILE] if tree.has(MODULE_FILE) else []), *tree.under(PACKAGE, ".py")]


def _dotted(path: str) -> str:
    """A package file's dotted name, for relative imports; ``__init__`` counts as a part."""
    return path.removeprefix(f"{EXTENSION}/Logic/").removesuffix(".py").replace("/", ".")


def _files_of(tree: Tree, name: str) -> list[str]:
    """Files that importing ``heartseg.a.b`` runs: the packages on the way, and the module (or package) itself."""
    parts = name.split(".")
    paths = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    candidates = [f"{EXTENSION}/Logic/{p}{end}" for p in paths for end in ("/__init__.py", ".py")]
    return [c for c in candidates if tree.has(c)]


RULES = (
    Rule("imports", f"at file scope, {EXTENSION}.py loads the standard library, {', '.join(sorted(ALLOWED))}", imports),
    Rule(
        "nothing-installed",
        "nothing is installed at file scope, in a constructor, in setup or enter",
        nothing_installed,
    ),
    Rule("few-pop-ups", "no dialog opens there either", few_popups),
    Rule("slicer-packages", "pip is never given torch or SimpleITK", slicer_packages),
    Rule("module-shape", "the module has the shape of Slicer's template", module_shape),
    Rule("both-qts", "nothing that Qt 6 or Python 3.12 no longer has", both_qts),
)
