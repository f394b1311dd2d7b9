"""The reference pages agree with the code."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import heartseg
from heartseg.cli.main import build_parser
from heartseg.models import card
from heartseg.output import FORMATS
from heartseg.result import Measure, Removal, Result
from heartseg.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "HeartSeg" / "Logic" / "heartseg"
REFERENCE = ROOT / "docs" / "reference"


def read(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def rows(text: str, after: str = "", before: str | None = None) -> list[list[str]]:
    """Return cells of the table rows between two texts, without headings and rules; escaped bars stay in their cell."""
    part = text[text.index(after) :]
    part = part[: part.index(before)] if before else part
    lines = part.splitlines()
    tables = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]
    heads = {k for k, cells in enumerate(tables) if all(set(c.strip()) <= {"-"} for c in cells)}
    return [[c.strip() for c in cells] for k, cells in enumerate(tables) if k not in heads and k + 1 not in heads]


def code(cell: str) -> str:
    return cell.strip("`")


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_the_command_lines_page_is_the_parsers() -> None:
    if read("command-line.md") != load_tool("write_command_line").text():
        pytest.fail(
            "docs/reference/command-line.md does not fit the command line. Write it anew and commit it:\n"
            "    python tools/write_command_line.py",
            pytrace=False,
        )


def test_the_drawing_of_the_packages_is_current() -> None:
    tool = load_tool("draw_architecture")
    rows = tool.layers()
    known = {name for row in rows for name in row}
    edges = tool.reduced({name: tool.imports_of(name, known) for name in sorted(known)})
    place = {name: number for number, row in enumerate(rows) for name in row}
    assert all(place[a] < place[b] for a, others in edges.items() for b in others)
    assert tool.draw(rows, edges) == tool.OUT.read_text(encoding="utf-8"), "run python tools/draw_architecture.py"


def findings_in_source() -> dict[str, set[str] | None]:
    """Return code -> severities written in the code that creates a finding; ``None`` if one is determined elsewhere."""
    found: dict[str, set[str] | None] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Finding":
                if not node.args:
                    continue  # read from a report; created elsewhere
                name, severity = node.args[0], node.args[1]
                assert isinstance(name, ast.Constant) and isinstance(name.value, str), (
                    f"{path}:{node.lineno}: a finding's code must be a literal"
                )
                written = set(re.findall(r"\b(INFO|WARNING|ERROR)\b", ast.unparse(severity)))
                earlier = found.get(name.value, set())
                found[name.value] = None if earlier is None or not written else earlier | {s.lower() for s in written}
    return found


def test_every_finding_is_listed_with_its_severity() -> None:
    tables = [*rows(read("findings.md")), *rows(read("preflight.md"), before="| fix | what")]
    listed = {code(r[0]): set(r[1].split(", ")) for r in tables}
    made = findings_in_source()
    assert set(made) == set(listed)
    for name, severities in made.items():
        assert listed[name] <= {"info", "warning", "error"}, name
        assert severities is None or severities == listed[name], name


def test_every_setting_is_listed_with_its_default_and_option() -> None:
    listed = {code(r[0]): r for r in rows(read("settings.md"), before="## Environment")}
    fields = {f.name: f.default for f in dataclasses.fields(Settings)}
    assert list(listed) == list(fields)
    commands = next(a.choices for a in build_parser()._actions if isinstance(a.choices, dict))
    segment = commands["segment"]
    options = {o for a in segment._actions for o in a.option_strings}
    for name, cells in listed.items():
        assert ast.literal_eval(code(cells[1])) == fields[name], name
        named = re.findall(r"--[a-z-]+", cells[2])
        assert set(named) <= options, name
        assert named or cells[2] == "Python only", name


def test_every_key_of_the_card_is_listed_with_its_default() -> None:
    listed = {code(r[0]): r for r in rows(read("model-card.md"))}
    assert set(listed) == set(card._FIELDS)
    assert {key for key, cells in listed.items() if cells[1] == "yes"} == set(card.REQUIRED)
    empty = card.ModelCard("a", "1").to_dict()
    for key, cells in listed.items():
        if cells[1] == "yes":
            continue
        default = {"null": None}.get(code(cells[3]), code(cells[3]))
        stated = ast.literal_eval(default) if isinstance(default, str) else default
        assert stated == (list(empty[key]) if isinstance(empty[key], tuple) else empty[key]), key


def small_result() -> Result:
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 1:4, 1:5] = 1
    measure, removal = Measure("LV", "volume", 1.0, "mL"), Removal("LV", 1, 0.1, (0.0, 0.0, 0.0), "separate piece")
    finding = heartseg.Finding("no-heart", heartseg.Severity.ERROR, "No heart.")
    return Result(
        labels,
        heartseg.Geometry((4, 5, 6), (1.0, 1.0, 1.0)),
        findings=(finding,),
        measures=(measure,),
        removals=(removal,),
    )


def test_every_field_of_the_report_is_listed(tmp_path: Path) -> None:
    result = small_result()
    volume = heartseg.Volume(result.labels.astype(np.int16), result.geometry, "made up")
    heartseg.write_result(result, volume, tmp_path / "out", formats=("csv",))
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    listed = {code(r[0]): r[1] for r in rows(read("outputs.md"), "## `report.json`", "`provenance` holds")}
    assert set(listed) == set(report)
    for field in ("geometry", "structures", "findings", "measures", "removals", "output"):
        inner = report[field][0] if isinstance(report[field], list) else report[field]
        assert set(inner) <= set(re.findall(r"`(\w+)`", listed[field])), field


def test_every_field_of_the_provenance_is_listed() -> None:
    from heartseg import provenance

    listed = {code(r[0]): r[1] for r in rows(read("outputs.md"), "`provenance` holds", "**Privacy.**")}
    assert set(listed) == {f.name for f in dataclasses.fields(provenance.Provenance)}
    for field, kind in (
        ("input", provenance.InputFacts),
        ("model", provenance.ModelFacts),
        ("run", provenance.RunFacts),
    ):
        assert {f.name for f in dataclasses.fields(kind)} <= set(re.findall(r"`(\w+)`", listed[field])), field


def test_every_file_and_format_is_listed() -> None:
    files = rows(read("outputs.md"), before="## Measures")
    listed = {code(r[1]): code(r[0]) for r in files}
    assert {k: v for k, v in listed.items() if k != "always"} == {k: t.partition(":")[0] for k, t in FORMATS.items()}


def test_every_measure_is_listed_with_its_unit() -> None:
    from heartseg.measure import measure_labels
    from phantoms import heart_phantom

    labels, geometry, _ = heart_phantom((2.0, 2.0, 2.0))
    measures = measure_labels(heartseg.Volume(labels, geometry), labels, heartseg.STRUCTURES).measures
    listed = {q: r[1] for r in rows(read("outputs.md"), "## Measures", "## `report.json`") for q in r[0].split(", ")}
    names = {re.sub(r"_\d\d$", "_NN", m.quantity) for m in measures}
    assert {q.strip("`") for q in listed} == names
    for m in measures:
        quantity = re.sub(r"_\d\d$", "_NN", m.quantity)
        assert not m.unit or m.unit in listed[f"`{quantity}`"], quantity


def test_every_column_of_the_summary_is_named() -> None:
    from heartseg.cli.summary import COLUMNS

    part = read("outputs.md").partition("## `summary.csv`")[2]
    named = set(re.findall(r"`([^`]+)`", " ".join(part.split())))
    assert {c for c in COLUMNS if not c.endswith("volume (mL)")} <= named
    assert "seven volumes in mL" in " ".join(part.split())


def test_every_check_before_a_run_is_listed_with_its_fix() -> None:
    from heartseg.preflight import FIXES

    made = set()
    for source in (PACKAGE / "preflight").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding":
                made |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    page = read("preflight.md")
    assert {code(r[0]) for r in rows(page, before="| fix | what")} == made
    fixes = {f for r in rows(page, after="| fix | what") for f in re.findall(r"`([a-z-]+)`", r[0])}
    assert fixes == set(FIXES)


def test_the_architecture_names_every_room() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)/?`", " ".join(r[0] for r in rows(page))))
    there = {p.stem for p in PACKAGE.iterdir() if p.name[0] not in "_." and (p.suffix == ".py" or p.is_dir())}
    assert there - {"model_store"} <= named


def test_the_citation_has_the_packages_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE).group(1) == heartseg.__version__


def numbers(text: str) -> set[float]:
    return {float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", text)}


def test_limits_in_the_text_are_those_of_the_code() -> None:
    from heartseg.anatomy import MYOCARDIAL_DENSITY_G_PER_ML
    from heartseg.inference import acceptance, locate, run_findings
    from heartseg.measure import wall
    from heartseg.quality import checks
    from heartseg.volume import checks as volume_checks
    from heartseg.volume import nifti, values
    from heartseg.volume.dicom import reader

    inference = (ROOT / "docs" / "explanation" / "inference.md").read_text(encoding="utf-8")
    steps = re.split(r"^\d\. ", inference.partition("## Accurate")[0], flags=re.MULTILINE)
    _, doubtful, rejected, other_gamma = rows(steps[7].replace("\n   |", "\n|"))
    findings = {code(r[0]): r[2] for r in rows(read("findings.md"))}
    measures = {code(r[0]): r[3] for r in rows(read("outputs.md"), "## Measures", "## `report.json`")}
    for text, limits in (
        (steps[2], {locate.MINIMUM_HEART_ML, 100 * run_findings.SECOND_HEART}),
        (doubtful[0], {acceptance.REJECTED_AGREEMENT, acceptance.LOW_AGREEMENT}),
        (doubtful[1], {acceptance.REJECTED_CONSISTENCY, acceptance.LOW_CONFIDENCE}),
        (rejected[0], {acceptance.REJECTED_AGREEMENT}),
        (rejected[1], {acceptance.CONFIDENT_CONSISTENCY, acceptance.CONFIDENT}),
        (other_gamma[1], {acceptance.REJECTED_CONSISTENCY_OTHER_SCALE}),
        (findings["networks-disagree"], {acceptance.LOW_AGREEMENT}),
        (findings["low-confidence"], {acceptance.LOW_CONFIDENCE}),
        (findings["structure-missing"], {checks.SMALLEST_ML}),
        (findings["not-enclosed"], {100 * checks.OPEN_LV_WARNING, 100 * checks.OPEN_LV_ERROR}),
        (findings["several-components"], {100 * checks.REMOVED_WARNING_SHARE, checks.REMOVED_WARNING_ML}),
        (findings["low-resolution"], {wall.COARSE_VOXEL_MM}),
        (findings["slices-thick"], {volume_checks.THICK_SLICE_MM}),
        (findings["field-of-view-short"], {volume_checks.MIN_EXTENT_MM}),
        (findings["forms-disagree"], {nifti.FORMS_APART_MM}),
        (findings["patient-is-child"], {reader.ADULT_YEARS}),
        (findings["direction-sheared"], {volume_checks.SHEAR_SILENT_DEG, volume_checks.SHEAR_LIMIT_DEG}),
        (findings["field-of-view-implausible"], {volume_checks.MAX_EXTENT_MM / 1000}),
        (findings["nan-replaced"], {100 * values.MAX_NONFINITE_SHARE}),
        (measures["mass"], {MYOCARDIAL_DENSITY_G_PER_ML}),
    ):
        stated = numbers(text)
        assert all(any(n == pytest.approx(limit) for n in stated) for limit in limits), (text, limits)
