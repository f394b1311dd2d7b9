"""Measurements as CSV and table, the JSON report, and findings as text."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.errors import OutputError
from heartseg.findings import Finding, Severity
from heartseg.measure import measure_structures
from heartseg.provenance import InputFacts, ModelFacts, Provenance, RunFacts
from heartseg.report import format_findings, measurements_table, report_dict, write_measurements, write_report
from heartseg.result import Measure, Removal, Result
from heartseg.volume.types import Volume
from phantoms import heart_phantom


@pytest.fixture(scope="module")
def result() -> Result:
    labels, geometry, image = heart_phantom((2.5, 2.5, 2.5))
    labels[labels == 7] = 0
    findings = (
        Finding("low-resolution", Severity.INFO, "Thick slices.", None, {"spacing_mm": np.float32(2.5)}),
        Finding("structure-missing", Severity.ERROR, "The pulmonary artery was not found.", "PA"),
    )
    return Result(
        labels,
        geometry,
        STRUCTURES,
        findings,
        measure_structures(Volume(image, geometry, modality="CT"), labels),
        (Removal("LV", 12, 0.19, (1.0, -2.0, 3.5), "separate piece, under 1 % of the largest"),),
        Provenance(
            input=InputFacts(name="chest", frame=np.int64(3)),
            model=ModelFacts(name="phantom", version="1"),
            run=RunFacts(mode="located", window_mm=(192.0, 192.0, 192.0), agreement=0.8),
            seconds={"predict": float("nan")},
        ),
    )


def test_the_csv_has_one_row_per_measure(result: Result, tmp_path: Path) -> None:
    write_measurements(result, tmp_path / "m.csv")
    with (tmp_path / "m.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["structure", "name", "quantity", "value", "unit", "note", "low", "high", "code", "site"]
    assert list(rows[0]) == columns
    assert {row["code"] for row in rows if row["quantity"] == "volume"} == {"SCT 118565006"}
    assert len(rows) == len(result.measures)
    for row, measure in zip(rows, result.measures, strict=True):
        assert (row["structure"], row["quantity"], row["unit"]) == (measure.structure, measure.quantity, measure.unit)
        if measure.value is None:
            assert row["value"] == ""
        else:
            assert float(row["value"]) == pytest.approx(measure.value, abs=0.051)


def test_notes_with_commas_are_quoted(tmp_path: Path, result: Result) -> None:
    labels, geometry = result.labels, result.geometry
    noted = Result(labels, geometry, measures=(Measure("AO", "diameter", 30.0, "mm", 'inner, "median"'),))
    write_measurements(noted, tmp_path / "m.csv")
    with (tmp_path / "m.csv").open(encoding="utf-8", newline="") as file:
        row = list(csv.reader(file))[1]
    assert row[:6] == ["AO", "ascending aorta", "diameter", "30.00", "mm", 'inner, "median"']
    assert row[6:] == ["", "", "LN 18012-5", "SCT 54247002"]


def test_the_table_has_one_row_per_requested_structure(result: Result) -> None:
    rows = {row.key: row for row in measurements_table(result)}
    assert list(rows) == [s.key for s in STRUCTURES]
    assert rows["MYO"].mass_g == pytest.approx(rows["MYO"].volume_ml * 1.05)
    assert rows["AO"].diameter_mm == pytest.approx(28, rel=0.05)
    assert rows["LV"].diameter_mm is None
    assert rows["LV"].intensity_unit == "HU"
    assert rows["PA"].volume_ml is None


def test_the_json_report_has_a_schema_and_all_fields(result: Result, tmp_path: Path) -> None:
    write_report(result, tmp_path / "r.json", {"input": {"path": "scan.nii.gz"}})
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report["schema"] == {"name": "heartseg-report", "version": 2}
    assert report["heart_found"] is True
    assert report["worst"] == "error"
    assert report["findings"][0]["severity"] == "info"
    assert report["findings"][0]["values"] == {"spacing_mm": 2.5}
    assert report["removals"][0]["center_lps"] == [1.0, -2.0, 3.5]
    made = report["provenance"]
    assert (made["model"]["name"], made["model"]["version"]) == ("phantom", "1")
    assert made["seconds"] == {"predict": None}
    assert made["input"]["frame"] == 3
    assert made["run"]["window_mm"] == [192.0, 192.0, 192.0]
    assert report["input"] == {"path": "scan.nii.gz"}
    assert {"structure": "LV", "quantity": "volume", "unit": "mL"}.items() <= report["measures"][0].items()
    assert len(report["measures"]) == len(result.measures)


def test_a_report_reads_back_as_the_same_result(result: Result) -> None:
    content = json.loads(json.dumps(report_dict(result)))
    read = Result.from_dict(content, result.labels, result.geometry)
    assert read.findings == result.findings
    assert read.measures == result.measures
    assert read.removals == result.removals
    assert read.structures == result.structures
    assert read.provenance.model == result.provenance.model
    assert read.provenance.run == result.provenance.run


def test_a_report_of_schema_1_still_opens(result: Result) -> None:
    content = json.loads(json.dumps(report_dict(result)))
    content["schema"]["version"] = 1
    content["findings"] = [{k: v for k, v in f.items() if k != "fix"} for f in content["findings"]]
    content["provenance"] = {
        "heartseg": "0.1.0",
        "input": {"name": "chest", "path": "chest.nii.gz", "sha256": "ab", "frame": None, "size_xyz": [1, 2, 3]},
        "model": {"name": "phantom", "version": "1", "checkpoints": {"fold_0/checkpoint_final.pth": "ab"}},
        "run": {"mode": "located", "same_story": 0.93, "agreement": None, "windows": 7, "finder_grey_scale": 1},
        "announcements": [],
        "unheard-of": True,
    }
    read = Result.from_dict(content, result.labels, result.geometry).provenance
    assert (read.heartseg, read.input.path, read.input.size_xyz) == ("0.1.0", "chest.nii.gz", (1, 2, 3))
    assert read.model.checkpoints == {"fold_0/checkpoint_final.pth": "ab"}
    assert (read.run.consistency, read.run.windows, read.run.agreement) == (0.93, 7, None)


@pytest.mark.parametrize("schema", [{"version": 3}, None, {"version": "new"}])
def test_a_report_of_another_kind_is_refused(result: Result, schema: dict[str, Any] | None) -> None:
    content = {**report_dict(result), "schema": schema}
    with pytest.raises((ValueError, TypeError, AttributeError)):
        Result.from_dict(content, result.labels, result.geometry)


def test_extra_fields_cannot_replace_fields_of_the_report(result: Result) -> None:
    with pytest.raises(ValueError, match="findings"):
        report_dict(result, {"findings": []})


def test_writing_to_a_missing_folder_raises_an_output_error(result: Result, tmp_path: Path) -> None:
    for write in (write_measurements, write_report):
        with pytest.raises(OutputError, match="nowhere"):
            write(result, tmp_path / "nowhere" / "file")


def test_findings_are_printed_most_severe_first(result: Result) -> None:
    lines = format_findings(result).splitlines()
    assert lines[0] == "error  structure-missing: The pulmonary artery was not found."
    assert lines[1].startswith("info   low-resolution: ")
    assert format_findings(Result(result.labels, result.geometry)) == "no findings"
