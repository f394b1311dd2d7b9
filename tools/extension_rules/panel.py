"""The panel: strings that can be translated, scene connections, notice; terminology and sample data it offers."""

from __future__ import annotations

import ast
import json
import re
import runpy
from collections.abc import Iterator
from xml.etree import ElementTree

from .source import _name
from .tree import EXTENSION, MODULE_FILE, PACKAGE, Problem, Rule, Tree

UI = f"{EXTENSION}/Resources/UI"
TERMINOLOGY = f"{EXTENSION}/Resources/{EXTENSION}.term.json"
ANATOMY = f"{PACKAGE}/anatomy.py"
SAMPLE = {
    f"{EXTENSION}/Resources/SampleData/HeartSeg-synthetic-CTA.nii.gz": "run python -m heartseg.synthesis.sample",
    f"{EXTENSION}/Resources/Icons/HeartSegSyntheticCTA.png": "run python tools/draw_sample_thumbnail.py",
    f"{PACKAGE}/scene/sample_data.py": "restore it: it registers the scan",
}
SHOWN = frozenset(
    {"text", "title", "windowTitle", "toolTip", "statusTip", "whatsThis", "placeholderText", "noneDisplay", "label"}
)
"""Properties whose text a user sees."""
SHOWN_IN_CODE = SHOWN | {"helpText", "acknowledgementText", "windowText"}
SHOWING = frozenset(
    {
        "errorDisplay",
        "warningDisplay",
        "infoDisplay",
        "confirmOkCancelDisplay",
        "confirmYesNoDisplay",
        "setText",
        "setToolTip",
        "setTitle",
        "setWindowTitle",
        "setPlaceholderText",
        "show_status",
        "showStatusMessage",
    }
)
"""Functions whose first argument a user sees."""
TRANSLATORS = frozenset({"_", "tr", "translate"})
NOTICE = "not a medical device"


def ui_translatable(tree: Tree) -> list[Problem]:
    """Every .ui file is XML, and nothing a user sees is kept from translation."""
    found = []
    for path in tree.under(UI, ".ui"):
        root = _ui(tree, path)
        if root is None:
            found.append(Problem(f"{path} is no valid XML", "save it anew with Qt Designer"))
            continue
        for owner in root.iter():
            for field in (*owner.findall("property"), *owner.findall("attribute")):
                for text in _untranslatable(field) if field.get("name") in SHOWN else ():
                    what = f"{path}: {field.get('name')} '{text}' of {owner.get('name') or owner.tag}"
                    found.append(Problem(f"{what} is marked notr", 'take notr="true" from it'))
    return found


def strings_translatable(tree: Tree) -> list[Problem]:
    """In the module and its panel, what a user sees goes through ``_()``, which is given one literal string."""
    found = []
    for path in [p for p in (MODULE_FILE, *tree.under(f"{PACKAGE}/panel", ".py")) if tree.has(p)]:
        for node in ast.walk(tree.module(path)):
            for text in _shown(node):
                what = f"{path}:{text.lineno} shows {ast.unparse(text)[:60]}"
                found.append(Problem(f"{what} untranslated", 'write _("..."), with .format(...) after it'))
            if isinstance(node, ast.Call) and _name(node) == "_" and not _one_literal(node):
                what = f"{path}:{node.lineno} translates {ast.unparse(node)[:60]}"
                found.append(Problem(f"{what}, which the translators' tool cannot read", "give _() one literal string"))
    return found


def scene_connections(tree: Tree) -> list[Problem]:
    """A qMRML widget knows no nodes until the panel hands it the scene; the panel's state has names there."""
    found = []
    for path in tree.under(UI, ".ui"):
        root = _ui(tree, path)
        if root is None:
            continue
        top = root.find("widget")
        receivers = {
            c.findtext("receiver")
            for c in root.iter("connection")
            if (c.findtext("signal") or "").startswith("mrmlSceneChanged(") and c.findtext("sender") == top.get("name")
        }
        found += [
            Problem(f"{path}: {w.get('name')} is never given the scene", "connect the panel's mrmlSceneChanged to it")
            for w in top.iter("widget")
            if w is not top and (w.get("class") or "").startswith("qMRML") and w.get("name") not in receivers
        ]
    if not any('name="SlicerParameterName"' in tree.text(f) for f in tree.under(UI, ".ui")):
        found.append(Problem(f"no widget in {UI} has a SlicerParameterName", "name the parameter node's fields there"))
    return found


def notice(tree: Tree) -> list[Problem]:
    """The panel and the module's help say what it is not."""
    places = {MODULE_FILE: tree.text(MODULE_FILE), f"{UI}/{EXTENSION}.ui": tree.text(f"{UI}/{EXTENSION}.ui")}
    return [Problem(f"{path} does not say '{NOTICE}'", "say it") for path, text in places.items() if NOTICE not in text]


def terminology(tree: Tree) -> list[Problem]:
    """The terminology holds the structures of ``anatomy.py``: codes, meanings, colours."""
    mend = "write it from heartseg.export.terminology.terminology_context()"
    try:
        content = json.loads(tree.text(TERMINOLOGY))
        (category,) = content["SegmentationCodes"]["Category"]
        keys = ("CodingSchemeDesignator", "CodeValue", "CodeMeaning", "recommendedDisplayRGBValue")
        shipped = [tuple(kind[key] for key in keys) for kind in category["Type"]]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        return [Problem(f"{TERMINOLOGY} is missing or no segment context ({type(error).__name__})", mend)]
    if not tree.has(ANATOMY):
        return [Problem(f"there is no {ANATOMY}", "restore it")]
    structures = runpy.run_path(str(tree.root / ANATOMY), run_name="anatomy")["STRUCTURES"]
    known = [("SCT", s.snomed_code, s.snomed_meaning, list(s.color)) for s in structures]
    found = [Problem(f"{TERMINOLOGY} has {k}, {ANATOMY} has not", mend) for k in shipped if k not in known]
    found += [Problem(f"{TERMINOLOGY} lacks {k}", mend) for k in known if k not in shipped]
    return found


def sample_data(tree: Tree) -> list[Problem]:
    """Scan, thumbnail and the function that registers them."""
    return [Problem(f"there is no {path}", mend) for path, mend in SAMPLE.items() if not tree.has(path)]


def _ui(tree: Tree, path: str) -> ElementTree.Element | None:
    try:
        root = ElementTree.fromstring(tree.text(path))
    except ElementTree.ParseError:
        return None
    return root if root.find("widget") is not None else None


def _untranslatable(field: ElementTree.Element) -> Iterator[str]:
    """Strings with letters in a property that are marked as not to be translated, themselves or as a list."""
    for node in field.iter():
        inherited = field.find("stringlist") is not None and field.find("stringlist").get("notr") == "true"
        if (
            node.tag == "string"
            and (node.get("notr") == "true" or inherited)
            and re.search(r"[^\W\d_]", node.text or "")
        ):
            yield (node.text or "").strip()


def _shown(node: ast.AST) -> Iterator[ast.expr]:
    """Literal strings that a statement or call puts before the user."""
    if isinstance(node, ast.Assign) and any(
        isinstance(t, ast.Attribute) and t.attr in SHOWN_IN_CODE for t in node.targets
    ):
        yield from _literals(node.value)
    elif isinstance(node, ast.Call) and _name(node) in SHOWING and node.args:
        yield from _literals(node.args[0])


def _literals(value: ast.expr) -> Iterator[ast.expr]:
    """Strings with letters that a value may be made of, without what is translated."""
    if isinstance(value, ast.Constant | ast.JoinedStr):
        text = re.sub(
            r"<[^>]*>|&\w+;",
            "",
            "".join(
                part.value for part in ast.walk(value) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            ),
        )
        if re.search(r"[^\W\d_]{2}", text):
            yield value
    elif isinstance(value, ast.IfExp):
        yield from (*_literals(value.body), *_literals(value.orelse))
    elif isinstance(value, ast.BoolOp):
        for part in value.values:
            yield from _literals(part)
    elif isinstance(value, ast.BinOp):
        yield from (*_literals(value.left), *_literals(value.right))
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "format":
        yield from _literals(value.func.value)


def _one_literal(call: ast.Call) -> bool:
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)


RULES = (
    Rule("ui-translatable", "what the .ui files show can be translated", ui_translatable),
    Rule("strings-translatable", "what module and panel show goes through _()", strings_translatable),
    Rule("scene-connections", "every qMRML widget is given the scene, and parameters have names", scene_connections),
    Rule("panel-notice", "panel and help say: not a medical device", notice),
    Rule("terminology", "the terminology holds the structures, codes and colours of anatomy.py", terminology),
    Rule("sample-data", "the sample scan, its picture and its registration are there", sample_data),
)
