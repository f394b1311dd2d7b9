"""What is read from the folders of a batch, and what is unusual in it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.cohort import Cohort, judge, read_cohort
from heartseg.cohort.cases import CohortCase
from heartseg.cohort.judging import LEAST_CASES
from heartseg.errors import InputError
from heartseg.findings import Finding, Severity
from heartseg.measure.grid import CUT_OFF
from heartseg.provenance import InputFacts, Provenance
from heartseg.result import Measure
from result_folders import SIZES, make_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of 60 cases."""
    path = tmp_path_factory.mktemp("cohort") / "out"
    make_results(path, 60)
    return path


def case(name: str, value: float | None, modality: str = "CT", note: str = "", **more: Any) -> CohortCase:
    provenance = Provenance(input=InputFacts(modality=modality))
    return replace(
        CohortCase(name, "done", measures=(Measure("LA", "volume", value, "mL", note),), provenance=provenance), **more
    )


def kinds(cohort: Cohort, name: str) -> list[str]:
    (found,) = [judged for judged in cohort.cases if judged.case.name == name]
    return [remark.kind for remark in found.remarks]


def test_every_case_is_read_once_with_its_status(folder: Path) -> None:
    cases = read_cohort(folder)
    assert [c.name for c in cases] == [f"case_{k:04}" for k in range(60)]
    status = {c.name: c.status for c in cases}
    assert [name for name, s in status.items() if s == "failed"] == [f"case_{k:04}" for k in range(3, 60, 10)]
    assert [name for name, s in status.items() if s == "no heart"] == ["case_0011", "case_0042"]
    assert cases[3].message == "the file is cut short: copy or export it again"
    (index,) = [m for m in cases[1].measures if (m.structure, m.quantity) == ("RV", "volume_index")]
    (volume,) = [m for m in cases[1].measures if (m.structure, m.quantity) == ("RV", "volume")]
    assert index.value == pytest.approx(volume.value / np.sqrt(166 * 70 / 3600))


def test_parts_of_a_cohort_are_one(folder: Path, tmp_path: Path) -> None:
    make_results(tmp_path / "out", 20)
    lines = (tmp_path / "out" / "summary.csv").read_text().splitlines(keepends=True)
    (tmp_path / "out" / "summary.csv").unlink()
    for k in (1, 2):
        (tmp_path / "out" / f"summary-part-{k}-of-2.csv").write_text("".join([lines[0], *lines[k::2]]))
    assert [c.name for c in read_cohort(tmp_path / "out")] == [f"case_{k:04}" for k in range(20)]


def test_results_that_are_lost_or_damaged_are_failures(tmp_path: Path) -> None:
    make_results(tmp_path, 3)
    (tmp_path / "case_0000" / "report.json").unlink()
    (tmp_path / "case_0001" / "report.json").write_text("{")
    assert [c.status for c in read_cohort(tmp_path)] == ["failed", "failed", "done"]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "\0\xff"])
def test_a_summary_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError):
        read_cohort(tmp_path)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(InputError):
            read_cohort(path)


def test_outliers_have_a_modified_z_score_above_3_5() -> None:
    values = [80.0 + k for k in range(11)]  # median 85, median absolute deviation 3
    at = 85 + 3.5 * 3 / 0.6745
    cases = [case(f"c{k}", v) for k, v in enumerate(values)]
    within, beyond = (judge([*cases, case("x", at + d), case("y", 85.0)]) for d in (-0.01, 0.01))
    assert kinds(within, "x") == [] and kinds(beyond, "x") == ["outlier"]


def test_other_modalities_cut_off_parts_and_few_values_make_no_outlier() -> None:
    cases = [case(f"c{k}", 80.0 + k) for k in range(LEAST_CASES)]
    assert kinds(judge([*cases, case("x", 150.0)]), "x") == ["outlier"]
    assert kinds(judge([*cases, case("x", 150.0, modality="MR")]), "x") == []
    assert kinds(judge([*cases, case("x", 150.0, note=f"{CUT_OFF}: a part")]), "x") == []
    assert kinds(judge([*cases[:8], case("x", 150.0)]), "x") == []
    assert kinds(judge([*[case(f"c{k}", 80.0) for k in range(20)], case("x", 90.0)]), "x") == [], "no spread"


def test_implausible_values_and_values_out_of_range_are_told() -> None:
    assert kinds(judge([case("x", 301.0)]), "x") == ["implausible"], "the limit of a left atrium is 300 mL"
    scan = InputFacts(modality="CT")
    wide = CohortCase("x", "done", measures=(Measure("AO", "diameter", 41.0, "mm"),), provenance=Provenance(input=scan))
    assert kinds(judge([wide]), "x") == ["norm"], "the upper limit of the range is 40.8 mm"


def test_the_worst_comes_first() -> None:
    error, warning = (Finding("x", severity, "x") for severity in (Severity.ERROR, Severity.WARNING))
    cases = [
        case("1 fine", 80.0),
        case("2 warned", 80.0, findings=(warning,)),
        case("3 outlier", 80.0, findings=(warning, warning)),
        case("4 error", 80.0, findings=(error,)),
        case("5 blind", None, status="no heart"),
        case("6 failed", None, status="failed"),
    ]
    assert [j.case.name[0] for j in judge(cases).cases] == ["6", "5", "4", "3", "2", "1"]


def test_codes_count_cases_and_not_findings() -> None:
    one, two = Finding("a", Severity.INFO, "x", "LV"), Finding("a", Severity.INFO, "x", "RV")
    codes = judge([case("x", 80.0, findings=(one, two)), case("y", 80.0)]).codes()
    assert codes == [(Severity.INFO, "a", 1)]


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_all_measures_findings_and_settings(folder: Path) -> None:
    from heartseg.cohort import Review, write_cohort_table

    cohort = judge(read_cohort(folder))
    files = write_cohort_table(cohort, {"case_0001": Review("accept", "=fine")}, folder)
    with (folder / "cohort.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert len(rows) == 60
    report = json.loads((folder / "case_0001" / "report.json").read_text())
    values = {(m["structure"], m["quantity"]): m["value"] for m in report["measures"]}
    for structure, quantity, unit in SIZES:
        column = f"{structure} {quantity.replace('_', ' ')} ({unit})"
        assert float(rows["case_0001"][column]) == pytest.approx(values[structure, quantity], rel=1e-5)
    assert rows["case_0001"]["verdict"] == "accept" and rows["case_0001"]["comment"] == "'=fine"
    assert (
        rows["case_0005"]["finding implausible-size"] == "error" and rows["case_0001"]["finding implausible-size"] == ""
    )
    assert rows["case_0001"]["setting tile_step"] == "0.5" and rows["case_0001"]["model version"] == "0.1"
    assert rows["case_0003"]["LV volume (mL)"] == "" and rows["case_0003"]["status"] == "failed"
    if "cohort.parquet" in files:
        from pyarrow import parquet

        table = parquet.read_table(folder / "cohort.parquet").to_pylist()
        assert [row["case"] for row in table] == [judged.case.name for judged in cohort.cases]
        (row,) = [row for row in table if row["case"] == "case_0001"]
        assert row["LV volume (mL)"] == pytest.approx(values["LV", "volume"], rel=1e-5)
        assert row["setting locate"] is True and row["setting structures"] is None
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_without_pyarrow_there_is_csv(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heartseg.cohort import table, write_cohort_table

    monkeypatch.setattr(table, "is_installed", lambda name: False)
    assert write_cohort_table(judge(read_cohort(folder)), {}, tmp_path) == ["cohort.csv"]
    assert [p.name for p in tmp_path.iterdir()] == ["cohort.csv"]
